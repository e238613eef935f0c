"""Whether what a run states is what follows from what it stores, entry by entry."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from loraudit.errors import EXIT_LIMIT_EXCEEDED
from loraudit.review.checks import Check
from loraudit.spec import Request, spec_hash

_CLOSE = 1e-4
_TINY = 1e-6
_NAMED_AT_MOST = 5
_TIMES = {"seconds"}


def check(name: str, problem: str | None, fine: str) -> Check:
    """A check that failed where there is a problem."""
    return Check(name, "ok", fine) if problem is None else Check(name, "failed", problem, EXIT_LIMIT_EXCEEDED)


def check_spec(spec: Request, stated: str) -> Check:
    """Whether the recorded hash is that of the recorded request."""
    if "***" in spec.model_dump_json():
        return Check("spec", "skipped", "the request held what looked like credentials, which are not kept")
    found = spec_hash(spec)
    problem = None if found == stated else f"the spec hashes to {found[:12]}…, not to the recorded hash"
    return check("spec", problem, "the recorded hash is that of the recorded request")


def check_files(recorded: Mapping[str, str]) -> Iterator[Check]:
    """Whether files are what they were: name → sha256."""
    for name, digest in recorded.items():
        try:
            with Path(name).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            yield Check(f"data {name}", "skipped", "not here")
            continue
        problem = None if found == digest else "the file has changed since the run"
        yield check(f"data {name}", problem, "unchanged")


def check_equal(name: str, stated: Any, again: Any) -> Check:
    """Whether two trees agree, numbers to four digits: matrix products round differently on other processors."""
    before, after = dict(_leaves(stated)), dict(_leaves(again))
    differing = [key for key in before.keys() | after.keys() if not _same(before.get(key), after.get(key))]
    problem = None
    if differing:
        shown = "; ".join(
            f"{key}: stated {before.get(key)}, recomputed {after.get(key)}"
            for key in sorted(differing)[:_NAMED_AT_MOST]
        )
        problem = f"{len(differing)} of {len(before)} entries differ: {shown}"
    return check(name, problem, f"{len(before):,} entries recomputed and equal")


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(path, number or word) of everything inside; times left out."""
    if hasattr(value, "model_dump"):
        value = value.model_dump()
    elif hasattr(value, "__dataclass_fields__"):
        value = {name: getattr(value, name) for name in value.__dataclass_fields__}
    if isinstance(value, Mapping):
        for name, part in value.items():
            if name not in _TIMES:
                yield from _leaves(part, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list | tuple):
        for number, part in enumerate(value):
            yield from _leaves(part, f"{path}[{number}]")
    else:
        yield path, value


def _same(one: Any, two: Any) -> bool:
    if isinstance(one, float) and isinstance(two, float):
        return math.isclose(one, two, rel_tol=_CLOSE, abs_tol=_TINY)
    return one == two
