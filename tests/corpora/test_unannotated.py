"""What a file does not say is not gold: a part that nobody annotated has no score, and teaches nothing."""

import json

import pytest

from m3dllm.corpora.check import check
from m3dllm.corpora.imported import Imported, LeftOut, reasons
from m3dllm.corpora.m3d import read_m3d
from m3dllm.corpora.native import load_corpus, write_corpus
from m3dllm.corpora.redocred import read_redocred
from m3dllm.score import score
from m3dllm.types import Annotation, Chain, Document, Example, Mention, Prediction, Relation
from m3dllm.wire import WireError, decode_example, encode_example
from tests.small import LABELS, example

LINE = {"id": "d", "lang": "en", "text": "Ada met Bo"}
ADA, BO = {"start": 0, "end": 3, "type": "PER"}, {"start": 8, "end": 10, "type": "PER"}
CHAINS = [{"id": "a", "mentions": [ADA]}, {"id": "b", "mentions": [BO]}]


def read(gold: dict) -> Example:
    return decode_example(json.dumps(LINE | {"gold": gold}))


@pytest.mark.parametrize(
    ("gold", "unannotated"),
    [
        ({"chains": CHAINS, "relations": [], "regions": []}, set()),
        ({"chains": CHAINS, "regions": []}, {"relation"}),
        ({"chains": CHAINS, "relations": None, "regions": []}, {"relation"}),
        ({"chains": CHAINS, "relations": []}, {"grounding"}),
        ({"regions": []}, {"entity", "chain", "relation"}),
        ({"relations": [], "regions": []}, {"entity", "chain", "relation"}),
        ({"chains": CHAINS, "relations": [], "regions": [], "unannotated": ["chain"]}, {"chain"}),
        ({}, {"entity", "chain", "relation", "grounding"}),
    ],
    ids=lambda value: str(sorted(value)) if isinstance(value, set) else str(value),  # the same in every process
)
def test_a_part_that_the_gold_lacks_is_not_annotated(gold, unannotated):
    assert read(gold).unannotated == unannotated


@pytest.mark.parametrize("task", ["entity", "chain", "relation", "grounding"])
def test_what_is_not_annotated_is_written_and_read_again(task):
    lone = Annotation(() if task == "entity" else (Chain("a", (Mention(0, 3, "PER"),)),))
    made = Example(Document("d", "en", "Ada met Bo"), lone, frozenset((task,)))
    assert decode_example(encode_example(made)) == made


def test_gold_cannot_hold_what_is_not_annotated():
    with pytest.raises(WireError, match="gold contains annotations of an unannotated task: chain"):
        read({"chains": [{"id": "a", "mentions": [ADA, BO]}], "relations": [], "unannotated": ["chain"]})


def test_relations_of_chains_that_nobody_annotated_are_refused():
    with pytest.raises(WireError, match="refers to 'a'"):
        read({"relations": [{"head": "a", "tail": "b", "type": "t"}]})


def test_frames_are_not_annotated_where_the_gold_has_no_regions():
    frame = {"index": 0, "path": "frames/d/0.png", "width_px": 4, "height_px": 4, "annotated": True}
    read_ = decode_example(json.dumps(LINE | {"frames": [frame], "gold": {"chains": CHAINS}}))
    assert not read_.document.frames[0].annotated


# --- scores -----------------------------------------------------------------------------------------------------------

SAID = Annotation(
    (Chain("a", (Mention(0, 3, "PER"),)), Chain("b", (Mention(8, 10, "PER"),))), (Relation("a", "b", "PER-PER_couple"),)
)


@pytest.mark.parametrize(
    ("gold", "scored"),
    [
        ({"chains": CHAINS, "relations": [], "regions": []}, ("entity", "chain", "relation")),
        ({"chains": CHAINS, "regions": []}, ("entity", "chain")),
        ({"chains": CHAINS, "regions": [], "unannotated": ["chain"]}, ("entity",)),
        ({"regions": []}, ()),
    ],
    ids=str,
)
def test_a_task_without_gold_has_no_score_and_stays_out_of_the_average(gold, scored):
    found = score([read(gold)], [Prediction("d", SAID)]).languages["en"].end_to_end
    assert found.average_of == scored


def test_documents_without_gold_for_a_task_do_not_count_in_its_score():
    known = example("k", "[PER0 Ada] met [PER1 Bo]", relations=[("c0", "c1", "PER-PER_couple")])
    said = [Prediction("k", known.gold), Prediction("d", SAID)]
    found = score([known, read({"chains": CHAINS, "regions": []})], said).languages["en"].end_to_end.tasks["relation"]
    assert (found.p_num, found.p_den) == (1, 1)


