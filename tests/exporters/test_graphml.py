"""GraphML as networkx reads it."""

from __future__ import annotations

import io

import pytest

from m3dllm.export import Notes
from m3dllm.types import Annotation, Chain, Document, Example, Mention
from tests.exporters.sources import exported, files_of, source

networkx = pytest.importorskip("networkx", reason="needs networkx")


def read(text: str):
    return networkx.read_graphml(io.BytesIO(text.encode()))


def test_entities_are_nodes_and_relations_are_edges():
    graph = read(exported("graphml")["train.graphml"])
    assert sorted(data["name"] for _, data in graph.nodes(data=True)) == ["Ada", "Arles", "北京", "苏珊"]
    ((head, tail, data),) = graph.edges(data=True)
    assert (graph.nodes[head]["name"], data["type"], graph.nodes[tail]["name"]) == ("Ada", "PER-LOC_birth", "Arles")


def test_what_is_no_node_is_counted_and_with_all_nodes_is_one():
    notes = Notes()
    files_of("graphml", source(), notes)
    assert sorted(note.what for note in notes.left_out if note.why.startswith("only")) == [
        *["frame"] * 2,
        *["mention"] * 5,
        *["region"] * 2,
    ]
    graph = read(exported("graphml", all_nodes=True)["train.graphml"])
    kinds = sorted(data["kind"] for _, data in graph.nodes(data=True))
    assert kinds == [*["Document"] * 3, *["Entity"] * 4, *["Frame"] * 2, *["Mention"] * 5, *["Region"] * 2]
    assert graph.nodes["ada/region/0"]["x0"] == 0.25


def test_characters_that_xml_lacks_are_replaced_and_counted():
    odd = Example(Document("d", "en", "a\x00<&>\r\n"), Annotation((Chain("c", (Mention(0, 5, "PER"),)),)))
    notes = Notes()
    graph = read(files_of("graphml", source(odd), notes)["train.graphml"])
    assert [data["name"] for _, data in graph.nodes(data=True)] == ["a�<&>"]
    assert [note.what for note in notes.changed] == ["text"]
