"""A conversation with a strategy, in which a function replies in place of a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from m3dllm.systems.videollm.context import PromptContext
from m3dllm.systems.videollm.engines.base import Reply
from m3dllm.systems.videollm.strategies import find_strategy
from m3dllm.systems.videollm.strategies.base import Question


def talk(strategy: str, about: PromptContext, speaker: Callable[[Question], Reply]) -> Any:
    """What the conversation comes to."""
    conversation = find_strategy(strategy).run(about)
    try:
        questions = next(conversation)
        while True:
            questions = conversation.send([speaker(question) for question in questions])
    except StopIteration as end:
        return end.value
