"""Where models compute: device and threads, and advice when memory runs out."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import torch

from m3dllm.errors import UserError

log = logging.getLogger("m3dllm")
A = TypeVar("A")
B = TypeVar("B")


def find_device(name: str, *, metal: bool = False) -> torch.device:
    """The device of that name; "auto": a GPU if there is one, Apple's only with `metal` (all operations run on it).

    Processes that train together (LOCAL_RANK) use one GPU each. Raises UserError if the device does not exist.
    """
    together = os.environ.get("LOCAL_RANK", "")
    if name == "auto":
        metal = metal and not together and torch.backends.mps.is_available()
        name = "cuda" if torch.cuda.is_available() else "mps" if metal else "cpu"
    if name == "cuda" and together.isdecimal():
        name = f"cuda:{together}"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # fails on 'meta', which holds no values
    except (RuntimeError, AssertionError) as error:
        why = " ".join(str(error).split())[:200]
        raise UserError(f"--device {name}: cannot be used here ({why}): give --device cpu or auto") from error
    return device


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Autocast to bf16 if `precision` is "bf16", or "auto" on a GPU that supports it; else no autocast."""
    has_it = device.type == "cuda" and torch.cuda.is_bf16_supported()
    wanted = precision == "bf16" or (precision == "auto" and has_it)
    return torch.autocast(device.type, dtype=torch.bfloat16) if wanted else nullcontext()


def warn_of_emulation(precision: str, device: torch.device) -> None:
    """Log a warning if `precision` is "bf16" on a processor that only emulates it, several times as slow as fp32."""
    capabilities = getattr(torch.cpu, "get_capabilities", dict[str, Any])()
    known = [there for name, there in capabilities.items() if "bf16" in name]
    if precision == "bf16" and device.type == "cpu" and known and not any(known):
        log.warning("--precision bf16: this processor only emulates it: fp32 is several times as fast here")


def usable_cores() -> int:
    """The number of cores that this process may use, at most OMP_NUM_THREADS."""
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(own, int(wanted))) if wanted.isdecimal() else own


@contextmanager
def one_thread_each(threads: int) -> Iterator[None]:
    """While `threads` threads of this program work, torch operations take one thread each; 0: no change."""
    before = torch.get_num_threads()
    if threads:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_threads(threads: int, work: Callable[[A], B], values: Iterable[A]) -> list[B]:
    """`work(value)` of each value, in order, computed by several threads."""
    if threads < 2:
        return [work(value) for value in values]
    with one_thread_each(threads), thread_pool(threads) as pool:
        return list(pool.map(work, values))


def thread_pool(threads: int) -> ThreadPoolExecutor:
    """A pool of threads whose torch operations take one thread each."""
    return ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))


@contextmanager
def memory_advice(advice: str) -> Iterator[None]:
    """Turn out-of-memory errors into a UserError that ends with `advice`: the options that help."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise UserError(f"out of memory: {advice}") from error
        raise


def is_out_of_memory(error: Exception) -> bool:
    """Whether torch or Python ran out of memory."""
    text = str(error)
    return (
        isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in text or "out of memory" in text
    )
