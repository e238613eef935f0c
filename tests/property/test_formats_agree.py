"""One verdict, many readers: the terminal, result.json, the page, Markdown, the model card, JUnit and the exit code."""

from __future__ import annotations

import contextlib
import html
import io
import json
import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from loraudit.auditing import exit_code
from loraudit.cli.result import show_result
from loraudit.errors import EXIT_LIMIT_EXCEEDED, EXIT_OK, EXIT_PARTIAL
from loraudit.policy import judge, verdict_of
from loraudit.report import FORMATS, LIMIT_WORDS, STATUS_WORDS, fusion_statement
from loraudit.spec import (
    AttackResult,
    AuditResult,
    AuditSpec,
    FusionPart,
    FusionResult,
    Gate,
    MembershipResult,
    ModelSummary,
    RecordsResult,
    SideSummary,
    ValidityResult,
    spec_hash,
)
from loraudit.store.finished_runs import Run
from loraudit.types import Finding

FPRS = (0.1, 0.01, 0.001)
RATES = ("tpr_at_fpr_10pct", "tpr_at_fpr_1pct", "tpr_at_fpr_0_1pct")
GATES = ("bag_of_words", "length", "length_law", "documents")
NOT_VALID = "not valid as it stands"

# ---------------------------------------------------------------------------------------------
# Results that nobody measured
# ---------------------------------------------------------------------------------------------


@st.composite
def findings(draw, *, lowest: float = 0.0) -> Finding:
    """A number with an interval, with none, or refused."""
    kind = draw(st.sampled_from(["whole", "whole", "whole", "no interval", "refused"]))
    about = {"confidence": 0.95, "n_members": 300, "n_nonmembers": 250}
    if kind == "refused":
        note = "Cannot state TPR at 0.1 % FPR from 250 non-members"
        return Finding(None, None, None, method="refused", note=note, **about)
    low, value, high = sorted(draw(st.lists(st.integers(0, 1000), min_size=3, max_size=3)))
    scaled = [round(lowest + (1 - lowest) * step / 1000, 6) for step in (low, value, high)]
    ends = (None, None) if kind == "no interval" else (scaled[0], scaled[2])
    return Finding(scaled[1], *ends, method="m", **about)


@st.composite
def attacks(draw, name: str) -> AttackResult:
    status = draw(st.sampled_from(["ok", "ok", "ok", "error", "not_measured"]))
    known = ("auc", *draw(st.sets(st.sampled_from(RATES))))
    return AttackResult(
        name=name,
        summary="What it reads.",
        source="Somebody 2024",
        needs=["target", "reference"],
        cost="2 F",
        status=status,
        reason=None if status == "ok" else f"reason of {name}",
        findings={metric: draw(findings()) for metric in known} if status == "ok" else {},
    )


@st.composite
def validities(draw, headline: AttackResult) -> ValidityResult | None:
    if draw(st.integers(0, 3)) == 0:
        return None
    statuses = st.sampled_from(["passed", "passed", "warned", "failed", "not_measured"])
    chosen = draw(st.lists(statuses, min_size=1, max_size=len(GATES)))
    gates = [
        Gate(name=name, kind="blind", status=status, summary=f"what {name} checks", reason=f"what came out of {name}")
        for name, status in zip(GATES, chosen, strict=False)
    ]
    minus = {}
    if "failed" in chosen and headline.status == "ok" and headline.findings["auc"].value is not None:
        minus = {metric: draw(findings(lowest=-1.0)) for metric in ("auc", *draw(st.sets(st.sampled_from(RATES))))}
    return ValidityResult(gates=gates, strongest_blind="length", headline_minus_blind=minus)


@st.composite
def fusions(draw) -> FusionResult | None:
    kind = draw(st.sampled_from(["none", "refused", "whole", "whole"]))
    about = {"attacks": ["error_zone", "loss"], "n_folds": 5, "error_factor": 1.5}
    if kind == "none":
        return None
    if kind == "refused":
        return FusionResult(reason="40 records of members have a score", **about)
    parts = [FusionPart(name=name, auc=draw(findings()), adds=draw(findings(lowest=-1.0))) for name in about["attacks"]]
    return FusionResult(
        findings={metric: draw(findings()) for metric in ("auc", *draw(st.sets(st.sampled_from(RATES))))},
        beyond_headline={"auc": draw(findings(lowest=-1.0))} if draw(st.booleans()) else {},
        blind=["length"],
        blind_auc=draw(st.none() | findings()),
        beyond_blind=draw(st.none() | findings(lowest=-1.0)),
        without=parts,
        order=parts,
        **about,
    )


