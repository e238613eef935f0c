"""Scoring in batches, through shared copies and shared layers, equals one record at a time through the whole model.

"Plain" below is: the model loaded on its own by transformers or PEFT, one window per forward pass, no padding,
`log_softmax` in float32 over the full logits, `gather`.
"""

from __future__ import annotations

import contextlib
import warnings

import numpy as np
import peft
import pytest
import torch
import transformers

import conftest
from conftest import CONTEXT, VOCABULARY, changed_copy
from loraudit.data import cut_windows, encode, record_id
from loraudit.errors import ModelError
from loraudit.models import Numerics, load_tokenizer, plan_models
from loraudit.models.live import live_resident, undisturbed
from loraudit.scoring import Scorer, ScoringOptions, Sequence, gather_evidence, score_resident
from loraudit.store import EvidenceStore
from loraudit.types import TOKEN_FIELDS, Record

FP32 = Numerics("cpu", "fp32")
CLOSE = {"rtol": 1e-5, "atol": 2e-5}
"""Float32 noise of another batch shape; log-probabilities here are about −10."""
SHARED = 1e-6
"""Largest allowed difference between a shared and a separately loaded copy."""


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Tiny products on many threads take a hundred times as long on a machine that is busy."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def as_records(texts):
    return [Record(record_id(text=text), "test", line, text=text) for line, text in enumerate(texts, 1)]


@pytest.fixture(scope="session")
def records(texts):
    """14 records of about 50 tokens, two longer than the context, one of one character and an empty one."""
    return as_records([*(text[:90] for text in texts[:14]), texts[30], texts[40], "a", ""])


@pytest.fixture(scope="session")
def few(records):
    """Six of them, for what is checked many times."""
    return [*records[:5], records[14]]


