"""vLLM's own server on this machine, over a tiny model."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def vllm_serving(model: str, log: Path, *, context: int = 6000, lanes: int = 4) -> Iterator[str]:
    """The server's address, while it serves the model in this folder under the name "tiny"."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--model", model, "--served-model-name", "tiny", "--dtype", "float32", "--max-model-len", str(context)]
    command += ["--enforce-eager", "--kv-cache-memory-bytes", str(1 << 28), "--max-num-seqs", str(lanes)]
    command += ["--structured-outputs-config", '{"backend": "guidance", "disable_any_whitespace": true}']
    with log.open("wb") as file:
        own = {name: value for name, value in os.environ.items() if not name.startswith("VLLM_")}
        process = subprocess.Popen(command, env=own, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            _wait(process, f"http://127.0.0.1:{port}/health", log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + 400
    while True:
        try:
            with opener.open(url, timeout=2):
                return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"vLLM's server did not start:\n{log.read_text(errors='replace')[-3000:]}") from None
            time.sleep(0.5)


@contextmanager
def llama_serving(model: Path, log: Path, *, context: int = 4096) -> Iterator[str]:
    """The address of llama.cpp's server, while it serves this GGUF file."""
    command = [sys.executable, str(Path(__file__).parent / "llama_server.py"), str(model), str(context)]
    with log.open("wb") as file:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": file}
        process = subprocess.Popen(command, **pipes, text=True)  # type: ignore[call-overload]
        try:
            address = process.stdout.readline().strip()
            while address and not address.startswith("http"):
                address = process.stdout.readline().strip()
            if not address:
                said = log.read_text(errors="replace")[-3000:]
                raise RuntimeError(f"llama.cpp's server did not start:\n{said}")
            yield f"{address}/v1"
        finally:
            process.stdin.close()
            process.stdout.close()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
