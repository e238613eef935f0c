"""Other values that could stand where a personal value stands, to rank the true one among."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from loraudit.errors import ConfigError
from loraudit.memorization.personal.fields import PersonalField


def candidates_for(
    field: PersonalField, others: Iterable[PersonalField], *, n_candidates: int, rng: np.random.Generator
) -> list[str]:
    """Up to `n_candidates` − 1 other values of the field's kind, drawn without replacement.

    They differ from the true value and from each other also after normalisation. What is drawn depends on which
    values there are, not on their order or how often each occurs. Fewer are given where fewer exist: a rank among
    them is one among `len(result) + 1`.

    Args:
        field: The true one.
        others: Fields to draw from, of any kind; the true one may be among them.
        n_candidates: C, the true value included.
        rng: Source of the draw.

    Raises:
        ConfigError: `n_candidates` is below 2.

    References:
        Lukas et al. 2023, arXiv:2302.00539, §4 (inference of a masked value from C candidates).
    """
    return _Pool(others).draw(field, n_candidates, rng)


def all_candidates(fields: Sequence[PersonalField], *, n_candidates: int, rng: np.random.Generator) -> list[list[str]]:
    """For each field, in order, what `candidates_for` would draw from all of them; sorted once for all.

    Raises:
        ConfigError: `n_candidates` is below 2.
    """
    pool = _Pool(fields)
    return [pool.draw(field, n_candidates, rng) for field in fields]


class _Pool:
    """Distinct values of each kind, in an order that follows from the values alone."""

    def __init__(self, fields: Iterable[PersonalField]) -> None:
        by_kind: dict[str, dict[str, str]] = {}
        for field in fields:
            values = by_kind.setdefault(field.kind, {})
            key = field.key
            values[key] = min(field.value, values.get(key, field.value))
        self._values = {kind: [values[key] for key in sorted(values)] for kind, values in by_kind.items()}
        self._places = {kind: {key: at for at, key in enumerate(sorted(values))} for kind, values in by_kind.items()}

    def draw(self, field: PersonalField, n_candidates: int, rng: np.random.Generator) -> list[str]:
        if n_candidates < 2:
            raise ConfigError(
                f"Number of candidates {n_candidates} leaves no choice. Expected at least 2. Raise n_candidates."
            )
        values = self._values.get(field.kind, [])
        true = self._places.get(field.kind, {}).get(field.key)
        n_others = len(values) - (true is not None)
        if not n_others:
            return []
        drawn = rng.choice(n_others, size=min(n_candidates - 1, n_others), replace=False)
        return [values[at + (true is not None and at >= true)] for at in map(int, drawn)]
