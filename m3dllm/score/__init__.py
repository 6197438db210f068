"""One scorer for every system: counts by document, micro-averaged by language.

`score` scores predictions in memory, `score_files` two files. Nothing here knows what a system or a run is.
"""

from m3dllm.score.breakdown import Breakdown, break_down, count_errors, count_types
from m3dllm.score.compare import Difference, f1_intervals, holm, paired_bootstrap
from m3dllm.score.corpus import score
from m3dllm.score.errors import ErrorCounts
from m3dllm.score.files import score_files
from m3dllm.score.metric import Metric, Sides
from m3dllm.score.scores import DocumentScore, LanguageScores, Ratio, Scores, TaskScores, read_scores, total
from m3dllm.score.settings import MODALITIES, Settings, variants

__all__ = [
    "MODALITIES",
    "Breakdown",
    "Difference",
    "DocumentScore",
    "ErrorCounts",
    "LanguageScores",
    "Metric",
    "Ratio",
    "Scores",
    "Settings",
    "Sides",
    "TaskScores",
    "break_down",
    "count_errors",
    "count_types",
    "f1_intervals",
    "holm",
    "paired_bootstrap",
    "read_scores",
    "score",
    "score_files",
    "total",
    "variants",
]
