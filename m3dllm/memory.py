"""The peak memory of this process, and of its GPUs, since a step began."""

from __future__ import annotations

import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any


def forget_peak() -> None:
    """Peaks are of what comes from now on. Without effect on the process where only Linux's /proc can do that."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    if (cuda := _cuda()) is not None:
        for i in range(cuda.device_count()):
            cuda.reset_peak_memory_stats(i)


def peak_mb() -> float:
    """The peak memory of the process in megabytes."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def gpu_peak_mb() -> float | None:
    """The peak memory that torch reserved on all GPUs, in megabytes; None where it uses none."""
    cuda = _cuda()
    return None if cuda is None else sum(cuda.max_memory_reserved(i) for i in range(cuda.device_count())) / 1e6


def _cuda() -> Any:
    """torch.cuda, where it is loaded and at work."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized() else None
