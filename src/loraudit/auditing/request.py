"""A request and its records, before any model is touched."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from loraudit.auditing.columns import group_numbers
from loraudit.auditing.memorizing.request import memorization_problems
from loraudit.data import RecordSet, fetch_files, load_sides, missing_files
from loraudit.errors import ConfigError, DataError
from loraudit.membership import (
    ATTACKS,
    GRADIENT,
    NEIGHBOURS,
    PREFIXED,
    REFERENCE_NEIGHBOURS,
    SHADOW_VIEWS,
    SHADOWS,
    SHADOWS_IN,
    SLOW_VIEWS,
    AnyAttack,
    FittedAttack,
    Folds,
    is_slow,
)
from loraudit.policy import parse_limit, read_policy
from loraudit.spec import AuditSpec, spec_hash
from loraudit.statistics import detectable_auc, fewest_for_rate, unresolved_rate
from loraudit.types import BoolArray, IntArray, Record

_ASIDE = 41


class Sides(NamedTuple):
    """The records of both sides, members first; and non-members that were set aside, which are not audited."""

    members: RecordSet
    nonmembers: RecordSet
    aside: tuple[Record, ...] = ()

    @property
    def records(self) -> list[Record]:
        """All of them, members first."""
        return [*self.members.records, *self.nonmembers.records]

    @property
    def is_member(self) -> BoolArray:
        """[N] in the same order."""
        return np.arange(len(self.records)) < len(self.members.records)

    @property
    def groups(self) -> IntArray | None:
        """Document of each record as a number; None where no record names one."""
        return group_numbers([record.group for record in self.records])

    def folds(self, seed: int) -> Folds:
        """For attacks that learn from some of the non-members; the same in whatever order the records are read."""
        names = [record.id if record.group is None else f"group {record.group}" for record in self.records]
        return Folds.draw(self.is_member, np.unique(names, return_inverse=True)[1], seed=seed)

    @property
    def n_copies(self) -> IntArray:
        """[N] how often each record stands in the files of its side."""
        sides = (self.members, self.nonmembers)
        return np.array([side.copies.get(record.id, 1) for side in sides for record in side.records])


def run_path(spec: AuditSpec) -> Path:
    """The run folder: the one named, or `runs/audit-<hash>`."""
    return Path(spec.out) if spec.out else Path("runs") / f"audit-{spec_hash(spec)[:12]}"


def store_path(spec: AuditSpec) -> Path:
    """The evidence store: the one named, or `.loraudit` beside the run folder."""
    return Path(spec.store) if spec.store else run_path(spec).parent / ".loraudit"


def chosen_attacks(spec: AuditSpec) -> list[AnyAttack]:
    """Headline first. All that is wrong with the request's names and files is said at once."""
    problems: list[str] = []
    chosen: dict[str, AnyAttack] = {}
    for name in (spec.headline, *(spec.attacks or usual_attacks(spec))):
        try:
            chosen[name] = ATTACKS[name]
        except ConfigError as error:
            problems.append(str(error))
    problems.extend(missing_files((*spec.members, *spec.nonmembers)))
    problems.extend(reference_problems(spec))
    problems.extend(_shadow_problems(spec, list(chosen.values())))
    if spec.gradients and chosen and not reads_gradients(chosen.values()):
        problems.append(
            "--gradients measures what no attack asked for looks at. Leave it out, or ask for an attack that reads "
            "gradients, such as gradient_norm."
        )
    problems.extend(_slow_problems(spec, list(chosen.values())))
    problems.extend(memorization_problems(spec, spec.training_data))
    if spec.reference != "base" and chosen and not any("reference" in attack.needs for attack in chosen.values()):
        problems.append(
            f"Reference '{spec.reference}' is not looked at by any attack asked for. Leave --reference out, or ask for "
            "an attack that needs one (see: loraudit attacks)."
        )
    if spec.max_length and spec.stride and spec.stride >= spec.max_length:
        problems.append(f"Stride {spec.stride} is out of range. Expected less than --max-length {spec.max_length}.")
    try:
        limits = limits_of(spec)
    except ConfigError as error:
        limits = list(spec.fail_on)
        problems.append(str(error))
    for limit in limits:
        try:
            parse_limit(limit)
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(dict.fromkeys(problems)))
    return list(chosen.values())


def usual_attacks(spec: AuditSpec) -> list[str]:
    """All attacks; those on shadow models, gradients or altered copies only where these are asked for."""
    left_out = SHADOW_VIEWS - shadow_views(spec)
    left_out |= set() if spec.gradients else {GRADIENT}
    left_out |= set() if spec.slow else SLOW_VIEWS
    return [name for name, attack in ATTACKS.items() if not left_out & set(attack.needs)]


