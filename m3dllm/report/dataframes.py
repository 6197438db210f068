"""Runs in Python: a run loaded from disk, and several compared, as pandas DataFrames."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from m3dllm.errors import UserError
from m3dllm.report.comparison import RESAMPLES
from m3dllm.report.comparison import compare as compare_systems
from m3dllm.report.files import check_baseline
from m3dllm.report.groups import groups
from m3dllm.report.tidy import sheets
from m3dllm.score.scores import PAIRS
from m3dllm.scored import ScoredRun, read_run, read_runs

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """A comparison of runs: each attribute is a tidy DataFrame, with the protocol in its columns.

    `scores` has every score of every run, `heuristics` the heuristic baselines, `differences` the difference of every
    system to the best of its table (and to a named baseline), with confidence intervals and corrected p-values,
    `issues` the Issues of the answers, and `skipped` the runs that could not be used, and why.
    """

    scores: DataFrame
    heuristics: DataFrame
    differences: DataFrame
    issues: DataFrame
    skipped: DataFrame

    def __repr__(self) -> str:
        return f"Comparison of {self.scores['run'].nunique()} runs:\n{self.table().round(3)}"

    def _repr_html_(self) -> str:
        return str(self.table().round(3).to_html(index=False))

    def table(self, *, score: str = "f1") -> DataFrame:
        """One row per system and protocol, one column per metric, mean over seeds; `score`: f1, precision or recall."""
        place = ["corpus", "split", "lang", "pairs", "documents_sha256", "shown_sha256", "modality", "label"]
        of_tasks = self.scores[~self.scores["score"].str.contains(".", regex=False)].copy()
        of_tasks["score"] = of_tasks["score"].str.replace(r"^average of .*", "average", regex=True)
        wide = of_tasks.pivot_table(index=place, columns="score", values=score, aggfunc="mean", sort=False)
        wide.columns.name = None
        return wide.reset_index().drop(columns=["documents_sha256", "shown_sha256", "modality"])


def load_run(path: Path | str) -> ScoredRun:
    """The scored run at `path`: its record, documents, answers, predictions and scores.

    Raises UserError if it is broken, of another format, or not scored.
    """
    return read_run(Path(path))


def compare(
    runs: Iterable[ScoredRun | Path | str] | Path | str, *, baseline: str | None = None, resamples: int = RESAMPLES
) -> Comparison:
    """Compare runs (or their folders, or a single one).

    Needs pandas. Raises UserError if pandas is not installed, or no run can be used.
    """
    try:
        from pandas import DataFrame
    except ImportError as error:
        raise UserError("m3dllm.compare gives pandas DataFrames: pip install 'm3dllm[notebook]'") from error
    runs = [runs] if isinstance(runs, str | Path) else runs
    found, skipped = read_runs(run.path if isinstance(run, ScoredRun) else Path(run) for run in runs)
    sets = groups(found)
    check_baseline(baseline, sets)
    comparisons = {
        (group, pairs): compare_systems(group, pairs, baseline=baseline, resamples=resamples)
        for group in sets
        for pairs in PAIRS
    }
    frames = {s.name: DataFrame(list(s.rows), columns=list(s.head)) for s in sheets(sets, skipped, comparisons)}
    return Comparison(**frames)
