"""The released layout of M3D comes in whole, or says what did not."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from m3dllm.corpora.check import check
from m3dllm.corpora.imported import Imported
from m3dllm.corpora.m3d import direct, m3d_labels, read_m3d, token_offsets
from m3dllm.corpora.native import write_corpus
from m3dllm.errors import UserError
from m3dllm.types import Chain, Mention, Relation, Segment
from tests.corpora.m3d_release import EN, ZH, changed, clip, left_out, one, release, texts
from tests.corpora.mutations import mutated
from tests.small import png

# --- labels -----------------------------------------------------------------------------------------------------------


def test_the_label_set_has_34_relations_each_glossed_in_both_languages():
    labels = m3d_labels()
    assert (len(labels.mentions), len(labels.regions), len(labels.relations)) == (4, 3, 34)
    every = (*labels.mentions, *labels.regions, *labels.relations)
    assert all(label.en and label.zh for label in every)
    assert len({label.en for label in labels.relations}) == len({label.zh for label in labels.relations}) == 34


def test_the_name_of_a_relation_says_what_it_joins():
    for label in m3d_labels().relations:
        head, tail = label.name.split("_")[0].split("-")
        assert (label.head, label.tail) == ((head,), (tail,))


def test_eight_relations_are_symmetric_and_join_one_type():
    symmetric = [label for label in m3d_labels().relations if label.symmetric]
    assert len(symmetric) == 8
    assert all(label.head == label.tail for label in symmetric)


def test_the_names_are_those_of_the_paper(shared_data):
    types = json.loads((shared_data / "m3d/relation_types.json").read_text(encoding="utf-8"))
    assert {t["name"] for t in types["relation_types"]} == m3d_labels().names("relations")
    theirs = {gloss for t in types["relation_types"] for gloss in (t["en"], t["zh"])}
    assert not theirs & {gloss for label in m3d_labels().relations for gloss in (label.en, label.zh)}


# --- documents --------------------------------------------------------------------------------------------------------


def test_english_offsets_count_words(tmp_path):
    example = one(read_m3d(release(tmp_path, en=[EN])))
    assert texts(example) == {"L0": ["Ada", "Ada"], "L1": ["Ada 's father"], "L2": ["Leeds"], "L3": ["1934"]}
    assert example.document.tokens[:3] == ((0, 3), (4, 6), (7, 13))


def test_chinese_offsets_count_characters(tmp_path):
    example = one(read_m3d(release(tmp_path, zh=[ZH])))
    assert texts(example) == {"L0": ["苏珊", "苏珊"], "L1": ["乔治"]}
    assert example.document.tokens == tuple((i, i + 1) for i in range(12))


@given(words=st.lists(st.text("ab苏🎬", max_size=3), min_size=1, max_size=8))
def test_word_offsets_are_those_of_split(words):
    text = " ".join(words)
    starts, ends = token_offsets(text, "en")
    if text:
        assert [text[s:e] for s, e in zip(starts, ends, strict=True)] == text.split(" ")


def test_segments_lie_where_their_sentences_stand(tmp_path):
    assert one(read_m3d(release(tmp_path, en=[EN]))).document.segments == (
        Segment(0, 42, 0.0, 4.0),
        Segment(43, 55, 4.0, 6.5),
    )
    assert one(read_m3d(release(tmp_path / "zh", zh=[ZH]))).document.segments == (
        Segment(0, 7, 0.0, 8.0),
        Segment(7, 12, 7.0, 17.0),
    )


def test_a_sentence_said_twice_is_two_segments(tmp_path):
    twice = changed(EN, doc="No . No .", time_sent_pair={"0-1": "No .", "1-2": "No ."}, entityLink={}, relation=[])
    segments = one(read_m3d(release(tmp_path, en=[twice]))).document.segments
    assert [(s.start, s.end) for s in segments] == [(0, 4), (5, 9)]


def test_relations_of_two_types_begin_with_the_type_that_is_named_first(tmp_path):
    assert one(read_m3d(release(tmp_path, en=[EN]))).gold.relations == (
        Relation("L1", "L0", "PER-PER_parents"),
        Relation("L1", "L2", "PER-LOC_leave_for"),
    )


@pytest.mark.parametrize(
    ("name", "types", "head"),
    [
        ("PER-LOC_birth", ("LOC", "PER"), "link2"),
        ("PER-LOC_birth", ("PER", "LOC"), "link1"),
        ("PER-LOC_birth", ("ORG", "TIME"), "link2"),
        ("LOC-LOC_contain", ("LOC", "LOC"), "link1"),
        ("knows", ("PER", "LOC"), "link1"),
    ],
)
def test_the_head_of_a_relation(name, types, head):
    chains = [Chain(f"link{i}", (Mention(0, 1, kind),)) for i, kind in enumerate(types, start=1)]
    assert direct(name, *chains).head == head


def test_documents_of_both_languages_share_a_split_but_no_group(tmp_path):
    same_title = changed(ZH, video_title=EN["video_title"])
    imported = read_m3d(release(tmp_path, en=[EN], zh=[same_title]))
    assert [e.document.group for e in imported.splits["dev"]] == ["en:Ada 's life", "zh:Ada 's life"]


def test_a_duplicate_id_is_made_unique_and_named(tmp_path):
    imported = read_m3d(release(tmp_path, en=[EN, EN], zh=[ZH]))
    assert [e.document.id for e in imported.splits["dev"]] == ["video_1_2", "video_1_2-en", "video_1_2-zh"]
    assert [(c.what, c.why) for c in imported.changed] == [("document", "its video_id appears twice: renamed")] * 2


def test_a_missing_video_is_named_by_its_position(tmp_path):
    documents = [EN, changed(EN, video_id="", video_title="")]
    assert one(read_m3d(release(tmp_path, en=documents)), 1).document.id == "en-dev-1"
    assert one(read_m3d(release(tmp_path, en=documents)), 1).document.group == ""


def test_without_a_title_the_clips_of_a_video_share_a_group(tmp_path):
    clips = [changed(EN, video_title="", video_id=f"video_1_{i}") for i in (2, 13)]
    assert [e.document.group for e in read_m3d(release(tmp_path, en=clips)).splits["dev"]] == ["en:video_1"] * 2


def test_an_id_that_leads_out_of_a_folder_is_replaced_and_named(tmp_path):
    imported = read_m3d(release(tmp_path, en=[changed(EN, video_id="../../x")]))
    assert one(imported).document.id == "en-dev-0"
    assert imported.changed[0].why == "its video_id is not a valid id: renamed"


def test_a_document_without_text_keeps_its_frames(tmp_path):
    silent = changed(EN, doc="", time_sent_pair={}, entityLink={}, relation=[])
    example = one(read_m3d(clip(release(tmp_path, en=[silent]), f24_png=png(), f24_txt="PER 0.5 0.5 0.5 0.5")))
    assert (example.document.text, example.document.tokens, example.document.segments) == ("", (), ())
    assert len(example.gold.regions) == 1


def test_the_three_official_splits_are_read_in_order(tmp_path):
    for split in ("test", "train", "dev"):
        release(tmp_path, split=split, en=[changed(EN, video_id=split)])
    assert list(read_m3d(tmp_path).splits) == ["train", "dev", "test"]


@pytest.mark.parametrize("part", ["", "data", "data/en", "data/en/dev_en.json"])
def test_a_release_its_data_folder_and_one_file_can_be_read(tmp_path, part):
    release(tmp_path, en=[EN])
    clip(tmp_path, f24_png=png())
    example = one(read_m3d(tmp_path / part))
    assert len(example.gold.chains) == 4
    assert [frame.index for frame in example.document.frames] == [24]


def test_a_file_of_another_name_is_a_split_of_that_name(tmp_path):
    (tmp_path / "my set.json").write_text(json.dumps([EN]))
    assert list(read_m3d(tmp_path / "my set.json").splits) == ["my_set"]


# --- what cannot come in ----------------------------------------------------------------------------------------------


def mention(**parts: Any) -> dict[str, Any]:
    """EN with one more chain of one mention, "Tom"."""
    tom = {"type": "PER", "start": 4, "end": 5, "text": "Tom", **parts}
    return changed(EN, entityLink={**EN["entityLink"], "L9": {"link": [tom], "type": "PER"}})


def relation(link1: str, link2: str, kind: str) -> dict[str, Any]:
    return changed(EN, relation=[*EN["relation"], {"link1": link1, "link2": link2, "type": kind}])


PLACE = "data/en/dev_en.json: $[0]"
GONE = ("chain", "none of its mentions is left", f"{PLACE}.entityLink.L9")
ODD = {
    "offset past the text": (
        mention(start=13, end=15),
        [
            ("mention", "its offsets are outside the text", f"{PLACE}.entityLink.L9.link[0]: 13 to 15 of 14"),
            GONE,
        ],
    ),
    "offsets backwards": (
        mention(start=5, end=4),
        [("mention", "its offsets are outside the text", f"{PLACE}.entityLink.L9.link[0]: 5 to 4 of 14"), GONE],
    ),
    "negative offset": (
        mention(start=-1, end=1),
        [("mention", "its offsets are outside the text", f"{PLACE}.entityLink.L9.link[0]: -1 to 1 of 14"), GONE],
    ),
    "another text": (
        mention(text="Tim"),
        [
            (
                "mention",
                "its text differs from the text at its offsets",
                f"{PLACE}.entityLink.L9.link[0]: 'Tim', the text has 'Tom'",
            ),
            GONE,
        ],
    ),
    "no type": (mention(type=""), [("mention", "it has no type", f"{PLACE}.entityLink.L9.link[0]"), GONE]),
    "mention twice": (
        mention(start=0, end=1, text="Ada"),
        [("mention", "its span is already a mention", f"{PLACE}.entityLink.L9.link[0]: 'Ada'"), GONE],
    ),
    "relation of no chain": (
        relation("L0", "L9", "PER-PER_peer"),
        [("relation", "it refers to a chain that does not exist", f"{PLACE}.relation[2]: L9")],
    ),
    "relation to itself": (
        relation("L0", "L0", "PER-PER_peer"),
        [("relation", "it joins a chain to itself", f"{PLACE}.relation[2]: L0")],
    ),
    "relation twice": (
        relation("L1", "L0", "PER-PER_parents"),
        [("relation", "it is a duplicate", f"{PLACE}.relation[2]: PER-PER_parents")],
    ),
    "relation without a type": (relation("L1", "L0", ""), [("relation", "it has no type", f"{PLACE}.relation[2]")]),
    "empty chain": (
        changed(EN, entityLink={**EN["entityLink"], "L9": {"link": []}}),
        [GONE],
    ),
    "time of a sentence": (
        changed(EN, time_sent_pair={"now": "Ada stayed .", "4-6": "Ada stayed ."}),
        [("segment", "its time is not 'start-end' in seconds", f"{PLACE}.time_sent_pair.now")],
    ),
    "time that runs backwards": (
        changed(EN, time_sent_pair={"6-4": "Ada stayed ."}),
        [("segment", "its time is not 'start-end' in seconds", f"{PLACE}.time_sent_pair.6-4")],
    ),
    "sentence of another text": (
        changed(EN, time_sent_pair={"0-4": "Ada went ."}),
        [("segment", "its sentence is not in the text", f"{PLACE}.time_sent_pair.0-4")],
    ),
}


@pytest.mark.parametrize("what", ODD)
def test_what_is_odd_is_left_out_by_name_and_the_rest_comes_in(what, tmp_path):
    source, expected = ODD[what]
    imported = read_m3d(release(tmp_path, en=[source]))
    assert left_out(imported) == expected
    assert len(one(imported).gold.chains) == 4
    assert len(one(imported).gold.relations) == 2


def test_a_type_that_m3d_does_not_have_is_added_to_the_labels_and_named(tmp_path):
    source = relation("L0", "L1", "PER-PER_rival")
    source["entityLink"] = {**mention(type="NICKNAME")["entityLink"]}
    imported = read_m3d(clip(release(tmp_path, en=[source]), f24_png=png(), f24_txt="CAR 0.5 0.5 0.5 0.5"))
    assert left_out(imported) == []
    assert "NICKNAME" in imported.labels.names("mentions")
    assert "CAR" in imported.labels.names("regions")
    rival = imported.labels.relation("PER-PER_rival")
    assert rival is not None
    assert (rival.head, rival.tail, rival.symmetric) == (("PER",), ("PER",), False)
    assert sorted(c.what for c in imported.changed) == ["mention type", "region type", "relation type"]
    assert "NICKNAME" not in m3d_labels().names("mentions")


BROKEN = {
    "broken JSON": (b'[{"doc": "Ada"', "dev_en.json: not valid JSON: Input data was truncated"),
    "no list": (b'{"docs": []}', "dev_en.json: is not a JSON list but an object; expected a list of documents"),
    "empty list": (b"[]", "dev_en.json: is an empty list; expected documents"),
    "empty file": (b"", "dev_en.json: not valid JSON"),
    "UTF-16": ("[]".encode("utf-16"), "dev_en.json: is UTF-16; expected UTF-8"),
    "wrong bytes": (b'[\n"\xff"]', "dev_en.json:2: byte 0xff is not UTF-8"),
    "deep nesting": (b"[" * 100_000, "dev_en.json: is nested too deeply"),
    "document that is none": ([EN, 5], "dev_en.json: $[1]: is a number; expected a document"),
    "no text": ([{k: v for k, v in EN.items() if k != "doc"}], "dev_en.json: $[0]: lacks the field 'doc'"),
    "no chains": ([{k: v for k, v in EN.items() if k != "entityLink"}], "$[0]: lacks the field 'entityLink'"),
    "offset that is a word": (
        [EN, mention(start="four")],
        "dev_en.json: $[1].entityLink.L9.link[0].start: Expected 'int', got 'str'",
    ),
    "relation without an end": ([changed(EN, relation=[{"link1": "L0"}])], "$[0].relation[0]: lacks the field 'link2'"),
    "another language": ([changed(EN, lang="fr")], "dev_en.json: $[0].lang: is 'fr'; expected 'en' or 'zh'"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_file_of_another_shape_is_one_clear_error(what, tmp_path):
    data, message = BROKEN[what]
    with pytest.raises(UserError) as error:
        read_m3d(release(tmp_path, en=data))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_mark_at_the_beginning_is_passed_over(tmp_path):
    data = b"\xef\xbb\xbf" + json.dumps([EN]).encode()
    assert len(read_m3d(release(tmp_path, en=data)).splits["dev"]) == 1


def test_a_language_left_out_is_that_of_the_file(tmp_path):
    assert one(read_m3d(release(tmp_path, zh=[changed(ZH, lang=None)]))).document.lang == "zh"
    (tmp_path / "x.json").write_text(json.dumps([changed(ZH, lang=None)]))
    with pytest.raises(UserError, match="is None; expected 'en' or 'zh'"):
        read_m3d(tmp_path / "x.json")


def test_a_path_without_documents_is_named(tmp_path):
    with pytest.raises(UserError, match="absent: does not exist; expected the M3D folder, or one of its JSON files"):
        read_m3d(tmp_path / "absent")
    with pytest.raises(UserError, match=re.escape("has no data/{lang}/{split}_{lang}.json")):
        read_m3d(tmp_path)


def test_the_summary_counts_what_came_in_and_names_what_did_not(tmp_path):
    imported = read_m3d(release(tmp_path, en=[changed(mention(text="Tim"), image=[]), changed(EN, image=[])]))
    tim = f"{PLACE}.entityLink.L9.link[0]: 'Tim', the text has 'Tom'"
    again = "data/en/dev_en.json: $[1].video_id: 'video_1_2' is 'video_1_2-en'"
    assert list(imported.summary_lines()) == [
        "split  lang  documents  mentions  chains  relations  regions  frames",
        "dev    en            2        10       8          4        0       0",
        f"skipped: 1 chain: none of its mentions is left ({PLACE}.entityLink.L9)",
        f"skipped: 1 mention: its text differs from the text at its offsets ({tim})",
        f"changed: 1 document: its video_id appears twice: renamed ({again})",
    ]
    assert list(read_m3d(release(tmp_path / "2", zh=[ZH])).summary_lines())[-1] == "nothing was skipped"


def test_the_summary_shows_the_first_places_of_many(tmp_path):
    imported = read_m3d(release(tmp_path, en=[changed(EN, image=list(range(1200)))]))
    line = list(imported.summary_lines(places=2))[2]
    assert line.startswith("skipped: 1,200 annotated frames: there is no img folder")
    assert line.endswith(f"({PLACE}.image: 0; {PLACE}.image: 1; and 1,198 more)")


# --- anything ---------------------------------------------------------------------------------------------------------


def survives(root: Path, tmp: Path) -> None:
    """Only an import that is a corpus without a problem, or a UserError, comes out."""
    with suppress(UserError):
        imported = read_m3d(root)
        assert any(imported.splits.values())
        assert all(line.isprintable() for line in imported.summary_lines())
        write_corpus(tmp / "corpus", imported)
        assert [str(p) for p in check(tmp / "corpus").problems] == []


@settings(suppress_health_check=list(HealthCheck), max_examples=150, deadline=None)
@given(en=mutated([EN, changed(EN, video_id="v_2")]), zh=mutated([ZH]), names=st.sampled_from(["video_1_2", "v_2"]))
def test_documents_broken_anywhere_come_in_or_are_named(en, zh, names, tmp_path_factory):
    tmp = tmp_path_factory.mktemp("m3d")
    root = clip(release(tmp / "m3d", en=en, zh=zh), names, f24_png=png(), f24_txt="PER 0.5 0.5 0.5 0.5")
    survives(root, tmp)


@settings(suppress_health_check=list(HealthCheck), max_examples=80, deadline=None)
@given(
    boxes=st.one_of(st.binary(max_size=40), st.text("PER LOC.0159-e\n nan inf", max_size=60)),
    image=st.one_of(st.binary(max_size=60), st.integers(0, 120).map(lambda n: png()[:n])),
    other=st.binary(max_size=60),
)
def test_any_bytes_in_boxes_images_and_documents_come_in_or_are_named(boxes, image, other, tmp_path_factory):
    tmp = tmp_path_factory.mktemp("m3d")
    root = clip(release(tmp / "m3d", en=[EN]), f24_png=png(), f24_txt=boxes, f48_png=image)
    survives(root, tmp)
    survives(release(tmp / "other", en=other), tmp / "2")


# --- the real documents -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(shared_data) -> Imported:
    return read_m3d(shared_data / "m3d")


def test_nothing_of_the_real_documents_is_lost(real):
    assert list(real.summary_lines())[:3] == [
        "split  lang  documents  mentions  chains  relations  regions  frames",
        "dev    en          205     3,457   1,885      1,388        0       0",
        "dev    zh          203     2,685   1,397        985        0       0",
    ]
    assert left_out(real) == []
    assert real.changed == []
    assert real.labels == m3d_labels()


def test_the_real_segments_cover_their_texts(real):
    for example in real.splits["dev"]:
        said = "".join(example.document.text[s.start : s.end] for s in example.document.segments)
        assert said.replace(" ", "") == example.document.text.replace(" ", "")


def test_every_real_relation_joins_the_types_of_its_name(real):
    for example in real.splits["dev"]:
        types = {chain.id: chain.type for chain in example.gold.chains}
        for r in example.gold.relations:
            assert r.type.split("_")[0] == f"{types[r.head]}-{types[r.tail]}"


def test_the_real_groups_are_the_source_videos(real):
    groups = {(e.document.lang, e.document.group) for e in real.splits["dev"]}
    assert sum(lang == "en" for lang, _ in groups) == 67
    assert sum(lang == "zh" for lang, _ in groups) == 78


def test_the_first_real_document(real):
    first = one(real)
    assert first.document.id == "video_114_39"
    assert first.document.segments[1] == Segment(168, 256, 11.0, 17.0)
    assert first.document.text[168:256] == (
        "His mother was the most glamorous creature . She had the most wonderful speaking voice ."
    )
