"""Training that is killed, stopped, shared, starved of disk or fed nonsense loses what it must and never the truth."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
import socket
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import changed_copy
from faults.fault_process import wait_for
from faults.tuning_process import tuner
from loraudit.errors import ModelError, StoreError
from loraudit.finetuning import finetune, read_trained
from loraudit.spec import Recipe
from small_tuning import Crash, CrashAt, contents, rows

NOBODY = 65534
RECIPES: dict[str, dict[str, Any]] = {
    "full": {"method": "full", "epochs": 2, "batch_size": 2, "learning_rate": 3e-3, "checkpoints": 1},
    "lora": {
        "method": "lora", "rank": 2, "epochs": 3, "batch_size": 4, "learning_rate": 1e-2, "dropout": 0.1,
        "select": "best", "targets": ["q_proj", "v_proj"],
    },
}  # fmt: skip


@dataclasses.dataclass
class Tuning:
    """One request and what it gives when nothing happens to it.

    Attributes:
        request: For `tuner()`.
        folder: Working folder of the undisturbed run.
        seconds: That run took.
        n_steps: Of that run.
        n_events: Things it did to files.
    """

    request: dict[str, Any]
    folder: Path
    seconds: float
    n_steps: int
    n_events: int

    def assert_undisturbed(self, folder: Path, *, but_for: tuple[str, ...] = ()) -> None:
        """The run in `folder` ended as the undisturbed one did, but for files whose path begins so."""
        ours, expected = folder / "out", self.folder / "out"
        found = {name: content for name, content in contents(ours).items() if not name.startswith(but_for)}
        assert found == contents(expected)
        facts = [json.loads((out / "loraudit_recipe.json").read_text("utf-8")) for out in (ours, expected)]
        assert facts[0] == facts[1]
        # What a kill leaves half written begins with a dot and is nobody's.
        names = [
            {str(p.relative_to(out)) for p in out.rglob("*") if not p.name.startswith(".")} for out in (ours, expected)
        ]
        assert {name for name in names[0] if not name.startswith(but_for)} == names[1]


LEFT_BEHIND = ("training/chosen", "training/state.safetensors", "training/lock.json")
"""What a run removes when its result is complete already."""


_RUNS: dict[str, Tuning] = {}


@pytest.fixture(params=RECIPES)
def tuning(request, base, texts, tmp_path_factory) -> Tuning:
    return undisturbed(request.param, base, texts, tmp_path_factory)


@pytest.fixture
def full_tuning(base, texts, tmp_path_factory) -> Tuning:
    return undisturbed("full", base, texts, tmp_path_factory)


@pytest.fixture
def lora_tuning(base, texts, tmp_path_factory) -> Tuning:
    return undisturbed("lora", base, texts, tmp_path_factory)


def undisturbed(name, base, texts, tmp_path_factory) -> Tuning:
    """Done once for all tests of this process."""
    if name not in _RUNS:
        folder = tmp_path_factory.mktemp(f"undisturbed-{name}")
        short = [" ".join(text.split()[:6]) for text in texts]
        content = {
            "base": str(base),
            "records": short[:8],
            "validation": short[8:11],
            "recipe": RECIPES[name],
            "seconds_between_states": 0,
        }
        tuner()  # so that its start is not part of the time
        began = time.monotonic()
        code, err = tuner().tune(folder, content, events=str(folder / "events"), log=str(folder / "log"))
        assert code == 0, err
        seconds = time.monotonic() - began
        n_steps = (folder / "log").read_text("utf-8").count("step ")
        n_events = len((folder / "events").read_text("utf-8").splitlines())
        _RUNS[name] = Tuning(content, folder, seconds, n_steps, n_events)
    return _RUNS[name]


@pytest.fixture
def held(full_tuning, tmp_path):
    """A run that waits behind its third step until the file `hold` is removed."""
    hold = tmp_path / "hold"
    process = tuner().begin(tmp_path, full_tuning.request, hold=[str(hold), 3], log=str(tmp_path / "log"))
    wait_for(lambda: hold.exists() or process.poll() is not None)
    assert process.poll() is None, process.err.read_text("utf-8")
    yield process, hold
    hold.unlink(missing_ok=True)
    process.send(signal.SIGKILL)
    process.finish()


def steps_done(log: Path) -> list[int]:
    """Steps as they were told, in all runs of a folder; where one went on, it first tells where it stood."""
    lines = log.read_text("utf-8").splitlines() if log.exists() else []
    return [int(line.split()[1]) for line in lines if line.startswith("step ")]


def resumed_at(log: Path) -> list[int]:
    return [int(number) for number in re.findall(r"Going on after step (\d+) of", log.read_text("utf-8"))]


# --- row 1: killed -------------------------------------------------------------------------------------


REMOVING_A_PART = "os.remove /training/exposure-"


def check_kill(tuning: Tuning, folder: Path, **how: Any) -> bool:
    """Kill one run, and see that the next one goes on to the end; whether it was in time."""
    log = folder / "log"
    process = tuner().begin(folder, tuning.request, log=str(log), **how.get("at", {}))
    if "after" in how:
        time.sleep(how["after"])
        process.send(signal.SIGKILL)
    code, _, err = process.finish()
    assert code in {0, -signal.SIGKILL}, err
    done = max(steps_done(log), default=0)
    was_complete = (folder / "out" / "loraudit_recipe.json").exists()
    log.unlink(missing_ok=True)
    again, err = tuner().tune(folder, tuning.request, log=str(log))
    assert again == 0, err
    tuning.assert_undisturbed(folder, but_for=LEFT_BEHIND if was_complete else ())
    if not was_complete:
        went_on = resumed_at(log) if log.exists() else []
        # A state is written after every step: no more than one is ever done twice.
        assert done - (went_on[0] if went_on else 0) <= 1
        assert max(steps_done(log)) == tuning.n_steps
    return code != 0


def test_training_killed_at_random_moments_ends_with_the_same_weights_and_log(tuning, tmp_path):
    rng = np.random.default_rng(8)
    events = (tuning.folder / "events").read_text("utf-8").splitlines()
    # From the first thing written on; the parts of the log have a test of their own.
    moments = [n for n, event in enumerate(events, start=1) if n > 12 and not event.startswith(REMOVING_A_PART)]
    n_killed = sum(
        check_kill(tuning, tmp_path / f"event-{n}", at={"die_at": int(n)})
        for n in rng.choice(moments, size=4, replace=False)
    )
    n_killed += sum(
        check_kill(tuning, tmp_path / f"clock-{n}", after=rng.uniform(0.2, 0.9) * tuning.seconds) for n in range(2)
    )
    assert n_killed >= 4


@pytest.mark.slow
def test_training_killed_at_whatever_it_does_to_a_file_ends_with_the_same_weights_and_log(tuning, tmp_path):
    failed = []
    for n in range(1, tuning.n_events + 1):
        folder = tmp_path / str(n)
        try:
            assert check_kill(tuning, folder, at={"die_at": n, "events": str(folder / "events")})
        except AssertionError as error:
            failed.append((n, (folder / "events").read_text("utf-8").splitlines()[-1], str(error)[:200]))
        shutil.rmtree(folder, ignore_errors=True)
    # While the parts of the log are removed once they are joined; see the test below.
    assert [one for one in failed if not one[1].startswith(REMOVING_A_PART)] == []


def test_a_kill_while_the_parts_of_the_log_are_removed_loses_none_of_it(lora_tuning, tmp_path):
    assert check_kill(lora_tuning, tmp_path, at={"die_on": ["os.remove", "exposure-", 2]})


@pytest.mark.parametrize("at", [["os.remove", "state.safetensors", 0], ["os.rmdir", "training/chosen", 0]])
def test_a_kill_behind_the_last_file_leaves_no_second_copy_of_the_weights(at, lora_tuning, tmp_path):
    assert check_kill(lora_tuning, tmp_path, at={"die_on": at})
    lora_tuning.assert_undisturbed(tmp_path)


def test_what_a_killed_run_had_half_written_is_removed_by_the_next(lora_tuning, tmp_path):
    assert check_kill(lora_tuning, tmp_path, at={"die_on": ["os.rename", ".state.safetensors", 0]})
    assert list((tmp_path / "out").rglob("*.tmp")) == []


def test_rows_of_the_log_beyond_the_last_state_are_not_counted_twice(lora_tuning, tmp_path):
    """Killed behind a part of the log and before its state; the next run ends its parts at other steps."""
    code, err = tuner().tune(tmp_path, lora_tuning.request, die_on=["os.rename", ".state.safetensors", 2])
    assert code == -signal.SIGKILL, err
    assert len(list((tmp_path / "out" / "training").glob("exposure-*.part"))) == 3
    assert tuner().tune(tmp_path, {**lora_tuning.request, "seconds_between_states": 1000.0})[0] == 0
    lora_tuning.assert_undisturbed(tmp_path)


def test_a_run_killed_again_and_again_gets_through(lora_tuning, tmp_path):
    """Each time it gets one step further, and no step's random numbers depend on those before."""
    for n in range(3):
        code, err = tuner().tune(tmp_path, lora_tuning.request, die_on=["os.rename", ".exposure-", 1])
        assert code == -signal.SIGKILL, err
        assert len(list((tmp_path / "out" / "training").glob("exposure-*.part"))) == n + 1
    assert tuner().tune(tmp_path, lora_tuning.request)[0] == 0
    lora_tuning.assert_undisturbed(tmp_path)


