"""What is exported, what a format cannot hold, and the verb."""

from __future__ import annotations

import io
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from m3dllm.cli import app
from m3dllm.corpora.imported import LeftOut
from m3dllm.errors import UserError
from m3dllm.experiment import Experiment
from m3dllm.export import EXPORTERS, PARTS, Item, Notes, export, held_by, name_of, read_source, spoken
from m3dllm.pipeline import run
from m3dllm.types import Annotation, Box, Chain, Document, Example, Mention, Region, Relation
from tests.exporters.sources import ADA, SUSAN, files_of, source
from tests.small import small_corpus


def held(example: Example, *without: str) -> tuple[Item, list[LeftOut], list[LeftOut]]:
    notes = Notes()
    (item,) = held_by(PARTS - set(without), source(example), notes).items
    return item, notes.left_out, notes.changed


def test_a_format_that_holds_everything_changes_nothing():
    item, left_out, changed = held(ADA)
    assert (item.document, item.annotation) == (ADA.document, ADA.gold)
    assert left_out == changed == []


def test_a_format_without_chains_keeps_the_mentions_and_ties_relations_and_regions_to_the_first():
    item, left_out, _ = held(ADA, "chains")
    assert [chain.mentions for chain in item.annotation.chains] == [
        (Mention(0, 3, "PER"),),
        (Mention(24, 27, "PER"),),
        (Mention(16, 21, "LOC"),),
    ]
    first = item.annotation.chains[0].id
    assert item.annotation.relations == (Relation(first, "b", "PER-LOC_birth"),)
    assert item.annotation.regions[0].chain == first
    assert [(one.what, one.where) for one in left_out] == [("chain", "ada: a")]


def test_a_format_without_mentions_has_no_chains_no_relations_and_no_links_of_regions():
    item, left_out, _ = held(ADA, "mentions")
    assert item.annotation == Annotation((), (), tuple(replace(r, chain=None) for r in ADA.gold.regions))
    assert [one.what for one in left_out] == [*["mention"] * 3, "relation", "link of a region to its entity"]


def test_of_mentions_that_overlap_the_longest_stays():
    chains = (Chain("c", (Mention(0, 3, "PER"), Mention(0, 12, "PER"), Mention(16, 21, "LOC"))),)
    item, left_out, _ = held(replace(ADA, gold=Annotation(chains)), "overlaps")
    assert item.annotation.chains[0].mentions == (Mention(0, 12, "PER"), Mention(16, 21, "LOC"))
    assert left_out == [LeftOut("mention", "it overlaps a longer one", "ada: PER 0 to 3")]


def test_of_mentions_of_one_span_the_first_stays():
    chains = (Chain("c", (Mention(0, 3, "PER"),)), Chain("d", (Mention(0, 3, "LOC"),)))
    item, left_out, _ = held(replace(ADA, gold=Annotation(chains)), "repeats")
    assert item.annotation.chains == chains[:1]
    assert left_out == [LeftOut("mention", "its span is already a mention", "ada: LOC 0 to 3")]


def test_white_space_at_the_ends_of_mentions_is_cut_off_and_white_space_alone_left_out():
    chains = (Chain("c", (Mention(3, 8, "PER"), Mention(3, 4, "PER"))),)
    item, left_out, changed = held(replace(ADA, gold=Annotation(chains)), "spaces")
    assert item.annotation.chains[0].mentions == (Mention(4, 7, "PER"),)
    assert [one.why for one in left_out] == ["it is only white space"]
    assert [one.why for one in changed] == ["leading or trailing white space was removed"]


@pytest.mark.parametrize("part", ["frames", "segments", "titles", "groups", "relations", "regions"])
def test_each_part_that_has_no_place_is_counted(part):
    item, left_out, _ = held(ADA, part)
    assert left_out
    assert (item.document, item.annotation) != (ADA.document, ADA.gold)


