"""What kernels are asked of, drawn with, planned for and refused: every message, and a model that is left as it was."""

import numpy as np
import pytest
import torch

from kernel_oracle import probe_rows, small_lm
from loraudit.capture import (
    class_against_rest,
    class_margin,
    draw_directions,
    kernel_parts,
    plan_kernels,
    sign_kernels,
    sketched_kernel,
    token_margin,
    trained_lora_kernel,
)
from loraudit.errors import ConfigError, DataError, ModelError
from loraudit.execution import Interrupted, Silent
from loraudit.models.loading import quiet_libraries
from loraudit.scoring.classifying import PaddedBatch
from small_classifiers import small_classifier
from small_tuning import StopAt

ROWS = probe_rows()


def measured(model, f=None, **options):
    rows = options.pop("rows", ROWS)
    return kernel_parts(model, rows, f or class_margin(), **({"device": "cpu", "ranks": [2]} | options))


# --- f ------------------------------------------------------------------------------------------------


class Said:
    """What a model returned."""

    def __init__(self, logits):
        self.logits = torch.tensor(logits, dtype=torch.float64)


def batch(logits, members=(0, 1), lengths=(2, 1)):
    return PaddedBatch(list(members), np.array(lengths), Said(logits))


def test_functionals_by_hand():
    assert class_margin()(batch([[1.0, 3.0], [5.0, 4.0]])).tolist() == [2.0, -1.0]
    logits = [[1.0, 3.0, 0.0], [5.0, 4.0, 2.0]]
    found = class_against_rest(1)(batch(logits))
    assert np.allclose(found, [3 - np.log(np.exp(1) + 1), 4 - np.log(np.exp(5) + np.exp(2))])
    found = class_against_rest(np.array([9, 9, 0, 2]))(batch(logits, members=(2, 3)))
    assert np.allclose(found, [1 - np.log(np.exp(3) + 1), 2 - np.log(np.exp(5) + np.exp(4))])
    # The log-odds of the class.
    shares = torch.softmax(torch.tensor(logits), dim=1)[:, 1]
    assert np.allclose(class_against_rest(1)(batch(logits)), torch.log(shares / (1 - shares)))
    said = [[[0.0, 1.0], [2.0, 5.0]], [[4.0, 1.0], [7.0, 7.0]]]
    assert token_margin(np.array([1, 0]), np.array([0, 1]))(batch(said)).tolist() == [3.0, 3.0]
    places = np.array([0, 0])
    assert token_margin(np.array([1, 0]), np.array([0, 1]), places)(batch(said)).tolist() == [1.0, 3.0]


def test_functionals_refuse():
    with pytest.raises(ModelError, match=r"The classifier has 3 classes. Expected 2 for a margin. Ask for the margin"):
        class_margin()(batch([[1.0, 2.0, 3.0]], members=[0], lengths=[1]))
    with pytest.raises(DataError, match=r"There is no class 2: the model has 2 classes. Expected 0 to 1. Give another"):
        class_against_rest(2)(batch([[1.0, 3.0], [5.0, 4.0]]))
    said = [[[0.0, 1.0], [2.0, 5.0]], [[4.0, 1.0], [7.0, 7.0]]]
    with pytest.raises(DataError, match=r"There is no token -1: the model has 2 tokens. Expected 0 to 1. Give another"):
        token_margin(np.array([1, -1]), np.array([0, 1]))(batch(said))
    for place in (1, -1):
        with pytest.raises(
            DataError, match=rf"Position {place} is outside record 1 of 1 tokens. Expected one of its pos"
        ):
            token_margin(np.array([1, 0]), np.array([0, 1]), np.array([0, place]))(batch(said))