def side(status: dict[str, int]) -> SideSummary:
    zero = dict.fromkeys(("n_bad", "n_duplicates", "n_overlap", "n_left_out", "n_windowed"), 0)
    files = [{"path": "members.jsonl", "sha256": "ab" * 32, "rows": 300}]
    return SideSummary(files=files, n_read=300, n_records=300, n_groups=300, n_tokens=9000, status=status, **zero)


PATHS = (
    "membership.auc.value",
    "membership.auc.upper95",
    "membership.auc.lower95",
    "membership.auc.upper90",
    "membership.tpr_at_fpr_1pct.upper95",
    "membership.tpr_at_fpr_0_1pct.value",
    "membership.loss.auc.value",
    "membership.nowhere.auc.value",
    "membership.records.n_exposed",
    "membership.dataset_test.p_welch",
    "validity.n_failed",
    "validity.length.failed",
    "validity.lenght.failed",
    "validity.headline_minus_blind.auc.upper95",
)
LIMITS = st.lists(
    st.builds(
        "{} {} {:g}".format, st.sampled_from(PATHS), st.sampled_from([">", ">=", "<", "<="]), st.sampled_from([0, 0.5])
    ),
    unique=True,
    max_size=4,
)


@st.composite
def results(draw) -> AuditResult:
    """Any verdict, kept in the result; a result of an older version keeps none."""
    names = ["error_zone", "loss", "zlib"]
    found = [draw(attacks(name)) for name in names]
    unscored = draw(st.sampled_from([0, 3, 7]))
    spec = AuditSpec(model="m", members="a.jsonl", nonmembers="b.jsonl", headline=names[0], fpr=FPRS)
    n_exposed = draw(st.none() | st.integers(0, 300))
    records = RecordsResult(fdr=0.05, n_exposed=n_exposed or 0, smallest_p_value=0.004, exposed=[], subgroups=[])
    result = AuditResult(
        loraudit="0.1.0",
        spec=spec,
        spec_hash=spec_hash(spec),
        command="loraudit audit m",
        target=ModelSummary(name="my-adapter", kind="adapter", fingerprint="f1" * 32),
        reference=draw(st.none() | st.just(ModelSummary(name="my-base", kind="base", fingerprint="f2" * 32))),
        members=side({"ok": 300 - unscored, "nonfinite": unscored}),
        nonmembers=side({"ok": 300}),
        numerics={"precision": "fp32", "asked": "fp32", "devices": ["cpu"]},
        versions={"python": "3.11"},
        scoring={"max_length": 64, "stride": 32, "modes": []},
        membership=MembershipResult(
            headline=names[0],
            attacks=found,
            records=None if n_exposed is None else records,
            fusion=draw(fusions()),
        ),
        validity=draw(validities(found[0])),
        warnings=draw(st.sampled_from([[], ["3 rows were skipped."]])),
        started="2025-01-01T00:00:00+00:00",
        seconds=1.0,
    )
    is_kept = draw(st.integers(0, 4)) > 0
    return result.model_copy(update={"verdict": judge(result, draw(LIMITS))}) if is_kept else result


def as_run(result: AuditResult) -> Run:
    """The result with scores of its attacks."""
    rng = np.random.default_rng(0)
    scores = {attack.name: rng.normal(size=12) for attack in result.membership.attacks if attack.status == "ok"}
    return Run(Path("run"), result, pa.table({"is_member": np.arange(12) < 6, **scores}))


# ---------------------------------------------------------------------------------------------
# What a reader of each format takes from it
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reading:
    """What a format says.

    Attributes:
        words: All of it, with blanks for every run of white space.
        heading: The first words of the verdict.
        outcomes: Outcome and reason in words, by limit.
        is_partial: Whether it says that a part is missing.
        exit_code: As it is written there; None where the format has no place for it.
    """

    words: str
    heading: str
    outcomes: dict[str, tuple[str, str]]
    is_partial: bool
    exit_code: int | None


def folded(words: str) -> str:
    return " ".join(words.split())


def without_tags(markup: str) -> str:
    return folded(html.unescape(re.sub(r"<[^>]*>", " ", markup)))


def one(pattern: str, words: str) -> str:
    (found,) = re.findall(pattern, words, re.DOTALL)
    return found


def rows_of(markup: str) -> list[tuple[str, str, str]]:
    """Cells of every row that has three."""
    rows = re.findall(r"<tr>(.*?)</tr>", markup, re.DOTALL)
    cells = [[without_tags(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)] for row in rows]
    return [(row[0], row[1], row[2]) for row in cells if len(row) == 3]


