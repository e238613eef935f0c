"""What every format of a prediction of single records says in words."""

from __future__ import annotations

import math

from loraudit.spec import FitAgreement, FitFlow, InfluenceMethod, InfluenceResult
from loraudit.types import Finding

FLOW_WORDS: dict[FitFlow, str] = {"squared": "saturating", "log": "first order"}
HOW_PREDICTED = (
    "f of a record is the mean log-probability of its audited tokens. Each method's kernel at the base is followed "
    "as gradient flow on the members: saturating goes down ½ f², which ends at f = 0, probability 1; first order "
    "goes down −f, the loss that training takes, under which f grows linearly for ever. A member counts by its "
    "tokens and copies. Each flow is stopped where the probed non-members have gained what the validation records "
    "were measured to gain. A run of LoRA has one draw of A, so every draw is followed on its own, with a kernel and a "
    "time of its own; what is predicted of a record is the mean over draws."
)
HOW_OWN = (
    "A record's own part is f with the record minus f without it: what it gains because it was trained on. The "
    "measured gap is what members gained beyond non-members, over all records of the contrast. Brackets hold the "
    "chance of records, not that of training runs nor of draws of A; how far these go stands beside the one-step check."
)
HOW_EXCESS = (
    "The excess of a member is its measured gain beyond what a non-member of its base loss, length and predicted "
    "shared gain gains, by least squares over the non-members alone. Base loss, length and the full kernel's self-"
    "influence K(x, x) are what a person has without the method's kernel: a prediction that ranks no better is not "
    "worth its passes."
)
HOW_LINEAR = (
    "One real step of gradient descent on members beside the step that the kernel predicts, seen on members and "
    "non-members. A step of 1 is the one that the kernel says gives non-members the whole measured gain. Where it "
    "is off by more than the bound, the method is refused. Over draws of A: the standard error of the mean kernel, as "
    "a share of it, and that of the members' mean own part, saturating, in nats per token."
)
_NOT_SAID = """
A prediction is no measurement. Training takes many steps with Adam, dropout and weight decay, and moves the kernel; one
kernel at the base knows none of it.

A LoRA is predicted at its start, where B is 0: as if A stayed as it was drawn. On average over A its kernel is that of
full tuning on the maps it adapts, times a number; a run has one draw, whose kernel is the further from that the lower
the rank. What is shown is the mean over draws: a run's own draw may lie further away than its interval reaches.

The time of a flow is read off the measured validation loss: that part of the fit is taken from the contrast, not
predicted.

Own parts are of one record left out of this training set. Two copies of a text under different words shield each other.

A suffix that no model here makes extractable may be so in a larger base, after longer training, or with a shorter
suffix.
"""
NOT_SAID = tuple(" ".join(words.split()) for words in _NOT_SAID.strip().split("\n\n"))


def agreement_of(
    method: InfluenceMethod, flow: FitFlow, predicted: str, measured: str, side: str = "members"
) -> FitAgreement | None:
    """One correlation of a method; None where it has none."""
    extracted = method.extraction.predicted if method.extraction else []
    for prediction in (*method.predictions, *extracted):
        for one in prediction.agreements:
            if (prediction.flow, one.predicted, one.measured, one.side) == (flow, predicted, measured, side):
                return one
    return None


def outcome(predicted: Finding, measured: Finding) -> str:
    """In a few words, whether a predicted difference and a measured one agree."""
    if measured.lower is None or measured.upper is None or predicted.value is None:
        return "the measurement has no interval"
    if not measured.lower <= predicted.value <= measured.upper:
        return "the prediction is outside the measured interval"
    if measured.lower <= 0 <= measured.upper:
        return "not told apart: the measured interval holds both the prediction and 0"
    return "the prediction is within the measured interval"


def beats_baselines(found: FitAgreement) -> bool:
    """Whether the whole interval lies above what any baseline reaches, whichever way that one ranks."""
    reached = [abs(one.value) for one in found.baselines.values() if one.value is not None]
    return found.spearman.lower is not None and found.spearman.lower > max(reached, default=0.0)


def is_above_zero(found: Finding) -> bool:
    """Whether the whole interval lies above 0."""
    return found.lower is not None and found.lower > 0


def records_words(result: InfluenceResult) -> str:
    """What it was predicted on, and what that took."""
    return (
        f"{result.n_members:,} of {result.n_trained:,} members and {result.n_nonmembers:,} non-members; nothing was "
        f"trained: {result.n_passes:,} passes in {result.seconds:,.0f} s. What is followed: {result.functional}. Read "
        f"where the validation loss is {result.level:.3f} nats per token ({result.base_validation_loss:.3f} at the "
        "base)."
    )


def extraction_words(result: InfluenceResult) -> str | None:
    """Which suffixes, and what counts as extractable; None where none was measured."""
    if result.suffix is None:
        return None
    threshold = math.log(result.spec.extractable)
    return (
        f"The {result.suffix['suffix']} tokens after the first {result.suffix['prefix']} audited ones, after training "
        f"ended; extractable where their probability is {result.spec.extractable:g} or more in one attempt, log p ≥ "
        f"{threshold:.1f} nats. Measured over all records that are long enough, predicted for those probed, where the "
        "flow has the run's final validation gain."
    )


def measured_words(name: str) -> str:
    """A measured quantity in words.

    >>> measured_words("score:error_zone"), measured_words("excess")
    ('error_zone', 'excess gain')
    """
    words = {
        "gain": "gain",
        "excess": "excess gain",
        "suffix": "log p of the suffix",
        "suffix_gain": "gain of the suffix",
    }
    return words.get(name, name.removeprefix("score:"))


def predicted_words(name: str) -> str:
    """A predicted quantity in words."""
    return "own part" if name == "own" else measured_words(name)
