"""What a membership attack is, and the registry of those that can be named."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from loraudit.errors import type_name
from loraudit.registry import Registry
from loraudit.types import FloatArray, TokenScores, Views

ScoreFunction = Callable[[Views], FloatArray]
SHADOWS = "shadow/0"
"""The first shadow model's view, which an attack names in `needs` to be given all of them."""
SHADOWS_IN = "shadow_in/0"
"""The same of shadow models that were trained on the record."""
SHADOW_VIEWS = frozenset({SHADOWS, SHADOWS_IN})
GRADIENT = "gradient"
"""What an attack names in `needs` to be given the target's gradient norms in `views.facts`; no view of its own."""
NEIGHBOURS = "neighbour/0"
"""What the target says of the first altered copy of each record; stands for all copies, as above."""
REFERENCE_NEIGHBOURS = "reference_neighbour/0"
"""What the reference says of the same copies."""
PREFIXED = "prefixed"
"""What the target says of each record behind records that it was not trained on."""
REFERENCE_PREFIXED = "reference_prefixed"
"""What the reference says of the same."""
SLOW_VIEWS = frozenset({NEIGHBOURS, REFERENCE_NEIGHBOURS, PREFIXED, REFERENCE_PREFIXED})
"""Views of records that were altered: each costs passes of its own, so they are made where they are asked for."""
Population = Literal["all", "nonmembers"]


@dataclass(frozen=True, slots=True)
class Attack:
    """A named pure function from views to one number per record.

    Attributes:
        name: Column in `scores.parquet` and name on the command line.
        score: Views of N records of T ≥ 1 audited tokens to [N] numbers; higher = more likely a
            member, NaN = undefined.
        needs: Views it reads; `gradient` stands for `views.facts.gradient_norm`.
        source: Paper the score comes from, and any departure from it.
        summary: One line for `loraudit attacks`.
        cost: Passes per record, such as "2 F": two forward passes.
    """

    name: str
    score: ScoreFunction
    needs: tuple[str, ...]
    source: str
    summary: str
    cost: str


Fit = Callable[[Iterable[Views]], ScoreFunction]


@dataclass(frozen=True, slots=True)
class FittedAttack:
    """An attack that first learns from a population of records, without being told which are members.

    Attributes:
        name: As of `Attack`.
        fit: The population, records of equal length together, to a score function.
        needs: Views it reads; `shadow/0` stands for all shadows there are.
        source: As of `Attack`.
        summary: As of `Attack`.
        cost: As of `Attack`.
        population: "all": the audited records themselves, whichever side they are on. "nonmembers": non-members of
            other folds than the record's own, so that its label decides nothing about its score.
    """

    name: str
    fit: Fit
    needs: tuple[str, ...]
    source: str
    summary: str
    cost: str
    population: Population = "all"

    def score(self, views: Views) -> FloatArray:
        """[N] scores of records that are their own population."""
        return self.fit([views])(views)


AnyAttack = Attack | FittedAttack


def _problem(name: str, entry: object) -> str | None:
    if not isinstance(entry, Attack | FittedAttack):
        return f"it is {type_name(entry)}, not a loraudit.Attack"
    return None if entry.name == name else f"the attack calls itself '{entry.name}'"


ATTACKS: Registry[AnyAttack] = Registry("attack", entry_point_group="loraudit.attacks", problem=_problem)
"""Built-in attacks, and those that installed packages declare in the entry-point group
`loraudit.attacks` as `name = package.module:attack_object`."""


def attack(name: str, *, needs: tuple[str, ...], source: str, summary: str) -> Callable[[ScoreFunction], Attack]:
    """Decorator that makes a score function an `Attack` and registers it under `name`."""

    def register(score: ScoreFunction) -> Attack:
        made = Attack(name, score, needs, source, summary, _cost(needs))
        ATTACKS.add(name, made)
        return made

    return register


def fitted_attack(
    name: str, *, needs: tuple[str, ...], source: str, summary: str, population: Population = "all"
) -> Callable[[Fit], FittedAttack]:
    """Decorator that makes a fitting function a `FittedAttack` and registers it under `name`."""

    def register(fit: Fit) -> FittedAttack:
        made = FittedAttack(name, fit, needs, source, summary, _cost(needs), population)
        ATTACKS.add(name, made)
        return made

    return register


_IN_WORDS = {
    SHADOWS: "shadows",
    SHADOWS_IN: "shadows that saw the record",
    NEIGHBOURS: "neighbours",
    REFERENCE_NEIGHBOURS: "neighbours under the reference",
    PREFIXED: "the record behind a prefix",
    REFERENCE_PREFIXED: "the same under the reference",
}


def needed_words(attack: AnyAttack) -> str:
    """The views an attack reads, for a person."""
    return ", ".join(_IN_WORDS.get(view, view) for view in attack.needs)


def is_slow(attack: AnyAttack) -> bool:
    """Whether an attack looks at altered copies of the records."""
    return not SLOW_VIEWS.isdisjoint(attack.needs)


def needed_models(attacks: Iterable[AnyAttack]) -> list[str]:
    """Views of the records as they are, by target and reference, that the attacks read; sorted."""
    return sorted({view for attack in attacks for view in attack.needs} - SHADOW_VIEWS - SLOW_VIEWS - {GRADIENT})


def _cost(needs: tuple[str, ...]) -> str:
    n_sets = len({NEIGHBOURS, REFERENCE_NEIGHBOURS}.intersection(needs))
    if n_sets:  # and one pass of the base, whose predictions the neighbours are drawn from
        return f"({len(needs) - n_sets + 1} + {'' if n_sets == 1 else n_sets}N) F"
    n_forward = len(set(needs) - SHADOW_VIEWS - {GRADIENT})
    return f"{n_forward} F" + " + 1 B" * (GRADIENT in needs) + " + K F and K trainings" * (SHADOWS in needs)


def per_record(score_one: Callable[[Views], float]) -> ScoreFunction:
    """Let an attack be written for one record at a time.

    Slower than a vectorised score, and as good for trying an idea. Each call of `score_one`
    gets views of shape [1, T].
    """

    def score(views: Views) -> FloatArray:
        n_records = len(next(iter(views.values())))
        rows = (_one(views, row) for row in range(n_records))
        return np.array([score_one(row) for row in rows], dtype=np.float64)

    return score


def _one(views: Views, row: int) -> Views:
    index = slice(row, row + 1)

    def cut(scores: TokenScores) -> TokenScores:
        return TokenScores(
            scores.log_prob[index],
            scores.is_top1[index],
            scores.margin[index],
            scores.mean_log_prob[index],
            scores.var_log_prob[index],
            scores.rank_bucket[index],
            {decoding: array[index] for decoding, array in scores.log_sum_exps.items()},
        )

    return Views({name: cut(scores) for name, scores in views.items()}, views.facts.take(index))
