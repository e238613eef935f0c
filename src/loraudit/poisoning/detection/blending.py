"""STRIP: a trigger decides a prediction whatever it is blended with, an honest text does not."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from scipy.special import entr

from loraudit.errors import ConfigError
from loraudit.poisoning.detection.detector import Observed, detector, given
from loraudit.types import FloatArray

N_BLENDS = 16


@detector(
    "strip",
    requires=frozenset({"blended_predictions"}),
    finds=("inputs",),
    tasks=frozenset({"classification"}),
    source="Gao et al. 2019, arXiv:1902.06531; texts are joined instead of pictures added (ours)",
    summary="How certain the model stays when the text is joined with held-out clean ones.",
    blind_to="Triggers that need their place or the rest of the text unchanged, such as style; honest texts so strong "
    "that they decide every blend.",
)
def strip(observed: Observed) -> FloatArray:
    """[N] minus the mean entropy, nats, of the predictions on the blends: low entropy means triggered.

    Blends without a prediction are left out of the mean; NaN where there is none.
    """
    entropies = entr(given(observed.blended_predictions).astype(np.float64)).sum(axis=2)
    n_known = np.isfinite(entropies).sum(axis=1)
    total = np.where(np.isfinite(entropies), entropies, 0.0).sum(axis=1)
    return -np.divide(total, n_known, out=np.full(len(total), np.nan), where=n_known > 0)


def blended_texts(suspects: Sequence[str], clean: Sequence[str], *, n_blends: int, seed: int) -> list[list[str]]:
    """Each suspected text joined with clean ones, before or behind it by chance.

    All words of both stay, so that a trigger of several words stays whole. Which clean texts are taken follows from
    seed and the suspected text, not from its place or the others'.

    Args:
        suspects: [N] texts to be judged.
        clean: Held-out texts known to be clean. Blended with other suspects, a clean text would be certain as often as
            those hold the trigger.
        n_blends: P, clean texts per suspect, each once.
        seed: Of the draw.

    Returns:
        N of P texts.

    Raises:
        ConfigError: There are fewer clean texts than `n_blends`, or one of them is itself suspected.
    """
    shared = set(suspects).intersection(clean)
    if shared:
        raise ConfigError(
            f"{len(shared)} texts are both suspected and among the clean ones to blend with. Expected held-out clean "
            "texts. Leave the suspected ones out."
        )
    if len(clean) < n_blends:
        raise ConfigError(
            f"{n_blends} blends of each text cannot be made with {len(clean)} clean texts. Expected at least as many. "
            "Give more clean records, or ask for fewer blends."
        )
    return [_blends(text, clean, n_blends, seed) for text in suspects]


def _blends(text: str, clean: Sequence[str], n_blends: int, seed: int) -> list[str]:
    digest = hashlib.sha256(f"blend:{seed}:{text}".encode()).digest()
    rng = np.random.default_rng(list(digest))
    chosen = rng.choice(len(clean), size=n_blends, replace=False)
    is_behind = rng.random(n_blends) < 0.5
    return [
        f"{text} {clean[i]}" if behind else f"{clean[i]} {text}"
        for i, behind in zip(chosen.tolist(), is_behind.tolist(), strict=True)
    ]
