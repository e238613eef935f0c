"""Hostile words in records, names, ids and configs: shown as they are written, in every format, and never obeyed."""

from __future__ import annotations

import functools
import html
import http.server
import json
import re
import shutil
import subprocess
import threading
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from markdown_it import MarkdownIt

from conftest import called
from loraudit.errors import visible
from loraudit.membership import ATTACKS, Attack

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")


class Stub(http.server.ThreadingHTTPServer):
    """A web server that remembers what it was asked for."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Answer)
        self.seen = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.seen.append(self.path)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *words):
        pass


@pytest.fixture(scope="module")
def stub():
    server = Stub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def payloads(url):
    """Words that do something where they are taken for more than words."""
    return [
        "<script>document.title='pwned';console.log('pwned')</script>",
        "<script>alert(1)</script>",
        "\"><img src=x onerror=\"document.title='pwned';console.log('pwned')\">",
        "' onmouseover='alert(1)' autofocus onfocus='alert(1)",
        f"<img src={url}/img>",
        f"</title><style>*{{background:url({url}/css)}}</style>",
        f"</code></svg><iframe src={url}/frame></iframe>",
        f"<meta http-equiv=refresh content='0;url={url}/meta'>",
        f"![alt]({url}/md) [go](javascript:alert(1)) <{url}/auto>",
        "\x1b[2J\x1b]8;;http://evil.example\x1b\\link\x1b]8;;\x1b\\\x07\x9b31m",
        "\u202egnp.exe\u2066\u200b",
        "=cmd|' /C calc'!A0",
        "@SUM(1+1)*cmd|'x'!A1",
        "+1+cmd|'x'!A1",
        "`code` | pipe | **bold** ~~~ <b>mix</b> `",
        "]]></script>--><!-- &lt;b&gt; &#60;b&#62;",
        "{{7*7}}{% for x in y %}${7*7}",
    ]


def as_name(words):
    """Words as the name of a file or folder."""
    return words.replace("/", "")


def hostile_attacks(words):
    """Attacks whose every word is hostile: a headline that works, one that does not, one that cannot be loaded."""

    def mean(views):
        return views.target.log_prob.mean(axis=1)

    def fail(views):
        raise ValueError("".join(words))

    about = {"source": f"source {''.join(words)}", "summary": f"summary {''.join(words)}"}
    names = [f"headline{words[0]}{words[9]}{words[11]}{words[14]}", f"broken{words[2]}{words[10]}{words[6]}"]
    return [
        Attack(name, score, ("target",), cost="1 F", **about) for name, score in zip(names, (mean, fail), strict=True)
    ]


@pytest.fixture(scope="module")
def hostile(stub, adapter, base, texts, tmp_path_factory):
    """An audit with record text in which everything a stranger could choose is hostile."""
    folder = tmp_path_factory.mktemp("hostile")
    words = payloads(stub.url)
    attacks = hostile_attacks(words)
    base_name = as_name(f"base {words[2]}{words[10]}{words[14]}")
    adapter_name = as_name(f"adapter {words[0]}{words[9]}{words[11]}")
    config_value = f"(.*(q_proj|v_proj))|{re.escape(words[1])}|{re.escape(words[14])}"
    files = [as_name(words[11]) + words[2].replace("/", "") + "m.jsonl", as_name(words[9] + words[12]) + "n.jsonl"]
    shutil.copytree(base, folder / base_name)
    shutil.copytree(adapter, folder / adapter_name)
    config = folder / adapter_name / "adapter_config.json"
    content = json.loads(config.read_text())
    config.write_text(json.dumps(content | {"target_modules": config_value, "base_model_name_or_path": words[0]}))
    halves = "".join(words[::2]), "".join(words[1::2])
    for name, first, n in ((files[0], 0, 20), (files[1], 20, 24)):
        rows = [
            {
                "text": f"{words[i % len(words)]} {texts[first + i][:60]}",
                "own": f"{name}{i}{words[i % len(words)]}",
                "doc": f"{name}{i // 2}{words[i % len(words)]}",
                "kind": halves[i % 2],
            }
            for i in range(n)
        ]
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    sides = ("--members", files[0], "--nonmembers", files[1])
    fields = ("--id-field", "own", "--group-field", "doc", "--subgroup-field", "kind")
    broken = {f"origin{''.join(words)}": f"reason{''.join(words)}"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("LORAUDIT_HOME", str(folder / "home"))
        patch.setattr(ATTACKS, "_entries", {**ATTACKS._entries, **{attack.name: attack for attack in attacks}})
        patch.setattr(ATTACKS, "broken", {**ATTACKS.broken, **broken})
        audit = called(
            "audit", adapter_name, "--base", base_name, "--allow-other-base", *sides, *fields, "--include-text",
            "--headline", attacks[0].name, "--fail-on", "membership.auc.value > 2", "--resamples", 100, "-o", "run",
        )  # fmt: skip
        assert audit[0] == 7, audit[2]
        yield SimpleNamespace(
            run=folder / "run",
            folder=folder,
            words=words,
            audit=audit,
            attacks=attacks,
            files=files,
            models=(adapter_name, base_name),
            sides=sides,
        )


class Page(HTMLParser):
    """Tags with their attributes, and the words between them outside of style."""

    VOID = frozenset({"meta", "br", "hr"})

    def __init__(self, page):
        super().__init__()
        self.tags, self.parts, self.open, self.comments = [], [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_comment(self, data):
        self.comments.append(data)

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.parts.append(data)

    @property
    def text(self):
        return "".join(self.parts)


def acting(text):
    """Characters that a terminal or an editor obeys instead of showing them."""
    return sorted({c for c in text if not c.isprintable() and c not in "\n\t"})


@functools.cache
def rendered(run, format_):
    code, out, err = called("report", run, "--format", format_)
    assert (code, err) == (0, "")
    return out


# --- the page -----------------------------------------------------------------------------------------


# --- row 24: hostile text ------------------------------------------------------------------------------


def test_a_page_full_of_hostile_words_is_whole_and_runs_and_loads_nothing(hostile):
    page = Page((hostile.run / "report.html").read_text(encoding="utf-8"))
    assert page.open == []
    assert page.comments == []
    tags = [tag for tag, _ in page.tags]
    assert not {"script", "img", "iframe", "link", "object", "embed", "form", "a", "base", "input", "b2"} & set(tags)
    assert [tags.count(tag) for tag in ("html", "head", "body", "main", "style")] == [1] * 5
    assert tags[tags.index("head") + 1 : tags.index("style")] == ["meta"] * 4 + ["title"]
    names = {name for _, attributes in page.tags for name in attributes}
    assert not [name for name in names if name.startswith("on")]
    assert not names & {"src", "href", "xlink:href", "srcset", "style", "action", "data", "background", "autofocus"}
    assert [a["http-equiv"] for tag, a in page.tags if "http-equiv" in a] == ["Content-Security-Policy"]
    (policy,) = [a["content"] for tag, a in page.tags if "http-equiv" in a]
    assert policy.startswith("default-src 'none'; ")
    assert "script-src" not in policy
    values = [v for _, attributes in page.tags for name, v in attributes.items() if name not in {"title", "aria-label"}]
    assert not [value for value in values if re.search(r"https?:|javascript:|url\(", value or "")]


def test_the_style_of_the_page_is_its_own(hostile):
    page = (hostile.run / "report.html").read_text(encoding="utf-8")
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    assert not re.search(r"url\(|@import|https?:", style)


def test_every_hostile_word_is_shown_as_it_is_written(hostile):
    page = Page((hostile.run / "report.html").read_text(encoding="utf-8"))
    for words in hostile.words:
        assert visible(words) in page.text, "among the records, their subgroups or the reasons"
    for attack in hostile.attacks:
        assert visible(attack.name) in page.text
    for name in (*hostile.models, *hostile.files):
        assert visible(name) in page.text
    assert "49" not in re.findall(r"headline.{0,3}49|7\*7\}\}=|origin49", page.text)
    titles = "".join(str(a["title"]) for _, a in page.tags if "title" in a)
    assert f"summary {visible(''.join(hostile.words))}" in titles
    assert acting((hostile.run / "report.html").read_text(encoding="utf-8")) == []
    assert "\\x1b[2J\\x1b]8;;http://evil.example" in page.text
    assert "\\x202egnp.exe" in page.text


def test_every_record_of_the_page_is_hostile_or_the_test_proves_nothing(hostile):
    result = json.loads((hostile.run / "result.json").read_text(encoding="utf-8"))
    assert len(result["membership"]["records"]["exposed"]) == 20
    assert {s["name"] for s in result["membership"]["records"]["subgroups"] if s["by"] == "column"} == {
        "".join(hostile.words[::2]),
        "".join(hostile.words[1::2]),
    }
    assert result["target"]["details"]["target_modules"].startswith("(.*(q_proj|v_proj))|<script>")


def test_figures_of_hostile_names_are_whole(hostile):
    page = (hostile.run / "report.html").read_text(encoding="utf-8")
    drawn = [ET.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]  # noqa: S314 - our own
    assert len(drawn) > 2
    known = {"svg", "title", "desc", "path", "polyline", "rect", "text"}
    assert {element.tag for figure in drawn for element in figure.iter()} <= known


# --- the browser --------------------------------------------------------------------------------------


def opened(path, profile):
    """DOM and messages of a page after three seconds of its own time."""
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    flags += " --disable-component-update --disable-sync --virtual-time-budget=3000 --dump-dom --enable-logging=stderr"
    done = subprocess.run(
        [CHROMIUM, *flags.split(), f"--user-data-dir={profile}", path.as_uri()],
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")


def title_of(dom):
    return html.unescape(re.search(r"<title>(.*?)</title>", dom, re.DOTALL)[1])


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium or google-chrome on PATH")
def test_a_browser_that_opens_the_report_runs_nothing_and_asks_nobody(hostile, stub, tmp_path):
    trap = tmp_path / "trap.html"
    acts = "".join(hostile.words[i] for i in (0, 2, 4))  # a dialog would stand there for ever
    trap.write_text(f"<!doctype html><title>Before</title><body>{acts}", encoding="utf-8")
    dom, said = opened(trap, tmp_path / "first")
    assert title_of(dom) == "pwned", "the words act where nothing keeps them from it"
    assert "pwned" in said
    assert "/img" in stub.seen
    stub.seen.clear()
    report = Path(shutil.copyfile(hostile.run / "report.html", tmp_path / "report.html"))
    dom, said = opened(report, tmp_path / "second")
    assert "Membership audit of" in dom
    assert stub.seen == []
    assert title_of(dom) == f"Membership audit of {visible(hostile.models[0])}"
    assert "pwned" not in said
    assert "CONSOLE" not in said, "nothing ran, and nothing was refused because it tried"
    assert "<script" not in dom.lower()
    assert "<img" not in dom.lower()


# --- other formats ------------------------------------------------------------------------------------


def test_junit_of_hostile_words_is_well_formed_and_holds_them_as_words(hostile):
    text = rendered(hostile.run, "junit")
    suite = ET.fromstring(text)  # noqa: S314 - our own
    assert {element.tag for element in suite.iter()} <= {
        "testsuite",
        "testcase",
        "failure",
        "error",
        "skipped",
        "system-out",
    }
    assert visible(hostile.models[0]) in suite.get("name", "")
    assert acting(text) == []


def cells(line):
    """Cells of a row of a Markdown table, by the rule that even code cannot hold a bar."""
    return len(re.split(r"(?<!\\)\|", line)) - 2


@pytest.mark.parametrize("format_", ["markdown", "model-card"])
def test_markdown_of_hostile_words_keeps_its_shape_and_holds_no_markup_of_others(format_, hostile):
    text = rendered(hostile.run, format_)
    tokens = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text)
    every = [token for outer in tokens for token in (outer, *(outer.children or ()))]
    kinds = {token.type for token in every}
    assert not kinds & {"html_block", "html_inline", "link_open", "image", "fence", "code_block", "hr"}
    assert "s_open" not in kinds
    titles = [tokens[i + 1].content for i, token in enumerate(tokens) if token.type == "heading_open"]
    known = ["Membership audit of", "Attacks", "Validity", "Single records", "What was audited", "What this does not"]
    assert [title.startswith(tuple(known)) or title == "Privacy: membership audit" for title in titles] == [True] * len(
        titles
    )
    widths = {}
    for number, line in enumerate(text.splitlines()):
        if line.startswith("|"):
            widths.setdefault(number, cells(line))
    starts = [number for number in widths if number - 1 not in widths]
    assert len(starts) == text.count("\n|---")
    for start in starts:
        rows = [n for n in widths if n >= start and all(k in widths for k in range(start, n + 1))]
        assert {widths[row] for row in rows} == {widths[start]}
    assert acting(text) == []
    shown = "".join(token.content for token in every if token.type in {"text", "code_inline"})
    assert "headline<script>" in shown


def test_the_result_file_is_json_that_no_terminal_obeys(hostile):
    text = rendered(hostile.run, "json")
    assert text == (hostile.run / "result.json").read_text(encoding="utf-8")
    assert json.loads(text)["membership"]["headline"] == hostile.attacks[0].name
    assert [c for c in acting(text) if ord(c) < 0x20] == []


# --- the terminal -------------------------------------------------------------------------------------


def commands(hostile):
    run, (adapter, base), sides = hostile.run, hostile.models, hostile.sides
    (hostile.folder / as_name(hostile.words[2] + hostile.words[9] + ".toml")).write_text("attaks = 1\n")
    hostile_spec = as_name(hostile.words[2] + hostile.words[9] + ".toml")
    everything = "".join(hostile.words)
    return {
        "report": (0, "report", run),
        "report, more": (0, "report", run, "-v"),
        "attacks": (0, "attacks"),
        "doctor": (0, "doctor", adapter, "--base", base, "--members", hostile.files[0]),
        "dry run": (0, "audit", adapter, "--base", base, "--allow-other-base", *sides, "--dry-run"),
        "validate, refused": (2, "validate", hostile_spec),
        "unknown attack": (2, "audit", adapter, *sides, "--attacks", everything),
        "unknown model": (4, "audit", as_name(hostile.words[9] + hostile.words[2] + hostile.words[10]), *sides),
        "missing file": (2, "audit", adapter, "--members", everything, "--nonmembers", hostile.files[1]),
        "limit": (2, "audit", adapter, *sides, "--fail-on", everything),
        "policy": (2, "audit", adapter, *sides, "--policy", everything),
        "one file on both sides": (
            3,
            *("audit", adapter, "--base", base, "--members", hostile.files[0], "--nonmembers", hostile.files[0]),
        ),
        "no column": (3, "audit", adapter, "--base", base, *sides, "--group-field", everything),
        "no run": (2, "report", as_name(everything)),
        "no run to verify": (2, "verify", as_name(everything)),
        "no runs to compare": (2, "compare", as_name(everything), as_name(everything)),
    }


NAMES = (
    "report",
    "report, more",
    "attacks",
    "doctor",
    "dry run",
    "validate, refused",
    "unknown attack",
    "unknown model",
    "missing file",
    "limit",
    "policy",
    "one file on both sides",
    "no column",
    "no run",
    "no run to verify",
    "no runs to compare",
)


@pytest.mark.parametrize("name", NAMES)
def test_no_command_lets_hostile_words_act_on_the_terminal(name, hostile):
    code, *words = commands(hostile)[name]
    found, out, err = called(*words)
    assert found == code, err
    assert acting(out + err) == []
    assert "Traceback" not in err


def test_a_model_name_longer_than_any_file_name_is_refused_in_words(hostile):
    code, _, err = called("audit", "m" * 300, *hostile.sides)
    assert code == 4
    assert "Traceback" not in err


def test_the_traceback_of_a_bug_lets_no_hostile_words_act_on_the_terminal(hostile, monkeypatch):
    class Bug:
        name = "bug"

        @property
        def needs(self):
            raise RuntimeError(hostile.words[9])

    monkeypatch.setitem(ATTACKS._entries, "bug", Bug())
    adapter, base = hostile.models
    words = (
        "--base",
        base,
        "--allow-other-base",
        *hostile.sides,
        "--attacks",
        "bug",
        "--headline",
        "loss",
        "-o",
        "bug",
    )
    code, out, err = called("audit", adapter, *words)
    assert code == 6
    assert "evil.example" in err
    assert acting(out + err) == []


def test_the_audit_itself_lets_no_hostile_words_act_on_the_terminal(hostile):
    _, out, err = hostile.audit
    assert acting(out + err) == []
    assert "headline<script>" in out


def test_verify_lets_no_hostile_file_name_act_on_the_terminal(hostile):
    code, out, err = called("verify", hostile.run)
    assert code == 0, out
    assert acting(out + err) == []


def test_compare_lets_no_hostile_attack_name_act_on_the_terminal(hostile):
    code, out, err = called("compare", hostile.run, hostile.run)
    assert code == 0, err
    assert acting(out + err) == []


def test_report_lets_no_hostile_folder_name_act_on_the_terminal(hostile, tmp_path):
    folder = shutil.copytree(hostile.run, tmp_path / f"run\x1b[2J{as_name(hostile.words[9])}")
    code, out, err = called("report", folder)
    assert code == 0, err
    assert acting(out + err) == []


def test_validate_lets_no_hostile_file_name_act_on_the_terminal(hostile, tmp_path):
    path = tmp_path / f"spec{as_name(hostile.words[9])}.json"
    sides = {"members": hostile.files[0], "nonmembers": hostile.files[1]}
    path.write_text(json.dumps({"model": "anywhere"} | sides), encoding="utf-8")
    code, out, err = called("validate", path)
    assert code == 0, err
    assert acting(out + err) == []


@pytest.mark.parametrize(
    "words", [("verify",), ("doctor", "--members"), ("report", "--format", "json")], ids=lambda w: w[0]
)
def test_what_is_printed_as_json_moves_no_cursor(words, hostile):
    place = hostile.files[0] if words[0] == "doctor" else hostile.run
    flags = () if words[0] == "report" else ("--json",)
    _, out, _ = called(words[0], *words[1:], place, *flags)
    json.loads(out)
    assert [c for c in acting(out) if ord(c) < 0x20 or ord(c) == 0x7F] == []


# --- spreadsheets -------------------------------------------------------------------------------------


def test_nothing_that_a_spreadsheet_would_open_by_itself_is_written(hostile):
    kinds = {path.suffix for path in hostile.run.iterdir()}
    assert not kinds & {".csv", ".tsv", ".xlsx", ".xls", ".ods"}


def test_a_formula_stands_in_tables_behind_other_words_or_as_code(hostile):
    """Pasted from Markdown into a sheet, a cell begins with a mark of ours and not with the formula's."""
    formulas = [words for words in hostile.words if words[0] in "=@+"]
    assert len(formulas) == 3
    lines = [line for line in rendered(hostile.run, "markdown").splitlines() if line.startswith("|")]
    found = [cell.strip() for line in lines for cell in line.split("|")]
    assert not [cell for cell in found if cell.startswith(("=", "@", "+"))]


def test_the_scores_are_read_back_as_they_are_whatever_the_names(hostile):
    import pyarrow.parquet as pq

    scores = pq.read_table(hostile.run / "scores.parquet")
    assert {attack.name for attack in hostile.attacks} <= set(scores.column_names)
    assert np.isfinite(scores.column(hostile.attacks[0].name).to_numpy()).all()
