"""A torchvision for GPUs beside a torch for CPUs: imported in any process of the environment, whoever starts it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

with_torchvision = pytest.mark.skipif(
    importlib.util.find_spec("torchvision") is None, reason="needs torchvision, of the extra 'llm'"
)
installed = pytest.mark.skipif(
    importlib.util.find_spec("_m3dllm_torchvision") is None, reason="needs the package to be installed: make .venv/.dev"
)
WITHOUT_ITS_OPERATORS = """
import sys
sys.attempts = getattr(sys, "attempts", 0) + 1
from torchvision import ops
if sys.attempts == 1:
    raise RuntimeError("operator torchvision::nms does not exist")
"""
TORCH = """
class Library:
    defined = []
    def __init__(self, name, kind):
        self.name = name
    def define(self, signature):
        self.defined.append(self.name + "::" + signature.partition("(")[0])
class library:
    Library = Library
"""


def python(code: str, *, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A process that does not load m3dllm, with the packages in `path` before all others."""
    begin = f"import sys; sys.path.insert(0, {str(path)!r})\n" if path else ""
    return subprocess.run([sys.executable, "-c", begin + code], capture_output=True, text=True, cwd="/")


def fake(folder: Path, torchvision: str, torch: str = "raise ImportError('torch was loaded')") -> Path:
    for name, code in (("torchvision", torchvision), ("torch", torch)):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(code)
    (folder / "torchvision/ops.py").write_text("")
    return folder


@installed
@with_torchvision
@pytest.mark.slow
def test_it_can_be_imported_in_a_process_that_does_not_load_the_project():
    done = python("from torchvision.transforms import v2; from transformers import Qwen2VLVideoProcessor; print('ok')")
    assert done.stdout.split() == ["ok"], done.stderr


@installed
@pytest.mark.slow
def test_vllm_can_inspect_the_class_of_a_model(tmp_path, monkeypatch):
    pytest.importorskip("vllm", reason="needs the extra 'vllm'")
    monkeypatch.setenv("VLLM_CACHE_ROOT", str(tmp_path))  # what was inspected before would answer
    code = (
        "from vllm.model_executor.models.registry import ModelRegistry\n"
        "found = ModelRegistry.models['Qwen2_5_VLForConditionalGeneration'].inspect_model_cls()\n"
        "print('multimodal', found.supports_multimodal)"
    )
    done = python(code)
    assert "multimodal True" in done.stdout, done.stderr


@installed
def test_a_torchvision_that_lacks_its_operators_gets_them_and_is_imported(tmp_path):
    path = fake(tmp_path, WITHOUT_ITS_OPERATORS, TORCH)
    done = python("import torchvision, torch; print(sys.attempts, *torch.Library.defined)", path=path)
    assert done.stdout.split() == ["2", "torchvision::nms", "torchvision::qnms"], done.stderr


@installed
def test_a_torchvision_that_lacks_nothing_is_imported_as_it_is(tmp_path):
    path = fake(tmp_path, "from torchvision import ops; fine = True")
    done = python("import torchvision; print(torchvision.fine, type(torchvision.__loader__).__name__)", path=path)
    assert done.stdout.split() == ["True", "SourceFileLoader"], done.stderr


@installed
def test_an_error_of_another_kind_is_seen(tmp_path):
    done = python("import torchvision", path=fake(tmp_path, "raise RuntimeError('something else')"))
    assert "RuntimeError: something else" in done.stderr


@installed
def test_looking_for_torchvision_loads_nothing(tmp_path):
    path = fake(tmp_path, WITHOUT_ITS_OPERATORS)
    done = python(
        "import importlib.util; print(importlib.util.find_spec('torchvision').origin); print('torch' in sys.modules)",
        path=path,
    )
    assert done.stdout.split() == [str(path / "torchvision/__init__.py"), "False"], done.stderr


def test_an_environment_without_torchvision_says_that_there_is_none(tmp_path):
    done = python("sys.path[:] = [sys.path[0]]; import torchvision", path=tmp_path)
    assert "ModuleNotFoundError: No module named 'torchvision'" in done.stderr


@installed
def test_what_makes_it_importable_belongs_to_the_package_and_goes_with_it():
    files = {str(file) for file in distribution("m3dllm").files or ()}
    assert {"_m3dllm_torchvision.py", "_m3dllm_torchvision.pth"} <= files
