"""What the tests of the video LLM system need: tiny models, made once, and a machine that behaves."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two threads are far slower than one for models this small
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from tests.videollm.serving import vllm_serving


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The folder of a tiny model: qwen2_5_vl, qwen3_vl, llava, internvl or text_only."""
    pytest.importorskip("transformers", reason="needs the extra 'llm'")
    from tests.videollm import tiny as models

    root = tmp_path_factory.mktemp("models")

    def folder(name: str) -> str:
        path: Path = root / name
        if not path.exists():
            getattr(models, name)(path)
        return str(path)

    return folder


@pytest.fixture(scope="session")
def vllm_server(
    tiny: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], tuple[str, str]]]:
    """Starts vLLM's own server for a tiny model, once: (its address, the folder of the model that it calls "tiny")."""
    pytest.importorskip("vllm", reason="needs the extra 'vllm'")
    logs = tmp_path_factory.mktemp("servers")
    with ExitStack() as running:
        addresses: dict[str, str] = {}

        def serve(name: str) -> tuple[str, str]:
            if name not in addresses:
                addresses[name] = running.enter_context(vllm_serving(tiny(name), logs / f"{name}.txt"))
            return addresses[name], tiny(name)

        yield serve
