"""What every format says around the numbers."""

from __future__ import annotations

import math

from loraudit.canaries import chance_bits
from loraudit.spec import CanaryResult

_OF_CANARIES = (
    "Canaries are short, made up and unlike the other records. Records of yours can be learned better or worse.",
    (
        "Copies count per epoch, and only where the trainer kept them: one that removes duplicates, or holds records "
        "out for validation, trains on fewer."
    ),
)
_OF_EPSILON = (
    "ε is a lower bound on what the training spent, by one attack and one run. A low one, or none, promises nothing.",
    "It holds if the planted file was trained on as it is, and nobody chose anything by how the coins fell.",
)


def headline_words(result: CanaryResult) -> str:
    """What is ranked, and why."""
    space = f"{result.n_secrets:,} (2^{math.log2(result.n_secrets):.1f}) equally likely secrets"
    among = f"Each secret, drawn from {space}, is ranked among {result.spec.references} others in its own context"
    if result.headline == "difference":
        how = (
            "by its log-probability minus that under the base, which takes out how easy a secret was before the tuning"
        )
    else:
        how = "by its log-probability under the target alone, since no base is known"
    chance = f"a secret that was never trained on has {chance_bits(result.spec.references):.1f} bits in the mean"
    return f"{among} {how}. Ties count against it; {chance}."


def trend_words(result: CanaryResult) -> str:
    """Whether exposure rises with repeats; empty where there is nothing to compare."""
    found = result.trend
    if found.value is None:
        return ""
    ends = "" if found.lower is None else f" [{found.lower:.2f}, {found.upper:.2f}]"
    return f"Exposure and number of copies have a rank correlation of {found.value:.2f}{ends}."


def not_said(result: CanaryResult) -> list[str]:
    """The limits of the result, one sentence each."""
    measured = (
        f"Exposure is measured up to {result.most_bits:.1f} bits, whatever the secret's own "
        f"{math.log2(result.n_secrets):.0f}: more takes more references (--references)."
    )
    limits = [measured, *_OF_CANARIES]
    return limits if result.epsilon.status == "refused" else [*limits, *_OF_EPSILON]
