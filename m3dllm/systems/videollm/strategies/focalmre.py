"""`focalmre`: as `staged`, but regions before relations, and relations with the boxes of chains drawn on the frames.

After FocalMRE (see docs/systems/focalmre.md), which draws one box on each copy of an image. Here all boxes of a
frame are drawn on one copy, each with the name of its chain, as listed in the question.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from m3dllm.systems.videollm.context import PromptContext
from m3dllm.systems.videollm.drawing import drawn
from m3dllm.systems.videollm.engines.base import Reply
from m3dllm.systems.videollm.groups import Group, group_of
from m3dllm.systems.videollm.strategies import staged
from m3dllm.systems.videollm.strategies.base import About, Conversation, Question
from m3dllm.systems.videollm.strategies.staged import CHAINS, ENTITIES, GROUNDING, Staged, may_be_related
from m3dllm.types import Box


def _values(context: PromptContext, groups: About) -> Mapping[str, Any]:
    return {"drawn": (), **staged.listed_values(context, groups)}


RELATIONS = replace(staged.RELATIONS, template="focalmre/relations", values=_values)
"""Relations among chains, by the names that are also drawn on the frames."""


class Focalmre(Staged):
    """Entities, chains and regions as `staged`; then relations, with boxes drawn."""

    name: ClassVar = "focalmre"
    stages: ClassVar = (ENTITIES, CHAINS, RELATIONS, GROUNDING)

    def run(self, context: PromptContext) -> Conversation:
        given = context.document.given
        if given is None or given.kind == "mentions":
            return (yield from super().run(context))
        groups = [group_of(i, chain) for i, chain in enumerate(given.chains)]
        related: list[Any] = []
        if may_be_related(context, groups):
            related, _ = yield from self.related_and_shown(context, groups)
        return {"chains": [group.written() for group in groups], "relations": related, "regions": []}

    def related_and_shown(
        self, context: PromptContext, groups: Sequence[Group]
    ) -> Generator[list[Question], list[Reply], tuple[list[Any], list[Any]]]:
        regions: list[Any] = []
        if context.visible.sizes and context.labels.regions:
            regions = yield from self.regions(context, groups)
        if not may_be_related(context, groups):
            return [], regions
        boxes = _boxes(context, groups, regions)
        names = [
            group.name for group in groups if any(name == group.name for of in boxes.values() for _, name, _ in of)
        ]
        (reply,) = yield [RELATIONS.ask(_marked(context, boxes), groups, drawn=names)]
        related: list[Any] = RELATIONS.parse(context, reply, groups)
        return related, regions

    def later(self, context: PromptContext) -> list[Question]:
        asked = super().later(context)
        return [*asked, RELATIONS.blank(context, drawn=("c0",))] if asked else []


def _boxes(
    context: PromptContext, groups: Sequence[Group], regions: Sequence[Any]
) -> dict[int, list[tuple[int, str, Box]]]:
    """frame -> (number of the chain, its name, its box) for each valid box of a chain."""
    numbers = {group.name: n for n, group in enumerate(groups)}
    found: dict[int, list[tuple[int, str, Box]]] = {}
    for row in regions:
        region: Any = row if isinstance(row, dict) else {}
        frame, name = region.get("frame"), region.get("chain")
        known = isinstance(frame, int) and frame in context.visible.sizes and isinstance(name, str) and name in numbers
        if not known:
            continue
        edges = context.visible.fractions(frame, region.get("box"))
        if isinstance(edges, list) and len(edges) == 4 and all(isinstance(n, int | float) for n in edges):
            box = Box(*(min(max(float(edge), 0.0), 1.0) for edge in edges))
            if box.is_legal:
                found.setdefault(frame, []).append((numbers[name], name, box))
    return found


def _marked(context: PromptContext, boxes: Mapping[int, list[tuple[int, str, Box]]]) -> PromptContext:
    """The document with these boxes drawn on its frames."""
    if not boxes:
        return context
    sizes = context.visible.sizes
    return context.showing([drawn(still, boxes.get(still.frame, ()), sizes[still.frame]) for still in context.stills])
