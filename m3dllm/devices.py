"""Where models compute: the device, how many threads, and what to do when memory runs out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from m3dllm.errors import UserError


def find_device(name: str, *, metal: bool = False) -> torch.device:
    """The device of that name; "auto": a GPU where there is one, Apple's only where `metal` says that all runs on it.

    Raises UserError where it is not there.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if metal and torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        why = " ".join(str(error).split())[:200]
        raise UserError(f"--device {name}: cannot be used here ({why}): give --device cpu or auto") from error
    return device


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Matrices multiplied in bf16 where `precision` is "bf16", or "auto" on a GPU that has it; else as they are."""
    has_it = device.type == "cuda" and torch.cuda.is_bf16_supported()
    wanted = precision == "bf16" or (precision == "auto" and has_it)
    return torch.autocast(device.type, dtype=torch.bfloat16) if wanted else nullcontext()


@contextmanager
def memory_advice(advice: str) -> Iterator[None]:
    """Turns exhausted memory into a UserError that ends with `advice`: the options that help."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise UserError(f"memory ran out: {advice}") from error
        raise


def is_out_of_memory(error: Exception) -> bool:
    """Whether torch or Python could not get memory."""
    text = str(error)
    return (
        isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in text or "out of memory" in text
    )
