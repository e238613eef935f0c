"""What is asked of audits during training, checked as far as it can be without a model."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from loraudit.auditing.request import Sides, chosen_attacks
from loraudit.data import InMemory, Row, fetch_files, load_sides, names_file
from loraudit.errors import ConfigError
from loraudit.membership import ATTACKS, AnyAttack
from loraudit.models.plan import REFERENCE, TARGET
from loraudit.policy import Limit, parse_limit
from loraudit.spec import AuditSpec, RecordFormat, make_audit_spec
from loraudit.statistics import unresolved_rate
from loraudit.types import Record

Path: TypeAlias = str | os.PathLike[str]
Records: TypeAlias = Path | Sequence[Path] | Iterable[Row | Mapping[str, Any] | Record]
"""A file or a list of files; or texts, rows of columns (a `datasets.Dataset` is such) or records at hand."""

_VIEWS = {TARGET, REFERENCE}
_IN_TRAINING = "the model in training"


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """A checked request.

    Attributes:
        spec: What an ordinary audit would be asked; of records at hand it names none.
        members: Where members come from.
        nonmembers: Likewise.
        attacks: Headline first.
        limits: Conditions that stop the training.
    """

    spec: AuditSpec
    members: Sequence[str | InMemory]
    nonmembers: Sequence[str | InMemory]
    attacks: Sequence[AnyAttack]
    limits: Sequence[Limit]

    def load(self) -> Sides:
        """Both sides' records.

        Raises:
            DataError: As in an audit: unusable rows, or a record on both sides.
            EnvironmentFault: A file of the hub cannot be had.
            ConfigError: A rate was asked for that so few non-members cannot resolve.
        """
        spec = self.spec
        files = [source for source in (*self.members, *self.nonmembers) if isinstance(source, str)]
        fetch_files(files, offline=spec.offline)
        sides = Sides(*load_sides(self.members, self.nonmembers, spec, max_records=spec.max_records, seed=spec.seed))
        if "fpr" in spec.model_fields_set:
            refused = [unresolved_rate(len(sides.nonmembers.records), fpr) for fpr in spec.fpr]
            if any(refused):
                raise ConfigError("\n".join(reason for reason in refused if reason))
        return sides


def make_request(
    members: Records, nonmembers: Records, stop_if: str | Sequence[str], layout: RecordFormat, **options: Any
) -> Request:
    """A request from what the callback was given.

    Args:
        members: Records trained on.
        nonmembers: Records of the same kind that are not.
        stop_if: Limits.
        layout: Where the text stands.
        **options: Other keys of `AuditSpec`.

    Raises:
        ConfigError: All that is wrong with it.
    """
    sources = {"members": _sources(members, "members"), "nonmembers": _sources(nonmembers, "nonmembers")}
    spec = make_audit_spec(
        {
            **layout.model_dump(),
            **options,
            **{side: [str(_name(source)) for source in given] for side, given in sources.items()},
            "model": _IN_TRAINING,
            "fail_on": stop_if,
        }
    )
    files = {side: tuple(s for s in given if isinstance(s, str)) for side, given in sources.items()}
    named = [ATTACKS[name] for name in (spec.headline, *spec.attacks) if name in ATTACKS]
    blocked = [attack.name for attack in named if not set(attack.needs) <= _VIEWS]
    if blocked:
        raise ConfigError(
            f"Attacks {', '.join(blocked)} need more than the model in training and its reference. "
            "Expected attacks that compare these two; see: loraudit attacks"
        )
    usable = [a for a in chosen_attacks(spec.model_copy(update=files)) if set(a.needs) <= _VIEWS]
    limits = [parse_limit(text) for text in spec.fail_on]
    return Request(spec, sources["members"], sources["nonmembers"], usable, limits)


def _name(source: str | InMemory) -> str:
    return source.name if isinstance(source, InMemory) else source


def _sources(given: Records, name: str) -> list[str | InMemory]:
    if isinstance(given, str | os.PathLike):
        return [os.fspath(given)]
    if isinstance(given, Sequence) and given and all(_is_file(entry) for entry in given):
        return [os.fspath(entry) for entry in given]  # type: ignore[arg-type]
    rows: Any = list(given) if isinstance(given, Iterator) else given  # one that runs dry could be read only once
    return [InMemory(name, rows)]


def _is_file(entry: object) -> bool:
    return isinstance(entry, os.PathLike) or (isinstance(entry, str) and names_file(entry))
