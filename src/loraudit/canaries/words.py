"""What a result says in one heading and a few sentences."""

from __future__ import annotations

from collections.abc import Sequence

from loraudit.spec import EpsilonResult, ExposureLevel

ALARM = 0.01
"""Controls whose p-value is below this say that something other than the training tells planted secrets apart."""

CONTROLS_STAND_OUT = (
    "Secrets that were never trained on rank before the references too (p < 0.01, a chance of one in a hundred): the "
    "model may have seen the manifest, or another one. Do not believe these numbers; plant canaries anew."
)


def controls_stand_out(controls: ExposureLevel) -> bool:
    """Whether the negative control fails: never-trained secrets that are exposed."""
    return controls.p_value is not None and controls.p_value < ALARM


def heading_of(levels: Sequence[ExposureLevel], controls: ExposureLevel, confidence: float) -> str:
    """The finding in one line."""
    if controls_stand_out(controls):
        return "Controls stand out that were never trained on"
    shown = [level.repeats for level in levels if level.p_holm is not None and level.p_holm <= 1 - confidence]
    if not shown:
        return "No planted secret is seen to be exposed"
    return f"Planted secrets are exposed, from {copies(min(shown))} on"


def sentence_of(
    levels: Sequence[ExposureLevel], controls: ExposureLevel, most_bits: float, epsilon: EpsilonResult
) -> str:
    """Exposure of the most and of the least repeated canaries beside the controls, and ε."""
    ends = levels[-1:] if len(levels) < 2 else [levels[-1], levels[0]]
    parts = [f"with {copies(level.repeats)} {exposure_words(level)}" for level in ends]
    parts.append(f"never trained on {exposure_words(controls)}")
    return f"Mean exposure in bits, of at most {most_bits:.1f}: {'; '.join(parts)}. {epsilon_words(epsilon)}"


def exposure_words(level: ExposureLevel) -> str:
    """Mean exposure with its interval and n."""
    found = level.exposure
    if found.value is None:
        return f"undefined (n = {level.n})"
    if found.lower is None or found.upper is None:
        return f"{found.value:.2f} (n = {level.n})"
    interval = f"{100 * found.confidence:g} % interval {found.lower:.2f} to {found.upper:.2f}"
    return f"{found.value:.2f} ({interval}; n = {level.n})"


def epsilon_words(epsilon: EpsilonResult) -> str:
    """What the guesses prove, of at most how much, for which unit; or why nothing is stated."""
    if epsilon.status == "refused" or epsilon.epsilon is None or epsilon.ceiling is None:
        return f"No ε is stated. {epsilon.reason}"
    how = f"δ = {epsilon.delta:g}, {100 * epsilon.confidence:g} % confidence"
    most = f"{epsilon.n_coins:,} coins could show at most {epsilon.ceiling:.2f}"
    if epsilon.epsilon == 0:
        return f"Guessing the coins proves no ε above 0 ({how}; {most}): no evidence, which is none of privacy either."
    return (
        f"The training spent an ε of at least {epsilon.epsilon:.2f} {unit_words(epsilon.repeats)} ({how}; {most}). "
        "A lower bound, never a certificate."
    )


def unit_words(repeats: int) -> str:
    """What ε protects: whose presence the coins decided.

    >>> unit_words(1), unit_words(4)
    ('per record', 'per group of 4 equal records')
    """
    return "per record" if repeats == 1 else f"per group of {repeats:,} equal records"


def copies(n: int) -> str:
    """A number of copies in words.

    >>> copies(1), copies(16)
    ('1 copy', '16 copies')
    """
    return f"{n:,} cop{'y' if n == 1 else 'ies'}"
