"""The time of the report over twelve runs on the real M3D development documents, by part.

    python -m benchmarks.report_speed DATA [WORK]      DATA holds m3d/; WORK keeps runs and report

Three systems, two languages, two protocols, one run each: replayed gold, heuristic baselines with chains by text, and
with chains of one mention. 90 % of the documents are scored, the others are for training.
The time is that of `write_report` with all tables and figures, after the libraries are loaded.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from m3dllm import pipeline
from m3dllm.corpora.m3d import read_m3d
from m3dllm.corpora.native import write_corpus
from m3dllm.experiment import Experiment
from m3dllm.report import write_report

LIMIT_S = 10.0


def make_runs(data: Path, work: Path) -> list[Path]:
    """The twelve runs, made if missing. Every tenth document is for training."""
    corpus = work / "m3d"
    if not corpus.exists():
        imported = read_m3d(data / "m3d")
        documents = imported.splits["dev"]
        train = documents[::10]
        imported.splits = {"train": train, "test": [one for one in documents if one not in train]}
        write_corpus(corpus, imported)
    systems: dict[str, dict[str, object]] = {
        "gold": {"system": "replay", "options": {"answers": str(corpus / "test.jsonl")}},
        "text": {"system": "majority", "options": {"chain_rule": "same_text"}},
        "singles": {"system": "majority", "options": {"chain_rule": "singletons"}},
    }
    runs = []
    for name, of in systems.items():
        for lang in ("en", "zh"):
            for pairs in ("end-to-end", "gold"):
                out = work / "runs" / f"{name}-{lang}-{pairs}"
                pipeline.run(Experiment(corpus=corpus, lang=lang, pairs=pairs, out=out, **of))  # type: ignore[arg-type]
                runs.append(out)
    return runs


def main() -> None:
    import jinja2  # noqa: F401
    import matplotlib.backends.backend_pdf
    import matplotlib.textpath  # noqa: F401
    import scipy.optimize  # noqa: F401

    data = Path(sys.argv[1])
    work = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(tempfile.mkdtemp(prefix="m3dllm-report-"))
    runs = make_runs(data, work)
    for figures in (False, True):
        wall, spent = time.perf_counter(), time.process_time()
        page = write_report(runs, work / "report", figures=figures, pages=False)
        wall, spent = time.perf_counter() - wall, time.process_time() - spent
        what = "with" if figures else "without"
        print(f"{len(runs)} runs, {what} figures: {wall:.1f} s, of the processor {spent:.1f} s")
    print(f"{page}: {page.stat().st_size / 1e6:.1f} MB, {len(list((work / 'report/tables').glob('*.tex')))} tables")
    raise SystemExit(0 if wall < LIMIT_S else 1)


if __name__ == "__main__":
    main()