# --- draws of A ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["gaussian", "uniform", "orthogonal"])
def test_draws_have_their_variance_and_their_rows_are_fixed(family):
    width = 64
    drawn = np.stack(
        [draw_directions(family, rank=32, width=width, name="map", draw=i, seed=1) for i in range(40)]
    ).astype(np.float64)
    n = drawn.size
    assert abs(drawn.mean()) < 5 / np.sqrt(width * n)
    assert abs(width * (drawn**2).mean() - 1) < 5 * np.sqrt(2 / n)
    fourth = (drawn**4).mean() * width**2
    assert abs(fourth - {"gaussian": 3, "uniform": 9 / 5, "orthogonal": 3 * width / (width + 2)}[family]) < 0.1
    again = draw_directions(family, rank=5, width=width, name="map", draw=3, seed=1)
    assert np.allclose(again, drawn[3, :5], atol=1e-6)
    for changed in ({"name": "other"}, {"draw": 4}, {"seed": 2}):
        options = {"rank": 5, "width": width, "name": "map", "draw": 3, "seed": 1} | changed
        assert not np.allclose(draw_directions(family, **options), again, atol=1e-3)
    if family == "orthogonal":
        assert np.allclose(drawn @ drawn.transpose(0, 2, 1), np.eye(32), atol=1e-5)
    if family == "uniform":
        assert np.abs(drawn).max() <= np.sqrt(3 / width) + 1e-6


def test_more_orthogonal_rows_than_dimensions_are_refused_before_any_pass():
    class NoStage(Silent):
        def stage(self, name, total, unit):
            raise AssertionError("a pass began")

    with pytest.raises(ConfigError, match=r"Rank 33 is more than 'bert.encoder.* has input dimensions \(32\), so its"):
        measured(small_classifier("bert"), ranks=[2, 33], family="orthogonal", progress=NoStage())
    with pytest.raises(ConfigError, match=r"Rank 3 is more than 'map' has input dimensions \(2\)"):
        draw_directions("orthogonal", rank=3, width=2, name="map", draw=0, seed=0)


# --- what is asked ------------------------------------------------------------------------------------


def test_what_cannot_be_asked_is_refused():
    model = small_classifier("bert")
    for options in ({"ranks": []}, {"ranks": [0, 2]}, {"draws": 0}):
        with pytest.raises(ConfigError, match=r"LoRA of ranks .* draws cannot be measured. Expected at least one rank"):
            measured(model, **options)
    with pytest.raises(
        ConfigError, match=r"Unknown kind of linear map 'bert.pooler.dens'. Did you mean 'bert.pooler.d"
    ):
        measured(model, kinds=["bert.pooler.dens"])
    with pytest.raises(ConfigError, match=r"Unknown family of initialisation 'gausian'. Did you mean 'gaussian'"):
        measured(model, family="gausian")
    with pytest.raises(
        ConfigError, match=r"0 sketches of 4 dimensions are none. Expected at least 1 of each. Give oth"
    ):
        sketched_kernel(model, ROWS, class_margin(), device="cpu", sketch_dimensions=4, sketches=0)
    with pytest.raises(
        ConfigError, match=r"Memory of 4,000 bytes does not hold layer '.*' of two records: it takes up"
    ):
        measured(model, memory_bytes=4000)


def test_kinds_are_chosen_and_none_measures_no_lora():
    model, kind = small_classifier("bert"), "bert.encoder.layer.*.attention.self.query"
    chosen, all_kinds = measured(model, kinds=[kind]), measured(model)
    assert list(chosen.lora) == [kind]
    assert (chosen.lora[kind] == all_kinds.lora[kind]).all()
    assert measured(model, kinds=[], ranks=[]).lora == {}
    assert sign_kernels(model, ROWS, class_margin(), device="cpu").lora == {}


def test_records_without_tokens_are_refused():
    with pytest.raises(DataError, match=r"Records without a token: 1, 3. Expected at least one token in each"):
        measured(small_classifier("bert"), rows=[ROWS[0], ROWS[0][:0], ROWS[1], ROWS[1][:0]])
    with pytest.raises(
        DataError, match=r"There are no probe records. Expected at least one token in each, and one rec"
    ):
        measured(small_classifier("bert"), rows=[])


