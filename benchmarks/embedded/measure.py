"""The embedded model on the demo corpus: zero-shot, unconstrained, few-shot, and tuned."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.tables import f1s, tell
from m3dllm import Experiment, run, write_report
from m3dllm.pipeline import fit
from m3dllm.systems.videollm import embedded

ASKED: Mapping[str, Mapping[str, Any]] = {
    "zero-shot": {},
    "unconstrained": {"unconstrained": True},
    "1 shot": {"shots": 1},
    "2 shots": {"shots": 2},
    "4 shots": {"shots": 4},
    "lora": {"adapter": "demo"},
}
"""The adapter was made by `m3dllm fit --system video-llm --save-as demo --rank 16 --dropout 0.1 --lr 1e-3 --epochs 3
--patience 0 --step-size 4 --micro-batch 4 --checkpointing false --box-step 20`."""
LEARNING = {"epochs": 4, "micro_batch": 8, "lr": 1e-3, "box_step": 20, "checkpointing": False}


def measure(out: Path) -> None:
    """All runs, kept in `out`, and the report that compares them."""
    learned = fit(Experiment(system="video-llm", options={"tune": "full", **LEARNING}, out=out / "fit-full")).checkpoint
    tuned = {"model": str(learned / "model"), "prompts": str(embedded.PROMPTS)}
    runs = []
    for name, how in {"full": tuned, **ASKED}.items():
        done = run(Experiment(system="video-llm", options=how, out=out / name.replace(" ", "-")))
        tell(name, [f1s(done)])
        runs.append(done.path)
    print(write_report(runs, out / "report"))
