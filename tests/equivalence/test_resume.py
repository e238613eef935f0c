"""Scoring that was stopped, killed, damaged or short of memory ends with the numbers of an undisturbed run."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from conftest import CONTEXT, changed_copy
from loraudit.data import encode, record_id
from loraudit.errors import EnvironmentFault, ModelError
from loraudit.execution import Interrupted, Silent, StopRequest
from loraudit.models import Numerics, load_tokenizer, plan_models
from loraudit.scoring import Scorer, ScoringOptions, Sequence, gather_evidence, plan_units
from loraudit.scoring.scorer import is_out_of_memory
from loraudit.store import EvidenceStore
from loraudit.types import Record

FP32 = Numerics("cpu", "fp32")
OPTIONS = ScoringOptions(["cpu"], FP32, CONTEXT, CONTEXT // 2, batch_tokens=48)
"""Units of 384 tokens, so that the records below make several."""


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture(scope="session")
def audited(texts):
    """24 records of about 50 tokens, the last of them longer than the context."""
    rows = [*(text[:90] for text in texts[:23]), texts[30]]
    return [Record(record_id(text=text), "test", line, text=text) for line, text in enumerate(rows, 1)]


@pytest.fixture
def store(tmp_path):
    return EvidenceStore(tmp_path / "store")


def gather(plan, records, store, *, options=OPTIONS, tokenizer=None, **more):
    tokenizer = tokenizer or (lambda: load_tokenizer(plan.tokenizer_folder))
    return gather_evidence(plan, records, options, store, tokenizer=tokenizer, **more)


@pytest.fixture(scope="session")
def undisturbed(request, base, audited, tmp_path_factory):
    """Evidence of a run that nothing happened to."""
    made = {}

    def get(kind):
        if kind not in made:
            plan = plan_models(str(request.getfixturevalue(kind)), base=str(base))
            made[kind] = gather(plan, audited, EvidenceStore(tmp_path_factory.mktemp("undisturbed") / "store"))
        return made[kind]

    return get


def assert_same(evidence, expected, *, tolerance=0.0):
    assert set(evidence.tables) == set(expected.tables)
    for view, table in expected.tables.items():
        ours = evidence.tables[view]
        np.testing.assert_array_equal(ours.offsets, table.offsets)
        np.testing.assert_array_equal(ours.is_audited, table.is_audited)
        np.testing.assert_array_equal(ours.n_windows, table.n_windows)
        assert list(ours.status) == list(table.status)
        for name, column in table.columns.items():
            if tolerance and column.dtype.kind == "f":
                np.testing.assert_allclose(ours.columns[name], column, rtol=tolerance, atol=tolerance, err_msg=name)
            else:
                np.testing.assert_array_equal(ours.columns[name], column, err_msg=name)


def units_of(store):
    return sorted(store.root.glob("evidence/*/*.unit"))


def hooked(plan, hook):
    """The plan with something done to every model it loads, after the model has proven itself."""
    plan.stages = [
        (views, lambda numerics, device, load=load: hook(load(numerics, device))) for views, load in plan.stages
    ]
    return plan


def no_model(plan):
    """The plan of a run that must not load anything."""

    def refuse(*_):
        raise AssertionError("a model was loaded")

    plan.stages = [(views, refuse) for views, _ in plan.stages]
    return plan


class StopAfter(Silent):
    """Asks to stop once some units are done."""

    def __init__(self, n_units):
        self.stop = StopRequest()
        self.n_left = n_units

    def advance(self, n):
        self.n_left -= 1
        if self.n_left == 0:
            self.stop.ask()


class FailAfter:
    """Breaks a model after some forward passes of its first layer."""

    def __init__(self, n_passes, error):
        self.n_left = n_passes
        self.error = error

    def __call__(self, resident):
        resident.module.get_input_embeddings().register_forward_pre_hook(lambda *_: self.count())
        return resident

    def count(self):
        self.n_left -= 1
        if self.n_left < 0:
            raise self.error


# --- stopped and started again ------------------------------------------------------------------------


def test_these_records_make_several_units(audited, base):
    lengths = [len(item.ids) for item in encode(audited, load_tokenizer(base))]
    assert len(plan_units(lengths, batch_tokens=OPTIONS.tokens_at_once)) >= 3


@pytest.mark.parametrize("n_units", [1, 2])
@pytest.mark.parametrize("kind", ["adapter", "last_layer", "full"])
def test_a_run_that_was_asked_to_stop_resumes_bit_by_bit(request, base, audited, store, undisturbed, kind, n_units):
    plan = plan_models(str(request.getfixturevalue(kind)), base=str(base))
    asked = StopAfter(n_units)
    with pytest.raises(Interrupted):
        gather(plan, audited, store, progress=asked, stop=asked.stop)
    done = len(units_of(store))
    assert done >= n_units
    evidence = gather(plan, audited, store)
    assert_same(evidence, undisturbed(kind))
    assert 0 < evidence.n_tokens < undisturbed(kind).n_tokens
    assert evidence.n_damaged_units == 0
    if kind != "full":  # both views come together: a record is complete or not begun
        assert 0 < evidence.n_cached < len(audited)
        assert evidence.n_scored + evidence.n_cached == len(audited)


def test_a_stop_asked_for_before_the_start_leaves_nothing_and_breaks_nothing(adapter, audited, store, undisturbed):
    stop = StopRequest()
    stop.ask()
    plan = plan_models(str(adapter))
    with pytest.raises(Interrupted):
        gather(plan, audited, store, stop=stop)
    assert units_of(store) == []
    assert_same(gather(plan, audited, store), undisturbed("adapter"))


@pytest.mark.parametrize("n_passes", [12, 30, 55])
def test_a_run_that_died_at_any_batch_resumes_bit_by_bit(adapter, audited, store, undisturbed, n_passes):
    plan = hooked(plan_models(str(adapter)), FailAfter(n_passes, RuntimeError("the machine caught fire")))
    with pytest.raises(RuntimeError, match="caught fire"):
        gather(plan, audited, store)
    evidence = gather(plan_models(str(adapter)), audited, store)
    assert_same(evidence, undisturbed("adapter"))


def test_a_run_on_two_devices_that_died_resumes_on_one(adapter, audited, store, undisturbed):
    two = ScoringOptions(["cpu", "cpu"], FP32, CONTEXT, CONTEXT // 2, batch_tokens=48)
    plan = hooked(plan_models(str(adapter)), FailAfter(60, RuntimeError("the machine caught fire")))
    with pytest.raises(RuntimeError, match="caught fire"):
        gather(plan, audited, store, options=two)
    assert_same(gather(plan_models(str(adapter)), audited, store), undisturbed("adapter"))


def test_a_run_resumes_with_another_batch_size_within_the_noise_of_batching(adapter, audited, store, undisturbed):
    plan = plan_models(str(adapter))
    asked = StopAfter(1)
    with pytest.raises(Interrupted):
        gather(plan, audited, store, progress=asked, stop=asked.stop)
    larger = ScoringOptions(["cpu"], FP32, CONTEXT, CONTEXT // 2, batch_tokens=500)
    evidence = gather(plan, audited, store, options=larger)
    assert evidence.n_cached > 0
    assert_same(evidence, undisturbed("adapter"), tolerance=2e-5)


# --- what is there is not done again ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["adapter", "full"])
def test_a_second_run_loads_neither_model_nor_tokenizer(request, base, audited, store, undisturbed, kind):
    folder = str(request.getfixturevalue(kind))
    gather(plan_models(folder, base=str(base)), audited, store)
    files = units_of(store)
    evidence = gather(
        no_model(plan_models(folder, base=str(base))),
        audited,
        store,
        tokenizer=lambda: pytest.fail("the tokenizer was loaded"),
    )
    assert (evidence.n_scored, evidence.n_cached, evidence.n_tokens) == (0, len(audited), 0)
    assert evidence.modes == []
    assert units_of(store) == files
    assert_same(evidence, undisturbed(kind))


def test_log_sum_exps_come_back_from_the_store_under_their_decodings(adapter, audited, store):
    options = ScoringOptions(["cpu"], FP32, CONTEXT, CONTEXT // 2, batch_tokens=48, decodings=((0, 0.5), (40, 1.0)))
    first = gather(plan_models(str(adapter)), audited[:6], store, options=options).tables["target"]
    again = gather(no_model(plan_models(str(adapter))), audited[:6], store, options=options).tables["target"]
    assert list(again.log_sum_exps) == [(0, 0.5), (40, 1.0)]
    for decoding, column in first.log_sum_exps.items():
        np.testing.assert_array_equal(again.log_sum_exps[decoding], column)
    of_top_k = again.log_sum_exps[40, 1.0]
    is_allowed = np.isfinite(of_top_k)
    assert is_allowed.any()
    assert (~is_allowed).any()
    assert (of_top_k[is_allowed] < 0).all()
    assert (of_top_k[~is_allowed] == np.inf).all()
    assert set(again.status) == {"ok"}  # a token that a decoding forbids is no failure


def test_two_devices_stop_when_asked_and_resume_bit_by_bit(adapter, audited, store, undisturbed):
    two = ScoringOptions(["cpu", "cpu"], FP32, CONTEXT, CONTEXT // 2, batch_tokens=48)
    stop = StopRequest()

    def ask_on_the_tenth_pass(resident):
        passes = iter(range(10_000))
        resident.module.get_input_embeddings().register_forward_pre_hook(
            lambda *_: stop.ask() if next(passes) == 10 else None
        )
        return resident

    with pytest.raises(Interrupted):
        gather(hooked(plan_models(str(adapter)), ask_on_the_tenth_pass), audited, store, options=two, stop=stop)
    assert_same(gather(plan_models(str(adapter)), audited, store, options=two), undisturbed("adapter"))


def test_some_of_the_records_in_any_order_are_found_again(adapter, audited, store):
    plan = plan_models(str(adapter))
    whole = gather(plan, audited, store).tables["target"]
    chosen = [17, 3, 23, 0]
    part = gather(no_model(plan), [audited[i] for i in chosen], store).tables["target"]
    assert part.n_tokens.tolist() == whole.n_tokens[chosen].tolist()
    expected = np.concatenate([whole.columns["log_prob"][whole.offsets[i] : whole.offsets[i + 1]] for i in chosen])
    np.testing.assert_array_equal(part.columns["log_prob"], expected)


def test_a_new_record_is_scored_alone(adapter, audited, store):
    plan = plan_models(str(adapter))
    gather(plan, audited[:-1], store)
    evidence = gather(plan, audited, store)
    assert (evidence.n_scored, evidence.n_cached) == (1, len(audited) - 1)


def test_the_base_is_scored_once_for_all_its_targets(head_only, last_layer, full, base, audited, store, undisturbed):
    first = gather(plan_models(str(head_only), base=str(base)), audited, store)
    for kind, folder in (("last_layer", last_layer), ("full", full)):
        evidence = gather(plan_models(str(folder), base=str(base)), audited, store)
        assert evidence.n_tokens * 2 == first.n_tokens  # the target alone
        assert_same(evidence, undisturbed(kind), tolerance=2e-5)


def test_a_tokenizer_that_was_saved_again_is_the_same_tokenizer(adapter, head_only, base, audited, store):
    """The adapter uses the base's own, the checkpoint the one that transformers wrote beside it."""
    first = gather(plan_models(str(adapter)), audited, store)
    second = gather(plan_models(str(head_only), base=str(base)), audited, store)
    assert second.n_tokens * 2 == first.n_tokens  # the base is known


