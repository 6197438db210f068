"""The list of systems and their options."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest

from m3dllm.catalogue import describe, overview
from m3dllm.config import Options
from m3dllm.errors import UserError
from m3dllm.options import option_table, resolve_config
from m3dllm.registry import find_system
from m3dllm.system import SystemSpec


@dataclass(frozen=True)
class Config(Options):
    presets = {"paper": {"rank": 64, "levels": ("low",)}}  # noqa: RUF012

    rank: int = 8
    """The rank,
    over two lines."""
    levels: tuple[str, ...] = ("low", "high")
    """Which levels."""
    model: str | None = None
    fast: bool = False
    rate: float = field(default=0.1)
    seed: int = 7


SPEC = SystemSpec(name="x", factory="nowhere:X", config="tests.test_catalogue:Config", summary="a system")


def test_every_built_in_system_is_listed_with_its_facts():
    rows = {row["name"]: row for row in json.loads(overview(json=True))}
    assert set(rows) >= {"majority", "replay"}
    assert rows["majority"]["trainable"]
    assert rows["majority"]["tasks"] == ["entity", "chain", "relation", "grounding"]


def test_a_system_is_described_with_its_options():
    assert "--answers" in describe("replay")


def test_an_option_has_its_flag_default_and_docstring():
    table = {row["flag"]: row for row in option_table(Config)}
    assert table["--rank"] == {"flag": "--rank", "type": "int", "default": "8", "help": "The rank, over two lines."}
    assert table["--levels"]["default"] == "low,high"
    assert table["--model"]["default"] == "(none)"


def test_defaults_then_preset_then_options_make_the_config():
    config = resolve_config(SPEC, {"rate": "0.5", "fast": "true"}, preset="paper", seed=3)
    assert config == Config(rank=64, levels=("low",), rate=0.5, fast=True, seed=3)


def test_an_option_of_several_values_takes_them_by_commas():
    assert resolve_config(SPEC, {"levels": "low, mid"}, preset=None, seed=0).levels == ("low", "mid")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rnk": "3"}, "has no option --rnk; did you mean --rank"),
        ({"rank": "many"}, "--rank many"),
        ({"fast": "perhaps"}, "--fast perhaps"),
    ],
)
def test_a_wrong_option_is_one_line(options, message):
    with pytest.raises(UserError) as caught:
        resolve_config(SPEC, options, preset=None, seed=0)
    assert message in str(caught.value)


def test_an_option_that_is_needed_is_named():
    with pytest.raises(UserError, match=r"system 'replay' needs --answers"):
        resolve_config(find_system("replay"), {}, preset=None, seed=0)


def test_a_system_whose_extra_is_not_installed_says_how_to_install_it():
    spec = SystemSpec(name="dffm", factory="x:X", summary="", extra="supervised", needs=("no_such_module",))
    with pytest.raises(UserError, match=r"system 'dffm' needs 'no_such_module': pip install 'm3dllm\[supervised\]'"):
        spec.require()


def test_a_spec_with_an_unknown_task_cannot_be_made():
    with pytest.raises(ValueError, match="ner"):
        SystemSpec(name="x", factory="x:X", summary="", tasks={"ner"})