def limits_in(markup: str) -> dict[str, tuple[str, str]]:
    """Rows of the table under "fails if"; none where there is no such table."""
    tables = [table for table in re.findall(r"<table>(.*?)</table>", markup, re.DOTALL) if "fails if" in table]
    return {limit: (outcome, reason) for table in tables for limit, outcome, reason in rows_of(table)[1:]}


def read_terminal(result: AuditResult) -> Reading:
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        show_result(result)
    lines = shown.getvalue().splitlines()
    words = folded(shown.getvalue())
    known = {heading for heading in _headings() if heading in lines}
    outcomes = dict.fromkeys(re.findall(r"Limit (\S+ \S+ \S+): ", words), ("", ""))
    for limit in outcomes:
        rest = words[words.index(f"Limit {limit}: ") + len(f"Limit {limit}: ") :]
        outcome, reason = rest.split(". ", 1)
        outcomes[limit] = outcome, reason
    return Reading(words, *known, outcomes, "Partial: " in words, None)


def _headings() -> set[str]:
    from loraudit.policy import verdict

    return {*verdict._HEADINGS.values(), *verdict._CORRECTED_HEADINGS.values()}


def read_json(result: AuditResult) -> Reading:
    text = FORMATS["json"](as_run(result))
    again = verdict_of(AuditResult.model_validate_json(text))
    kept = json.loads(text)["verdict"]
    assert kept is None or kept == json.loads(again.model_dump_json())
    words = folded(f"{again.sentence} {again.validity and NOT_VALID} {again.validity} {again.threat_model}")
    outcomes = {limit.limit: (LIMIT_WORDS[limit.status], limit.reason) for limit in again.limits}
    return Reading(words, again.heading, outcomes, again.is_partial, again.exit_code)


def read_html(result: AuditResult) -> Reading:
    page = FORMATS["html"](as_run(result))
    verdict = one(r'<section class="verdict [a-z_]+" aria-label="Verdict">(.*?)</section>', page)
    heading = without_tags(one(r"<strong>(.*?)</strong>", verdict))
    words = without_tags(page[page.index("<body>") :])
    return Reading(
        words,
        heading,
        limits_in(page),
        "Partial: " in words,
        int(one(r"Exit code: (\d+)", words)),
    )


def _read_markdown(text: str) -> Reading:
    markup = MarkdownIt("commonmark").enable("table").render(text)
    words = without_tags(markup)
    strong = [without_tags(found) for found in re.findall(r"<strong>(.*?)</strong>", markup)]
    heading = next(words for words in strong if not words.lower().startswith((NOT_VALID, "partial")))
    return Reading(
        words,
        heading.removesuffix("."),
        limits_in(markup),
        "Partial: " in words,
        int(one(r"Exit code: (\d+)", words)),
    )


def read_markdown(result: AuditResult) -> Reading:
    return _read_markdown(FORMATS["markdown"](as_run(result)))


def read_model_card(result: AuditResult) -> Reading:
    return _read_markdown(FORMATS["model-card"](as_run(result)))


def read_junit(result: AuditResult) -> Reading:
    suite = ET.fromstring(FORMATS["junit"](as_run(result)))  # noqa: S314 - our own
    words = suite.findtext("system-out") or ""
    cases = suite.findall("testcase")
    outcomes = {}
    for case in cases:
        if case.get("classname") == "loraudit.limit":
            failure = case.find("failure")
            status = "holds" if failure is None else failure.get("type", "")
            outcomes[case.get("name", "")] = LIMIT_WORDS[status], "" if failure is None else failure.get("message", "")
    complete = next(case for case in cases if case.get("name") == "complete")
    every = folded(" ".join([words, *(element.get("message", "") for element in suite.iter())]))
    heading = next(heading for heading in sorted(_headings(), key=len, reverse=True) if f"\n{heading}." in f"\n{words}")
    return Reading(every, heading, outcomes, complete.find("error") is not None, int(one(r"Exit code: (\d+)", words)))


READERS = {
    "terminal": read_terminal,
    "json": read_json,
    "html": read_html,
    "markdown": read_markdown,
    "model-card": read_model_card,
    "junit": read_junit,
}
EXAMPLES = settings(max_examples=25, deadline=None)

# ---------------------------------------------------------------------------------------------
# They agree
# ---------------------------------------------------------------------------------------------


def test_every_format_of_the_report_is_read_here():
    assert set(READERS) == {"terminal", *FORMATS}


