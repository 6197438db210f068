"""The types that a corpus knows: of mentions, relations and regions, with glosses in English and Chinese."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from m3dllm.types import Annotation, Lang


@dataclass(frozen=True, slots=True)
class Label:
    """A type's name and its gloss in each language ("" if it has none)."""

    name: str
    en: str = ""
    zh: str = ""

    def gloss(self, lang: Lang) -> str:
        """The gloss in `lang`, else in the other language, else the name."""
        first, second = (self.zh, self.en) if lang == "zh" else (self.en, self.zh)
        return first or second or self.name


@dataclass(frozen=True, slots=True)
class RelationLabel(Label):
    """A relation type; `head` and `tail` are the types of mentions and regions that it may join (() allows all).

    A name that is a type of both allows a chain and a region. The head of a symmetric type may be either side.
    """

    head: tuple[str, ...] = ()
    tail: tuple[str, ...] = ()
    symmetric: bool = False

    def joins(self, head: str, tail: str) -> bool:
        """Whether the type may join sides of these types in this direction (in either, if symmetric)."""

        def fits(first: str, second: str) -> bool:
            return (not self.head or first in self.head) and (not self.tail or second in self.tail)

        return fits(head, tail) or (self.symmetric and fits(tail, head))


@dataclass(frozen=True, slots=True)
class LabelSet:
    """All types of a corpus. Names are unique within their kind."""

    mentions: tuple[Label, ...] = ()
    relations: tuple[RelationLabel, ...] = ()
    regions: tuple[Label, ...] = ()

    def __post_init__(self) -> None:
        known = self.names("mentions") | self.names("regions")
        for kind in ("mentions", "relations", "regions"):
            names = [label.name for label in getattr(self, kind)]
            for i, name in enumerate(names):
                if not name:
                    raise ValueError(f"{kind}[{i}] has no name")
                if name in names[:i]:
                    raise ValueError(f"{kind}[{i}] repeats the name {name!r}")
        for i, relation in enumerate(self.relations):
            for name in relation.head + relation.tail:
                if name not in known:
                    raise ValueError(
                        f"relations[{i}] joins {name!r}, which is neither a mention type nor a region type"
                    )

    def names(self, kind: str) -> frozenset[str]:
        """The names of "mentions", "relations" or "regions"."""
        return frozenset(label.name for label in getattr(self, kind))

    @property
    def symmetric(self) -> frozenset[str]:
        """The names of the symmetric relation types."""
        return frozenset(label.name for label in self.relations if label.symmetric)

    def relation(self, name: str) -> RelationLabel | None:
        return next((label for label in self.relations if label.name == name), None)

    def unknown(self, annotation: Annotation) -> Iterator[tuple[str, str]]:
        """(place, problem) for every type of `annotation` that the set does not have."""
        mentions, relations, regions = map(self.names, ("mentions", "relations", "regions"))
        for i, chain in enumerate(annotation.chains):
            for j, mention in enumerate(chain.mentions):
                if mention.type not in mentions:
                    yield f"chains[{i}].mentions[{j}].type", _unknown(mention.type, mentions)
        for i, relation in enumerate(annotation.relations):
            if relation.type not in relations:
                yield f"relations[{i}].type", _unknown(relation.type, relations)
        for i, region in enumerate(annotation.regions):
            if region.type not in regions:
                yield f"regions[{i}].type", _unknown(region.type, regions)


def _unknown(name: str, known: frozenset[str]) -> str:
    return f"unknown type {name!r}; the label set has {', '.join(sorted(known)) or 'none'}"
