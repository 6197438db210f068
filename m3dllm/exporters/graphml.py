"""GraphML: entities as nodes, relations as edges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from xml.sax.saxutils import escape, quoteattr

from m3dllm.export import FPS, PARTS, File, Item, Notes, Source
from m3dllm.exporters._graph import KINDS, RELATION, Value, links, nodes, relations
from m3dllm.exporters._xml import CHANGED, held

HOLDS = PARTS - {"tokens", "glosses", "segments", "unannotated", "region relations"}
_TYPES = {str: "string", int: "long", float: "double", bool: "boolean"}


def export(source: Source, notes: Notes, *, all_nodes: bool = False, fps: float = FPS) -> Iterator[File]:
    """One graph per split.

    - `all_nodes`: Documents, mentions, frames and regions become nodes too; default: only entities.
    - `fps`: Frames per second, to compute the times of frames that have none; 0: leave them without.
    """
    for split, items in source.splits().items():
        if not all_nodes:
            for item in items:
                _leave_out_parts(item, notes)
        yield f"{split}.graphml", _Writer(items, notes, all_nodes, fps).pieces()


def _leave_out_parts(item: Item, notes: Notes) -> None:
    found = item.annotation
    parts = {"mention": list(found.mentions), "region": found.regions, "frame": item.document.frames}
    for what, things in parts.items():
        for _ in things:
            notes.leave_out(what, "only --all-nodes writes it", item.document.id)


class _Writer:
    def __init__(self, items: Sequence[Item], notes: Notes, all_nodes: bool, fps: float) -> None:
        self._items, self._notes, self._fps = items, notes, fps
        self._kinds = tuple(KINDS) if all_nodes else ("Entity",)
        self._edges = (relations, links) if all_nodes else (relations,)
        of_nodes = {name: kind for one in self._kinds for name, kind in KINDS[one].items()}
        self._node_keys = {"kind": str} | of_nodes
        self._edge_keys = {"type": str} | RELATION

    def pieces(self) -> Iterator[str]:
        yield '<?xml version="1.0" encoding="UTF-8"?>\n<graphml xmlns="http://graphml.graphdrawing.org/xmlns">\n'
        for what, keys in (("node", self._node_keys), ("edge", self._edge_keys)):
            for name, kind in keys.items():
                about = f'id="{what}-{name}" for="{what}" attr.name="{name}" attr.type="{_TYPES[kind]}"'
                yield f"<key {about}/>\n"
        yield '<graph edgedefault="directed">\n'
        for item in self._items:
            for node in nodes(item, self._fps):
                if node.kind in self._kinds:
                    data = self._data("node", {"kind": node.kind, **node.properties})
                    yield f"<node id={quoteattr(node.id)}>{data}</node>\n"
        for item in self._items:
            for edge in chain.from_iterable(edges_of(item) for edges_of in self._edges):
                ends = f"source={quoteattr(edge.start)} target={quoteattr(edge.end)}"
                yield f"<edge {ends}>{self._data('edge', {'type': edge.type, **edge.properties})}</edge>\n"
        yield "</graph>\n</graphml>\n"

    def _data(self, what: str, values: Mapping[str, Value]) -> str:
        known = {name: value for name, value in values.items() if value is not None}
        return "".join(f'<data key="{what}-{name}">{self._text(value)}</data>' for name, value in known.items())

    def _text(self, value: Value) -> str:
        if isinstance(value, bool):
            return str(value).lower()
        text = str(value)
        if held(text) != text:
            self._notes.change("text", CHANGED, text[:40])
        return escape(held(text), {"\r": "&#13;"})
