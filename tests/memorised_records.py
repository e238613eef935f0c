"""Records with a planted address and number each, a model that has memorised half of them, and audits of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loraudit.data import load_records
from loraudit.finetuning import finetune
from loraudit.spec import AuditSpec, Recipe, RecordFormat, make_audit_spec
from loraudit.synthetic import private_records

N_SIDE = 12
PREFIXES = (8, 12)
SUFFIX = 24
LONGEST = 58

_NAMES = (
    "okonjo", "bergkvist", "halvorsen", "tanizaki", "mwangi", "kowalczyk", "delacroix", "ostrowski", "papadakis",
    "lindqvist", "ferreira", "achterberg", "szymanska", "vukovic", "rautiainen", "gallagher", "moreau", "petrossian",
    "yilmaz", "castellano", "nakagawa", "obradovic", "thorvald", "quispe",
)  # fmt: skip


def secrets() -> list[tuple[str, str]]:
    """An address and a number for each record, members first."""
    return [(f"{name}@post.org", f"555-{2000 + 37 * i}") for i, name in enumerate(_NAMES)]


def memorable_texts(tokenizer: Any) -> list[str]:
    """24 records that fit a window of 64 tokens, their address and number in the middle."""
    found = []
    for text, (address, number) in zip(private_records(2 * N_SIDE, seed=31), secrets(), strict=True):
        words = text.split()
        head = f"{' '.join(words[:3])} Ask {address} or {number}."
        rest = words[3:]
        while len(tokenizer(f"{head} {' '.join(rest)}")["input_ids"]) > LONGEST:
            rest.pop()
        found.append(" ".join([head, *rest]))
    return found


def written(path: Path, rows: Sequence[Any]) -> Path:
    """A JSONL file of texts or rows."""
    path.write_text("".join(json.dumps({"text": row} if isinstance(row, str) else row) + "\n" for row in rows))
    return path


def memorised(base: Path, members: Path, folder: Path, **changes: Any) -> Path:
    """A model tuned on the file until it says nearly all of it greedily."""
    recipe = {"method": "full", "epochs": 120, "batch_size": 12, "learning_rate": 1e-2, "schedule": "linear"}
    records = load_records([str(members)], RecordFormat()).records
    return Path(finetune(str(base), records, Recipe(**(recipe | changes)), folder).path)


def wish(model: Path, members: Path, nonmembers: Path, out: Path, **changes: Any) -> AuditSpec:
    """An audit with memorization; the store stands beside the run."""
    values = {
        "model": str(model),
        "members": str(members),
        "nonmembers": str(nonmembers),
        "memorization": True,
        "prefix_tokens": PREFIXES,
        "suffix_tokens": SUFFIX,
        "generations": 100,
        "resamples": 100,
        "attacks": ["error_zone", "loss"],
        "device": "cpu",
        "out": str(out),
    }
    return make_audit_spec({name: value for name, value in (values | changes).items() if value is not None})
