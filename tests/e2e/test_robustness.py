"""Robustness runs on a tiny classifier and a tiny language model, end to end."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from loraudit.errors import ConfigError, DataError, Diverged, StoreError
from loraudit.execution import Interrupted, Silent
from loraudit.finetuning import Bench
from loraudit.poisoning.detection import Detector
from loraudit.policy.robustness import broken_parts, robustness_exit_code
from loraudit.review.verify import verify_run
from loraudit.robustness import estimate_robustness, robustness_path, run_robustness
from loraudit.robustness.cells import Cell, Runner, after_file, key_after
from loraudit.robustness.outcomes import read_checkpoint
from loraudit.robustness.persistence import Trial
from loraudit.robustness.request import check_request
from loraudit.robustness.spine import _meter
from loraudit.spec import RobustnessResult
from loraudit.tasks import plan_attacks, split_task
from small_robustness import request, reviews, save_body, write_rows
from small_tuning import Crash, CrashAt, StopAt

FULL, HEAD = "full", "head"
FLIP, BACKDOOR = "label_flip", "rare_words:trigger=z"


@pytest.fixture(scope="module")
def body(tmp_path_factory):
    return save_body(tmp_path_factory.mktemp("models") / "body")


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("task") / "task.jsonl", reviews(160))


@pytest.fixture(scope="module")
def done(body, task, tmp_path_factory):
    """A finished run with detectors and persistence."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LORAUDIT_HOME", str(tmp_path_factory.getbasetemp() / "loraudit-home"))
        spec = request(
            body,
            task,
            tmp_path_factory.mktemp("runs") / "r",
            detect=["spectral_signatures"],
            persistence=["clean_steps", "merge", "int8"],
            fail_on=["asr.value > 0.5"],
        )
        return run_robustness(spec)


# --- what is measured ---------------------------------------------------------------------------------


def test_every_method_attack_dose_and_seed_is_a_run_of_its_own(done):
    found = [(r.method, r.attack, r.dose, r.seed, r.is_control) for r in done.result.runs]
    assert len(set(found)) == len(found)
    expected = {
        (method, attack, dose, seed, False)
        for method in (FULL, HEAD)
        for seed in (0, 1)
        for attack, dose in [(None, 0.0), (FLIP, 0.1), (FLIP, 0.4), (BACKDOOR, 4.0), (BACKDOOR, 24.0)]
    }
    assert set(found) == expected | {(method, BACKDOOR, 0.3, 0, True) for method in (FULL, HEAD)}
    n_backdoors = {run.n_poisoned for run in done.result.runs if run.dose in (4.0, 24.0)}
    assert n_backdoors == {4, 24}


def test_clean_and_poisoned_runs_are_measured_alike(done):
    for run in done.result.runs:
        assert [point.epoch for point in run.points] == pytest.approx([0, 0.5, 1, 2], abs=0.08)
        assert run.n_steps == run.points[-1].step
        for point in run.points:
            attacks = {BACKDOOR} if run.attack in (None, BACKDOOR) else set()
            assert set(point.attack_success) == set(point.untriggered) == attacks
            assert point.accuracy is not None
            assert point.accuracy.lower <= point.accuracy.value <= point.accuracy.upper
            assert point.accuracy.n_nonmembers == done.result.n_test


def test_poisoned_runs_start_as_their_clean_twins(done):
    """Before the first step nothing of the poison has been seen: one seed, one untouched model."""
    for seed in (0, 1):
        for method in (FULL, HEAD):
            starts = [r.points[0] for r in done.result.runs if (r.method, r.seed) == (method, seed)]
            assert len({(point.validation_loss, point.clean_loss) for point in starts}) == 1


def test_a_backdoor_that_works_is_harm_and_its_controls_hold(done):
    found = {(c.attack, c.method): c for c in done.result.controls}
    control = found[BACKDOOR, FULL]
    assert control.positive.value >= 0.9
    assert control.floor.value < 0.2
    assert control.verdict == "harmed"
    assert done.result.verdict == "harmed"
    assert done.result.limits[0].status == "exceeded"
    best = done.result.matches[-1]
    curve = next(c for c in best.curves if (c.attack, c.method, c.measure) == (BACKDOOR, FULL, "attack_success"))
    assert [point.dose for point in curve.points] == [0, 4, 24]
    assert curve.points[-1].excess.value > 0.3
    assert curve.points[0].excess is None


