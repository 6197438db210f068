"""Neo4j: CSV files for `neo4j-admin database import`, and a script that runs it.

Documents, frames, entities, mentions and regions are nodes; a relation between entities is a relationship of its own
type, with its document. A cell that a spreadsheet would take as a formula has a `'` before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

from m3dllm.export import FPS, PARTS, File, Notes, Source
from m3dllm.exporters._graph import KINDS, RELATION, Edge, Node, Value, links, nodes, relations
from m3dllm.sheets import csv_lines, noted

HOLDS = PARTS - {"tokens", "glosses", "segments", "unannotated", "region relations"}
_TYPES = {str: "", int: ":long", float: ":double", bool: ":boolean"}


def export(source: Source, notes: Notes, *, fps: float = FPS) -> Iterator[File]:
    """One file per kind of nodes, two files of relationships, and `import.sh`.

    - `fps`: Frames per second, to compute the times of frames that have none; 0: leave them without.
    """
    for kind, properties in KINDS.items():
        head = ("id:ID", *(f"{name}{_TYPES[of]}" for name, of in properties.items()), ":LABEL")
        found = (_row(node) for item in source.items for node in nodes(item, fps) if node.kind == kind)
        yield f"{kind.lower()}.csv", csv_lines(noted(chain([head], found), notes.change, kind.lower()))
    for name, edges_of in (("relation", relations), ("link", links)):
        properties = RELATION if name == "relation" else {}
        head = (":START_ID", ":END_ID", ":TYPE", *(f"{name}{_TYPES[of]}" for name, of in properties.items()))
        edges = (_edge(edge, properties) for item in source.items for edge in edges_of(item))
        yield f"{name}.csv", csv_lines(noted(chain([head], edges), notes.change, name))
    words = [f"--nodes={kind.lower()}.csv" for kind in KINDS]
    words += ["--relationships=relation.csv", "--relationships=link.csv"]
    command = " ".join(["neo4j-admin database import full neo4j --multiline-fields=true", *words])
    yield "import.sh", f"#!/bin/sh\n# Run it in this folder; the database must not exist yet.\n{command}\n"


def _row(node: Node) -> tuple[Value, ...]:
    """An entity has its type as a second label, if that contains no `;`, which separates labels."""
    kind = node.properties.get("type") if node.kind == "Entity" else None
    labels = [node.kind] + ([kind] if isinstance(kind, str) and ";" not in kind else [])
    return (node.id, *map(_value, node.properties.values()), ";".join(labels))


def _edge(edge: Edge, properties: Iterable[str]) -> tuple[Value, ...]:
    return (edge.start, edge.end, edge.type, *(edge.properties[name] for name in properties))


def _value(value: Value) -> Value:
    return str(value).lower() if isinstance(value, bool) else value
