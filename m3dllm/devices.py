"""Where models compute: the device, how many threads, and what to do when memory runs out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import torch

from m3dllm.errors import UserError

A = TypeVar("A")
B = TypeVar("B")


def find_device(name: str, *, metal: bool = False) -> torch.device:
    """The device of that name; "auto": a GPU where there is one, Apple's only where `metal` says that all runs on it.

    Of processes that train together (LOCAL_RANK) each has a GPU of its own. Raises UserError where it is not there.
    """
    together = os.environ.get("LOCAL_RANK", "")
    if name == "auto":
        metal = metal and not together and torch.backends.mps.is_available()
        name = "cuda" if torch.cuda.is_available() else "mps" if metal else "cpu"
    if name == "cuda" and together.isdecimal():
        name = f"cuda:{together}"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # of 'meta' there is nothing to be read
    except (RuntimeError, AssertionError) as error:
        why = " ".join(str(error).split())[:200]
        raise UserError(f"--device {name}: cannot be used here ({why}): give --device cpu or auto") from error
    return device


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Matrices multiplied in bf16 where `precision` is "bf16", or "auto" on a GPU that has it; else as they are."""
    has_it = device.type == "cuda" and torch.cuda.is_bf16_supported()
    wanted = precision == "bf16" or (precision == "auto" and has_it)
    return torch.autocast(device.type, dtype=torch.bfloat16) if wanted else nullcontext()


def usable_cores() -> int:
    """The cores that this process may use: of those that it has, as many as OMP_NUM_THREADS allows."""
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(own, int(wanted))) if wanted.isdecimal() else own


@contextmanager
def one_thread_each(threads: int) -> Iterator[None]:
    """Torch's operations take one thread each where `threads` of this program are at work; 0: as many as before."""
    before = torch.get_num_threads()
    if threads:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_threads(threads: int, work: Callable[[A], B], values: Iterable[A]) -> list[B]:
    """`work` of each value, in order, computed by several threads at once."""
    if threads < 2:
        return [work(value) for value in values]
    with one_thread_each(threads), thread_pool(threads) as pool:
        return list(pool.map(work, values))


def thread_pool(threads: int) -> ThreadPoolExecutor:
    """Threads whose torch operations take one thread each."""
    return ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))


@contextmanager
def memory_advice(advice: str) -> Iterator[None]:
    """Turns exhausted memory into a UserError that ends with `advice`: the options that help."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise UserError(f"out of memory: {advice}") from error
        raise


def is_out_of_memory(error: Exception) -> bool:
    """Whether torch or Python could not get memory."""
    text = str(error)
    return (
        isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in text or "out of memory" in text
    )
