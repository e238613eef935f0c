"""The report in a real browser: checked by axe-core in both themes, on a wide and on a narrow window."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from importlib.resources import files

import pytest

import loraudit

BROWSER = next(
    (path for name in ("chromium", "google-chrome", "chromium-browser") if (path := shutil.which(name))), None
)
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--virtual-time-budget=20000",
)  # fmt: skip
EXTRACTION = {
    "memorization": True, "prefix_tokens": (8, 16), "suffix_tokens": 8, "generations": 12, "near_records": 4,
}  # fmt: skip
WINDOWS = [
    pytest.param(1280, "light", marks=pytest.mark.slow),
    (400, "dark"),
    pytest.param(1280, "dark", marks=pytest.mark.slow),
    pytest.param(400, "light", marks=pytest.mark.slow),
]


def quickly(name, names):
    """The names, all but one of them slow."""
    return [name, *(pytest.param(other, marks=pytest.mark.slow) for other in names if other != name)]


RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]


@pytest.fixture(scope="module")
def pages(base, full, texts, tmp_path_factory):
    """A report of a fair audit with record text and what can be extracted, and one of sides that differ in kind."""
    folder = tmp_path_factory.mktemp("pages")
    sides = {"members": texts[:60], "nonmembers": texts[60:], "shifted": [f"1999-04-05 {t}" for t in texts[60:]]}
    for name, rows in sides.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    made = {}
    for name, nonmembers, text in (("fair", "nonmembers", True), ("shifted", "shifted", False)):
        run = loraudit.audit(
            str(full),
            base=str(base),
            members=str(folder / "members.jsonl"),
            nonmembers=str(folder / f"{nonmembers}.jsonl"),
            resamples=100,
            include_text=text,
            fail_on=["membership.auc.upper95 > 0.6", "membership.tpr_at_fpr_1pct.upper95 > 0.05"],
            out=str(folder / name),
            **(EXTRACTION if name == "fair" else {}),
        )
        made[name] = (run.path / "report.html").read_text(encoding="utf-8")
    assert "Not valid as it stands" in made["shifted"]
    assert "Token by token" in made["fair"]
    assert "What can be pulled out" in made["fair"]
    return made


def violations(page, width, folder):
    """What axe-core objects to in a page, in a window of that width."""
    axe = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
    run = f"axe.run({{runOnly: {json.dumps(RULES)}}}).then(r => {{ document.body.textContent = JSON.stringify("
    run += "r.violations.map(v => [v.id, v.nodes.map(n => n.html + ' | ' + n.failureSummary).slice(0, 3)])); })"
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page).replace("<details", "<details open")
    path = folder / "page.html"
    path.write_text(page.replace("</body>", f"<script>{axe}\n{run}</script></body>"), "utf-8")
    words = [BROWSER, *QUIET, f"--user-data-dir={folder / 'profile'}", f"--window-size={width},900", "--dump-dom"]
    shown = subprocess.run([*words, path.as_uri()], capture_output=True, text=True, timeout=120, check=True).stdout
    found = re.search(r"<body[^>]*>(.*)</body>", shown, re.DOTALL)
    assert found, shown[-500:]
    return found[1].strip()


needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium on PATH")


@needs_browser
@pytest.mark.parametrize(("width", "theme"), WINDOWS)
@pytest.mark.parametrize("name", quickly("fair", ["fair", "shifted"]))
def test_axe_finds_nothing_to_mend(name, width, theme, pages, tmp_path):
    """Names, roles, headings, contrast, and that everything that scrolls can be reached by keyboard."""
    page = pages[name]
    if theme == "dark":
        page = page.replace("@media (prefers-color-scheme: dark)", "@media all")
    assert violations(page, width, tmp_path) == "[]"


@needs_browser
@pytest.mark.slow
def test_axe_would_find_what_it_is_there_to_find(pages, tmp_path):
    page = (
        pages["fair"].replace('lang="en"', "").replace("--soft: #5b5f6a", "--soft: #d5d5d5").replace('tabindex="0"', "")
    )
    found = violations(page, 400, tmp_path)
    for rule in ("html-has-lang", "color-contrast", "scrollable-region-focusable"):
        assert rule in found
