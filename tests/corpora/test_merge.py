"""Several corpora become one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from m3dllm.cli import app
from m3dllm.corpora.check import check
from m3dllm.corpora.imported import Imported
from m3dllm.corpora.merge import merge_corpora, read_map
from m3dllm.corpora.native import load_corpus, write_corpus
from m3dllm.errors import UserError
from m3dllm.labels import Label, LabelSet, RelationLabel
from m3dllm.types import Annotation, Box, Document, Example, Region, Relation, Video
from tests.corpora.tools import changes, facts, reasons, words
from tests.small import LABELS, example, png, small_corpus

OTHER = LabelSet(
    (Label("PERSON", "a human"), Label("CITY")), (RelationLabel("born", head=("PERSON",), tail=("CITY",)),), ()
)


@pytest.fixture
def two(tmp_path):
    """A corpus of PER and LOC, and one of PERSON and CITY with a document of the same id."""
    first = small_corpus(tmp_path / "first", train=2, dev=1, test=0)
    one = example("train0", "[PERSON0 Zoe] was born in [CITY1 Rome] .", relations=[("c0", "c1", "born")])
    write_corpus(tmp_path / "second", Imported(OTHER, {"train": [one]}))
    return load_corpus(first), load_corpus(tmp_path / "second")


def table(folder: Path, *rows: str, head: str = "kind,from,to") -> Path:
    (folder / "labels.csv").write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    return folder / "labels.csv"


def test_documents_come_split_by_split_and_ids_are_made_different(two):
    merged = merge_corpora(two)
    assert [e.document.id for e in merged.splits["train"]] == ["train0", "train1", "second-train0"]
    assert [e.document.id for e in merged.splits["dev"]] == ["dev0"]
    assert changes(merged) == [("document", "its id is also in another corpus: renamed")]
    assert {label.name for label in merged.labels.mentions} == {"PER", "LOC", "PERSON", "CITY"}


def test_types_are_mapped_and_every_change_is_counted(two, tmp_path):
    types = read_map(table(tmp_path, "mention,PERSON,PER", "mention,CITY,LOC", "relation,born,PER-LOC_birth"))
    merged = merge_corpora(two, types)
    last = merged.splits["train"][-1]
    assert words(last) == [("PER", ["Zoe"]), ("LOC", ["Rome"])]
    assert facts(last) == [("Zoe", "PER-LOC_birth", "Rome")]
    assert merged.labels == LABELS
    assert changes(merged)[1:] == [
        ("mention", "the map renames the type 'PERSON' to 'PER'"),
        ("mention", "the map renames the type 'CITY' to 'LOC'"),
        ("relation", "the map renames the type 'born' to 'PER-LOC_birth'"),
    ]


def test_what_is_taken_out_goes_with_what_hangs_on_it(two, tmp_path):
    merged = merge_corpora(two, read_map(table(tmp_path, "mentions,CITY,")))
    assert words(merged.splits["train"][-1]) == [("PERSON", ["Zoe"])]
    assert reasons(merged) == [
        ("mention", "the map removes the type 'CITY'"),
        ("relation", "one of its chains is removed"),
    ]
    assert merged.labels.relation("born").tail == ()


def test_a_row_may_be_of_one_corpus(two, tmp_path):
    rows = ("mention,PER,HUMAN,first", "mention,PERSON,HUMAN,")
    merged = merge_corpora(two, read_map(table(tmp_path, *rows, head="kind,from,to,corpus")))
    assert merged.labels.mentions[0] == Label("HUMAN", "person", "人物")


def test_videos_of_one_name_stay_apart(tmp_path):
    for name in ("first", "second"):
        (tmp_path / f"{name}.mp4").write_text(name)
        document = Document("a", "en", "", video=Video("videos/a.mp4"))
        videos = {"videos/a.mp4": tmp_path / f"{name}.mp4"}
        write_corpus(tmp_path / name, Imported(LABELS, {"test": [Example(document, Annotation())]}, videos=videos))
    write_corpus(tmp_path / "both", merge_corpora([load_corpus(tmp_path / name) for name in ("first", "second")]))
    paths = [one.document.video.path for one in load_corpus(tmp_path / "both")["test"]]
    assert paths == ["videos/first/a.mp4", "videos/second/a.mp4"]
    assert [(tmp_path / "both" / path).read_text() for path in paths] == ["first", "second"]


def test_the_merged_corpus_is_sound_and_has_its_images(two, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        app(
            [
                "merge",
                *(str(c.root) for c in two),
                "--map",
                str(table(tmp_path, "mention,CITY,LOC")),
                "--out",
                str(tmp_path / "all"),
            ]
        )
    assert ended.value.code == 0
    assert "the map renames the type 'CITY' to 'LOC'" in capsys.readouterr().out
    assert list(check(tmp_path / "all").lines())[-1] == "0 problems, 0 warnings"
    assert (tmp_path / "all/frames/train0/0.png").is_file()


@pytest.mark.parametrize(
    ("rows", "head", "why"),
    [
        (
            ["mention,CITY,LOC"],
            "kind,old,new",
            r"labels\.csv:1: has the columns kind, new, old; expected kind, from, to",
        ),
        (["thing,CITY,LOC"], "kind,from,to", r"labels\.csv:2: the kind 'thing': expected mention, relation, region"),
        (["mention,,LOC"], "kind,from,to", r"labels\.csv:2: has no type in the column"),
        (["mention,A,B", "mention,A,C"], "kind,from,to", r"labels\.csv:3: maps the mention 'A' again, after line 2"),
    ],
)
def test_a_table_that_is_none_is_named(tmp_path, rows, head, why):
    with pytest.raises(UserError, match=why):
        read_map(table(tmp_path, *rows, head=head))


def test_a_row_of_no_type_and_too_few_corpora_are_named(two, tmp_path):
    with pytest.raises(UserError, match=r"labels\.csv:2: maps the mention 'TOWN', which no corpus has"):
        merge_corpora(two, read_map(table(tmp_path, "mention,TOWN,LOC")), where=tmp_path / "labels.csv")
    with pytest.raises(UserError, match="merge needs two corpora or more"):
        merge_corpora(two[:1])


def test_a_corpus_that_is_given_twice_is_refused(two):
    with pytest.raises(UserError, match="first: is given twice"):
        merge_corpora([*two, two[0]])


def test_a_region_that_is_taken_out_takes_its_relations_along(tmp_path):
    labels = LabelSet(
        (Label("PER"),), (RelationLabel("holds", head=("PER",), tail=("cup", "hat")),), (Label("cup"), Label("hat"))
    )
    base = example("d", "[PER0 Zoe]", frames=1, boxes=False)
    regions = tuple(Region(0, Box(0, 0, 1, 1), kind, id=kind) for kind in ("cup", "hat"))
    gold = Annotation(base.gold.chains, (Relation("c0", "cup", "holds"), Relation("c0", "hat", "holds")), regions)
    for name in ("a", "b"):
        images = {frame.path: png() for frame in base.document.frames}
        write_corpus(tmp_path / name, Imported(labels, {"train": [replace(base, gold=gold)]}, images))
    types = read_map(table(tmp_path, "region,hat,,b", "region,cup,mug,", head="kind,from,to,corpus"))
    merged = merge_corpora([load_corpus(tmp_path / name) for name in ("a", "b")], types)
    last = merged.splits["train"][-1].gold
    assert [(r.head, r.tail) for r in last.relations] == [("c0", "cup")]
    assert [(r.type, r.id) for r in last.regions] == [("mug", "cup")]
    assert ("relation", "one of its sides is removed") in reasons(merged)
    assert merged.labels.relation("holds").tail == ("mug", "hat")
