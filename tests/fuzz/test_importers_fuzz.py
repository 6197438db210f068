"""Files of other tools with anything wrong in them: an import is sound, or fails with one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from m3dllm.corpora.auto import guess
from m3dllm.corpora.imported import Imported
from m3dllm.corpora.importers import find_importer
from m3dllm.corpora.native import load_corpus, write_corpus
from m3dllm.errors import UserError
from tests.corpora.mutations import mutated
from tests.corpora.voc import voc

TEXT = "🎬 Ada met Bo ."
SPANS = [{"start": 2, "end": 5, "label": "PER"}, {"start": 10, "end": 12, "label": "PER"}]
JSON: dict[str, Any] = {
    "label-studio": [
        {
            "id": 1,
            "data": {"text": TEXT, "image": "a.png"},
            "annotations": [
                {
                    "result": [
                        {
                            "id": "a",
                            "type": "labels",
                            "value": {"start": 2, "end": 5, "text": "Ada", "labels": ["PER"]},
                        },
                        {"id": "b", "type": "labels", "value": {"start": 10, "end": 12, "labels": ["PER"]}},
                        {"type": "relation", "from_id": "a", "to_id": "b", "labels": ["met"], "direction": "right"},
                        {
                            "id": "r",
                            "type": "rectanglelabels",
                            "original_width": 9,
                            "original_height": 9,
                            "value": {
                                "x": 1,
                                "y": 1,
                                "width": 9,
                                "height": 9,
                                "rotation": 0,
                                "rectanglelabels": ["PER"],
                            },
                        },
                        {
                            "id": "v",
                            "type": "videorectangle",
                            "original_width": 9,
                            "original_height": 9,
                            "value": {
                                "sequence": [{"frame": 3, "x": 1, "y": 1, "width": 9, "height": 9}],
                                "labels": ["A"],
                            },
                        },
                    ]
                }
            ],
        }
    ],
    "label-studio-own": [
        {
            "data": {
                "id": "d",
                "lang": "zh",
                "text": TEXT,
                "tokens": [[2, 5]],
                "segments": [{"start": 0, "end": 5, "start_s": 0.0, "end_s": 1.5}],
                "frames": [
                    {"image": "a.png", "index": 3, "width": 9, "height": 9, "annotated": True, "time_s": 1.5},
                    {"image": "b.png", "index": 4, "width": 9, "height": 9, "annotated": False, "sha256": ""},
                ],
                "unannotated": ["relation"],
            },
            "predictions": [
                {
                    "result": [
                        {
                            "id": "r",
                            "type": "rectanglelabels",
                            "to_name": "frame_1",
                            "value": {"x": 1, "y": 1, "width": 9, "height": 9, "rectanglelabels": ["PER"]},
                        }
                    ]
                }
            ],
        }
    ],
    "coco": {
        "images": [
            {"id": 1, "file_name": "a/b.jpg", "width": 9, "height": 9, "document": "d", "frame": 3, "time_s": 1}
        ],
        "annotations": [{"image_id": 1, "category_id": 2, "bbox": [1, 1, 3, 3], "iscrowd": 0}],
        "categories": [{"id": 2, "name": "PER"}],
    },
    "doccano": {
        "id": 1,
        "text": TEXT,
        "entities": [
            {"id": 0, "start_offset": 2, "end_offset": 5, "label": "PER"},
            {"id": 1, "start_offset": 10, "end_offset": 12, "label": "PER"},
        ],
        "relations": [{"from_id": 0, "to_id": 1, "type": "met"}],
    },
    "prodigy": {
        "text": TEXT,
        "spans": SPANS,
        "relations": [{"head_span": SPANS[0], "child_span": SPANS[1], "label": "COREF"}],
        "answer": "accept",
        "meta": {"id": "a"},
    },
    "uima": {
        "%FEATURE_STRUCTURES": [
            {"%ID": 1, "%TYPE": "uima.cas.Sofa", "sofaString": TEXT},
            {"%ID": 2, "%TYPE": "x.NamedEntity", "begin": 3, "end": 6, "value": "PER"},
            {"%ID": 3, "%TYPE": "x.CoreferenceLink", "begin": 3, "end": 6, "@next": 3},
            {"%ID": 4, "%TYPE": "x.CoreferenceChain", "@first": 3},
            {"%ID": 5, "%TYPE": "x.Relation", "@Governor": 2, "@Dependent": 3, "value": "met"},
        ]
    },
    "mnre": {
        "token": ["Ada", "met", "Bo"],
        "h": {"name": "Ada", "pos": [0, 1]},
        "t": {"name": "Bo", "pos": [2, 3]},
        "img_id": "a.jpg",
        "relation": "/per/per/peer",
    },
}
TEXTS: dict[str, tuple[str, str]] = {
    "conll": ("a.conll", "# id = a\n-DOCSTART- O\nAda\tB-PER\nmet\tO\n\nIMGID:7\n苏\tS-PER\nX I-LOC\n"),
    "corefud": (
        "a.conllu",
        (
            "# newdoc id = a\n# global.Entity = eid-etype-head\n1-2\tdu\t_\t_\t_\t_\t_\t_\t_\t_\n"
            "1\tde\t_\t_\t_\t_\t_\t_\t_\tEntity=(e1-PER-1(e2[1/2]-LOC-1)|SpacesAfter=\\s\\n\n"
            "1.1\t_\t_\t_\t_\t_\t_\t_\t_\tEntity=(e3-PER-1)\n2\tle\t_\t_\t_\t_\t_\t_\t_\tEntity=e1)(e2[2/2]-LOC-1)\n"
        ),
    ),
    "voc": ("a.xml", voc("a.jpg", ("PER", 1, 1, 9, 9), ("LOC", 5, 5, 20, 30))),
    "cvat": (
        "a.xml",
        (
            "<annotations><meta><task><mode>interpolation</mode><start_frame>1</start_frame><stop_frame>3</stop_frame>"
            "<original_size><width>9</width><height>9</height></original_size></task></meta>"
            '<track id="0" label="PER"><box frame="2" outside="0" xtl="1" ytl="1" xbr="3" ybr="3"/></track>'
            '<image id="0" name="b.png" width="9" height="9"><box label="A" xtl="1" ytl="1" xbr="3" ybr="3"/></image>'
            "</annotations>"
        ),
    ),
    "elan": (
        "a.eaf",
        (
            '<ANNOTATION_DOCUMENT><TIME_SLOT TIME_SLOT_ID="a" TIME_VALUE="1"/>'
            '<TIME_SLOT TIME_SLOT_ID="b" TIME_VALUE="5"/>'
            '<TIER TIER_ID="t"><ANNOTATION><ALIGNABLE_ANNOTATION TIME_SLOT_REF1="a" TIME_SLOT_REF2="b">'
            "<ANNOTATION_VALUE>Ada</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION></TIER></ANNOTATION_DOCUMENT>"
        ),
    ),
}
SUFFIXES = {"parquet": "parquet", "gmner": "txt", "mnre": "txt", "doccano": "jsonl", "prodigy": "jsonl"}
QUICK = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=60)


def is_sound(name: str, file: Path, folder: Path) -> None:
    """Import the file; what comes in can be written and loaded again."""
    for read in (find_importer(name.removesuffix("-own")).read, guess):
        try:
            imported = read(file)
        except UserError:
            continue
        if isinstance(imported, Imported):
            assert list(imported.summary_lines())
            write_corpus(folder / "corpus", imported)
            load_corpus(folder / "corpus")


@pytest.mark.parametrize("name", sorted(JSON))
@QUICK
@given(found=st.data())
def test_json_with_anything_in_any_place(name, found, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    file = folder / ("a.json" if name.startswith(("label", "coco", "uima")) else "a.jsonl")
    value = found.draw(mutated(JSON[name]))
    file.write_text(json.dumps(value, ensure_ascii=found.draw(st.booleans())), encoding="utf-8")
    is_sound(name, file, folder)


@pytest.mark.parametrize("name", sorted(TEXTS))
@QUICK
@given(found=st.data())
def test_texts_with_parts_taken_out_doubled_or_overwritten(name, found, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    file_name, text = TEXTS[name]
    for _ in range(found.draw(st.integers(1, 3))):
        start, end = sorted(found.draw(st.lists(st.integers(0, len(text)), min_size=2, max_size=2)))
        new = found.draw(
            st.sampled_from(["", text[start:end] * 2, "\t", "\n", "-1", "1e999", "\x00", "é", ")", "<a>", "|"])
        )
        text = text[:start] + new + text[end:]
    (folder / file_name).write_text(text, encoding="utf-8")
    is_sound(name, folder / file_name, folder)


@pytest.mark.parametrize("name", [*sorted(JSON.keys() - {"label-studio-own"}), *sorted(TEXTS), "parquet", "gmner"])
@pytest.mark.parametrize("data", [b"", b"\x00" * 9, b"\xff\xfe[\x00", b"[" * 100_000, b"null", b"PK\x03\x04"])
def test_bytes_of_something_else_are_one_line(name, data, tmp_path):
    file = tmp_path / (TEXTS[name][0] if name in TEXTS else f"a.{SUFFIXES.get(name, 'json')}")
    file.write_bytes(data)
    with pytest.raises(UserError) as error:
        find_importer(name).read(file)
    assert len(str(error.value)) < 1000
