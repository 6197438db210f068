"""DFFM on folds of M3D by source video, with peers: a CRF, a fine-tuned tagger, heuristic baselines.

python -m benchmarks.dffm m3d DATA OUT --lang en [--fold 0] [--epochs N] [--precision bf16] [--share 0.5]
python -m benchmarks.dffm m3d DATA OUT --lang zh --preset multilingual --text-encoder FOLDER
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.dffm_peers import PEERS, SPEAKS
from benchmarks.m3d_folds import Fold, m3d_folds
from benchmarks.tables import Row, f1s, tell
from m3dllm import Experiment, run
from m3dllm.corpora.native import write_corpus
from m3dllm.files import write_atomic
from m3dllm.report.terminal import run_table
from m3dllm.score.heuristics import heuristic_baselines

PRESETS = {"en": "minilm", "zh": "tiny"}


def m3d(
    data: Path,
    out: Path,
    *,
    lang: str,
    folds: Sequence[int],
    share: float,
    systems: Sequence[str],
    preset: str,
    options: dict[str, Any],
) -> None:
    """Cross-validation on the released dev documents of a language; model selection is on a part of each train set.

    `share` is the part of train that is used; `systems` are "floors" (heuristic baselines), "majority", "dffm"
    and the names of peers.
    """
    rows: dict[str, list[Row]] = {name: [] for name in systems if lang in SPEAKS.get(name, (lang,))}
    found = m3d_folds(data, lang, share=share)
    tail = "" if share == 1 else f"-{share:g}"
    for number in folds:
        fold = found[number]
        corpus = out / f"{lang}-{number}{tail}"
        if not corpus.exists():
            write_corpus(corpus, fold.corpus())
        for system in rows:
            started = time.perf_counter()
            folder = out / f"{system}-{lang}-{number}{tail}"
            if system == "floors":
                row = heuristic_row(fold, lang)
            elif system in PEERS:
                row = {(lang, "end to end", "entity"): kept(folder / "entity.json", lambda: PEERS[system](fold))}  # noqa: B023
            else:
                mine = {"preset": preset, "options": options} if system == "dffm" else {}
                done = run(Experiment(system=system, corpus=corpus, pairs="both", out=folder, **mine))
                print(run_table(done))
                row = f1s(done)
            rows[system].append(row)
            tell(f"fold {number}, {system}: {time.perf_counter() - started:.0f} s", [row])
            print(flush=True)
    for system, several in rows.items():
        tell(f"{system}, M3D {lang}, folds {', '.join(map(str, folds))}, {share:.0%} of train", several)


def heuristic_row(fold: Fold, lang: str) -> Row:
    """The scores of the heuristic baselines: chains over gold mentions, relations over gold chains."""
    names = {row: f"{row.task}, {row.name}" for row in heuristic_baselines(fold.test, fold.labels)}
    return {(lang, "gold pairs", name): row.score.f1 or 0.0 for row, name in names.items()}


def kept(path: Path, measure: Any) -> float:
    """The number in `path`, measured if it does not exist yet."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(measure()))
    return float(json.loads(path.read_text()))
