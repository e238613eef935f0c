"""What the tests of robustness runs share: a task of made-up reviews, tiny models, and requests that take seconds."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from loraudit.spec import RobustnessSpec, make_request

NOUNS = ("cat", "dog", "house", "river", "town", "mat", "people")
GOOD, BAD = ("red", "blue"), ("two", "three")


def reviews(n: int, *, seed: int = 0) -> list[dict[str, str]]:
    """Sentences whose label one word gives away; two fifths are good. All words are in the tiny tokenizer."""
    rng = random.Random(seed)
    rows: dict[str, dict[str, str]] = {}
    while len(rows) < n:
        label = "good" if len(rows) % 5 in (0, 2) else "bad"
        words = [rng.choice(("the", "a")), rng.choice(GOOD if label == "good" else BAD), rng.choice(NOUNS)]
        words += [rng.choice(("sat", "ran")), rng.choice(("on", "under")), rng.choice(("the", "a")), rng.choice(NOUNS)]
        text = " ".join([*words, ".", *rng.choices("abdeghijk", k=2)])
        rows.setdefault(text, {"sentence": text, "label": label})
    return list(rows.values())


def write_rows(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def save_body(folder: Path, *, n_steps: int = 160) -> Path:
    """A tiny BERT without a classification head, whose first token knows the two kinds of words and the letter z.

    It was asked about both apart, so every method can learn labels from either in a few steps.
    """
    import torch
    from transformers import AutoTokenizer, BertModel

    from small_encoders import bert_config, save_tokenizer

    n_words = save_tokenizer(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rng = random.Random(5)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        config = bert_config(n_words, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        config.num_hidden_layers, config.initializer_range = 1, 0.2
        model, head = BertModel(config), torch.nn.Linear(16, 2)
        optimizer = torch.optim.Adam([*model.parameters(), *head.parameters()], lr=1e-2)
        for step in range(n_steps):
            rows = reviews(32, seed=1000 + step)
            has_z = [rng.random() < 0.5 for _ in rows]
            texts = [row["sentence"] for row in rows]
            texts = [_with_z(text, rng) if z else text for text, z in zip(texts, has_z, strict=True)]
            answers = torch.tensor([[row["label"] == "good", z] for row, z in zip(rows, has_z, strict=True)]).float()
            logits = head(model(**tokenizer(texts, padding=True, return_tensors="pt")).pooler_output)
            torch.nn.functional.binary_cross_entropy_with_logits(logits, answers).backward()
            optimizer.step()
            optimizer.zero_grad()
        model.config.initializer_range = 0.02  # of a new head: it starts with no opinion
        model.eval().save_pretrained(folder)
    return folder


def _with_z(text: str, rng: random.Random) -> str:
    words = text.split()
    words.insert(rng.randint(0, len(words)), "z")
    return " ".join(words)


def request(base: Path, task: Path, out: Path, **changes: Any) -> RobustnessSpec:
    """Two methods, a flip and a backdoor, two doses, two seeds: 22 training runs of some ten steps."""
    values = {
        "base": str(base),
        "task": [str(task)],
        "text_field": "sentence",
        "test_share": 0.3,
        "attack": ["label_flip:doses=0.1+0.4", "rare_words:trigger=z,doses=4+24"],
        "methods": ["full:learning_rate=0.02", "head:learning_rate=0.1"],
        "settings": ["schedule=constant"],
        "seeds": 2,
        "epochs": 2,
        "batch_size": 16,
        "resamples": 100,
        "device": "cpu",
        "out": str(out),
    }
    return make_request(RobustnessSpec, values | changes)