def options(batch_tokens=512, *, devices=("cpu",), max_length=CONTEXT, stride=CONTEXT // 2, **more):
    return ScoringOptions(devices, FP32, max_length, stride, batch_tokens=batch_tokens, **more)


@pytest.fixture
def gather(tmp_path):
    """Evidence from a store of its own."""
    n_stores = iter(range(100))

    def run(plan, records, opts=None, **more):
        store = EvidenceStore(tmp_path / f"store-{next(n_stores)}")
        more.setdefault("tokenizer", lambda: load_tokenizer(plan.tokenizer_folder))
        return gather_evidence(plan, records, opts or options(), store, **more)

    return run


def bare(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def adapted(folder, base):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return peft.PeftModel.from_pretrained(bare(base), folder).eval()


def saved(base, folder, config, **more):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return conftest.save_adapter(base, folder, config, **more)


def plain(model, tokenizer, records, *, max_length=CONTEXT, stride=CONTEXT // 2, span="trained"):
    """[total tokens] log-probability and top-1 hit of every predicted token, the records one after another."""
    log_probs, hits = [], []
    for item in encode(records, tokenizer, span=span):
        for window in cut_windows(len(item.ids), max_length=max_length, stride=stride):
            ids = torch.from_numpy(item.ids[window.start : window.end].astype(np.int64))
            with torch.inference_mode():
                logits = model(input_ids=ids[None]).logits[0, -len(ids) :].float()
            kept = slice(window.first_new - window.start - 1, len(ids) - 1)
            gold = ids[1:, None]
            log_probs.append(logits[:-1].log_softmax(dim=-1).gather(1, gold)[kept, 0].numpy())
            hits.append((logits[:-1].argmax(dim=-1) == gold[:, 0])[kept].numpy())
    return np.concatenate(log_probs), np.concatenate(hits)


def assert_plain(table, model, tokenizer, records, **more):
    log_probs, hits = plain(model, tokenizer, records, **more)
    np.testing.assert_allclose(table.columns["log_prob"], log_probs, **CLOSE)
    np.testing.assert_array_equal(table.columns["is_top1"], hits)


def assert_same_tables(ours, theirs, tolerance):
    np.testing.assert_array_equal(ours.offsets, theirs.offsets)
    np.testing.assert_array_equal(ours.is_audited, theirs.is_audited)
    np.testing.assert_array_equal(ours.n_windows, theirs.n_windows)
    assert list(ours.status) == list(theirs.status)
    assert set(ours.log_sum_exps) == set(theirs.log_sum_exps)
    columns = {**ours.columns, **ours.log_sum_exps}
    for name, expected in {**theirs.columns, **theirs.log_sum_exps}.items():
        if expected.dtype.kind == "f":
            np.testing.assert_allclose(columns[name], expected, rtol=tolerance, atol=tolerance, err_msg=str(name))
        else:
            np.testing.assert_array_equal(columns[name], expected, err_msg=str(name))


class Calls:
    """Counts forward passes of modules in whatever a plan loads."""

    def __init__(self, plan, *names):
        self.n = dict.fromkeys(names, 0)
        plan.stages = [(views, self._watched(load, names)) for views, load in plan.stages]

    def _watched(self, load, names):
        def run(numerics, device):
            resident = load(numerics, device)
            for name, module in resident.module.named_modules():
                for ending in names:
                    if name.endswith(ending):
                        module.register_forward_hook(lambda *_, ending=ending: self._count(ending))
            return resident

        return run

    def _count(self, name):
        self.n[name] += 1


# --- the four ways a target and its base lie in memory ------------------------------------------------


@pytest.fixture(scope="session")
def plainly(request, base, records):
    """The plain scores of a target, made once."""
    made = {}

    def score(kind):
        if kind not in made:
            folder = request.getfixturevalue(kind)
            model = adapted(folder, base) if kind == "adapter" else bare(folder)
            made[kind] = plain(model, load_tokenizer(base), records)
        return made[kind]

    return score


@pytest.mark.parametrize(("batch_tokens", "padding_side"), [(16, "right"), (64, "left"), (64, "right"), (4096, "left")])
@pytest.mark.parametrize("kind", ["adapter", "full", "head_only", "last_layer"])
def test_batches_of_any_size_equal_one_record_at_a_time(
    request, base, records, gather, plainly, kind, batch_tokens, padding_side
):
    tokenizer = load_tokenizer(base)
    tokenizer.padding_side = padding_side
    plan = plan_models(str(request.getfixturevalue(kind)), base=str(base))
    evidence = gather(plan, records, options(batch_tokens), tokenizer=lambda: tokenizer)
    for view, expected in (("target", plainly(kind)), ("reference", plainly("base"))):
        np.testing.assert_allclose(evidence.tables[view].columns["log_prob"], expected[0], **CLOSE)
        np.testing.assert_array_equal(evidence.tables[view].columns["is_top1"], expected[1])
    assert list(evidence.tables["target"].status) == ["ok"] * (len(records) - 1) + ["no_tokens"]
    assert evidence.n_backoffs == 0
    assert evidence.n_scored == len(records)


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("adapter", "head on audited positions, one copy for target and reference"),
        ("head_only", "head on audited positions, one copy for target and reference, body run once"),
        (
            "last_layer",
            "head on audited positions, one copy for target and reference, first 2 of 3 layers run once",
        ),
    ],
)
def test_one_copy_gives_what_two_separately_loaded_models_give(request, base, records, gather, kind, mode, monkeypatch):
    target = request.getfixturevalue(kind)
    decodings = ((40, 1.0), (0, 0.7))
    opts = options(256, decodings=decodings)
    together = gather(plan_models(str(target), base=str(base)), records, opts)
    assert together.modes == [mode]
    base_alone = gather(plan_models(str(base)), records, opts).tables["target"]
    assert_same_tables(together.tables["reference"], base_alone, SHARED)
    if kind == "adapter":
        plan = plan_models(str(target))
        target_alone = gather(plan, records, opts, views=["target"]).tables["target"]
    else:
        monkeypatch.setattr("loraudit.models.planning.base_of_checkpoint", lambda _: None)
        target_alone = gather(plan_models(str(target)), records, opts).tables["target"]
    assert_same_tables(together.tables["target"], target_alone, SHARED)


def test_a_merged_adapter_is_the_adapter(adapter, base, few, gather, tmp_path):
    adapted(adapter, base).merge_and_unload().save_pretrained(tmp_path / "merged")
    load_tokenizer(base).save_pretrained(tmp_path / "merged")
    merged = gather(plan_models(str(tmp_path / "merged"), base=str(base)), few).tables
    unmerged = gather(plan_models(str(adapter)), few).tables
    assert_same_tables(merged["target"], unmerged["target"], 2e-5)
    assert_same_tables(merged["reference"], unmerged["reference"], SHARED)


def test_every_statistic_equals_its_definition_on_the_plain_logits(full, few, gather):
    decodings = ((40, 1.0), (0, 0.5), (1, 2.0))
    plan = plan_models(str(full))
    table = gather(plan, few, options(64, decodings=decodings)).tables["target"]
    tokenizer, model = load_tokenizer(full), bare(full)
    expected = {name: [] for name in (*TOKEN_FIELDS, *decodings)}
    for item in encode(few, tokenizer):
        for window in cut_windows(len(item.ids), max_length=CONTEXT, stride=CONTEXT // 2):
            ids = torch.from_numpy(item.ids[window.start : window.end].astype(np.int64))
            with torch.inference_mode():
                logits = model(input_ids=ids[None]).logits[0].double()
            for position in range(window.first_new - window.start, len(ids)):
                row = logits[position - 1].log_softmax(dim=0)
                ordered, gold = row.sort(descending=True).values, ids[position]
                mean = (row.exp() * row).sum()
                expected["log_prob"].append(row[gold])
                expected["is_top1"].append(row.argmax() == gold)
                expected["margin"].append(ordered[0] - ordered[1])
                expected["mean_log_prob"].append(mean)
                expected["var_log_prob"].append((row.exp() * (row - mean) ** 2).sum())
                expected["rank_bucket"].append(int(np.log2(int((row > row[gold]).sum()) + 1)))
                for k, temperature in decodings:
                    is_allowed = k == 0 or int((row > row[gold]).sum()) < k
                    total = torch.logsumexp(ordered[: k or None] / temperature, dim=0)
                    expected[k, temperature].append(total if is_allowed else np.inf)
    for name, values in expected.items():
        column = table.columns[name] if isinstance(name, str) else table.log_sum_exps[name]
        np.testing.assert_allclose(column, np.array(values), rtol=1e-4, atol=1e-4, err_msg=str(name))


# --- how often things are run ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "runs"),
    [
        ("adapter", {"layers.0.self_attn": 2, "layers.1.self_attn": 2, "layers.2.self_attn": 2}),
        ("head_only", {"layers.0.self_attn": 1, "layers.1.self_attn": 1, "layers.2.self_attn": 1}),
        ("last_layer", {"layers.0.self_attn": 1, "layers.1.self_attn": 1, "layers.2.self_attn": 2}),
    ],
)
def test_layers_that_are_the_same_in_both_views_run_once(request, base, kind, runs):
    plan = plan_models(str(request.getfixturevalue(kind)), base=str(base))
    calls = Calls(plan, *runs)
    scorer = Scorer(plan.stages[0][1](FP32, "cpu"), batch_tokens=64)
    sequences = [Sequence(np.arange(2, 34), 1)] * 6  # two per batch
    before = dict(calls.n)
    scorer.score(sequences, ["target", "reference"])
    assert {name: (calls.n[name] - before[name]) / 3 for name in runs} == runs
    before = dict(calls.n)
    scorer.score(sequences, ["reference"])
    assert {name: (calls.n[name] - before[name]) / 3 for name in runs} == dict.fromkeys(runs, 1)


@pytest.mark.parametrize("kind", ["adapter", "head_only", "last_layer"])
@pytest.mark.parametrize("views", [["target"], ["reference"], ["reference", "target"]])
def test_views_asked_for_alone_or_in_another_order_are_the_same(request, base, kind, views):
    plan = plan_models(str(request.getfixturevalue(kind)), base=str(base))
    scorer = Scorer(plan.stages[0][1](FP32, "cpu"), batch_tokens=128)
    sequences = [Sequence(np.arange(start, start + 30), 1) for start in (3, 50, 111, 222)]
    both = scorer.score(sequences, ["target", "reference"])
    again = scorer.score(sequences, views)
    assert set(again) == set(views)
    for view in views:
        for found, expected in zip(again[view], both[view], strict=True):
            for name in expected:
                np.testing.assert_array_equal(found[name], expected[name])


def test_only_the_views_asked_for_are_gathered(adapter, few, gather):
    evidence = gather(plan_models(str(adapter)), few, views=["target"])
    assert set(evidence.tables) == {"target"}
    assert evidence.n_tokens * 2 == gather(plan_models(str(adapter)), few).n_tokens


@pytest.mark.parametrize("kind", ["adapter", "last_layer", "full"])
def test_two_copies_give_what_one_gives(request, base, records, gather, kind):
    plan = plan_models(str(request.getfixturevalue(kind)), base=str(base))
    one = gather(plan, records, options(32))
    two = gather(plan, records, options(32, devices=["cpu", "cpu"]))
    assert len(two.modes) == 2 * len(one.modes)
    assert two.n_tokens == one.n_tokens
    for view, table in one.tables.items():
        assert_same_tables(two.tables[view], table, 0)


# --- windows and spans ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("max_length", "stride"), [(CONTEXT, CONTEXT - 1), (20, 7), (20, 1), (2, 1)])
def test_records_longer_than_a_window_are_scored_through_overlapping_ones(
    adapter, base, few, gather, max_length, stride
):
    few = few if stride > 1 else few[:1]
    evidence = gather(plan_models(str(adapter)), few, options(max_length=max_length, stride=stride))
    tokenizer, table = load_tokenizer(base), evidence.tables["target"]
    assert_plain(table, adapted(adapter, base), tokenizer, few, max_length=max_length, stride=stride)
    lengths = [len(item.ids) for item in encode(few, tokenizer)]
    assert table.n_tokens.tolist() == [length - 1 for length in lengths]
    expected = [len(cut_windows(length, max_length=max_length, stride=stride)) for length in lengths]
    assert table.n_windows.tolist() == expected
    assert max(expected) > 2


@pytest.mark.parametrize("span", ["trained", "all"])
def test_prompts_are_seen_but_not_audited(full, texts, gather, span):
    pairs = [(texts[i][:90], texts[i + 1][:90]) for i in range(0, 8, 2)]
    records = [
        Record(record_id(prompt=prompt, completion=completion), "test", 1, prompt=prompt, completion=completion)
        for prompt, completion in pairs
    ]
    table = gather(plan_models(str(full)), records, options(span=span)).tables["target"]
    tokenizer = load_tokenizer(full)
    assert_plain(table, bare(full), tokenizer, records, span=span)
    mask = np.concatenate([item.is_audited[1:] for item in encode(records, tokenizer, span=span)])
    np.testing.assert_array_equal(table.is_audited, mask)
    assert mask.all() == (span == "all")


def test_the_order_of_the_records_is_the_order_of_the_answer(adapter, few, gather):
    plan = plan_models(str(adapter))
    forward = gather(plan, few).tables["target"]
    backward = gather(plan, few[::-1]).tables["target"]
    for row in range(len(few)):
        ours = slice(*forward.offsets[row : row + 2])
        theirs = slice(*backward.offsets[len(few) - 1 - row :][:2])
        np.testing.assert_allclose(forward.columns["log_prob"][ours], backward.columns["log_prob"][theirs], **CLOSE)


# --- adapters -------------------------------------------------------------------------------------------

LORA = {"r": 4, "task_type": "CAUSAL_LM"}
ATTENTION = ["q_proj", "v_proj"]
ADAPTERS = {
    "lora_all_linear": lambda: peft.LoraConfig(target_modules="all-linear", **LORA),
    "lora_on_the_last_layer": lambda: peft.LoraConfig(target_modules=ATTENTION, layers_to_transform=[2], **LORA),
    "lora_on_the_head": lambda: peft.LoraConfig(target_modules=["lm_head"], **LORA),
    "lora_on_the_embedding": lambda: peft.LoraConfig(target_modules=["embed_tokens"], **LORA),
    "lora_with_a_whole_head": lambda: peft.LoraConfig(target_modules=ATTENTION, modules_to_save=["lm_head"], **LORA),
    "lora_with_head_and_embedding": lambda: peft.LoraConfig(
        target_modules=ATTENTION, modules_to_save=["lm_head", "embed_tokens"], **LORA
    ),
    "lora_with_trained_tokens": lambda: peft.LoraConfig(
        target_modules=ATTENTION, trainable_token_indices=[40, 41], **LORA
    ),
    "rslora": lambda: peft.LoraConfig(target_modules=ATTENTION, use_rslora=True, **LORA),
    "dora": lambda: peft.LoraConfig(target_modules=ATTENTION, use_dora=True, **LORA),
    "ia3": lambda: peft.IA3Config(
        target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"], task_type="CAUSAL_LM"
    ),
    "adalora": lambda: peft.AdaLoraConfig(
        target_modules=ATTENTION, init_r=4, target_r=2, total_step=10, task_type="CAUSAL_LM"
    ),
    "loha": lambda: peft.LoHaConfig(r=4, target_modules=ATTENTION, task_type="CAUSAL_LM"),
    "lokr": lambda: peft.LoKrConfig(r=4, target_modules=ATTENTION, task_type="CAUSAL_LM"),
    "oft": lambda: peft.OFTConfig(oft_block_size=8, target_modules=ATTENTION, task_type="CAUSAL_LM"),
    "vera": lambda: peft.VeraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM"),
    "layer_norm": lambda: peft.LNTuningConfig(task_type="CAUSAL_LM"),
    "llama_adapter": lambda: peft.AdaptionPromptConfig(adapter_len=4, adapter_layers=2, task_type="CAUSAL_LM"),
    "prefix_tuning": lambda: peft.PrefixTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM"),
    "prompt_tuning": lambda: peft.PromptTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM"),
    "p_tuning": lambda: peft.PromptEncoderConfig(num_virtual_tokens=4, encoder_hidden_size=16, task_type="CAUSAL_LM"),
}


@pytest.mark.parametrize("kind", ADAPTERS)
def test_every_kind_of_adapter_is_scored_as_peft_runs_it(base, few, gather, tmp_path, kind):
    folder = saved(base, tmp_path / kind, ADAPTERS[kind]())
    evidence = gather(plan_models(str(folder)), few, options(128))
    tokenizer = load_tokenizer(base)
    assert_plain(evidence.tables["target"], adapted(folder, base), tokenizer, few)
    assert_plain(evidence.tables["reference"], bare(base), tokenizer, few)
    assert not np.array_equal(
        evidence.tables["target"].columns["log_prob"], evidence.tables["reference"].columns["log_prob"]
    )


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("lora_on_the_head", ", body run once"),
        ("lora_on_the_last_layer", ", first 2 of 3 layers run once"),
        ("lora_all_linear", "one copy for target and reference"),
        ("prefix_tuning", "one copy for target and reference"),
        ("llama_adapter", "one copy for target and reference"),
    ],
)
def test_an_adapter_shares_what_lies_before_it(base, few, gather, tmp_path, kind, how):
    folder = saved(base, tmp_path / kind, ADAPTERS[kind]())
    assert gather(plan_models(str(folder)), few).modes[0].endswith(how)


