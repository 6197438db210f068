"""Choosing and renaming types."""

from __future__ import annotations

import pytest

from m3dllm.corpora.choice import chosen, parse_choice
from m3dllm.errors import UserError


def test_without_a_choice_every_type_keeps_its_name():
    assert chosen("Person", None) == "Person"


def test_a_choice_keeps_renames_and_leaves_out():
    choice = parse_choice(["Person,PROP_LOC=LOC"], option="--entity-types")
    assert [chosen(name, choice) for name in ("Person", "PROP_LOC", "Time")] == ["Person", "LOC", None]


def test_patterns_choose_several_types_and_the_first_that_fits_decides():
    choice = parse_choice(["*_PER=PER", "PROP_*"], option="--entity-types")
    assert [chosen(name, choice) for name in ("PROP_PER", "NOM_PER", "PROP_LOC")] == ["PER", "PER", "PROP_LOC"]


@pytest.mark.parametrize("words", [[""], ["=PER"], ["Person="], ["Person,"], ["Person=A", "Person=B"]])
def test_a_choice_that_is_none_is_refused_by_its_option(words):
    with pytest.raises(UserError, match=r"^--entity-types: "):
        parse_choice(words, option="--entity-types")
