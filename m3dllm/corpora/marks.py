"""The marks that a tool keeps of one text, on their way into gold: spans, links between spans, regions of images.

Spans come by a name of the tool's; `Marks` sorts out which become mentions, chains and relations, and notes the rest.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from m3dllm.corpora.bilingual import language
from m3dllm.corpora.frames import PARTLY, UNUSABLE, regions_in_frame
from m3dllm.corpora.imported import DUPLICATE, Imported
from m3dllm.types import Annotation, Chain, Frame, Lang, Mention, Region, Relation

T = TypeVar("T", bound=Hashable)


class Sets(Generic[T]):
    """Sets of things that grow together (union-find)."""

    def __init__(self) -> None:
        self._parents: dict[T, T] = {}

    def root(self, thing: T) -> T:
        while (parent := self._parents.get(thing, thing)) != thing:
            self._parents[thing] = thing = self._parents.get(parent, parent)
        return thing

    def join(self, things: Iterable[T]) -> None:
        roots = [self.root(thing) for thing in things]
        for other in roots[1:]:
            self._parents[self.root(other)] = self.root(roots[0])


@dataclass(slots=True)
class Marks:
    """The marks of the text of one document; `where` is its place for notes."""

    text: str
    notes: Imported
    where: str
    _mentions: dict[Hashable, Mention] = field(default_factory=dict)
    _by_span: dict[tuple[int, int], Hashable] = field(default_factory=dict)
    _stand_ins: dict[Hashable, Hashable] = field(default_factory=dict)
    _sets: Sets[Hashable] = field(default_factory=Sets)
    _links: dict[Hashable, float | None] = field(default_factory=dict)
    _relations: list[tuple[Hashable, Hashable, str, float | None]] = field(default_factory=list)
    _regions: list[tuple[Region, Hashable | None]] = field(default_factory=list)
    _spoiled: set[int] = field(default_factory=set)

    def mention(
        self,
        name: Hashable,
        start: int,
        end: int,
        kind: str,
        *,
        surface: str | None = None,
        confidence: float | None = None,
    ) -> None:
        """A span. What has no place in the text, or says other words than stand there, is skipped."""
        detail = f"{self.where}: {kind} {start} to {end}" + ("" if surface is None else f" {surface!r}")
        if not 0 <= start < end <= len(self.text):
            self._leave_out("its offsets are outside the text", f"{detail}; the text has {len(self.text)} characters")
            return
        found = self.text[start:end]
        if surface is not None and surface.split() != found.split():
            self._leave_out("its text differs from the text at its offsets", f"{detail}, the text has {found!r}")
        elif not found.strip():
            self._leave_out("it is only white space", detail)
        elif not kind.strip():
            self._leave_out("it has no type", detail)
        else:
            if found != found.strip():
                self.notes.change("mention", "leading or trailing white space was removed", detail)
                start, end = start + len(found) - len(found.lstrip()), end - len(found) + len(found.rstrip())
            mention = Mention(start, end, kind, confidence)
            if first := self._by_span.get(mention.span):
                self._leave_out("its span is already a mention", detail)
                self._stand_ins[name] = first
            else:
                self._by_span[mention.span] = name
                self._mentions[name] = mention

    def join(
        self, names: Iterable[Hashable], what: str = "link of mentions", *, confidence: float | None = None
    ) -> None:
        """Mentions of one entity; the confidence is that the last of them belongs to the others."""
        known = [found for name in names if (found := self._known(name, what)) is not None]
        self._sets.join(known)
        if known[1:]:
            self._links[known[-1]] = confidence

    def relate(self, head: Hashable, tail: Hashable, kind: str, *, confidence: float | None = None) -> None:
        """A relation between the entities of two mentions, which may still be joined to others."""
        first, second = self._known(head, "relation"), self._known(tail, "relation") if head != tail else head
        if not kind.strip():
            self.notes.leave_out("relation", "it has no type", f"{self.where}: {head} to {tail}")
        elif first is not None and second is not None:
            self._relations.append((first, second, kind, confidence))

    def shows(self, region: Region, where: str, name: Hashable | None = None) -> bool:
        """A region at the place `where`, and the mention of the entity that it shows, if known: whether it is kept."""
        mention = None if name is None else self._known(name, "link of a region to its entity")
        legal = regions_in_frame([(where, region)], self.notes)
        self._regions += [(one, mention) for one in legal]
        if not legal:
            self.spoil(region.frame)
        return bool(legal)

    def spoil(self, frame: int) -> None:
        """Something was drawn in a frame that cannot be used."""
        self._spoiled.add(frame)

    def annotated_frames(self, frames: Iterable[Frame]) -> tuple[Frame, ...]:
        """The frames, those not annotated in which something was drawn and nothing of it could be used.

        Those of which something could be used stay annotated, and are counted.
        """
        lost = self._spoiled - {region.frame for region, _ in self._regions}
        for index in sorted(self._spoiled):
            self.notes.change("frame", UNUSABLE if index in lost else PARTLY, f"{self.where}: {index}")
        return tuple(replace(frame, annotated=frame.annotated and frame.index not in lost) for frame in frames)

    def named(self, words: str) -> list[Hashable]:
        """The mentions whose words these are, but for white space and, where none is then, for case."""
        wanted = "".join(words.split())
        for change in (str, str.casefold):
            found = [
                name
                for name, mention in self._mentions.items()
                if change("".join(self.text[slice(*mention.span)].split())) == change(wanted)
            ]
            if found:
                return found
        return []

    def holds(self, name: Hashable) -> bool:
        """Whether a span became a mention, or stands for one."""
        return self._stand_ins.get(name, name) in self._mentions

    def kind(self, name: Hashable) -> str:
        """The type of a mention."""
        return self._mentions[name].type

    def gold(self) -> Annotation:
        """Chains `c0`, `c1`, … in the order of their first mentions; relations and regions between and of them."""
        members: dict[Hashable, list[Mention]] = {}
        for name, mention in sorted(self._mentions.items(), key=lambda item: item[1]):
            chain = members.setdefault(self._sets.root(name), [])
            chain.append(replace(mention, link=self._links.get(name) if chain else None))
        ids = {root: f"c{i}" for i, root in enumerate(members)}
        relations: dict[Relation, None] = {}
        for head, tail, kind, confidence in self._relations:
            first, second = (ids[self._sets.root(end)] for end in (head, tail))
            if first == second:
                self.notes.leave_out("relation", "both of its ends are in the same chain", f"{self.where}: {kind}")
                continue
            relation = Relation(first, second, kind, confidence)
            if relation in relations:
                self.notes.leave_out("relation", "its chains already have it", f"{self.where}: {kind}")
            relations[relation] = None
        regions: dict[Region, None] = {}
        for region, name in self._regions:
            shown = region if name is None else replace(region, chain=ids[self._sets.root(name)])
            if shown in regions:
                self.notes.leave_out("region", DUPLICATE, f"{self.where}: {shown.type} in frame {shown.frame}")
            regions[shown] = None
        chains = tuple(Chain(ids[root], tuple(mentions)) for root, mentions in members.items())
        return Annotation(chains, tuple(relations), tuple(regions))

    def _known(self, name: Hashable, what: str) -> Hashable | None:
        """The mention that a name stands for; None, noted, where there is none."""
        found = self._stand_ins.get(name, name)
        if found in self._mentions:
            return found
        self.notes.leave_out(what, "one of its ends is not a mention", f"{self.where}: {name}")
        return None

    def _leave_out(self, why: str, detail: str) -> None:
        self.notes.leave_out("mention", why, detail)


def offset_table(text: str, *, units: bool = True, joined: bool = False) -> list[int]:
    """offset -> character, up to the end of the text.

    `units`: offsets count UTF-16 units, two for a character beyond the first plane. `joined`: they count a CR LF as one
    character.
    """
    table: list[int] = []
    for i, c in enumerate(text):
        dropped = joined and c == "\n" and text[i - 1 : i] == "\r"
        table += [i] * (0 if dropped else 2 if units and c > "\uffff" else 1)
    return [*table, len(text)]


def is_of_words(text: str, start: int, end: int) -> bool:
    """Whether a span lies in a text, and neither parts a word nor has white space at its ends."""
    if not 0 <= start < end <= len(text) or text[start].isspace() or text[end - 1].isspace():
        return False
    return not any(0 < at < len(text) and text[at - 1].isalnum() and text[at].isalnum() for at in (start, end))


def language_of(text: str, lang: Lang | None, declared: object = None) -> Lang:
    """`lang`, else what a file said if that is a language, else what the letters of the text show, else English."""
    known: Lang | None = "zh" if declared == "zh" else "en" if declared == "en" else None
    return lang or known or language(text) or "en"
