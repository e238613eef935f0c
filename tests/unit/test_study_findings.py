"""What a study keeps of its cells: every figure once, under a name that says what it is about."""

from __future__ import annotations

import csv
import itertools
import json
import os
import stat
import subprocess
import sys
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from test_report_page import make_result, synthetic_scores

from loraudit.errors import ConfigError, StoreError
from loraudit.spec import (
    BestAttack,
    DatasetTest,
    FusionPart,
    FusionResult,
    Gate,
    PublishedFigure,
    RecordsResult,
    SeededFinding,
    ShadowComparison,
    StudyFinding,
    Subgroup,
    ValidityResult,
)
from loraudit.study.findings import findings_of, read_findings, study_findings, write_findings
from loraudit.study.flaws import flaw_of
from loraudit.study.headlines import headline_names
from loraudit.study.naming import named_findings
from loraudit.study.published import beside_published, problems_of_published
from loraudit.study.regressions import compared_words, regressions
from loraudit.types import Finding
from synthetic_contrast import Contrast
from synthetic_contrast import validity as gates
from synthetic_forecast import Forecast
from synthetic_memorization import Extraction
from synthetic_robustness import Robustness
from synthetic_study import Study

FIELDS = {field.name for field in fields(Finding)}


def area(value: float = 0.6) -> Finding:
    return Finding(value, value - 0.05, value + 0.05, 0.95, "DeLong", 300, 250)


def whole_audit() -> Any:
    """An audit in which everything was asked for that has figures."""
    result = make_result(*synthetic_scores())
    part = FusionPart(name="loss", auc=area(0.7), adds=area(0.01))
    found = result.membership.model_copy(
        update={
            "best": BestAttack(name="error_zone", n_attacks=3, auc=area(0.8), p_value=0.01),
            "dataset_test": DatasetTest(
                attack="loss", auc=area(0.61), p_mann_whitney=0.01, p_welch=None, n_to_detect=90
            ),
            "records": RecordsResult(
                fdr=0.05,
                n_exposed=0,
                smallest_p_value=0.004,
                exposed=[],
                subgroups=[
                    Subgroup(by=by, name=name, n_members=9, n_nonmembers=9, auc=area(), tpr=area(0.1), fpr=0.01)
                    for by, name in (("length", "a/b"), ("length", "long"), ("topic", "long"))
                ],
            ),
            "shadows": ShadowComparison(
                against_base="loss", against_shadows="zlib", differences={"auc": area(0.1)}, p_values={"auc": 0.2}
            ),
            "fusion": FusionResult(
                attacks=["loss"],
                n_folds=5,
                error_factor=1.5,
                findings={"auc": area(0.8)},
                beyond_headline={"auc": area(0.05)},
                blind_auc=area(0.51),
                beyond_blind=area(0.3),
                without=[part],
                order=[part],
            ),
        }
    )
    gate = Gate(name="length", kind="blind", status="passed", summary="s", reason="r", finding=area(0.5))
    validity = ValidityResult(gates=[gate], strongest_blind="length", headline_minus_blind={"auc": area(0.2)})
    return result.model_copy(update={"membership": found, "validity": validity, "memorization": Extraction().result()})


RESULTS = {
    "audit": whole_audit,
    "contrast": lambda: Contrast(n_epochs=3).result(),
    "robustness": lambda: Robustness().result(),
    "forecast": lambda: Forecast(is_compared=True).result(),
}


def in_dump(value: Any) -> list[tuple[Any, ...]]:
    """Every finding in a result as JSON would hold it, by an own, blunt search."""
    if isinstance(value, dict):
        if value.keys() == FIELDS:
            return [tuple(value[name] for name in sorted(FIELDS))]
        return [one for item in value.values() for one in in_dump(item)]
    return [one for item in value for one in in_dump(item)] if isinstance(value, list | tuple) else []


# --- names ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", RESULTS)
def test_every_finding_of_a_result_is_reached_exactly_once_under_a_name_of_its_own(kind):
    result = RESULTS[kind]()
    found = findings_of(kind, result)
    assert len(found) > 20
    reached = Counter(tuple(getattr(one, name) for name in sorted(FIELDS)) for _, one, _ in found)
    assert reached == Counter(in_dump(json.loads(result.model_dump_json())))
    names = [name for name, _, _ in found]
    assert len(set(names)) == len(names)
    assert not [name for name in names if "#" in name], "by what it is about, never by where it stands"


@pytest.mark.parametrize("kind", RESULTS)
def test_names_are_the_same_when_a_result_is_read_back(kind):
    result = RESULTS[kind]()
    again = type(result).model_validate_json(result.model_dump_json())
    assert findings_of(kind, again) == findings_of(kind, result)


