"""Docs say what the program does."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from loraudit.membership import ATTACKS

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_generated_parts_agree_with_the_program():
    check = subprocess.run(
        [sys.executable, ROOT / "scripts" / "render_docs.py", "--check"], capture_output=True, text=True, check=False
    )
    assert check.returncode == 0, check.stdout + check.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_readme_lists_every_built_in_attack():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(f"| `{name}` |" in text for name in ATTACKS if not name.startswith("plugin_"))


def test_the_metric_names_in_the_docs_are_those_of_results():
    from loraudit.statistics import rate_metric

    text = (ROOT / "docs" / "outputs.md").read_text(encoding="utf-8")
    for name in ("`auc`", "`partial_auc_fpr_10pct`", "`tpr_at_zero_false_positives`", f"`{rate_metric(0.1)}`"):
        assert name in text