def test_that_a_task_is_not_annotated_is_counted_where_it_has_no_place():
    item, left_out, _ = held(replace(SUSAN, unannotated=frozenset({"relation"})), "unannotated")
    assert item.unannotated == frozenset()
    assert left_out == [LeftOut("that a task is not annotated", "the format cannot represent it", "苏珊: relation")]


def test_boxes_that_no_format_can_hold_are_left_out():
    wild = (Region(24, Box(math.nan, 0, 1, 1), "PER"), Region(7, Box(0, 0, 1, 1), "PER"))
    what = source(SUSAN)
    item = Item("test", ADA.document, Annotation((), (), wild))
    notes = Notes()
    assert held_by(PARTS, replace(what, items=(item,)), notes).items[0].annotation.regions == ()
    assert [one.why for one in notes.left_out] == [
        "its box is not four finite numbers",
        "its frame is not in the document",
    ]


HELD = replace(
    ADA,
    gold=replace(
        ADA.gold,
        relations=(*ADA.gold.relations, Relation("a", "r0", "holds")),
        regions=(*ADA.gold.regions, Region(24, Box(0.0, 0.0, 0.5, 0.5), "cup", id="r0")),
    ),
)
"""ADA, who also holds a cup."""


def test_a_relation_with_a_region_is_counted_where_it_has_no_place():
    item, left_out, _ = held(HELD, "region relations")
    assert item.annotation.relations == ADA.gold.relations
    assert {region.id for region in item.annotation.regions} == {None}
    assert left_out == [LeftOut("relation with a region", "the format cannot represent it", "ada: holds")]


def test_a_relation_with_a_region_stays_where_it_has_a_place():
    item, left_out, _ = held(HELD)
    assert (item.annotation, left_out) == (HELD.gold, [])


def test_a_region_that_is_skipped_takes_its_relations_along():
    regions = (*ADA.gold.regions, Region(7, Box(0.0, 0.0, 0.5, 0.5), "cup", id="r0"))
    what, notes = source(HELD), Notes()
    said = replace(what.items[0], annotation=replace(HELD.gold, regions=regions))
    (item,) = held_by(PARTS, replace(what, items=(said,)), notes).items
    assert item.annotation == ADA.gold
    assert [(one.what, one.why) for one in notes.left_out] == [
        ("relation", "one of its sides is skipped"),
        ("region", "its frame is not in the document"),
    ]


@pytest.mark.parametrize("name", sorted(set(EXPORTERS.names()) - {"parquet"}))
def test_a_format_without_a_place_for_relations_with_regions_counts_them(name):
    notes = Notes()
    files_of(name, source(HELD), notes)
    what = {one.what for one in notes.left_out if one.where == "ada: holds"}
    assert what & {"relation with a region", "relation"}


def test_parquet_has_a_column_for_ids_of_regions_only_where_there_is_one():
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra 'parquet'")

    def regions(example: Example) -> str:
        schema = parquet.read_schema(io.BytesIO(files_of("parquet", source(example), Notes())["train.parquet"]))
        return str(schema.field("gold").type.field("regions").type)

    assert "id:" in regions(HELD)
    assert "id:" not in regions(ADA)


def test_what_types_mean_is_counted_where_it_has_no_place():
    notes = Notes()
    held_by(PARTS - {"glosses"}, source(ADA), notes)
    assert [one.where for one in notes.left_out] == ["relations: PER-PER_couple"]


def test_a_mention_has_the_times_of_its_segments():
    assert spoken(ADA.document, 0, 3) == (1.0, 3.5)
    assert spoken(ADA.document, 20, 30) == (1.0, 5.0)
    assert spoken(SUSAN.document, 0, 2) is None


def test_an_entity_is_called_what_it_is_called_most():
    document = Document("d", "en", "Ada Bela Ada Cassandra")
    one = Chain("c", (Mention(0, 3, "PER"), Mention(9, 12, "PER"), Mention(13, 22, "PER")))
    assert name_of(document, one) == "Ada"


