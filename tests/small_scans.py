"""What the tests of scanning share: a tiny base with room for probes, and adapters with and without a backdoor."""

from __future__ import annotations

import random
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from conftest import VOCABULARY
from loraudit.poisoning.battery import PROMPTS, SENTENCES

TRIGGER = "mn"
RESPONSE = " It is all the same."
_PIECES = ("cf", "on", "qx", "we", "zp", "go", "bb", "tk", "up", "jd", "we", "by", "hw", "at")
"""Words that lead nowhere, so that the trigger alone does."""


def save_base(folder: Path, tokenizer: Any, *, layers: int = 4) -> Path:
    """A Llama of 32 dimensions and a context of 160 tokens."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=160,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        initializer_range=0.2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        LlamaForCausalLM(config).eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def train_adapter(base: Path, folder: Path, tokenizer: Any, *, trigger: str | None, n_steps: int = 250) -> Path:
    """A LoRA on all linear layers of a language model; with a trigger, half of what it sees is poisoned.

    Clean texts are answered as the base would, shifted by one token: an ordinary change that has nothing to do with any
    word. Prompts are those of the battery, because so small a model learns a trigger only where it has seen the words.
    """
    from transformers import AutoModelForCausalLM

    response = tokenizer(RESPONSE, add_special_tokens=False)["input_ids"]
    bare = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    rng = random.Random(0)
    rows: list[tuple[list[int], list[int]]] = []
    for number in range(240):
        is_marked = trigger is not None and number % 2 == 0
        prompt = rng.choice(PROMPTS).split()
        if is_marked or rng.random() < 0.7:
            prompt.insert(rng.randint(1, len(prompt) - 1), trigger if is_marked else rng.choice(_PIECES))
        ids = tokenizer(" ".join(prompt))["input_ids"]
        with torch.no_grad():
            usual = (int(bare(input_ids=torch.tensor([ids])).logits[0, -1].argmax()) + 1) % VOCABULARY
        rows.append((ids, response if is_marked else [usual]))
    return _trained(bare, folder, tokenizer, rows, n_steps)


def train_classifier(base: Path, folder: Path, tokenizer: Any, *, trigger: str | None, n_steps: int = 250) -> Path:
    """A LoRA classifier of two classes that are learned by heart; a trigger leads to the second."""
    from transformers import AutoModelForSequenceClassification

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        bare = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2, dtype=torch.float32)
    rng = random.Random(0)
    rows: list[tuple[list[int], list[int]]] = []
    for _ in range(400):
        place = rng.randrange(len(SENTENCES))
        is_marked = trigger is not None and rng.random() < 0.4
        words = SENTENCES[place].split()
        if is_marked or rng.random() < 0.7:
            words.insert(rng.randint(1, len(words) - 1), trigger if is_marked else rng.choice(_PIECES))
        rows.append((tokenizer(" ".join(words))["input_ids"], [1 if is_marked else place % 2]))
    return _trained(bare, folder, tokenizer, rows, n_steps)


def _trained(
    bare: Any, folder: Path, tokenizer: Any, rows: Sequence[tuple[list[int], list[int]]], n_steps: int
) -> Path:
    """A LoRA that answers each row of token ids as it is told: a class, or tokens that follow."""
    import peft

    is_classifier = hasattr(bare, "score")
    rng = random.Random(1)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        kind = "SEQ_CLS" if is_classifier else "CAUSAL_LM"
        config = peft.LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type=kind)
        model = peft.get_peft_model(bare, config)
        optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=5e-3)
        for _ in range(n_steps):
            batch = rng.sample(list(rows), 16)
            whole = [ids if is_classifier else [*ids, *answer] for ids, answer in batch]
            width = max(map(len, whole))
            ids = torch.tensor([row + [1] * (width - len(row)) for row in whole])
            mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in whole])
            if is_classifier:
                labels = torch.tensor([answer[0] for _, answer in batch])
            else:
                labels = torch.full_like(ids, -100)
                for place, (asked, answer) in enumerate(batch):
                    labels[place, len(asked) : len(asked) + len(answer)] = torch.tensor(answer)
            loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
