"""JSON files of documents are read in whatever shape they were written, or named for what they are."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from m3dllm.corpora.check import check
from m3dllm.corpora.documents import HALVES, read_documents
from m3dllm.corpora.imported import Imported
from m3dllm.corpora.m3d import read_m3d
from m3dllm.corpora.native import load_corpus
from m3dllm.corpora.redocred import read_redocred
from m3dllm.errors import UserError
from m3dllm.files import decode_text
from m3dllm.keys import repeated_keys
from m3dllm.labels import LabelSet
from tests.small import small_corpus

ADA = {
    "title": "Ada",
    "sents": [["Ada", "met", "Bo"]],
    "vertexSet": [
        [{"type": "PER", "sent_id": 0, "pos": [0, 1], "name": "Ada"}],
        [{"type": "PER", "sent_id": 0, "pos": [2, 3], "name": "Bo"}],
    ],
    "labels": [{"h": 0, "t": 1, "r": "P26", "evidence": []}],
}
BELA = ADA | {"title": "Bela"}
BOTH = [ADA, BELA]
SHAPES = {
    "a list": json.dumps(BOTH),
    "a list for people": json.dumps(BOTH, indent=2),
    "JSON Lines": "\n".join(map(json.dumps, BOTH)) + "\n",
    "JSON Lines with CR LF": "\r\n".join(map(json.dumps, BOTH)),
    "objects for people, one after another": "\n".join(json.dumps(one, indent=2) for one in BOTH),
    "columns": json.dumps({key: [one[key] for one in BOTH] for key in ADA}),
    "numbered columns": json.dumps({key: {str(i): one[key] for i, one in enumerate(BOTH)} for key in ADA}),
    "a byte-order mark": "\ufeff" + json.dumps(BOTH),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("what", SHAPES)
def test_documents_are_read_in_every_shape(what, packed, tmp_path):
    data = SHAPES[what].encode()
    (tmp_path / "train.json").write_bytes(gzip.compress(data) if packed else data)
    imported = read_redocred(tmp_path)
    assert [example.document.id for example in imported.splits["train"]] == ["Ada", "Bela"]


@pytest.mark.parametrize("what", ["JSON Lines", "columns", "numbered columns"])
def test_another_shape_than_a_list_is_named(what, tmp_path):
    (tmp_path / "train.json").write_text(SHAPES[what])
    assert [remark.what for remark in read_redocred(tmp_path).remarks] == ["file"]


@pytest.mark.parametrize("name", ["train.json.gz", "train.jsonl", "TRAIN.JSON", "train.jsonl.gz"])
def test_files_are_found_by_any_of_their_names(name, tmp_path):
    data = SHAPES["JSON Lines"].encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    assert list(read_redocred(tmp_path).splits) == ["train"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (json.dumps(ADA).encode() + b'\n{"b": ', r"train\.json:2: is JSON Lines, and this is not valid JSON"),
        (b"\x1f\x8bjunk", r"train\.json: is gzipped and damaged"),
        (json.dumps(BOTH).encode("utf-16-le"), "is UTF-16 without a byte-order mark; expected UTF-8"),
        (json.dumps(BOTH).encode("utf-16-be"), "is UTF-16 without a byte-order mark; expected UTF-8"),
        (b'{"data": [1]}', "is not a JSON list but an object; expected a list of documents"),
    ],
)
def test_what_is_no_list_of_documents_is_named_for_what_it_is(data, message, tmp_path):
    (tmp_path / "train.json").write_bytes(data)
    with pytest.raises(UserError, match=message):
        read_redocred(tmp_path)


@pytest.mark.parametrize(("encoding", "name"), [("gb18030", "GBK"), ("utf-16-le", "UTF-16"), ("utf-16-be", "UTF-16")])
def test_chinese_text_in_another_encoding_is_named(encoding, name):
    with pytest.raises(UserError, match=rf"is not UTF-8: save the file as UTF-8 \(it looks like {name}\)"):
        decode_text("苏珊出生在北京，她很高兴。".encode(encoding), Path("d.txt"))


@pytest.mark.parametrize("data", ["Ada", "苏珊", "a\0b", "", "é"])
def test_text_in_utf_8_is_not_taken_for_another(data):
    assert decode_text(data.encode(), Path("d.txt")) == data


# --- names of splits --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "split"),
    [("valid", "dev"), ("val", "dev"), ("Test", "test"), ("DEV_revised", "dev"), ("validation", "dev")],
)
def test_files_of_docred_are_splits_by_any_of_their_names(name, split, tmp_path):
    (tmp_path / f"{name}.json").write_text(json.dumps(BOTH))
    assert list(read_redocred(tmp_path).splits) == [split]


def test_a_file_of_no_split_is_left_out_by_name(tmp_path):
    for name in ("train", "holdout"):
        (tmp_path / f"{name}.json").write_text(json.dumps(BOTH))
    (tmp_path / "rel_info.json").write_text('{"P26": "spouse"}')
    assert [(left.what, left.where) for left in read_redocred(tmp_path).left_out] == [("file", "holdout.json")]


M3D = {"doc": "Ada met", "entityLink": {"L0": {"link": [{"type": "PER", "start": 0, "end": 1, "text": "Ada"}]}}}


@pytest.mark.parametrize(
    ("name", "split"),
    [("valid_en.json", "dev"), ("Test_EN.JSON", "test"), ("dev_en.json.gz", "dev"), ("extra_en.jsonl", "extra")],
)
def test_files_of_m3d_are_splits_by_any_of_their_names(name, split, tmp_path):
    data = json.dumps(M3D).encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    assert list(read_m3d(tmp_path).splits) == [split]


# --- nothing vanishes -------------------------------------------------------------------------------------------------


def details(imported) -> list[tuple[str, str]]:
    return [(left.what, left.where) for left in imported.details]


def test_evidence_is_counted(tmp_path):
    (tmp_path / "dev.json").write_text(json.dumps([ADA | {"labels": [ADA["labels"][0] | {"evidence": [0]}]}]))
    imported = read_redocred(tmp_path)
    assert details(imported) == [("key 'evidence'", "dev.json: $[0].labels[0].evidence")]
    assert "nothing was skipped" not in list(imported.summary_lines())


@pytest.mark.parametrize(
    ("odd", "place"),
    [
        (ADA | {"note": "x"}, "$[0].note"),
        (ADA | {"labels": [ADA["labels"][0] | {"sure": True}]}, "$[0].labels[0].sure"),
        (ADA | {"vertexSet": [[ADA["vertexSet"][0][0] | {"x": 1}], ADA["vertexSet"][1]]}, "$[0].vertexSet[0][0].x"),
    ],
)
def test_unknown_keys_of_docred_are_counted(odd, place, tmp_path):
    (tmp_path / "dev.json").write_text(json.dumps([odd]))
    assert details(read_redocred(tmp_path)) == [(f"key '{place.rpartition('.')[2]}'", f"dev.json: {place}")]


def test_unknown_keys_of_m3d_are_counted(tmp_path):
    chain = {"link": [M3D["entityLink"]["L0"]["link"][0] | {"b": 1}], "a": 1}
    (tmp_path / "dev_en.json").write_text(json.dumps([M3D | {"entityLink": {"L0": chain}, "c": 1}]))
    found = [where for _, where in details(read_m3d(tmp_path))]
    assert found == [f"dev_en.json: $[0].{place}" for place in ("entityLink.L0.link[0].b", "entityLink.L0.a", "c")]


REPEATED = {
    '{"a": 1, "a": 2}': ["$.a"],
    '[{"a": {"b": 1, "c": [{"d": 1, "d": 2}], "b": 2}}]': ["$[0].a.b", "$[0].a.c[0].d"],
    '{"a:b": "c:d", "e": "\\"f\\": 1"}': [],
    '{"a": 1, "\\u0061": 2}': ["$.a"],
}


@pytest.mark.parametrize("text", REPEATED)
def test_repeated_keys_are_found_where_they_stand(text):
    assert repeated_keys(text.encode(), json.loads(text)) == REPEATED[text]


def test_a_colon_written_as_an_escape_hides_no_repeated_key():
    text = r'{"a": 1, "a": "\u003a"}'
    assert repeated_keys(text.encode(), json.loads(text)) == ["$.a"]


def test_a_chain_that_stands_twice_is_counted(tmp_path):
    text = json.dumps([M3D]).replace('"L0": ', '"L0": {"link": []}, "L0": ')
    (tmp_path / "dev_en.json").write_text(text)
    assert [(left.what, left.where) for left in read_m3d(tmp_path).left_out] == [
        ("key", "dev_en.json: $[0].entityLink.L0")
    ]


# --- the native corpus ------------------------------------------------------------------------------------------------


@pytest.fixture
def corpus(tmp_path):
    return small_corpus(tmp_path / "c", train=2, dev=0, test=0)


def test_the_suffix_of_a_split_may_stand_in_any_case(corpus):
    (corpus / "train.jsonl").rename(corpus / "train.JSONL")
    assert list(load_corpus(corpus).splits) == ["train"]


@pytest.mark.parametrize("name", ["dev.jsonl.gz", "dev.json", "train.jsonl.bak"])
def test_check_names_a_file_that_nobody_reads(name, corpus):
    (corpus / name).write_text("{}")
    assert [Path(warning.file).name for warning in check(corpus).warnings] == [name]


def test_two_files_of_one_split_are_refused(corpus):
    (corpus / "train.JSONL").write_bytes((corpus / "train.jsonl").read_bytes())
    with pytest.raises(UserError, match="again: keep one of them"):
        load_corpus(corpus)


def test_a_key_that_stands_twice_is_a_problem(corpus):
    file = corpus / "train.jsonl"
    file.write_text(file.read_text().replace('"lang":', '"lang":"zh","lang":', 1))
    assert [problem.place for problem in check(corpus).problems] == ["$.lang"]


def test_a_list_on_one_line_is_one_problem_that_says_so(corpus):
    file = corpus / "train.jsonl"
    file.write_text(f"[{', '.join(file.read_text().splitlines())}]")
    (problem,) = check(corpus).problems
    assert problem.message.startswith("is a JSON list; expected JSON Lines: write each document on one line")


@pytest.mark.parametrize("indent", [1, 4])
def test_json_over_several_lines_is_one_problem_that_says_so(indent, corpus):
    file = corpus / "train.jsonl"
    file.write_text(json.dumps(json.loads(file.read_text().splitlines()[0]), indent=indent))
    (problem,) = check(corpus).problems
    assert "is JSON over several lines; expected JSON Lines" in problem.message
    with pytest.raises(UserError, match="is JSON over several lines; expected JSON Lines"):
        load_corpus(corpus)


@pytest.mark.parametrize(
    ("pack", "message"),
    [(gzip.compress, "is gzipped"), (lambda data: data.decode().encode("utf-16-le"), "is UTF-16 without")],
)
def test_a_split_in_another_form_is_named(pack, message, corpus):
    file = corpus / "train.jsonl"
    file.write_bytes(pack(file.read_bytes()))
    with pytest.raises(UserError, match=message):
        load_corpus(corpus)
    assert [problem.message.startswith(message) for problem in check(corpus).problems] == [True]


# --- check and split --------------------------------------------------------------------------------------------------


def m3dllm(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "m3dllm", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).resolve().parents[2])


def test_the_report_of_check_names_every_problem(corpus, tmp_path):
    file = corpus / "train.jsonl"
    file.write_text(file.read_text() * 5)
    done = m3dllm("check", corpus, "--report", tmp_path / "report.json")
    assert (done.returncode, len(json.loads((tmp_path / "report.json").read_text())["problems"])) == (2, 8)


@pytest.mark.parametrize("grouped", [True, False])
def test_split_warns_where_no_document_has_a_group(grouped, corpus, tmp_path):
    file = corpus / "train.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    named = [line | {"group": f"g{i}" if grouped else ""} for i, line in enumerate(lines)]
    file.write_text("\n".join(map(json.dumps, named)))
    done = m3dllm("split", corpus, "--out", tmp_path / "s", "--ratio", "1:1:0")
    assert (done.returncode, "no document has a group" in done.stderr) == (0, not grouped)


def test_the_byte_order_marks_of_joined_files_are_passed_over(tmp_path):
    (tmp_path / "a.jsonl").write_text("\ufeff{}\n\ufeff{}\n", encoding="utf-8")
    rows = read_documents(tmp_path / "a.jsonl", Imported(LabelSet()), keys=("text",))
    assert [(row.value, row.line) for row in rows] == [({}, 1), ({}, 2)]


@pytest.mark.parametrize("shape", ["%s", "[%s]", "%s\n%s", "[%s, %s]"])
def test_a_half_of_a_character_is_replaced_and_counted(shape, tmp_path):
    row = '{"text": "Ada \\ud83d", "label": [[0, 3, "PER"]]}'
    (tmp_path / "a.json").write_text(shape.replace("%s", row))
    notes = Imported(LabelSet())
    rows = list(read_documents(tmp_path / "a.json", notes, keys=("text",), lines=True))
    assert {row.value["text"] for row in rows} == {"Ada �"}
    assert [(one.what, one.why) for one in notes.changed] == [("text", HALVES)] * len(rows)