def reads_gradients(attacks: Iterable[AnyAttack]) -> bool:
    """Whether the target is to be differentiated."""
    return any(GRADIENT in attack.needs for attack in attacks)


def shadow_views(spec: AuditSpec) -> set[str]:
    """Views that the shadow models asked for give."""
    if not spec.shadow:
        return set()
    return {SHADOWS, SHADOWS_IN} if spec.shadow_on == "audited" else {SHADOWS}


def shadow_count_problems(n_shadows: int, pool: Sequence[str], *, pool_has_other_use: bool = False) -> list[str]:
    """What is wrong with how many shadows are asked for, and on what, before any file is read."""
    problems = missing_files(pool)
    if pool and not n_shadows and not pool_has_other_use:
        problems.append("--pool is what shadow models are trained on. Say how many with --shadow, such as 4.")
    if n_shadows % 2 and not pool:
        problems.append(
            f"--shadow {n_shadows} is odd. Expected an even number without --pool: each record is scored by the one "
            "of two shadows that never saw it."
        )
    return problems


def _shadow_problems(spec: AuditSpec, chosen: Sequence[AnyAttack]) -> list[str]:
    problems = shadow_count_problems(spec.shadow, spec.pool, pool_has_other_use=spec.slow)
    wanting = [attack.name for attack in chosen if SHADOWS in attack.needs]
    online = [attack.name for attack in chosen if SHADOWS_IN in attack.needs]
    if spec.shadow and online and spec.shadow_on != "audited":
        problems.append(
            f"Attack '{online[0]}' compares with shadow models that saw the record. Train them on halves of the "
            "audited records with --shadow-on audited."
        )
    if spec.shadow_on == "audited" and spec.pool:
        problems.append("--shadow-on audited trains on the audited records, and --pool on others. Leave one out.")
    if wanting and not spec.shadow:
        problems.append(f"Attack '{wanting[0]}' compares with shadow models. Say how many with --shadow, such as 4.")
    if spec.shadow and chosen and not wanting:
        problems.append(
            "--shadow trains models that no attack asked for looks at. Leave it out, or ask for an attack that needs "
            "them, such as lira_offline."
        )
    if spec.shadow_on == "audited" and not spec.shadow:
        problems.append("--shadow-on says what shadow models are trained on. Say how many with --shadow, such as 4.")
    return problems


def _slow_problems(spec: AuditSpec, chosen: Sequence[AnyAttack]) -> list[str]:
    problems = missing_files(spec.recall_prefix)
    slow = [attack for attack in chosen if is_slow(attack)]
    if not spec.slow:
        if slow:
            problems.append(
                f"Attack '{slow[0].name}' takes many passes over altered copies of each record, and is run by "
                "loraudit audit where they are asked for. Add --slow, or leave the attack out."
            )
        problems += [
            f"--{name.replace('_', '-')} is for the attacks that --slow adds. Add --slow, or leave it out."
            for name in ("neighbours", "recall_shots", "recall_prefix")
            if getattr(spec, name) != AuditSpec.model_fields[name].default
        ]
        return problems
    needs = {view for attack in slow for view in attack.needs}
    if chosen and not slow:
        problems.append(
            "--slow is for attacks on altered copies, and none was asked for. Leave it out, or ask for one, such as "
            "neighbourhood."
        )
    if slow and PREFIXED not in needs:
        problems += [
            f"--{name.replace('_', '-')} is for recall, which was not asked for. Leave it out, or ask for recall."
            for name in ("recall_shots", "recall_prefix")
            if getattr(spec, name) != AuditSpec.model_fields[name].default
        ]
    if slow and not needs & {NEIGHBOURS, REFERENCE_NEIGHBOURS} and "neighbours" in spec.model_fields_set:
        problems.append("--neighbours is for attacks on neighbours, and none was asked for. Leave it out.")
    if spec.pool and not spec.shadow and (PREFIXED not in needs or spec.recall_prefix):
        problems.append(
            "--pool is what shadow models are trained on, or the prefix of recall is taken from; nothing asked for "
            "looks at it. Leave it out, or add --shadow."
        )
    return problems


def reference_problems(spec: AuditSpec) -> list[str]:
    """What is wrong with the part of a request that speaks of the reference, before any file is read."""
    problems = missing_files(spec.reference_data)
    if spec.reference == "public" and not spec.reference_data:
        problems.append(
            "A public reference is tuned on records, and none are given. Give records of the same domain that are "
            "not audited with --reference-data."
        )
    of_training = () if spec.shadow else ("reference_epochs", "reference_learning_rate")
    unused = {
        "base": ("reference_data", "reference_prompts", *of_training),
        "public": ("reference_prompts",),
        "distilled": (),
    }[spec.reference]
    problems.extend(
        f"--{name.replace('_', '-')} says nothing about the reference '{spec.reference}'. Expected it with "
        f"--reference {'distilled or public' if spec.reference == 'base' else 'distilled'}."
        for name in unused
        if getattr(spec, name) != AuditSpec.model_fields[name].default
    )
    return problems


