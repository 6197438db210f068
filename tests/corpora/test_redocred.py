"""The layout of DocRED and Re-DocRED comes in whole, or says what did not."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from m3dllm.corpora.check import check
from m3dllm.corpora.imported import Imported
from m3dllm.corpora.native import write_corpus
from m3dllm.corpora.redocred import read_redocred
from m3dllm.errors import UserError
from m3dllm.types import Example, Relation
from tests.corpora.mutations import mutated

SOURCE: dict[str, Any] = {
    "title": "Ada",
    "sents": [["Ada", "Love", "-", "lace", "lived", "."], ["\xa0", "Ada", "", "loved", "Leeds", "."]],
    "vertexSet": [
        [
            {"name": "Ada Love-lace", "sent_id": 0, "pos": [0, 4], "type": "PER"},
            {"name": "Ada", "sent_id": 1, "pos": [1, 2], "type": "PER"},
        ],
        [{"name": "Leeds", "sent_id": 1, "pos": [4, 5], "type": "LOC"}],
    ],
    "labels": [{"h": 0, "t": 1, "r": "P551", "evidence": [1]}],
}


def written(root: Path, **files: Any) -> Path:
    """A folder with these JSON files."""
    root.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        data = value if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False).encode()
        (root / f"{name}.json").write_bytes(data)
    return root


def changed(**parts: Any) -> dict[str, Any]:
    return {**SOURCE, **parts}


def entity(*mentions: dict[str, Any]) -> dict[str, Any]:
    """SOURCE with one more entity."""
    return changed(vertexSet=[*SOURCE["vertexSet"], list(mentions)])


def one(imported: Imported) -> Example:
    return imported.splits["dev"][0]


def texts(example: Example) -> dict[str, list[str]]:
    text = example.document.text
    return {c.id: [text[m.start : m.end] for m in c.mentions] for c in example.gold.chains}


def test_the_text_is_the_tokens_joined_by_spaces(tmp_path):
    document = one(read_redocred(written(tmp_path, dev=[SOURCE]))).document
    assert document.text == "Ada Love - lace lived . \xa0 Ada  loved Leeds ."
    assert [document.text[s:e] for s, e in document.tokens] == [t for s in SOURCE["sents"] for t in s if t]
    assert (document.id, document.title, document.lang, document.group) == ("Ada", "Ada", "en", "")


def test_entities_are_chains_and_labels_relations(tmp_path):
    example = one(read_redocred(written(tmp_path, dev=[SOURCE])))
    assert texts(example) == {"e0": ["Ada Love - lace", "Ada"], "e1": ["Leeds"]}
    assert example.gold.relations == (Relation("e0", "e1", "P551"),)


def test_relations_are_glossed_by_the_file_beside(tmp_path):
    for folder in (tmp_path / "beside", tmp_path / "above/data"):
        written(folder, dev=[SOURCE])
        written(tmp_path / "beside", rel_info={"P551": "residence", "P6": "head of government"})
        written(tmp_path / "above", rel_info={"P551": "residence"})
        labels = read_redocred(folder).labels
        assert labels.relation("P551").en == "residence"
    assert read_redocred(written(tmp_path / "alone/data", dev=[SOURCE])).labels.relation("P551").en == ""


def test_the_labels_hold_every_relation_that_the_file_beside_names(tmp_path):
    names = {"P6": "head of government", "P551": "residence"}
    labels = read_redocred(written(tmp_path, dev=[SOURCE], rel_info=names)).labels
    assert [(label.name, label.en) for label in labels.relations] == [
        ("P551", "residence"),
        ("P6", "head of government"),
    ]


def test_relations_are_directed_and_join_any_types(tmp_path):
    labels = read_redocred(written(tmp_path, dev=[SOURCE])).labels
    assert labels.symmetric == frozenset()
    assert labels.relation("P551").joins("LOC", "PER")
    assert [label.name for label in labels.mentions] == ["LOC", "PER"]


def test_a_document_without_labels_has_no_relations(tmp_path):
    source = {key: part for key, part in SOURCE.items() if key != "labels"}
    assert one(read_redocred(written(tmp_path, dev=[source]))).gold.relations == ()


@pytest.mark.parametrize(
    ("key", "unannotated"), [("labels", {"relation"}), ("vertexSet", {"entity", "chain", "relation"}), ("title", set())]
)
def test_what_a_document_lacks_is_not_annotated(tmp_path, key, unannotated):
    source = {name: value for name, value in SOURCE.items() if name != key}
    assert one(read_redocred(written(tmp_path, dev=[source, SOURCE]))).unannotated == unannotated


def test_relations_of_a_file_all_of_whose_lists_are_empty_are_not_annotated(tmp_path):
    test = [changed(labels=[], title=f"t{n}") for n in range(2)]
    imported = read_redocred(written(tmp_path, dev=[changed(labels=[]), changed(title="b")], test=test))
    assert [e.unannotated for e in (*imported.splits["dev"], *imported.splits["test"])] == [
        *[frozenset()] * 2,
        *[{"relation"}] * 2,
    ]
    assert [remark.where for remark in imported.remarks] == ["test.json"]


PLACED = {"name": "Ada", "sent_id": 0, "pos": [0, 1], "type": "PER", "global_pos": [0, 1], "index": "0"}


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize(
    "change",
    [
        {"labels": [{"h": 0, "t": 1, "r": "P1", "evidence": [0, 1]}, {"h": 1, "t": 0, "r": "P2", "evidence": []}]},
        {"vertexSet": [[PLACED]], "labels": []},
        {"vertexSet": [[{"sent_id": 0, "pos": [0, 1], "type": "PER", "score": 0.5}]], "labels": None},
        {"title": 'a: "{title": 3}, {"title": 4', "more": {"title": "x"}},
    ],
)
def test_a_list_says_what_the_same_documents_one_a_line_say(tmp_path, change, indent):
    rows = [changed(title="a"), changed(**{"title": "b"} | change), changed()]
    texts = {"list": json.dumps(rows, indent=indent), "lines": "\n".join(map(json.dumps, rows))}
    found = []
    for name, text in texts.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "dev.json").write_text(text, encoding="utf-8")
        imported = read_redocred(tmp_path / name)
        noted = [(one.what, one.why, one.where.partition("$")[2].rpartition("]")[2]) for one in imported.details]
        found.append((list(imported.splits["dev"]), noted, len(imported.left_out), imported.labels))
    assert found[0] == found[1]


def test_a_document_without_sentences_is_a_document_without_text(tmp_path):
    example = one(read_redocred(written(tmp_path, dev=[changed(sents=[], vertexSet=[], labels=[])])))
    assert (example.document.text, example.gold.chains) == ("", ())


def test_files_are_splits_by_the_beginning_of_their_names(tmp_path):
    both = {"train_revised": [changed(title="a")], "test_revised": [changed(title="b")], "other": [5]}
    assert list(read_redocred(written(tmp_path, **both)).splits) == ["train", "test"]
    written(tmp_path, train_distant=[changed(title="c")])
    assert list(read_redocred(tmp_path).splits) == ["train_distant", "train_revised", "test"]


def test_one_file_of_any_name_can_be_read(tmp_path):
    written(tmp_path, my=[SOURCE])
    assert list(read_redocred(tmp_path / "my.json").splits) == ["my"]


def test_a_duplicate_title_is_made_unique_and_named(tmp_path):
    imported = read_redocred(written(tmp_path, dev=[SOURCE, SOURCE, changed(title="../x")]))
    assert [e.document.id for e in imported.splits["dev"]] == ["Ada", "dev-1", "dev-2"]
    assert [c.why for c in imported.changed] == [
        "its title is a duplicate: renamed",
        "its title is not a valid id: renamed",
    ]


PLACE = "dev.json: $[0]"
GONE = ("chain", "none of its mentions is left", f"{PLACE}.vertexSet[2]")
ODD = {
    "sentence that is not there": (
        entity({"name": "x", "sent_id": 7, "pos": [0, 1], "type": "PER"}),
        [("mention", "its tokens are not in the text", f"{PLACE}.vertexSet[2][0]: sentence 7, tokens 0 to 1"), GONE],
    ),
    "tokens past the sentence": (
        entity({"name": "x", "sent_id": 0, "pos": [5, 7], "type": "PER"}),
        [("mention", "its tokens are not in the text", f"{PLACE}.vertexSet[2][0]: sentence 0, tokens 5 to 7"), GONE],
    ),
    "another text": (
        entity({"name": "York", "sent_id": 0, "pos": [4, 5], "type": "PER"}),
        [
            (
                "mention",
                "its text differs from the text at its tokens",
                f"{PLACE}.vertexSet[2][0]: 'York', the text has 'lived'",
            ),
            GONE,
        ],
    ),
    "empty token": (
        entity({"sent_id": 1, "pos": [2, 3], "type": "PER"}),
        [("mention", "it has no text", f"{PLACE}.vertexSet[2][0]"), GONE],
    ),
    "no type": (
        entity({"sent_id": 0, "pos": [4, 5], "type": ""}),
        [("mention", "it has no type", f"{PLACE}.vertexSet[2][0]"), GONE],
    ),
    "mention of two entities": (
        entity({"name": "Leeds", "sent_id": 1, "pos": [4, 5], "type": "LOC"}),
        [("mention", "its span is already a mention", f"{PLACE}.vertexSet[2][0]: 'Leeds'"), GONE],
    ),
    "entity without mentions": (entity(), [GONE]),
    "relation of no entity": (
        changed(labels=[*SOURCE["labels"], {"h": 0, "t": 9, "r": "P551"}]),
        [("relation", "it refers to an entity that does not exist", f"{PLACE}.labels[1]: 9")],
    ),
    "relation to itself": (
        changed(labels=[*SOURCE["labels"], {"h": 0, "t": 0, "r": "P551"}]),
        [("relation", "it joins an entity to itself", f"{PLACE}.labels[1]: 0")],
    ),
    "relation twice": (
        changed(labels=SOURCE["labels"] * 2),
        [("relation", "it is a duplicate", f"{PLACE}.labels[1]: P551")],
    ),
    "relation without a type": (
        changed(labels=[*SOURCE["labels"], {"h": 0, "t": 1, "r": ""}]),
        [("relation", "it has no type", f"{PLACE}.labels[1]")],
    ),
}


@pytest.mark.parametrize("what", ODD)
def test_what_is_odd_is_left_out_by_name_and_the_rest_comes_in(what, tmp_path):
    source, expected = ODD[what]
    imported = read_redocred(written(tmp_path, dev=[source]))
    assert [(out.what, out.why, out.where) for out in imported.left_out] == expected
    assert (len(one(imported).gold.chains), len(one(imported).gold.relations)) == (2, 1)


def test_a_name_that_says_more_than_the_text_is_named_and_the_mention_kept(tmp_path):
    source = entity({"name": "3.\nlived", "sent_id": 0, "pos": [4, 5], "type": "MISC"})
    imported = read_redocred(written(tmp_path, dev=[source]))
    assert texts(one(imported))["e2"] == ["lived"]
    assert [(c.what, c.why) for c in imported.changed] == [("mention", "its name is longer or shorter than its text")]


BROKEN = {
    "broken JSON": (b"[{", "dev.json: not valid JSON"),
    "no list": (b'"Ada"', "dev.json: is not a JSON list but a string; expected a list of documents"),
    "empty list": (b"[]", "dev.json: is an empty list; expected documents"),
    "UTF-16": ("[]".encode("utf-16"), "dev.json: is UTF-16"),
    "another shape": ([SOURCE, {"doc": "x"}], "dev.json: $[1]: lacks the field 'sents'"),
    "position of three": (
        [entity({"sent_id": 0, "pos": [1, 2, 3], "type": "PER"})],
        "dev.json: $[0].vertexSet[2][0].pos: Expected 'array' of length 2, got 3",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_file_of_another_shape_is_one_clear_error(what, tmp_path):
    data, message = BROKEN[what]
    with pytest.raises(UserError) as error:
        read_redocred(written(tmp_path, dev=data))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_relation_names_of_another_shape_are_named(tmp_path):
    with pytest.raises(UserError, match=r"rel_info\.json: Expected 'object', got 'array'"):
        read_redocred(written(tmp_path, dev=[SOURCE], rel_info=[]))
    with pytest.raises(UserError, match=r"rel_info\.json: has a relation without a name"):
        read_redocred(written(tmp_path, dev=[SOURCE], rel_info={"": "x"}))


def test_a_path_without_documents_is_named(tmp_path):
    with pytest.raises(UserError, match="absent: does not exist; expected a DocRED file or a folder of them"):
        read_redocred(tmp_path / "absent")
    with pytest.raises(UserError, match=r"has no file such as train_revised\.json or dev\.json"):
        read_redocred(written(tmp_path, other=[SOURCE]))


@settings(suppress_health_check=list(HealthCheck), max_examples=120, deadline=None)
@given(source=mutated([SOURCE]), names=st.one_of(st.none(), mutated({"P551": "residence"}), st.binary(max_size=20)))
def test_documents_broken_anywhere_come_in_or_are_named(source, names, tmp_path_factory):
    tmp = tmp_path_factory.mktemp("docred")
    files = {"dev": source} | ({} if names is None else {"rel_info": names})
    with suppress(UserError):
        imported = read_redocred(written(tmp / "in", **files))
        assert any(imported.splits.values())
        assert all(line.isprintable() for line in imported.summary_lines())
        write_corpus(tmp / "corpus", imported)
        assert [str(p) for p in check(tmp / "corpus").problems] == []


def test_the_real_documents_come_in_and_what_does_not_is_named(shared_data, tmp_path):
    imported = read_redocred(shared_data / "re_docred")
    assert list(imported.summary_lines())[1].split() == ["dev", "en", "500", "13,153", "9,683", "17,276", "0", "0"]
    raw = json.loads((shared_data / "re_docred/data/dev_revised.json").read_text(encoding="utf-8"))
    out = [left.what for left in imported.left_out]
    assert 13153 + out.count("mention") == sum(len(entity) for d in raw for entity in d["vertexSet"])
    assert 9683 + out.count("chain") == sum(len(d["vertexSet"]) for d in raw)
    assert 17276 + out.count("relation") == sum(len(d["labels"]) for d in raw)
    assert len(imported.labels.relations) == 96
    assert all(label.en for label in imported.labels.relations)
    write_corpus(tmp_path / "corpus", imported)
    assert list(check(tmp_path / "corpus").lines())[-1] == "0 problems, 0 warnings"
