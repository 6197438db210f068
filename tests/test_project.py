"""What the documents promise, what the wheel carries, and what start-up loads.

Format, types and import directions are checked by `make check`, once.
"""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.small import small_corpus

ROOT = Path(__file__).resolve().parents[1]


def python(code: str, *words: str) -> str:
    command = [sys.executable, *words, "-c", code] if code else [sys.executable, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout


@pytest.mark.parametrize("words", [("--help",), ("systems",), ("run", "--help")])
def test_start_up_loads_no_array_or_model_library(words):
    code = (
        "import sys; from m3dllm import cli; sys.argv = ['m3dllm', *%r]\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'numpy', 'scipy', 'torch', 'transformers', 'PIL', 'datasets'} & set(sys.modules)))"
    )
    assert python(code % (words,)).splitlines()[-1] == "[]"


def test_the_package_imports_without_a_model_library():
    code = "import m3dllm, sys; [getattr(m3dllm, name) for name in m3dllm.__all__]; print('torch' in sys.modules)"
    assert python(code).strip() == "False"


def test_the_wheel_of_what_the_dockerfile_copies_carries_everything(tmp_path):
    """Prompts, adapters, a checkpoint, labels, types, experiments: nothing else of the repository is needed."""
    for words in re.findall(r"^COPY (.+)$", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE):
        *sources, target = words.split()
        place = tmp_path / Path(target).relative_to("/")
        for source in sources:
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                place.mkdir(exist_ok=True)
                shutil.copy(ROOT / source, place)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "-w", str(tmp_path)]
    wheel = [sys.executable, "-m", "pip", "wheel", str(tmp_path / "src"), *options]
    done = subprocess.run(wheel, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    wanted = (
        "m3dllm/py.typed",
        "m3dllm/prompts/README.md",
        "m3dllm/adapters/README.md",
        "m3dllm/checkpoints/dffm/demo/model.safetensors",
        "m3dllm/corpora/m3d_labels.json",
        "m3dllm/benchmarks/experiments/table3.toml",
        "_m3dllm_torchvision.py",
        "_m3dllm_torchvision.pth",
    )
    assert [name for name in wanted if name not in names] == []
    assert [name for name in names if name.startswith(("tests/", "benchmarks/"))] == []


def test_the_readme_names_the_two_commands_first():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.index("make demo") < text.index("make test") < text.index("\n## ")


def test_the_python_of_the_readme_runs(tmp_path):
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert code is not None
    for name in ("m3d", "m3d-split"):
        small_corpus(tmp_path / "corpora" / name)
    line = '{"document": "a", "annotation": {"chains": [], "relations": [], "regions": []}}\n'
    for name in ("gold.jsonl", "pred.jsonl"):
        (tmp_path / name).write_text(line)
    done = subprocess.run([sys.executable, "-c", code[1]], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert next((tmp_path / "runs").glob("*/scores.json"))


def test_every_make_target_that_the_documents_name_exists():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for name in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md"):
        named = set(
            re.findall(r"make ([\w-]+)`|^make ([\w-]+)", (ROOT / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
        )
        assert {a or b for a, b in named} <= targets, name


def test_every_verb_that_the_documents_use_exists():
    verbs = set(re.findall(r"^  ([\w-]+)  ", python("", "-m", "m3dllm", "--help"), flags=re.MULTILINE))
    for name in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md"):
        used = set(re.findall(r"\bm3dllm (?!\[)([a-z]+(?:-[a-z]+)*)\b", (ROOT / name).read_text(encoding="utf-8")))
        assert used - {"is", "reads", "makes", "compares", "and", "as", "on", "in", "with"} <= verbs, name


def test_the_plugin_tutorial_is_the_tested_plugin():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for name in ("pyproject.toml", "capitals/__init__.py", "capitals/system.py"):
        assert (ROOT / "tests/plugin" / name).read_text(encoding="utf-8").strip() in text, name
    for name in ("pyproject.toml", "mean_frames/__init__.py", "mean_frames/model.py"):
        assert (ROOT / "tests/plugin/mean-frames" / name).read_text(encoding="utf-8").strip() in text, name
    for name in ("pyproject.toml", "name_list/__init__.py"):
        assert (ROOT / "tests/plugin/name-list" / name).read_text(encoding="utf-8").strip() in text, name
    assert (ROOT / "tests/plugin/unlabelled/unlabelled.py").read_text(encoding="utf-8").strip() in text


def test_pins_lie_inside_the_declared_ranges():
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE))
    pins = {canonicalize_name(name): version for name, version in pins.items()}
    wanted = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    for requirement in map(Requirement, wanted):
        pin = pins.get(canonicalize_name(requirement.name))
        assert pin is None or requirement.specifier.contains(pin), requirement
