"""Kernels from one pass are those of per-example Jacobians; batches, padding, memory and blocks change nothing."""

import numpy as np
import pytest
import torch

from kernel_oracle import functional_jacobian, gap, jacobian, probe_rows, small_lm
from loraudit.capture import (
    class_against_rest,
    class_margin,
    draw_directions,
    kernel_parts,
    mean_log_prob,
    plan_kernels,
    sign_kernels,
    sketched_kernel,
    token_margin,
    trained_lora_kernel,
)
from loraudit.errors import DataError
from loraudit.theory import bitfit_kernel, full_kernel, head_kernel, lora_kernel
from small_classifiers import small_classifier

ROWS = probe_rows()
TOKENS = token_margin(np.arange(40, 46), np.arange(60, 66))
CASES = ("bert", "roberta", "distilbert", "gpt2", "llama", "lm_gpt2", "lm_llama", "lm_tied_llama")
HEADS = {"bert": "classifier", "roberta": "classifier", "distilbert": "classifier", "gpt2": "score", "llama": "score"}
RANKS = (1, 3, 5)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def case(name):
    """Model and f."""
    is_lm = name.startswith("lm_")
    model = small_lm(name.removeprefix("lm_")) if is_lm else small_classifier(name)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        for parameter_name, parameter in model.named_parameters():
            if parameter.ndim == 1:  # norms of ones and biases of zeros would hide what is forgotten
                parameter.add_(0.3 * torch.randn(parameter.shape))
            assert parameter_name
    return model, TOKENS if is_lm else class_margin()


def parts_of(model, functional, **options):
    options = {"device": "cpu", "ranks": RANKS, "draws": 2, "batch_size": 4} | options
    return kernel_parts(model, options.pop("rows", ROWS), functional, **options)


@pytest.mark.parametrize("name", CASES)
def test_full_tuning_is_the_jacobian_with_itself(name):
    model, functional = case(name)
    parts = parts_of(model, functional, kinds=())
    expected = functional_jacobian(model, ROWS, functional)
    assert gap(full_kernel(parts), expected @ expected.T) < 1e-5
    assert gap(jacobian(model, ROWS, functional), expected) < 1e-5
    assert all(array.dtype == np.float64 and array.flags.c_contiguous for array in parts.weights.values())


@pytest.mark.parametrize("name", CASES)
def test_biases_alone(name):
    model, functional = case(name)
    own = jacobian(model, ROWS, functional, lambda key: key.endswith("bias"))
    found = bitfit_kernel(parts_of(model, functional, kinds=()), with_head=False)
    assert not found.any() if own.size == 0 else gap(found, own @ own.T) < 1e-5


@pytest.mark.parametrize("name", [*HEADS, "lm_llama"])
def test_the_head_alone(name):
    model, functional = case(name)
    marks = {"distilbert": ("classifier", "pre_classifier")}.get(name, (HEADS.get(name, "lm_head"),))
    own = jacobian(model, ROWS, functional, lambda key: key.startswith(marks))
    assert gap(head_kernel(parts_of(model, functional, kinds=())), own @ own.T) < 1e-5


def test_a_tied_head_alone_is_untied():
    from loraudit.finetuning.heads import untie_head

    model, functional = case("lm_tied_llama")
    parts = parts_of(model, functional, kinds=())
    untie_head(model)
    own = jacobian(model, ROWS, functional, lambda key: key.startswith("lm_head"))
    assert gap(head_kernel(parts), own @ own.T) < 1e-5


def test_a_shared_weight_is_one_parameter():
    # The cross terms are large here: without them the kernel of full tuning is another.
    model, functional = case("lm_tied_llama")
    parts = parts_of(model, functional, kinds=())
    expected = jacobian(model, ROWS, functional, lambda key: key == "model.embed_tokens.weight")
    assert gap(parts.others["model.embed_tokens"], expected @ expected.T) < 1e-5
    assert "lm_head" not in parts.weights


def test_the_head_may_be_named():
    model, functional = case("bert")
    parts = parts_of(model, functional, head=["bert.pooler", "classifier"])
    own = jacobian(model, ROWS, functional, lambda key: key.startswith(("bert.pooler", "classifier")))
    assert gap(head_kernel(parts), own @ own.T) < 1e-5
    assert parts.head_kinds == {"bert.pooler.dense", "classifier"}
    assert "bert.pooler.dense" not in parts.lora


