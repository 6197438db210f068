"""doccano and Prodigy: JSON lines of texts with spans."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from m3dllm.corpora.doccano import read_doccano
from m3dllm.corpora.documents import read_documents
from m3dllm.corpora.imported import Imported
from m3dllm.corpora.jsonfiles import real, whole_number, words
from m3dllm.corpora.native import load_corpus, write_corpus
from m3dllm.corpora.prodigy import read_prodigy
from m3dllm.errors import UserError
from m3dllm.labels import LabelSet
from m3dllm.types import Box
from tests.corpora import tools
from tests.corpora.tools import counts, facts, reasons
from tests.small import png


def read(importer, folder: Path, *rows: Any, **options) -> Imported:
    (folder / "all.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return importer(folder / "all.jsonl", **options)


# --- doccano ----------------------------------------------------------------------------------------------------------


def test_spans_are_mentions(tmp_path):
    (example,) = read(read_doccano, tmp_path, {"id": 3, "text": "苏珊去北京", "label": [[0, 2, "PER"]]}).splits["train"]
    assert (example.document.id, example.document.lang) == ("3", "zh")
    assert tools.words(example) == [("PER", ["苏珊"])]
    assert example.unannotated == {"chain", "relation"}


def test_entities_are_related_by_their_ids(tmp_path):
    entities = [
        {"id": 7, "start_offset": 0, "end_offset": 3, "label": "PER"},
        {"id": 9, "start_offset": 8, "end_offset": 10, "label": "PER"},
    ]
    relations = [{"from_id": 7, "to_id": 9, "type": "met"}, {"from_id": 7, "to_id": 1, "type": "met"}]
    imported = read(read_doccano, tmp_path, {"text": "Ada met Bo", "entities": entities, "relations": relations})
    assert facts(imported.splits["train"][0]) == [("Ada", "met", "Bo")]
    assert imported.splits["train"][0].unannotated == {"chain"}
    assert reasons(imported) == [("relation", "one of its ends is not a mention")]


def test_a_text_that_several_annotators_marked_comes_in_once(tmp_path):
    for name, kind in (("anna", "PER"), ("bo", "LOC")):
        row = {"id": 3, "text": "Ada met Bo", "label": [[0, 3, kind]]}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row), encoding="utf-8")
    imported = read_doccano(tmp_path)
    assert [tools.words(example) for example in imported.splits["train"]] == [[("PER", ["Ada"])]]
    assert reasons(imported) == [("annotation", "another one of its document is used")]


@pytest.mark.parametrize("reader", [read_doccano, read_prodigy])
def test_settings_beside_the_documents_are_counted(reader, tmp_path):
    (tmp_path / "settings.json").write_text('{"theme": "dark"}', encoding="utf-8")
    (tmp_path / "all.jsonl").write_text('{"text": "Ada", "spans": []}', encoding="utf-8")
    imported = reader(tmp_path)
    assert len(imported.splits["train"]) == 1
    assert [(what, why.partition(":")[0]) for what, why in reasons(imported)][:1] == [("file", "it has no documents")]


def test_labels_of_whole_texts_are_counted_and_say_nothing_of_mentions(tmp_path):
    imported = read(read_doccano, tmp_path, {"text": "Ada", "label": ["good"]}, {"data": "Bo"})
    assert [e.unannotated for e in imported.splits["train"]] == [{"entity", "chain", "relation"}] * 2
    assert reasons(imported) == [("label", "it is of a whole text, not of a span")]


@pytest.mark.parametrize(
    "span", [[0, 99, "A"], [3, 1, "A"], ["a", None, "A"], [0, 3, ""], [0.5, 2, "A"], [True, 2, "A"]]
)
def test_spans_that_fit_no_text_are_counted(tmp_path, span):
    imported = read(read_doccano, tmp_path, {"text": "Ada", "label": [span]})
    assert [what for what, _ in reasons(imported)] == ["mention"]


def test_keys_may_have_other_names(tmp_path):
    row = {"column_data": "Ada met", "column_label": [[0, 3, "PER"]]}
    imported = read(read_doccano, tmp_path, row, text="column_data", label="column_label")
    assert tools.words(imported.splits["train"][0]) == [("PER", ["Ada"])]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("data_import/tests/data/relation_extraction/example.jsonl", (1, 4, 4, 3, 0, 0)),
        ("data_export/pipeline/examples/relation_extraction/example.jsonl", (1, 4, 4, 3, 0, 0)),
        ("data_export/pipeline/examples/sequence_labeling/example.jsonl", (3, 4, 4, 0, 0, 0)),
        ("data_import/tests/data/sequence_labeling/example.jsonl", (2, 1, 1, 0, 0, 0)),
    ],
)
def test_its_own_examples(shared_data, name, found):
    assert counts(read_doccano(shared_data / "doccano/backend" / name)) == {"train": found}


def test_labels_of_whole_texts_leave_texts_without_any_unannotated(tmp_path):
    rows = {"text": "Ada", "label": ["NEWS"]}, {"text": "Bo", "label": []}
    assert all("entity" in e.unannotated for e in read(read_doccano, tmp_path, *rows).splits["train"])
    rows = {"text": "Ada", "label": [[0, 3, "PER"]]}, {"text": "Bo", "label": []}
    assert not any("entity" in e.unannotated for e in read(read_doccano, tmp_path, *rows).splits["train"])


def test_annotations_of_old_exports_are_spans(tmp_path):
    spans = [{"label": 5, "start_offset": 0, "end_offset": 3, "user": 1, "created_at": "2020-01-01", "manual": True}]
    imported = read(read_doccano, tmp_path, {"text": "Ada met Bo", "annotations": spans, "label": [["8", "10", "PER"]]})
    assert tools.words(imported.splits["train"][0]) == [("PER", ["Bo"])]
    imported = read(read_doccano, tmp_path, {"text": "Ada met Bo", "annotations": spans})
    assert (tools.words(imported.splits["train"][0]), imported.left_out) == ([("5", ["Ada"])], [])


@pytest.mark.parametrize(("shift", "remarks"), [(1, 0), (2, 1)])
def test_offsets_count_what_parts_no_words(tmp_path, shift, remarks):
    text = "\U0001f600 Ada met Bo"
    spans = [[1 + shift, 4 + shift, "PER"], [9 + shift, 11 + shift, "PER"]]
    imported = read(read_doccano, tmp_path, {"text": text, "label": spans})
    assert tools.words(imported.splits["train"][0]) == [("PER", ["Ada"]), ("PER", ["Bo"])]
    assert len(imported.remarks) == remarks


# --- Prodigy ----------------------------------------------------------------------------------------------------------


def span(start: int, end: int, label: str) -> dict:
    return {"start": start, "end": end, "label": label}


def test_spans_relations_and_coreference(tmp_path):
    ada, she, bo = span(0, 3, "PER"), span(13, 16, "PER"), span(8, 10, "PER")
    relations = [
        {"head": 0, "child": 3, "head_span": ada, "child_span": she, "label": "COREF"},
        {"head": 3, "child": 2, "head_span": she, "child_span": bo, "label": "MET"},
    ]
    row = {"text": "Ada met Bo . She ran", "spans": [ada, she, bo], "relations": relations, "answer": "accept"}
    (example,) = read(read_prodigy, tmp_path, row).splits["train"]
    assert tools.words(example) == [("PER", ["Ada", "She"]), ("PER", ["Bo"])]
    assert facts(example) == [("Ada", "MET", "Bo")]
    assert example.unannotated == frozenset()


def test_spans_say_what_stands_there(tmp_path):
    imported = read(read_prodigy, tmp_path, {"text": "Ada met Bo", "spans": [span(0, 3, "PER") | {"text": "Bo"}]})
    assert reasons(imported) == [("mention", "its text differs from the text at its offsets")]


@pytest.mark.parametrize("view", [{"_view_id": "ner"}, {"_view_id": "ner_manual", "_is_binary": True}])
def test_a_span_that_was_accepted_by_itself_is_no_gold(tmp_path, view):
    imported = read(read_prodigy, tmp_path, {"text": "Ada met Bo", "spans": [span(0, 3, "PER")], **view})
    assert imported.splits["train"][0].unannotated == {"entity", "chain", "relation"}
    assert reasons(imported) == [("mention", "it was accepted separately: the rest of its text is not annotated")]


def test_of_several_annotations_of_an_input_the_first_is_taken(tmp_path):
    rows = [
        {"text": "Ada met Bo", "spans": [span(0, end, "PER")], "_input_hash": 7, "_session_id": f"ner-{end}"}
        for end in (3, 10)
    ]
    imported = read(read_prodigy, tmp_path, *rows, rows[0] | {"_input_hash": 8})
    assert [tools.words(e) for e in imported.splits["train"]] == [[("PER", ["Ada"])]] * 2
    assert reasons(imported) == [("annotation", "another one of its input is taken")]


def test_an_image_may_stand_in_the_line(tmp_path):
    address = "data:image/png;base64," + base64.b64encode(png(100, 50)).decode()
    box = {"label": "PER", "points": [[10, 20], [10, 40], [30, 40], [30, 20]]}
    imported = read(read_prodigy, tmp_path, {"image": address, "width": 100, "height": 50, "spans": [box]})
    write_corpus(tmp_path / "corpus", imported)
    (example,) = load_corpus(tmp_path / "corpus")["train"]
    assert Path(example.document.frames[0].path).read_bytes() == png(100, 50)
    assert example.gold.regions[0].box == Box(0.1, 0.4, 0.3, 0.8)


def test_only_accepted_examples_come_in(tmp_path):
    rows = [{"text": "Ada", "answer": answer} for answer in ("accept", "reject", "ignore")] + [{"meta": {}}]
    imported = read(read_prodigy, tmp_path, *rows)
    assert len(imported.splits["train"]) == 1
    assert [why for _, why in reasons(imported)] == [
        *["its answer is not 'accept'"] * 2,
        "it has neither a text nor an image",
    ]


def test_what_was_accepted_without_spans_is_not_annotated_and_empty(tmp_path):
    (tmp_path / "a.png").write_bytes(png(100, 50))
    rows = [{"text": "Ada", "label": "NEWS"}, {"text": "it", "tokens": []}, {"image": "a.png"}]
    text, manual, image = read(read_prodigy, tmp_path, *rows).splits["train"]
    assert (text.unannotated, manual.unannotated) == ({"entity", "chain", "relation"}, {"chain", "relation"})
    assert not image.document.frames[0].annotated


def test_boxes_of_images(tmp_path):
    (tmp_path / "a.png").write_bytes(png(100, 50))
    boxes = [
        {"type": "rect", "x": 10, "y": 20, "width": 20, "height": 20, "label": "PER"},
        {"type": "polygon", "label": "x"},
    ]
    row = {"image": "a.png", "width": 100, "height": 50, "spans": boxes, "answer": "accept"}
    imported = read(read_prodigy, tmp_path, row)
    assert imported.splits["train"][0].gold.regions[0].box == Box(0.1, 0.4, 0.3, 0.8)
    assert reasons(imported) == [("region", "its shape is not a rectangle")]


# --- JSON -------------------------------------------------------------------------------------------------------------


def test_objects_may_stand_on_lines_over_lines_or_in_a_list(tmp_path):
    (tmp_path / "a").write_text('{"a": 1}\n\n{"a":\n 2}\n[{"a": 3}]\n')
    rows = read_documents(tmp_path / "a", Imported(LabelSet()), keys=("a",))
    assert [(row.line, row.value) for row in rows] == [(1, {"a": 1}), (3, {"a": 2}), (5, {"a": 3})]


@pytest.mark.parametrize("text", ['{"a": 1}\n{', '{"a": 1}\n3', '{"a": 1}\n' + "[" * 100_000])
def test_what_is_no_object_is_named_with_its_line(tmp_path, text):
    (tmp_path / "a").write_text(text)
    with pytest.raises(UserError, match=r"a:2: "):
        list(read_documents(tmp_path / "a", Imported(LabelSet()), keys=("a",)))


def test_numbers_are_finite_and_no_truths():
    assert [real(value) for value in (1, 2.5, True, "1", float("nan"), 10**400, None)] == [1, 2.5, *[None] * 5]
    assert [whole_number(value) for value in (3, 3.0, 3.5)] == [3, 3, None]
    assert [words(value) for value in ("a", 3, None, True, [])] == ["a", "3", "", "", ""]
