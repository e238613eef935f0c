"""How probable it is that a model continues a prompt with nearly the true suffix: bounds from below and from above.

Decoding-constrained beam search (Cooper et al. 2026, arXiv:2603.24917): beginnings of continuations are extended only
by tokens that the decoding allows, each with its exact probability; those that can no longer end within the budget of
edits are dropped, and of the rest the most probable are kept. What the kept ones end with is mass that is there for
certain; what the width of the beam dropped is all that can be missing.

Here the true suffix itself is never dropped, so that the bound is at least its own probability, and the last token is
not searched but summed over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from loraudit.errors import ConfigError
from loraudit.memorization.edits import Distance, Hamming, Levenshtein
from loraudit.types import BoolArray, FloatArray, IntArray

DistanceName = Literal["hamming", "levenshtein"]
NextLogProbs = Callable[[IntArray], FloatArray]
"""From beginnings [B, t] to log-probabilities [B, V] of the next token; −inf for one that the decoding forbids."""


@dataclass(frozen=True, slots=True)
class NearVerbatimMass:
    """Probability that a continuation as long as the suffix is within the budget of edits.

    Attributes:
        lower: Of the continuations that were found: the truth is at least that.
        pruned: Of the beginnings that the width of the beam dropped and that could still have ended within the budget.
        verbatim: Of the suffix itself.
        n_beginnings: Beginnings that were extended, over all steps: what the search cost.
    """

    lower: float
    pruned: float
    verbatim: float
    n_beginnings: int

    @property
    def upper(self) -> float:
        """The truth is at most that."""
        return min(1.0, self.lower + self.pruned)


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """The beginnings that a beam goes on with.

    Attributes:
        parents: [B] which of the ones before each extends.
        tokens: [B] by which token.
    """

    parents: IntArray
    tokens: IntArray


class EditBeam:
    """The search, one token a call of `extend`; who gives it the probabilities is left open.

    Args:
        suffix: [L] the true continuation.
        budget: Edits allowed, in tokens.
        distance: Which edits: `hamming` (replacements) or `levenshtein` (insertions and deletions, too).
        width: Beginnings kept after each step.
        end_ids: Tokens that end a continuation before its time.

    Raises:
        ConfigError: The suffix is empty, the budget negative, the width below 1, or the distance unknown.

    Attributes:
        prefixes: [B, t] the beginnings.
    """

    def __init__(
        self,
        suffix: Sequence[int],
        budget: int,
        *,
        distance: DistanceName = "levenshtein",
        width: int = 32,
        end_ids: Sequence[int] = (),
    ) -> None:
        self.suffix = np.array(suffix, dtype=np.int64)
        _refuse_unfit(self.suffix, budget, distance, width)
        self.budget, self.width = budget, width
        self.end_ids = np.array(sorted(end_ids), dtype=np.int64)
        self.listed = np.union1d(self.suffix, self.end_ids)
        self._distance: Distance = (
            Hamming(len(self.suffix)) if distance == "hamming" else Levenshtein(len(self.suffix), bool(end_ids))
        )
        # One kind of token per listed one, and a last kind for all others, which equal no token of the suffix.
        self._is_equal = np.vstack([self.listed[:, None] == self.suffix, np.zeros(len(self.suffix), dtype=bool)])
        self.prefixes: IntArray = np.zeros((1, 0), dtype=np.int64)
        self._log_probs = np.zeros(1)
        self._states = self._distance.start()
        self._verbatim_row: int | None = 0
        self._found, self._pruned, self._verbatim, self._n_beginnings = 0.0, 0.0, 0.0, 0

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to extend."""
        return not len(self.prefixes)

    def extend(self, tokens: IntArray, log_probs: FloatArray, log_rest: FloatArray) -> Step:
        """Go on by one token.

        Args:
            tokens: [B, K] candidates of each beginning, all of `listed` among them, none twice.
            log_probs: [B, K] their log-probabilities under the decoding.
            log_rest: [B] log-probability of all tokens that are no candidates.

        Returns:
            The beginnings from now on; none after the last token of the suffix.
        """
        t = self.prefixes.shape[1]
        self._n_beginnings += len(self.prefixes)
        kinds = np.searchsorted(self.listed, tokens)
        kinds[self.listed[np.minimum(kinds, len(self.listed) - 1)] != tokens] = len(self.listed)
        states = self._distance.after(self._states, self._is_equal, t)
        paths = self._log_probs[:, None] + log_probs
        rests = np.exp(self._log_probs + log_rest)
        of_final = self._distance.final(states, t + 1) <= self.budget
        is_last = t + 1 == len(self.suffix)
        ends = np.full(tokens.shape, is_last) | np.isin(tokens, self.end_ids)
        rows = np.arange(len(tokens))[:, None]
        self._found += float(np.exp(paths[ends & of_final[rows, kinds]]).sum())
        is_verbatim = self._verbatim_places(tokens, t)
        if is_last:
            self._found += float(rests[of_final[:, -1]].sum())
            self._verbatim = float(np.exp(paths[is_verbatim]).sum())
            return self._go_on(states, kinds, tokens, paths, np.zeros((2, 0), dtype=np.int64), is_verbatim)
        of_alive = self._distance.least(states, t + 1) <= self.budget
        self._pruned += float(rests[of_alive[:, -1]].sum())
        is_alive = of_alive[rows, kinds] & ~ends & (paths > -np.inf)
        chosen = self._widest(np.where(is_alive, paths, -np.inf), is_verbatim & is_alive)
        is_alive[tuple(chosen)] = False
        self._pruned += float(np.exp(paths[is_alive]).sum())
        return self._go_on(states, kinds, tokens, paths, chosen, is_verbatim)

    def _verbatim_places(self, tokens: IntArray, t: int) -> BoolArray:
        """[B, K] which candidate is the true suffix so far."""
        is_verbatim = np.zeros(tokens.shape, dtype=bool)
        if self._verbatim_row is not None:
            is_verbatim[self._verbatim_row] = tokens[self._verbatim_row] == self.suffix[t]
        return is_verbatim

    def _widest(self, paths: FloatArray, is_verbatim: BoolArray) -> IntArray:
        """[2, width] rows and columns of the most probable, the true suffix always; first come first of equal ones."""
        priority = np.where(is_verbatim, np.inf, paths).ravel()
        order = np.argsort(-priority, kind="stable")[: self.width]
        return np.stack(np.unravel_index(np.sort(order[priority[order] > -np.inf]), paths.shape))

    def _go_on(
        self,
        states: IntArray,
        kinds: IntArray,
        tokens: IntArray,
        paths: FloatArray,
        chosen: IntArray,
        is_verbatim: BoolArray,
    ) -> Step:
        parents, columns = chosen
        step = Step(parents, tokens[parents, columns])
        self.prefixes = np.concatenate([self.prefixes[parents], step.tokens[:, None]], axis=1)
        self._log_probs = paths[parents, columns]
        self._states = states[parents, kinds[parents, columns]]
        verbatim = np.flatnonzero(is_verbatim[parents, columns])
        self._verbatim_row = int(verbatim[0]) if len(verbatim) else None
        return step

    def mass(self) -> NearVerbatimMass:
        """What was found; once the search is over."""
        return NearVerbatimMass(self._found, self._pruned, self._verbatim, self._n_beginnings)


