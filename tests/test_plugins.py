"""Modules found by name, and functions as commands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import pytest
import typer
from typer.testing import CliRunner

from m3dllm import plugins
from m3dllm.commands import group, with_options
from m3dllm.errors import UserError
from m3dllm.plugins import Modules

HERE = Modules("format", "formats_of_a_test", "formats_of_a_test")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with the modules `plain` and `two_words`, one that breaks, and one that is no format."""
    folder = tmp_path / "formats_of_a_test"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "two_words.py").write_text('"""Two words."""\n')
    (folder / "_shared.py").write_text("raise RuntimeError\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.startswith("formats_of_a_test")]:
        del sys.modules[name]


def entry_point(folder: Path, name: str, value: str) -> None:
    """What installing a package with this entry point leaves beside it."""
    info = folder.parent / "someone-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: someone\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[formats_of_a_test]\n{name} = {value}\n")


def test_a_file_is_a_module_by_its_name_and_none_is_imported_to_list_them(package):
    assert HERE.names() == ["two-words"]
    assert "formats_of_a_test.two_words" not in sys.modules
    assert plugins.summary(HERE.find("two-words")) == "Two words."


def test_another_package_brings_one_by_an_entry_point(package):
    (package.parent / "theirs.py").write_text('"""Theirs."""\n')
    entry_point(package, "theirs", "theirs")
    assert HERE.names() == ["theirs", "two-words"]
    assert plugins.summary(HERE.find("theirs")) == "Theirs."


def test_one_that_breaks_is_listed_and_named_when_it_is_used(package):
    entry_point(package, "broken", "formats_of_a_test._shared")
    assert "broken" in HERE.names()
    with pytest.raises(UserError, match="format 'broken' of someone cannot be loaded: RuntimeError"):
        HERE.find("broken")


def test_an_unknown_name_is_answered_with_the_closest(package):
    with pytest.raises(UserError, match=r"unknown format 'two-word'; did you mean 'two-words'\? known: two-words"):
        HERE.find("two-word")


def draw(
    path: Path,
    *,
    colour: Literal["red", "blue"] = "red",
    names: tuple[str, ...] = (),
    size: int | None = None,
    fill: bool = False,
    border: bool = True,
) -> str:
    """Draw.

    - `colour`: of the line,
      all of it.
    - `names`, `size`: whatever they are.

    Raises nothing.
    """
    return f"{path} {colour} {names} {size} {fill} {border}"


def command() -> typer.Typer:
    def verb(path: Path, options: dict[str, object]) -> None:
        typer.echo(draw(path, **options))  # type: ignore[arg-type]

    def find(name: str):
        if name != "draw":
            raise UserError(f"no {name}")
        return with_options(verb, draw, doc="Draw a thing.")

    app = typer.Typer(rich_markup_mode=None)
    app.info.cls = group(lambda: ["draw"], find)
    return app


def said(*words: str) -> str:
    outer = typer.Typer()
    outer.add_typer(command(), name="things")
    done = CliRunner().invoke(outer, ["things", *words])
    return done.output.strip()


def test_help_of_an_option_stands_in_the_docstring():
    assert plugins.option_helps(draw) == {
        "colour": "of the line, all of it.",
        "names": "whatever they are.",
        "size": "whatever they are.",
    }


def test_keyword_only_parameters_are_options_with_their_types_and_defaults():
    assert said("draw", "p") == "p red () None False True"
    words = ("--colour", "blue", "--names", "a", "--names", "b", "--size", "3", "--fill", "--no-border")
    assert said("draw", "p", *words) == "p blue ('a', 'b') 3 True False"


def test_a_value_of_another_kind_is_refused():
    assert "Invalid value for '--colour'" in said("draw", "p", "--colour", "green")


def test_commands_of_a_group_are_listed_with_their_first_lines():
    assert "draw  Draw a thing." in said("--help")
