"""An annotated document as a property graph: nodes and edges with plain values, for every graph format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple
from urllib.parse import quote

from m3dllm.export import Item, name_of, shown_at, spoken

Value = str | int | float | bool | None
KINDS: dict[str, dict[str, type]] = {
    "Document": {"document": str, "split": str, "lang": str, "title": str, "group": str, "text": str},
    "Entity": {"document": str, "name": str, "type": str},
    "Mention": {"start": int, "end": int, "type": str, "text": str, "start_s": float, "end_s": float}
    | {"confidence": float, "link": float},
    "Frame": {"frame": int, "time_s": float, "width_px": int, "height_px": int, "annotated": bool, "path": str},
    "Region": {"type": str, "x0": float, "y0": float, "x1": float, "y1": float, "confidence": float},
}
"""The kinds of nodes, and the properties of each with their types."""
RELATION: dict[str, type] = {"document": str, "confidence": float}
"""The properties of a relation between entities; the links between the other nodes have none."""
LINKS = ("IN_DOCUMENT", "MENTION_OF", "IN_FRAME", "SHOWS")
"""entity or frame -> document, mention -> entity, region -> frame, region -> entity."""


class Node(NamedTuple):
    id: str
    kind: str
    properties: Mapping[str, Value]


class Edge(NamedTuple):
    start: str
    end: str
    type: str
    properties: Mapping[str, Value]


def nodes(item: Item, fps: float) -> Iterator[Node]:
    """The document, its frames, entities, mentions and regions."""
    document, root = item.document, _root(item)
    own = document.id, item.split, document.lang, document.title, document.group, document.text
    yield _node(root, "Document", *own)
    for frame in document.frames:
        about = frame.index, shown_at(frame, fps), frame.width_px, frame.height_px, frame.annotated, frame.path
        yield _node(_frame(root, frame.index), "Frame", *about)
    for chain in item.annotation.chains:
        entity = _entity(root, chain.id)
        yield _node(entity, "Entity", document.id, name_of(document, chain), chain.type)
        for n, mention in enumerate(chain.mentions):
            times = spoken(document, *mention.span) or (None, None)
            text = document.text[mention.start : mention.end]
            sure = mention.confidence, mention.link
            yield _node(f"{entity}/mention/{n}", "Mention", *mention.span, mention.type, text, *times, *sure)
    for n, region in enumerate(item.annotation.regions):
        yield _node(_region(root, n), "Region", region.type, *region.box, region.confidence)


def relations(item: Item) -> Iterator[Edge]:
    """The relations between entities."""
    root = _root(item)
    for relation in item.annotation.relations:
        head, tail = _entity(root, relation.head), _entity(root, relation.tail)
        about: dict[str, Value] = {"document": item.document.id, "confidence": relation.confidence}
        yield Edge(head, tail, relation.type, about)


def links(item: Item) -> Iterator[Edge]:
    """The links between the nodes of a document, each of one of LINKS."""
    root = _root(item)
    for frame in item.document.frames:
        yield Edge(_frame(root, frame.index), root, "IN_DOCUMENT", {})
    for chain in item.annotation.chains:
        entity = _entity(root, chain.id)
        yield Edge(entity, root, "IN_DOCUMENT", {})
        for n in range(len(chain.mentions)):
            yield Edge(f"{entity}/mention/{n}", entity, "MENTION_OF", {})
    for n, region in enumerate(item.annotation.regions):
        yield Edge(_region(root, n), _frame(root, region.frame), "IN_FRAME", {})
        if region.chain is not None:
            yield Edge(_region(root, n), _entity(root, region.chain), "SHOWS", {})


def _node(name: str, kind: str, *values: Value) -> Node:
    return Node(name, kind, dict(zip(KINDS[kind], values, strict=True)))


def _root(item: Item) -> str:
    return quote(item.document.id, safe="")


def _entity(root: str, chain: str) -> str:
    return f"{root}/entity/{quote(chain, safe='')}"


def _frame(root: str, index: int) -> str:
    return f"{root}/frame/{index}"


def _region(root: str, number: int) -> str:
    return f"{root}/region/{number}"
