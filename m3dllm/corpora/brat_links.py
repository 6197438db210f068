"""The links of a BRAT file: coreference joins mentions to chains, other relations join the chains."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from m3dllm.corpora.choice import Choice, chosen
from m3dllm.corpora.imported import NOT_SELECTED, Imported
from m3dllm.corpora.marks import Sets
from m3dllm.corpora.standoff import Link, Standoff
from m3dllm.types import Chain, Mention, Relation


def plain_name(name: str) -> str:
    """A relation's name in the form in which names are compared."""
    return name.casefold().replace("-", "_")


@dataclass(frozen=True, slots=True)
class Marked:
    """The mentions of a whole file by id, in the order of their spans, and other annotations on those spans.

    `stand_ins`: a second annotation of a span -> the mention there. `named`: a chain's name -> its mentions.
    """

    by_id: dict[str, Mention] = field(default_factory=dict)
    stand_ins: dict[str, str] = field(default_factory=dict)
    named: dict[str, list[str]] = field(default_factory=dict)


@dataclass(slots=True)
class Linker:
    """Makes chains and relations of the mentions of one file: `placed` is id -> (number of its part, mention there)."""

    notes: Imported
    coreference: frozenset[str]
    relation_types: Choice | None
    file: str
    standoff: Standoff
    mentions: Marked
    placed: Mapping[str, tuple[int, Mention]]

    def golds(self, n_parts: int) -> list[tuple[tuple[Chain, ...], tuple[Relation, ...]]]:
        """(chains, relations) of each part; chains are `c0`, `c1`, … in the order of their first mentions."""
        sets = self._joined()
        members: dict[tuple[int, str], list[Mention]] = defaultdict(list)
        for name, (part, mention) in sorted(self.placed.items(), key=lambda item: item[1]):
            members[part, sets.root(name)].append(mention)
        chains: list[list[Chain]] = [[] for _ in range(n_parts)]
        names = {}
        for (part, root), held in members.items():
            names[root] = f"c{len(chains[part])}"
            chains[part].append(Chain(names[root], tuple(held)))
        relations: list[dict[Relation, None]] = [{} for _ in range(n_parts)]
        for link in self.standoff.relations:
            if not self._is_coreference(link) and (pair := self._related(link, sets)):
                part, head, tail, kind = pair
                relation = Relation(names[head], names[tail], kind)
                if relation in relations[part]:
                    self.notes.leave_out("relation", "its chains already have it", self._where(link))
                relations[part][relation] = None
        return [(tuple(ours), tuple(theirs)) for ours, theirs in zip(chains, relations, strict=True)]

    def _joined(self) -> Sets[str]:
        """The mentions, joined to chains by coreference relations, equivalences and chain names."""
        sets = Sets[str]()
        for link in filter(self._is_coreference, self.standoff.relations):
            ends, lost = self._ends(link)
            if lost:
                self.notes.leave_out("relation", next(iter(lost.values())), self._where(link))
            elif ends[0] == ends[1]:
                self.notes.leave_out("relation", "it joins a mention to itself", self._where(link))
            else:
                self._join(sets, ends, "relation", self._where(link))
        for link in self.standoff.equivalences:
            if not self._is_coreference(link):
                why = f"{link.name!r} is not among the names of coreference"
                self.notes.leave_out("equivalence", why, f"{self._where(link)}; --coreference {link.name} makes it one")
                continue
            ends, lost = self._ends(link)
            if len(set(ends)) < 2:
                why = next(iter(lost.values()), "it joins a mention to itself")
                self.notes.leave_out("equivalence", why, self._where(link))
                continue
            for end, why in lost.items():
                self.notes.leave_out("end of an equivalence", why, f"{self._where(link)}: {end}")
            self._join(sets, ends, "equivalence", self._where(link))
        for name, members in self.mentions.named.items():
            self._join(sets, [end for end in members if end in self.placed], "chain name", f"{self.file}: {name}")
        return sets

    def _join(self, sets: Sets[str], ends: Sequence[str], what: str, where: str) -> None:
        """Join the mentions of each part, and note links across parts."""
        by_part: dict[int, list[str]] = defaultdict(list)
        for end in ends:
            by_part[self.placed[end][0]].append(end)
        if len(by_part) > 1:
            self.notes.leave_out(what, "it crosses from one language to another", where)
        for members in by_part.values():
            sets.join(members)

    def _related(self, link: Link, sets: Sets[str]) -> tuple[int, str, str, str] | None:
        """(part, root of the head, root of the tail, type) of a relation; None, noted, if it cannot be used."""
        kind = chosen(link.name, self.relation_types)
        ends, lost = self._ends(link)
        if kind is None:
            why = f"its type {link.name!r} {NOT_SELECTED}"
        elif lost:
            why = next(iter(lost.values()))
        else:
            (head_part, _), (tail_part, _) = (self.placed[end] for end in ends)
            head, tail = map(sets.root, ends)
            if head_part == tail_part and head != tail:
                return head_part, head, tail, kind
            why = (
                "both of its ends are in the same chain" if head == tail else "it crosses from one language to another"
            )
        self.notes.leave_out("relation", why, self._where(link))
        return None

    def _ends(self, link: Link) -> tuple[list[str], dict[str, str]]:
        """(the mentions at its ends, why each of the other ends is no mention)."""
        ends, lost = [], {}
        for name in link.ends:
            mention = self.mentions.stand_ins.get(name, name)
            if mention in self.placed:
                ends.append(mention)
            elif name in self.standoff.triggers:
                lost[name] = "one of its ends is an event"
            else:
                lost[name] = (
                    "one of its ends was skipped" if name in self.standoff.texts else "one of its ends does not exist"
                )
        return ends, lost

    def _is_coreference(self, link: Link) -> bool:
        return plain_name(link.name) in self.coreference

    def _where(self, link: Link) -> str:
        more = f" … ({len(link.ends)} ends)" if len(link.ends) > 8 else ""
        return f"{self.file}:{link.line}: {link.name} {' '.join(link.ends[:8])}{more}"