def adapted(model, *, rank, alpha, seed, variance, rslora=False, b_noise=0.0):
    """A PEFT adapter on all linear maps outside the head, with the A that a draw gives."""
    import peft
    from transformers.pytorch_utils import Conv1D

    kinds = (torch.nn.Linear, Conv1D)
    names = [key for key, part in model.named_modules() if isinstance(part, kinds)]
    chosen = [key for key in names if key not in {"lm_head", "score", "classifier"}]
    is_transposed = any(isinstance(part, Conv1D) for part in model.modules())
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules=chosen,
        use_rslora=rslora,
        lora_dropout=0.5,
        fan_in_fan_out=is_transposed,
    )
    wrapped = peft.get_peft_model(model, config).eval()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        for key, part in wrapped.named_modules():
            if key.endswith(".lora_A.default"):
                own = key.removeprefix("base_model.model.").removesuffix(".lora_A.default")
                rows = draw_directions("gaussian", rank=5, width=part.in_features, name=own, draw=1, seed=seed)
                part.weight.copy_(torch.from_numpy(rows[:rank]) * variance**0.5)
            if key.endswith(".lora_B.default"):
                part.weight.add_(b_noise * torch.randn(part.weight.shape))
    return wrapped


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "lm_gpt2", "lm_tied_llama"])
@pytest.mark.parametrize("rslora", [False, True])
def test_lora_before_its_first_step_is_a_peft_adapter(name, rslora):
    model, functional = case(name)
    parts = parts_of(model, functional, seed=9)
    wrapped = adapted(model, rank=3, alpha=8, seed=9, variance=1 / 3, rslora=rslora)
    own = jacobian(wrapped, ROWS, functional, lambda key: ".lora_" in key)
    scaling = "alpha/sqrt(r)" if rslora else "alpha/r"
    found = lora_kernel(parts, rank=3, alpha=8, variance=1 / 3, draw=1, with_head=False, scaling=scaling)
    assert gap(found, own @ own.T) < 1e-5
    assert gap(trained_lora_kernel(wrapped, ROWS, functional, device="cpu"), own @ own.T) < 1e-5


@pytest.mark.parametrize("name", ["bert", "gpt2", "lm_gpt2", "lm_tied_llama"])
@pytest.mark.parametrize("rslora", [False, True])
def test_a_trained_adapter_has_both_terms(name, rslora):
    model, functional = case(name)
    wrapped = adapted(model, rank=3, alpha=8, seed=9, variance=1.0, rslora=rslora, b_noise=0.3)
    own = jacobian(wrapped, ROWS, functional, lambda key: ".lora_" in key)
    found = trained_lora_kernel(wrapped, ROWS, functional, device="cpu", batch_size=4)
    assert gap(found, own @ own.T) < 1e-5


def test_a_trained_adapter_in_blocks_of_records():
    model, functional = case("lm_gpt2")
    wrapped = adapted(model, rank=3, alpha=8, seed=9, variance=1.0, b_noise=0.3)
    found, in_blocks = (
        trained_lora_kernel(wrapped, ROWS, functional, device="cpu", memory_bytes=memory) for memory in (2**31, 60_000)
    )
    assert gap(in_blocks, found) < 1e-5


def test_a_frozen_a_does_not_count():
    model, functional = case("llama")
    wrapped = adapted(model, rank=3, alpha=8, seed=9, variance=1.0, b_noise=0.3)
    for key, parameter in wrapped.named_parameters():
        parameter.requires_grad_(".lora_B." in key)
    own = jacobian(wrapped, ROWS, functional, lambda key: ".lora_B." in key)
    assert gap(trained_lora_kernel(wrapped, ROWS, functional, device="cpu"), own @ own.T) < 1e-5


def test_a_base_inside_peft_is_measured_as_the_adapter_leaves_it():
    model, functional = case("llama")
    wrapped = adapted(model, rank=3, alpha=8, seed=9, variance=1.0, b_noise=0.3)
    expected = jacobian(wrapped, ROWS, functional, lambda key: ".lora_" not in key)
    parts = parts_of(wrapped, functional)
    assert gap(full_kernel(parts), expected @ expected.T) < 1e-5
    assert set(parts.lora) == {kind for kind in parts.weights if kind != "score"}


@pytest.mark.parametrize("name", ["bert", "lm_gpt2", "lm_tied_llama"])
def test_batches_and_padding_change_nothing(name):
    model, functional = case(name)
    alone = parts_of(model, functional, batch_size=1)
    together = parts_of(model, functional, batch_size=6)
    for part in (full_kernel, head_kernel):
        assert gap(part(together), part(alone)) < 1e-5
    assert gap(together.values, alone.values) < 1e-5
    assert all(gap(together.lora[kind], alone.lora[kind]) < 1e-5 for kind in alone.lora)


def test_the_order_of_records_is_kept():
    model, functional = case("bert")
    order = [3, 0, 5, 1, 4, 2]
    parts, other = parts_of(model, functional), parts_of(model, functional, rows=[ROWS[i] for i in order])
    assert gap(full_kernel(other), full_kernel(parts)[np.ix_(order, order)]) < 1e-5
    assert gap(other.values, parts.values[order]) < 1e-5


