"""The help of commands: in the order of the work, every summary whole."""

from __future__ import annotations

import re

import pytest
from typer.testing import CliRunner

from m3dllm import cli
from m3dllm.errors import UserError


def helped(*words: str) -> str:
    done = CliRunner().invoke(cli.app, [*words, "--help"], env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    return done.output


def test_commands_stand_in_the_order_of_the_work():
    listed = re.findall(r"^  ([\w-]+)  ", helped().split("Commands:")[1], flags=re.MULTILINE)
    assert tuple(listed) == cli.ORDER


@pytest.mark.parametrize("words", [(), ("import",), ("export",), ("adapters",)])
def test_every_summary_is_whole(words):
    assert "..." not in helped(*words).split("Commands:")[1]


def test_advanced_options_are_listed_apart():
    basic, advanced = helped("run").split("Advanced options:")
    assert "--corpus" in basic
    assert "--shard" not in basic
    assert "--shard" in advanced


def test_an_option_that_may_be_left_out_stands_in_one_pair_of_brackets():
    assert "m3dllm score [OPTIONS] [RUN]" in helped("score").replace("Usage: root", "Usage: m3dllm")


def test_a_required_option_that_is_misspelt_is_named():
    with pytest.raises(UserError, match="no option --sistem; did you mean --system"):
        cli.app(["run", "--sistem", "majority"], standalone_mode=False)


def test_an_option_that_the_system_lacks_may_be_one_of_the_command():
    with pytest.raises(UserError, match="has no option --corpuss; did you mean --corpus"):
        cli.app(["run", "--system", "majority", "--corpuss", "x"], standalone_mode=False)
