"""Alignment of a generated text with one source: which passages of it go back to which passages of the source."""

from loraudit.memorization.plagiarism.copies import CopyParameters
from loraudit.memorization.plagiarism.layered import LayeredDetector
from loraudit.memorization.plagiarism.lee2023 import LEE2023, PAN2014, AlignmentParameters, Lee2023Detector
from loraudit.memorization.plagiarism.wording import WordingParameters

__all__ = [
    "LEE2023",
    "PAN2014",
    "AlignmentParameters",
    "CopyParameters",
    "LayeredDetector",
    "Lee2023Detector",
    "WordingParameters",
]