def test_a_plan_needs_no_weights():
    with torch.device("meta"):
        model = small_lm("gpt2")
    plan = plan_kernels(model, [64] * 100, ranks=[1, 2], draws=3, memory_bytes=2**22)
    assert plan.n_parameters == sum(parameter.numel() for parameter in model.parameters())
    assert plan.n_passes > 1
    assert plan.held_bytes <= 2**21
    # Of weights 4 kinds of maps, of biases those and 3 of norms, of others the same norms and 2 tables; the head; LoRA.
    assert plan.kernel_bytes == 8 * 100**2 * (4 + 7 + 5 + 1 + 4 * 3 * 2)
    assert plan_kernels(model, [64] * 100, ranks=[1], memory_bytes=2**40).n_passes == 1


# --- models -------------------------------------------------------------------------------------------


def test_parameters_of_unknown_layers_are_refused_with_all_their_names():
    model = small_classifier("bert")
    model.bert.scale = torch.nn.Parameter(torch.ones(3))
    model.bert.encoder.filter = torch.nn.Conv1d(2, 2, 1)
    message = (
        r"Parameters of BertForSequenceClassification belong to layers whose gradients are not captured: 'bert' "
        r"\(BertModel: scale\); 'bert.encoder.filter' \(Conv1d: weight, bias\). The kernel of full tuning would lack"
    )
    with pytest.raises(ModelError, match=message):
        measured(model)


def test_other_adapters_than_lora_are_refused():
    import peft

    config = peft.IA3Config(target_modules=["query"], feedforward_modules=[], task_type="SEQ_CLS")
    model = peft.get_peft_model(small_classifier("bert"), config)
    with pytest.raises(
        ModelError, match=r"The model carries an adapter of the kind IA3. Expected LoRA or none. Measure"
    ):
        measured(model)


class Around(torch.nn.Module):
    """A layer inside another that uses it in an unusual way."""

    def __init__(self, inner, use):
        super().__init__()
        self.inner = inner
        self.use = use

    def forward(self, entered):
        return self.use(self.inner, entered)


def test_a_layer_that_does_more_than_its_kind_is_refused():
    model = small_classifier("bert")
    model.classifier = Around(
        model.classifier, lambda inner, x: torch.nn.functional.linear(x, inner.weight, inner.bias)
    )

    class Scaled(torch.nn.Embedding):
        def forward(self, ids):
            return 3 * super().forward(ids)

    model.bert.embeddings.word_embeddings.__class__ = Scaled
    message = (
        r"The squared length of the gradient that was captured is not what autograd gives.*'classifier.inner' "
        r"\(weight: 0 instead of .*'classifier.inner' \(bias: 0 instead of 2\)"
    )
    with pytest.raises(ModelError, match=message) as error:
        measured(model)
    assert "'bert.embeddings.word_embeddings' (weight" in str(error.value)
    assert "query" not in str(error.value)


def test_a_layer_that_sees_records_mixed_is_refused():
    model = small_classifier("bert")
    model.classifier = Around(model.classifier, lambda inner, x: inner(torch.cat([x, x]))[: len(x)])
    with pytest.raises(
        ModelError, match=r"Layer 'classifier.inner' sees 2 rows for 1 records, so their gradients are n"
    ):
        measured(model)


def test_a_model_that_looks_at_padding_is_refused():
    model = small_classifier("bert")

    class MeanOverAll(torch.nn.Module):
        def forward(self, hidden):
            return hidden.mean(dim=1)

    model.bert.pooler = MeanOverAll()
    with pytest.raises(ModelError, match=r"The gradient in layer '.*' is not zero at padding, so what the model says"):
        measured(model)
    assert np.isfinite(measured(model, batch_size=1).values).all()


def test_what_is_no_finite_number_is_refused():
    model = small_classifier("bert")
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight[39] = torch.inf
    rows = [np.array([5, 6, 7]), np.array([5, 39, 7, 9]), np.array([7, 5, 6, 9])]
    with pytest.raises(
        ModelError, match=r"What the model says of record 1 is not a finite number. Expected one for eac"
    ):
        measured(model, rows=rows)


