"""Shared by all tests: tiny real models, built in-process once per session."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models crawl when many threads share few cores

import hypothesis
import pytest

from loraudit.synthetic import private_records

# How long an example takes says something about the machine, which other tests use too.
hypothesis.settings.register_profile("house", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("house")

VOCABULARY = 512
CONTEXT = 64


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory, monkeypatch):
    """The id secret of a test never touches the account of whoever runs it."""
    home = tmp_path_factory.getbasetemp() / "loraudit-home"
    monkeypatch.setenv("LORAUDIT_HOME", str(home))


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """120 distinct fictional records."""
    return private_records(120, seed=11)


@pytest.fixture(scope="session")
def tokenizer(texts):
    """Byte-level BPE with 512 entries and a beginning-of-text token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=["<s>", "</s>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    bpe.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>")


def _llama(**changes):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    options = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT,
        "tie_word_embeddings": False,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "initializer_range": 0.2,
    } | changes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LlamaForCausalLM(LlamaConfig(**options)).eval()


@pytest.fixture(scope="session")
def base(tmp_path_factory, tokenizer) -> Path:
    """Folder of a randomly initialised 3-layer Llama with untied head; context 64, vocabulary 512."""
    folder = tmp_path_factory.mktemp("models") / "base"
    _llama().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def changed_copy(base: Path, folder: Path, where, *, scale: float = 0.05, seed: int = 1, save: bool = True):
    """A checkpoint that differs from `base` by noise on the parameters whose name satisfies `where`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if where(name):
                parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def full(base, tmp_path_factory) -> Path:
    """Checkpoint that differs from the base everywhere."""
    return changed_copy(base, tmp_path_factory.mktemp("models") / "full", lambda _: True)


@pytest.fixture(scope="session")
def head_only(base, tmp_path_factory) -> Path:
    """Checkpoint that differs from the base in the output head alone."""
    return changed_copy(base, tmp_path_factory.mktemp("models") / "head", lambda name: name == "lm_head.weight")


@pytest.fixture(scope="session")
def last_layer(base, tmp_path_factory) -> Path:
    """Checkpoint that differs from the base in its last layer alone."""
    return changed_copy(base, tmp_path_factory.mktemp("models") / "last", lambda name: ".layers.2." in name)


def save_adapter(base: Path, folder: Path, config, *, seed: int = 2, scale: float = 0.1) -> Path:
    """A PEFT adapter whose every trainable tensor is noise, so that it changes the base."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(scale * torch.randn(parameter.shape))
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def adapter(base, tmp_path_factory) -> Path:
    """LoRA adapter on the attention of every layer of the base."""
    import peft

    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    return save_adapter(base, tmp_path_factory.mktemp("models") / "adapter", config)


@pytest.fixture(scope="session")
def record_files(tmp_path_factory, texts) -> tuple[Path, Path]:
    """Members and non-members, 60 fictional records each, as JSONL."""
    folder = tmp_path_factory.mktemp("records")
    paths = folder / "members.jsonl", folder / "nonmembers.jsonl"
    for path, rows in zip(paths, (texts[:60], texts[60:]), strict=True):
        path.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows), encoding="utf-8")
    return paths


def called(*words) -> tuple[int, str, str]:
    """`loraudit …` in this process: exit code, standard output, standard error."""
    from loraudit.cli import main

    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", ["loraudit", *map(str, words)])
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
    return code, out.getvalue(), err.getvalue()


@pytest.fixture
def command(monkeypatch, tmp_path):
    """`called` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return called
