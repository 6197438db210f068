"""A guess at the format, printed and obeyed."""

from __future__ import annotations

import bz2
import gzip
import logging
import lzma
from pathlib import Path

import pytest

from m3dllm.corpora.auto import guess, read_auto
from m3dllm.errors import UserError
from m3dllm.export import export
from tests.small import small_corpus


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("a.ann", "T1\tPER 0 3\tAda\n", "brat"),
        ("a.conllu", "", "corefud"),
        ("a.txt", "IMGID:7\nAda\tB-PER\n", "conll"),
        ("a.conll", "Ada NNP B-PER\n", "conll"),
        ("a.txt", "{'token': ['a'], 'h': {}}\n", "mnre"),
        ("a.json", '{"images": [], "annotations": [], "categories": []}', "coco"),
        ("a.json", '[{"id": 1, "data": {}, "annotations": []}]', "label-studio"),
        ("a.json", '[{"vertexSet": [], "sents": []}]', "redocred"),
        ("a.json", '{"%FEATURE_STRUCTURES": []}', "uima"),
        ("a.json", '{"version": "5.1.1", "shapes": [], "imagePath": "a.jpg"}', "labelme"),
        ("a.jsonl", '{"text": "Ada", "label": []}\n', "doccano"),
        ("a.jsonl", '{"text": "Ada", "spans": [], "_input_hash": 3}\n', "prodigy"),
        ("a.xml", '<?xml version="1.0"?>\n<annotations>', "cvat"),
        ("a.xml", "<annotation>", "voc"),
        ("a.eaf", "", "elan"),
    ],
)
def test_files_tell_their_format(tmp_path, name, text, found):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert guess(tmp_path)[0] == guess(tmp_path / name)[0] == found


def test_labelme_files_beside_those_of_another_format_are_its_boxes(tmp_path):
    (tmp_path / "a.json").write_text('{"shapes": [], "imagePath": "a.jpg"}', encoding="utf-8")
    (tmp_path / "b.json").write_text('[{"vertexSet": [], "sents": []}]', encoding="utf-8")
    assert guess(tmp_path)[0] == "redocred"


def test_the_guess_is_printed_and_obeyed(tmp_path, caplog):
    (tmp_path / "train.conll").write_text("Ada\tB-PER\n", encoding="utf-8")
    with caplog.at_level(logging.INFO):
        imported = read_auto(tmp_path)
    assert "read as conll, for train.conll has one token and its tag per line" in caplog.text
    assert len(imported.splits["train"]) == 1


@pytest.mark.parametrize("name", ["brat", "coco", "conll", "corefud", "label-studio", "parquet"])
def test_what_is_exported_is_known_again(tmp_path, name):
    if name == "parquet":
        pytest.importorskip("pyarrow", reason="needs the extra 'parquet'")
    export(name, small_corpus(tmp_path / "corpus", train=2, dev=0, test=0), tmp_path / "out")
    assert guess(tmp_path / "out")[0] == name


def test_what_cannot_be_told_is_named(tmp_path):
    (tmp_path / "a.md").write_text("words")
    (tmp_path / "b.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match=r"no format that is recognized \(its files: \.json, \.md\)"):
        guess(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        guess(tmp_path / "nothing")
    with pytest.raises(UserError, match="is already a native corpus"):
        guess(small_corpus(tmp_path / "corpus", train=1, dev=0, test=0))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("twitter", "conll"),
        ("mnre", "mnre"),
        ("gmner/Twitter10000_v2.0", "gmner"),
        ("m3d", "m3d"),
        ("re_docred", "redocred"),
        ("litbank", "brat"),
        ("cvat_datumaro_assets/tests/assets/cvat_dataset/for_video", "cvat"),
        ("cvat_datumaro_assets/tests/assets/voc_dataset/voc_dataset1", "voc"),
        ("cvat_datumaro_assets/tests/assets/coco_dataset", "coco"),
        ("cvat_datumaro_assets/tests/assets/yolo_dataset/yolo", "yolo-dataset"),
        ("label_studio/tests/custom/converter/data/test_export_yolo", "label-studio"),
        ("doccano/backend/data_import/tests/data/relation_extraction", "doccano"),
    ],
)
def test_the_real_sets_are_known(shared_data, name, found):
    assert guess(Path(shared_data / name))[0] == found


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (gzip.compress(b'[{"text": "Ada", "label": []}]'), "is gzipped: unpack it; or name its format"),
        (b"PK\x03\x04 and more", "is a zip archive: unpack it; or name its format"),
        (bz2.compress(b"{}"), "is packed by bzip2: unpack it"),
        (lzma.compress(b"{}"), "is packed by xz: unpack it"),
        (b"\x28\xb5\x2f\xfd and more", "is packed by zstd: unpack it"),
        (b"7z\xbc\xaf\x27\x1c and more", "is a 7z archive: unpack it"),
        (b"a.txt".ljust(257, b"\0") + b"ustar\x0000", "is a tar archive: unpack it"),
        ('[{"text": "Ada", "label": []}]'.encode("utf-16-le"), "is UTF-16 without a byte-order mark"),
    ],
    ids=["gzip", "zip", "bzip2", "xz", "zstd", "7z", "tar", "utf-16"],
)
def test_a_file_that_is_packed_or_in_another_encoding_is_named_for_that(data, why, tmp_path):
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(UserError, match=why):
        guess(tmp_path)
