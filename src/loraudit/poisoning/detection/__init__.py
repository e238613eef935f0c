"""Detectors of poison: pure functions from what was observed to one number per record.

Higher always means more likely poisoned. A score that is undefined is NaN and is counted, never replaced. How well a
detector tells the sides apart is for `statistics` to say; the detectors never see which records are poisoned.
"""

from loraudit.poisoning.detection.blending import blended_texts, strip
from loraudit.poisoning.detection.clustering import activation_clustering
from loraudit.poisoning.detection.detector import DETECTORS, NEEDS, Detector, Finds, Observed, detector
from loraudit.poisoning.detection.dynamics import early_learning, loss_dynamics
from loraudit.poisoning.detection.entropy import gradient_spectral_entropy
from loraudit.poisoning.detection.spectral import spectral_scores, spectral_signatures
from loraudit.poisoning.detection.words import (
    clean_threshold,
    onion,
    suspicious_words,
    without_each_word,
    without_words,
)

__all__ = [
    "DETECTORS",
    "NEEDS",
    "Detector",
    "Finds",
    "Observed",
    "activation_clustering",
    "blended_texts",
    "clean_threshold",
    "detector",
    "early_learning",
    "gradient_spectral_entropy",
    "loss_dynamics",
    "onion",
    "spectral_scores",
    "spectral_signatures",
    "strip",
    "suspicious_words",
    "without_each_word",
    "without_words",
]
