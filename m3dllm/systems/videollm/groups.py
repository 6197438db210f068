"""Mentions and chains built up from answer to answer, and their form in prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from m3dllm.answers import Nesting, Occurrences
from m3dllm.confidence import confidences_of
from m3dllm.systems.videollm.context import PromptContext
from m3dllm.systems.videollm.reading import strings
from m3dllm.systems.videollm.visible import Named
from m3dllm.types import Chain, Mention

TEXTS = 6
"""The number of different texts of a chain in a prompt."""


@dataclass(slots=True)
class Group:
    """A chain as the stages build it. `loose`: its texts that do not occur in the document."""

    name: str
    type: str
    mentions: list[Mention] = field(default_factory=list)
    loose: list[str] = field(default_factory=list)

    @property
    def named(self) -> Named:
        return Named(self.name, self.type)

    def written(self) -> dict[str, Any]:
        """The chain in the answer form."""
        placed = [{"start": m.start, "end": m.end, "type": m.type} | confidences_of(m) for m in self.mentions]
        return {"id": self.name, "type": self.type, "mentions": [*placed, *self.loose]}


def group_of(number: int, chain: Chain) -> Group:
    """A chain with its name in prompts."""
    return Group(f"c{number}", chain.type, list(chain.mentions))


def place(
    context: PromptContext, answer: Mapping[str, Any], sure: Mapping[tuple[str, str], float] | None = None
) -> tuple[list[Mention], list[Group]]:
    """(the mentions of an `entities` answer, in order; groups of its texts that do not occur).

    A text stands for each of its token-aligned occurrences that does not lie inside a longer mention; a span of two
    types gets the first one. Texts that do not occur are kept as written, for `normalize` to make Issues of.
    `sure`: (type, text) -> confidence, if known.
    """
    occurrences = Occurrences(context.document)
    predicted = [(label.name, text) for label in context.labels.mentions for text in strings(answer.get(label.name))]
    predicted = list(dict.fromkeys(predicted))
    nesting = Nesting(span for _, text in predicted for span in occurrences.of(text))
    found: dict[tuple[int, int], Mention] = {}
    loose = []
    for kind, text in predicted:
        spans = occurrences.of(text)
        if not spans:
            loose.append(Group("", kind, loose=[text]))
        for span in spans:
            if not nesting.inside_longer(span):
                found.setdefault(span, Mention(*span, kind, (sure or {}).get((kind, text))))
    return sorted(found.values()), loose


def marked(context: PromptContext, mentions: Sequence[Mention]) -> str:
    """The text with `[m3 …]` around each mention; a longer one encloses those inside it."""
    text = context.document.text
    opens: dict[int, list[tuple[int, int]]] = {}
    closes: dict[int, int] = {}
    for i, mention in enumerate(mentions):
        opens.setdefault(mention.start, []).append((-mention.end, i))
        closes[mention.end] = closes.get(mention.end, 0) + 1
    pieces, at = [], 0
    for edge in sorted({*opens, *closes, len(text)}):
        pieces += [context.say(text[at:edge]), "]" * closes.get(edge, 0)]
        pieces += [f"[m{i} " for _, i in sorted(opens.get(edge, []))]
        at = edge
    return "".join(pieces)


def listed(context: PromptContext, groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Chains as a prompt lists them: name, type, and a few of their texts."""
    return [
        {"name": group.name, "type": group.type, "texts": [context.say(text) for text in _texts(context, group)]}
        for group in groups
    ]


def _texts(context: PromptContext, group: Group) -> list[str]:
    texts = [context.document.text[m.start : m.end] for m in group.mentions]
    return list(dict.fromkeys([*texts, *group.loose]))[:TEXTS]
