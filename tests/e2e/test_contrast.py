"""`loraudit contrast` and `loraudit tune` on a tiny base, end to end."""

import json
import math

import numpy as np
import pyarrow.parquet as pq
import pytest

from loraudit.contrast import estimate_contrast, run_contrast
from loraudit.contrast.records import split_data
from loraudit.errors import ConfigError, DataError, ModelError
from loraudit.execution import Interrupted, StopRequest
from loraudit.finetuning import read_trained
from loraudit.finetuning.rates import climb
from loraudit.spec import ContrastResult, ContrastSpec, make_request
from loraudit.store import read_contrast, read_run

METHODS = ["full:learning_rate=0.02", "lora:rank=4,learning_rate=0.03,targets=q_proj+v_proj"]


def request(model, records, out, **changes) -> ContrastSpec:
    values = {
        "base": str(model),
        "data": str(records),
        "methods": METHODS,
        "seeds": 2,
        "epochs": 2,
        "batch_size": 8,
        "measure_at": [0.5, 1, 2],
        "resamples": 200,
        "fpr": [0.1],
        "out": str(out),
    }
    return make_request(ContrastSpec, values | changes)


@pytest.fixture(scope="module")
def data(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("data") / "records.jsonl"
    short = [f"{i} " + " ".join(text.split()[:12]) for i, text in enumerate(texts)]
    rows = [{"text": text, "topic": "odd" if i % 2 else "even"} for i, text in enumerate(short)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def done(base, data, tmp_path_factory):
    """A finished contrast with planted duplicates."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LORAUDIT_HOME", str(tmp_path_factory.getbasetemp() / "loraudit-home"))
        return run_contrast(request(base, data, tmp_path_factory.mktemp("runs") / "c", repeats=[1, 4]))


def test_every_method_and_seed_is_measured_at_every_checkpoint(done):
    result = done.result
    assert [arm.name for arm in result.arms] == ["full", "lora:4,targets=q_proj+v_proj"]
    for arm in result.arms:
        assert [run.seed for run in arm.runs] == [0, 1]
        assert arm.n_trained_parameters == arm.n_parameters or arm.method == "lora"
        for run in arm.runs:
            assert [point.epoch for point in run.points] == pytest.approx([0, 0.5, 1, 2], abs=0.05)
            assert run.points[0].validation_loss == pytest.approx(result.base_validation_loss)
            assert run.points[0].findings["auc"].value == 0.5
            assert run.points[-1].member_loss < run.points[0].member_loss
    table = pq.read_table(done.path / "scores.parquet")
    n_records = result.n_members + result.n_nonmembers
    assert len(table) == n_records * (1 + 2 * 2 * 3)


def written(path) -> list[str]:
    return [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_sides_share_no_record_and_nothing_is_lost(done, data):
    sides = {name: written(done.path / "records" / f"{name}.jsonl") for name in ("members", "nonmembers", "validation")}
    sides["members"] = list(dict.fromkeys(sides["members"]))  # one line per planted copy
    everyone = [text for side in sides.values() for text in side]
    assert (
        len(set(everyone))
        == len(everyone)
        == done.result.n_members + done.result.n_nonmembers + len(sides["validation"])
    )
    assert set(everyone) == set(written(data))
    assert len(sides["members"]) == len(sides["nonmembers"])


def test_the_last_point_is_what_an_audit_of_the_model_says(done):
    for arm in done.result.arms:
        audited = read_run(done.path / arm.audit).result
        point = arm.runs[0].points[-1]
        assert point.findings["auc"].value == pytest.approx(
            audited.membership.attack("error_zone").findings["auc"].value, abs=1e-9
        )
        assert point.findings["auc"].lower == pytest.approx(
            audited.membership.attack("error_zone").findings["auc"].lower, abs=1e-6
        )


def test_matched_values_lie_on_the_curves(done):
    """Interpolated by hand between the two points that enclose the level."""
    match = done.result.match("validation_loss")
    for arm, found in zip(done.result.arms, match.arms, strict=True):
        values = []
        for run in arm.runs:
            points = run.points
            after = next(i for i, p in enumerate(points) if p.validation_loss <= match.level)
            before = points[after - 1]
            share = (before.validation_loss - match.level) / (before.validation_loss - points[after].validation_loss)
            areas = [p.findings["auc"].value for p in (before, points[after])]
            values.append(areas[0] + share * (areas[1] - areas[0]))
        assert found.attacks["error_zone"]["auc"].per_seed == pytest.approx(values)
        assert found.attacks["error_zone"]["auc"].finding.value == pytest.approx(np.mean(values))
        assert found.validation_loss == pytest.approx(match.level)
    assert max(min(p.validation_loss for p in run.points) for arm in done.result.arms for run in arm.runs) == (
        pytest.approx(match.level)
    )


def test_differences_are_those_of_the_values(done):
    for match in done.result.matches:
        values = {arm.name: arm.attacks["error_zone"]["auc"].finding.value for arm in match.arms if arm.is_reached}
        for difference in match.differences:
            found = difference.metrics["auc"]
            assert found.value == pytest.approx(values[difference.first] - values[difference.second])
            assert found.lower < found.value < found.upper


def test_planted_duplicates_are_counted_and_compared(done):
    rows = done.result.exposure
    assert {(row.copies, row.exposures) for row in rows} == {(1, 2), (4, 8)}
    copies = pq.read_table(done.path / "scores.parquet", columns=["id", "n_copies", "is_member"]).to_pydict()
    by_id = {i: n for i, n, m in zip(copies["id"], copies["n_copies"], copies["is_member"], strict=True) if m}
    counts = np.bincount(list(by_id.values()), minlength=5)
    assert abs(counts[1] - counts[4]) <= 1
    assert counts[1] + counts[4] == done.result.n_members
    log = pq.read_table(done.path / done.result.arms[0].runs[0].model / "training" / "exposure.parquet").to_pydict()
    seen = np.bincount(log["record"], minlength=done.result.n_members)
    assert set(seen.tolist()) == {2, 8}


def test_intermediate_weights_are_let_go_and_final_ones_kept(done):
    for arm in done.result.arms:
        for run in arm.runs:
            folder = done.path / run.model
            assert read_trained(folder) is not None
            assert not (folder / "training" / "checkpoints").exists()


def test_it_can_be_read_back_and_shown_in_every_format(done, command):
    assert read_contrast(done.path) == done.result
    assert ContrastResult.model_validate_json((done.path / "result.json").read_text()) == done.result
    code, out, _ = command("report", done.path, "--format", "markdown")
    assert code == 0
    assert "full" in out
    code, out, _ = command("report", done.path)
    assert code == 0
    assert done.result.heading in out
    assert json.loads(command("report", done.path, "--json")[1])["kind"] == "contrast"
    code, _, err = command("report", done.path, "--format", "junit")
    assert code == 2
    assert "A contrast has no junit report. Expected --format" in err
    code, _, err = command("verify", done.path)
    assert code == 2
    assert "holds a contrast, which this does not take" in err


def test_the_same_request_again_trains_and_scores_nothing(done, monkeypatch):
    from loraudit.contrast import measuring
    from loraudit.finetuning import tune

    monkeypatch.setattr(tune, "train", lambda _: pytest.fail("trained again"))
    monkeypatch.setattr(measuring, "gather_evidence", lambda *_, **__: pytest.fail("scored again"))
    again = run_contrast(done.result.spec)
    assert again.result.matches == done.result.matches
    assert again.result.scores == done.result.scores


def test_a_stopped_contrast_goes_on_to_the_same_numbers(done, base, data, tmp_path):
    class StopAfter(StopRequest):
        def __init__(self, n: int) -> None:
            super().__init__()
            self.left = n

        def check(self) -> None:
            self.left -= 1
            if self.left < 0:
                raise Interrupted

    wanted = request(base, data, tmp_path / "c", repeats=[1, 4])
    n_stops = 0
    for n in (3, 17, 40, 90, 100000):
        try:
            run = run_contrast(wanted, stop=StopAfter(n))
        except Interrupted:
            n_stops += 1
    assert n_stops >= 3
    assert run.result.matches == done.result.matches


def test_scores_of_other_records_are_never_read_back(base, texts, tmp_path, monkeypatch):
    from loraudit.contrast import measuring

    def write(numbers) -> None:
        short = [f"{i} " + " ".join(text.split()[:12]) for i, text in zip(numbers, texts, strict=False)]
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in short), encoding="utf-8")

    path = tmp_path / "records.jsonl"
    wanted = request(base, path, tmp_path / "c", methods=["full", "head"], learning_rates=[0.01], epochs=1, seeds=1)
    wanted = wanted.model_copy(update={"measure_at": (0.5, 1.0)})
    write(range(40))
    first = run_contrast(wanted).result
    write(range(100, 140))
    second = run_contrast(wanted).result
    assert second.data != first.data
    assert second.base_validation_loss != first.base_validation_loss
    assert [arm.search for arm in second.arms] != [arm.search for arm in first.arms]
    for one, two in zip(first.arms, second.arms, strict=True):
        for before, after in zip(one.runs[0].points, two.runs[0].points, strict=True):
            assert before.member_loss != after.member_loss

    with monkeypatch.context() as patch:  # a score is lost, and its weights were let go
        scored = []
        gather = measuring.gather_evidence
        patch.setattr(measuring, "gather_evidence", lambda plan, *a, **k: scored.append(plan) or gather(plan, *a, **k))
        min((tmp_path / "c" / "scores").glob("full-seed0-step*.parquet")).unlink()
        third = run_contrast(wanted).result
    assert len(scored) == 1
    assert third.matches == second.matches


def test_duplicates_in_the_files_count_unless_told_otherwise_and_planted_ones_always(base, texts, tmp_path):
    path = tmp_path / "records.jsonl"
    short = [f"{i} " + " ".join(text.split()[:12]) for i, text in enumerate(texts[:40])]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in [*short, *short]), encoding="utf-8")
    for keep, repeats, expected in ((True, [], {2}), (False, [], {1}), (False, [1, 4], {1, 4})):
        wanted = request(base, path, tmp_path / "c", keep_duplicates=keep, repeats=repeats)
        split = split_data(wanted, tmp_path / "split")
        assert {split.copies.get(record.id, 1) for record in split.members} == expected


def test_a_method_may_have_fewer_runs_than_the_others(base, data, tmp_path, command):
    methods = [METHODS[0], METHODS[1] + ",seeds=1", "head:learning_rate=0.02"]
    wanted = request(base, data, tmp_path / "c", methods=methods, epochs=1, measure_at=[1])
    assert estimate_contrast(wanted).n_runs == 5
    result = run_contrast(wanted).result
    assert [(arm.name, len(arm.runs)) for arm in result.arms] == [
        ("full", 2),
        ("lora:4,targets=q_proj+v_proj", 1),
        ("head", 2),
    ]
    assert result.run_counts == (1, 2)
    assert any("One training run of lora:4,targets=q_proj+v_proj:" in warning for warning in result.warnings)
    match = result.match("epochs")
    for arm in match.arms:
        found = arm.attacks["error_zone"]["auc"]
        assert ("2 training runs" in found.finding.method) == (len(found.per_seed) == 2)
    for pair in match.differences:
        assert ("one training run" in pair.metrics["auc"].method) == ("lora" in pair.first + pair.second)
    assert "Not so with lora:4,targets=q_proj+v_proj" in command("report", tmp_path / "c", "--format", "markdown")[1]


def test_learning_rates_are_searched_on_validation_loss_and_recorded(base, data, tmp_path):
    spec = request(
        base,
        data,
        tmp_path / "c",
        methods=["full", "head:learning_rate=0.01"],
        learning_rates=[1e-6, 1e-2],
        epochs=1,
        seeds=1,
        measure_at=[1],
    )
    result = run_contrast(spec).result
    full, head = result.arms
    assert [tried.learning_rate for tried in full.search] == [1e-6, 1e-2]
    assert full.learning_rate == min(full.search, key=lambda t: t.validation_loss).learning_rate == 1e-2
    assert head.search == []
    assert head.learning_rate == 0.01
    assert any("One training run per method" in warning for warning in result.warnings)
    assert "One training run" in result.match("best").arms[0].attacks["error_zone"]["auc"].finding.note
    assert not list((tmp_path / "c" / "search").glob("*/"))


def test_a_search_goes_downhill_and_ends():
    asked = []

    def loss(rate: float) -> float:
        asked.append(rate)
        return math.inf if rate > 1 else abs(math.log10(rate) + 2)

    assert climb(loss, 1.0, factor=10, most_tries=9) == pytest.approx(0.01)
    assert len(asked) == len(set(asked)) <= 9
    assert climb(loss, 1.0, factor=10, most_tries=2) in (1.0, 0.1)


def test_a_rate_with_which_every_candidate_diverges_is_an_error(base, data, tmp_path):
    spec = request(
        base, data, tmp_path / "c", methods=["full"], learning_rates=[1e30], settings=["max_gradient_norm=1e30"]
    )
    with pytest.raises(ModelError, match=r"Method 'full' diverged with every learning rate tried \(1e\+30\)"):
        run_contrast(spec)


def test_a_dry_run_counts_and_trains_nothing(base, data, tmp_path, command):
    cost = estimate_contrast(request(base, data, tmp_path / "c"))
    assert cost.n_runs == 4
    assert cost.n_measured == 12
    assert [arm.is_searched for arm in cost.arms] == [False, False]
    assert cost.n_steps == 2 * sum(arm.n_steps for arm in cost.arms)
    words = ["contrast", base, "--data", data, "--methods", "full", "--methods", "lora:2", "--out", tmp_path / "c"]
    code, out, _ = command(*words, "--dry-run")
    assert code == 0
    assert "learning rate to be searched" in out
    assert json.loads(command(*words, "--dry-run", "--json")[1])["n_runs"] == 6
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"methods": ["fulll"]}, r"Unknown tuning method 'fulll'\. Did you mean 'full'"),
        ({"methods": ["lora:x"]}, r"Method 'lora:x': 'rank' has the value 'x'"),
        ({"methods": ["lora:4", "lora:rank=4"]}, r"have one name\. Leave one out"),
        ({"methods": ["full:rank=3"]}, r"Method 'full:rank=3': 'rank' = 3 has no effect with method 'full'"),
        ({"methods": ["full:16"]}, r"'16' in method 'full:16' is no setting\. Expected KEY=VALUE"),
        ({"methods": ["dp"]}, r"'dp' is a setting of any method, not a method"),
        ({"methods": ["lora:seed=3"]}, r"'seed' in method 'lora:seed=3' is the same for all methods.*--seeds"),
        ({"methods": ["full:seeds=0"]}, r"'seeds=0' in method 'full:seeds=0' is no number of training runs"),
        ({"settings": ["seeds=2"]}, r"'seeds' in --set seeds=2 belongs to one method.*--seeds"),
        ({"settings": ["keep_duplicates=false"]}, r"'keep_duplicates' in --set .* is the same for all methods"),
        ({"methods": []}, r"No method was named"),
        ({"settings": ["wieght_decay=1"]}, r"Unknown setting 'wieght_decay'\. Did you mean 'weight_decay'"),
        ({"measure_at": [5]}, r"--measure-at 5 lies beyond the 2 epochs trained"),
        ({"at_epochs": [7]}, r"--at-epochs 7 is beyond the 2 epochs trained"),
        ({"data": ["nowhere.jsonl"]}, r"File 'nowhere.jsonl' does not exist"),
    ],
)
def test_what_is_wrong_with_a_request_is_said(base, data, tmp_path, changes, words):
    with pytest.raises(ConfigError, match=words):
        run_contrast(request(base, data, tmp_path / "c", **changes))
    assert not (tmp_path / "c").exists()


def test_too_few_records_or_documents_are_refused(base, data, tmp_path):
    with pytest.raises(DataError, match=r"120 records leave 5 members and as many non-members"):
        run_contrast(request(base, data, tmp_path / "c", max_records=5))
    with pytest.raises(DataError, match=r"too few documents to be split into three sides"):
        run_contrast(request(base, data, tmp_path / "d", group_field="topic"))


def test_another_request_for_the_folder_is_refused(done):
    with pytest.raises(ConfigError, match=r"holds another contrast(.|\n)*epochs: 2 → 1"):
        run_contrast(done.result.spec.model_copy(update={"epochs": 1, "measure_at": (1.0,)}))


def test_tune_makes_a_target_that_audit_takes(base, record_files, tmp_path, command):
    members, nonmembers = record_files
    words = ["tune", base, "--data", members, "--method", "lora", "--rank", "4", "--learning-rate", "0.03"]
    words += ["--epochs", "1", "--validation-share", "0", "--out", tmp_path / "adapter"]
    code, out, _ = command(*words, "--dry-run")
    assert code == 0
    assert "16 steps" in out
    code, out, err = command(*words)
    assert code == 0, err
    assert "parameters on 60 records in 16 steps" in out
    facts = json.loads(command(*words, "--json")[1])
    assert facts["n_steps"] == 16
    code, out, err = command(
        "audit", tmp_path / "adapter", "--members", members, "--nonmembers", nonmembers, "--resamples", "100"
    )
    assert code == 0, err
    code, _, err = command(*words, "--rank", "8")
    assert code == 2
    assert "holds another tune" in err
    assert "rank: 4 → 8" in err


def test_tune_says_everything_that_is_wrong_at_once(base, tmp_path, command):
    words = ["tune", base, "--data", "none.jsonl", "--method", "full", "--rank", "4", "--label-field", "x"]
    code, _, err = command(*words)
    assert code == 2
    for part in ("'none.jsonl' does not exist", "'rank' = 4 has no effect", "'label_field' has no effect"):
        assert part in err


def test_validation_records_that_are_trained_on_are_refused(base, record_files, tmp_path, command):
    members, _ = record_files
    code, _, err = command("tune", base, "--data", members, "--validation", members, "--out", tmp_path / "m")
    assert code == 3
    assert "60 of 60 validation records are trained on too" in err


# --- shadow models ------------------------------------------------------------------------------------


SHADOWED = {"shadow": 2, "seeds": 1, "validation_records": 20, "headline": "shadow_error_zone"}


@pytest.fixture(scope="module")
def shadowed(base, data, tmp_path_factory):
    """A contrast whose runs are compared with shadow models of their own method."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LORAUDIT_HOME", str(tmp_path_factory.getbasetemp() / "loraudit-home"))
        return run_contrast(request(base, data, tmp_path_factory.mktemp("shadowed") / "c", **SHADOWED))


def test_every_method_is_measured_against_shadows_of_its_own_after_as_many_epochs(shadowed):
    result = shadowed.result
    table = pq.read_table(shadowed.path / "scores.parquet")
    of_arm, steps = np.array(table["arm"].to_pylist()), np.array(table["step"])
    for arm in result.arms:
        points = arm.runs[0].points
        assert points[0].findings["auc"].value == 0.5, "before the first step target and shadows are one model"
        assert points[-1].findings["auc"].value > 0.6
        assert set(steps[of_arm == arm.name]) == {point.step for point in points[1:]}
        for name in ("shadow_error_zone", "lira_offline", "rmia"):
            assert np.isfinite(np.array(table[name])[of_arm == arm.name]).all()
    assert {"shadow_error_zone", "error_zone"} <= set(result.matches[0].arms[0].attacks)
    references = shadowed.path.parent / ".loraudit" / "references"
    made = [json.loads((folder / "question.json").read_text()) for folder in references.iterdir()]
    assert sorted(question["recipe"]["method"] for question in made) == ["full", "full", "lora", "lora"]
    assert not list(references.glob("*/model/training/checkpoints")), "checkpoints are let go"


def test_the_whole_audits_of_a_contrast_use_its_shadows(shadowed):
    for arm in shadowed.result.arms:
        audit = read_run(shadowed.path / arm.audit)[1]
        assert audit.shadows.trained_on == "nonmembers"
        last = arm.runs[0].points[-1].findings["auc"].value
        assert audit.membership.attack("shadow_error_zone").findings["auc"].value == pytest.approx(last)


def test_a_finished_contrast_trains_no_shadow_again_and_lost_scores_bring_them_back(shadowed, base, data, monkeypatch):
    wanted = request(base, data, shadowed.path, **SHADOWED)
    with monkeypatch.context() as patch:
        patch.setattr("loraudit.finetuning.tune.make_trainable", lambda *_: pytest.fail("trained again"))
        assert run_contrast(wanted).result.matches == shadowed.result.matches
    lost = next((shadowed.path / "scores").glob("lora*step*"))
    lost.unlink()
    assert run_contrast(wanted).result.matches == shadowed.result.matches
    assert lost.exists()


def test_a_dry_run_counts_the_shadows_of_a_contrast(base, data, tmp_path):
    cost = estimate_contrast(request(base, data, tmp_path / "c", **SHADOWED | {"shadow": 4}))
    assert cost.n_shadows == 8
    assert 0 < cost.n_shadow_steps < 8 * cost.arms[0].n_steps
    with pytest.raises(ConfigError, match="--shadow 3 is odd"):
        estimate_contrast(request(base, data, tmp_path / "c", **SHADOWED | {"shadow": 3}))
