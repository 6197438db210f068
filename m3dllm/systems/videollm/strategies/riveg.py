"""`riveg`: as `staged`, but regions in three steps: a description of each entity, entailment per frame, then its box.

After RiVEG (see docs/systems/riveg.md). The chains of each region type with most mentions (at most 8) are described in
a sentence; for each frame and chain, P(yes) among yes and no tells whether the frame shows it; from 0.5 on, one more
question asks for the box. That probability is the region's confidence. `--entailment-model` and `--grounding-model`
send the last two questions to other models. A document without text has no chains: then the region types themselves are
looked for.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, ClassVar

from m3dllm.confidence import rounded
from m3dllm.systems.videollm import grammar, schema
from m3dllm.systems.videollm.context import PromptContext
from m3dllm.systems.videollm.engines.base import Constraint, Reply
from m3dllm.systems.videollm.groups import Group, listed
from m3dllm.systems.videollm.strategies.base import About, Question, Stage
from m3dllm.systems.videollm.strategies.choices import affirm, yes_no_constraint
from m3dllm.systems.videollm.strategies.mqa import box_constraint, of_region_type
from m3dllm.systems.videollm.strategies.staged import CHAINS, ENTITIES, RELATIONS, Staged

CHARACTERS = 160
"""The maximum length of a description, in characters."""


def sentence_constraint(context: PromptContext, about: About) -> Constraint:
    """An object with a sentence under "description"."""
    return Constraint(
        grammar=grammar.text_grammar("description", CHARACTERS), schema=schema.text_schema("description", CHARACTERS)
    )


def read_sentence(context: PromptContext, reply: Reply, about: About) -> str:
    """The sentence under "description"; "" if there is none."""
    text = context.read(reply, "description", "description").get("description")
    return " ".join(text.split())[:CHARACTERS] if isinstance(text, str) else ""


DESCRIBE = Stage(template="riveg/describe", constraint=sentence_constraint, parse=read_sentence)
"""The looks of an entity."""
ENTAILED = Stage(template="riveg/entailed", constraint=yes_no_constraint, model="entailment")
"""Whether a frame shows the entity."""
BOX = Stage(template="mqa/box", constraint=box_constraint, model="grounding")
"""The box of the entity."""


class Riveg(Staged):
    """Entities, chains and relations as `staged`; regions by description, entailment and grounding."""

    name: ClassVar = "riveg"
    stages: ClassVar = (DESCRIBE, ENTAILED, BOX, ENTITIES, CHAINS, RELATIONS)
    fractions: ClassVar = True  # another model may have another box convention
    wants: ClassVar = frozenset(("option_scores",))

    def regions(
        self, context: PromptContext, groups: Sequence[Group]
    ) -> Generator[list[Question], list[Reply], list[Any]]:
        sought = yield from _sought(context, groups)
        frames = [frame for frame in context.visible.sizes if frame in context.of(BOX.model).visible.sizes]
        pairs = [(frame, one) for frame in frames for one in sought]
        entailed = yield from affirm(context, ENTAILED, [{"frame": frame, **one["values"]} for frame, one in pairs])
        seen = [(*pair, p) for pair, p in zip(pairs, entailed, strict=True) if p >= 0.5]
        asked = [BOX.ask(context, (frame,), frame=frame, text=_expression(one["values"])) for frame, one, _ in seen]
        replies = (yield asked) if asked else []
        own = context.of(BOX.model)
        found = []
        for i, ((frame, one, p), reply) in enumerate(zip(seen, replies, strict=True)):
            box = own.read(reply, f"regions[{i}]", "box").get("box")
            sure = {"confidence": rounded(p)} if p < 1 else {}  # a generated word alone has no probability
            found.append({"frame": frame, "box": own.visible.fractions(frame, box)} | one["region"] | sure)
        return found


def _sought(
    context: PromptContext, groups: Sequence[Group]
) -> Generator[list[Question], list[Reply], list[dict[str, Any]]]:
    """The entities to look for: the values of their questions, and the type and chain of their regions."""
    if not context.has_text:
        words = [(label.name, label.gloss(context.lang)) for label in context.labels.regions]
        return [
            {"values": {"text": text, "kind": name, "description": ""}, "region": {"type": name, "chain": None}}
            for name, text in words
        ]
    found = []
    for label in context.labels.regions:
        shown = of_region_type(context, groups, label)
        for group, one in zip(shown, listed(context, shown), strict=True):
            values = {"text": " / ".join(one["texts"]), "kind": label.gloss(context.lang)}
            found.append({"values": values, "region": {"type": label.name, "chain": group.name}})
    replies = (yield [DESCRIBE.ask(context, **one["values"]) for one in found]) if found else []
    for one, reply in zip(found, replies, strict=True):
        one["values"]["description"] = context.say(read_sentence(context, reply, ()))
    return found


def _expression(values: dict[str, Any]) -> str:
    """The referring expression, as in RiVEG: the entity, its type and its description."""
    head = f"{values['text']} ({values['kind']})"
    return f"{head} - {values['description']}" if values["description"] else head
