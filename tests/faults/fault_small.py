"""An audit that takes less than a second: short records, and one unit or two."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from faults.fault_process import starter

FACTS = ("id", "source", "line", "is_member", "group", "n_tokens", "n_windows", "status", "subgroup", "n_copies")


def attack_columns(table: Any) -> list[str]:
    """Names of the columns that hold an attack's scores."""
    return [name for name in table.column_names if name not in FACTS and "." not in name]


_UNDISTURBED: dict[str, Path] = {}
"""Kept here and not by a fixture of the session, which would run before a test has a LORAUDIT_HOME of its own."""


def write_sides(texts: Sequence[str], folder: Path) -> None:
    """60 members and 60 non-members of some 60 tokens, `m.jsonl` and `n.jsonl`."""
    for name, rows in (("m", texts[:60]), ("n", texts[60:])):
        lines = [json.dumps({"text": row[:110]}) + "\n" for row in rows]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")


def request(target: object, base: object, **options: object) -> tuple[object, ...]:
    """Words of a command on those records in the working folder."""
    flags = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)]
    sides = ("--members", "m.jsonl", "--nonmembers", "n.jsonl", "--resamples", 100, "-q")
    return "audit", target, "--base", base, *sides, "-o", "run", *flags


def undisturbed_small(target: Path, base: Path, texts: Sequence[str], tmp_path_factory: Any) -> Path:
    """Working folder of that run when nothing happens to it."""
    if "folder" not in _UNDISTURBED:
        folder = tmp_path_factory.mktemp("undisturbed-small")
        write_sides(texts, folder)
        code, _, err = starter().run(folder, *request(target, base))
        assert code == 0, err
        _UNDISTURBED["folder"] = folder
    return _UNDISTURBED["folder"]


def scores_of(folder: Path) -> pa.Table:
    """`scores.parquet` of the run `folder / "run"`."""
    return pq.read_table(folder / "run" / "scores.parquet")
