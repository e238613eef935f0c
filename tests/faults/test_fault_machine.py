"""Little memory, other batches, other hash seeds, locales and clocks: the numbers stay what they are."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaModel

from conftest import changed_copy
from faults.fault_process import numbers_of, result_of, starter, unit_files, wait_for
from faults.fault_small import FACTS, attack_columns, request, scores_of
from loraudit.membership import ATTACKS
from loraudit.models import load_tokenizer

NOISE = 2e-5
"""More than single precision moves a score when records are batched otherwise."""
LEARNED = {name for name, attack in ATTACKS.items() if getattr(attack, "population", "all") == "nonmembers"}
"""Attacks that learn from non-members of other folds: two equal records in different folds need not have equal scores,
and what moves the records learned from moves them all."""
NOISE_LEARNED = 3e-4


def assert_same_scores(folder: Path, expected: Path, *, but: tuple[str, ...] = (), by_line: bool = True) -> None:
    """The same scores for the same ids within the noise of batching; `but` are ids that are not compared."""
    tables = [scores_of(place).sort_by("id") for place in (folder, expected)]
    ids = tables[1].column("id").to_pylist()
    assert tables[0].column("id").to_pylist() == ids
    kept = np.array([shown not in but for shown in ids])
    for name in tables[1].column_names:
        ours, theirs = (table.column(name).to_numpy(zero_copy_only=False)[kept] for table in tables)
        if "." in name:
            continue
        if name not in FACTS:
            noise = NOISE_LEARNED if name in LEARNED else NOISE
            np.testing.assert_allclose(ours, theirs, rtol=noise, atol=noise, err_msg=name)
        elif by_line or name != "line":
            assert ours.tolist() == theirs.tolist(), name


def assert_same_numbers(folder: Path, expected: Path) -> None:
    """The same findings; noise that swaps two records moves an AUC by 1 / 3,600 at most here, as few as they are."""
    ours, theirs = (numbers_of(result_of(place)) for place in (folder, expected))
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        n_swapped = 4 if name.split(".")[0] in LEARNED else 1
        assert ours[name] == pytest.approx(value, abs=n_swapped / 3600), name


# --- row 18: memory ------------------------------------------------------------------------------------

ERRORS = {
    "torch": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    "cpu": RuntimeError("[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory"),
}


@pytest.fixture
def out_of_memory(monkeypatch):
    """Let the allocator fail wherever a question about the ids of a forward pass is answered with yes."""
    forward = LlamaModel.forward

    def arrange(fails, error="torch"):
        def limited(self, input_ids=None, **more):
            if fails(input_ids):
                raise ERRORS[error]
            return forward(self, input_ids=input_ids, **more)

        monkeypatch.setattr(LlamaModel, "forward", limited)

    return arrange


@pytest.mark.parametrize("error", ERRORS)
def test_a_first_batch_that_does_not_fit_is_halved_until_it_does(
    error, command, words, undisturbed, out_of_memory, tmp_path
):
    passed = []

    def fails(ids):
        passed.append(ids.numel())
        return ids.numel() > 300

    out_of_memory(fails, error)
    code, _, err = command(*words)
    assert code == 0, err
    assert max(passed) > 1200
    assert result_of(tmp_path)["scoring"]["out_of_memory_backoffs"] >= 3
    assert set(scores_of(tmp_path).column("status").to_pylist()) == {"ok"}
    assert_same_scores(tmp_path, undisturbed)
    assert_same_numbers(tmp_path, undisturbed)


@pytest.mark.parametrize("error", ERRORS)
def test_memory_that_runs_out_once_in_the_middle_costs_one_batch(
    error, command, words, undisturbed, out_of_memory, tmp_path
):
    passes = iter(range(10_000))
    out_of_memory(lambda _: next(passes) == 20, error)
    code, _, err = command(*words, "--batch-tokens", 512)
    assert code == 0, err
    assert next(passes) > 22
    assert result_of(tmp_path)["scoring"]["out_of_memory_backoffs"] == 1
    assert_same_scores(tmp_path, undisturbed)
    assert_same_numbers(tmp_path, undisturbed)


def first_ids(base, *lines: int) -> torch.Tensor:
    """[N, 16] how these lines of the members begin."""
    texts = [json.loads(line)["text"] for line in Path("m.jsonl").read_text("utf-8").splitlines()]
    return torch.tensor([load_tokenizer(base)(texts[line - 1])["input_ids"][:16] for line in lines])


def holds(rows: torch.Tensor):
    """Whether a forward pass holds one of these rows."""
    return lambda ids: any(torch.equal(ours[:16], row) for ours in ids for row in rows)


def shown_ids_of(folder: Path, *lines: int) -> tuple[str, ...]:
    rows = scores_of(folder).to_pylist()
    return tuple(row["id"] for row in rows if row["is_member"] and row["line"] in lines)


def test_a_record_that_never_fits_is_set_aside_and_counted(command, words, base, undisturbed, out_of_memory, tmp_path):
    out_of_memory(holds(first_ids(base, 7)))
    code, out, err = command(*words)
    assert code == 0, err  # 1 of 120 is less than 1 %
    assert "1 record has no score: 1 out_of_memory." in out
    result = result_of(tmp_path)
    assert result["members"]["status"] == {"ok": 59, "out_of_memory": 1}
    assert result["nonmembers"]["status"] == {"ok": 60}
    assert "1 record has no score: 1 out_of_memory." in result["warnings"]
    left_out = shown_ids_of(undisturbed, 7)
    (row,) = (row for row in scores_of(tmp_path).to_pylist() if row["id"] in left_out)
    assert row["status"] == "out_of_memory"
    assert all(np.isnan(row[name]) for name in row if name not in FACTS and "." not in name)
    assert_same_scores(tmp_path, undisturbed, but=left_out)


def test_more_than_one_record_in_a_hundred_that_do_not_fit_make_the_run_partial(
    command, words, base, out_of_memory, tmp_path
):
    out_of_memory(holds(first_ids(base, 7, 9)))
    code, _, err = command(*words)
    assert code == 7, err
    assert result_of(tmp_path)["members"]["status"] == {"ok": 58, "out_of_memory": 2}
    assert (tmp_path / "run" / "report.html").exists()


def test_memory_that_is_gone_before_the_first_record_is_the_fault_of_the_machine(command, words, out_of_memory):
    out_of_memory(lambda _: True)
    code, _, err = command(*words)
    assert code == 5
    assert "leaves no memory on cpu" in err
    assert not Path("run/result.json").exists()


def test_a_record_that_did_not_fit_is_tried_again_by_the_next_run(
    command, words, base, undisturbed, out_of_memory, monkeypatch, tmp_path
):
    """As on a device that somebody else was using, or on a larger one."""
    with monkeypatch.context() as during:
        forward = LlamaModel.forward
        out_of_memory(holds(first_ids(base, 7)))
        assert command(*words)[0] == 0
        during.setattr(LlamaModel, "forward", forward)
        assert command(*words)[0] == 0
    assert result_of(tmp_path)["members"]["status"] == {"ok": 60}
    assert_same_scores(tmp_path, undisturbed)


# --- row 19: other batches, other order ----------------------------------------------------------------


def killed_half_way(words, folder: Path) -> None:
    """Leave the evidence on some of the records."""
    hold = folder / "hold"
    process = starter().start(folder, *words, "--batch-tokens", 128, hold=[str(hold), 40])
    wait_for(lambda: hold.exists() or process.poll() is not None)
    process.send(signal.SIGKILL)
    assert process.finish()[0] == -signal.SIGKILL
    hold.unlink()
    assert unit_files(folder)


def test_a_run_goes_on_with_another_batch_size_within_the_noise_of_batching(words, undisturbed, tmp_path):
    killed_half_way(words, tmp_path)
    code, _, err = starter().run(tmp_path, *words, "--batch-tokens", 1000)
    assert code == 0, err
    scoring, expected = (result_of(folder)["scoring"] for folder in (tmp_path, undisturbed))
    assert 0 < scoring["tokens"] < expected["tokens"]
    assert_same_scores(tmp_path, undisturbed)
    assert_same_numbers(tmp_path, undisturbed)


def test_a_run_goes_on_with_its_records_in_another_order(words, undisturbed, tmp_path):
    killed_half_way(words, tmp_path)
    rng = np.random.default_rng(0)
    for name in ("m.jsonl", "n.jsonl"):
        lines = (tmp_path / name).read_text("utf-8").splitlines(keepends=True)
        (tmp_path / name).write_text("".join(lines[i] for i in rng.permutation(len(lines))), "utf-8")
    code, _, err = starter().run(tmp_path, *words)
    assert code == 0, err
    assert 0 < result_of(tmp_path)["scoring"]["tokens"] < result_of(undisturbed)["scoring"]["tokens"]
    assert scores_of(tmp_path).column("id").to_pylist() != scores_of(undisturbed).column("id").to_pylist()
    assert_same_scores(tmp_path, undisturbed, by_line=False)
    assert {name: value for name, value in numbers_of(result_of(tmp_path)).items() if name.endswith("auc.value")} == {
        name: pytest.approx(value, abs=1 / 3600)
        for name, value in numbers_of(result_of(undisturbed)).items()
        if name.endswith("auc.value")
    }


def test_the_bound_of_the_noise_of_batching_is_recorded(undisturbed):
    result = result_of(undisturbed)
    assert "noise" in json.dumps({"numerics": result["numerics"], "scoring": result["scoring"]})


def test_noise_of_batching_breaks_no_ties(full, base, texts, tmp_path):
    """Each text as member and, as a completion without a prompt, as non-member; scored in other batches."""
    texts = [text[:110] for text in texts]
    for name, rows in (
        ("m", [{"text": text} for text in texts]),
        ("n", [{"prompt": "", "completion": text} for text in texts]),
        ("o", [{"text": "Something else altogether."}]),
    ):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    words = request(full, base, store="store")
    others = [word if word != "n.jsonl" else "o.jsonl" for word in words]
    assert starter().run(tmp_path, *others, "-o", "before", "--batch-tokens", 64)[0] == 0
    assert starter().run(tmp_path, *words, "--batch-tokens", 2048)[0] == 0
    assert result_of(tmp_path)["scoring"]["records_cached"] == 120
    numbers = numbers_of(result_of(tmp_path))
    aucs = {name: v for name, v in numbers.items() if name.endswith(".auc.value") and name.split(".")[0] not in LEARNED}
    assert aucs == dict.fromkeys(aucs, pytest.approx(0.5, abs=1e-4))  # one pair in 14 400 may lie on a rounding edge
    scores = scores_of(tmp_path)
    for name in set(attack_columns(scores)) - LEARNED:
        column = scores.column(name).to_numpy()
        assert np.unique(column).size <= 122, name


# --- row 21: changed weights ---------------------------------------------------------------------------


def test_weights_changed_in_place_are_scored_again(command, base, words, tmp_path):
    found = []
    for seed in (5, 6):
        shutil.rmtree(tmp_path / "target", ignore_errors=True)
        changed_copy(base, tmp_path / "target", lambda _: True, seed=seed)
        code, _, err = command(*request("target", base))
        assert code == 0, err
        found.append((result_of(tmp_path), scores_of(tmp_path)))
    (first, first_scores), (second, second_scores) = found
    assert second["scoring"]["records_scored"] == 120
    assert first["scoring"]["tokens"] == 2 * second["scoring"]["tokens"]  # the base is known
    assert first["target"]["fingerprint"] != second["target"]["fingerprint"]
    assert first["reference"] == second["reference"]
    assert first["spec_hash"] == second["spec_hash"]
    for name in ("loss", "error_zone", "reference_difference"):
        assert (first_scores.column(name).to_numpy() != second_scores.column(name).to_numpy()).mean() > 0.9
    assert numbers_of(first) != numbers_of(second)
