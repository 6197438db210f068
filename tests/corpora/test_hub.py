"""A corpus is the same after a way through Hugging Face datasets."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from m3dllm.corpora.auto import guess
from m3dllm.corpora.check import check
from m3dllm.corpora.hub import from_datasets, to_datasets
from m3dllm.corpora.imported import Imported, count
from m3dllm.corpora.importers import find_importer
from m3dllm.corpora.m3d import read_m3d
from m3dllm.corpora.native import load_corpus, to_imported, write_corpus
from m3dllm.errors import UserError
from m3dllm.types import Annotation, Document, Example
from tests.corpora import tools
from tests.small import LABELS, small_corpus

datasets = pytest.importorskip("datasets", reason="needs the extra 'datasets'")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return load_corpus(small_corpus(tmp_path_factory.mktemp("hub") / "corpus", train=6, dev=0, test=3))


def test_a_corpus_comes_back_as_it_went(corpus):
    back = from_datasets(to_datasets(corpus))
    assert back.labels == corpus.labels
    assert back.splits == to_imported(corpus).splits
    assert count(back.splits) == count(corpus.splits)


def test_what_comes_back_is_written_with_its_frames(corpus, tmp_path):
    write_corpus(tmp_path / "back", from_datasets(to_datasets(corpus)))
    assert check(tmp_path / "back").problems == []
    for file in ("labels.json", "train.jsonl", "test.jsonl", "frames/train0/0.png"):
        assert (tmp_path / "back" / file).read_bytes() == (corpus.root / file).read_bytes()


def test_labels_and_documents_survive_the_disk(corpus, tmp_path):
    to_datasets(corpus).save_to_disk(str(tmp_path / "saved"))
    back = from_datasets(datasets.load_from_disk(str(tmp_path / "saved")))
    assert (back.labels, back.splits) == (corpus.labels, to_imported(corpus).splits)


def test_what_was_saved_is_guessed_and_imported(corpus, tmp_path):
    to_datasets(corpus).save_to_disk(str(tmp_path / "saved"))
    assert guess(tmp_path / "saved")[0] == "hf-datasets"
    assert find_importer("hf-datasets").read(tmp_path / "saved").splits == to_imported(corpus).splits


@pytest.mark.parametrize("there", ["nothing", "a file", "an empty folder", "a broken one"])
def test_what_was_not_saved_so_is_one_line(tmp_path, there):
    path = tmp_path / "saved"
    if there == "a file":
        path.write_text("[]")
    elif there != "nothing":
        path.mkdir()
        (path / ("state.json" if there == "a broken one" else "a.txt")).write_text("{}")
    with pytest.raises(UserError, match="saved"):
        find_importer("hf-datasets").read(path)


def test_a_row_has_the_fields_of_a_line(corpus):
    rows = to_datasets(corpus)["train"]
    line = json.loads((corpus.root / "train.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert set(rows.column_names) == set(line)
    assert rows[0]["gold"]["chains"] == line["gold"]["chains"]
    assert Path(rows[0]["frames"][0]["path"]) == corpus.root / line["frames"][0]["path"]


def test_documents_without_text_frames_or_gold_come_back(tmp_path):
    nothing = Example(Document("nothing", "zh", ""), Annotation())
    write_corpus(tmp_path / "c", Imported(LABELS, {"dev": [nothing]}))
    assert from_datasets(to_datasets(load_corpus(tmp_path / "c"))).splits == {"dev": [nothing]}


def test_labels_beside_win_over_those_inside_and_without_any_all_types_found_are_the_labels(corpus):
    made = to_datasets(corpus)
    wider = type(LABELS)(LABELS.mentions, LABELS.relations, (*LABELS.regions, *LABELS.mentions[1:]))
    assert from_datasets(made, labels=wider).labels == wider
    for part in made.values():
        part.info.description = "some words"
    found = from_datasets(made).labels
    assert found.names("relations") == {"PER-LOC_birth"}
    assert found.names("mentions") == {"PER", "LOC"}


def test_a_single_dataset_is_the_split_train(corpus):
    assert list(from_datasets(to_datasets(corpus)["test"]).splits) == ["train"]


def test_columns_that_a_document_does_not_have_are_passed_over(corpus):
    rows = to_datasets(corpus)["test"]
    assert len(from_datasets(rows.add_column("note", ["x"] * len(rows))).splits["train"]) == len(rows)


def test_classes_have_their_names_and_columns_of_a_sequence_are_objects():
    text, number = datasets.Value("string"), datasets.Value("int64")
    kind = datasets.ClassLabel(names=["PER", "LOC"])
    mentions = datasets.Sequence({"start": number, "end": number, "type": kind})
    gold = {"chains": [{"id": text, "mentions": mentions}], "relations": [{"head": text, "tail": text, "type": text}]}
    features = {"id": text, "lang": datasets.ClassLabel(names=["en", "zh"]), "text": text, "gold": gold}
    chains = [{"id": "c", "mentions": {"start": [0, 4], "end": [2, 6], "type": [0, 0]}}]
    row = {"id": "a", "lang": 1, "text": "苏珊去北京啊", "gold": {"chains": chains, "relations": []}}
    found = datasets.Dataset.from_list([row], features=datasets.Features(features))
    (example,) = from_datasets(found).splits["train"]
    assert (example.document.lang, tools.words(example)) == ("zh", [("PER", ["苏珊", "京啊"])])


def test_rows_that_are_no_documents_are_named():
    rows = [{"id": "a", "lang": "en", "text": "Ada"}]
    with pytest.raises(UserError, match=r"train\[0\]: lacks the field 'gold'"):
        from_datasets(datasets.Dataset.from_list(rows))
    with pytest.raises(UserError, match="the datasets: has no document to import"):
        from_datasets(datasets.DatasetDict())


def test_an_id_that_stands_twice_and_an_unknown_type_are_named(corpus):
    made = to_datasets(corpus)
    again = datasets.DatasetDict({"a": made["test"], "b": made["test"]})
    with pytest.raises(UserError, match=r"b\[0\]: \$\.id: the id 'test0' is already in a\[0\]"):
        from_datasets(again)
    fewer = type(LABELS)(LABELS.mentions[:1], (), LABELS.regions)
    with pytest.raises(UserError, match=r"train\[0\]: \$\.gold\.chains\[1\].*: unknown type 'LOC'"):
        from_datasets(made, labels=fewer)


def test_without_the_library_the_extra_is_named(corpus, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"pip install 'm3dllm\[datasets\]'"):
        to_datasets(corpus)


def test_the_m3d_development_sets_have_the_same_counts(shared_data, tmp_path):
    write_corpus(tmp_path / "m3d", read_m3d(shared_data / "m3d"))
    m3d = load_corpus(tmp_path / "m3d")
    back = from_datasets(to_datasets(m3d))
    assert back.splits == to_imported(m3d).splits
    assert [(lang, n.documents, n.mentions, n.chains, n.relations) for (_, lang), n in count(back.splits).items()] == [
        ("en", 205, 3457, 1885, 1388),
        ("zh", 203, 2685, 1397, 985),
    ]
