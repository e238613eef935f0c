"""What a prediction of single records says in words."""

from __future__ import annotations

from collections.abc import Sequence

from loraudit.report.influence import BASELINE_WORDS, agreement_of, beats_baselines, is_above_zero, outcome
from loraudit.spec import ContrastResult, FitAgreement, InfluenceMethod
from loraudit.types import Finding

_ALWAYS = (
    "It is what gradient flow of the kernel at the base would do: neither momentum, Adam's rescaling nor the change of "
    "the kernel in training is in it."
)


def heading_of(methods: Sequence[InfluenceMethod]) -> str:
    """The prediction in a few words."""
    followed = [one for one in methods if one.refused is None]
    if not followed:
        return "No record is predicted: tuning this base is not linear enough"
    said = []
    for words, predicted, measured in (
        ("which records gain most", "gain", "gain"),
        ("what is a record's own", "own", "excess"),
    ):
        found = [agreement_of(one, "squared", predicted, measured) for one in followed]
        n = sum(one is not None and is_above_zero(one.spearman) for one in found)
        n_best = sum(one is not None and beats_baselines(one) for one in found)
        clearly = "none" if n_best == 0 else f"{n_best}"
        said.append(
            f"{words} is predicted better than by chance for {n} of {len(followed)} methods, clearly better than by "
            f"any baseline for {clearly}"
        )
    told = "; ".join(said)
    refused = len(methods) - len(followed)
    more = f" ({refused} of {len(methods)} refused)" if refused else ""
    return told[0].upper() + told[1:] + more


def sentence_of(methods: Sequence[InfluenceMethod], level: float) -> str:
    """The prediction with its numbers."""
    said = [f"Read where the validation loss is {level:.3f} nats."]
    for one in methods:
        if one.refused is not None:
            said.append(f"{one.name} is refused.")
            continue
        parts = []
        for words, predicted, measured in (
            ("gain", "gain", "gain"),
            ("own part against excess", "own", "excess"),
        ):
            found = agreement_of(one, "squared", predicted, measured)
            if found is not None:
                parts.append(f"{words} ρ = {_number(found.spearman, 2)}, {best_baseline(found)}")
        squared = next((flow for flow in one.predictions if flow.flow == "squared"), None)
        if squared is not None and squared.own is not None:
            error = squared.own_draw_error
            draws = "" if error is None else f" (standard error over draws of A {error:.4f})"
            gap = _number(one.gap, 4)
            parts.append(f"own part {_number(squared.own, 4)}{draws} predicted, gap {gap} measured, nats per token")
        if parts:
            said.append(f"{one.name}, members: {'; '.join(parts)}.")
        said += _compared(one)
    return " ".join([*said, _ALWAYS])


def _compared(one: InfluenceMethod) -> list[str]:
    """Whether theory and measurement agree on how two methods differ at the same fit."""
    if one.against is None:
        return []
    predicted = one.against.predicted.get("squared")
    if predicted is None or predicted.value is None:
        return []
    measured = one.against.measured
    words = (
        f"At the same fit {one.against.other} is predicted to make {_number(predicted, 4)} more of a record its own "
        f"than {one.name}; the measured gaps differ by {_number(measured, 4)} nats per token"
    )
    return [f"{words}: {outcome(predicted, measured)}."]


def warnings_of(
    methods: Sequence[InfluenceMethod], contrast: ContrastResult, n_members: int, has_no_suffixes: bool
) -> list[str]:
    """What the report must say first."""
    said: list[str] = []
    if n_members < contrast.n_members:
        said.append(
            f"{n_members} of {contrast.n_members} members were probed: each other one stands for "
            f"{(contrast.n_members - 1) / (n_members - 1):.2f}, which makes the shared part "
            "noisier than training on all."
        )
    single = [one.name for one in methods if one.n_runs == 1]
    if single:
        said.append(f"One training run of {' and '.join(single)}: how training falls out by chance is in no interval.")
    said += [
        f"{one.name}: {'under some draw of A ' if one.method == 'lora' else ''}the non-members are never predicted to "
        f"gain what was measured ({flow.flow} flow)."
        for one in methods
        for flow in one.predictions
        if flow.time is None
    ]
    past = [one.name for one in methods if one.extraction is not None and one.extraction.is_past_best]
    if past:
        said.append(
            f"{' and '.join(past)}: training ended past the lowest validation loss. Suffixes are predicted where the "
            "flow first has that loss, which is earlier."
        )
    if has_no_suffixes:
        said.append("The contrast measured no extraction (--memorization), so no suffix is predicted.")
    return said


def _number(found: Finding, digits: int) -> str:
    if found.value is None:
        return "undefined"
    ends = ["…" if end is None else f"{end:.{digits}f}" for end in (found.lower, found.upper)]
    return f"{found.value:.{digits}f} [{', '.join(ends)}]"


def best_baseline(found: FitAgreement) -> str:
    """The baseline that ranks most, whichever way: what a reader must not take the prediction to beat unseen."""
    known = {name: one.value for name, one in found.baselines.items() if one.value is not None}
    if not known:
        return "no baseline is defined"
    best = max(known, key=lambda name: abs(known[name]))
    return f"the best baseline, {BASELINE_WORDS.get(best, best)} alone, {known[best]:.2f}"