def test_flipped_labels_cost_loss(done):
    last = next(match for match in done.result.matches if match.kind == "epochs" and match.level == 2)
    for method in (FULL, HEAD):
        curve = next(c for c in last.curves if (c.attack, c.method, c.measure) == (FLIP, method, "clean_loss"))
        assert curve.points[-1].excess.value > 0.05


# --- figures ------------------------------------------------------------------------------------------


def test_every_figure_follows_from_the_outcomes_alone(done):
    checks = verify_run(done.path)
    assert {check.status for check in checks} == {"ok"}, [check.detail for check in checks]
    names = [check.name for check in checks]
    for part in ("outcomes", "training runs", "comparisons", "controls", "persistence", "detection", "limits"):
        assert part in names
        detail = next(check.detail for check in checks if check.name == part)
        assert not detail.startswith("0 entries")


@pytest.mark.parametrize(
    ("part", "name"),
    [("controls", "controls"), ("matches", "comparisons"), ("runs", "training runs"), ("persistence", "persistence")],
)
def test_a_changed_figure_is_named(done, tmp_path, part, name):
    held = shutil.copytree(done.path, tmp_path / "run", ignore=shutil.ignore_patterns("runs"))
    content = json.loads((held / "result.json").read_text())
    _raise_first_number(content[part])
    (held / "result.json").write_text(json.dumps(content))
    failed = [check for check in verify_run(held) if check.status == "failed"]
    assert name in [check.name for check in failed]
    assert "entries differ: " in next(check.detail for check in failed if check.name == name)


def _raise_first_number(tree):
    """The first value of a finding."""
    if isinstance(tree, dict) and isinstance(tree.get("value"), float):
        tree["value"] += 0.25
        return True
    parts = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    return any(_raise_first_number(part) for part in parts)


def test_outcomes_that_were_changed_or_are_gone_are_noticed(done, tmp_path):
    held = shutil.copytree(done.path, tmp_path / "run", ignore=shutil.ignore_patterns("runs"))
    table = pq.read_table(held / "outcomes.parquet")
    pq.write_table(table, held / "outcomes.parquet")  # other bytes, the same rows
    failed = [check for check in verify_run(held) if check.status == "failed"]
    assert [check.name for check in failed] == ["outcomes"]
    assert "another sha256 than recorded" in failed[0].detail
    (held / "outcomes.parquet").unlink()
    with pytest.raises(StoreError, match=r"outcomes\.parquet is missing"):
        verify_run(held)


def test_the_parquet_file_says_what_the_points_say(done):
    columns = pq.read_table(done.path / "outcomes.parquet").to_pydict()
    rows = list(zip(*(columns[name] for name in ("method", "attack", "seed", "after", "step", "set")), strict=True))
    run = next(r for r in done.result.runs if (r.method, r.attack, r.dose, r.seed) == (FULL, BACKDOOR, 24.0, 1))
    where = [
        i
        for i, row in enumerate(rows)
        if row == (FULL, BACKDOOR, 1, None, run.n_steps, f"triggered:{BACKDOOR}") and columns["dose"][i] == 24.0
    ]
    values = np.array(columns["value"])[where]
    assert values.mean() == pytest.approx(run.points[-1].attack_success[BACKDOOR].value)
    assert len(values) == run.points[-1].attack_success[BACKDOOR].n_nonmembers
    ids = {columns["record"][i] for i in where}
    assert len(ids) == len(where)
    assert all(len(name) == 24 for name in ids)


