"""`verify`: the proposals of another system (`Document.proposed`) are checked part by part, as multiple choice.

Nothing else is asked. Each part is confirmed, retyped or dropped:

- type: one question for each text of each type, for all of its occurrences together; "none" drops it.
- coreference: one for each text of a chain after its first; the options are those before it in the chain. With "none"
  it begins a new chain.
- relation: one for each relation; the options are the types that fit its chains, in both directions, but those that
  were proposed for the two besides.
- region: one for each box in a frame of the prompt; the options are the proposed chain or type, and the region types.
  The box is not changed.

A part without a question keeps the proposal's confidence: with `--gate`, parts with low entropy; and always regions in
frames that the model does not get. The confidence of a proposal does not tell the shares of several other options: its
entropy is computed with all others equally probable.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from m3dllm.confidence import confidences_of
from m3dllm.labels import LabelSet
from m3dllm.systems.videollm.context import PromptContext
from m3dllm.systems.videollm.engines.base import Reply
from m3dllm.systems.videollm.gold import written_box
from m3dllm.systems.videollm.groups import Group, group_of, listed
from m3dllm.systems.videollm.strategies.base import Conversation, Question, Stage, Strategy
from m3dllm.systems.videollm.strategies.choices import (
    Choice,
    choice_constraint,
    decide,
    entropy,
    fitting,
    sure,
)
from m3dllm.systems.videollm.strategies.mqa import (
    CANDIDATES,
    COREFERENCE,
    RELATION,
    TYPE,
    Mqa,
    Unit,
    Way,
    answer,
    antecedents,
    check_labels,
    relation_choice,
    type_choice,
)
from m3dllm.types import Annotation, Chain, Mention, Region, Relation

REGION = Stage(template="verify/region", constraint=choice_constraint)
"""The content of a box."""


class Verify(Strategy):
    """Confirms, retypes or drops proposals; with gold given, only links or only relations are checked."""

    name: ClassVar = "verify"
    stages: ClassVar = (REGION, TYPE, COREFERENCE, RELATION)
    system: ClassVar = "mqa/system"
    checks: ClassVar = True
    fractions: ClassVar = True

    def run(self, context: PromptContext) -> Conversation:
        proposed = context.document.proposed or Annotation()
        given = context.document.given.kind if context.document.given else None
        chains: Sequence[Chain] = proposed.chains
        if given is None:
            chains = yield from _types(context, chains)
        groups = [group_of(i, chain) for i, chain in enumerate(chains)]
        owner = {chain.id: group for chain, group in zip(chains, groups, strict=True)}
        if given != "chains":
            groups, owner = yield from _chains(context, chains)
        related = [] if given == "mentions" else (yield from _relations(context, proposed.relations, groups, owner))
        regions = (yield from _regions(context, proposed.regions, groups, owner)) if given is None else []
        return answer(groups, related, regions)

    def check(self, labels: LabelSet) -> None:
        check_labels(labels)

    def later(self, context: PromptContext) -> list[Question]:
        return Mqa().later(context)


def _unsure(context: PromptContext, confidence: float | None, options: int) -> bool:
    """Whether a proposal with this confidence is asked about, with this number of other options."""
    gate = context.options.gate or 0.0
    if confidence is None or not gate:
        return True
    return entropy([confidence, *[(1 - confidence) / options] * options]) > gate


def _types(context: PromptContext, chains: Sequence[Chain]) -> Generator[list[Question], list[Reply], list[Chain]]:
    """The chains without rejected mentions, each mention with the decided type."""
    text = context.document.text
    least: dict[tuple[str, str], float | None] = {}
    for chain in chains:
        for m in chain.mentions:
            key = text[m.start : m.end], m.type
            known = least.get(key, 1.0)
            least[key] = None if known is None or m.confidence is None else min(known, m.confidence)
    asked = [key for key, sure in least.items() if _unsure(context, sure, len(context.labels.mentions))]
    decided = yield from decide(context, TYPE, [type_choice(context, words) for words, _ in asked])
    found = dict(zip(asked, decided, strict=True))

    def judged(mention: Mention) -> Mention | None:
        key = text[mention.start : mention.end], mention.type
        if key not in found:
            return mention
        one = found[key]
        return None if one is None else replace(mention, type=one.meaning, confidence=one.confidence)

    kept = [(chain, [m for m in map(judged, chain.mentions) if m is not None]) for chain in chains]
    return [Chain(chain.id, tuple(mentions)) for chain, mentions in kept if mentions]


def _chains(
    context: PromptContext, chains: Sequence[Chain]
) -> Generator[list[Question], list[Reply], tuple[list[Group], dict[str, Group]]]:
    """(the chains without rejected links; proposed chain -> the group with most of its mentions)."""
    units: list[Unit] = []
    firsts: dict[int, int] = {}
    asked: dict[int, list[int]] = {}
    for chain in chains:
        own: dict[str, int] = {}
        for mention in sorted(chain.mentions):
            words = context.document.text[mention.start : mention.end]
            if words not in own:
                own[words] = len(units)
                units.append(Unit(words, chain.type))
            units[own[words]].mentions.append(mention)
        numbers = list(own.values())
        for i, number in enumerate(numbers):
            firsts[number] = numbers[0]
            before = numbers[max(0, i - CANDIDATES) : i]
            if before and _unsure(context, units[number].mentions[0].link, len(before)):
                asked[number] = before
    decided = yield from antecedents(context, units, asked)
    groups: list[Group] = []
    owner: dict[int, Group] = {}
    for number, unit in enumerate(units):
        antecedent = firsts[number] if firsts[number] != number else None
        mentions = unit.mentions
        if number in asked:
            one = decided[number]
            antecedent = None if one is None else one.meaning
            mentions = [replace(m, link=None if one is None else one.confidence) for m in mentions]
        if antecedent is None:
            groups.append(Group(f"c{len(groups)}", unit.type))
        owner[number] = groups[-1] if antecedent is None else owner[antecedent]
        owner[number].mentions += mentions
    return groups, _owners(chains, groups)


def _owners(chains: Sequence[Chain], groups: Sequence[Group]) -> dict[str, Group]:
    """chain -> the group with most of its mentions."""
    holder = {mention.span: group for group in groups for mention in group.mentions}
    found = {}
    for chain in chains:
        ((name, _),) = Counter(holder[m.span].name for m in chain.mentions).most_common(1)
        found[chain.id] = next(holder[m.span] for m in chain.mentions if holder[m.span].name == name)
    return found


def _relations(
    context: PromptContext, relations: Sequence[Relation], groups: Sequence[Group], owner: Mapping[str, Group]
) -> Generator[list[Question], list[Reply], list[Any]]:
    """The relations of remaining chains, as decided."""
    names = {one["name"]: " / ".join(one["texts"]) for one in listed(context, groups)}
    placed = [(owner[r.head], owner[r.tail], r) for r in relations if r.head in owner and r.tail in owner]
    taken = {(head.name, tail.name, r.type) for head, tail, r in placed}
    choices: dict[int, Choice] = {}
    for i, (head, tail, r) in enumerate(placed):
        others = taken - {(head.name, tail.name, r.type)}
        ways = [way for way in _ways(context, head, tail) if (way[0].name, way[1].name, way[2].name) not in others]
        if ways and _unsure(context, r.confidence, len(ways)):
            choices[i] = relation_choice(context, names, (head, tail), ways)
    decided = dict(zip(choices, (yield from decide(context, RELATION, [*choices.values()])), strict=True))
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for i, (head, tail, r) in enumerate(placed):
        kept: dict[str, Any] = {"head": head.name, "tail": tail.name, "type": r.type} | confidences_of(r)
        if not _ways(context, head, tail):  # the two were retyped
            continue
        if i in choices:
            one = decided[i]
            if one is None:
                continue
            kept = one.meaning | sure(one.confidence)
        found.setdefault((kept["head"], kept["tail"], kept["type"]), kept)
    return list(found.values())


def _ways(context: PromptContext, head: Group, tail: Group) -> list[Way]:
    """The relations allowed between two chains, in both directions."""
    there = [(head, tail, label) for label in fitting(context.labels, head.type, tail.type)]
    back = [(tail, head, label) for label in fitting(context.labels, tail.type, head.type) if not label.symmetric]
    return [*there, *back]


def _regions(
    context: PromptContext, regions: Sequence[Region], groups: Sequence[Group], owner: Mapping[str, Group]
) -> Generator[list[Question], list[Reply], list[Any]]:
    """The regions, as decided, with the proposed boxes."""
    names = {one["name"]: " / ".join(one["texts"]) for one in listed(context, groups)}
    choices: dict[int, Choice] = {}
    for i, region in enumerate(regions):
        if region.frame in context.visible.sizes and region.box.is_legal:
            choice = _region_choice(context, region, owner.get(region.chain or ""), names)
            if _unsure(context, region.confidence, len(choice.options)):
                choices[i] = choice
    decided = dict(zip(choices, (yield from decide(context, REGION, [*choices.values()])), strict=True))
    found = []
    for i, region in enumerate(regions):
        chain = owner.get(region.chain or "")
        kept = {"type": region.type, "chain": None if chain is None else chain.name} | confidences_of(region)
        if i in choices:
            one = decided[i]
            if one is None:
                continue
            kept = one.meaning | sure(one.confidence)
        found.append({"frame": region.frame, "box": list(region.box)} | kept)
    return found


def _region_choice(context: PromptContext, region: Region, chain: Group | None, names: Mapping[str, str]) -> Choice:
    """The choice for a box: the proposal, or another type."""
    options, meanings = [], []
    for label in context.labels.regions:
        words = label.gloss(context.lang)
        meaning = {"type": label.name, "chain": None}
        if label.name == region.type and chain is not None:
            words, meaning = f"{names[chain.name]} ({words})", {"type": label.name, "chain": chain.name}
        options.append({"text": words})
        meanings.append(meaning)
    box = written_box(region.box, region.frame, context)
    return Choice({"frame": region.frame, "box": box}, options, meanings)