# --- row 2: asked to stop ------------------------------------------------------------------------------


def test_training_asked_to_stop_finishes_its_step_and_keeps_it(full_tuning, held, tmp_path):
    process, hold = held
    process.send(signal.SIGTERM)
    time.sleep(0.05)
    assert process.poll() is None, "the step was not finished"
    hold.unlink()
    code, _, err = process.finish()
    assert code == 130, err
    assert steps_done(tmp_path / "log") == [1, 2, 3]
    out = tmp_path / "out"
    assert read_trained(out) is None
    assert not list(out.glob("*.safetensors"))
    assert not (out / "training" / "lock.json").exists()
    (tmp_path / "log").unlink()
    assert tuner().tune(tmp_path, full_tuning.request, log=str(tmp_path / "log"))[0] == 0
    assert resumed_at(tmp_path / "log") == [3]
    full_tuning.assert_undisturbed(tmp_path)


# --- row 3: a full disk, a folder that is read-only or gone ----------------------------------------------


def sizes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}


def assert_nothing_complete(folder: Path) -> None:
    assert read_trained(folder / "out") is None
    assert not (folder / "out" / "loraudit_recipe.json").exists()
    assert not (folder / "out" / "training" / "lock.json").exists()
    assert list(folder.rglob("*.tmp")) == []
    assert list(folder.rglob("*.unfinished")) == []