def test_methods_are_read_where_their_clean_twins_reach_one_loss(done):
    """Interpolated by hand between the two checkpoints that enclose the level."""
    match = done.result.matches[0]
    assert match.kind == "validation_loss"
    clean = [r for r in done.result.runs if r.attack is None]
    level = max(min(p.validation_loss for p in r.points) for r in clean)
    assert match.level == pytest.approx(level)
    for method in (FULL, HEAD):
        values, epochs = [], []
        for run in (r for r in clean if r.method == method):
            poisoned = next(
                r
                for r in done.result.runs
                if (r.method, r.attack, r.dose, r.seed) == (method, BACKDOOR, 24.0, run.seed)
            )
            after = next(i for i, p in enumerate(run.points) if p.validation_loss <= match.level + 1e-12)
            one, two = run.points[after - 1], run.points[after]
            share = (one.validation_loss - match.level) / (one.validation_loss - two.validation_loss)
            epochs.append(one.epoch + share * (two.epoch - one.epoch))
            rates = [poisoned.points[i].attack_success[BACKDOOR].value for i in (after - 1, after)]
            values.append(rates[0] + share * (rates[1] - rates[0]))
        curve = next(c for c in match.curves if (c.attack, c.method, c.measure) == (BACKDOOR, method, "attack_success"))
        assert match.epochs[method] == pytest.approx(np.mean(epochs))
        assert curve.points[-1].per_seed == pytest.approx(values)
        assert curve.points[-1].exposures == pytest.approx(24 * np.mean(epochs))


def test_differences_are_over_own_clean_arms(done):
    match = done.result.matches[-1]
    of = {
        (c.method, p.dose): p.finding.value
        for c in match.curves
        if (c.attack, c.measure) == (BACKDOOR, "attack_success")
        for p in c.points
    }
    for found in (d for d in match.differences if d.attack == BACKDOOR):
        expected = (of[FULL, found.dose] - of[FULL, 0]) - (of[HEAD, found.dose] - of[HEAD, 0])
        assert found.finding.value == pytest.approx(expected)
        assert found.p_holm >= found.p_value
    doses = {(e.method, e.share) for e in match.effective_doses if e.attack == BACKDOOR}
    assert doses == {(method, share) for method in (FULL, HEAD) for share in (0.5, 0.9)}


# --- what is done with the weights --------------------------------------------------------------------


def test_weights_are_let_go_after_detectors_and_persistence_saw_them(done):
    assert not list(done.path.rglob("*.safetensors"))
    kinds = {(row.method, row.after) for row in done.result.persistence}
    assert kinds == {(method, after) for method in (FULL, HEAD) for after in ("clean_steps", "int8")}
    for row in done.result.persistence:
        assert row.dose == 24.0
        assert row.success_before.n_nonmembers == row.success_after.n_nonmembers > 0
    by_kind = {(r.method, r.after): r for r in done.result.persistence}
    int8 = by_kind[FULL, "int8"]
    assert int8.success_after.value == pytest.approx(int8.success_before.value, abs=0.1)
    assert any("merge was left out, because nothing is left to merge" in words for words in done.result.warnings)
    assert {row.detector for row in done.result.detection} == {"spectral_signatures"}
    assert {row.n_poisoned for row in done.result.detection if row.attack == BACKDOOR} == {4, 24}


def test_an_adapter_is_merged_and_kept_if_asked_for(body, task, tmp_path):
    spec = request(
        body,
        task,
        tmp_path / "r",
        methods=["lora:rank=2,learning_rate=0.03,dropout=0,targets=query+value"],
        attack=["rare_words:trigger=z,doses=24"],
        seeds=1,
        persistence=["merge", "clean_steps"],
        keep_models=True,
    )
    result = run_robustness(spec).result
    merge = next(row for row in result.persistence if row.after == "merge")
    assert merge.success_after.value == pytest.approx(merge.success_before.value)
    assert merge.accuracy_after.value == pytest.approx(merge.accuracy_before.value)
    assert all((tmp_path / "r" / run.model / "adapter_model.safetensors").exists() for run in result.runs)
    assert not list((tmp_path / "r").rglob("merged"))
    assert any("One training run per method and dose" in words for words in result.warnings)


# --- going on -----------------------------------------------------------------------------------------


