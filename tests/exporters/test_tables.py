"""CSV and Neo4j: tables whose rows name their documents."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest

from m3dllm.export import Notes
from m3dllm.types import Annotation, Chain, Document, Example, Mention
from tests.exporters.sources import ADA, exported, files_of, source

FORMULA = Example(
    Document("=cmd", "en", "=1+1 is a name", title="@home"), Annotation((Chain("c", (Mention(0, 4, "PER"),)),))
)


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_mentions_have_their_words_and_times():
    found = rows(exported("csv")["mentions.csv"])
    assert [(r["document"], r["entity"], r["text"], r["start_s"], r["end_s"]) for r in found] == [
        ("ada", "a", "Ada", "1.0", "3.5"),
        ("ada", "a", "She", "4.0", "5.0"),
        ("ada", "b", "Arles", "1.0", "3.5"),
        ("苏珊", "c0", "苏珊", "", ""),
        ("苏珊", "c1", "北京", "", ""),
    ]


def test_relations_name_their_entities():
    (found,) = rows(exported("csv")["relations.csv"])
    assert (found["head_name"], found["type"], found["tail_name"]) == ("Ada", "PER-LOC_birth", "Arles")


def test_regions_have_the_time_of_their_frames():
    found = rows(exported("csv")["regions.csv"])
    assert [(r["frame"], r["time_s"], r["type"], r["entity"], r["x0"]) for r in found] == [
        ("24", "1.0", "PER", "a", "0.25"),
        ("24", "1.0", "LOC", "", "0.0"),
    ]
    noted = replace(ADA, document=replace(ADA.document, frames=(replace(ADA.document.frames[0], time_s=7.5),)))
    assert [r["time_s"] for r in rows(exported("csv", noted, fps=0)["regions.csv"])] == ["7.5", "7.5"]


def test_a_document_without_anything_is_one_row_of_one_table():
    tables = exported("csv")
    assert [r["document"] for r in rows(tables["documents.csv"])] == ["ada", "苏珊", "empty"]
    assert sum("empty" in table for table in tables.values()) == 1


@pytest.mark.parametrize("name", ["csv", "neo4j"])
def test_formulas_are_defused_and_counted(name):
    notes = Notes()
    files = files_of(name, source(FORMULA), notes)
    cells = [
        cell
        for path, text in files.items()
        if path.endswith(".csv")
        for row in csv.reader(io.StringIO(text))
        for cell in row
    ]
    assert [cell for cell in cells if cell[:1] in "=+-@" and cell] == []
    assert "'=1+1" in cells
    assert len([note for note in notes.changed if note.what == "cell"]) == sum(cell.startswith("'") for cell in cells)


def test_neo4j_has_typed_nodes_and_relationships_of_the_relations_types():
    files = exported("neo4j")
    entities = rows(files["entity.csv"])
    assert [(r["id:ID"], r["name"], r[":LABEL"]) for r in entities][:2] == [
        ("ada/entity/a", "Ada", "Entity;PER"),
        ("ada/entity/b", "Arles", "Entity;LOC"),
    ]
    (relation,) = rows(files["relation.csv"])
    assert (relation[":START_ID"], relation[":TYPE"], relation[":END_ID"]) == (
        "ada/entity/a",
        "PER-LOC_birth",
        "ada/entity/b",
    )
    assert "start:long" in rows(files["mention.csv"])[0]


def test_neo4j_links_name_only_nodes_that_exist_and_the_script_names_every_file():
    files = exported("neo4j")
    ids = {r["id:ID"] for name, text in files.items() if name.endswith(".csv") for r in rows(text) if "id:ID" in r}
    for name in ("relation.csv", "link.csv"):
        assert {r[end] for r in rows(files[name]) for end in (":START_ID", ":END_ID")} <= ids
    assert all(f"={name}" in files["import.sh"] for name in files if name.endswith(".csv"))
    assert len(ids) == 3 + 2 + 4 + 5 + 2  # documents, frames, entities, mentions, regions
