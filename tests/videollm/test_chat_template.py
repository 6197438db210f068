"""A chat template that comes with a model may raise: that is one line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="needs the extra 'llm'")

from m3dllm.errors import UserError
from m3dllm.systems.videollm.config import Config
from m3dllm.systems.videollm.engines.local.model import LocalModel
from m3dllm.systems.videollm.messages import Message


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('no') }}",
        "{{ messages[99]['content'] }}",
        "{{ 1 / 0 }}",
        "{{ messages.nothing.at_all }}",
        "{{ messages + 1 }}",
        "{{ ''.__class__.__mro__ }}",
        "{% for i in range(10 ** 9) %}{% endfor %}",
    ],
)
def test_a_chat_template_that_raises_is_one_line(template, tiny, tmp_path):
    folder = Path(shutil.copytree(tiny("text_only"), tmp_path / "model"))
    (folder / "chat_template.jinja").write_text(template)
    model = LocalModel(Config(model=str(folder), frames=0))
    with pytest.raises(UserError, match=r"the chat template of '.*' cannot be filled \(") as told:
        model.chat([Message("user", ("Who is Ada?",))])
    assert "\n" not in str(told.value)