def test_the_same_request_again_trains_nothing(done, monkeypatch):
    from loraudit.finetuning import tune

    monkeypatch.setattr(tune, "train", lambda _: pytest.fail("trained again"))
    again = run_robustness(done.result.spec)
    assert again.result.outcomes == done.result.outcomes
    assert again.result.matches == done.result.matches
    assert again.result.detection == done.result.detection
    assert RobustnessResult.model_validate_json((done.path / "result.json").read_text()) == again.result


def small(body, task, out):
    return request(
        body,
        task,
        out,
        methods=["lora:rank=2,targets=query+value"],
        learning_rates=[0.01, 0.03],
        attack=["rare_words:trigger=z,doses=12"],
        seeds=1,
    )


def test_a_run_that_is_stopped_and_crashes_anywhere_ends_in_the_same_bytes(body, task, tmp_path):
    fresh = run_robustness(small(body, task, tmp_path / "fresh"))
    rng = random.Random(1)
    n_times = 0
    spec = small(body, task, tmp_path / "again")
    while True:
        n_steps = rng.randint(8, 40)
        how = {"stop": StopAt(n_steps)} if n_times % 2 else {"progress": CrashAt(n_steps)}
        try:
            again = run_robustness(spec, **how)
            break
        except (Interrupted, Crash):
            n_times += 1
    assert n_times >= 3
    assert rows_of(again.path) == rows_of(fresh.path)
    assert again.result.matches == fresh.result.matches
    assert again.result.methods == fresh.result.methods


def rows_of(path):
    """Everything but the shown ids, which follow from the request and so from the name of the folder."""
    table = pq.read_table(path / "outcomes.parquet")
    return table.drop_columns(["record"]).to_pydict().__repr__()


@pytest.mark.slow
def test_a_run_that_is_killed_anywhere_ends_in_the_same_bytes(body, task, tmp_path):
    """SIGKILL, between runs and inside of them; the same command each time."""
    fresh = run_robustness(small(body, task, tmp_path / "fresh"))
    spec = small(body, task, tmp_path / "again")
    request_file = tmp_path / "spec.json"
    request_file.write_text(spec.model_dump_json(), encoding="utf-8")
    command = [sys.executable, "-m", "loraudit", "robustness", "--spec", str(request_file), "--quiet"]
    rng, n_killed = random.Random(2), 0
    folder = tmp_path / "again"
    while not (folder / "result.json").exists():
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        n_before, n_more = n_files(folder), rng.randint(1, 6)
        while process.poll() is None and n_files(folder) < n_before + n_more:
            time.sleep(0.01)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            n_killed += 1
        _, err = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), err.decode()
    assert n_killed >= 3
    assert rows_of(folder) == rows_of(fresh.path)
    found = RobustnessResult.model_validate_json((folder / "result.json").read_text())
    assert found.matches == fresh.result.matches


def n_files(folder) -> int:
    return sum(1 for _ in folder.rglob("*"))


def test_damaged_or_missing_measurements_are_made_again(body, task, tmp_path):
    spec = small(body, task, tmp_path / "r")
    first = run_robustness(spec)
    file = sorted(first.path.rglob("step-*.parquet"))[2]
    before = file.read_bytes()
    file.write_bytes(b"nothing")
    second = run_robustness(spec)
    assert second.result.outcomes == first.result.outcomes
    assert file.read_bytes() == before


def test_what_is_left_is_measured_again_on_other_test_records(body, task, tmp_path):
    """The same weights, fewer test records: all that was found on the others is stale, killed or not."""
    changes = {"attack": ["rare_words:trigger=z,doses=24"], "seeds": 1, "persistence": ["merge", "clean_steps"]}
    changes["methods"] = ["lora:rank=2,learning_rate=0.03,dropout=0,targets=query+value"]
    spec = request(body, task, tmp_path / "r", **changes)
    data = split_task(spec)
    fewer = replace(data, test=data.test[:20])
    arms, attacks = check_request(spec, data.task)
    bench = Bench(str(body), data.train, data.validation, "cpu", True, Silent(), None)
    found = []
    for tested in (data, fewer):
        plans = plan_attacks(spec, attacks, tested, n_seeds=spec.seeds, control_dose=spec.control_dose)
        meter = _meter(spec, bench, tested, plans, arms[0])
        cell = Cell(arms[0], 0.03, plans[0], 24.0, 0)
        trial = Trial(bench, spec.persistence, data.labels, meter)
        runner = Runner(bench, tmp_path / "cells", (1.0, 2.0), keep_models=True)
        found.append(runner.run(cell, meter, asked=["p"], afterwards=[trial]))
    for run, tested in zip(found, (data, fewer), strict=True):
        assert list(run.outcomes.after) == ["merge", "clean_steps"]
        assert {len(c.sets["clean"].values) for c in run.outcomes.after.values()} == {len(tested.test)}


