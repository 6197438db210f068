"""Make a torchvision built for GPUs importable beside a torch built for CPUs.

PyPI's torchvision is linked to CUDA. With a CPU build of torch its compiled part cannot be loaded, and its Python part
then fails on two undeclared operators. Image processors use neither: declaring them is enough.

The wheel holds this file a second time, as the module `_m3dllm_torchvision` that a `.pth` file imports whenever the
interpreter starts: the import must succeed in every child process, also in one that never loads m3dllm (vLLM inspects
model classes in such a process). So it is self-contained, and imports nothing before torchvision is imported.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

OPERATORS = ("nms", "qnms")


class TorchvisionFinder:
    """Finds torchvision with the other finders, and gives it a loader that makes its import succeed."""

    def find_spec(
        self, name: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        if name != "torchvision":
            return None
        for finder in sys.meta_path:
            if finder is not self and (spec := finder.find_spec(name, path, target)) is not None:
                if spec.loader is not None:
                    spec.loader = TorchvisionLoader(spec.loader)  # type: ignore[assignment]
                return spec
        return None


class TorchvisionLoader:
    """Loads torchvision with `loader`; if only operators are missing, declares them and loads it again."""

    def __init__(self, loader: "Any") -> None:
        self.loader = loader

    def __getattr__(self, name: str) -> "Any":
        return getattr(self.loader, name)

    def create_module(self, spec: "ModuleSpec") -> "ModuleType | None":
        return self.loader.create_module(spec)

    def exec_module(self, module: "Any") -> None:
        module.__loader__ = module.__spec__.loader = self.loader
        try:
            self.loader.exec_module(module)
        except RuntimeError as error:
            if "torchvision::nms" not in str(error):
                raise
            for name in [name for name in sys.modules if name.startswith("torchvision.")]:
                del sys.modules[name]
            import torch

            library = torch.library.Library("torchvision", "FRAGMENT")
            for operator in OPERATORS:
                library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            TorchvisionLoader.library = library  # type: ignore[attr-defined]  # the operators vanish with it
            self.loader.exec_module(module)


if not any(type(finder).__name__ == "TorchvisionFinder" for finder in sys.meta_path):
    sys.meta_path.insert(0, TorchvisionFinder())  # type: ignore[arg-type]
