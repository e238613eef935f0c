"""What every format of a comparison says in words."""

from __future__ import annotations

from loraudit.policy import validity_words
from loraudit.report.words import NOT_SAID
from loraudit.spec import ContrastResult, Match, MatchedArm

_SAME_FIT = (
    "The same fit is the same mean loss on {n:,} validation records, drawn at random from the same data as the "
    "members. Models with equal loss can still differ in what they have learned, and on other text. The level of a "
    "match is taken as known; its own uncertainty is in no interval."
)
_RECIPES = (
    "Each method was trained with the recipe stated here and no other. A different rank, learning rate, schedule or "
    "number of epochs can leak more or less at the same fit: the numbers belong to these recipes, not to the methods."
)
_WHERE_GATES_FAIL = (
    "The sides were drawn at random from the same records: look for near-duplicates and for documents that were cut "
    "across the sides. Until then no AUC on this page may be quoted as leakage, and differences between methods may "
    "come from it too."
)
NO_COMMON_LOSS = (
    "The methods pass no common validation loss, so they cannot be compared there. What follows is not at the same fit."
)
NO_GATES = "No validity gate was run: whether members and non-members are of one kind was not tested."


def match_title(match: Match) -> str:
    """Under which fit methods are compared, as a heading."""
    if match.kind == "best" or match.level is None:
        return "Each at its own lowest validation loss" if match.kind == "best" else match.description
    if match.kind == "epochs":
        return f"After {match.level:g} epoch" + ("" if match.level == 1 else "s")
    kind = "validation" if match.kind == "validation_loss" else "training"
    return f"At the same {kind} loss, {match.level:.3f} nats per token"


def short_title(match: Match) -> str:
    """The same in a few words."""
    if match.kind in {"best", "epochs"} or match.level is None:
        return "Own best validation loss" if match.kind == "best" else match_title(match)
    return f"Same {'validation' if match.kind == 'validation_loss' else 'training'} loss, {match.level:.3f}"


def unreached(result: ContrastResult, arm: MatchedArm) -> str:
    """Why a method has no number at this fit."""
    n_runs = next(len(one.runs) for one in result.arms if one.name == arm.name)
    if arm.n_reached == 0:
        return "not reached" if n_runs == 1 else "not reached in any run"
    return f"not reached: {arm.n_reached} of {n_runs} runs get there"


def runs_words(result: ContrastResult) -> str:
    """What the intervals hold of the chance of training."""
    fewest, most = result.run_counts
    if most == 1:
        return (
            "One run per method: the chance of training is not included. Another run of the same recipe could change "
            "the numbers and their order."
        )
    how_many = str(most) if fewest == most else f"{fewest} to {most}"
    said = (
        f"Numbers are means over {how_many} training runs. Intervals hold two kinds of chance: which records "
        "were drawn, and how training fell out."
    )
    if fewest > 1:
        return said
    single = " and ".join(arm.name for arm in result.arms if len(arm.runs) == 1)
    return f"{said} Not so with {single}: of one run only the first kind is known."


def spread_words(result: ContrastResult) -> str:
    """What sd means, where there is any."""
    return "" if result.run_counts[1] == 1 else "sd: standard deviation over the runs."


def validity_statement(result: ContrastResult) -> str | None:
    """Which gates failed and what follows; None where all hold."""
    return validity_words(result.validity, _WHERE_GATES_FAIL)


def not_said(result: ContrastResult) -> list[str]:
    """What the comparison leaves open."""
    records, _kind, passes, extraction = NOT_SAID
    said = [
        _SAME_FIT.format(n=result.n_validation),
        "Between two measured checkpoints everything is read off a straight line.",
        _RECIPES,
        records,
        passes,
        extraction,
    ]
    fewest, most = result.run_counts
    if most == 1:
        said.insert(2, runs_words(result))
    elif fewest < 5:
        how_many = f"{fewest} runs" if fewest == most else f"{fewest} to {most} runs"
        said.insert(2, f"{how_many} per method say little about how much runs differ.")
    if any(run.epsilon is not None for arm in result.arms for run in arm.runs):
        said.append(
            "An ε of differential privacy bounds every attack on the training that was accounted for, not the "
            "choice of its settings. A low measured rate neither proves nor tightens it."
        )
    return said