def test_a_disk_too_full_for_a_state_names_it_and_its_bytes(full_tuning, tmp_path):
    """A state holds the weights three times, so it is the first that does not fit."""
    limit = 2 * sizes(full_tuning.folder / "out")["model.safetensors"]
    code, err = tuner().tune(tmp_path, full_tuning.request, largest_file=limit)
    assert code == 5, err
    assert re.search(
        r"^StoreError: 'out/training/state\.safetensors' \([\d,]+ bytes\) cannot be written: File too large\.", err
    )
    assert_nothing_complete(tmp_path)
    assert tuner().tune(tmp_path, full_tuning.request)[0] == 0
    full_tuning.assert_undisturbed(tmp_path)


def test_a_disk_too_full_for_a_checkpoint_names_it_and_its_bytes(full_tuning, tmp_path):
    limit = sizes(full_tuning.folder / "out")["model.safetensors"] - 1
    late = {**full_tuning.request, "seconds_between_states": 1000.0}
    code, err = tuner().tune(tmp_path, late, largest_file=limit)
    assert code == 5, err
    where = r"out/training/checkpoints/step-000004"
    assert re.search(rf"^StoreError: The model cannot be saved to '{where}' \(about [\d,]+ bytes\): .*--out", err)
    assert_nothing_complete(tmp_path)
    assert not (tmp_path / where).exists()
    assert tuner().tune(tmp_path, full_tuning.request)[0] == 0
    full_tuning.assert_undisturbed(tmp_path)


def test_a_disk_too_full_for_the_tokenizer_beside_the_weights_names_the_folder(lora_tuning, tmp_path):
    out = sizes(lora_tuning.folder / "out")
    few = {**lora_tuning.request, "recipe": {**lora_tuning.request["recipe"], "rank": 1}}
    assert out["tokenizer.json"] > 3 * out["adapter_model.safetensors"] / 2, "the state is larger than the tokenizer"
    code, err = tuner().tune(tmp_path, few, largest_file=out["tokenizer.json"] - 1)
    assert code == 5, err
    assert re.search(r"^StoreError: The model cannot be saved to 'out/training/chosen' \(about [\d,]+ bytes\)", err)
    assert_nothing_complete(tmp_path)