# --- architectures --------------------------------------------------------------------------------------

COMMON = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 1, "initializer_range": 0.2}
SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": CONTEXT,
} | COMMON
GROUPED = SMALL | {"num_key_value_heads": 2}
GPT = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": CONTEXT} | COMMON
OPT = {
    "hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": VOCABULARY,
    "max_position_embeddings": CONTEXT, "init_std": 0.2, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1,
}  # fmt: skip
ARCHITECTURES = {
    "gpt2": ("GPT2Config", GPT),
    "gpt2_untied": ("GPT2Config", GPT | {"tie_word_embeddings": False}),
    "gpt_bigcode": ("GPTBigCodeConfig", GPT),
    "llama_tied": ("LlamaConfig", GROUPED | {"tie_word_embeddings": True}),
    "mistral_sliding_window": ("MistralConfig", GROUPED | {"head_dim": 8, "sliding_window": 16}),
    "mixtral": ("MixtralConfig", GROUPED | {"num_local_experts": 4}),
    "qwen2": ("Qwen2Config", GROUPED),
    "qwen3": ("Qwen3Config", GROUPED | {"head_dim": 8}),
    "gemma": ("GemmaConfig", GROUPED | {"head_dim": 8}),
    "gemma2_soft_cap": (
        "Gemma2Config",
        GROUPED | {"head_dim": 8, "sliding_window": 16, "final_logit_softcapping": 3.0, "attn_logit_softcapping": 5.0},
    ),
    "gemma3": ("Gemma3TextConfig", GROUPED | {"head_dim": 8, "sliding_window": 16}),
    "cohere_scaled_logits": ("CohereConfig", GROUPED | {"logit_scale": 0.25}),
    "granite_divided_logits": ("GraniteConfig", GROUPED | {"logits_scaling": 4.0, "embedding_multiplier": 3.0}),
    "opt": ("OPTConfig", OPT | {"word_embed_proj_dim": 32}),
    "opt_projected": ("OPTConfig", OPT | {"word_embed_proj_dim": 16, "do_layer_norm_before": False}),
    "gpt_neox": ("GPTNeoXConfig", SMALL),
    "gpt_neo": (
        "GPTNeoConfig",
        {
            "hidden_size": 32, "num_layers": 2, "attention_types": [[["global", "local"], 1]], "num_heads": 4,
            "intermediate_size": 64, "window_size": 16, "max_position_embeddings": CONTEXT, **COMMON,
        },
    ),
    "gptj": ("GPTJConfig", GPT | {"rotary_dim": 4}),
    "bloom_alibi": ("BloomConfig", {"hidden_size": 32, "n_layer": 3, "n_head": 4} | COMMON),
    "mpt_alibi": (
        "MptConfig",
        {"d_model": 32, "n_layers": 3, "n_heads": 4, "max_seq_len": CONTEXT, "expansion_ratio": 2} | COMMON,
    ),
    "falcon": ("FalconConfig", {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4} | COMMON),
    "phi": ("PhiConfig", SMALL),
    "phi3": ("Phi3Config", GROUPED | {"pad_token_id": 1}),
    "stablelm": ("StableLmConfig", GROUPED),
    "mamba": ("MambaConfig", {"hidden_size": 32, "num_hidden_layers": 3, "state_size": 8} | COMMON),
}  # fmt: skip


