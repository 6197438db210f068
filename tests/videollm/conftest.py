"""What the tests of the video LLM system need: tiny models, made once, and a machine that behaves."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two threads are far slower than one for models this small
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from tests import torchvision_on_cpu_torch  # noqa: F401  before anything imports torchvision


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The folder of a tiny model: qwen2_5_vl, qwen3_vl, llava or text_only."""
    pytest.importorskip("transformers", reason="needs the extra 'llm'")
    from tests.videollm import tiny as models

    root = tmp_path_factory.mktemp("models")

    def folder(name: str) -> str:
        path: Path = root / name
        if not path.exists():
            getattr(models, name)(path)
        return str(path)

    return folder
