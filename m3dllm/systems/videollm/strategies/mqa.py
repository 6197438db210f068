"""`mqa`: spans first, then each decision as a multiple-choice question with lettered options and "none of these".

The questions about a document, and their numbers (`K` is CANDIDATES):

- spans: one question; its answer is constrained to texts of the document, at most `max_mentions` for each type.
- type: one for each text, for all of its occurrences together; "none": it is not a mention.
- coreference: one for each text after the first of its type. The options are at most K earlier texts of its type: those
  that contain it or that it contains, then the nearest. Linked texts form a chain, so all occurrences of a text are in
  one chain.
- relation: one for each pair of chains with an allowed type, at most `max_relations` pairs, the nearest in the text
  first; the options are the types, in both directions. A pair has at most one relation.
- grounding: one for each frame and region type; the options are the chains of the type, at most K, the most mentioned
  first. If one is visible, one more question asks for its box. A frame has at most one region of a type.

`choices` asks and evaluates multiple-choice questions: the share of the winning option is the confidence of the type,
link, relation or region.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from heapq import nsmallest
from itertools import combinations
from typing import Any, ClassVar

from m3dllm.errors import UserError
from m3dllm.labels import Label, LabelSet
from m3dllm.systems.videollm import grammar, schema
from m3dllm.systems.videollm.context import PromptContext
from m3dllm.systems.videollm.engines.base import Constraint, Reply
from m3dllm.systems.videollm.gold import Gold
from m3dllm.systems.videollm.groups import Group, group_of, listed, place
from m3dllm.systems.videollm.reading import strings
from m3dllm.systems.videollm.strategies.base import About, Conversation, Question, Stage, Strategy
from m3dllm.systems.videollm.strategies.choices import (
    LETTERS,
    Choice,
    Decision,
    Decisions,
    choice_constraint,
    decide,
    fitting,
    gloss,
    label_values,
    question,
    relation_values,
    sure,
)
from m3dllm.types import Mention

CANDIDATES = 8
"""The maximum number of texts or chains that a question offers."""


# --- stages -----------------------------------------------------------------------------------------------------------


def _most(context: PromptContext) -> int:
    """The maximum number of texts in the first answer."""
    return context.bounds.mentions * len(context.labels.mentions)


def _spans_constraint(context: PromptContext, about: About) -> Constraint:
    most, objects = _most(context), context.prompts.lists_objects
    return Constraint(
        grammar=grammar.spans_grammar(context.document, context.bounds, most, objects=objects),
        schema=schema.spans_schema(context.bounds, most, objects=objects),
    )


def _spans_target(gold: Gold, about: About) -> str:
    """The texts of all mentions, each once, in document order."""
    text = gold.context.document.text
    texts = [*dict.fromkeys(text[m.start : m.end] for m in sorted(gold.annotation.mentions))][: _most(gold.context)]
    answer = {"mentions": [{"text": text} for text in texts] if gold.context.prompts.lists_objects else texts}
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":"))


def _spans_parse(context: PromptContext, reply: Reply, about: About) -> list[str]:
    found = context.read(reply, "mentions", "mentions").get("mentions")
    return list(dict.fromkeys(text for text in strings(found) if text))[: _most(context)]


SPANS = Stage(
    template="mqa/spans",
    constraint=_spans_constraint,
    target=_spans_target,
    parse=_spans_parse,
    tasks=frozenset(("entity",)),
)
"""The texts of mentions, without types."""


TYPE, COREFERENCE, RELATION, SEEN = (
    Stage(template=f"mqa/{name}", constraint=choice_constraint) for name in ("type", "coreference", "relation", "seen")
)
"""The multiple-choice questions."""


def box_constraint(context: PromptContext, frames: About) -> Constraint:
    (frame,) = frames
    return Constraint(
        grammar=grammar.box_grammar(frame, context.visible), schema=schema.box_schema(frame, context.visible)
    )


BOX = Stage(template="mqa/box", constraint=box_constraint)
"""The box of something visible in a frame."""


# --- the conversation -------------------------------------------------------------------------------------------------


class Mqa(Strategy):
    """Spans, their types, chains, relations and regions; with gold given, only chains or only relations."""

    name: ClassVar = "mqa"
    stages: ClassVar[tuple[Stage, ...]] = (SPANS, TYPE, COREFERENCE, RELATION, SEEN, BOX)
    system: ClassVar = "mqa/system"

    def decide(self, context: PromptContext, stage: Stage, choices: Sequence[Choice]) -> Decisions:
        """Decide the types of mentions or relations."""
        return decide(context, stage, choices)

    def visible(
        self, context: PromptContext, groups: Sequence[Group]
    ) -> Generator[list[Question], list[Reply], Sequence[Group]]:
        """The chains that are looked for in the frames."""
        return groups
        yield  # makes it a generator, as in subclasses

    def run(self, context: PromptContext) -> Conversation:
        given = context.document.given
        if given is not None and given.kind == "chains":
            groups = [group_of(i, chain) for i, chain in enumerate(given.chains)]
            related = yield from self._relations(context, groups)
            return answer(groups, related, [])
        loose: list[Group] = []
        if given is not None:
            mentions = sorted(given.mentions)
        else:
            mentions, loose = yield from self._mentions(context)
        groups = yield from _chains(context, mentions)
        if given is not None:
            return answer(groups, [], [])
        related = yield from self._relations(context, groups)
        regions = yield from _grounding(context, (yield from self.visible(context, groups)))
        for i, group in enumerate(loose, start=len(groups)):
            group.name = f"c{i}"
        return answer([*groups, *loose], related, regions)

    def check(self, labels: LabelSet) -> None:
        """Raises UserError if a question would have more options than there are letters."""
        check_labels(labels)

    def later(self, context: PromptContext) -> list[Question]:
        """The question with the most options that could come after the first."""
        types = [label for label in context.labels.relations for _ in range(1 if label.symmetric else 2)]
        options = [relation_values("…", "…", label, context) for label in types[: len(LETTERS) - 1]]
        choice = Choice({"first": "…", "second": "…"}, options, range(len(options)))
        return [question(context, RELATION, choice)] if options else []

    def _mentions(
        self, context: PromptContext
    ) -> Generator[list[Question], list[Reply], tuple[list[Mention], list[Group]]]:
        """(the mentions, texts that do not occur): spans, then the type of each."""
        if not context.has_text or not context.labels.mentions:
            return [], []
        texts: list[str] = yield from SPANS.put(context)
        choices = [type_choice(context, text) for text in texts]
        types = yield from self.decide(context, TYPE, choices)
        decided = [(text, one.meaning, one.confidence) for text, one in zip(texts, types, strict=True) if one]
        found = {
            label.name: [text for text, kind, _ in decided if kind == label.name] for label in context.labels.mentions
        }
        return place(context, found, {(kind, text): p for text, kind, p in decided if p is not None})

    def _relations(
        self, context: PromptContext, groups: Sequence[Group]
    ) -> Generator[list[Question], list[Reply], list[Any]]:
        """Relations among the chains."""
        fitting_types = cache(lambda head, tail: fitting(context.labels, head, tail))

        def ways(one: Group, other: Group) -> list[Way]:
            there = [(one, other, label) for label in fitting_types(one.type, other.type)]
            back = [(other, one, label) for label in fitting_types(other.type, one.type) if not label.symmetric]
            return [*there, *back]

        placed = [group for group in groups if group.mentions]
        pairs = (pair for pair in combinations(placed, 2) if ways(*pair))
        nearest = nsmallest(context.bounds.relations, pairs, key=lambda pair: _distance(*pair))
        names = {one["name"]: " / ".join(one["texts"]) for one in listed(context, groups)}
        choices = [relation_choice(context, names, pair, ways(*pair)) for pair in nearest]
        chosen = yield from self.decide(context, RELATION, choices)
        return [one.meaning | sure(one.confidence) for one in chosen if one is not None]


def check_labels(labels: LabelSet) -> None:
    """Raises UserError if a question would have more options than there are letters."""
    kinds = [label.name for label in labels.mentions]
    most = [(len(kinds), "types of mentions")]
    for head in kinds:
        for tail in kinds:
            both = len(fitting(labels, head, tail))
            both += sum(not label.symmetric for label in fitting(labels, tail, head))
            most.append((both, f"relations between '{head}' and '{tail}', counted in both directions"))
    count, what = max(most)
    if count >= len(LETTERS):
        raise UserError(
            f"the label set has {count} {what}: the strategy mqa supports at most {len(LETTERS) - 1} per question: "
            "use --strategy joint or staged, or fewer types"
        )


def answer(groups: Sequence[Group], relations: list[Any], regions: list[Any]) -> dict[str, Any]:
    return {"chains": [group.written() for group in groups], "relations": relations, "regions": regions}


# --- the decisions ----------------------------------------------------------------------------------------------------


def type_choice(context: PromptContext, text: str) -> Choice:
    """Which type a text has."""
    labels = context.labels.mentions
    options = [label_values(label, context) for label in labels]
    return Choice({"text": context.say(text)}, options, [label.name for label in labels])


Way = tuple[Group, Group, Label]
"""A possible relation: (head, tail, type)."""


def relation_choice(
    context: PromptContext, names: Mapping[str, str], pair: tuple[Group, Group], ways: Sequence[Way]
) -> Choice:
    """Which of these relations joins two chains; `names`: the names of chains in the prompt."""
    first, second = (names[group.name] for group in pair)
    return Choice(
        {"first": first, "second": second},
        [relation_values(names[head.name], names[tail.name], label, context) for head, tail, label in ways],
        [{"head": head.name, "tail": tail.name, "type": label.name} for head, tail, label in ways],
    )


@dataclass(slots=True)
class Unit:
    """A text with one type, and its occurrences."""

    text: str
    type: str
    mentions: list[Mention] = field(default_factory=list)


def _chains(context: PromptContext, mentions: Sequence[Mention]) -> Generator[list[Question], list[Reply], list[Group]]:
    """Chains of `mentions`: each text is linked to an earlier one, or begins a chain."""
    found: dict[tuple[str, str], Unit] = {}
    for mention in mentions:
        key = context.document.text[mention.start : mention.end], mention.type
        found.setdefault(key, Unit(*key)).mentions.append(replace(mention, link=None))
    units = list(found.values())
    asked = {i: before for i in range(len(units)) if (before := _candidates(units, i))}
    chosen = yield from antecedents(context, units, asked)
    groups: list[Group] = []
    owner: dict[int, Group] = {}
    for i, unit in enumerate(units):
        first = chosen.get(i)
        if first is None:
            groups.append(Group(f"c{len(groups)}", unit.type))
        owner[i] = groups[-1] if first is None else owner[first.meaning]
        owner[i].mentions += [replace(m, link=first.confidence) for m in unit.mentions] if first else unit.mentions
    return groups


def antecedents(
    context: PromptContext, units: Sequence[Unit], asked: Mapping[int, Sequence[int]]
) -> Generator[list[Question], list[Reply], dict[int, Decision | None]]:
    """index of each text in `asked` -> the decision which of the texts with the given indices it corefers with."""
    choices = [
        Choice(
            {"text": context.say(units[i].text), "kind": gloss(units[i].type, context)},
            [{"text": context.say(units[k].text)} for k in before],
            before,
        )
        for i, before in asked.items()
    ]
    chosen = yield from decide(context, COREFERENCE, choices)
    return dict(zip(asked, chosen, strict=True))


def _candidates(units: Sequence[Unit], i: int) -> list[int]:
    """The candidate antecedents of the i-th text, the best first."""
    text = units[i].text.casefold()
    before = [k for k in reversed(range(i)) if units[k].type == units[i].type]
    akin = [k for k in before if (other := units[k].text.casefold()) in text or text in other]
    return list(dict.fromkeys([*akin, *before]))[:CANDIDATES]


def _grounding(context: PromptContext, groups: Sequence[Group]) -> Generator[list[Question], list[Reply], list[Any]]:
    """Regions: which entities are visible in each frame, then their boxes."""
    choices = []
    for frame in context.visible.sizes:
        for label in context.labels.regions:
            shown = of_region_type(context, groups, label)
            options = [{"text": " / ".join(one["texts"])} for one in listed(context, shown)]
            meanings: list[Any] = [
                (frame, label.name, group.name, o["text"]) for group, o in zip(shown, options, strict=True)
            ]
            if not context.has_text:
                words = label.gloss(context.lang)
                options, meanings = [{"text": words}], [(frame, label.name, None, words)]
            if options:
                values = {"frame": frame, "kind": label.gloss(context.lang)}
                choices.append(Choice(values, options, meanings))
    seen = [one for one in (yield from decide(context, SEEN, choices)) if one is not None]
    questions = [BOX.ask(context, (one.meaning[0],), frame=one.meaning[0], text=one.meaning[3]) for one in seen]
    replies = (yield questions) if questions else []
    return [
        dict(zip(("frame", "type", "chain"), one.meaning, strict=False))
        | {"box": context.read(reply, f"regions[{i}]", "box").get("box")}
        | sure(one.confidence)
        for i, (one, reply) in enumerate(zip(seen, replies, strict=True))
    ]


def of_region_type(context: PromptContext, groups: Sequence[Group], label: Label) -> list[Group]:
    """The chains that regions of this type may show, the most mentioned first, at most CANDIDATES."""
    of_any = label.name not in context.labels.names("mentions")
    found = [group for group in groups if of_any or group.type == label.name]
    return sorted(found, key=lambda group: -len(group.mentions))[:CANDIDATES]


def _distance(one: Group, other: Group) -> tuple[int, int, int]:
    """(characters between the nearest mentions of two chains, the starts of the chains), as a sort key."""
    gaps = (max(a.start - b.end, b.start - a.end, 0) for a in one.mentions for b in other.mentions)
    return min(gaps), one.mentions[0].start, other.mentions[0].start
