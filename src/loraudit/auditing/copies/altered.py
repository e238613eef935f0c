"""What slow attacks are to look at: the records as tokens, and the tokens to put before them.

The records of the prefix are none of the audited ones: they come from `--recall-prefix` or `--pool`, or are non-members
set aside beforehand.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from loraudit.auditing.references.wanted import disjoint_data
from loraudit.auditing.request import Sides
from loraudit.data import Encoded, Prefix, RecordSet, behind_prefix, encode, joined_prefix, token_record
from loraudit.membership import NEIGHBOURS, PREFIXED, REFERENCE_NEIGHBOURS, AnyAttack, is_slow
from loraudit.scoring import ScoringOptions
from loraudit.spec import AuditSpec
from loraudit.types import BoolArray, Record

FEWEST_PREFIX_TOKENS = 16
LONG_SHARE = 0.05
"""Of the records, at most, that may be too long for the prefix before it is made shorter for their sake."""
_SHOTS = 42
_SEPARATOR = "\n"


@dataclass(frozen=True, slots=True)
class WantedSlow:
    """What slow attacks were asked for.

    Attributes:
        n_neighbours: Altered copies of each record; 0 where no attack looks at any.
        shots: Records of the prefix; none where no attack looks at it.
        shots_from: Where those are from, in words.
        data: The files they are from; None where they are non-members set aside.
        seed: Of the draws.
    """

    n_neighbours: int
    shots: Sequence[Record]
    shots_from: str
    data: RecordSet | None
    seed: int


def requested_slow(spec: AuditSpec, sides: Sides, attacks: Iterable[AnyAttack]) -> WantedSlow | None:
    """What the slow ones among these attacks need; None where none is slow.

    Raises:
        DataError: Records of the prefix cannot be read, or are audited.
    """
    needs = {view for attack in attacks if is_slow(attack) for view in attack.needs}
    if not needs:
        return None
    n_neighbours = spec.neighbours if needs & {NEIGHBOURS, REFERENCE_NEIGHBOURS} else 0
    if PREFIXED not in needs:
        return WantedSlow(n_neighbours, (), "", None, spec.seed)
    if sides.aside:
        return WantedSlow(n_neighbours, sides.aside, "non-members set aside", None, spec.seed)
    flag, paths = ("--recall-prefix", spec.recall_prefix) if spec.recall_prefix else ("--pool", spec.pool)
    data = disjoint_data(spec, paths, sides, flag=flag)
    order = np.random.default_rng([spec.seed, _SHOTS]).permutation(len(data.records))[: spec.recall_shots]
    shots = tuple(data.records[i] for i in order)
    return WantedSlow(n_neighbours, shots, f"records of {flag}", data, spec.seed)


class AlteredTokens(NamedTuple):
    """Records as tokens, and what is put before them.

    Attributes:
        encoded: [N] the records.
        prefix: Tokens of other records; None where no attack looks at it or the window has no room.
        fits: [N] whether prefix and record fit into one window.
        bos_id: The tokenizer's beginning-of-text token.
        special_ids: Tokens that are neither replaced nor put in.
        unfit: Why there is no prefix though one was asked for.
    """

    encoded: list[Encoded]
    prefix: Prefix | None
    fits: BoolArray
    bos_id: int | None
    special_ids: tuple[int, ...]
    unfit: str | None = None

    def prefixed(self) -> list[Record]:
        """The records that fit, behind the prefix."""
        if self.prefix is None:
            return []
        items = (behind_prefix(self.encoded[i], self.prefix, bos_id=self.bos_id) for i in np.flatnonzero(self.fits))
        return [token_record(item, source="a record behind the prefix", line=n) for n, item in enumerate(items, 1)]


def altered_tokens(
    wanted: WantedSlow, records: Sequence[Record], spec: AuditSpec, options: ScoringOptions, tokenizer: Any
) -> AlteredTokens:
    """Records and prefix as tokens. A prefix that is too long loses its beginning.

    Raises:
        DataError: A chat cannot be rendered.
    """
    how: dict[str, Any] = {"span": spec.span, "append_eos": spec.append_eos}
    encoded = encode(records, tokenizer, **how)
    bos_id = tokenizer.bos_token_id
    special = tuple(int(i) for i in tokenizer.all_special_ids)
    lengths = np.array([len(item.ids) for item in encoded])
    nothing = AlteredTokens(encoded, None, np.zeros(len(encoded), dtype=bool), bos_id, special)
    if not wanted.shots:
        return nothing
    longest = int(np.quantile(lengths, 1 - LONG_SHARE, method="higher"))
    room = options.max_length - longest
    if room < FEWEST_PREFIX_TOKENS:
        return nothing._replace(
            unfit=f"records of {longest} tokens leave room for {max(0, room)} tokens of prefix in a window of "
            f"{options.max_length}; expected {FEWEST_PREFIX_TOKENS} or more: a longer --max-length where the model "
            "allows it, or shorter records"
        )
    between = tokenizer(_SEPARATOR, add_special_tokens=False)["input_ids"]
    prefix = joined_prefix(encode(wanted.shots, tokenizer, **how), between, bos_id=bos_id, room=room)
    return nothing._replace(prefix=prefix, fits=lengths + len(prefix.ids) <= options.max_length)


def slow_options(options: ScoringOptions) -> ScoringOptions:
    """Altered copies are tokens already, and carry their own mask of what is audited."""
    return replace(options, span="trained", append_eos=False)
