"""What every format of a forecast says in words."""

from __future__ import annotations

from collections.abc import Sequence

from loraudit.spec import ForecastMethod, ForecastResult, ForecastSpec

_MOST_NAMED = 3
_NOT_SAID = """
A prediction is no measurement. It is what gradient descent with small steps would do if the model stayed linear in its
weights; real training moves features, takes large steps and may use Adam. How far that goes is seen where measured
runs stand beside it, and only there.

A LoRA is predicted at its start, where B is 0: as if A stayed as it was drawn. What training teaches A is not in it.

Methods are compared at one clean loss. Nothing is said of a method that is trained longer, or that does not get there
in practice.

Another trigger, another place for it or a larger dose can do more than what was tried here.

That a method is refused says that it cannot be predicted this way, not that it is safe or unsafe.
"""
NOT_SAID = tuple(" ".join(words.split()) for words in _NOT_SAID.strip().split("\n\n"))
HOW_TO_READ = (
    "Speed is the kernel's scale, shape its spectrum whatever the scale. Rank sets the shape of what adapters add; the "
    "variance of A and alpha its size: beside a head that is trained they also set how much the adapters count, and "
    "without one the speed alone, which a learning rate can make up for. Methods are compared at one clean loss."
)
HOW_TWINS = (
    "Each poisoned record beside itself clean. M′ = |mean K(x, x̃)| is published (arXiv:2505.12871): larger is less "
    "robust. It grows with the kernel's scale; the cosine does not: 1 where the method cannot tell the two apart."
)
HOW_THEORY = (
    "From rank, variance and width alone, nothing measured. H1′ and H2′ as published (arXiv:2505.12871) keep the "
    "diagonal terms of the second moment and are not normalised, so they rise with the variance; H2′ corrected keeps "
    "the whole moment. Participation is normalised: the variance cancels. They follow from the settings and have no "
    "intervals."
)
HOW_LINEAR = (
    "One real step of gradient descent beside the step that the kernel predicts, on probe records: the length of the "
    "difference over the length of the real change. Steps are shares of the largest stable one. Where the largest of "
    "them is off by more than the bound, the method is refused."
)
HOW_COMPARED = (
    "Each cell is one method at one dose of one attack. The baselines are what the number of poisoned records says of "
    "every cell (dose), and what the settings of a LoRA say of its cells, against the same measurements. Cells "
    "of one method are not independent: intervals take them together."
)
NOTHING = "Nothing is predicted: every method is refused, or none reaches a shared clean loss."


def records_words(result: ForecastResult) -> str:
    """What it was predicted on, and what that took."""
    kind = "A classifier" if result.trained_as == "classification" else "A language model"
    parts = f"{_count(len(result.attacks), 'attack')}, {_count(len(result.methods), 'method')}"
    records = f"{result.n_train:,} training, {result.n_validation:,} validation and {result.n_test:,} test records"
    return (
        f"{kind}, {records}; {parts}. Nothing was trained: {_count(result.n_passes, 'pass', 'passes')} in "
        f"{result.seconds:,.0f} s. What is followed: {result.functional.rstrip('.')}."
    )


def unit_of(spec: ForecastSpec) -> str:
    """Of the clean loss."""
    return "nats per record" if spec.loss == "logistic" else "per record (half the squared distance)"


def fit_words(result: ForecastResult) -> str:
    """At which clean loss the methods are compared."""
    unit = unit_of(result.spec)
    base = f"{result.base_loss:.3f} {unit} at the base"
    if result.clean_loss is None:
        return f"No clean loss is shared by the methods ({base})."
    return f"A method is read where its clean loss is {result.clean_loss:.3f} {unit} ({base})."


def refused_of(result: ForecastResult) -> list[ForecastMethod]:
    """Methods of which nothing is predicted."""
    return [method for method in result.methods if method.refused is not None]


def refused_heading(result: ForecastResult) -> str:
    """What stands above the methods that are refused."""
    n = len(refused_of(result))
    if n == len(result.methods):
        return "Nothing can be predicted: every method is refused"
    return f"Nothing is predicted of {n} of {len(result.methods)} methods"


def refused_words(result: ForecastResult) -> str | None:
    """Which methods are refused and why, methods of one reason together; None where none is."""
    refused = refused_of(result)
    if not refused:
        return None
    by_reason: dict[str, list[str]] = {}
    for method in refused:
        by_reason.setdefault(method.refused or "", []).append(method.name)
    said = [f"{_first_few(names)}: {reason.rstrip('.')}." for reason, names in by_reason.items()]
    left = len(said) - _MOST_NAMED
    more = [f"And {left} more, with reasons of their own in the table."] if left > 0 else []
    return " ".join([*said[:_MOST_NAMED], *more])


def drawn_words(n_drawn: int, result: ForecastResult) -> str | None:
    """That not every method is drawn as a line; None where all that are predicted are."""
    n = len(result.methods) - len(refused_of(result))
    if n_drawn >= n:
        return None
    return (
        f"Lines of {n_drawn} of {n} methods are drawn: those without a rank, and the ends of the grid of LoRAs. The "
        "heat maps and the folded tables hold all."
    )


def _first_few(names: Sequence[str]) -> str:
    more = [f"{len(names) - _MOST_NAMED} more"] if len(names) > _MOST_NAMED else []
    listed = [*names[:_MOST_NAMED], *more]
    return listed[0] if len(listed) == 1 else f"{', '.join(listed[:-1])} and {listed[-1]}"


def _count(n: int, noun: str, nouns: str = "") -> str:
    return f"{n:,} {noun if n == 1 else nouns or noun + 's'}"
