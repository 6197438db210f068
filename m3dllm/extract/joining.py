"""Join chains across the documents of one film, only where it is certain, and record the reasons.

Two rules. "same name": chains of one type with the same name. "only bearer": a person mentioned by one word of a name
joins the person of that name, if only one name in the film contains the word. Two chains of one document are never
joined, because the system kept them apart; joins prevented by this are listed with that reason.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from m3dllm.types import Annotation, Chain, Document, Lang, Mention, Region, Relation, Segment

PEOPLE = frozenset(("PER", "PERSON"))
_NO_NAME: dict[Lang, re.Pattern[str]] = {
    "en": re.compile(
        r"(?:the|a|an|this|that|these|those|my|your|his|her|its|our|their|some|any|one|no|each|every|both|another|who|"
        r"whom|whose|which|what|i|you|he|she|it|we|they|me|him|us|them|mine|yours|hers|ours|theirs|here|there|"
        r"somebody|someone|everybody|everyone|anyone|nobody|today|tomorrow|yesterday|now|then|madam|mother|father|mom|"
        r"mum|dad|brother|sister|son|daughter|wife|husband|uncle|aunt|grandma|grandpa)\b|(?:mr|mrs|miss|ms|dr|sir)\.?$",
        re.IGNORECASE,
    ),
    "zh": re.compile(
        r"[我你您他她它咱俺]|这|那|该|其|某|自己|大家|人家|谁|哪|什么|有人|今|明|昨|现在|当时|后来|先生$|女士$|太太$|"
        r"(?:父亲|母亲|爸|妈|哥|姐|弟|妹|儿子|女儿|妻子|丈夫|爷爷|奶奶|叔叔|阿姨|老师|同学|朋友|孩子|男人|女人|老人|医生)"
    ),
}
_TITLED = re.compile(
    r"(?:mr|mrs|miss|ms|dr|prof|sir|dame|lord|lady)\b|.*(?:先生|女士|小姐|太太|老师|医生)$", re.IGNORECASE
)
_HAN = re.compile(r"[\u3400-\u9fff]")
Place = tuple[str, str]
"""A chain: (id of its document, id of the chain)."""


@dataclass(frozen=True, slots=True)
class Found:
    """A document of a film, and its prediction."""

    document: Document
    annotation: Annotation


@dataclass(frozen=True, slots=True)
class Join:
    """Two chains of one entity or, if `joined` is False, why they were not joined."""

    film: str
    first: Place
    second: Place
    rule: str
    name: str
    joined: bool = True
    why_not: str = ""


@dataclass(slots=True)
class _Groups:
    """Sets of chains, no set with two of one document."""

    of: dict[Place, list[Place]] = field(default_factory=dict)

    def clash(self, a: Place, b: Place) -> str | None:
        """The document of which joining the two sets would join two chains; None if there is none."""
        documents = {place[0] for place in self.of[a]}
        return next((place[0] for place in self.of[b] if place[0] in documents), None)

    def join(self, a: Place, b: Place) -> None:
        merged = self.of[a] + self.of[b]
        for place in merged:
            self.of[place] = merged


def names(document: Document, chain: Chain) -> list[str]:
    """The names among the chain's mentions, without titles, pronouns and descriptions."""
    found: dict[str, None] = {}
    for mention in chain.mentions:
        name = " ".join(unicodedata.normalize("NFKC", document.text[mention.start : mention.end]).split())
        if _is_name(name):
            found[name] = None
    return list(found)


def _is_name(name: str) -> bool:
    is_han = bool(_HAN.search(name))
    if len(name) < 2 or _NO_NAME["zh" if is_han else "en"].match(name):
        return False
    return is_han or any(word[0].isupper() or word[0].isdigit() for word in name.split())


def _parts(name: str) -> set[str]:
    """Short forms of a full name, case-folded: each word of an English name, a Chinese one without its surname."""
    if _HAN.search(name):
        return {name[n:] for n in (1, 2) if len(name) - n >= 2}
    words = _folded(name).split()
    return set(words) if len(words) > 1 else set()