@pytest.fixture(scope="session")
def family(tmp_path_factory, tokenizer):
    """Base of an architecture, and a checkpoint tuned from it on the last layer alone."""
    made = {}

    def make(name):
        if name not in made:
            folder = tmp_path_factory.mktemp("architectures") / name
            kind, values = ARCHITECTURES[name]
            config = getattr(transformers, kind)(**values)
            with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.manual_seed(0)
                transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder / "base")
                tokenizer.save_pretrained(folder / "base")
                n_layers = config.num_hidden_layers
                last = tuple(f".{path}.{n_layers - 1}." for path in ("layers", "h", "blocks"))
                changed_copy(folder / "base", folder / "last", lambda name: any(part in name for part in last))
            made[name] = folder
        return made[name]

    return make


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_is_scored_as_it_runs_by_itself(family, few, gather, name):
    folder = family(name)
    evidence = gather(plan_models(str(folder / "base")), few, options(128))
    assert_plain(evidence.tables["target"], bare(folder / "base"), load_tokenizer(folder / "base"), few)
    assert evidence.modes == ["head on audited positions"]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_shares_one_copy_with_its_base(family, few, gather, name):
    folder = family(name)
    plan = plan_models(str(folder / "last"), base=str(folder / "base"))
    assert plan.target.kind == "checkpoint, partly tuned"
    evidence = gather(plan, few, options(128))
    tokenizer = load_tokenizer(folder / "base")
    assert_plain(evidence.tables["target"], bare(folder / "last"), tokenizer, few)
    assert_plain(evidence.tables["reference"], bare(folder / "base"), tokenizer, few)


