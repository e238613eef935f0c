"""Docs say what the program does."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from loraudit.membership import ATTACKS

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.slow  # CI asks the same by `make docs`
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


def test_the_command_line_page_shows_the_help_of_every_command():
    from loraudit.cli import app

    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    names = [command.name for command in app.registered_commands]
    names += [
        f"{group.name} {command.name}"
        for group in app.registered_groups
        for command in group.typer_instance.registered_commands
    ]
    assert len(names) > 5
    assert all(f"<!-- generated: help {name} -->" in text for name in names)


def test_every_fault_has_a_test_and_every_fault_test_a_row():
    from faults.rows import ROWS, tests_by_row

    assert [row for row, tests in tests_by_row().items() if not tests] == []
    assert set(ROWS) == {*range(1, 32)}


def test_the_page_on_personal_information_lists_every_rule():
    from loraudit.memorization.personal import RULES

    text = (ROOT / "docs" / "personal-information.md").read_text(encoding="utf-8")
    assert "<!-- generated: personal information -->" in text
    assert all(f"| `{rule.kind}` |" in text for rule in RULES)


def test_the_page_on_poisons_lists_every_poison_with_its_source():
    from loraudit.poisoning import POISONS

    text = (ROOT / "docs" / "poisons.md").read_text(encoding="utf-8")
    assert "<!-- generated: poisons -->" in text
    rows = {line.split("`")[1]: line for line in text.splitlines() if line.startswith("| `")}
    for poison in POISONS.values():
        assert poison.summary in rows[poison.name]
        assert poison.source in rows[poison.name]


def test_the_formats_and_documents_of_the_command_line_are_those_there_are():
    from loraudit.cli.report import Format
    from loraudit.cli.schema import Document
    from loraudit.report import FORMATS
    from loraudit.spec import SCHEMAS

    assert {one.value for one in Format} == set(FORMATS)
    assert {one.value for one in Document} == set(SCHEMAS)


def test_the_page_on_theory_names_every_function():
    from loraudit import theory

    text = (ROOT / "docs" / "theory.md").read_text(encoding="utf-8")
    functions = [name for name in theory.__all__ if inspect.isfunction(getattr(theory, name))]
    assert [name for name in functions if f"`{name}`" not in text] == []


def test_every_gate_is_described():
    text = (ROOT / "docs" / "validity.md").read_text(encoding="utf-8")
    for name in ("bag_of_words", "length", "zlib_ratio", "length_law", "reference_as_target", "shuffled_labels"):
        assert f"`{name}`" in text
    for name in ("near_duplicates", "ngram_overlap", "documents", "reference_…", "control_…"):
        assert f"`{name}`" in text