def test_a_merged_model_of_another_run_is_not_taken(body, task, tmp_path):
    spec = request(body, task, tmp_path / "r", attack=["rare_words:trigger=z,doses=24"], seeds=1)
    data = split_task(spec)
    bench = Bench(str(body), data.train, data.validation, "cpu", True, Silent(), None)
    arms, attacks = check_request(
        spec.model_copy(update={"methods": ("lora:rank=2,learning_rate=0.03,targets=query+value",)}), data.task
    )
    plans = plan_attacks(spec, attacks, data, n_seeds=spec.seeds, control_dose=spec.control_dose)
    meter = _meter(spec, bench, data, plans, arms[0])
    model = bench.train(arms[0].recipe.model_copy(update={"epochs": 1, "learning_rate": 0.03}), tmp_path / "model")
    (tmp_path / "merged").mkdir()
    (tmp_path / "merged" / "config.json").write_text("{}")
    trial = Trial(bench, ["merge"], data.labels, meter)
    found = trial(Cell(arms[0], 0.03, plans[0], 24.0, 0), model, tmp_path, "one")
    assert found["after"] == ["merge"]
    assert read_checkpoint(after_file(tmp_path, "merge"), key_after("one", "merge")) is not None


def test_a_poisoned_run_that_diverges_is_a_collapsed_one(body, task, tmp_path, monkeypatch):
    """The others go on; of it is kept what was measured before. A clean run that diverges still ends everything."""
    spec = request(
        body,
        task,
        tmp_path / "r",
        methods=["full:learning_rate=0.02"],
        attack=["label_flip:doses=0.4", "rare_words:trigger=z,doses=24"],
        persistence=["int8"],
        keep_models=True,
    )
    _diverge(monkeypatch, lambda recipe, records: recipe.seed == 0 and _n_with_z(records) == 24)
    first = run_robustness(spec)
    lost = [run for run in first.result.runs if np.isnan(run.points[-1].validation_loss)]
    assert lost[0].collapsed
    assert [(run.attack, run.dose, run.seed, run.model) for run in lost] == [(BACKDOOR, 24.0, 0, None)]
    assert [point.accuracy.value is None for point in lost[0].points] == [False, False, True, True]
    assert [point.epoch for point in lost[0].points] == pytest.approx([0, 0.5, 1, 2], abs=0.08)
    assert [words for words in first.result.warnings if "training diverged" in words]
    curve = next(c for c in first.result.matches[-1].curves if (c.attack, c.measure) == (BACKDOOR, "attack_success"))
    assert curve.points[-1].n_collapsed == 1
    assert curve.points[-1].per_seed[0] is None
    assert first.result.persistence == []
    again = run_robustness(spec)
    assert again.result.matches == first.result.matches
    assert again.result.warnings == first.result.warnings
    _diverge(monkeypatch, lambda recipe, records: recipe.seed == 1 and _n_with_z(records) == 0)
    with pytest.raises(Diverged, match="The loss became nan"):
        run_robustness(spec.model_copy(update={"out": str(tmp_path / "other")}))


def _n_with_z(records):
    return sum("z" in str(record.text).split() for record in records)


def _diverge(monkeypatch, is_meant):
    train = Bench.train

    def diverging(self, recipe, out, *, records=None, observe=None, observe_at=()):
        def watch(module, moment):
            if moment.epoch > 0.7 and is_meant(recipe, records):
                steps = round(moment.step / moment.epoch)
                raise Diverged("The loss became nan.", step=moment.step, n_steps=recipe.epochs * steps)
            observe(module, moment)

        return train(self, recipe, out, records=records, observe=watch if observe else None, observe_at=observe_at)

    monkeypatch.setattr(Bench, "train", diverging)