@pytest.mark.parametrize("format_", READERS)
@EXAMPLES
@given(result=results())
def test_every_format_repeats_the_one_verdict(format_, result):
    verdict = verdict_of(result)
    assert exit_code(result) == verdict.exit_code
    reading = READERS[format_](result)
    assert reading.heading == verdict.heading
    assert folded(verdict.sentence) in reading.words
    assert reading.is_partial == verdict.is_partial
    assert reading.exit_code in (verdict.exit_code, None)
    assert {limit: outcome for limit, (outcome, _) in reading.outcomes.items()} == {
        limit.limit: LIMIT_WORDS[limit.status] for limit in verdict.limits
    }
    for limit in verdict.limits:
        said = reading.outcomes[limit.limit][1]
        if limit.status != "holds" or format_ != "junit":
            assert said.startswith(folded(limit.reason))


@pytest.mark.parametrize("format_", READERS)
@EXAMPLES
@given(result=results())
def test_every_format_says_why_the_sides_cannot_be_compared_exactly_if_a_gate_failed(format_, result):
    failed = [gate for gate in result.validity.gates if gate.status == "failed"] if result.validity else []
    verdict = verdict_of(result)
    assert (verdict.validity is not None) == bool(failed)
    words = READERS[format_](result).words
    assert (folded(verdict.validity or "differ by more than training") in words) == bool(failed)
    for gate in failed:
        assert f"{gate.name}: {gate.reason}" in words


@pytest.mark.parametrize("format_", READERS)
@EXAMPLES
@given(result=results())
def test_every_format_says_not_valid_as_it_stands_exactly_if_a_gate_failed(format_, result):
    failed = [gate for gate in result.validity.gates if gate.status == "failed"] if result.validity else []
    assert (NOT_VALID in READERS[format_](result).words.lower()) == bool(failed)


@pytest.mark.parametrize("format_", ["terminal", "html", "markdown"])
@EXAMPLES
@given(result=results())
def test_the_upper_bound_is_stated_in_the_same_words_and_called_the_auditor_s(format_, result):
    statement = fusion_statement(result)
    words = READERS[format_](result).words
    assert (statement is None) == (result.membership.fusion is None)
    assert ("Auditor's upper bound" in words) == (statement is not None)
    if statement is not None:
        assert statement.startswith("Auditor's upper bound: ")
        assert folded(statement) in words
        is_measured = "not measured;" not in statement
        assert ("No outside attacker has those labels." in words) == is_measured
        assert ("not what other attacks would" in words) == is_measured


@EXAMPLES
@given(result=results())
def test_junit_has_failures_or_errors_exactly_if_the_exit_code_is_not_0(result):
    verdict = verdict_of(result)
    suite = ET.fromstring(FORMATS["junit"](as_run(result)))  # noqa: S314 - our own
    counts = {kind: len(suite.findall(f"testcase/{kind}")) for kind in ("failure", "error", "skipped")}
    assert (counts["failure"] + counts["error"] > 0) == (verdict.exit_code != EXIT_OK)
    assert (counts["failure"] > 0) == (verdict.exit_code == EXIT_LIMIT_EXCEEDED)
    if verdict.exit_code == EXIT_PARTIAL:
        assert counts["error"] == 1
    assert [int(suite.get(name, "")) for name in ("failures", "errors", "skipped")] == list(counts.values())
    assert int(suite.get("tests", "")) == len(suite.findall("testcase"))


@EXAMPLES
@given(result=results())
def test_the_page_the_document_and_the_test_view_state_the_same_outcome_of_each_gate(result):
    expected = {gate.name: STATUS_WORDS[gate.status] for gate in result.validity.gates} if result.validity else {}
    run = as_run(result)
    page = dict(re.findall(r'<th scope="row">(\w+)</th><td class="state \w+">([\w ]+)</td>', FORMATS["html"](run)))
    assert page == expected
    lines = FORMATS["markdown"](run).splitlines()
    assert {
        name: out for line in lines for name, out in re.findall(r"^\| `(\w+)` \| ([\w ]+) \| what", line)
    } == expected
    suite = ET.fromstring(FORMATS["junit"](run))  # noqa: S314 - our own
    cases = [case for case in suite.findall("testcase") if case.get("classname") == "loraudit.validity"]
    assert [case.get("name") for case in cases] == list(expected)
    assert [case.find("skipped") is None for case in cases] == [words == "passed" for words in expected.values()]


def test_the_exit_code_ranks_a_broken_limit_above_a_missing_part_above_nothing():
    assert sorted({EXIT_OK, EXIT_PARTIAL, EXIT_LIMIT_EXCEEDED}) == [0, 1, 7]
