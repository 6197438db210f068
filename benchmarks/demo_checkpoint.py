"""Makes `checkpoints/dffm/demo`, the checkpoint of dffm that comes with the package, and its card:

    OMP_NUM_THREADS=1 python -m benchmarks.demo_checkpoint WORK

trains dffm with its defaults on the demo corpus in WORK (about five minutes on two idle cores), saves weights in half
precision, and scores both on the test split, which is used for no selection.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from m3dllm import Experiment, run
from m3dllm.experiment import CHECKPOINTS, read_done
from m3dllm.files import sha256_file, write_atomic
from m3dllm.runs import Run
from m3dllm.systems.supervised.checkpoint import MODEL
from m3dllm.types import TASKS
from m3dllm.weights import read_weights, write_weights
from m3dllm.wire import decode, pretty

DEMO = CHECKPOINTS / "dffm" / "demo"
CARD = """\
# demo

The small supervised model of the package, for `m3dllm run --system dffm --checkpoint demo`: `dffm` with its defaults
(preset `tiny`, seed 0), fitted to the 240 train documents of the embedded demo corpus (invented biographies in English
and Chinese with drawn frames); the epoch and the thresholds are chosen by its 48 dev documents. It is a demonstration,
of no use on other documents.

- weights: {parameters:,}, in half precision ({megabytes:.1f} MB, safetensors); labels and options are in their header
- best epoch by dev: {best} of {epochs}, F1 {dev}
- made again by `OMP_NUM_THREADS=1 python -m benchmarks.demo_checkpoint WORK`

F1 on the 72 test documents, end to end:

| | entity | chain | relation | grounding | average |
| --- | ---: | ---: | ---: | ---: | ---: |
{rows}
"""


def main(work: Path) -> None:
    full = run(Experiment(system="dffm", pairs="both", out=work / "full"))
    halve(full.checkpoint, DEMO)
    half = run(Experiment(system="dffm", pairs="both", checkpoint=DEMO, out=work / "half"))
    write_atomic(DEMO / "README.md", card(full, half))


def halve(fitted: Path, out: Path) -> None:
    """The checkpoint in `fitted` with its weights in half precision, written into `out`."""
    header, weights = read_weights(fitted / MODEL, remedy="fit again")
    write_weights(out / MODEL, {name: value.to(torch.float16) for name, value in weights.items()}, header)
    files = {MODEL: sha256_file(out / MODEL)}
    write_atomic(out / "done.json", pretty(read_done(fitted) | {"files": files}))


def card(full: Run, half: Run) -> str:
    header, weights = read_weights(DEMO / MODEL, remedy="make it again")
    history = decode(header["m3dllm"], dict)["history"]
    best = max(range(len(history)), key=lambda i: history[i]["average"])
    rows = [
        f"| {lang}, {what} | {' | '.join(f'{100 * value:.1f}' for value in scores_of(one, lang))} |"
        for lang in ("en", "zh")
        for what, one in (("as it is here", half), ("before it was halved", full))
    ]
    return CARD.format(
        parameters=sum(value.numel() for value in weights.values()),
        megabytes=(DEMO / MODEL).stat().st_size / 1e6,
        best=best + 1,
        epochs=len(history),
        dev=", ".join(f"{task} {history[best][task]:.3f}" for task in TASKS),
        rows="\n".join(rows),
    )


def scores_of(one: Run, lang: str) -> list[float]:
    found = one.scores()["languages"][lang]["end_to_end"]
    return [*(found["tasks"][task]["f1"] for task in TASKS), found["average_f1"]]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