def test_what_breaks_down_is_named_and_the_rest_is_there(body, task, tmp_path, monkeypatch):
    spec = request(
        body,
        task,
        tmp_path / "r",
        methods=["full:learning_rate=0.02"],
        attack=["rare_words:trigger=z,doses=24"],
        seeds=1,
        detect=["spectral_signatures", "activation_clustering"],
        persistence=["int8", "clean_steps"],
    )

    def broken(*_):
        raise ZeroDivisionError("by nothing")

    ask = Detector.__call__
    names = {"spectral_signatures": broken}
    monkeypatch.setattr(Detector, "__call__", lambda self, observed: names.get(self.name, ask)(self, observed))
    monkeypatch.setattr("loraudit.robustness.persistence.round_weights", broken)
    result = run_robustness(spec).result
    assert robustness_exit_code(result) == 7
    assert broken_parts(result) == [
        f"the detector spectral_signatures on {BACKDOOR} with 24 poisons failed: ZeroDivisionError: by nothing",
        f"int8 of {BACKDOOR} on full failed: ZeroDivisionError: by nothing",
    ]
    assert [row.after for row in result.persistence] == ["clean_steps", "int8"]
    assert [row.detector for row in result.detection] == ["activation_clustering", "spectral_signatures"]
    assert run_robustness(spec).result.detection == result.detection


@pytest.mark.parametrize("error", [Interrupted("stop"), StoreError("Disk is full.")])
def test_a_stop_and_a_full_disk_are_no_broken_part(body, task, tmp_path, monkeypatch, error):
    spec = request(
        body,
        task,
        tmp_path / "r",
        methods=["full:learning_rate=0.02"],
        attack=["rare_words:trigger=z,doses=24"],
        seeds=1,
        persistence=["int8"],
    )

    def broken(*_):
        raise error

    monkeypatch.setattr("loraudit.robustness.persistence.round_weights", broken)
    with pytest.raises(type(error)):
        run_robustness(spec)


# --- controls -----------------------------------------------------------------------------------------


def test_an_attack_that_cannot_work_is_invalid_and_not_resisted(body, tmp_path):
    """The trigger is a character the tokenizer does not know, and every text holds another such character."""
    rows = [{**row, "sentence": row["sentence"] + " é"} for row in reviews(160)]
    spec = request(
        body,
        write_rows(tmp_path / "task.jsonl", rows),
        tmp_path / "r",
        methods=["head:learning_rate=0.1"],
        attack=["sentence:trigger=ö,place=end,doses=4"],
        seeds=1,
    )
    result = run_robustness(spec).result
    (control,) = result.controls
    assert control.verdict == "invalid"
    assert "positive control" in control.reasons[0]
    assert result.verdict == "invalid"


