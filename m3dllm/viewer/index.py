"""What the page knows before a document is opened: the runs, the types, and a line a document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from m3dllm.scored import ScoredRun
from m3dllm.viewer.content import Case, Content

SEARCHED = 20_000
"""The characters of a text that the search looks at, at most."""
SEARCHED_IN_ALL = 20_000_000
"""Of all texts together: a browser holds them from when the page is opened."""
NAMED = 100
"""Characters of a text by which the list names a document without a title."""


def characters_searched(documents: int) -> int:
    """How many characters of each text the search of so many documents looks at."""
    return max(NAMED, min(SEARCHED, SEARCHED_IN_ALL // max(1, documents)))


def page_content(runs: Sequence[ScoredRun], *, gold: bool, searched: int) -> Content:
    """How the runs were made, and what the types mean."""
    corpora = dict.fromkeys(f"{run.record.corpus.name} · {run.record.corpus.split}" for run in runs)
    return {
        "gold": gold,
        "corpora": list(corpora),
        "searched": searched,
        "runs": [_run(run) for run in runs],
        "glosses": _glosses(runs),
    }


def document_entry(case: Case, content: Content, *, file: str | None, searched: int) -> Content:
    """The line of one document; `tallies` are by run and pass."""
    document = case.document
    judged = [side for side in content["sides"] if side["run"] is not None]
    return {
        "file": file,
        "id": document.id,
        "lang": document.lang,
        "title": document.title,
        "text": document.text[:searched],
        "frames": len(document.frames),
        "issues": sorted({answer["run"] for answer in content["answers"] if answer["issues"] or answer.get("error")}),
        "tallies": [{"run": s["run"], "given": s["given"], "tasks": s["tally"]} for s in judged],
    }


def _run(run: ScoredRun) -> Content:
    record = run.record
    facts: dict[str, Any] = {
        "system": f"{record.system}: {record.summary}" if record.summary else record.system,
        "preset": record.preset,
        "corpus": f"{record.corpus.name}, {record.corpus.split}",
        "seed": record.seed,
        "command": " ".join(record.command),
        "commit": record.git,
        "finished": record.finished,
    }
    return {"name": run.name, "facts": [[name, str(value)] for name, value in facts.items() if value not in (None, "")]}


def _glosses(runs: Sequence[ScoredRun]) -> dict[str, dict[str, str]]:
    """What each type means, by language; the first run that knows a type decides."""
    found: dict[str, dict[str, str]] = {"en": {}, "zh": {}}
    for run in runs:
        labels = run.record.labels
        for label in (*labels.mentions, *labels.relations, *labels.regions):
            found["en"].setdefault(label.name, label.gloss("en"))
            found["zh"].setdefault(label.name, label.gloss("zh"))
    return found
