"""The prompt context of a document, from which all questions about it are made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from m3dllm.labels import Label, LabelSet, RelationLabel
from m3dllm.normalize.align import fold
from m3dllm.systems.videollm.engines.base import Constraint, Reply, Request
from m3dllm.systems.videollm.grammar import mention_chunks
from m3dllm.systems.videollm.messages import Clip, Message, Part, Still
from m3dllm.systems.videollm.options import Options
from m3dllm.systems.videollm.prompts import Prompts, harmless, show_document
from m3dllm.systems.videollm.reading import read_object
from m3dllm.systems.videollm.repetition import REPETITION
from m3dllm.systems.videollm.visible import Bounds, VisibleFrames
from m3dllm.systems.videollm.worked import WORKED
from m3dllm.types import Document, Example, Issue, Lang


@dataclass(frozen=True, slots=True)
class Shot:
    """A few-shot example: the train document with its gold, and its rendering."""

    context: PromptContext
    example: Example


PLACEHOLDERS = frozenset(("…", "..."))
"""Placeholders for texts in descriptions of the format."""


@dataclass(slots=True)
class PromptContext:
    """One document as rendered for a model, and all that its prompts need. `issues` collects problems."""

    document: Document
    labels: LabelSet
    options: Options
    prompts: Prompts
    visible: VisibleFrames
    system: str
    """The system message."""
    view: tuple[Part, ...]
    """The document itself, with which all questions begin."""
    frames: tuple[int, ...] = ()
    """The frames that the model gets; those of a video are listed only here."""
    specials: Sequence[str] = ()
    supports: frozenset[str] = frozenset()
    """The capabilities of the engine, see `engines.base`."""
    examples: Sequence[Shot] = ()
    """The few-shot examples in its prompts, the most similar last."""
    is_worked: bool = True
    """Whether there is room for the worked example if there are no few-shot examples."""
    roles: dict[str, PromptContext] = field(default_factory=dict)
    """The contexts of the document for other models than the main one, by role."""
    share: str = ""
    begun: Any = field(default=None, init=False)
    """The conversation about it and its first questions, if they were made for counting."""
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

    def only(self, frame: int) -> PromptContext:
        """The document as if this frame were its only one. Issues are shared."""
        one = self.showing([still for still in self.stills if still.frame == frame])
        sizes = {frame: self.visible.sizes[frame]}
        return replace(one, frames=(frame,), visible=replace(self.visible, sizes=sizes))

    @property
    def stills(self) -> list[Still]:
        """The frames that the model gets, as images."""
        shown = (part.stills if isinstance(part, Clip) else (part,) for part in self.view if not isinstance(part, str))
        return [still for stills in shown for still in stills]

    def showing(self, stills: Sequence[Still]) -> PromptContext:
        """The document with these images in place of its own, each as a single image. Issues are shared."""
        view = show_document(
            self.prompts,
            self.document,
            stills,
            fps=self.options.fps,
            specials=self.specials,
            unlisted="clip" in self.supports,
        )
        return replace(self, view=view)

    def of(self, model: str) -> PromptContext:
        """The context for the model of that role; the main one's if the role has no model."""
        return self.roles.get(model, self)

    def render(self, template: str, **values: Any) -> str:
        """The text of a template, filled with this context and `values`."""
        common = {
            "mention_types": [_label(label, self.lang) for label in self.labels.mentions],
            "relation_types": [_relation_label(label, self.lang) for label in self.labels.relations],
            "region_types": [_label(label, self.lang) for label in self.labels.regions],
            "convention": self.visible.convention,
            "has_text": self.has_text,
            "has_frames": bool(self.visible.sizes),
            "example_frame": next(iter(self.visible.sizes), 0),
            "example_type": self.labels.mentions[0].name if self.labels.mentions else "…",
        }
        return self.prompts.render(template, self.lang, **common, **values)

    def user_turn(self, text: str) -> Message:
        """The user message: the document, then this instruction."""
        return Message("user", (*self.view, "\n\n" + text))

    def request(self, text: str, constraint: Constraint | None, turns: Sequence[Message] = ()) -> Request:
        """A request with this instruction after the document, and `turns` before it; with the schema only if that
        is an option."""
        if constraint is not None and self.options.schema_only:
            constraint = Constraint(schema=constraint.schema)
        if constraint is not None and constraint.grammar is not None and "chunks" in self.supports:
            constraint = replace(constraint, chunks=tuple(mention_chunks(self.document)))
        messages = (Message("system", (self.system,)), *turns, self.user_turn(text))
        return Request(messages=messages, max_tokens=self.options.max_tokens, constraint=constraint, share=self.share)

    def say(self, text: str) -> str:
        """A text of the document, made harmless: without special tokens."""
        return harmless(text, self.specials)

    def read(self, reply: Reply, where: str, *keys: str) -> dict[str, Any]:
        """The object of a reply, with these keys (default: any); repairs are noted."""
        value, issues = read_object(reply.text, where, keys)
        noted = reply.finish in ("length", REPETITION)
        self.issues += [issue for issue in issues if issue.code != "truncated" or not noted]
        copied: Counter[str] = Counter()
        if self.may_be_copied(reply):
            value = _without(value, self.copyable, copied)
        if copied:
            texts = ", ".join(repr(text[:60]) for text in sorted(copied))
            self.issues.append(Issue("copied_template", where, f"{copied.total()} texts of the prompt's: {texts}"))
        return value

    def may_be_copied(self, reply: Reply) -> bool:
        """Whether the reply has a text that can only come from the examples in the prompt."""
        return any(text in reply.text for text in self.copyable)

    @property
    def copyable(self) -> frozenset[str]:
        """Texts that an answer may have copied: mentions of the prompt's examples that are not in the document."""
        own = fold(self.document.text)
        shown = [WORKED[self.lang], *(shot.example for shot in self.examples)]
        texts = {e.document.text[m.start : m.end] for e in shown for m in e.gold.mentions} | PLACEHOLDERS
        return frozenset(text for text in texts if fold(text) not in own)


def _without(value: Any, texts: frozenset[str], copied: Counter[str], *, depth: int = 6) -> Any:
    """The value without those texts, which are counted in `copied`, and without list items that lost all of theirs.

    Parts deeper than `depth`, which answers do not have, are unchanged.
    """
    if not depth:
        return value
    if isinstance(value, dict):
        return {key: _without(item, texts, copied, depth=depth - 1) for key, item in value.items()}
    if not isinstance(value, list):
        return value
    kept = []
    for item in value:
        if isinstance(item, str) and item in texts:
            copied[item] += 1
            continue
        before = copied.total()
        left = _without(item, texts, copied, depth=depth - 1)
        if copied.total() == before or not _is_hollow(left):
            kept.append(left)
    return kept


def _is_hollow(item: Any) -> bool:
    """Whether nothing is left of a mention or chain whose texts were removed."""
    if isinstance(item, dict):
        return [] in item.values()
    return isinstance(item, list) and not any(isinstance(part, str) for part in item)


def _label(label: Label, lang: Lang) -> dict[str, Any]:
    return {"name": label.name, "gloss": label.gloss(lang)}


def _relation_label(label: RelationLabel, lang: Lang) -> dict[str, Any]:
    return _label(label, lang) | {"head": label.head, "tail": label.tail, "symmetric": label.symmetric}
