"""One document as it is shown, and all that questions about it are made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from m3dllm.labels import Label, LabelSet, RelationLabel
from m3dllm.systems.videollm.engines.base import Constraint, Reply, Request
from m3dllm.systems.videollm.grammar import mention_chunks
from m3dllm.systems.videollm.messages import Message, Part
from m3dllm.systems.videollm.options import Options
from m3dllm.systems.videollm.prompts import Prompts, harmless
from m3dllm.systems.videollm.reading import read_object
from m3dllm.systems.videollm.shown import Bounds, Shown
from m3dllm.types import Document, Example, Issue, Lang


@dataclass(slots=True)
class PromptContext:
    """One document, as it is shown, and all that is needed to ask about it. `issues` collects what was wrong."""

    document: Document
    labels: LabelSet
    options: Options
    prompts: Prompts
    shown: Shown
    system: str
    """The system message."""
    view: tuple[Part, ...]
    """The document itself: what all questions begin with."""
    frames: tuple[int, ...] = ()
    """The frames that are shown; those of a video stand here only."""
    specials: Sequence[str] = ()
    supports: frozenset[str] = frozenset()
    """What the engine supports, see `engines.base`."""
    examples: Sequence[Example] = ()
    """The few-shot examples that stand in its prompts, the nearest last."""
    roles: dict[str, PromptContext] = field(default_factory=dict)
    """The document as other models than the main one are shown it, by their roles."""
    share: str = ""
    issues: list[Issue] = field(default_factory=list)

    @property
    def lang(self) -> Lang:
        return self.document.lang

    @property
    def bounds(self) -> Bounds:
        return Bounds.of(self.options)

    @property
    def has_text(self) -> bool:
        return bool(self.document.text.strip())

    def of(self, model: str) -> PromptContext:
        """The document as the model of that role is shown it; the main one's where the role has no model of its own."""
        return self.roles.get(model, self)

    def render(self, template: str, **values: Any) -> str:
        """The text of a template, filled with what all questions are made from, and with `values`."""
        common = {
            "mention_types": [_label(label, self.lang) for label in self.labels.mentions],
            "relation_types": [_relation_label(label, self.lang) for label in self.labels.relations],
            "region_types": [_label(label, self.lang) for label in self.labels.regions],
            "convention": self.shown.convention,
            "has_text": self.has_text,
            "has_frames": bool(self.shown.sizes),
            "example_frame": next(iter(self.shown.sizes), 0),
            "example_type": self.labels.mentions[0].name if self.labels.mentions else "…",
        }
        return self.prompts.render(template, self.lang, **common, **values)

    def request(self, text: str, constraint: Constraint | None) -> Request:
        """A request with this instruction after the document; with the schema alone where that is wanted."""
        if constraint is not None and self.options.schema_only:
            constraint = Constraint(schema=constraint.schema)
        if constraint is not None and constraint.grammar is not None and "chunks" in self.supports:
            constraint = replace(constraint, chunks=tuple(mention_chunks(self.document)))
        messages = (Message("system", (self.system,)), Message("user", (*self.view, "\n\n" + text)))
        return Request(messages=messages, max_tokens=self.options.max_tokens, constraint=constraint, share=self.share)

    def say(self, text: str) -> str:
        """A text of the document, as a prompt may hold it."""
        return harmless(text, self.specials)

    def read(self, reply: Reply, where: str, *keys: str) -> dict[str, Any]:
        """The object of a reply, with these keys (any, where none is named); what had to be mended is noted."""
        value, issues = read_object(reply.text, where, keys)
        self.issues += [issue for issue in issues if issue.code != "truncated" or reply.finish != "length"]
        return value


def _label(label: Label, lang: Lang) -> dict[str, Any]:
    return {"name": label.name, "gloss": label.gloss(lang)}


def _relation_label(label: RelationLabel, lang: Lang) -> dict[str, Any]:
    return _label(label, lang) | {"head": label.head, "tail": label.tail, "symmetric": label.symmetric}
