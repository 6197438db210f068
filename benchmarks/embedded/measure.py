"""The embedded model on the demo corpus: as it is, unconstrained, with examples in the prompt, and tuned."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.tables import f1s, tell
from m3dllm import Experiment, run, write_report
from m3dllm.pipeline import fit
from m3dllm.runs import Run
from m3dllm.systems.videollm import embedded

ASKED: Mapping[str, Mapping[str, Any]] = {
    "zero-shot": {},
    "lora": {"adapter": "demo"},
    "unconstrained": {"unconstrained": True},
    "1 shot": {"shots": 1},
    "2 shots": {"shots": 2},
    "4 shots": {"shots": 4},
}
"""The adapter was made by `m3dllm fit --system video-llm --save-as demo` with the options of LEARNING and rank 8."""
LEARNING = {"epochs": 5, "micro_batch": 8, "lr": 1e-3, "checkpointing": False}


def measure(out: Path) -> None:
    """All runs, kept in `out`, and the report that compares them."""
    runs = [
        _told(name, run(Experiment(system="video-llm", options=how, out=_folder(out, name))))
        for name, how in ASKED.items()
    ]
    learned = fit(Experiment(system="video-llm", options={"tune": "full", **LEARNING}, out=out / "fit-full")).checkpoint
    tuned = {"model": str(learned / "model"), "prompts": str(embedded.PROMPTS)}
    runs.append(_told("full", run(Experiment(system="video-llm", options=tuned, out=out / "full"))))
    print(write_report([made.path for made in runs], out / "report"))


def _folder(out: Path, name: str) -> Path:
    return out / name.replace(" ", "-")


def _told(name: str, made: Run) -> Run:
    tell(name, [f1s(made)])
    return made