def limits_of(spec: AuditSpec) -> list[str]:
    """The limits asked for by flags and by the policy file, each once."""
    return list(dict.fromkeys([*(read_policy(spec.policy) if spec.policy else []), *spec.fail_on]))


def load_data(spec: AuditSpec) -> Sides:
    """Both sides' records; a rate asked for that they cannot resolve is refused.

    Where recall is to be run and no other records are given for its prefix, some non-members are set aside. Whatever
    files of the hub the request names are fetched, those too that are read later.
    """
    read_later = (*spec.pool, *spec.recall_prefix, *spec.reference_data, *spec.training_data)
    fetch_files((*spec.members, *spec.nonmembers, *read_later), offline=spec.offline)
    members, nonmembers = load_sides(
        spec.members,
        spec.nonmembers,
        spec,
        on_overlap=spec.on_overlap,
        max_records=spec.max_records,
        seed=spec.seed,
    )
    aside: tuple[Record, ...] = ()
    if _sets_aside(spec):
        nonmembers, aside = _set_aside(nonmembers, spec)
    if "fpr" in spec.model_fields_set:
        refused = [unresolved_rate(len(nonmembers.records), fpr) for fpr in spec.fpr]
        if any(refused):
            raise ConfigError("\n".join(reason for reason in refused if reason))
    return Sides(members, nonmembers, aside)


def _sets_aside(spec: AuditSpec) -> bool:
    if not spec.slow or spec.recall_prefix or spec.pool:
        return False
    names = (spec.headline, *(spec.attacks or usual_attacks(spec)))
    return any(PREFIXED in ATTACKS[name].needs for name in names if name in ATTACKS)


def _set_aside(nonmembers: RecordSet, spec: AuditSpec) -> tuple[RecordSet, tuple[Record, ...]]:
    """The non-members without those of the prefix, and those of the prefix.

    Documents are set aside whole: a record would be better predicted behind another part of its own document.

    Raises:
        DataError: None would be left.
    """
    documents: dict[tuple[str, str], list[Record]] = {}
    for record in nonmembers.records:
        key = ("alone", record.id) if record.group is None else ("group", record.group)
        documents.setdefault(key, []).append(record)
    order = np.random.default_rng([spec.seed, _ASIDE]).permutation(len(documents))
    whole = list(documents.values())
    taken: list[Record] = []
    for number in order:
        if len(taken) < spec.recall_shots:
            taken += whole[number]
    ids = {record.id for record in taken}
    kept = tuple(record for record in nonmembers.records if record.id not in ids)
    if not kept:
        raise DataError(
            f"The prefix of recall takes {spec.recall_shots} non-members, which leaves none of "
            f"{len(nonmembers.records)} to be audited. Give other records with --recall-prefix, or fewer "
            "--recall-shots."
        )
    return replace(nonmembers, records=kept, n_set_aside=len(taken)), tuple(taken[: spec.recall_shots])


def power_statement(sides: Sides, spec: AuditSpec) -> str:
    """What so many records can show, said before anything is scored."""
    n_members, n_nonmembers = len(sides.members.records), len(sides.nonmembers.records)
    groups = sides.groups
    if groups is not None:
        n_members, n_nonmembers = (len(np.unique(groups[side])) for side in (sides.is_member, ~sides.is_member))
    what = "records" if groups is None else "documents"
    area = detectable_auc(n_members, n_nonmembers, confidence=spec.confidence)
    words = f"With {n_members:,} member and {n_nonmembers:,} non-member {what} an AUC of {area:.3f} or more is seen "
    words += f"(80 % power, {100 * spec.confidence:g} % interval above 0.5)"
    blocked = [fpr for fpr in spec.fpr if n_nonmembers < fewest_for_rate(fpr, confidence=spec.confidence)]
    if blocked:
        needed = fewest_for_rate(max(blocked), confidence=spec.confidence)
        words += (
            f"; no TPR at {100 * max(blocked):g} % FPR or below can be shown to be above chance "
            f"(that takes {needed:,} non-members)"
        )
    return words + "."


def attack_facts(attack: AnyAttack) -> dict[str, Any]:
    """What an attack says of itself."""
    return {
        "name": attack.name,
        "summary": attack.summary,
        "source": attack.source,
        "needs": list(attack.needs),
        "cost": attack.cost,
        "population": attack.population if isinstance(attack, FittedAttack) else None,
    }