def test_a_final_model_that_cannot_be_saved_or_copied_is_not_marked_complete_and_the_rerun_goes_on(
    lora_tuning, tmp_path
):
    training = tmp_path / "out" / "training"
    training.mkdir(parents=True)
    (training / "chosen").write_text("in the way")
    code, err = tuner().tune(tmp_path, lora_tuning.request)
    assert code == 5, err
    assert re.search(r"^StoreError: The model cannot be saved to 'out/training/chosen' .*: Not a directory\.", err)
    assert_nothing_complete(tmp_path)
    (training / "chosen").unlink()
    (tmp_path / "out" / "adapter_model.safetensors").mkdir()
    code, err = tuner().tune(tmp_path, lora_tuning.request)
    assert code == 5, err
    assert re.search(r"^StoreError: The model cannot be copied to 'out': Is a directory\. .*goes on from here", err)
    assert_nothing_complete(tmp_path)
    (tmp_path / "out" / "adapter_model.safetensors").rmdir()
    log = tmp_path / "log"
    assert tuner().tune(tmp_path, lora_tuning.request, log=str(log))[0] == 0
    assert resumed_at(log) == [lora_tuning.n_steps], "all was done again"
    lora_tuning.assert_undisturbed(tmp_path)


def test_a_folder_that_vanishes_while_training_is_an_error_that_names_it(full_tuning, held, tmp_path):
    process, hold = held
    shutil.rmtree(tmp_path / "out")
    hold.unlink()
    code, _, err = process.finish()
    assert code == 5, err
    assert re.search(r"^StoreError: 'out/training/[^']*' \([\d,]+ bytes\) cannot be written: No such file", err)
    assert tuner().tune(tmp_path, full_tuning.request)[0] == 0
    full_tuning.assert_undisturbed(tmp_path)


@pytest.mark.parametrize("mode", ["out", "training"])
def test_a_read_only_folder_is_an_error_that_names_it(mode, lora_tuning, base):
    with tempfile.TemporaryDirectory() as name:  # one that other users may enter
        folder = Path(name)
        shutil.copytree(base, folder / "base")
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        (folder / "out" / "training").mkdir(parents=True)
        for path in ("out", "out/training"):
            (folder / path).chmod(0o555 if path.endswith(mode) else 0o777)
        asked = {**lora_tuning.request, "base": str(folder / "base")}
        code, err = tuner().tune(folder, asked, user=NOBODY if os.geteuid() == 0 else None)
        (folder / "out").chmod(0o777)
        (folder / "out" / "training").chmod(0o777)
    assert code == 5, err
    assert re.search(rf"^StoreError: 'out{'/training' if mode == 'training' else ''}' cannot be written: Perm", err)


def test_a_folder_that_cannot_be_made_is_found_before_the_model_is_loaded(base, texts, tmp_path):
    def blank(name):
        return name == "lm_head.weight"

    damaged = changed_copy(base, tmp_path / "damaged", blank, scale=float("nan"))
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be written"):
        finetune(str(damaged), rows(texts[:4]), Recipe(method="full"), tmp_path / "file" / "below")


# --- row 4: a damaged state ----------------------------------------------------------------------------


@pytest.fixture
def stopped(base, texts, tmp_path):
    """What `finetune` was asked, its folder with a state after the third step, and what it ends with."""
    asked = (str(base), rows(texts[:6]), Recipe(method="full", epochs=2, batch_size=2, learning_rate=3e-3))
    finetune(*asked, tmp_path / "whole")
    with pytest.raises(Crash):
        finetune(*asked, tmp_path / "out", progress=CrashAt(3), seconds_between_states=0)
    return asked, tmp_path / "out", contents(tmp_path / "whole")


@pytest.mark.parametrize("left", [0, 5, 100, 0.5, -1])
def test_a_state_that_was_cut_short_is_begun_again_from_the_start(left, stopped):
    asked, out, expected = stopped
    state = out / "training" / "state.safetensors"
    content = state.read_bytes()
    state.write_bytes(content[: int(left * len(content)) if isinstance(left, float) else left])
    finetune(*asked, out)
    assert contents(out) == expected


