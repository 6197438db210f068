"""A torchvision for GPUs beside a torch for CPUs."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from importlib.metadata import entry_points

import pytest

pytestmark = pytest.mark.skipif(importlib.util.find_spec("torchvision") is None, reason="needs the extra 'llm'")

CODE = """
import sys
from m3dllm.systems.torchvision import make_importable
print("torch" in sys.modules)
make_importable()
make_importable()
from torchvision.transforms import v2
from transformers import Qwen2VLVideoProcessor
print("ok")
"""


@pytest.mark.slow
def test_it_can_be_imported_once_its_operators_are_declared():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "ok"], done.stderr


def test_vllm_declares_them_in_every_process_that_it_starts():
    (point,) = (point for point in entry_points(group="vllm.general_plugins") if point.name == "m3dllm")
    assert point.load().__name__ == "make_importable"