def test_other_conditions_are_other_evidence(adapter, audited, store):
    plan = plan_models(str(adapter))
    gather(plan, audited[:4], store)
    for options in (
        ScoringOptions(["cpu"], FP32, CONTEXT, 20, batch_tokens=48),
        ScoringOptions(["cpu"], FP32, 40, CONTEXT // 2, batch_tokens=48),
        ScoringOptions(["cpu"], FP32, CONTEXT, CONTEXT // 2, span="all", batch_tokens=48),
        ScoringOptions(["cpu"], FP32, CONTEXT, CONTEXT // 2, append_eos=True, batch_tokens=48),
        ScoringOptions(["cpu"], FP32, CONTEXT, CONTEXT // 2, decodings=((5, 1.0),), batch_tokens=48),
        ScoringOptions(["cpu"], Numerics("cpu", "bf16"), CONTEXT, CONTEXT // 2, batch_tokens=48),
    ):
        with pytest.raises(AssertionError, match="a model was loaded"):
            gather(no_model(plan_models(str(adapter))), audited[:4], store, options=options)
    same = ScoringOptions(["cpu", "cpu"], FP32, CONTEXT, CONTEXT // 2, batch_tokens=4000)
    assert gather(no_model(plan_models(str(adapter))), audited[:4], store, options=same).n_scored == 0


def test_weights_changed_in_place_are_scored_again(base, audited, store, tmp_path):
    folder = tmp_path / "model"
    changed_copy(base, folder, lambda _: True, seed=5)
    before = gather(plan_models(str(folder)), audited, store)
    shutil.rmtree(folder)
    changed_copy(base, folder, lambda _: True, seed=6)
    plan = plan_models(str(folder))
    after = gather(plan, audited, store)
    assert after.n_scored == len(audited)
    assert after.n_cached == 0
    assert not np.array_equal(after.tables["target"].columns["log_prob"], before.tables["target"].columns["log_prob"])
    assert_same(after, gather(plan, audited, EvidenceStore(tmp_path / "fresh")))


# --- damaged files ----------------------------------------------------------------------------------------


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "a flipped bit": flip,
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:100]),
    "empty": lambda path: path.write_bytes(b""),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"more"),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_unit_alone_is_done_again(adapter, audited, store, undisturbed, how):
    plan = plan_models(str(adapter))
    gather(plan, audited, store)
    files = units_of(store)
    DAMAGE[how](files[1])
    evidence = gather(plan, audited, store)
    assert evidence.n_damaged_units == 1
    assert 0 < evidence.n_scored < len(audited)
    assert_same(evidence, undisturbed("adapter"))
    assert units_of(store) == files  # the same bytes under the same name


def test_a_unit_that_vanished_is_done_again(adapter, audited, store, undisturbed):
    plan = plan_models(str(adapter))
    gather(plan, audited, store)
    units_of(store)[0].unlink()
    evidence = gather(plan, audited, store)
    assert evidence.n_damaged_units == 0
    assert evidence.n_scored > 0
    assert_same(evidence, undisturbed("adapter"))


def test_a_folder_that_is_read_twice_holds_everything_once(adapter, audited, store):
    plan = plan_models(str(adapter))
    gather(plan, audited, store)
    folder = store.folder(OPTIONS.conditions(plan, plan.target.fingerprint))
    assert len(folder) == 0
    for _ in range(2):
        folder.refresh()
        assert len(folder) == len(audited)
    other = store.folder(OPTIONS.conditions(plan, plan.target.fingerprint))
    other.refresh()
    np.testing.assert_array_equal(
        folder.table([audited[3].id]).columns["log_prob"], other.table([audited[3].id]).columns["log_prob"]
    )


def test_what_a_killed_writer_leaves_is_ignored(adapter, audited, store, undisturbed):
    plan = plan_models(str(adapter))
    gather(plan, audited, store)
    for file in units_of(store):
        (file.parent / f".{file.name}.123.tmp").write_bytes(b"half a unit")
    assert_same(gather(no_model(plan), audited, store), undisturbed("adapter"))


# --- memory ------------------------------------------------------------------------------------------------

ERRORS = {
    "torch": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    "mps": RuntimeError("MPS backend out of memory (MPS allocated: 9.0 GB)"),
    "cpu": RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
    "python": MemoryError(),
}


def small_memory(limit, error):
    """A model that cannot take in more than `limit` tokens at a time."""

    def hook(resident):
        def check(_module, inputs):
            if inputs[0].numel() > limit:
                raise error

        resident.module.get_input_embeddings().register_forward_pre_hook(check)
        return resident

    return hook


@pytest.mark.parametrize("kind", ["adapter", "head_only", "last_layer", "full"])
def test_batches_that_do_not_fit_are_halved_until_they_do(request, base, audited, store, undisturbed, kind):
    plan = hooked(plan_models(str(request.getfixturevalue(kind)), base=str(base)), small_memory(100, ERRORS["torch"]))
    roomy = ScoringOptions(["cpu"], FP32, CONTEXT, CONTEXT // 2, batch_tokens=400)
    evidence = gather(plan, audited, store, options=roomy)
    assert evidence.n_backoffs > 0
    assert_same(evidence, undisturbed(kind), tolerance=2e-5)


@pytest.mark.parametrize("error", ERRORS)
def test_every_way_of_running_out_of_memory_is_known(adapter, audited, store, undisturbed, error):
    assert is_out_of_memory(ERRORS[error])
    plan = hooked(plan_models(str(adapter)), small_memory(200, ERRORS[error]))
    roomy = ScoringOptions(["cpu"], FP32, CONTEXT, CONTEXT // 2, batch_tokens=400)
    evidence = gather(plan, audited, store, options=roomy)
    assert evidence.n_backoffs > 0
    assert_same(evidence, undisturbed("adapter"), tolerance=2e-5)


@pytest.mark.parametrize("error", [RuntimeError("index out of range"), ValueError("out of memory"), KeyError("x")])
def test_other_errors_are_not_taken_for_it(error):
    assert not is_out_of_memory(error)


def test_the_batch_size_that_fitted_is_kept(full):
    resident = small_memory(100, ERRORS["torch"])(plan_models(str(full)).stages[0][1](FP32, "cpu"))
    scorer = Scorer(resident, batch_tokens=800)
    sequences = [Sequence(np.arange(2, 34), 1)] * 25
    first = scorer.score(sequences, ["target"])["target"]
    assert scorer.n_backoffs > 0
    assert scorer.batch_tokens <= 100
    n_backoffs = scorer.n_backoffs
    second = scorer.score(sequences, ["target"])["target"]
    assert scorer.n_backoffs == n_backoffs
    for ours, theirs in zip(first, second, strict=True):
        np.testing.assert_allclose(ours["log_prob"], theirs["log_prob"], atol=2e-5)


def test_memory_that_runs_out_between_the_views_leaves_no_trace(last_layer, base, audited, store, undisturbed):
    """The second view fails: neither the swapped tensors nor a replaced forward may stay behind."""
    n_calls = iter(range(10_000))

    def hook(resident):
        def check(*_):
            if next(n_calls) in {8, 12}:  # the first seven prove the model
                raise ERRORS["torch"]

        resident.module.model.layers[2].mlp.register_forward_pre_hook(check)
        return resident

    roomy = ScoringOptions(["cpu"], FP32, CONTEXT, CONTEXT // 2, batch_tokens=400)
    evidence = gather(hooked(plan_models(str(last_layer), base=str(base)), hook), audited, store, options=roomy)
    assert evidence.n_backoffs == 2
    assert_same(evidence, undisturbed("last_layer"), tolerance=2e-5)


def test_a_window_that_never_fits_sets_its_record_aside(adapter, audited, store, undisturbed):
    """48 tokens fit, which the longest windows exceed."""
    evidence = gather(hooked(plan_models(str(adapter)), small_memory(48, ERRORS["torch"])), audited, store)
    expected = undisturbed("adapter")
    for view, table in evidence.tables.items():
        whole = expected.tables[view]
        statuses = list(table.status)
        fits = whole.n_tokens + 1 <= 48
        assert not fits[-1]
        assert statuses == ["ok" if fit else "out_of_memory" for fit in fits]
        np.testing.assert_array_equal(table.offsets, whole.offsets)
        np.testing.assert_array_equal(table.n_windows, whole.n_windows)
        np.testing.assert_array_equal(table.is_audited, whole.is_audited)
        tokens = np.repeat(fits, whole.n_tokens)
        np.testing.assert_allclose(table.columns["log_prob"][tokens], whole.columns["log_prob"][tokens], atol=2e-5)
        for name in ("log_prob", "margin", "mean_log_prob", "var_log_prob"):
            assert np.isnan(table.columns[name][~tokens]).all()
            assert np.isfinite(table.columns[name][tokens]).all()
    assert evidence.n_backoffs > 0


def test_memory_that_is_gone_before_the_first_record_is_the_fault_of_the_environment(full, audited, store):
    plan = hooked(plan_models(str(full)), small_memory(1, ERRORS["torch"]))
    with pytest.raises(
        EnvironmentFault, match=r"leaves no memory on cpu to run even two short texts. Use a lower"
    ) as caught:
        gather(plan, audited, store)
    assert caught.value.exit_code == 5
    assert units_of(store) == []


def test_memory_that_is_gone_for_two_texts_at_once_is_no_reason_to_try_another_way(full, audited, store):
    plan = hooked(plan_models(str(full)), small_memory(40, ERRORS["torch"]))
    with pytest.raises(EnvironmentFault, match=r"leaves no memory on cpu"):
        gather(plan, audited, store)


def test_other_errors_of_the_proof_are_not_taken_for_memory(full, audited, store):
    plan = hooked(plan_models(str(full)), small_memory(1, RuntimeError("index out of range")))
    with pytest.raises(RuntimeError, match="index out of range"):
        gather(plan, audited, store)


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_memory_is_given_back_to_the_device_before_the_next_try(full, monkeypatch, kind):
    freed = []
    monkeypatch.setattr(getattr(torch, kind), "empty_cache", lambda: freed.append(kind))
    scorer = Scorer(
        small_memory(100, ERRORS["torch"])(plan_models(str(full)).stages[0][1](FP32, "cpu")), batch_tokens=200
    )
    batches = []
    score = scorer._score_batch

    def on_cpu(batch, views, *more):
        monkeypatch.setattr(scorer.resident, "device", "cpu")
        try:
            return score(batch, views, *more)
        finally:
            batches.append(batch)
            monkeypatch.setattr(scorer.resident, "device", f"{kind}:0")

    monkeypatch.setattr(scorer, "_score_batch", on_cpu)
    found = scorer.score([Sequence(np.arange(2, 42), 1)] * 4, ["target"])["target"]
    assert all(part is not None for part in found)
    assert len(freed) == scorer.n_backoffs == 1
    assert len(batches) == 3


# --- predictions that are no numbers ------------------------------------------------------------------------


def probe_ids(vocabulary):
    return set(((np.arange(48) * 7919 + 11) % vocabulary).tolist())


def broken_on(token, value):
    """A model whose hidden state of one token is no number."""

    def hook(resident):
        def damage(_module, inputs, output):
            return torch.where((inputs[0] == token)[..., None], torch.full_like(output, value), output)

        resident.module.get_input_embeddings().register_forward_hook(damage)
        return resident

    return hook


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_records_whose_logits_are_not_finite_are_set_aside_and_the_others_are_not(
    adapter, base, audited, store, undisturbed, value
):
    encoded = encode(audited, load_tokenizer(base))
    holders = {}
    for row, item in enumerate(encoded):
        for token in set(item.ids[:-1].tolist()) - probe_ids(512) - {0}:
            holders.setdefault(token, set()).add(row)
    token, rows = next((token, rows) for token, rows in sorted(holders.items()) if len(rows) == 3)
    evidence = gather(hooked(plan_models(str(adapter)), broken_on(token, value)), audited, store)
    expected = undisturbed("adapter")
    for view, table in evidence.tables.items():
        assert {row for row, status in enumerate(table.status) if status == "nonfinite"} == rows
        assert set(table.status) == {"ok", "nonfinite"}
        np.testing.assert_array_equal(table.offsets, expected.tables[view].offsets)
        fine = np.repeat([row not in rows for row in range(len(audited))], table.n_tokens)
        np.testing.assert_allclose(
            table.columns["log_prob"][fine], expected.tables[view].columns["log_prob"][fine], atol=2e-5
        )


def test_a_number_that_is_missing_outside_the_audited_span_does_no_harm(adapter, base, texts, store):
    prompt, completion = texts[0][:50], texts[1][:50]
    record = Record(record_id(prompt=prompt, completion=completion), "test", 1, prompt=prompt, completion=completion)
    item = encode([record], load_tokenizer(base))[0]
    boundary = int(np.flatnonzero(item.is_audited)[0])

    def hook(resident):
        head = resident.module.get_output_embeddings()

        def damage(_module, _inputs, output):
            if len(output) == len(item.ids) - 1 and output.ndim == 2:
                output = output.clone()
                output[: boundary - 1] = torch.nan
            return output

        head.register_forward_hook(damage)
        return resident

    assert boundary > 10
    assert len(item.ids) < CONTEXT
    table = gather(hooked(plan_models(str(adapter)), hook), [record], store).tables["target"]
    assert list(table.status) == ["ok"]
    assert np.isnan(table.columns["log_prob"][: boundary - 1]).all()
    assert np.isfinite(table.audited().columns["log_prob"]).all()


def test_a_model_that_always_says_nan_is_refused_before_the_first_record(full, audited, store):
    def hook(resident):
        resident.module.get_output_embeddings().register_forward_hook(lambda _m, _i, output: output * torch.nan)
        return resident

    with pytest.raises(ModelError, match=r"Expected a causal language model|not finite|NaN"):
        gather(hooked(plan_models(str(full)), hook), audited, store)


# --- tokens that the model does not have -----------------------------------------------------------------------


def test_a_vocabulary_smaller_than_the_tokenizer_is_refused(base, audited, store, tmp_path):
    import conftest

    conftest._llama(vocab_size=300).save_pretrained(tmp_path / "small")
    load_tokenizer(base).save_pretrained(tmp_path / "small")
    with pytest.raises(
        ModelError, match=r"The tokenizer gives token id \d+, but the model has only 300 embeddings. .* never resizes"
    ):
        gather(plan_models(str(tmp_path / "small")), audited, store)
    assert units_of(store) == []


def test_a_vocabulary_larger_than_the_tokenizer_is_no_fault(base, audited, store, tmp_path):
    import conftest

    conftest._llama(vocab_size=640).save_pretrained(tmp_path / "padded")
    load_tokenizer(base).save_pretrained(tmp_path / "padded")
    assert set(gather(plan_models(str(tmp_path / "padded")), audited[:3], store).tables["target"].status) == {"ok"}


def test_a_record_nobody_scored_is_a_key_error(store, audited):
    with pytest.raises(KeyError, match=audited[0].id):
        store.folder({"model": "none"}).table([audited[0].id])
