"""Lets a torchvision that was built for GPUs be imported where torch was built for CPUs.

Its Python side describes two operators of its compiled side, which cannot be loaded there; declaring them is enough for
what processors of images need of it. Imported before anything else, also in the processes that a test starts.
"""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from typing import Any


class _Declare(MetaPathFinder):
    """Declares the operators when torchvision is about to be imported, and not before: torch takes seconds to load."""

    library: Any = None

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name != "torchvision":
            return
        sys.meta_path.remove(self)
        import torch

        if torch.version.cuda is None:
            self.library = torch.library.Library("torchvision", "FRAGMENT")
            for operator in ("nms", "qnms"):
                self.library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            sys.modules[__name__].kept = self.library  # type: ignore[attr-defined]


if "torchvision" not in sys.modules and not any(isinstance(finder, _Declare) for finder in sys.meta_path):
    sys.meta_path.insert(0, _Declare())
