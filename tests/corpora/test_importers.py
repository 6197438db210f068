"""An importer is one file and one entry point; its options are those of its signature."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pytest

from m3dllm import plugins
from m3dllm.corpora.choice import Choice
from m3dllm.corpora.imported import Imported
from m3dllm.corpora.importers import IMPORTERS, Importer, find_importer
from m3dllm.corpora.native import load_corpus
from m3dllm.errors import UserError
from m3dllm.labels import LabelSet

ROOT = Path(__file__).resolve().parents[2]
BRACKETS = ROOT / "tests" / "plugin" / "brackets"


@pytest.fixture(scope="module")
def plugged(tmp_path_factory) -> dict[str, str]:
    """The environment of a process in which the importer in tests/plugin/brackets is installed."""
    target = tmp_path_factory.mktemp("plugged")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--target", str(target), str(BRACKETS)], check=True, capture_output=True)
    return os.environ | {"PYTHONPATH": f"{target}{os.pathsep}{ROOT}"}


def m3dllm(*words: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "m3dllm", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=ROOT)


# --- ours -------------------------------------------------------------------------------------------------------------


def test_the_importers_are_found_by_their_modules():
    assert {"brat", "demo", "m3d", "redocred"} <= set(IMPORTERS.names())


def test_a_module_without_an_importer_is_none():
    assert "native" not in IMPORTERS.names()


def test_an_unknown_importer_is_one_line_with_the_nearest_name():
    with pytest.raises(UserError, match="unknown import format 'bratt'; did you mean 'brat'"):
        find_importer("bratt")


@pytest.mark.parametrize("words", [("import", "--help"), ("import", "brat", "--help")])
def test_help_loads_no_array_or_image_library(words):
    code = (
        "import sys; from m3dllm import cli; sys.argv = ['m3dllm', *%r]\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'numpy', 'scipy', 'torch', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code % (words,)], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "[]"


def test_every_option_of_every_importer_has_a_help():
    for name in IMPORTERS.names():
        read = find_importer(name).by_options()
        helps = plugins.option_helps(read)
        assert [option.name for option in plugins.options(read) if not helps.get(option.name)] == [], name


# --- options from a signature -----------------------------------------------------------------------------------------


def read(
    path: Path,
    *,
    types: Choice | None = None,
    names: Path | Sequence[str] | None = None,
    words: Sequence[str] = ("a",),
    how: Literal["this", "that"] = "this",
):
    """Reads.

    - `types`: which types.
    """
    imported = Imported(LabelSet())
    imported.images = {"given": (path, types, names, words, how)}
    return imported


def given(imported: Imported):
    """The options that `read` got."""
    return imported.images["given"]


def test_a_pattern_that_no_type_has_is_a_problem_of_the_import():
    imported = Importer(read, "").by_options()(Path("p"), type=("Person",))
    assert imported.problems == ["--type Person: no type has this name; expected some of none"]


def test_a_choice_of_types_is_given_by_one_flag_for_each():
    called = Importer(read, "").by_options()
    assert given(called(Path("p"), type=("Person=PER", "*_LOC")))[1] == {"Person": "PER", "*_LOC": ""}


def test_no_choice_is_no_choice():
    assert given(Importer(read, "").by_options()(Path("p"), type=()))[1] is None


def test_options_that_are_not_given_are_those_of_the_function():
    assert given(Importer(read, "").by_options()(Path("p"))) == (Path("p"), None, None, ("a",), "this")


def test_a_path_of_an_option_that_does_not_exist_is_named_with_the_option(tmp_path):
    with pytest.raises(UserError, match=r"--names .*no\.txt: does not exist"):
        Importer(read, "").by_options()(Path("p"), names=tmp_path / "no.txt")


# --- a third party's --------------------------------------------------------------------------------------------------


def test_an_installed_importer_is_listed_with_its_summary(plugged):
    assert "brackets" in m3dllm("import", "--help", env=plugged).stdout


def test_an_installed_importer_makes_a_corpus_with_its_option(plugged, tmp_path):
    (tmp_path / "n.txt").write_text("[PER Ada] met [PER Bo] .\n[LOC 北京]\n")
    out = tmp_path / "corpus"
    done = m3dllm("import", "brackets", tmp_path / "n.txt", "--out", out, "--split", "dev", env=plugged)
    assert (done.returncode, done.stderr) == (0, "")
    (ada, peking) = load_corpus(out)["dev"]
    assert (ada.document.text, peking.document.text) == ("Ada met Bo .", "北京")


def test_what_an_installed_importer_leaves_out_stands_in_the_report(plugged, tmp_path):
    (tmp_path / "n.txt").write_text("[PER Ada] .\nNobody .\n")
    report = tmp_path / "report.json"
    m3dllm("import", "brackets", tmp_path / "n.txt", "--out", tmp_path / "c", "--report", report, env=plugged)
    assert json.loads(report.read_text())["left_out"] == [
        {"what": "document", "why": "it has no mention", "where": "n.txt:2"}
    ]


def test_the_importer_of_the_documents_is_the_tested_one():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    points = tomllib.loads((BRACKETS / "pyproject.toml").read_text())["project"]["entry-points"]["m3dllm.importers"]
    assert (BRACKETS / "brackets.py").read_text(encoding="utf-8").strip() in text
    assert [f'{name} = "{value}"' in text for name, value in points.items()] == [True]
