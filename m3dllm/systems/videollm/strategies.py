"""How to ask: one answer for all, stage by stage, or (`mqa`) choice by choice.

A strategy is a conversation about one document, written as a generator: it yields questions and is sent the replies to
them, and returns the payload. Many conversations go on at once; none knows of another.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Sequence
from typing import Any

from m3dllm.systems.videollm import grammar, schema
from m3dllm.systems.videollm.context import Conversation, PromptContext, Question
from m3dllm.systems.videollm.engines.base import Constraint, Reply
from m3dllm.systems.videollm.groups import Group, group_of, listed, marked, place
from m3dllm.systems.videollm.mqa import longest, mqa
from m3dllm.systems.videollm.options import StrategyName
from m3dllm.systems.videollm.reading import rows, strings
from m3dllm.systems.videollm.shown import Named
from m3dllm.types import Given, Issue, Mention

# --- joint ------------------------------------------------------------------------------------------------------------


def joint(context: PromptContext) -> Conversation:
    """Everything in one answer. What is given bounds the question: then only chains, or only relations, are asked."""
    if (given := context.document.given) is not None:
        return (yield from _given(context, given))
    if not context.has_text and not context.shown.sizes:  # nothing could be said about it
        return {"chains": [], "relations": [], "regions": []}
    question = context.ask(
        "joint/joint",
        lambda: Constraint(
            grammar=grammar.joint_grammar(context.document, context.labels, context.shown, context.bounds),
            schema=schema.joint_schema(context.labels, context.shown, context.bounds),
        ),
    )
    (reply,) = yield [question]
    return reply.text


# --- staged -----------------------------------------------------------------------------------------------------------


def staged(context: PromptContext) -> Conversation:
    """Entities, then chains of them, then relations between these, then regions: each bounded by what came before."""
    if (given := context.document.given) is not None:
        return (yield from _given(context, given))
    mentions: list[Mention] = []
    loose: list[Group] = []
    if context.has_text and context.labels.mentions:
        form = json.dumps({label.name: ["…"] for label in context.labels.mentions}, ensure_ascii=False)
        question = context.ask(
            "staged/entities",
            lambda: Constraint(
                grammar=grammar.entities_grammar(context.document, context.labels, context.bounds),
                schema=schema.entities_schema(context.labels, context.bounds),
            ),
            form=form.replace(" ", ""),
        )
        (reply,) = yield [question]
        mentions, loose = place(
            context, context.read(reply, "turns[0]", *(label.name for label in context.labels.mentions))
        )
    groups = yield from chains(context, mentions)
    for i, group in enumerate(loose, start=len(groups)):
        group.name = f"c{i}"
    groups += loose
    related = yield from relations(context, groups)
    regions = yield from grounding(context, groups)
    return {"chains": [group.written() for group in groups], "relations": related, "regions": regions}


def chains(context: PromptContext, mentions: Sequence[Mention]) -> Generator[list[Question], list[Reply], list[Group]]:
    """Chains of `mentions`; one that is in no list of the answer is a chain of its own. Asked only where two could be
    of one entity."""
    by_type: dict[str, list[str]] = {}
    for i, mention in enumerate(mentions):
        by_type.setdefault(mention.type, []).append(f"m{i}")
    owner: dict[int, int] = {}
    lists: list[list[int]] = []
    if any(len(names) > 1 for names in by_type.values()):
        named = [Named(f"m{i}", mention.type) for i, mention in enumerate(mentions)]
        question = context.ask(
            "staged/chains",
            lambda: Constraint(
                grammar=grammar.chains_grammar(named, context.bounds),
                schema=schema.chains_schema(named, context.bounds),
            ),
            about=mentions,
            marked=marked(context, mentions),
            groups=[{"type": kind, "names": names} for kind, names in by_type.items()],
        )
        (reply,) = yield [question]
        numbers = {one.name: i for i, one in enumerate(named)}
        answer = context.read(reply, "chains", "chains")
        said = answer.get("chains")
        for j, names in enumerate(said if isinstance(said, list) else []):
            members: list[int] = []
            for name in strings(names):
                if name not in numbers:
                    context.issues.append(
                        Issue("dangling", f"chains[{j}]", f"names mention {name[:40]!r}: there is none")
                    )
                elif numbers[name] in owner:
                    context.issues.append(
                        Issue("duplicate_mention", f"chains[{j}]", f"{name} stands already in a chain")
                    )
                else:
                    owner[numbers[name]] = j
                    members.append(numbers[name])
            if members:
                lists.append(members)
    lists += [[i] for i in range(len(mentions)) if i not in owner]
    ordered = sorted(sorted(members) for members in lists)
    return [
        Group(f"c{i}", mentions[members[0]].type, [mentions[m] for m in members]) for i, members in enumerate(ordered)
    ]


def relations(context: PromptContext, groups: Sequence[Group]) -> Generator[list[Question], list[Reply], list[Any]]:
    """Relations among the chains, asked only where some type fits some pair of them."""
    named = [group.named for group in groups]
    pairs = ((head, tail) for head in named for tail in named if head is not tail)
    if not any(grammar.fits(label, head.type, tail.type) for head, tail in pairs for label in context.labels.relations):
        return []
    question = context.ask(
        "staged/relations",
        lambda: Constraint(
            grammar=grammar.relations_grammar(named, context.labels, context.bounds),
            schema=schema.relations_schema(named, context.labels, context.bounds),
        ),
        about=groups,
        chains=listed(context, groups),
    )
    (reply,) = yield [question]
    return rows(context.read(reply, "relations", "relations").get("relations"))


def grounding(context: PromptContext, groups: Sequence[Group]) -> Generator[list[Question], list[Reply], list[Any]]:
    """Regions of the frames shown."""
    if not context.shown.sizes or not context.labels.regions:
        return []
    named = [group.named for group in groups]
    question = context.ask(
        "staged/grounding",
        lambda: Constraint(
            grammar=grammar.regions_grammar(named, context.labels, context.shown, context.bounds),
            schema=schema.regions_schema(named, context.labels, context.shown, context.bounds),
        ),
        about=groups,
        chains=listed(context, groups),
    )
    (reply,) = yield [question]
    return rows(context.read(reply, "regions", "regions").get("regions"))


# --- what is given ----------------------------------------------------------------------------------------------------


def _given(context: PromptContext, given: Given) -> Conversation:
    """The gold-pair protocol: chains of the given mentions, or relations among the given chains."""
    if given.kind == "mentions":
        groups = yield from chains(context, sorted(given.mentions))
        return {"chains": [group.written() for group in groups], "relations": [], "regions": []}
    groups = [group_of(i, chain) for i, chain in enumerate(given.chains)]
    related = yield from relations(context, groups)
    return {"chains": [group.written() for group in groups], "relations": related, "regions": []}


def later(context: PromptContext) -> list[Question]:
    """Questions of later stages with nothing of the document in them, by which their instructions can be measured."""
    if context.options.strategy == "mqa":
        return longest(context)
    if context.options.strategy == "joint" or context.document.given is not None:
        return []
    names = ["staged/chains"] if context.has_text else []
    if context.has_text and context.labels.relations:
        names.append("staged/relations")
    if context.shown.sizes and context.labels.regions:
        names.append("staged/grounding")
    return [context.ask(name, Constraint, marked="", groups=[], chains=[]) for name in names]


STRATEGIES: dict[StrategyName, Callable[[PromptContext], Conversation]] = {"joint": joint, "staged": staged, "mqa": mqa}
TEMPLATES: dict[StrategyName, tuple[str, ...]] = {"joint": ("joint", "staged"), "staged": ("staged",), "mqa": ("mqa",)}
"""The folders of prompts that a strategy uses, beside `document`; for what is given, joint asks as staged does."""