def test_a_functional_of_another_shape_is_refused():
    with pytest.raises(ModelError, match=r"The functional gives the shape \[1, 2\] for 1 records. Expected one number"):
        measured(small_classifier("bert"), lambda batch: batch.output.logits)


def with_adapter(**options):
    import peft

    options = {"target_modules": ["q_proj", "v_proj"], "task_type": "SEQ_CLS"} | options
    config = peft.LoraConfig(r=2, **options)
    with quiet_libraries():
        return peft.get_peft_model(small_classifier("llama"), config).eval()


def test_adapters_of_other_formulas_are_refused():
    def trained(model):
        return trained_lora_kernel(model, ROWS, class_margin(), device="cpu")

    with pytest.raises(
        ModelError, match=r"LlamaForSequenceClassification carries no LoRA. Expected a model inside PEFT"
    ):
        trained(small_classifier("llama"))
    start = "The adapter is not W . s.B.A everywhere: "
    name = "'model.layers.0.self_attn.q_proj'"
    with pytest.raises(ModelError, match=rf"{start}{name} \(DoRA\); 'model.layers.0.self_attn.v_proj' \(DoRA\)"):
        trained(with_adapter(use_dora=True))
    with pytest.raises(ModelError, match=rf"{start}{name} \(a bias in B\)"):
        trained(with_adapter(lora_bias=True))
    with pytest.raises(ModelError, match=rf"{start}'model.embed_tokens' \(LoRA on Embedding\)"):
        trained(with_adapter(target_modules=["embed_tokens"]))
    merged = with_adapter()
    merged.merge_adapter()
    with pytest.raises(ModelError, match=rf"{start}{name} \(merged\)"):
        trained(merged)
    twice = with_adapter(task_type=None)
    twice.add_adapter("second", twice.peft_config["default"])
    twice.base_model.set_adapter(["default", "second"])
    with pytest.raises(ModelError, match=rf"{start}{name} \(several active adapters: default, second\)"):
        trained(twice)
    off = with_adapter()
    with off.disable_adapter(), pytest.raises(ModelError, match=rf"{start}{name} \(switched off\)"):
        trained(off)


def test_a_variant_that_is_registered_is_refused_by_its_name():
    model = with_adapter()
    part = model.base_model.model.model.layers[0].self_attn.q_proj

    class Rotated:
        pass

    part.lora_variant["default"] = Rotated()
    with pytest.raises(
        ModelError, match=r"'model.layers.0.self_attn.q_proj' \(Rotated\). Expected one active plain Lo"
    ):
        trained_lora_kernel(model, ROWS, class_margin(), device="cpu")


# --- what is left -------------------------------------------------------------------------------------


def test_the_model_is_left_as_it_was_also_where_it_fails():
    model = small_classifier("llama_lora").train()
    flags = [parameter.requires_grad for parameter in model.parameters()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()

    def is_untouched():
        return (
            flags == [parameter.requires_grad for parameter in model.parameters()]
            and all(parameter.grad is None for parameter in model.parameters())
            and all(part.training for part in model.modules())
            and all((value == before[name]).all() for name, value in model.state_dict().items())
            and not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())
            and bool((torch.get_rng_state() == state).all())
        )

    measured(model)
    assert is_untouched()
    trained_lora_kernel(model, ROWS, class_margin(), device="cpu")
    assert is_untouched()
    with pytest.raises(ModelError):
        measured(model, lambda batch: batch.output.logits)
    assert is_untouched()


def test_a_stop_is_heeded_between_batches_and_progress_is_told():
    class Told(Silent):
        total = done = 0

        def stage(self, name, total, unit):
            assert unit == "tokens"
            self.total = total

        def advance(self, n):
            self.done += n

    told, model = Told(), small_classifier("bert")
    measured(model, progress=told, batch_size=2)
    assert told.total == told.done == sum(map(len, ROWS))
    with pytest.raises(Interrupted):
        measured(model, stop=StopAt(1), batch_size=2)
    assert not any(part._forward_hooks for part in model.modules())
