"""A grid of tuning methods that may be hundreds: which are drawn as lines, and how LoRAs stand in heat maps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from loraudit.spec import KAIMING_VARIANCE, ForecastMethod

MOST_LINES = 8
"""Lines that one figure can hold apart."""
MOST_ROWS = 12
"""Rows of a table that is shown unfolded and whole."""
N_ENDS = 5
"""Methods at either end that stand in for a longer table."""
_MOST_RANKS = 10

Key = Callable[[ForecastMethod], float | str]
_AXES: Mapping[str, Key] = {
    "c": lambda method: method.variance or 0.0,
    "alpha": lambda method: 0.0 if method.alpha_follows_rank else method.alpha or 0.0,
    "targets": lambda method: method.targets or "",
}


@dataclass(frozen=True, slots=True)
class Panel:
    """LoRAs as a grid: ranks from left to right, one other setting from top to bottom.

    Attributes:
        title: Settings that all of them share while other panels have others; empty where there is one panel alone.
        row_title: The setting that tells rows apart.
        rows: Its values as words.
        ranks: Of the columns.
        cells: One list per row, one method per rank; None where the grid has none.
    """

    title: str
    row_title: str
    rows: list[str]
    ranks: list[int]
    cells: list[list[ForecastMethod | None]]


def arms_of(methods: Sequence[ForecastMethod]) -> dict[str, int]:
    """Marks by which methods are known: of all, or of those that are drawn where there are more than can be."""
    shown = methods if len(methods) <= MOST_LINES else drawn(methods)
    return {method.name: position for position, method in enumerate(shown)}


def drawn(methods: Sequence[ForecastMethod]) -> list[ForecastMethod]:
    """At most `MOST_LINES` of the methods that are not refused: all of them, or the ends of the grid.

    Those that are no LoRA come first. Of LoRAs, those that share variance, alpha and targets with the most usual one:
    the lowest, the highest and a middle rank. Then, at the middle rank, the lowest and highest of every other setting.
    """
    known = [method for method in methods if method.refused is None]
    if len(known) <= MOST_LINES:
        return known
    plain = [method for method in known if method.rank is None]
    loras = [method for method in known if method.rank is not None]
    chosen = plain[: MOST_LINES - 1]
    if loras:
        first = min(loras, key=_unusual)
        line = sorted((one for one in loras if _alike(one, first)), key=lambda one: one.rank or 0)
        middle = line[len(line) // 2]
        wanted = [line[0], middle, line[-1]]
        for axis, key in _AXES.items():
            beside = [one for one in loras if one.rank == middle.rank and _alike(one, middle, but=axis)]
            wanted += sorted(beside, key=key)[:: max(1, len(beside) - 1)] if len(beside) > 1 else []
        chosen += {method.name: method for method in wanted}.values()
    names = {method.name for method in chosen[:MOST_LINES]}
    return [method for method in known if method.name in names]


def line_names(methods: Sequence[ForecastMethod]) -> dict[str, str]:
    """Names of the drawn methods for the ends of lines, without what they share with the most usual LoRA.

    A grid over c and alpha has names such as `lora:8,c=2,alpha=16`; where most of it is alike, `lora:8,c=2` tells.
    """
    shown = drawn(methods)
    loras = [method for method in shown if method.rank is not None]
    usual = min(loras, key=_unusual).name.split(",")[1:] if loras else []
    shortened = {
        one.name: ",".join([part for k, part in enumerate(one.name.split(",")) if k == 0 or part not in usual])
        for one in shown
    }
    return shortened if len(set(shortened.values())) == len(shown) else {one.name: one.name for one in shown}


def panels(methods: Sequence[ForecastMethod]) -> list[Panel]:
    """Every LoRA once, usual settings first; wider grids than ten ranks go on in a further panel."""
    loras = [method for method in methods if method.rank is not None]
    if not loras:
        return []
    varied = [axis for axis, key in _AXES.items() if len({key(one) for one in loras}) > 1]
    down = varied[0] if varied else "c"
    further = varied[1:]
    groups: dict[tuple[float | str, ...], list[ForecastMethod]] = {}
    for method in loras:
        groups.setdefault(tuple(_AXES[axis](method) for axis in further), []).append(method)
    ranks = sorted({method.rank or 0 for method in loras})
    parts = [ranks[start : start + _MOST_RANKS] for start in range(0, len(ranks), _MOST_RANKS)]
    usual_first = sorted(groups.items(), key=lambda one: min(map(_unusual, one[1])))
    return [
        _panel(down, ", ".join([*map(setting_words, further, of), *_ranks_words(part, ranks)]), group, part)
        for of, group in usual_first
        for part in parts
    ]


def setting_words(axis: str, value: float | str) -> str:
    """A setting as a heat map names it.

    >>> setting_words("c", 1 / 3), setting_words("targets", "mlp")
    ('c 0.333', 'targets mlp')
    """
    return f"{axis} {value}" if isinstance(value, str) else f"{axis} {value:.3g}"


def _panel(down: str, title: str, group: Sequence[ForecastMethod], ranks: list[int]) -> Panel:
    key = _AXES[down]
    values = sorted({key(method) for method in group}, key=lambda value: (isinstance(value, str), value))
    by_place = {(key(method), method.rank): method for method in group}
    cells = [[by_place.get((value, rank)) for rank in ranks] for value in values]
    rows = [value if isinstance(value, str) else f"{value:.3g}" for value in values]
    return Panel(title, down, rows, ranks, cells)


def _unusual(method: ForecastMethod) -> tuple[bool, float, float]:
    """How far a LoRA's settings are from PEFT's variance, an alpha of 16 or twice the rank, and all linear maps."""
    variance = math.log((method.variance or KAIMING_VARIANCE) / KAIMING_VARIANCE)
    alpha = 0.0 if method.alpha_follows_rank else abs(math.log((method.alpha or 16.0) / 16.0))
    return method.targets not in {None, "all"}, abs(variance), alpha


def _ranks_words(part: Sequence[int], ranks: Sequence[int]) -> list[str]:
    return [] if len(part) == len(ranks) else [f"ranks {part[0]} to {part[-1]}"]


def _alike(one: ForecastMethod, other: ForecastMethod, *, but: str = "") -> bool:
    return all(key(one) == key(other) for axis, key in _AXES.items() if axis != but)
