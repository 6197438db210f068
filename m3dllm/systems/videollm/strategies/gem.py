"""`gem`: as `mqa`, but uncertain choices are asked again among the best options, and presence is asked before frames.

After GEM (see docs/systems/gem.md). The normalized entropy of the options' shares decides: above `--gate` (0.2) a
mention's type is asked again among its 3 most probable types, a relation among its 5 most probable ones, each with
"none of them"; below, the first answer is kept. Then one question for each chain of a region type asks whether it is
visible in any frame; only if so, there are questions about single frames.

It needs an engine that scores options: with others nothing is asked again.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import ClassVar

from m3dllm.systems.videollm.context import PromptContext
from m3dllm.systems.videollm.engines.base import Reply
from m3dllm.systems.videollm.groups import Group, listed
from m3dllm.systems.videollm.strategies.base import Question, Stage
from m3dllm.systems.videollm.strategies.choices import (
    Choice,
    Decisions,
    affirm,
    choice_constraint,
    decide,
    gloss,
    rank,
    yes_no_constraint,
)
from m3dllm.systems.videollm.strategies.mqa import RELATION, TYPE, Mqa, of_region_type

GATE = 0.2
"""The default of --gate."""

TYPE_AGAIN = Stage(template="gem/type_again", constraint=choice_constraint)
RELATION_AGAIN = Stage(template="gem/relation_again", constraint=choice_constraint)
PRESENT = Stage(template="gem/present", constraint=yes_no_constraint)
"""Whether a chain is visible at all."""
AGAIN = {TYPE.name: (TYPE_AGAIN, 3), RELATION.name: (RELATION_AGAIN, 5)}
"""first question -> (second question, its number of options)."""


class Gem(Mqa):
    """Multiple choice, with a second question if the first answer is uncertain."""

    name: ClassVar = "gem"
    stages: ClassVar = (TYPE_AGAIN, RELATION_AGAIN, PRESENT, *Mqa.stages)
    wants: ClassVar = frozenset(("option_scores",))

    def decide(self, context: PromptContext, stage: Stage, choices: Sequence[Choice]) -> Decisions:
        gate = GATE if context.options.gate is None else context.options.gate
        ranked = yield from rank(context, stage, choices)
        unsure = [i for i, one in enumerate(ranked) if one.entropy is not None and one.entropy > gate]
        again, most = AGAIN[stage.name]
        second = yield from decide(context, again, [ranked[i].best(most) for i in unsure])
        decided = [one.decision for one in ranked]
        for i, one in zip(unsure, second, strict=True):
            decided[i] = one
        return decided

    def visible(
        self, context: PromptContext, groups: Sequence[Group]
    ) -> Generator[list[Question], list[Reply], Sequence[Group]]:
        if not context.visible.sizes:
            return groups
        sought = {
            group.name: group for label in context.labels.regions for group in of_region_type(context, groups, label)
        }
        names = {one["name"]: " / ".join(one["texts"]) for one in listed(context, [*sought.values()])}
        values = [{"text": names[name], "kind": gloss(group.type, context)} for name, group in sought.items()]
        present = yield from affirm(context, PRESENT, values)
        return [group for group, sure in zip(sought.values(), present, strict=True) if sure >= 0.5]

    def sums_up(self, stages: Mapping[str, int]) -> str:
        parts = [
            f"{stages.get(again.name, 0) / stages[first]:.1%} of the questions of stage {first}"
            for first, (again, _) in AGAIN.items()
            if stages.get(first)
        ]
        return f"asked again: {' and '.join(parts)}" if parts else ""
