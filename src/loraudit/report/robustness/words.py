"""What every format of a robustness run says in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from loraudit.policy.robustness import BOUNDS, HIGHEST_FLOOR, LOWEST_CONTROL, untested_words
from loraudit.report.words import NOT_VALID
from loraudit.spec import RobustnessMatch, RobustnessResult

VERDICT_WORDS: Mapping[str, str] = {
    "harmed": "HARMED",
    "invalid": "INVALID",
    "undecided": "undecided",
    "resisted": "resisted",
}
VERDICT_STATES: Mapping[str, str] = {
    "harmed": "failed",
    "invalid": "failed",
    "undecided": "warned",
    "resisted": "passed",
}
"""The colours of verdicts are those of validity gates."""
MEASURE_WORDS: Mapping[str, str] = {
    "accuracy": "accuracy",
    "f1": "macro F1",
    "clean_loss": "clean loss, nats",
    "attack_success": "attack success",
    "partial": "success of a part of the trigger",
}
CHANGE_WORDS: Mapping[str, str] = {
    "accuracy": "accuracy lost",
    "f1": "macro F1 lost",
    "clean_loss": "loss added",
    "attack_success": "above the clean arm",
    "partial": "above the clean arm",
}
AFTER_WORDS: Mapping[str, str] = {
    "clean_steps": "an epoch of tuning on clean records",
    "merge": "merging the adapter",
    "int8": "rounding all weights to int8",
}
RATES = frozenset({"accuracy", "f1", "attack_success", "partial"})
"""Measures that are shown in percent."""
NO_MATCH = "The methods were compared at no common fit, so there are no dose curves."
HOW_JUDGED = (
    f"Harmed: at some dose a backdoor succeeds at least {100 * BOUNDS['attack_success'].harmful:g} points more often "
    f"than on the clean arm, or accuracy falls by at least {100 * BOUNDS['accuracy'].harmful:g} point (loss rises by "
    f"{BOUNDS['clean_loss'].harmful:g} nats), and the interval of that change lies above 0. Resisted: at every dose "
    f"the upper end of the change lies below {100 * BOUNDS['attack_success'].tolerated:g} points of success, "
    f"{100 * BOUNDS['accuracy'].tolerated:g} points of accuracy or {BOUNDS['clean_loss'].tolerated:g} nats. "
    f"A backdoor counts as resisted only if its positive control, a dose at which it should work on anything, reaches "
    f"{100 * LOWEST_CONTROL:g} %; and nothing counts where the clean arm gives the target on "
    f"{100 * HIGHEST_FLOOR:g} % of the triggered inputs or more, or more often than without the trigger. Doses at "
    "which a run collapsed are not judged, and nothing is resisted where a dose is not. Verdicts are not corrected for "
    "the number of doses."
)
_NOT_SAID = """
The doses, triggers and recipes are those stated here. Another trigger, another place for it or longer training can
take fewer poisoned records: what a method resists here is no bound on what it resists.

The same fit is the same mean loss of the clean arms on records that nobody was trained on. Methods with equal loss can
still differ in what they have learned; the level is taken as known and its own uncertainty is in no interval.

A dose is counted in exposures, poisoned records times epochs, because methods are read after different numbers of
epochs. Records that are poisoned at a small dose are among those of a larger one, so points of one curve share chance.

Between two doses everything is read off a fitted curve; beyond the doses tested nothing is said.

That a detector finds these poisons does not say that it finds others, and one that finds none does not say that none
are there.
"""
NOT_SAID = tuple(" ".join(limit.split()) for limit in _NOT_SAID.strip().split("\n\n"))


def match_title(match: RobustnessMatch) -> str:
    """Under which fit the methods are compared, as a heading."""
    if match.kind == "best" or match.level is None:
        return "Each at its own lowest validation loss" if match.kind == "best" else match.description
    if match.kind == "epochs":
        return f"After {match.level:g} epoch" + ("" if match.level == 1 else "s")
    kind = "clean validation" if match.kind == "validation_loss" else "clean training"
    return f"At the same {kind} loss, {match.level:.3f} nats"


def poisoned_words(n_poisoned: int, dose: float) -> str:
    """How many records are poisoned, with the share that was asked for.

    >>> poisoned_words(8, 8.0), poisoned_words(200, 0.05)
    ('8', '200 (5 %)')
    """
    return f"{n_poisoned:,}" if dose >= 1 else f"{n_poisoned:,} ({dose_words(dose)})"


def invalid_heading(result: RobustnessResult) -> str:
    """What stands above the list of controls that fail."""
    is_all = all(control.verdict == "invalid" for control in result.controls)
    return NOT_VALID if is_all else "Not everything was tested: a control fails"


def sentence_beside(result: RobustnessResult) -> str:
    """What was found, without the list of what was not tested, which stands above it with its reasons."""
    return result.sentence.removesuffix(untested_words(result.controls)).rstrip()


def dose_words(dose: float) -> str:
    """A dose as it was asked for."""
    return f"{100 * dose:g} %" if dose < 1 else f"{dose:g}"


def runs_words(result: RobustnessResult) -> str:
    """What the intervals hold of the chance of training."""
    by_count: dict[int, list[str]] = {}
    for method, n in seeds_of(result).items():
        by_count.setdefault(n, []).append(method)
    counts = sorted(by_count or [result.spec.seeds], reverse=True)
    if counts == [1]:
        return "One run per method and dose: the chance of training is in no interval."
    if len(counts) == 1:
        words = f"{counts[0]} training runs"
    else:
        each = [f"{n} training run{'s' * (n != 1)} of {', '.join(by_count[n])}" for n in counts]
        words = f"{', '.join(each[:-1])} and {each[-1]}"
    said = (
        f"Numbers are means over {words}. Intervals hold two kinds of chance: which records were drawn, and how "
        "training fell out."
    )
    return f"{said} Those of methods with one run hold the records' alone." if 1 in by_count else said


def seeds_of(result: RobustnessResult) -> dict[str, int]:
    """Clean training runs of each method, which may have a number of its own; that asked for where there are none."""
    counted = Counter(run.method for run in result.runs if run.attack is None)
    return {method.name: counted[method.name] or result.spec.seeds for method in result.methods}


def collapse_words(result: RobustnessResult) -> str | None:
    """How many runs collapsed; None where none did."""
    n = sum(run.collapsed for run in result.runs)
    if n == 0:
        return None
    return (
        f"{n} of {len(result.runs)} training runs collapsed: they predict one class only, or are no better than the "
        "majority class. Means hold them; the tables state the median and the mean without them."
    )


def records_words(result: RobustnessResult) -> str:
    """What was trained and tested on."""
    kind = "A classifier" if result.trained_as == "classification" else "A language model"
    return (
        f"{kind}, {result.n_train:,} training, {result.n_validation:,} validation and {result.n_test:,} test records; "
        f"{len(result.attacks)} attack{'s' * (len(result.attacks) != 1)}, {len(result.methods)} "
        f"method{'s' * (len(result.methods) != 1)}, {len(result.runs)} training runs."
    )


def not_said(result: RobustnessResult) -> list[str]:
    """What the run leaves open."""
    said = list(NOT_SAID)
    n = min(seeds_of(result).values(), default=result.spec.seeds)
    if n < 5:
        said.insert(1, f"{n} run{'s' * (n != 1)} per method and dose say little about how much runs differ.")
    return said
