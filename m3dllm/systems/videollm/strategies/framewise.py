"""`framewise`: as `staged`, but with one grounding question per frame, which is then the only frame in the prompt.

For models that read the frames of a prompt as one clip, and for those that confuse several images.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any, ClassVar

from m3dllm.systems.videollm.context import PromptContext
from m3dllm.systems.videollm.engines.base import Reply
from m3dllm.systems.videollm.groups import Group
from m3dllm.systems.videollm.strategies.base import About, Question, Stage
from m3dllm.systems.videollm.strategies.staged import (
    CHAINS,
    ENTITIES,
    RELATIONS,
    Staged,
    grounding_constraint,
    grounding_parse,
    listed_values,
)


def _values(context: PromptContext, groups: About) -> Mapping[str, Any]:
    return {**listed_values(context, groups), "frame": next(iter(context.visible.sizes), 0)}


FRAME = Stage(
    template="framewise/frame",
    constraint=grounding_constraint,
    values=_values,
    parse=grounding_parse,
    tasks=frozenset(("grounding",)),
)
"""Regions of the single frame of the prompt, each of a chain or of none."""


class Framewise(Staged):
    """The stages of `staged`, with the last one for each frame separately."""

    name: ClassVar = "framewise"
    stages: ClassVar = (ENTITIES, CHAINS, RELATIONS, FRAME)
    is_framewise: ClassVar = True

    def regions(
        self, context: PromptContext, groups: Sequence[Group]
    ) -> Generator[list[Question], list[Reply], list[Any]]:
        """Regions of all frames, with questions in parallel."""
        contexts = [context.of(FRAME.model).only(frame) for frame in context.visible.sizes]
        replies = yield [FRAME.ask(one, groups) for one in contexts]
        return [
            region for one, reply in zip(contexts, replies, strict=True) for region in FRAME.parse(one, reply, groups)
        ]
