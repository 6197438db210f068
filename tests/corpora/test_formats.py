"""The formats by name."""

from __future__ import annotations

import subprocess
import sys

import pytest

from m3dllm.corpora import FORMATS, find_format
from m3dllm.errors import UserError


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_has_a_reader_and_a_summary(name):
    assert callable(find_format(name).load())
    assert FORMATS[name].summary


def test_an_unknown_format_is_named_with_those_that_are_known():
    with pytest.raises(UserError, match="there is no format 'conll'; the formats are m3d, brat, redocred, demo"):
        find_format("conll")


def test_the_table_of_formats_loads_no_reader():
    code = "import sys, m3dllm.corpora; print([m for m in sys.modules if m.startswith('m3dllm.corpora.')])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
