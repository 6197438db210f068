"""A torchvision that was built for GPUs, where torch was built for CPUs.

The registry's torchvision is linked to CUDA. Beside a CPU build of torch its compiled side cannot be loaded, and its
Python side then stumbles over two operators that nobody declared. Processors of images use neither: declaring them is
enough.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

_DECLARED: list[Any] = []
"""The library that declares the operators; they vanish with it."""


def make_importable() -> None:
    """Let `import torchvision` succeed where these operators are all that it lacks; call it before transformers.

    vLLM calls it too, as a plugin, in every process that it starts. Does nothing where torch has CUDA, where there is
    no torchvision, or where it can be imported as it is.
    """
    if "torchvision" in sys.modules or importlib.util.find_spec("torchvision") is None:
        return
    import torch

    if torch.version.cuda is not None:
        return
    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _DECLARED.append(library)