def near_verbatim_mass(
    next_log_probs: NextLogProbs,
    suffix: Sequence[int],
    budget: int,
    *,
    distance: DistanceName = "levenshtein",
    width: int = 32,
    end_ids: Sequence[int] = (),
) -> NearVerbatimMass:
    """The search with probabilities from a function.

    Args:
        next_log_probs: The decoding.
        suffix: As `EditBeam`.
        budget: As `EditBeam`.
        distance: As `EditBeam`.
        width: As `EditBeam`.
        end_ids: As `EditBeam`.

    Raises:
        ConfigError: As `EditBeam`.

    Example:
        >>> import numpy as np
        >>> even = lambda prefixes: np.full((len(prefixes), 2), np.log(0.5))
        >>> near_verbatim_mass(even, [0, 1, 0], 1, distance="hamming").lower
        0.5
    """
    beam = EditBeam(suffix, budget, distance=distance, width=width, end_ids=end_ids)
    while not beam.is_over:
        log_probs = np.asarray(next_log_probs(beam.prefixes), dtype=np.float64)
        tokens: IntArray = np.arange(log_probs.shape[1], dtype=np.int64)
        beam.extend(np.tile(tokens, (len(log_probs), 1)), log_probs, np.full(len(log_probs), -np.inf))
    return beam.mass()


def _refuse_unfit(suffix: IntArray, budget: int, distance: str, width: int) -> None:
    if not len(suffix):
        raise ConfigError("The suffix of a near-verbatim search is empty. Expected at least one token.")
    if budget < 0:
        raise ConfigError(f"The edit budget {budget} is not possible. Expected 0 or more tokens.")
    if width < 1:
        raise ConfigError(f"The beam width {width} is not possible. Expected at least 1.")
    if distance not in {"hamming", "levenshtein"}:
        raise ConfigError(f"Edit distance '{distance}' is not known. Expected hamming or levenshtein.")
