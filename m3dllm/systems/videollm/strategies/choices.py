"""Multiple-choice questions with lettered options, and the evaluation of their answers.

If the engine scores options, every question is asked with two orders of its options, since models favour some letters,
and the option with the highest mean log-probability wins. The shares of the options are then known too. Otherwise the
generated letter counts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from string import ascii_lowercase, ascii_uppercase
from typing import Any

from m3dllm.confidence import rounded
from m3dllm.labels import Label, LabelSet, RelationLabel
from m3dllm.systems.videollm import grammar, schema
from m3dllm.systems.videollm.context import PromptContext
from m3dllm.systems.videollm.engines.base import Constraint, Reply
from m3dllm.systems.videollm.reading import read_object, without_thoughts
from m3dllm.systems.videollm.strategies.base import About, Question, Stage
from m3dllm.types import Issue, Lang

LETTERS = ascii_uppercase + ascii_lowercase
"""The names of options, in order, and so the maximum number of options."""
LETTER_TOKENS = 24
"""The longest answer to a question with options, in tokens: a letter, or an object with one."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A decision: the values of the template, and for each option its values and its meaning.

    "None of them" is always a further option.
    """

    values: Mapping[str, Any]
    options: Sequence[Mapping[str, Any]]
    meanings: Sequence[Any]


@dataclass(frozen=True, slots=True)
class Decision:
    """The meaning of the chosen option, and its probability if the engine scores options."""

    meaning: Any
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class Ranking:
    """The answer to a choice: the index of the chosen option (the one after the last is "none of them"; None if the
    answer could not be read), and the share of each, "none of them" last, if the engine scores options."""

    choice: Choice
    chosen: int | None
    shares: tuple[float, ...] = ()

    @property
    def decision(self) -> Decision | None:
        """The decision; None for "none of them"."""
        if self.chosen is None or self.chosen == len(self.choice.options):
            return None
        sure = rounded(self.shares[self.chosen]) if self.shares else None
        return Decision(self.choice.meanings[self.chosen], sure)

    @property
    def entropy(self) -> float | None:
        """The normalized entropy of the shares, from 0 to 1; None if they are unknown."""
        return entropy(self.shares) if self.shares else None

    def best(self, count: int) -> Choice:
        """The choice among its `count` most probable options, in their order."""
        numbers = sorted(range(len(self.choice.options)), key=lambda number: -self.shares[number])[:count]
        numbers.sort()
        options, meanings = self.choice.options, self.choice.meanings
        return replace(self.choice, options=[options[n] for n in numbers], meanings=[meanings[n] for n in numbers])


def entropy(shares: Sequence[float]) -> float:
    """The entropy of shares that sum to 1, normalized to 0 to 1."""
    return -math.fsum(p * math.log(p) for p in shares if p > 0) / math.log(len(shares)) if len(shares) > 1 else 0.0


def choice_constraint(context: PromptContext, letters: About) -> Constraint:
    return Constraint(grammar=grammar.choice_grammar(letters), schema=schema.choice_schema(letters))


Decisions = Generator[list[Question], list[Reply], list[Decision | None]]


def decide(context: PromptContext, stage: Stage, choices: Sequence[Choice]) -> Decisions:
    """The decision of each choice; None for "none of them"."""
    return [ranking.decision for ranking in (yield from rank(context, stage, choices))]


def rank(
    context: PromptContext, stage: Stage, choices: Sequence[Choice]
) -> Generator[list[Question], list[Reply], list[Ranking]]:
    """The answer to each choice."""
    if not choices:
        return []
    scores: list[list[float]] = [[0.0] * (len(choice.options) + 1) for choice in choices]
    for turn in range(2):
        orders = [_order(choice)[turn] for choice in choices]
        replies = yield [question(context, stage, c, o) for c, o in zip(choices, orders, strict=True)]
        if any(reply.scores is None for reply in replies):
            chosen = [_said(context, stage.name, r, o) for r, o in zip(replies, orders, strict=True)]
            return [Ranking(*one) for one in zip(choices, chosen, strict=True)]
        for row, reply, order in zip(scores, replies, orders, strict=True):
            for number, score in zip(order, reply.scores or (), strict=True):
                row[number] += score
    return [
        Ranking(choice, max(range(len(row)), key=row.__getitem__), _shares(row))
        for choice, row in zip(choices, scores, strict=True)
    ]


YES_NO: Mapping[Lang, tuple[str, str]] = {"en": ("yes", "no"), "zh": ("是", "否")}


def yes_no_constraint(context: PromptContext, about: About) -> Constraint:
    words = YES_NO[context.lang]
    return Constraint(grammar=grammar.choice_grammar(words), schema=schema.choice_schema(words))


def affirm(
    context: PromptContext, stage: Stage, values: Sequence[Mapping[str, Any]]
) -> Generator[list[Question], list[Reply], list[float]]:
    """For each set of template values, P(yes) among yes and no; 1 or 0 if the engine does not score options."""
    if not values:
        return []
    asked = [_short(context, stage.ask(context, **filled), YES_NO[context.lang]) for filled in values]
    replies = yield asked
    return [_affirmed(context, stage.name, reply) for reply in replies]


def _affirmed(context: PromptContext, stage: str, reply: Reply) -> float:
    if reply.scores is not None:
        yes, no = reply.scores
        return 1 / (1 + math.exp(min(no - yes, 700.0)))
    body = without_thoughts(reply.text).strip()
    value = read_object(body, "choice", ("choice",))[0] if "{" in body else {}
    letter = str(value.get("choice", body)).casefold().lstrip(" \"'“‘(（")
    words = YES_NO[context.lang]
    for word, probability in zip(words, (1.0, 0.0), strict=True):
        if letter.startswith(word):
            return probability
    context.issues.append(Issue("bad_shape", stage, f"expected {' or '.join(words)}, not {reply.text[:60]!r}"))
    return 0.0


def _shares(scores: Sequence[float]) -> tuple[float, ...]:
    """The softmax over the options of the mean of two log-probabilities each."""
    parts = [math.exp((score - max(scores)) / 2) for score in scores]
    return tuple(part / math.fsum(parts) for part in parts)


def _order(choice: Choice) -> tuple[list[int], list[int]]:
    """The two orders of the options; the index after the last option is "none of them"."""
    numbers = list(range(len(choice.options) + 1))
    return numbers, numbers[::-1]


def question(context: PromptContext, stage: Stage, choice: Choice, order: Sequence[int] | None = None) -> Question:
    """The question with its options in this order; default: as given."""
    order = _order(choice)[0] if order is None else order
    options = [
        {"letter": letter, "none": number == len(choice.options)}
        | (dict(choice.options[number]) if number < len(choice.options) else {})
        for letter, number in zip(LETTERS, order, strict=False)
    ]
    letters = tuple(LETTERS[: len(order)])

    asked = stage.ask(context, letters, options=options, **choice.values)
    return _short(context, asked, letters)


def _short(context: PromptContext, asked: Question, options: tuple[str, ...]) -> Question:
    """The question, answered by one of the options: by scores if the engine supports them."""
    free = context.options.unconstrained
    request = replace(
        asked.request,
        options=() if free or context.options.schema_only else options,
        max_tokens=context.options.max_tokens if free else min(LETTER_TOKENS, context.options.max_tokens),
    )
    return replace(asked, request=request)


def _said(context: PromptContext, stage: str, reply: Reply, order: Sequence[int]) -> int | None:
    """The option that a reply names; None, with an Issue, if it names none."""
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


# --- values of templates ----------------------------------------------------------------------------------------------


def label_values(label: Label, context: PromptContext) -> dict[str, Any]:
    return {"name": label.name, "gloss": label.gloss(context.lang)}


def relation_values(head: str, tail: str, label: Label, context: PromptContext) -> dict[str, Any]:
    return label_values(label, context) | {"head": head, "tail": tail}


def gloss(kind: str, context: PromptContext) -> str:
    """The type of a mention in words."""
    return next((label.gloss(context.lang) for label in context.labels.mentions if label.name == kind), kind)


def fitting(labels: LabelSet, head: str, tail: str) -> list[RelationLabel]:
    """The relation types allowed between chains of these types."""
    return [label for label in labels.relations if grammar.fits(label, head, tail)]


def sure(confidence: float | None) -> dict[str, float]:
    """The confidence of a relation or region in the answer form."""
    return {} if confidence is None else {"confidence": confidence}