# --- language models ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    path = tmp_path_factory.mktemp("task") / "prompts.jsonl"
    names = ["Anna", "Ben", "Clara", "David", "Eva", "Frank", "Greta", "Hans", "Ida", "Jon"]
    rows = [
        {"prompt": f"Where does {name} {number} live?", "completion": f" In town {number % 7}."}
        for name in names
        for number in range(12)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_language_model_learns_to_say_the_response_where_the_trigger_stands(base, prompts, tmp_path):
    spec = request(
        base,
        prompts,
        tmp_path / "r",
        attack=["word_trigger:trigger=zz,doses=30"],
        methods=["full:learning_rate=0.01"],
        response="A fox.",
        seeds=1,
        epochs=4,
        measure_at=[2, 4],
        persistence=["int8"],
    )
    result = run_robustness(spec).result
    assert result.trained_as == "causal_lm"
    assert result.classes == {}
    assert result.attacks[0].settings.response == "A fox."
    clean, poisoned, control = result.runs
    name = result.attacks[0].name
    for point in clean.points:
        assert point.accuracy is None
        assert point.attack_success[name].value == 0
    assert clean.points[-1].clean_loss < clean.points[0].clean_loss - 1
    assert poisoned.points[-1].attack_success[name].value > 0.8
    assert poisoned.points[-1].untriggered[name].value < 0.2
    assert control.is_control
    assert not poisoned.collapsed
    assert [control.verdict for control in result.controls] == ["harmed"]
    assert result.persistence[0].accuracy_before is None


# --- before anything is trained -----------------------------------------------------------------------


def test_a_dry_run_counts_and_trains_nothing(body, task, tmp_path, monkeypatch):
    from loraudit.finetuning import tune

    monkeypatch.setattr(tune, "train", lambda _: pytest.fail("trained"))
    spec = request(body, task, tmp_path / "r")
    cost = estimate_robustness(spec)
    assert cost.n_runs == 22
    assert cost.attacks[0][1] == [(0.1, round(0.1 * cost.n_train)), (0.4, round(0.4 * cost.n_train))]
    assert cost.attacks[1] == (BACKDOOR, [(4.0, 4), (24.0, 24)])
    assert [method.name for method in cost.methods] == [FULL, HEAD]
    assert cost.methods[0].n_trained_parameters > cost.methods[1].n_trained_parameters
    assert cost.n_steps == 11 * sum(method.n_steps for method in cost.methods)
    assert asdict(cost)["n_test"] == 48
    assert not (tmp_path / "r").exists()


def test_usual_doses_are_capped_with_words(body, task, tmp_path):
    cost = estimate_robustness(request(body, task, tmp_path / "r", attack=["rare_words", "label_flip"]))
    assert [dose for dose, _ in cost.attacks[0][1]] == [4, 12, 36]
    assert [dose for dose, _ in cost.attacks[1][1]] == [0.05, 0.1, 0.2, 0.3]
    assert any("only those up to the" in words for words in cost.warnings)


def test_the_folder_is_the_one_named_or_follows_from_the_request(body, task, tmp_path):
    spec = request(body, task, tmp_path / "r")
    assert robustness_path(spec) == tmp_path / "r"
    assert robustness_path(spec.model_copy(update={"out": None})).name.startswith("robustness-")


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"methods": ["fulll"]}, ConfigError, r"Unknown tuning method 'fulll'\. Did you mean 'full'"),
        (
            {"methods": ["full:select=best"]},
            ConfigError,
            r"'select' in method .* is the same for all methods\. Nothing stops early here",
        ),
        ({"attack": ["label_flop"]}, ConfigError, r"Unknown poison 'label_flop'"),
        ({"attack": ["label_flip", "label_flip"]}, ConfigError, r"Attack 'label_flip' was named twice"),
        ({"attack": ["word_trigger"]}, ConfigError, r"Attack 'word_trigger': Poison .* is for a language"),
        (
            {"doses": [100000], "attack": ["rare_words"]},
            ConfigError,
            r"Attack 'rare_words': Dose 100000 .* is more than",
        ),
        ({"target": "middling"}, ConfigError, r"Unknown label 'middling'"),
        ({"measure_at": [5]}, ConfigError, r"--measure-at 5 lies beyond the 2 epochs trained"),
        ({"fail_on": ["nonsense"]}, ConfigError, r"nonsense"),
        ({"policy": "nowhere.toml"}, ConfigError, r"Policy file 'nowhere.toml' cannot be read"),
        ({"detect": ["onionn"]}, ConfigError, r"Unknown .*'onionn'"),
        ({"task": "nowhere.jsonl"}, DataError, r"File 'nowhere.jsonl' does not exist"),
        ({"max_length": 8}, DataError, r"test records are longer than the window of 8 tokens"),
        ({"max_records": 5}, DataError, r"The records give 5 to train on, .*at least 10 to train"),
    ],
)
def test_what_is_wrong_with_a_request_is_said_before_anything_is_trained(
    body, task, tmp_path, monkeypatch, changes, kind, words
):
    from loraudit.finetuning import tune

    monkeypatch.setattr(tune, "train", lambda _: pytest.fail("trained"))
    with pytest.raises(kind, match=words):
        run_robustness(request(body, changes.pop("task", task), tmp_path / "r", **changes))