def test_names_are_those_that_published_figures_and_csv_files_are_written_with():
    names = {kind: [name for name, _, _ in findings_of(kind, make())] for kind, make in RESULTS.items()}
    assert {
        "membership/error_zone/auc",
        "membership/best/auc",
        "membership/records/length=a%2Fb/tpr",
        "membership/fusion/without/loss/adds",
        "validity/length",
        "validity/headline_minus_blind/auc",
        "memorization/greedy/prefix=50/members",
    } <= set(names["audit"])
    assert {
        "training/lora:4/seed=1/step=32/auc",
        "validation_loss/full/error_zone/tpr_at_fpr_1pct",
        "epochs=3/full/loss/auc",
        "validation_loss/differences/full vs head/auc",
        "exposure/full/exposures=12/copies=4/auc",
        "best/lora:64/zlib/auc",
    } <= set(names["contrast"])
    assert {
        "validation_loss/full/attack_success/rare_words/dose=8",
        "validation_loss/full/attack_success/rare_words/dose=8/excess",
        "validation_loss/full/ED50/rare_words",
        "validation_loss/ratios/full over lora:8/ED50/rare_words",
        "training/full/clean/seed=0/step=250/accuracy",
        "training/full/rare_words/control/dose=0.3/seed=2/step=750/attack_success/rare_words",
        "controls/full/rare_words/floor",
        "persistence/full/rare_words/int8/dose=512/success_after",
    } <= set(names["robustness"])
    assert {
        "predicted/full/rare_words/dose=64/attack_success",
        "measured/accuracy/spearman",
        "measured/accuracy/baselines/H1′",
    } <= set(names["forecast"])


def test_a_level_of_loss_is_named_only_where_two_comparisons_are_of_one_kind():
    result = Contrast(n_epochs=3).result()
    first = result.matches[0]
    second = first.model_copy(update={"level": 3.21})
    both = result.model_copy(update={"matches": [first, second]})
    names = [name for name, _ in named_findings(both)]
    assert "validation_loss/full/error_zone/auc" in names
    assert "validation_loss=3.210/full/error_zone/auc" in names


def test_two_figures_about_the_same_thing_get_numbers():
    result = Contrast(n_epochs=3).result()
    doubled = result.model_copy(update={"exposure": [result.exposure[0], result.exposure[0]]})
    names = [name for name, _ in named_findings(doubled)]
    assert "exposure/full/exposures=3/copies=1/auc" in names
    assert "exposure/full/exposures=3/copies=1/auc#2" in names
    assert len(set(names)) == len(names)


@pytest.mark.slow
def test_names_do_not_depend_on_the_order_of_hashes():
    code = (
        "from synthetic_robustness import Robustness; from loraudit.study.findings import findings_of; import hashlib;"
        "found = findings_of('robustness', Robustness().result());"
        "print(hashlib.sha256(repr(found).encode()).hexdigest())"
    )
    printed = set()
    for seed in ("0", "1", "77"):
        path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path}
        shown = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
        printed.add(shown.stdout)
    assert len(printed) == 1


# --- headlines and flaws ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", RESULTS)
def test_headlines_are_few_and_are_there(kind):
    result = RESULTS[kind]()
    headlines = [name for name, _, is_headline in findings_of(kind, result) if is_headline]
    assert 0 < len(headlines) <= 20
    assert sorted(headlines) == sorted(headline_names(kind, result))


def test_an_audit_leads_with_its_headline_attack_and_what_is_extracted():
    assert headline_names("audit", whole_audit()) == [
        "membership/error_zone/auc",
        "membership/error_zone/tpr_at_fpr_1pct",
        "memorization/greedy/prefix=50/members",
        "memorization/greedy/prefix=50/held_out",
    ]
    coarse = make_result(*synthetic_scores(), fpr=(0.1, 0.05))
    assert headline_names("audit", coarse)[1] == "membership/error_zone/tpr_at_fpr_5pct"


def test_other_kinds_lead_with_what_their_own_reports_lead_with():
    contrasted = headline_names("contrast", RESULTS["contrast"]())
    assert "validation_loss/lora:16/error_zone/auc" in contrasted
    poisoned = headline_names("robustness", RESULTS["robustness"]())
    assert "validation_loss/lora:8/attack_success/rare_words/dose=512/excess" in poisoned
    assert "validation_loss/full/accuracy/label_flip/dose=0.4/excess" in poisoned
    predicted = headline_names("forecast", RESULTS["forecast"]())
    assert "predicted/lora:64/rare_words/dose=64/attack_success" in predicted
    assert not [name for name in predicted if "bitfit" in name], "it is refused"
    unmatched = RESULTS["contrast"]().model_copy(update={"matches": []})
    assert headline_names("contrast", unmatched) == []
    assert headline_names("robustness", RESULTS["robustness"]().model_copy(update={"matches": []})) == []