@pytest.mark.parametrize("name", ["bert", "lm_gpt2", "lm_tied_llama"])
def test_chunks_of_layers_change_nothing(name):
    model, functional = case(name)
    lengths = [len(row) for row in ROWS]
    plan = plan_kernels(model, lengths, ranks=RANKS, draws=2, memory_bytes=400_000)
    assert len(plan.chunks) > 1
    assert plan.n_passes == len(plan.chunks)
    assert plan.held_bytes <= 200_000
    whole, cut = parts_of(model, functional), parts_of(model, functional, memory_bytes=400_000)
    assert gap(full_kernel(cut), full_kernel(whole)) < 1e-5
    assert all(gap(cut.lora[kind], whole.lora[kind]) < 1e-6 for kind in whole.lora)


@pytest.mark.parametrize("name", ["bert", "lm_tied_llama"])
def test_blocks_of_records_change_nothing(name):
    rows = probe_rows(1, [4, 3, 4, 3, 4, 3, 4, 3, 4, 3, 4, 3])
    model = case(name)[0]
    functional = token_margin(np.arange(12), np.arange(40, 52)) if name.startswith("lm_") else class_margin()
    lengths = [len(row) for row in rows]
    plan = plan_kernels(model, lengths, ranks=RANKS, memory_bytes=36_000)
    assert max(n_blocks for *_, n_blocks in plan.chunks) > 1
    assert plan.n_passes > len(plan.chunks)
    whole, cut = (parts_of(model, functional, rows=rows, memory_bytes=memory) for memory in (2**31, 36_000))
    assert gap(full_kernel(cut), full_kernel(whole)) < 1e-5
    assert all(gap(cut.lora[kind], whole.lora[kind]) < 1e-5 for kind in whole.lora)
    signed, cut_signed = (
        sign_kernels(model, rows, functional, device="cpu", ranks=[2], draws=1, memory_bytes=memory)
        for memory in (2**31, 36_000)
    )
    # A sign of rounding noise around zero may turn, nothing else.
    assert gap(cut_signed.full, signed.full) < 1e-3


def test_lower_ranks_are_runs_of_their_own():
    model, functional = case("bert")
    together = parts_of(model, functional, ranks=(2, 4, 8))
    for place, rank in enumerate((2, 4, 8)):
        alone = parts_of(model, functional, ranks=(rank,))
        assert all(gap(alone.lora[kind][:, 0], together.lora[kind][:, place]) < 1e-6 for kind in alone.lora)


@pytest.mark.parametrize("family", ["gaussian", "uniform", "orthogonal"])
def test_on_average_lora_is_full_tuning_of_its_maps(family):
    model, functional = case("bert")
    rank, draws = 4, 150
    parts = parts_of(model, functional, ranks=(rank,), draws=draws, family=family)
    for kind, found in parts.lora.items():
        # E A_q A_qᵀ = 1 / n, so r rows keep r / n of the kernel.
        width = 64 if kind.endswith("layer.*.output.dense") else 32
        expected = parts.weights[kind] * rank / width
        error = found[:, 0].std(axis=0, ddof=1) / np.sqrt(draws)
        assert (np.abs(found[:, 0].mean(axis=0) - expected) < 5 * error + 1e-9).all(), kind


@pytest.mark.parametrize("name", ["bert", "gpt2", "lm_llama", "lm_tied_llama"])
def test_signed_gradients(name):
    model, functional = case(name)
    found = sign_kernels(model, ROWS, functional, device="cpu", ranks=RANKS, draws=2, seed=9)
    own = jacobian(model, ROWS, functional)
    tiny = 1e-6 * np.abs(own).max()
    slack = np.abs(own) @ (np.abs(own) < tiny).T  # a sign of rounding noise around zero may turn
    assert (np.abs(found.full - own @ np.sign(own).T) <= 2 * slack + 1e-4 * np.abs(found.full).max()).all()
    assert np.abs(found.full - found.full.T).max() > 1e-3 * np.abs(found.full).max()
    of_b = jacobian(adapted(model, rank=3, alpha=3, seed=9, variance=1.0), ROWS, functional, lambda k: ".lora_B." in k)
    expected = of_b @ np.sign(of_b).T
    assert gap(sum(grams[1, 1] for grams in found.lora.values()), expected) < 1e-3