def test_a_state_with_a_bit_flipped_is_not_gone_on_from(stopped):
    asked, out, expected = stopped
    state = out / "training" / "state.safetensors"
    content = bytearray(state.read_bytes())
    content[-(len(content) // 4)] ^= 0x40
    state.write_bytes(bytes(content))
    finetune(*asked, out)
    assert contents(out) == expected


@pytest.mark.parametrize("position", [{}, [], {"identity": None, "step": 1}])
def test_a_state_of_another_version_is_begun_again_from_the_start(position, stopped):
    from safetensors.torch import save_file

    asked, out, expected = stopped
    if isinstance(position, dict) and position:
        from loraudit.finetuning.state import read_state

        position["identity"] = read_state(out / "training").position["identity"]
    save_file({"x": torch.zeros(1)}, out / "training" / "state.safetensors", {"position": json.dumps(position)})
    finetune(*asked, out)
    assert contents(out) == expected


@pytest.mark.parametrize("part", [0, 1])
def test_a_state_whose_log_has_lost_a_part_is_begun_again_from_the_start(part, stopped):
    asked, out, expected = stopped
    sorted((out / "training").glob("exposure-*.part"))[part].unlink()
    finetune(*asked, out)
    assert contents(out) == expected


# --- row 5: two runs -----------------------------------------------------------------------------------


def test_a_second_run_on_a_folder_that_is_being_trained_into_stops_and_disturbs_nothing(full_tuning, held, tmp_path):
    process, hold = held
    before = contents(tmp_path / "out")
    code, err = tuner().tune(tmp_path, full_tuning.request)
    assert code == 5, err
    assert re.search(
        rf"^InUse: Run folder 'out/training' is in use by process {process.pid} on "
        rf"{re.escape(socket.gethostname())}\.",
        err,
    )
    assert contents(tmp_path / "out") == before
    hold.unlink()
    code, _, err = process.finish()
    assert code == 0, err
    full_tuning.assert_undisturbed(tmp_path)


def test_the_lock_of_a_killed_training_is_taken_over(full_tuning, held, tmp_path):
    process, _ = held
    process.send(signal.SIGKILL)
    assert process.finish()[0] == -signal.SIGKILL
    assert json.loads((tmp_path / "out" / "training" / "lock.json").read_text("utf-8"))["pid"] == process.pid
    assert tuner().tune(tmp_path, full_tuning.request)[0] == 0
    full_tuning.assert_undisturbed(tmp_path)


def test_a_finished_folder_asked_for_again_is_read_and_not_trained_into(lora_tuning, tmp_path):
    shutil.copytree(lora_tuning.folder / "out", tmp_path / "out")
    log, events = tmp_path / "log", tmp_path / "events"
    assert tuner().tune(tmp_path, lora_tuning.request, log=str(log), events=str(events))[0] == 0
    assert not log.exists()
    assert not events.exists() or events.read_text("utf-8") == ""
    lora_tuning.assert_undisturbed(tmp_path)


# --- row 10: what is no number -------------------------------------------------------------------------


def test_a_base_with_a_weight_that_is_no_number_is_refused_by_the_tensor_s_name(base, texts, tmp_path):
    damaged = changed_copy(base, tmp_path / "damaged", lambda name: name == "lm_head.weight", scale=float("nan"))
    with pytest.raises(ModelError, match=r"NaN or infinite values in tensor 'lm_head\.weight'"):
        finetune(str(damaged), rows(texts[:4]), Recipe(method="full"), tmp_path / "out")


def test_a_loss_that_stops_being_a_number_ends_the_run_and_completes_nothing(base, texts, tmp_path):
    recipe = Recipe(method="full", epochs=4, batch_size=2, learning_rate=1e30, max_gradient_norm=1e30)
    with pytest.raises(ModelError, match=r"The loss became (nan|inf) in step \d+ of 8\. Lower the learning rate"):
        finetune(str(base), rows(texts[:4]), recipe, tmp_path / "out", seconds_between_states=0)
    assert read_trained(tmp_path / "out") is None
    assert not list((tmp_path / "out").glob("*.safetensors"))
    assert not (tmp_path / "out" / "training" / "lock.json").exists()


def test_weights_that_the_last_step_made_infinite_are_not_a_finished_model(base, texts, tmp_path):
    recipe = Recipe(method="full", epochs=1, batch_size=8, learning_rate=1e39)
    with pytest.raises(ModelError):
        finetune(str(base), rows(texts[:4]), recipe, tmp_path / "out")
