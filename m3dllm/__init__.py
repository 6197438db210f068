"""Compare supervised fusion models and video LLMs at grounded, document-level extraction from text and video.

The Python interface, imported on first use: `load_corpus`, `Experiment` and `run`, `score_files`, `load_run`, `compare`
and `write_report`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "Experiment",
    "__version__",
    "compare",
    "load_corpus",
    "load_run",
    "run",
    "score_files",
    "write_report",
]

if TYPE_CHECKING:
    from m3dllm.corpora.native import load_corpus
    from m3dllm.experiment import Experiment
    from m3dllm.pipeline import run
    from m3dllm.report import compare, load_run, write_report
    from m3dllm.score import score_files

_FACE = {
    "load_corpus": ("m3dllm.corpora.native", "load_corpus"),
    "Experiment": ("m3dllm.experiment", "Experiment"),
    "run": ("m3dllm.pipeline", "run"),
    "score_files": ("m3dllm.score", "score_files"),
    "load_run": ("m3dllm.report", "load_run"),
    "compare": ("m3dllm.report", "compare"),
    "write_report": ("m3dllm.report", "write_report"),
}


def __dir__() -> list[str]:
    return list(__all__)


def __getattr__(name: str) -> Any:
    if name not in _FACE:
        raise AttributeError(f"module 'm3dllm' has no attribute {name!r}")
    import importlib

    module, attribute = _FACE[name]
    return getattr(importlib.import_module(module), attribute)