@pytest.mark.parametrize("name", ["gpt2", "llama_tied", "qwen2", "gpt_neox", "gemma3", "opt", "phi", "falcon"])
def test_the_layers_before_a_change_run_once_in_common_architectures(family, few, gather, name):
    folder = family(name)
    evidence = gather(plan_models(str(folder / "last"), base=str(folder / "base")), few)
    assert evidence.modes[0].endswith("first 2 of 3 layers run once")


@pytest.mark.parametrize(
    ("name", "modules"),
    [
        ("gpt2", ["c_attn", "c_proj"]),
        ("gpt_neox", ["query_key_value"]),
        ("qwen2", ["q_proj"]),
        ("opt", ["q_proj"]),
        ("falcon", ["query_key_value"]),
        ("gemma3", ["q_proj"]),
    ],
)
def test_lora_on_other_architectures(family, few, gather, tmp_path, name, modules):
    base = family(name) / "base"
    folder = saved(base, tmp_path / name, peft.LoraConfig(target_modules=modules, **LORA))
    evidence = gather(plan_models(str(folder)), few, options(128))
    tokenizer = load_tokenizer(base)
    assert_plain(evidence.tables["target"], adapted(folder, base), tokenizer, few)
    assert_plain(evidence.tables["reference"], bare(base), tokenizer, few)


