"""Can the numbers mean what they say? What tells the two sides apart without the target.

Blind classifiers never see the target; controls put the reference in its place or shuffle the labels;
overlap says whether the sides share text. Everything here works on texts and arrays that are passed in.
"""

from loraudit.validity.blind import bag_of_words_scores, blind_scores
from loraudit.validity.gates import GateInput, judge_gates
from loraudit.validity.overlap import Overlap, measure_overlap
from loraudit.validity.words import Words

__all__ = ["GateInput", "Overlap", "Words", "bag_of_words_scores", "blind_scores", "judge_gates", "measure_overlap"]