@pytest.mark.parametrize("name", ["bert", "lm_tied_llama"])
def test_sketches_are_unbiased_and_know_their_error(name):
    model, functional = case(name)
    exact = full_kernel(parts_of(model, functional, kinds=()))
    found = sketched_kernel(model, ROWS, functional, device="cpu", sketch_dimensions=4, sketches=24)
    assert found.n_sketched > 10
    measured = np.linalg.norm(found.kernel - exact) / np.linalg.norm(exact)
    assert 0 < measured < 3 * found.relative_error
    assert found.relative_error < 0.2
    fewer = sketched_kernel(model, ROWS, functional, device="cpu", sketch_dimensions=4, sketches=6)
    assert fewer.relative_error > 1.3 * found.relative_error
    # All maps are smaller than this sketch of them.
    same = sketched_kernel(model, ROWS, functional, device="cpu", sketch_dimensions=64, sketches=2)
    assert same.n_sketched == 0
    assert gap(same.kernel, exact) < 1e-6
    assert same.relative_error == 0.0


def test_of_more_classes_and_other_positions():
    model = small_classifier("bert", n_labels=3)
    functional = class_against_rest(np.array([0, 1, 2, 0, 1, 2]))
    own = jacobian(model, ROWS, functional)
    assert gap(full_kernel(parts_of(model, functional, kinds=())), own @ own.T) < 1e-5
    model = small_lm("gpt2")
    functional = token_margin(np.arange(6), np.arange(6, 12), np.array([0, 3, 2, 1, 4, 5]))
    own = jacobian(model, ROWS, functional)
    assert gap(full_kernel(parts_of(model, functional, kinds=())), own @ own.T) < 1e-5


def test_a_layer_called_twice_whose_output_is_changed_in_place():
    model, functional = case("bert")
    layers = model.bert.encoder.layer
    layers[1] = layers[0]
    inner = layers[0].intermediate.dense

    class Scaling(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = inner

        def forward(self, hidden):
            return self.inner(hidden).mul_(0.7)

    layers[0].intermediate.dense = Scaling()
    own = jacobian(model, ROWS, functional)
    assert gap(full_kernel(parts_of(model, functional, kinds=())), own @ own.T) < 1e-5


def test_the_row_of_padding_is_not_trained():
    # `torch.nn.Embedding` leaves the row of its padding token out of every gradient, wherever that token stands.
    rows = [row.copy() for row in ROWS]
    for row in rows[::2]:
        row[-2] = 1
    model = small_lm("tied_llama", pad_token_id=1)
    expected = jacobian(model, rows, TOKENS)
    assert gap(full_kernel(parts_of(model, TOKENS, kinds=(), rows=rows)), expected @ expected.T) < 1e-5


# --- a functional that reads every position --------------------------------------------------------------


def masks():
    """[6] of [L] tokens that count: all but the first, a tail, and one alone."""
    counted = [np.arange(len(row)) > 0 for row in ROWS]
    counted[1] = np.arange(len(ROWS[1])) >= 6
    counted[2] = np.arange(len(ROWS[2])) == 1
    return counted


@pytest.mark.parametrize("kind", ["gpt2", "llama", "tied_llama"])
def test_mean_log_probabilities_and_their_kernel_are_those_of_one_record_at_a_time(kind):
    model = small_lm(kind)
    functional = mean_log_prob(ROWS, masks())
    parts = parts_of(model, functional, kinds=(), is_read_everywhere=True)
    expected = functional_jacobian(model, ROWS, functional)
    assert gap(full_kernel(parts), expected @ expected.T) < 1e-5
    for row, mask, value in zip(ROWS, masks(), parts.values, strict=True):
        ids = torch.from_numpy(row)[None]
        with torch.no_grad():
            said = torch.log_softmax(model(input_ids=ids).logits[0].double(), dim=-1)
        gold = [float(said[place - 1, row[place]]) for place in np.flatnonzero(mask)]
        assert value == pytest.approx(np.mean(gold), abs=1e-5)


def test_memory_is_planned_for_a_head_that_is_read_everywhere():
    model, lengths = small_lm("llama"), [len(row) for row in ROWS]
    one, every = (plan_kernels(model, lengths, ranks=(1,), is_read_everywhere=is_read) for is_read in (False, True))
    n_more = sum(lengths) - len(lengths)
    assert every.held_bytes - one.held_bytes == n_more * (4 * (512 + 32) + 8)
    memory = one.held_bytes * 2
    found = parts_of(model, mean_log_prob(ROWS, masks()), kinds=(), memory_bytes=memory, is_read_everywhere=True)
    whole = parts_of(model, mean_log_prob(ROWS, masks()), kinds=(), is_read_everywhere=True)
    assert gap(full_kernel(found), full_kernel(whole)) < 1e-6


def test_a_record_without_a_token_to_predict_has_no_log_probability():
    counted = masks()
    counted[0][:] = False
    counted[3][0] = True
    with pytest.raises(DataError, match=r"Records 0, 3 have no token to be predicted, or their first is to be"):
        mean_log_prob(ROWS, counted)