def join(film: str, documents: Sequence[Found]) -> tuple[dict[Place, Place], list[Join]]:
    """(chain -> the first chain of its entity, the joins with their reasons) of the documents of one film."""
    chains = {(f.document.id, chain.id): (f.document, chain) for f in documents for chain in f.annotation.chains}
    called = {place: names(*of) for place, of in chains.items()}
    groups = _Groups({place: [place] for place in chains})
    joins: list[Join] = []

    def consider(a: Place, b: Place, rule: str, name: str) -> None:
        if a in groups.of[b]:
            return
        clash = groups.clash(a, b)
        if clash is None:
            groups.join(a, b)
            joins.append(Join(film, a, b, rule, name))
        else:
            why = f"in document '{clash}' the system keeps them apart"
            joins.append(Join(film, a, b, rule, name, joined=False, why_not=why))

    bearers: dict[tuple[str, str], list[Place]] = defaultdict(list)
    for place, its in called.items():
        for name in its:
            bearers[chains[place][1].type, _folded(name)].append(place)
    for (_, _folded_name), places in bearers.items():
        for a, b in pairwise(places):
            consider(a, b, "same name", next(n for n in called[a] if _folded(n) == _folded_name))
    in_full: dict[tuple[str, str], dict[Place, None]] = defaultdict(dict)
    for place, its in called.items():
        for part in {part for name in its for part in _parts(name)}:
            in_full[chains[place][1].type, part][place] = None
    for place, its in called.items():
        kind = chains[place][1].type
        if kind.upper() not in PEOPLE:
            continue
        for name in its:
            bearing = in_full.get((kind, _folded(name)), {})
            if _TITLED.match(name) or place in bearing:
                continue
            whole = {groups.of[other][0]: other for other in bearing}
            if len(whole) == 1:
                consider(next(iter(whole.values())), place, "only bearer", name)
    order = {place: i for i, place in enumerate(chains)}
    firsts = {place: min(group, key=order.__getitem__) for place, group in groups.of.items()}
    return firsts, joins


def _folded(name: str) -> str:
    return name.casefold().replace(".", "")


def whole_film(film: str, documents: Sequence[Found], firsts: Mapping[Place, Place]) -> tuple[Document, Annotation]:
    """The documents of a film as one, with joined chains as one chain and repeated relations once."""
    ids = {place: f"e{i}" for i, place in enumerate(dict.fromkeys(firsts.values()))}
    texts: list[str] = []
    segments: list[Segment] = []
    mentions: dict[str, list[Mention]] = defaultdict(list)
    relations: dict[Relation, None] = {}
    regions: list[Region] = []
    at = 0
    for found in documents:
        document, annotation = found.document, found.annotation

        def entity(chain: str, document: Document = document) -> str:
            return ids[firsts[document.id, chain]]

        texts.append(document.text)
        segments += [Segment(s.start + at, s.end + at, s.start_s, s.end_s) for s in document.segments]
        for chain in annotation.chains:
            mentions[entity(chain.id)] += [Mention(m.start + at, m.end + at, m.type) for m in chain.mentions]
        called = {chain.id: entity(chain.id) for chain in annotation.chains}
        for region in annotation.regions:
            made = Region(region.frame, region.box, region.type, region.chain and entity(region.chain))
            if region.id is not None:
                called[region.id] = f"r{len(regions)}"
                made = replace(made, id=called[region.id])
            regions.append(made)
        for relation in annotation.relations:
            head, tail = called[relation.head], called[relation.tail]
            if head != tail:
                relations[Relation(head, tail, relation.type)] = None
        at += len(document.text) + 1
    first, last = documents[0].document, documents[-1].document.video
    document = Document(
        id=film,
        lang=first.lang,
        text="\n".join(texts),
        title=first.title,
        group=film,
        segments=tuple(segments),
        frames=tuple(frame for found in documents for frame in found.document.frames),
        video=first.video and last and replace(first.video, end_s=last.end_s),
    )
    chains = tuple(Chain(name, tuple(own)) for name, own in mentions.items())
    return document, Annotation(chains, tuple(relations), tuple(regions))


def by_film(found: Iterable[Found]) -> Iterator[tuple[str, list[Found]]]:
    """(film, its documents) in order; a document without a group is a film by itself."""
    films: dict[str, list[Found]] = defaultdict(list)
    for one in found:
        films[one.document.group or one.document.id].append(one)
    yield from films.items()
