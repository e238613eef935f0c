"""Statistics of every record of files of any length, in parts: the spine of `loraudit score`.

Records are found by where they stand and read when they are scored; nothing holds all of them. A unit is the records
of one part and is carried out by any engine.
"""

from loraudit.bulk.estimate import ScoreCost, estimate_score
from loraudit.bulk.request import score_path
from loraudit.bulk.spine import ScoreRun, run_score
from loraudit.bulk.summary import exit_code

__all__ = ["ScoreCost", "ScoreRun", "estimate_score", "exit_code", "run_score", "score_path"]
