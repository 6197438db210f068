"""Multiple choice: the spans first, then each decision as a question with lettered options and "none of these".

What is asked of a document, and how much of it (`K` is CANDIDATES):

- spans: one question; its answer is constrained to texts of the document, at most `max_mentions` for each type.
- type: one for each text, for all of its places together; none of the types: it is no mention.
- coreference: one for each text after the first of its type. The options are at most K texts of its type that stand
  before it: those that contain it or that it contains, then the nearest. Texts that are chosen for one another are a
  chain, so all places of a text are in one chain.
- relation: one for each pair of chains that some type fits, at most `max_relations` pairs, the nearest in the text
  first; the options are the types, in both directions. A pair has at most one relation.
- grounding: one for each frame and region type; the options are the chains of the type, at most K, the most mentioned
  first. Where something is seen, one more question asks for its box. A frame has at most one region of a type.

Where the engine says how likely each letter is, every question is asked in two orders of its options, and the option
with the highest mean log-probability wins: models favour some letters. Its share among all options is the confidence of
the type, the link, the relation or the region that was asked for. Elsewhere the letter that is answered counts.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from string import ascii_lowercase, ascii_uppercase
from typing import Any, ClassVar

from m3dllm.confidence import rounded
from m3dllm.errors import UserError
from m3dllm.labels import Label, LabelSet, RelationLabel
from m3dllm.systems.videollm import grammar, schema
from m3dllm.systems.videollm.context import PromptContext
from m3dllm.systems.videollm.engines.base import Constraint, Reply
from m3dllm.systems.videollm.gold import Gold
from m3dllm.systems.videollm.groups import Group, group_of, listed, place
from m3dllm.systems.videollm.reading import read_object, strings, without_thoughts
from m3dllm.systems.videollm.strategies.base import About, Conversation, Question, Stage, Strategy
from m3dllm.types import Issue, Mention

CANDIDATES = 8
"""How many texts or chains a question offers at most."""
LETTERS = ascii_uppercase + ascii_lowercase
"""The names of options, in order; there are never more options than these."""
LETTER_TOKENS = 24
"""The longest answer to a question with options, in tokens: a letter, or an object that holds one."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A decision: what the template is filled with, and what each option is filled with and stands for.

    None of them is always an option besides.
    """

    values: Mapping[str, Any]
    options: Sequence[Mapping[str, Any]]
    meanings: Sequence[Any]


@dataclass(frozen=True, slots=True)
class Decision:
    """What a chosen option stands for, and its probability where the engine says how likely the options are."""

    meaning: Any
    confidence: float | None = None


# --- stages -----------------------------------------------------------------------------------------------------------


def _most(context: PromptContext) -> int:
    """The most texts of the first answer."""
    return context.bounds.mentions * len(context.labels.mentions)


def _spans_constraint(context: PromptContext, about: About) -> Constraint:
    return Constraint(
        grammar=grammar.spans_grammar(context.document, context.bounds, _most(context)),
        schema=schema.spans_schema(context.bounds, _most(context)),
    )


def _spans_target(gold: Gold, about: About) -> str:
    """The texts of all mentions, each once, in document order."""
    text = gold.context.document.text
    texts = dict.fromkeys(text[m.start : m.end] for m in sorted(gold.annotation.mentions))
    answer = {"mentions": list(texts)[: _most(gold.context)]}
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":"))


def _spans_parse(context: PromptContext, reply: Reply, about: About) -> list[str]:
    said = context.read(reply, "mentions", "mentions").get("mentions")
    return list(dict.fromkeys(text for text in strings(said) if text))[: _most(context)]


SPANS = Stage(
    template="mqa/spans",
    constraint=_spans_constraint,
    target=_spans_target,
    parse=_spans_parse,
    tasks=frozenset(("entity",)),
)
"""The texts that are mentions, whatever their types."""


def _choice_constraint(context: PromptContext, letters: About) -> Constraint:
    return Constraint(grammar=grammar.choice_grammar(letters), schema=schema.choice_schema(letters))


TYPE, COREFERENCE, RELATION, SEEN = (
    Stage(template=f"mqa/{name}", constraint=_choice_constraint) for name in ("type", "coreference", "relation", "seen")
)
"""Questions with options; each is about its letters."""


def _box_constraint(context: PromptContext, frames: About) -> Constraint:
    (frame,) = frames
    return Constraint(
        grammar=grammar.box_grammar(frame, context.visible), schema=schema.box_schema(frame, context.visible)
    )


BOX = Stage(template="mqa/box", constraint=_box_constraint)
"""The box of something that is seen in a frame."""


# --- the conversation -------------------------------------------------------------------------------------------------


class Mqa(Strategy):
    """Spans, their types, chains, relations and regions; of what is given, chains or relations alone."""

    name: ClassVar = "mqa"
    stages: ClassVar = (SPANS, TYPE, COREFERENCE, RELATION, SEEN, BOX)
    system: ClassVar = "mqa/system"

    def run(self, context: PromptContext) -> Conversation:
        given = context.document.given
        if given is not None and given.kind == "chains":
            groups = [group_of(i, chain) for i, chain in enumerate(given.chains)]
            related = yield from _relations(context, groups)
            return _answer(groups, related, [])
        loose: list[Group] = []
        if given is not None:
            mentions = sorted(given.mentions)
        else:
            mentions, loose = yield from _mentions(context)
        groups = yield from _chains(context, mentions)
        if given is not None:
            return _answer(groups, [], [])
        related = yield from _relations(context, groups)
        regions = yield from _grounding(context, groups)
        for i, group in enumerate(loose, start=len(groups)):
            group.name = f"c{i}"
        return _answer([*groups, *loose], related, regions)

    def check(self, labels: LabelSet) -> None:
        """Raises UserError where a question would have more options than there are letters."""
        check_labels(labels)

    def later(self, context: PromptContext) -> list[Question]:
        """The question with the most options that could come after the first."""
        types = [label for label in context.labels.relations for _ in range(1 if label.symmetric else 2)]
        options = [_relation("…", "…", label, context) for label in types[: len(LETTERS) - 1]]
        choice = Choice({"first": "…", "second": "…"}, options, range(len(options)))
        return [_question(context, RELATION, choice, _order(choice)[0])] if options else []


def check_labels(labels: LabelSet) -> None:
    """Raises UserError where a question would have more options than there are letters."""
    kinds = [label.name for label in labels.mentions]
    most = [(len(kinds), "types of mentions")]
    for head in kinds:
        for tail in kinds:
            both = len(_fitting(labels, head, tail))
            both += sum(not label.symmetric for label in _fitting(labels, tail, head))
            most.append((both, f"relations between '{head}' and '{tail}', counted in both directions"))
    count, what = max(most)
    if count >= len(LETTERS):
        raise UserError(
            f"the label set has {count} {what}: the strategy mqa takes at most {len(LETTERS) - 1} in a question: take"
            " joint or staged by --strategy, or fewer types"
        )


def _fitting(labels: LabelSet, head: str, tail: str) -> list[RelationLabel]:
    """The types that may join chains of these types."""
    return [label for label in labels.relations if grammar.fits(label, head, tail)]


def _answer(groups: Sequence[Group], relations: list[Any], regions: list[Any]) -> dict[str, Any]:
    return {"chains": [group.written() for group in groups], "relations": relations, "regions": regions}


# --- the decisions ----------------------------------------------------------------------------------------------------


def _mentions(context: PromptContext) -> Generator[list[Question], list[Reply], tuple[list[Mention], list[Group]]]:
    """(the mentions, those texts that stand nowhere): spans, then the type of each."""
    if not context.has_text or not context.labels.mentions:
        return [], []
    texts: list[str] = yield from SPANS.put(context)
    options = [_label(label, context) for label in context.labels.mentions]
    names = [label.name for label in context.labels.mentions]
    choices = [Choice({"text": context.say(text)}, options, names) for text in texts]
    types = yield from decide(context, TYPE, choices)
    decided = [(text, one.meaning, one.confidence) for text, one in zip(texts, types, strict=True) if one]
    found = {name: [text for text, kind, _ in decided if kind == name] for name in names}
    return place(context, found, {(kind, text): sure for text, kind, sure in decided if sure is not None})


@dataclass(slots=True)
class _Unit:
    """A text with one type, and its places."""

    text: str
    type: str
    mentions: list[Mention] = field(default_factory=list)


def _chains(context: PromptContext, mentions: Sequence[Mention]) -> Generator[list[Question], list[Reply], list[Group]]:
    """Chains of `mentions`: each text is put to one before it, or begins a chain."""
    units: dict[tuple[str, str], _Unit] = {}
    for mention in mentions:
        key = context.document.text[mention.start : mention.end], mention.type
        units.setdefault(key, _Unit(*key)).mentions.append(mention)
    rows = list(units.values())
    asked = {i: before for i in range(len(rows)) if (before := _candidates(rows, i))}
    choices = [
        Choice(
            {"text": context.say(rows[i].text), "kind": _gloss(rows[i].type, context)},
            [{"text": context.say(rows[k].text)} for k in before],
            before,
        )
        for i, before in asked.items()
    ]
    chosen = yield from decide(context, COREFERENCE, choices)
    antecedent = dict(zip(asked, chosen, strict=True))
    groups: list[Group] = []
    owner: dict[int, Group] = {}
    for i, unit in enumerate(rows):
        chosen_for = antecedent.get(i)
        if chosen_for is None:
            groups.append(Group(f"c{len(groups)}", unit.type))
        owner[i] = groups[-1] if chosen_for is None else owner[chosen_for.meaning]
        link = None if chosen_for is None else chosen_for.confidence
        owner[i].mentions += [replace(m, link=link) for m in unit.mentions]
    return groups


def _candidates(units: Sequence[_Unit], i: int) -> list[int]:
    """The texts that the i-th may stand for, the likeliest first."""
    text = units[i].text.casefold()
    before = [k for k in reversed(range(i)) if units[k].type == units[i].type]
    akin = [k for k in before if (other := units[k].text.casefold()) in text or text in other]
    return list(dict.fromkeys([*akin, *before]))[:CANDIDATES]


def _relations(context: PromptContext, groups: Sequence[Group]) -> Generator[list[Question], list[Reply], list[Any]]:
    """Relations among the chains."""
    fitting_types = cache(lambda head, tail: _fitting(context.labels, head, tail))
    pairs = []
    for i, one in enumerate(groups):
        for other in groups[i + 1 :]:
            fitting = [(one, other, label) for label in fitting_types(one.type, other.type)]
            fitting += [(other, one, r) for r in fitting_types(other.type, one.type) if not r.symmetric]
            if fitting and one.mentions and other.mentions:
                pairs.append((_distance(one, other), one, other, fitting))
    pairs.sort(key=lambda pair: pair[0])
    names = {one["name"]: " / ".join(one["texts"]) for one in listed(context, groups)}
    choices = []
    for _, one, other, fitting in pairs[: context.bounds.relations]:
        choices.append(
            Choice(
                {"first": names[one.name], "second": names[other.name]},
                [_relation(names[head.name], names[tail.name], label, context) for head, tail, label in fitting],
                [{"head": head.name, "tail": tail.name, "type": label.name} for head, tail, label in fitting],
            )
        )
    chosen = yield from decide(context, RELATION, choices)
    return [one.meaning | _sure(one.confidence) for one in chosen if one is not None]


def _grounding(context: PromptContext, groups: Sequence[Group]) -> Generator[list[Question], list[Reply], list[Any]]:
    """Regions: who or what is seen in each frame, then where."""
    choices = []
    for frame in context.visible.sizes:
        for label in context.labels.regions:
            fitting = [g for g in groups if g.type == label.name or label.name not in context.labels.names("mentions")]
            fitting = sorted(fitting, key=lambda group: -len(group.mentions))[:CANDIDATES]
            options = [{"text": " / ".join(one["texts"])} for one in listed(context, fitting)]
            meanings: list[Any] = [
                (frame, label.name, group.name, o["text"]) for group, o in zip(fitting, options, strict=True)
            ]
            if not context.has_text:
                gloss = label.gloss(context.lang)
                options, meanings = [{"text": gloss}], [(frame, label.name, None, gloss)]
            if options:
                values = {"frame": frame, "kind": label.gloss(context.lang)}
                choices.append(Choice(values, options, meanings))
    seen = [one for one in (yield from decide(context, SEEN, choices)) if one is not None]
    questions = [BOX.ask(context, (one.meaning[0],), frame=one.meaning[0], text=one.meaning[3]) for one in seen]
    replies = (yield questions) if questions else []
    return [
        dict(zip(("frame", "type", "chain"), one.meaning, strict=False))
        | {"box": context.read(reply, f"regions[{i}]", "box").get("box")}
        | _sure(one.confidence)
        for i, (one, reply) in enumerate(zip(seen, replies, strict=True))
    ]


def _sure(confidence: float | None) -> dict[str, float]:
    return {} if confidence is None else {"confidence": confidence}


def _distance(one: Group, other: Group) -> tuple[int, int, int]:
    """How many characters lie between the nearest mentions of two chains, and where the chains begin."""
    gaps = (max(a.start - b.end, b.start - a.end, 0) for a in one.mentions for b in other.mentions)
    return min(gaps), one.mentions[0].start, other.mentions[0].start


def _label(label: Label, context: PromptContext) -> dict[str, Any]:
    return {"name": label.name, "gloss": label.gloss(context.lang)}


def _relation(head: str, tail: str, label: Label, context: PromptContext) -> dict[str, Any]:
    return _label(label, context) | {"head": head, "tail": tail}


def _gloss(kind: str, context: PromptContext) -> str:
    return next((label.gloss(context.lang) for label in context.labels.mentions if label.name == kind), kind)


# --- a choice ---------------------------------------------------------------------------------------------------------


def decide(
    context: PromptContext, stage: Stage, choices: Sequence[Choice]
) -> Generator[list[Question], list[Reply], list[Decision | None]]:
    """What is decided in each of the choices; None for none of the options."""
    if not choices:
        return []
    scores: list[list[float]] = [[0.0] * (len(choice.options) + 1) for choice in choices]
    chosen: list[int | None] = [None] * len(choices)
    for turn in range(2):
        orders = [_order(choice)[turn] for choice in choices]
        replies = yield [_question(context, stage, c, o) for c, o in zip(choices, orders, strict=True)]
        if any(reply.scores is None for reply in replies):
            chosen = [_said(context, stage.name, r, o) for r, o in zip(replies, orders, strict=True)]
            scores = [[] for _ in choices]
            break
        for row, reply, order in zip(scores, replies, orders, strict=True):
            for number, score in zip(order, reply.scores or (), strict=True):
                row[number] += score
        chosen = [max(range(len(row)), key=row.__getitem__) for row in scores]
    return [
        None
        if number is None or number == len(choice.options)
        else Decision(choice.meanings[number], _share(row, number))
        for choice, number, row in zip(choices, chosen, scores, strict=True)
    ]


def _share(scores: Sequence[float], number: int) -> float | None:
    """The probability of an option among all of them, of the mean of two log-probabilities each; None without any."""
    if not any(scores):
        return None
    shares = [math.exp((score - max(scores)) / 2) for score in scores]
    return rounded(shares[number] / math.fsum(shares))


def _order(choice: Choice) -> tuple[list[int], list[int]]:
    """The two orders in which options are shown; the number after the last option is none of them."""
    numbers = list(range(len(choice.options) + 1))
    return numbers, numbers[::-1]


def _question(context: PromptContext, stage: Stage, choice: Choice, order: Sequence[int]) -> Question:
    options = [
        {"letter": letter, "none": number == len(choice.options)}
        | (dict(choice.options[number]) if number < len(choice.options) else {})
        for letter, number in zip(LETTERS, order, strict=False)
    ]
    letters = tuple(LETTERS[: len(order)])

    question = stage.ask(context, letters, options=options, **choice.values)
    free = context.options.unconstrained
    request = replace(
        question.request,
        options=() if free or context.options.schema_only else letters,
        max_tokens=context.options.max_tokens if free else min(LETTER_TOKENS, context.options.max_tokens),
    )
    return replace(question, request=request)


def _said(context: PromptContext, stage: str, reply: Reply, order: Sequence[int]) -> int | None:
    """The option that a reply names; None, with an Issue, where it names none."""
    letter = read_letter(reply.text, LETTERS[: len(order)])
    if letter is None:
        detail = f"expected a letter from A to {LETTERS[len(order) - 1]}, not {reply.text[:60]!r}"
        context.issues.append(Issue("bad_shape", stage, detail))
        return None
    return order[LETTERS.index(letter)]


def read_letter(text: str, letters: str) -> str | None:
    """The option that an answer names: alone or in an object; else the last letter in brackets; else the last alone."""
    body = without_thoughts(text).strip()
    value = read_object(body, "choice", ("choice",))[0] if "{" in body else {}
    if isinstance(value.get("choice"), str):
        body = value["choice"]
    if body.strip(" .:()[]（）") in (known := list(letters)):
        return body.strip(" .:()[]（）")
    for pattern in (r"[(\[（]([A-Za-z])[)\]）]", r"(?<![A-Za-z'’])([A-Z])(?![A-Za-z'’])"):
        if found := [letter for letter in re.findall(pattern, body) if letter in known]:
            return str(found[-1])
    return None
