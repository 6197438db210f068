"""`joint`: everything in one answer."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, ClassVar

from m3dllm.answers import LISTS, write_answer
from m3dllm.systems.videollm import grammar, schema
from m3dllm.systems.videollm.context import PromptContext
from m3dllm.systems.videollm.engines.base import Constraint, Reply, Request
from m3dllm.systems.videollm.gold import Gold
from m3dllm.systems.videollm.likelihood import joint_answer
from m3dllm.systems.videollm.repetition import REPETITION
from m3dllm.systems.videollm.strategies.base import About, Conversation, Stage, Strategy
from m3dllm.systems.videollm.strategies.staged import CHAINS, RELATIONS, about_given

_CHAIN, _RELATIONS, _REGIONS = '{"id":"c', '],"relations":[', '],"regions":['
SPARE = 16
"""Tokens that are left free, because what was written may be cut into other tokens when it is read again."""


def _constraint(context: PromptContext, about: About, **behind: Any) -> Constraint:
    return Constraint(
        grammar=grammar.joint_grammar(context.document, context.labels, context.visible, context.bounds, **behind),
        schema=schema.joint_schema(context.labels, context.visible, context.bounds),
    )


def _target(gold: Gold, about: About) -> str:
    """Chains, relations and regions in one object."""
    bounds = gold.context.bounds
    written = write_answer(gold.context.document, replace(gold.annotation, regions=()))
    for chain in written["chains"]:
        texts = [m for m in chain["mentions"] if isinstance(m, str | list)]
        chain["mentions"] = [_numbered(m, bounds.mentions) for m in texts][: bounds.mentions]
    written["chains"] = [chain for chain in written["chains"] if chain["mentions"]]
    regions = ",".join(
        f'{{"frame":{region.frame},"type":{_json(region.type)},"box":{box}}}' for region, box in gold.regions()
    )
    chains, relations = _json(written["chains"]), _json(written["relations"][: bounds.relations])
    return f'{{"chains":{chains},"relations":{relations},"regions":[{regions}]}}'


def _parse(context: PromptContext, reply: Reply, about: About) -> Any:
    """The answer as it was written, for `normalize` to read, with confidences where the engine tells them.

    What it copied from an example is taken out; then there are none.
    """
    return context.read(reply, "answer", *LISTS) if context.may_be_copied(reply) else joint_answer(reply)


JOINT = Stage(
    template="joint/joint",
    constraint=_constraint,
    target=_target,
    parse=_parse,
    is_worked=True,
    tasks=frozenset(("entity", "chain", "relation")),
)
"""The chains, relations and regions of a document in the answer form. What is said of regions follows the frames that
are shown: those that nobody annotated are skipped."""


class Joint(Strategy):
    """One question. What is given bounds it: then only chains, or only relations, are asked, as `staged` does."""

    name: ClassVar = "joint"
    stages: ClassVar = (JOINT, CHAINS, RELATIONS)
    example_tasks: ClassVar = JOINT.tasks

    def run(self, context: PromptContext) -> Conversation:
        if context.document.given is not None:
            return (yield from about_given(context, context.document.given))
        if not context.has_text and not context.visible.sizes:  # nothing could be said about it
            return {"chains": [], "relations": [], "regions": []}
        question = JOINT.ask(context)
        (reply,) = yield [question]
        while (rest := _rest(context, question.request, reply)) is not None:
            (added,) = yield [replace(question, request=rest)]
            tokens = (reply.tokens_out or 0) + (added.tokens_out or 0)
            reply = replace(added, text=rest.begun + added.text, tokens_out=tokens, logprobs=None)
        return _parse(context, reply, ())


def _rest(context: PromptContext, request: Request, reply: Reply) -> Request | None:
    """Where an answer was ended amid a list because it went round in circles: the request for what follows the list.

    None where nothing follows, or the engine cannot go on with an answer.
    """
    held = request.constraint is not None and request.constraint.grammar is not None
    left = request.max_tokens - (reply.tokens_out or 0) - SPARE
    if reply.finish != REPETITION or reply.reasoning or not held or "begun" not in context.supports or left < SPARE:
        return None
    text = reply.text[: reply.text.rfind(",")]
    if _REGIONS in text or not text:
        return None
    related = _RELATIONS in text
    if not related and not text.endswith("]}"):  # amid the texts of a chain
        text += "]}"
    chains = text.partition(_RELATIONS)[0].count(_CHAIN)
    constraint = _constraint(context, (), chains=chains, related=related)
    return replace(request, begun=text, constraint=constraint, max_tokens=left)


def _numbered(mention: Any, most: int) -> Any:
    """A mention with at most so many occurrence numbers."""
    return mention if isinstance(mention, str) else mention[: most + 1]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