def test_a_result_of_another_command_is_a_mistake_of_the_caller():
    for function in (headline_names, flaw_of):
        with pytest.raises(TypeError, match=r"^A result of 'audit' was expected, not ContrastResult\.$"):
            function("audit", RESULTS["contrast"]())


def test_a_flaw_is_what_the_cells_own_report_warns_of_first():
    contrasted = Contrast(n_epochs=3).result()
    assert flaw_of("contrast", contrasted) is None
    failed = flaw_of("contrast", contrasted.model_copy(update={"validity": gates(failed=True)}))
    assert failed is not None
    assert "bag_of_words: AUC 0.612" in failed
    assert flaw_of("audit", make_result(*synthetic_scores())) is None
    poisoned = Robustness().result()
    invalid = [poisoned.controls[0].model_copy(update={"verdict": "invalid", "reasons": ["No effect at the top."]})]
    said = flaw_of("robustness", poisoned.model_copy(update={"controls": invalid}))
    assert said is not None
    assert "was not tested" in said
    refused = flaw_of("forecast", Forecast().result())
    assert refused is not None
    assert refused.startswith("Nothing is predicted of 1 of 7 methods. bitfit: ")
    assert flaw_of("forecast", Forecast(refused=()).result()) is None


# --- findings.parquet and findings.csv --------------------------------------------------------------------


def written(folder: Path, study: Study) -> tuple[bytes, bytes]:
    write_findings(folder, study.cells(), study.findings())
    return (folder / "findings.parquet").read_bytes(), (folder / "findings.csv").read_bytes()


