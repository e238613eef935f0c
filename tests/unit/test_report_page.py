"""The page: self-contained, honest about what is missing, and proof against hostile names."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loraudit.errors import ConfigError, StoreError, visible
from loraudit.report import attack_table, render_html, write_report
from loraudit.spec import (
    AttackResult,
    AuditResult,
    AuditSpec,
    MembershipResult,
    ModelSummary,
    SideSummary,
    spec_hash,
)
from loraudit.statistics import measure
from loraudit.store import RunFolder, read_run
from loraudit.store.finished_runs import Run
from loraudit.types import Record

N_MEMBERS, N_NONMEMBERS = 300, 250

# ---------------------------------------------------------------------------------------------
# A run that nobody ran
# ---------------------------------------------------------------------------------------------


def synthetic_scores(*, shift: float = 1.5, names=("error_zone", "loss", "zlib"), seed: int = 0):
    """Scores of several attacks, the first the strongest, and the labels."""
    rng = np.random.default_rng(seed)
    is_member = np.arange(N_MEMBERS + N_NONMEMBERS) < N_MEMBERS
    scores = {
        name: rng.normal(0, 1, len(is_member)) + shift / (1 + position) * is_member
        for position, name in enumerate(names)
    }
    return scores, is_member


def side(name: str, n: int, **changes: Any) -> SideSummary:
    values = {
        "files": [{"path": f"{name}.jsonl", "sha256": "ab" * 32, "rows": n + 3}],
        "n_read": n + 3,
        "n_bad": 1,
        "n_duplicates": 2,
        "n_overlap": 0,
        "n_left_out": 0,
        "n_records": n,
        "n_groups": n,
        "n_tokens": 40 * n,
        "n_windowed": 4,
        "status": {"ok": n - 1, "no_tokens": 1},
    }
    return SideSummary(**(values | changes))


def model(name: str, **details: Any) -> ModelSummary:
    return ModelSummary(name=name, kind="causal language model", fingerprint="f1" * 32, details=details)


def make_result(
    scores: dict[str, np.ndarray],
    is_member: np.ndarray,
    *,
    headline: str | None = None,
    fpr: tuple[float, ...] = (0.1, 0.01, 0.001),
    unmeasured: tuple[AttackResult, ...] = (),
    **changes: Any,
) -> AuditResult:
    """A result with the findings `measure` makes of the scores."""
    headline = headline or next(iter(scores))
    spec = AuditSpec(model="adapter", members="members.jsonl", nonmembers="rest.jsonl", headline=headline, fpr=fpr)
    findings = measure(scores, is_member, fprs=fpr, n_resamples=100, confidence=0.95, rng=np.random.default_rng(0))
    attacks = [
        AttackResult(
            name=name,
            summary=f"What {name} reads.",
            source="Somebody 2024",
            needs=["target", "reference"],
            cost="2 F",
            status="ok",
            findings=findings[name],
        )
        for name in scores
    ]
    values: dict[str, Any] = {
        "loraudit": "0.1.0",
        "spec": spec,
        "spec_hash": spec_hash(spec),
        "command": "loraudit audit adapter --members members.jsonl",
        "target": model("my-adapter", rank=16, target_modules=["q_proj", "v_proj"], nothing=None),
        "reference": model("my-base"),
        "members": side("members", N_MEMBERS),
        "nonmembers": side("rest", N_NONMEMBERS),
        "numerics": {"precision": "fp32", "asked": "fp32", "devices": ["cpu"]},
        "versions": {"python": "3.11", "numpy": "2.1"},
        "scoring": {"max_length": 64, "stride": 32, "modes": ["shared trunk"]},
        "membership": MembershipResult(headline=headline, attacks=[*attacks, *unmeasured]),
        "warnings": [],
        "started": "2025-01-01T00:00:00+00:00",
        "seconds": 12.3,
    }
    return AuditResult(**(values | changes))


def make_run(folder: Path, result: AuditResult, scores: dict[str, np.ndarray], is_member: np.ndarray) -> Path:
    run = RunFolder(folder, result.spec)
    run.write_spec()
    records = [
        Record(id=f"{i:064x}", source="members.jsonl", line=i + 1, text="secret words") for i in range(len(is_member))
    ]
    columns = {
        "is_member": is_member,
        "group": [None] * len(is_member),
        "n_tokens": np.full(len(is_member), 40),
        "n_windows": np.ones(len(is_member), dtype=int),
        "status": ["ok"] * len(is_member),
        **scores,
    }
    run.write_scores(records, columns)
    run.write_result(result)
    return folder


@pytest.fixture
def render(tmp_path):
    """Result and scores to the page, by way of the files of a run folder."""

    def rendered(result: AuditResult, scores: dict[str, np.ndarray], is_member: np.ndarray) -> str:
        earlier = len(list(tmp_path.iterdir()))
        folder = tmp_path / ("run" if not earlier else f"run-{earlier}")
        path = write_report(make_run(folder, result, scores, is_member))
        return path.read_text(encoding="utf-8")

    return rendered


class Page(HTMLParser):
    """Tags with their attributes, the words between them, and what is left open."""

    VOID = frozenset({"meta", "br", "link", "img", "input", "hr"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))

    @property
    def shape(self) -> list[tuple[str, tuple[str, ...]]]:
        """Tags and names of attributes: what hostile words must not be able to change."""
        return [(tag, tuple(attributes)) for tag, attributes in self.tags]


def figures(html: str) -> list[ET.Element]:
    return [ET.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", html, re.DOTALL)]  # noqa: S314 - our own


# ---------------------------------------------------------------------------------------------
# One ordinary page
# ---------------------------------------------------------------------------------------------


@pytest.fixture
def ordinary(render) -> str:
    scores, is_member = synthetic_scores()
    return render(make_result(scores, is_member), scores, is_member)


def test_the_page_is_well_formed(ordinary):
    page = Page(ordinary)
    assert page.open == []
    assert ordinary.startswith("<!doctype html>")
    assert dict(page.tags)["html"] == {"lang": "en"}


def test_the_page_runs_nothing_and_loads_nothing(ordinary):
    page = Page(ordinary)
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "img", "iframe", "object", "embed", "form", "a"})
    names = {name for _, attributes in page.tags for name in attributes}
    assert names.isdisjoint({"src", "href", "srcset", "style", "action", "data"})
    assert not [name for name in names if name.startswith("on")]
    assert "http:" not in ordinary
    assert "https:" not in ordinary
    assert not re.search(r"url\(|@import|javascript:", ordinary)


def test_the_page_forbids_what_it_does_not_need(ordinary):
    policies = [a["content"] for tag, a in Page(ordinary).tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"]
    before_policy = ordinary[: ordinary.index("Content-Security-Policy")]
    assert "<style" not in before_policy
    assert "<body" not in before_policy


def test_record_text_and_ids_stay_out_of_the_page(ordinary, tmp_path):
    assert "secret words" not in ordinary
    ids = read_run(tmp_path / "run").scores.column("id").to_pylist()
    assert not [i for i in ids if i in ordinary]


def test_the_page_is_rendered_from_the_files_alone_and_again_the_same(ordinary, tmp_path):
    assert render_html(read_run(tmp_path / "run")) == ordinary
    write_report(tmp_path / "run")
    assert (tmp_path / "run" / "report.html").read_text(encoding="utf-8") == ordinary


def test_the_page_can_be_read_by_its_owner_alone(ordinary, tmp_path):
    assert (tmp_path / "run" / "report.html").stat().st_mode & 0o077 == 0


def test_every_number_of_the_headline_stands_with_its_interval(ordinary, tmp_path):
    result = read_run(tmp_path / "run").result
    text = Page(ordinary).text
    area = result.membership.attack("error_zone").findings["auc"]
    assert f"{area.value:.3f}" in text
    assert f"[{area.lower:.3f}, {area.upper:.3f}]" in text
    assert "300 + 250" in text


def test_every_attack_has_a_row_with_the_headline_first(ordinary, tmp_path):
    titles, rows = attack_table(read_run(tmp_path / "run").result)
    assert [row.name for row in rows] == ["error_zone", "loss", "zlib"]
    assert [row.is_headline for row in rows] == [True, False, False]
    assert all(len(row.cells) == len(titles) for row in rows)
    text = Page(ordinary).text
    for name in ("error_zone", "loss", "zlib", *titles):
        assert name in text


def test_models_files_and_settings_are_named(ordinary):
    text = Page(ordinary).text
    for words in (
        "my-adapter",
        "my-base",
        "f1" * 32,
        "members.jsonl",
        "rest.jsonl",
        "ab" * 32,
        "target modules",
        "q_proj, v_proj",
        "2 repeats, 1 unreadable, 0 on both sides, 0 by --max-records",
        "299 ok",
        "1 no_tokens",
        "64 tokens, 32 new in each further one",
        "fp32 (asked: fp32)",
        "python 3.11, numpy 2.1",
        "loraudit audit adapter --members members.jsonl",
    ):
        assert words in text
    assert "<dt>nothing</dt>" not in ordinary


def test_figures_are_valid_xml(ordinary):
    drawn = figures(ordinary)
    assert len(drawn) == 4  # ROC, headline histogram, two small ones
    for figure in drawn:
        assert figure.tag == "svg"
        assert figure.find("title") is not None
        assert figure.find("desc") is not None
        assert figure.get("role") == "img"


def test_groups_are_mentioned_only_where_there_are_any(render):
    scores, is_member = synthetic_scores()
    assert "whole groups at a time" not in render(make_result(scores, is_member), scores, is_member)
    grouped = make_result(scores, is_member, members=side("members", N_MEMBERS, n_groups=30))
    page = render(grouped, scores, is_member)
    assert "whole groups at a time" in page
    assert "in 30 groups" in page


# ---------------------------------------------------------------------------------------------
# What is missing is said
# ---------------------------------------------------------------------------------------------


def test_refused_rates_are_words_not_numbers(render):
    scores, is_member = synthetic_scores()
    text = Page(render(make_result(scores, is_member), scores, is_member)).text
    assert "refused" in text
    assert (
        "Cannot state TPR at 0.1 % FPR from 250 non-members: the smallest rate they resolve is 0.4 %. "
        "Give at least 1000 (10000 for a useful interval) or ask for a larger --fpr."
    ) in text


def test_notes_stand_once_however_many_attacks_share_them(render):
    scores, is_member = synthetic_scores()
    html = render(make_result(scores, is_member), scores, is_member)
    assert Page(html).text.count("Cannot state TPR at 0.1 % FPR") == 1


def test_a_run_without_reference_says_so(render):
    scores, is_member = synthetic_scores(names=("loss", "zlib"))
    missing = AttackResult(
        name="error_zone",
        summary="s",
        source="s",
        needs=["reference", "target"],
        cost="2 F",
        status="not_measured",
        reason="needs reference; give the base model with --base",
    )
    result = make_result(scores, is_member, reference=None, unmeasured=(missing,))
    page = Page(render(result, scores, is_member))
    assert "No reference model was given" in page.text
    assert "not measured: needs reference; give the base model with --base" in page.text
    assert "my-base" not in page.text
    assert page.text.count("fingerprint") == 1


def test_a_failed_attack_keeps_its_row_and_its_reason(render):
    scores, is_member = synthetic_scores()
    failed = AttackResult(
        name="mine",
        summary="s",
        source="s",
        needs=["target"],
        cost="1 F",
        status="error",
        reason="ValueError: returned shape (3,), expected (8,)",
    )
    html = render(
        make_result(scores, is_member, unmeasured=(failed,)), scores | {"mine": np.full(550, np.nan)}, is_member
    )
    assert "error: ValueError: returned shape (3,), expected (8,)" in Page(html).text
    assert len(figures(html)) == 4


def test_a_failed_headline_leaves_no_verdict_and_no_figure(render):
    scores, is_member = synthetic_scores(names=("loss", "zlib"))
    failed = AttackResult(
        name="error_zone", summary="s", source="s", needs=["target"], cost="2 F", status="error", reason="KeyError: 1"
    )
    result = make_result(scores, is_member, headline="error_zone", unmeasured=(failed,))
    html = render(result, scores, is_member)
    text = Page(html).text
    assert "Not measured" in text
    assert "The headline attack error_zone gave no result: KeyError: 1." in text
    assert "What the headline attack sees" not in text
    assert len(figures(html)) == 2


def test_a_headline_without_any_score_is_not_a_finding(render):
    scores, is_member = synthetic_scores()
    scores["error_zone"] = np.full(len(is_member), np.nan)
    html = render(make_result(scores, is_member), scores, is_member)
    text = Page(html).text
    assert "The headline attack error_zone gave no result: its scores are undefined." in text
    assert "No score is defined on members." in text
    assert "undefined" in text
    assert "550" in text
    assert "nan" not in text.lower().split()
    assert figures(html)


def test_an_attack_without_any_score_has_no_small_histogram(render):
    scores, is_member = synthetic_scores()
    scores["zlib"] = np.full(len(is_member), np.nan)
    assert len(figures(render(make_result(scores, is_member), scores, is_member))) == 3


def test_undefined_records_are_counted_in_the_row(render):
    scores, is_member = synthetic_scores()
    scores["error_zone"][[1, 2, 300]] = np.nan
    _, rows = attack_table(make_result(scores, is_member))
    assert (rows[0].n, rows[0].n_undefined) == ("298 + 249", 3)


def test_warnings_are_above_the_numbers(render):
    scores, is_member = synthetic_scores()
    html = render(make_result(scores, is_member, warnings=["3 records have no score: 3 nonfinite."]), scores, is_member)
    assert html.index("3 records have no score: 3 nonfinite.") < html.index("<table")


@pytest.mark.parametrize(
    ("shift", "level", "heading"),
    [
        (2.5, "leaks", "Membership leaks"),
        (0.0, "not_seen", "No membership leakage seen"),
        (-2.5, "inverted", "The scores are inverted"),
    ],
)
def test_the_verdict_leads_in_its_colour(render, shift, level, heading):
    scores, is_member = synthetic_scores(shift=shift)
    page = Page(render(make_result(scores, is_member), scores, is_member))
    assert ("section", {"class": f"verdict {level}", "aria-label": "Verdict"}) in page.tags
    assert heading in page.text
    assert page.text.index(heading) < page.text.index("All attacks")
    if level == "inverted":
        assert "Check that --members and --nonmembers are not exchanged" in page.text


def test_every_level_of_the_verdict_has_a_colour(ordinary):
    style = ordinary[ordinary.index("<style>") : ordinary.index("</style>")]
    for level in ("leaks", "detectable", "not_seen", "inverted", "unknown"):
        assert re.search(rf"\.{level}\b[^{{]*\{{[^}}]*--tone:", style)


def test_all_ties_are_drawn(render):
    scores, is_member = synthetic_scores()
    scores["error_zone"] = np.full(len(is_member), 0.25)
    result = make_result(scores, is_member, fpr=(0.1, 0.01))
    assert len(figures(render(result, scores, is_member))) == 4


def test_infinite_scores_are_drawn(render):
    scores, is_member = synthetic_scores()
    scores["error_zone"][[0, 1, 300, 301]] = np.inf
    scores["loss"][[5, 6, 305]] = -np.inf
    html = render(make_result(scores, is_member), scores, is_member)
    assert len(figures(html)) == 4
    assert not re.search(r"\b(nan|inf)\b", Page(html).text, re.IGNORECASE)


# ---------------------------------------------------------------------------------------------
# Names come from files and models that others made
# ---------------------------------------------------------------------------------------------

MARKUP = (
    "<script>alert(1)</script>",
    "</code></svg><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "' onmouseover='alert(1)",
    "{{7*7}}{% for x in y %}",
    "&lt;b&gt;&#60;",
    "]]></style><style>*{display:none}",
)


def with_words_in_every_field(words: str) -> tuple[AuditResult, dict[str, np.ndarray], np.ndarray]:
    """A run in which every string that a stranger could choose holds `words`."""
    scores, is_member = synthetic_scores()
    scores = {f"{name}{words}": values for name, values in scores.items()}
    broken = AttackResult(
        name=f"broken{words}",
        summary=f"summary{words}",
        source=f"source{words}",
        needs=["target"],
        cost="1 F",
        status="error",
        reason=f"reason{words}",
    )
    plain = make_result(scores, is_member, unmeasured=(broken,))
    attacks = [
        attack.model_copy(update={"summary": f"summary{words}", "source": f"source{words}"})
        for attack in plain.membership.attacks
    ]

    def hostile_model(name: str) -> ModelSummary:
        return ModelSummary(
            name=f"{name}{words}",
            kind=f"kind{words}",
            fingerprint=f"fingerprint{words}",
            details={f"detail{words}": f"value{words}", "listed": [f"item{words}"]},
        )

    def hostile_side(name: str, n: int) -> SideSummary:
        files = [{"path": f"path{words}", "sha256": f"sha{words}", "rows": n}]
        return side(name, n, files=files, status={"ok": n, f"status{words}": 0})

    result = plain.model_copy(
        update={
            "loraudit": f"version{words}",
            "command": f"command{words}",
            "spec_hash": f"hash{words}",
            "started": f"started{words}",
            "target": hostile_model("target"),
            "reference": hostile_model("reference"),
            "members": hostile_side("members", N_MEMBERS),
            "nonmembers": hostile_side("rest", N_NONMEMBERS),
            "numerics": {"precision": f"precision{words}", "asked": f"asked{words}", "devices": [f"device{words}"]},
            "versions": {f"library{words}": f"number{words}"},
            "scoring": {"max_length": f"length{words}", "stride": 1, "modes": [f"mode{words}"]},
            "warnings": [f"warning{words}"],
            "membership": plain.membership.model_copy(update={"attacks": attacks}),
        }
    )
    return result, scores, is_member


@pytest.mark.parametrize("words", MARKUP)
def test_hostile_names_cannot_change_the_shape_of_the_page(render, words):
    plain, hostile = (Page(render(*with_words_in_every_field(w))) for w in ("", words))
    assert hostile.open == []
    assert hostile.shape == plain.shape


@pytest.mark.parametrize("words", MARKUP)
def test_hostile_names_are_shown_as_they_are_written(render, words):
    result, scores, is_member = with_words_in_every_field(words)
    html = render(result, scores, is_member)
    shown = "".join(Page(html).words)
    for field in ("target", "reference", "path", "warning", "command", "status", "broken", "value", "device"):
        assert f"{field}{words}" in shown
    assert "target49" not in shown
    for figure in figures(html):
        assert words in (figure.findtext("title") or "")


CONTROL = "\x1b[31mred\x07\x9b2J\u202egnp"


@pytest.mark.parametrize(
    "where",
    [
        "target.name",
        "target.kind",
        "target.details",
        "reference.name",
        "members.files",
        "command",
        "started",
        "spec_hash",
        "versions",
        "warnings",
        "attack reason",
        "target.fingerprint",
        "members.status",
        "members.sha256",
        "loraudit",
        "attack name",
        "attack summary",
        "attack source",
    ],
)
def test_control_characters_are_shown_as_their_code(render, where):
    scores, is_member = synthetic_scores()
    if where == "attack name":
        scores = {f"{name}{CONTROL}": values for name, values in scores.items()}
    plain = make_result(scores, is_member)
    room, _, field = where.partition(".")
    if where in {"attack name", "attack reason", "attack summary", "attack source"}:
        values = {"name": "mine", "summary": "s", "source": "s", "reason": "r"}
        values |= {where.removeprefix("attack "): f"mine{CONTROL}"} if where != "attack name" else {}
        attack = AttackResult(needs=["target"], cost="1 F", status="error", **values)
        update = {"membership": plain.membership.model_copy(update={"attacks": [*plain.membership.attacks, attack]})}
    elif where == "target.details":
        update = {"target": model("t", **{f"key{CONTROL}": f"value{CONTROL}"})}
    elif where in {"members.files", "members.sha256"}:
        hostile = (
            {"path": f"p{CONTROL}", "sha256": "ab"} if field == "files" else {"path": "p", "sha256": f"p{CONTROL}"}
        )
        update = {"members": side("members", N_MEMBERS, files=[hostile | {"rows": 1}])}
    elif where == "members.status":
        update = {"members": side("members", N_MEMBERS, status={f"p{CONTROL}": 1})}
    elif where == "versions":
        update = {"versions": {f"p{CONTROL}": f"p{CONTROL}"}}
    elif where == "warnings":
        update = {"warnings": [f"p{CONTROL}"]}
    elif field:
        update = {room: getattr(plain, room).model_copy(update={field: f"p{CONTROL}"})}
    else:
        update = {room: f"p{CONTROL}"}
    html = render(plain.model_copy(update=update), scores, is_member)
    assert not [c for c in html if not c.isprintable() and c not in "\n\t"]
    assert "\\x1b[31mred\\x07\\x9b2J\\x202egnp" in html


def test_visible_keeps_what_can_be_printed():
    assert visible("naïve 訓練 €\n\tx") == "naïve 訓練 €\n\tx"
    assert visible("\x00\x1b\x7f\x9b\u202e\ud800") == "\\x00\\x1b\\x7f\\x9b\\x202e\\xd800"
    assert visible(16) == "16"


def test_names_that_are_no_unicode_do_not_stop_the_page(render):
    """A file name of raw bytes comes as surrogates; they cannot be encoded."""
    scores, is_member = synthetic_scores()
    hostile = side("members", N_MEMBERS, files=[{"path": "caf\udce9.jsonl", "sha256": "ab", "rows": 1}])
    result = make_result(scores, is_member).model_copy(update={"members": hostile})
    folder_scores = Run(Path(), result, read_run_scores(scores, is_member))
    assert "caf\\xdce9.jsonl" in render_html(folder_scores)


def read_run_scores(scores, is_member):
    import pyarrow as pa

    return pa.table({"is_member": is_member, **scores})


# ---------------------------------------------------------------------------------------------
# Folders that hold no run
# ---------------------------------------------------------------------------------------------


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"^Folder '.*' holds no run\. Expected an audit\. Check the path\."):
        write_report(tmp_path)


def test_a_damaged_run_is_refused(tmp_path):
    scores, is_member = synthetic_scores()
    folder = make_run(tmp_path / "run", make_result(scores, is_member), scores, is_member)
    (folder / "scores.parquet").write_bytes(b"PAR1 no table PAR1")
    with pytest.raises(StoreError, match="is damaged"):
        write_report(folder)
    assert not (folder / "report.html").exists()
