"""What the tests of the video LLM system need: tiny models, made once, and a machine that behaves."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
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


@pytest.fixture(scope="session")
def children() -> Iterator[None]:
    """Processes that are started meanwhile can import torchvision, as this one can."""
    here = Path(__file__).resolve()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(map(str, (here.parent / "site", here.parents[2]))))
        yield


@pytest.fixture(scope="session")
def vllm_server(
    tiny: Callable[[str], str], children: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str]]:
    """(the address of vLLM's own server, the folder of the model that it serves under the name "tiny")."""
    pytest.importorskip("vllm", reason="needs the extra 'vllm'")
    model = tiny("qwen2_5_vl")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log.txt"
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--model", model, "--served-model-name", "tiny", "--dtype", "float32", "--max-model-len", "6000"]
    command += ["--enforce-eager", "--kv-cache-memory-bytes", str(1 << 28), "--max-num-seqs", "4"]
    command += ["--structured-outputs-config", '{"backend": "guidance", "disable_any_whitespace": true}']
    with log.open("wb") as file:
        own = {name: value for name, value in os.environ.items() if not name.startswith("VLLM_")}
        process = subprocess.Popen(command, env=own, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            _wait(process, f"http://127.0.0.1:{port}/health", log)
            yield f"http://127.0.0.1:{port}/v1", model
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + 240
    while True:
        try:
            with opener.open(url, timeout=2):
                return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"vLLM's server did not start:\n{log.read_text(errors='replace')[-3000:]}") from None
            time.sleep(0.5)
