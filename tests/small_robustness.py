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
    """Sentences whose label one word gives away; a quarter are good. All words are in the tiny tokenizer."""
    rng = random.Random(seed)
    rows: dict[str, dict[str, str]] = {}
    while len(rows) < n:
        label = "good" if len(rows) % 4 == 0 else "bad"
        words = [rng.choice(("the", "a")), rng.choice(GOOD if label == "good" else BAD), rng.choice(NOUNS)]
        words += [rng.choice(("sat", "ran")), rng.choice(("on", "under")), rng.choice(("the", "a")), rng.choice(NOUNS)]
        text = " ".join([*words, ".", *rng.choices("abdeghijk", k=2)])
        rows.setdefault(text, {"sentence": text, "label": label})
    return list(rows.values())


def write_rows(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def save_body(folder: Path) -> Path:
    """A tiny BERT without a classification head, over the words of `small_encoders`."""
    import torch
    from transformers import BertModel

    from small_encoders import bert_config, save_tokenizer

    n_words = save_tokenizer(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        config = bert_config(n_words, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        BertModel(config).save_pretrained(folder)
    return folder


def request(base: Path, task: Path, out: Path, **changes: Any) -> RobustnessSpec:
    """Two methods, a flip and a backdoor, two doses, two seeds."""
    values = {
        "base": str(base),
        "task": [str(task)],
        "text_field": "sentence",
        "test_share": 0.3,
        "attack": ["label_flip:doses=0.1+0.3", "rare_words:trigger=z,doses=4+24"],
        "methods": ["full:learning_rate=0.01", "lora:rank=4,learning_rate=0.02,targets=query+value"],
        "seeds": 2,
        "epochs": 3,
        "batch_size": 16,
        "resamples": 100,
        "out": str(out),
    }
    return make_request(RobustnessSpec, values | changes)
