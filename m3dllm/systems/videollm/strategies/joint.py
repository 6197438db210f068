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
from m3dllm.tokens import tokenize

_HEAD, _CHAIN = '{"chains":[', '{"id":"c'
_RELATIONS, _REGIONS = '],"relations":[', '],"regions":['
MOST_REFUSED = 16
"""The maximum number of repeated texts that are refused; then the list ends."""
SPARE = 16
"""Spare tokens, since the answer so far may be tokenized differently when it is read again."""


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
    """The answer as written, for `normalize`, with confidences if the engine has log-probabilities.

    Texts copied from an example are removed; then there are no confidences.
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
"""The chains, relations and regions of a document in the answer form. Grounding is not among `tasks`, since frames that
are not annotated are skipped."""


class Joint(Strategy):
    """One question. With gold given, only chains or only relations are asked, as in `staged`."""

    name: ClassVar = "joint"
    stages: ClassVar = (JOINT, CHAINS, RELATIONS)
    example_tasks: ClassVar = JOINT.tasks

    def run(self, context: PromptContext) -> Conversation:
        if context.document.given is not None:
            return (yield from about_given(context, context.document.given))
        if not context.has_text and not context.visible.sizes:  # an empty document
            return {"chains": [], "relations": [], "regions": []}
        question = JOINT.ask(context)
        (reply,) = yield [question]
        refused: list[str] = []
        while (rest := _rest(context, question.request, reply, refused)) is not None:
            (added,) = yield [replace(question, request=rest)]
            tokens = (reply.tokens_out or 0) + (added.tokens_out or 0)
            reply = replace(added, text=rest.begun + added.text, tokens_out=tokens, logprobs=None)
        return _parse(context, reply, ())


def _rest(context: PromptContext, request: Request, reply: Reply, refused: list[str]) -> Request | None:
    """The request for the rest of an answer that was stopped in a list because of repetition.

    The list of chains continues without the repeated texts, which are added to `refused`; after other lists the next
    one follows. None if nothing follows, or if the engine cannot continue an answer.
    """
    held = request.constraint is not None and request.constraint.grammar is not None
    left = request.max_tokens - (reply.tokens_out or 0) - SPARE
    if reply.finish != REPETITION or reply.reasoning or not held or "begun" not in context.supports or left < SPARE:
        return None
    text = reply.text[: reply.text.rfind(",")]
    if _CHAIN not in text or _REGIONS in text:
        return None
    behind: dict[str, Any] = {"related": _RELATIONS in text}
    if not behind["related"]:
        try:
            chains = _chains(text if text.endswith("]}") else text + "]}")
        except (ValueError, LookupError):  # stopped inside a chain in a way that cannot be closed
            return None
        refused += [text for text in chains[-1][1] if text not in refused]
        text = _HEAD + ",".join(f"{_CHAIN}{i}{body}" for i, (body, _) in enumerate(chains))
        others = {context.document.text[start:end] for start, end in tokenize(context.document)}.difference(refused)
        behind["refused"] = refused if others and len(refused) <= MOST_REFUSED else ()
    behind["chains"] = text.partition(_RELATIONS)[0].count(_CHAIN)
    return replace(request, begun=text, constraint=_constraint(context, (), **behind), max_tokens=left)


def _chains(text: str) -> list[tuple[str, list[str]]]:
    """(what follows a chain's number, its texts) of each chain written so far, repeated ones once."""
    found: list[tuple[str, list[str]]] = []
    for written in text.removeprefix(_HEAD).split(f",{_CHAIN}"):
        body = written.removeprefix(_CHAIN).lstrip("0123456789")
        mentions = json.loads(f"{_CHAIN}{body}")["mentions"]
        if not found or found[-1][0] != body:
            found.append((body, [one if isinstance(one, str) else one[0] for one in mentions]))
    return found


def _numbered(mention: Any, most: int) -> Any:
    """A mention with at most `most` occurrence numbers."""
    return mention if isinstance(mention, str) else mention[: most + 1]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
