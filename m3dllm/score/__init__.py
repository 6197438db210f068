"""One scorer for every system: counts by document, added by language, divided once.

`score` scores predictions in memory, `score_files` two files. Nothing here knows what a system or a run is.
"""

from m3dllm.score.by_type import count_types
from m3dllm.score.compare import Difference, holm, paired_bootstrap
from m3dllm.score.corpus import score
from m3dllm.score.errors import ErrorCounts, count_errors
from m3dllm.score.files import score_files
from m3dllm.score.scores import DocumentScore, LanguageScores, Ratio, Scores, TaskScores, read_scores, total
from m3dllm.score.settings import MODALITIES, VARIANTS, Settings

__all__ = [
    "MODALITIES",
    "VARIANTS",
    "Difference",
    "DocumentScore",
    "ErrorCounts",
    "LanguageScores",
    "Ratio",
    "Scores",
    "Settings",
    "TaskScores",
    "count_errors",
    "count_types",
    "holm",
    "paired_bootstrap",
    "read_scores",
    "score",
    "score_files",
    "total",
]
