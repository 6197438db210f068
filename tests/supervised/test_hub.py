from __future__ import annotations

import time

import pytest

from m3dllm.errors import UserError
from m3dllm.systems.supervised.hub import loading_options
from m3dllm.systems.supervised.text import load_text_encoder
from m3dllm.systems.supervised.vision import load_vision_encoder


def test_a_folder_is_loaded_as_it_is(tmp_path):
    assert loading_options(str(tmp_path)) == {}


@pytest.mark.parametrize(("load", "option"), [(load_text_encoder, "text"), (load_vision_encoder, "vision")])
def test_weights_that_cannot_be_fetched_are_one_line_and_soon(load, option):
    started = time.monotonic()
    with pytest.raises(UserError) as told:
        load("m3dllm-nobody/no-such-encoder")
    said = str(told.value)
    assert said.startswith(f"{option}_encoder m3dllm-nobody/no-such-encoder: cannot be loaded (")
    assert said.endswith(f"give a folder by --{option}-encoder, or fetch it where the hub can be reached")
    assert "\n" not in said
    assert time.monotonic() - started < 30  # its client alone would try for as long, and then again for each file