def test_findings_are_read_back_as_they_were_written(tmp_path):
    study = Study(words="<b>=1,\"\n'é")
    written(tmp_path, study)
    assert read_findings(tmp_path) == study.findings()
    for name in ("findings.parquet", "findings.csv"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_the_bytes_do_not_depend_on_seconds_or_on_the_order_of_the_figures_cells(tmp_path):
    study = Study()
    once = written(tmp_path, study)
    slower = [one.model_copy(update={"finding": replace(one.finding, seconds=9.0)}) for one in study.findings()]
    by_cell = [list(group) for _, group in itertools.groupby(slower, key=lambda one: one.cell)]
    write_findings(tmp_path, study.cells(), [one for group in reversed(by_cell) for one in group])
    assert ((tmp_path / "findings.parquet").read_bytes(), (tmp_path / "findings.csv").read_bytes()) == once
    assert b"seconds" not in once[1]


def test_columns_hold_the_axes_and_everything_it_takes_to_believe_a_figure(tmp_path):
    study = Study()
    written(tmp_path, study)
    table = pq.read_table(tmp_path / "findings.parquet")
    axes = ["axis_tuning", "axis_epochs", "axis_seed", "axis_base", "axis_records"]
    assert table.column_names[:9] == ["cell", "grid", "kind", *axes, "name"]
    with (tmp_path / "findings.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == table.column_names
    assert len(rows) == table.num_rows == len(study.findings())
    for row, one in zip(rows, table.to_pylist(), strict=True):
        assert row["name"] == one["name"]
        assert row["axis_tuning"] == (one["axis_tuning"] or "")
        assert row["value"] == ("" if one["value"] is None else repr(one["value"]))
        assert row["is_headline"] == ("true" if one["is_headline"] else "false")
    refused = next(row for row in rows if row["method"] == "refused")
    assert (refused["value"], refused["n_members"]) == ("", "1000")
    assert refused["note"].startswith("Cannot state")


@pytest.mark.parametrize("words", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_words_are_a_formula_to_a_spreadsheet_and_negative_numbers_stay_numbers(words, tmp_path):
    cell = Study().cells()[0].model_copy(update={"grid": words, "labels": {"a": words}})
    one = StudyFinding(cell=cell.id, name=words, finding=Finding(-0.5, None, None, 0.95, words, 1, 1, note=words))
    write_findings(tmp_path, [cell], [one])
    with (tmp_path / "findings.csv").open(encoding="utf-8", newline="") as file:
        row = next(csv.DictReader(file))
    for column in ("grid", "axis_a", "name", "method", "note"):
        assert row[column] == f"'{words}"
    assert row["value"] == "-0.5"
    assert read_findings(tmp_path)[0].name == words


def test_what_json_cannot_hold_is_empty(tmp_path):
    cell = Study().cells()[0]
    odd = Finding(float("nan"), float("-inf"), float("inf"), 0.95, "m", 1, 1)
    write_findings(tmp_path, [cell], [StudyFinding(cell=cell.id, name="x", finding=odd)])
    assert read_findings(tmp_path)[0].finding == Finding(None, None, None, 0.95, "m", 1, 1)


def test_a_folder_without_figures_and_a_damaged_file_are_said_to_be(tmp_path):
    with pytest.raises(
        ConfigError, match=r"^Folder '.*' holds no figures of a study\. Expected findings\.parquet\. Run the study to"
    ):
        read_findings(tmp_path)
    whole, _ = written(tmp_path, Study())
    for damaged in (b"", whole[: len(whole) // 2], whole[:-1]):
        (tmp_path / "findings.parquet").write_bytes(damaged)
        with pytest.raises(StoreError, match=r"(?s)^'.*findings\.parquet' is damaged: .* finished cells are kept\.$"):
            read_findings(tmp_path)


# --- beside the literature --------------------------------------------------------------------------------


def test_a_published_figure_stands_beside_every_cell_that_agrees_or_alone():
    study = Study()
    spec, cells, findings = study.spec(), study.cells(), study.findings()
    by_id = {cell.id: cell for cell in cells}
    beside = beside_published(spec, cells, findings)
    first = [one for one in beside if one.published == spec.published[0]]
    assert [by_id[one.cell or ""].labels["seed"] for one in first] == ["0", "1"]
    assert all(one.finding is not None and one.finding.value is not None for one in first)
    unnamed = [one for one in beside if one.published == spec.published[2]]
    assert [(one.cell is None, one.finding) for one in unnamed] == [(False, None)] * 2
    alone = [one for one in beside if one.published == spec.published[3]]
    assert [(one.cell, one.finding) for one in alone] == [(None, None)]
    failed = PublishedFigure(
        grid="leakage", cell={"tuning": "full", "epochs": "3", "seed": "1"}, finding="x", value=1, source="s"
    )
    spec = spec.model_copy(update={"published": (failed,)})
    assert [one.cell for one in beside_published(spec, cells, findings)] == [None]


def test_places_that_a_study_does_not_have_are_all_said():
    study = Study()
    wrong = [
        PublishedFigure(grid=grid, cell=cell, finding="x", value=1.0, source="Else 2023")
        for grid, cell in (("leakege", {}), ("leakage", {"tunning": "full"}), ("leakage", {"tuning": "ful"}))
    ]
    spec = study.spec().model_copy(update={"published": tuple(wrong)})
    problems = problems_of_published(spec, study.cells())
    assert len(problems) == 3
    assert problems[0].startswith("Published figure of Else 2023: Unknown grid 'leakege'. Did you mean 'leakage'?")
    assert "grid 'leakage': Unknown axis 'tunning'. Did you mean 'tuning'?" in problems[1]
    assert "axis 'tuning': Unknown label 'ful'. Did you mean 'full'?" in problems[2]
    sound = study.spec().model_copy(update={"published": study.spec().published[:3]})
    assert problems_of_published(sound, study.cells()) == []


# --- an earlier run ---------------------------------------------------------------------------------------


@pytest.fixture
def before(tmp_path):
    study = Study(against=None)
    (tmp_path / "result.json").write_text(study.result().model_dump_json(), "utf-8")
    write_findings(tmp_path, study.cells(), study.findings())
    return tmp_path


def changed(**finding: Any) -> list[StudyFinding]:
    """The figures of a study of which the first is another."""
    first, *others = Study().findings()
    return [first.model_copy(update={"finding": replace(first.finding, **finding)}), *others]


def test_the_same_figures_are_no_regression(before):
    assert regressions(before, Study().cells(), Study().findings()) == []
    assert compared_words(before, Study().cells()) == []
    assert regressions(before, Study().cells(), changed(seconds=99.0)) == []
    value = Study().findings()[0].finding.value or 0
    assert regressions(before, Study().cells(), changed(value=value * (1 + 1e-9))) == []


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"value": 0.567}, "moved"),
        ({"upper": 0.6}, "moved"),
        ({"upper": None}, "moved"),
        ({"value": 0.8, "lower": 0.78, "upper": 0.82}, "apart"),
        ({"value": 0.3, "lower": None, "upper": 0.31}, "apart"),
        ({"value": 0.8, "lower": None, "upper": None}, "moved"),
        ({"value": None, "lower": None, "upper": None, "method": "refused"}, "gone"),
    ],
)
def test_a_figure_that_is_another_is_flagged(change, kind, before):
    (found,) = regressions(before, Study().cells(), changed(**change))
    assert (found.kind, found.matched_by, found.versions) == (kind, "id", ("0.1.0", "0.1.0"))
    assert found.before == Study().findings()[0].finding
    assert found.after == changed(**change)[0].finding


def test_a_figure_that_was_undefined_or_is_new_is_none(before):
    refused = next(one for one in Study().findings() if one.finding.value is None)
    now = [
        one.model_copy(update={"finding": replace(one.finding, value=0.4)}) if one == refused else one
        for one in Study().findings()
    ]
    new = StudyFinding(cell=now[0].cell, name="membership/new/auc", finding=area())
    assert regressions(before, Study().cells(), [*now, new]) == []


def test_of_a_cell_that_has_failed_since_the_headlines_are_gone_and_absent_ones_are_not_compared(before):
    cells = Study().cells()
    lost, absent = cells[0], cells[2]
    now = [
        cell.model_copy(update={"status": {lost.id: "failed", absent.id: "absent"}.get(cell.id, cell.status)})
        for cell in cells
    ]
    left = [one for one in Study().findings() if one.cell not in {lost.id, absent.id}]
    found = regressions(before, now, left)
    headlines = [one.name for one in Study().findings() if one.cell == lost.id and one.is_headline]
    assert [(one.cell, one.name, one.kind) for one in found] == [(lost.id, name, "gone") for name in headlines]
    assert compared_words(before, now) == [f"1 of 21 cells that were finished in '{before}' are not compared."]


def test_where_requests_are_hashed_in_another_way_cells_are_found_by_their_place_and_that_is_said(before):
    cells = [cell.model_copy(update={"id": f"new-{k}"}) for k, cell in enumerate(Study().cells())]
    new_id = {old.id: cell.id for old, cell in zip(Study().cells(), cells, strict=True)}
    findings = [one.model_copy(update={"cell": new_id[one.cell]}) for one in changed(value=0.57)]
    (found,) = regressions(before, cells, findings)
    assert (found.cell, found.kind, found.matched_by) == ("new-0", "moved", "labels")
    (said,) = compared_words(before, cells)
    assert said.startswith(f"21 of 21 cells were found in '{before}' by grid and labels, not by what they ask: ")


def test_a_cell_that_asks_something_else_at_the_same_place_is_not_the_same(before):
    first, *others = Study().cells()
    cells = [first.model_copy(update={"id": "other"}), *others]
    findings = [one.model_copy(update={"cell": "other"}) if one.cell == first.id else one for one in changed(value=0.9)]
    assert regressions(before, cells, findings) == []
    assert compared_words(before, cells) == [
        f"1 of 21 cells that were finished in '{before}' are not compared.",
        f"1 cell of this study was not finished in '{before}' and is compared with nothing.",
    ]


def test_an_earlier_run_that_is_none_or_of_another_study_is_refused(before, tmp_path):
    cells, findings = Study().cells(), Study().findings()
    for function in (lambda folder: regressions(folder, cells, findings), lambda folder: compared_words(folder, cells)):
        with pytest.raises(
            ConfigError, match=r"^Folder '.*' .*\. Expected an earlier run of the study, named by 'agai"
        ):
            function(tmp_path / "gone")
    others = [cell.model_copy(update={"id": f"x{k}", "grid": "else"}) for k, cell in enumerate(cells)]
    with pytest.raises(
        ConfigError,
        match=r"^Study 'tiny grid' in folder '.*' has no cell in common with this one\. Expected an earlier",
    ):
        regressions(before, others, findings)
    (before / "result.json").write_text('{"kind": "study"}', "utf-8")
    with pytest.raises(StoreError, match="is damaged"):
        regressions(before, cells, findings)


def test_seeded_figures_are_reached_through_their_wrapper():
    """A mean over runs is one figure: the wrapper's own numbers are none."""
    match = Contrast(n_epochs=3).result().matches[0]
    seeded = match.arms[0].attacks["loss"]["auc"]
    assert isinstance(seeded, SeededFinding)
    names = [name for name, finding in named_findings(match) if finding is seeded.finding]
    assert names == ["full/loss/auc"]


def test_study_findings_name_their_cell():
    found = study_findings("abc", "forecast", Forecast().result())
    assert {one.cell for one in found} == {"abc"}
    assert sum(one.is_headline for one in found) == len(headline_names("forecast", Forecast().result()))
    assert "predicted/full/label_flip/dose=0/accuracy" in {one.name for one in found}