def test_a_document_is_not_unanswered_for_a_pass_that_asks_what_nobody_knows():
    known = example("k", "[PER0 Ada] met [PER1 Bo]", relations=[("c0", "c1", "PER-PER_couple")])
    said = [Prediction("k", known.gold), Prediction("k", known.gold, given="chains"), Prediction("d", SAID)]
    assert score([known, read({"chains": CHAINS, "regions": []})], said).unanswered == ()


# --- importers and tools ----------------------------------------------------------------------------------------------

DOCRED = {
    "title": "Ada",
    "sents": [["Ada", "met", "Bo"]],
    "vertexSet": [
        [{"type": "PER", "sent_id": 0, "pos": [0, 1], "name": "Ada"}],
        [{"type": "PER", "sent_id": 0, "pos": [2, 3], "name": "Bo"}],
    ],
}
M3D = {"doc": "Ada met Bo", "entityLink": {"L0": {"link": [{"type": "PER", "start": 0, "end": 1, "text": "Ada"}]}}}


@pytest.mark.parametrize(
    ("document", "unannotated"),
    [(DOCRED, {"relation"}), (DOCRED | {"labels": []}, set()), (DOCRED | {"labels": None}, {"relation"})],
    ids=["no labels", "empty labels", "labels null"],
)
def test_a_docred_document_without_labels_has_no_gold_for_relations(document, unannotated, tmp_path):
    (tmp_path / "test.json").write_text(json.dumps([document]))
    assert read_redocred(tmp_path).splits["test"][0].unannotated == unannotated


@pytest.mark.parametrize(
    ("document", "unannotated"),
    [
        (M3D, {"relation"}),
        (M3D | {"relation": []}, set()),
        ({"doc": "Ada met Bo"}, {"entity", "chain", "relation"}),
    ],
    ids=["no relation", "empty relation", "text only"],
)
def test_an_m3d_document_lacks_the_gold_that_its_file_lacks(document, unannotated, tmp_path):
    (tmp_path / "test_en.json").write_text(json.dumps([document]))
    assert read_m3d(tmp_path).splits["test"][0].unannotated == unannotated


def test_the_count_of_an_import_says_what_is_not_annotated(tmp_path):
    (tmp_path / "test.json").write_text(json.dumps([DOCRED]))
    lines = list(read_redocred(tmp_path).summary_lines())
    assert "not annotated, so without a score (test, en): relation in 1 document" in lines


@pytest.mark.parametrize(
    ("n", "what", "counted"),
    [
        (1, "mention", "1 mention"),
        (2, "mention", "2 mentions"),
        (1_200, "category", "1,200 categories"),
        (2, "link of a region to its entity", "2 links of a region to its entity"),
        (2, "second type", "2 second types"),
        (2, "key 'x'", "2 keys 'x'"),
        (2, "the language of a document", "the language of 2 documents"),
        (2, "that a task is not annotated", "2 that a task is not annotated"),
    ],
)
def test_counts_of_what_was_skipped_are_in_the_plural(n, what, counted):
    assert next(reasons("skipped", [LeftOut(what, "why", "where")] * n)).startswith(f"skipped: {counted}: why (where")


def test_check_says_what_is_not_annotated(tmp_path):
    write_corpus(tmp_path / "c", Imported(LABELS, {"test": [read({"chains": CHAINS, "regions": []})]}))
    report = check(tmp_path / "c")
    assert (report.problems, report.held[0].unannotated) == ([], {"relation": 1})


def test_check_warns_of_annotated_frames_without_regions(tmp_path):
    imported = Imported(LABELS, {"test": [read({"chains": CHAINS})]})
    write_corpus(tmp_path / "c", imported)
    file = tmp_path / "c" / "test.jsonl"
    line = json.loads(file.read_text())
    line["frames"] = [{"index": 0, "path": "f.png", "width_px": 4, "height_px": 4, "annotated": True}]
    file.write_text(json.dumps(line))
    assert "gold has no regions: treated as not annotated" in check(tmp_path / "c").warnings[0].message


def test_what_is_not_annotated_survives_a_load(tmp_path):
    write_corpus(tmp_path / "c", Imported(LABELS, {"test": [read({"chains": CHAINS, "regions": []})]}))
    assert load_corpus(tmp_path / "c")["test"][0].unannotated == {"relation"}


def test_datasets_keep_what_is_not_annotated(tmp_path):
    pytest.importorskip("datasets", reason="optional: m3dllm[datasets]")
    from m3dllm.corpora.hub import from_datasets, to_datasets

    write_corpus(tmp_path / "c", Imported(LABELS, {"test": [read({"chains": CHAINS, "regions": []})]}))
    assert from_datasets(to_datasets(load_corpus(tmp_path / "c"))).splits["test"][0].unannotated == {"relation"}