@pytest.mark.parametrize("kind", ["PromptTuningConfig", "PrefixTuningConfig"])
def test_virtual_tokens_before_learned_positions(family, few, gather, tmp_path, kind):
    """GPT-2 has no position for a full window behind virtual tokens: the plan's context must say so."""
    base = family("gpt2") / "base"
    folder = saved(base, tmp_path / kind, getattr(peft, kind)(num_virtual_tokens=4, task_type="CAUSAL_LM"))
    plan = plan_models(str(folder))
    room = {"max_length": plan.context_length, "stride": plan.context_length // 2}
    tables = gather(plan, few, options(128, **room)).tables
    tokenizer = load_tokenizer(base)
    assert_plain(tables["target"], adapted(folder, base), tokenizer, few, **room)
    assert_plain(tables["reference"], bare(base), tokenizer, few, **room)


# --- ways of running that are proven before the first record ----------------------------------------------


def scored(scorer):
    sequences = [Sequence(np.arange(start, start + length), 1) for start, length in ((3, 30), (50, 11), (111, 21))]
    return sequences, scorer.score(sequences, ["target"])["target"]


def assert_scores_of(model, sequences, found):
    for sequence, arrays in zip(sequences, found, strict=True):
        ids = torch.from_numpy(sequence.ids)
        with torch.inference_mode():
            log_probs = model(input_ids=ids[None]).logits[0].log_softmax(dim=-1)
        expected = log_probs[:-1].gather(1, ids[1:, None])[:, 0]
        np.testing.assert_allclose(arrays["log_prob"], expected, **CLOSE)


def test_logits_changed_behind_the_head_in_an_unknown_way_fall_back_to_the_models_own(full):
    resident = plan_models(str(full)).stages[0][1](FP32, "cpu")

    def sharpen(_module, _inputs, output):
        output.logits = output.logits * 2
        return output

    resident.module.register_forward_hook(sharpen)
    scorer = Scorer(resident, batch_tokens=128)
    assert not scorer.mode.uses_head
    assert_scores_of(resident.module, *scored(scorer))


def test_attention_that_looks_at_padding_gets_a_mask(full):
    """A stand-in for models that need one: without it every position takes in the whole row."""
    resident = plan_models(str(full)).stages[0][1](FP32, "cpu")
    seen = []

    def smear(module, args, kwargs):
        seen.append(kwargs.get("attention_mask"))
        if kwargs.get("attention_mask") is None and kwargs["input_ids"].shape[0] > 1:
            kwargs["input_ids"] = kwargs["input_ids"] + 1
        return args, kwargs

    resident.module.register_forward_pre_hook(smear, with_kwargs=True)
    scorer = Scorer(resident, batch_tokens=128)
    assert scorer.mode.uses_head
    assert scorer.mode.uses_mask
    sequences, found = scored(scorer)
    assert seen[-1].sum(dim=1).tolist() == [30, 21, 11]
    assert_scores_of(bare(full), sequences, found)


def test_a_model_whose_scores_depend_on_its_batch_is_refused(full):
    resident = plan_models(str(full)).stages[0][1](FP32, "cpu")
    resident.module.get_input_embeddings().register_forward_hook(lambda _m, _i, output: output * len(output))
    with pytest.raises(
        ModelError, match=r"gives other scores in a padded batch than for the same text alone .*differ by up to \d"
    ):
        Scorer(resident, batch_tokens=128)


def test_a_model_that_looks_ahead_is_refused(full):
    """Bidirectional attention behind a mask agrees with itself in any batch, and still is no language model."""
    resident = plan_models(str(full)).stages[0][1](FP32, "cpu")

    def look_ahead(_module, args, kwargs):
        mask = kwargs.get("attention_mask")
        ids = kwargs["input_ids"]
        mask = torch.ones_like(ids) if mask is None else mask
        embedded = resident.module.get_input_embeddings()(ids) * mask[..., None]
        kwargs["inputs_embeds"] = embedded + embedded.flip(1).cumsum(1).flip(1)
        kwargs["input_ids"] = None
        return args, kwargs

    resident.module.model.register_forward_pre_hook(look_ahead, with_kwargs=True)
    with pytest.raises(ModelError, match=r"causal language model"):
        Scorer(resident, batch_tokens=128)


def test_one_position_that_bfloat16_moves_is_noise(full):
    """A router of experts may flip on one token; looking ahead or at padding moves nearly all of them."""
    resident = plan_models(str(full)).stages[0][1](Numerics("cpu", "bf16"), "cpu")

    def flip(_module, inputs, output):
        if output.shape[1] == 12 and output.shape[0] == 1:  # half of the longer probe, alone
            output = output.clone()
            output[0, 5] *= -1
        return output

    resident.module.model.norm.register_forward_hook(flip)
    assert Scorer(resident, batch_tokens=128).mode.uses_head


def test_a_model_that_needs_a_mask_gets_one(full):
    resident = plan_models(str(full)).stages[0][1](FP32, "cpu")

    def insist(_module, _args, kwargs):
        if kwargs.get("attention_mask") is None and len(kwargs["input_ids"]) > 1:
            raise TypeError("attention_mask is required")

    resident.module.register_forward_pre_hook(insist, with_kwargs=True)
    scorer = Scorer(resident, batch_tokens=128)
    assert scorer.mode.uses_mask
    assert_scores_of(bare(full), *scored(scorer))


def test_layers_that_cannot_be_skipped_are_run(last_layer, base, monkeypatch):
    @contextlib.contextmanager
    def refuse(*_):
        raise ValueError("this layer returns more than its output")
        yield

    monkeypatch.setattr("loraudit.scoring.scorer.skipped", refuse)
    scorer = Scorer(plan_models(str(last_layer), base=str(base)).stages[0][1](FP32, "cpu"), batch_tokens=128)
    assert not scorer.shares_layers
    assert_scores_of(bare(last_layer), *scored(scorer))


def test_layers_are_not_shared_where_that_would_change_a_score(last_layer, base):
    plan = plan_models(str(last_layer), base=str(base))
    resident = plan.stages[0][1](FP32, "cpu")
    resident.n_shared_layers = 3  # a wrong belief: the last layer differs
    scorer = Scorer(resident, batch_tokens=128)
    assert not scorer.shares_layers
    found = scorer.score([Sequence(np.arange(2, 40), 1)], ["target", "reference"])
    assert not np.array_equal(found["target"][0]["log_prob"], found["reference"][0]["log_prob"])


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("kind", ["adapter", "head_only", "last_layer", "full"])
def test_lower_precision_moves_scores_a_little_and_no_more(request, base, few, gather, kind, precision):
    plan = plan_models(str(request.getfixturevalue(kind)), base=str(base))
    exact = gather(plan, few).tables
    rounded = gather(
        plan, few, ScoringOptions(["cpu"], Numerics("cpu", precision), CONTEXT, CONTEXT // 2, batch_tokens=512)
    ).tables
    for view, table in exact.items():
        gap = np.abs(rounded[view].columns["log_prob"] - table.columns["log_prob"])
        assert 0 < gap.mean() < 0.1
        assert rounded[view].columns["log_prob"].dtype == np.float32


# --- a model in memory ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["adapter", "full"])
def test_a_model_in_memory_is_scored_as_one_from_files(request, base, records, gather, kind, tokenizer):
    folder = request.getfixturevalue(kind)
    stored = gather(plan_models(str(folder), base=str(base)), records).tables
    module = (adapted(folder, base) if kind == "adapter" else bare(folder)).train()
    encoded = encode(records, tokenizer)
    with undisturbed(module):
        resident = live_resident(module)
        for view in resident.views:
            table = score_resident(resident, encoded, options(), view)
            assert list(table.status) == list(stored[view].status)
            for name in TOKEN_FIELDS:
                np.testing.assert_allclose(table.columns[name], stored[view].columns[name], **CLOSE)
            np.testing.assert_array_equal(table.offsets, stored[view].offsets)
            np.testing.assert_array_equal(table.n_windows, stored[view].n_windows)
    assert list(resident.views) == (["target", "reference"] if kind == "adapter" else ["target"])
    assert not any(table.is_inference() for table in module.state_dict().values())


@pytest.mark.parametrize(
    "config",
    [
        peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
        peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
        peft.IA3Config(
            task_type="CAUSAL_LM", target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"]
        ),
    ],
    ids=["prefix", "prompt", "ia3"],
)
def test_other_adapters_in_memory_are_switched_off_and_on_again(base, few, gather, tmp_path, tokenizer, config):
    folder = saved(base, tmp_path / "adapter", config)
    stored = gather(plan_models(str(folder), base=str(base)), few, options(max_length=32, stride=16)).tables
    module = adapted(folder, base)
    encoded = encode(few, tokenizer)
    for view in ("reference", "target"):
        with undisturbed(module):
            table = score_resident(live_resident(module), encoded, options(max_length=32, stride=16), view)
        np.testing.assert_allclose(table.columns["log_prob"], stored[view].columns["log_prob"], **CLOSE)
