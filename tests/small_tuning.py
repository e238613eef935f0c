"""What the tests of fine-tuning share: short records, other tiny architectures, and ways to stop a run."""

from __future__ import annotations

import contextlib
import random
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from conftest import CONTEXT, VOCABULARY
from loraudit.data import record_id
from loraudit.execution import Interrupted, Silent, StopRequest
from loraudit.finetuning import TrainedModel, finetune
from loraudit.types import Record


def rows(texts: Sequence[str], *, words: int = 8, labels: Sequence[str] | None = None) -> list[Record]:
    """Records of the first words of each text: some 10 to 40 tokens."""
    short = [" ".join(text.split()[:words]) for text in texts]
    given = labels or [None] * len(short)
    return [
        Record(record_id(text=text, label=label), "rows", line, text=text, label=label)
        for line, (text, label) in enumerate(zip(short, given, strict=True), start=1)
    ]


def labelled(texts: Sequence[str]) -> list[Record]:
    """Records whose label their first word gives away."""
    names = ["no", "yes"] * len(texts)
    return rows(
        [f"{name} {text}" for name, text in zip(names, texts, strict=False)], words=6, labels=names[: len(texts)]
    )


def token_ids(tokenizer: Any, record: Record) -> torch.Tensor:
    """[1, L]."""
    return torch.tensor(tokenizer(record.text)["input_ids"])[None]


# --- models -------------------------------------------------------------------------------------------


def save_gpt2(folder: Path, tokenizer: Any, *, dropout: float = 0.0, tied: bool = True) -> Path:
    """A 2-layer GPT-2 with biases, learned positions, and a head tied to the embedding."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=CONTEXT,
        bos_token_id=0,
        eos_token_id=1,
        initializer_range=0.2,
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
        tie_word_embeddings=tied,
    )
    return _saved(GPT2LMHeadModel, config, folder, tokenizer)


def save_bert(folder: Path, tokenizer: Any) -> Path:
    """A 2-layer BERT with a language-model head, so without the pooler that a classifier needs."""
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT,
        initializer_range=0.2,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=1,
    )
    return _saved(BertForMaskedLM, config, folder, tokenizer)


def save_tied_llama(folder: Path, tokenizer: Any) -> Path:
    """A 2-layer Llama whose head is its input embedding."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
        initializer_range=0.2,
    )
    return _saved(LlamaForCausalLM, config, folder, tokenizer)


def _saved(kind: Any, config: Any, folder: Path, tokenizer: Any) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        kind(config).eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def bare(folder: Path) -> Any:
    """The checkpoint as plain transformers loads it."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def with_adapter(base: Path, folder: Path) -> Any:
    """Base and adapter as plain PEFT loads them."""
    import peft

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return peft.PeftModel.from_pretrained(bare(base), folder).eval()


def logits_of(module: Any, n_tokens: int = 20) -> torch.Tensor:
    """[1, L, V] of a fixed row of tokens, without those of virtual tokens in front of it."""
    ids = torch.arange(3, 3 + n_tokens)[None]
    modes = {part: part.training for part in module.modules()}
    module.eval()
    with torch.no_grad():
        found = module(input_ids=ids).logits[:, -n_tokens:]
    for part, mode in modes.items():
        part.training = mode
    return found


def mean_loss(module: Any, rows_of_ids: Sequence[torch.Tensor]) -> float:
    """Mean over all predictions of all rows, nats."""
    total = n_predictions = 0.0
    with torch.no_grad():
        for ids in rows_of_ids:
            total += module(input_ids=ids, labels=ids).loss.item() * (ids.shape[1] - 1)
            n_predictions += ids.shape[1] - 1
    return total / n_predictions


# --- what a run leaves --------------------------------------------------------------------------------


def exposure(out: Path) -> dict[str, np.ndarray]:
    """Columns of the exposure log."""
    table = pq.read_table(out / "training" / "exposure.parquet")
    return {name: table[name].to_numpy() for name in table.column_names}


def step_losses(out: Path) -> np.ndarray:
    """Mean loss over the predictions of each step."""
    log = exposure(out)
    steps = np.unique(log["step"])
    return np.array(
        [
            np.average(log["loss"][log["step"] == step], weights=log["n_predictions"][log["step"] == step])
            for step in steps
        ]
    )


def weights(out: Path) -> dict[str, torch.Tensor]:
    """Every tensor of the folder's safetensors files."""
    from safetensors.torch import load_file

    return {name: tensor for file in sorted(out.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def contents(out: Path) -> dict[str, bytes]:
    """Bytes of the weights, the exposure log and all checkpoints."""
    files = [*out.rglob("*.safetensors"), *out.rglob("*.parquet")]
    return {str(file.relative_to(out)): file.read_bytes() for file in sorted(files)}


# --- stopping -----------------------------------------------------------------------------------------


class StopAt(StopRequest):
    """Stops at the question number `n`."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.left = n

    def check(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Interrupted


class Crash(Exception):  # noqa: N818 - nothing went wrong
    """As if the process had gone away."""


class CrashAt(Silent):
    """Fails after so many steps of this process, without a word to the training."""

    def __init__(self, n: int) -> None:
        self.left = n

    def advance(self, n: int) -> None:
        self.left -= 1
        if self.left < 0:
            raise Crash


def with_interruptions(seed: int, *args: Any, longest: int = 4, **options: Any) -> tuple[TrainedModel, int]:
    """`finetune`, stopped or crashed at random steps and begun again until it is through; and how often it was."""
    rng = random.Random(seed)
    for n_times in range(100):
        n_steps = rng.randint(1, longest)
        how = {"stop": StopAt(n_steps)} if rng.random() < 0.5 else {"progress": CrashAt(n_steps)}
        with contextlib.suppress(Interrupted, Crash):
            return finetune(*args, **options, **how), n_times
    raise AssertionError("it never came to its end")


@contextlib.contextmanager
def seen_modules(monkeypatch: Any) -> Iterator[list[Any]]:
    """The modules of the runs within, as they stand when training has ended."""
    from loraudit.finetuning import tune

    seen: list[Any] = []
    train = tune.train

    def watched(run: Any) -> Any:
        outcome = train(run)
        seen.append(run.module)
        return outcome

    with monkeypatch.context() as patch:
        patch.setattr(tune, "train", watched)
        yield seen
