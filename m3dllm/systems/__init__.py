"""The systems that come with the project: the only place where heavy libraries are imported."""

from m3dllm.systems import torchvision

__all__ = ["torchvision"]
