"""Options: type, range, purpose and help stand on the field, and are read once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import pytest
from msgspec import Meta

from m3dllm.config import FIT, INCIDENTAL, AtLeast1, Options, Share, named, options_of
from m3dllm.errors import UserError
from m3dllm.options import option_table


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Options):
    epochs: Annotated[AtLeast1, FIT] = 3
    """Passes over the train split."""
    share: Share = 0.5
    levels: Annotated[tuple[Literal["low", "high"], ...], Meta(min_length=1)] = ("low",)
    limit: AtLeast1 | None = None
    device: Annotated[str, INCIDENTAL] = "auto"
    low: int = 0
    high: int = 9

    def check(self):
        if self.low > self.high:
            raise UserError(f"--low {self.low} is above --high {self.high}")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 0}, "--epochs 0: expected at least 1"),
        ({"share": 1.5}, "--share 1.5: expected 0 to 1"),
        ({"share": float("nan")}, "--share nan: expected a finite number"),
        ({"levels": ("middle",)}, "--levels middle: expected one or more of low or high"),
        ({"levels": ()}, "--levels : expected one or more of low or high"),
        ({"limit": 0}, "--limit 0: expected at least 1"),
        ({"low": 10}, "--low 10 is above --high 9"),
    ],
)
def test_a_value_outside_its_range_is_refused_when_the_config_is_made(values, message):
    with pytest.raises(UserError) as caught:
        Config(**values)
    assert str(caught.value) == message


def test_words_of_a_command_line_are_read_as_the_type_of_the_field():
    options = {option.name: option for option in options_of(Config)}
    read = {name: options[name].read(word) for name, word in (("epochs", "5"), ("levels", "low, high"), ("limit", "7"))}
    assert Config(**read) == Config(epochs=5, levels=("low", "high"), limit=7)


def test_a_word_of_another_type_is_refused_with_its_option():
    (epochs, *_) = options_of(Config)
    with pytest.raises(UserError, match=r"--epochs many: expected a whole number, at least 1$"):
        epochs.read("many")


def test_a_word_for_an_option_that_may_be_left_open_is_refused_with_that_remedy():
    limit = next(option for option in options_of(Config) if option.name == "limit")
    with pytest.raises(UserError, match="--limit auto: expected a whole number, at least 1; omit it for the default"):
        limit.read("auto")


def test_the_table_shows_type_range_and_purpose():
    (epochs, *_) = option_table(Config)
    assert epochs == {
        "flag": "--epochs",
        "type": "int",
        "default": "3",
        "help": "Passes over the train split.",
        "range": "at least 1",
        "for": "fit",
    }


def test_options_are_known_by_their_purpose():
    assert named(Config, FIT) == ("epochs",)
    assert named(Config, INCIDENTAL) == ("device",)
    assert named(Config, FIT, INCIDENTAL) == ("epochs", "device")
