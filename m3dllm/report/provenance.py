"""The sources of a report, and the command to make it again: as one line for file headers, and as a file.

LaTeX tables and figures contain the line. CSV files have only rows, so that every program can read them; a
`provenance.json` lies beside them in each folder.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import m3dllm
from m3dllm.report.published import Published
from m3dllm.scored import LeftOut, ScoredRun
from m3dllm.wire import pretty

UNKNOWN_COMMIT = "of an installed package"


def again(
    runs: Sequence[ScoredRun],
    published: Published | None,
    baseline: str | None,
    title: str | None = None,
    *,
    common: bool = False,
) -> str:
    """The command that makes the report again."""
    words = ["m3dllm", "report", *(str(run.path) for run in runs)]
    words += ["--paper", published.name] if published else []
    words += ["--baseline", baseline] if baseline else []
    words += ["--title", title] if title else []
    words += ["--common"] if common else []
    return shlex.join([*words, "--out"]) + " DIR"


def origin(runs: Sequence[ScoredRun]) -> str:
    """One line for file headers: the program, the runs, and their commits, versions and data."""
    commits = sorted({run.record.git or UNKNOWN_COMMIT for run in runs})
    versions = sorted({f"{name} {version}" for run in runs for name, version in run.record.versions.items()})
    data = sorted(
        {f"{run.record.corpus.name}/{n} {d[:12]}" for run in runs for n, d in run.record.corpus.sha256.items()}
    )
    return (
        f"m3dllm {m3dllm.__version__}; runs {', '.join(run.name for run in runs)}; commit {', '.join(commits)}; "
        f"versions {', '.join(versions)}; data sha256 {', '.join(data)}"
    )


def provenance(runs: Sequence[ScoredRun], skipped: Sequence[LeftOut], command: str) -> str:
    """The text of `provenance.json`: the command that makes the files again, and the provenance of every run."""
    return pretty(
        {
            "made_by": f"m3dllm {m3dllm.__version__}",
            "command": command,
            "runs": [_run(run) for run in runs],
            "skipped": [{"run": one.name, "why": one.why} for one in skipped],
        }
    )


def _run(run: ScoredRun) -> dict[str, object]:
    record, corpus = run.record, run.record.corpus
    return {
        "run": run.name,
        "path": str(run.path),
        "system": record.system,
        "options": record.config,
        "seed": record.seed,
        "command": shlex.join(record.command) if record.command else None,
        "commit": record.git,
        "versions": dict(sorted(record.versions.items())),
        "corpus": corpus.name,
        "split": corpus.split,
        "sha256": dict(sorted(corpus.sha256.items())),
        "checkpoint": record.checkpoint,
        "used": record.provenance,
        "device": record.device,
        "finished": record.finished,
    }