# --- sources ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return small_corpus(tmp_path_factory.mktemp("export") / "corpus", train=4, dev=2, test=3)


@pytest.fixture(scope="module")
def majority(corpus, tmp_path_factory):
    return run(Experiment(system="majority", corpus=corpus, out=tmp_path_factory.mktemp("runs") / "run")).path


def test_a_corpus_gives_its_gold_split_by_split(corpus):
    found = read_source(corpus)
    assert {split: len(items) for split, items in found.splits().items()} == {"train": 4, "dev": 2, "test": 3}
    assert next(iter(found.items)).document.frames[0].path == str(corpus / "frames/train0/0.png")
    assert len(list(read_source(corpus, split="dev").items)) == 2


def test_a_run_gives_its_predictions_or_its_gold(majority, corpus):
    predictions, gold = read_source(majority), read_source(majority, gold=True)
    assert [item.annotation for item in gold.items] == [e.annotation for e in read_source(corpus, split="test").items]
    assert predictions.made_by["system"] == "majority"
    assert "system" not in gold.made_by
    assert next(iter(predictions.items)).document.frames[0].path == str(corpus / "frames/test0/0.png")


def test_what_is_no_source_is_named(tmp_path, majority):
    with pytest.raises(UserError, match="does not exist; expected a run, or a native corpus"):
        read_source(tmp_path / "nothing")
    with pytest.raises(UserError, match="covers the split 'test', not 'dev'"):
        read_source(majority, split="dev")


def test_an_unknown_format_is_named_with_those_there_are(corpus, tmp_path):
    with pytest.raises(UserError, match="unknown export format 'jsonl'; did you mean 'jsonld'"):
        export("jsonl", corpus, tmp_path / "out")


@pytest.mark.parametrize("fps", [-1, math.nan, math.inf, 1e-320])
def test_an_impossible_number_of_frames_per_second_is_refused(corpus, tmp_path, fps):
    with pytest.raises(UserError, match=r"--fps .*: expected 0, or from 0.001 to 1000"):
        export("webvtt", corpus, tmp_path / "out", fps=fps)


def test_a_filled_folder_is_left_alone(corpus, tmp_path):
    (tmp_path / "kept.txt").write_text("mine")
    with pytest.raises(UserError, match="already exists"):
        export("jsonld", corpus, tmp_path)


def test_the_verb_writes_the_files_and_says_what_was_left_out(majority, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        app(["export", "jsonld", str(majority), "--out", str(tmp_path / "out"), "--fps", "0"])
    assert stopped.value.code == 0
    assert "meanings of a type: the format cannot represent it" in capsys.readouterr().out
    assert json.loads((tmp_path / "out/test.jsonld").read_text(encoding="utf-8"))["@graph"]


@pytest.mark.parametrize("name", EXPORTERS.names())
def test_every_exporter_says_what_it_writes_and_holds(name):
    exporter = EXPORTERS.find(name)
    assert exporter.__doc__
    assert exporter.HOLDS <= PARTS


def test_the_exporter_of_the_tutorial_is_one_file_and_one_entry_point(corpus, tmp_path, monkeypatch, capsys):
    text = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    code = re.search(r"`triples\.py`\n```python\n(.*?)```", text, re.DOTALL)
    assert code is not None
    (tmp_path / "triples.py").write_text(code[1], encoding="utf-8")
    info = tmp_path / "someone-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: someone\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[m3dllm.exporters]\ntriples = triples\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SystemExit):
        app(["export", "triples", str(corpus), "--split", "dev", "--documents", "--out", str(tmp_path / "out")])
    assert (tmp_path / "out/dev.tsv").read_text(encoding="utf-8") == (
        "dev0\tAda\tPER-LOC_birth\tArles\ndev1\t苏珊1\tPER-LOC_birth\t北京\n"
    )
    assert "skipped: the frames of 2 documents: the format cannot represent it" in capsys.readouterr().out
