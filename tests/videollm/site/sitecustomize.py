"""On PYTHONPATH of vLLM's server and its children, which import torchvision before they call any plugin."""

from m3dllm.systems.torchvision import make_importable

make_importable()
