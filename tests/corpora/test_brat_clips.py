"""The BRAT importer: two languages, clips, files of anything at all, and the released corpora."""

from __future__ import annotations

import zipfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from m3dllm.corpora.brat import read_brat
from m3dllm.corpora.imported import Imported
from m3dllm.corpora.native import load_corpus, write_corpus
from m3dllm.errors import UserError
from m3dllm.types import Box
from tests.corpora.standoff import ANN, TEXT, chains, changed, left_out, one, pair, relations
from tests.small import png

# --- two languages ----------------------------------------------------------------------------------------------------

BOTH = "Ada left Arles.\n艾达离开了阿尔勒。\n"
BOTH_ANN = """\
T1\tPerson 0 3\tAda
T2\tPlace 9 14\tArles
T3\tPerson 16 18\t艾达
T4\tPlace 21 24\t阿尔勒
R1\tleft Arg1:T1 Arg2:T2
R2\tleft Arg1:T3 Arg2:T4
"""


def test_frames_beside_the_texts_that_nobody_asked_for_are_noted(tmp_path):
    folder = pair(tmp_path, BOTH, BOTH_ANN, name="9005")
    (folder / "frames/9005").mkdir(parents=True)
    (folder / "frames/9005/24.png").write_bytes(png())
    notes = [(one.why, one.where) for one in read_brat(folder).remarks]
    assert ("it may be a frame or its boxes: '--frames FOLDER' reads them", "frames/9005/24.png") in notes


def test_files_of_other_formats_are_counted(tmp_path):
    (tmp_path / "boxes.xml").write_text("<annotations/>", encoding="utf-8")
    imported = read_brat(pair(tmp_path, BOTH, BOTH_ANN))
    assert ("file", "it is not read: expected .ann and .txt files", "boxes.xml") in [
        (one.what, one.why, one.where) for one in imported.left_out
    ]


def test_a_text_in_two_languages_becomes_two_documents_of_one_group(tmp_path):
    imported = read_brat(pair(tmp_path, BOTH, BOTH_ANN, name="9005"), split_languages=True)
    english, chinese = imported.splits["train"]
    assert [(e.document.id, e.document.lang, e.document.group) for e in (english, chinese)] == [
        ("9005.en", "en", "9005"),
        ("9005.zh", "zh", "9005"),
    ]
    assert (english.document.text, chinese.document.text) == ("Ada left Arles.\n", "艾达离开了阿尔勒。\n")
    assert relations(english) == [("Ada", "left", "Arles")]
    assert relations(chinese) == [("艾达", "left", "阿尔勒")]
    assert imported.left_out == imported.changed == []


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("R3\tleft Arg1:T1 Arg2:T4", "relation"),
        ("R3\tCoref Arg1:T1 Arg2:T3", "relation"),
        ("*\tEquiv T1 T3", "equivalence"),
        ("T5\tPerson 9 18\tArles. 艾达", "mention"),
        ("T5\tA-0 0 3\tAda\nT6\tA-0 16 18\t艾达", "chain name"),
    ],
)
def test_what_crosses_from_one_language_to_the_other_is_left_out_by_name(tmp_path, line, what):
    imported = read_brat(pair(tmp_path, BOTH, BOTH_ANN + line), split_languages=True)
    assert left_out(imported) == [(what, "it crosses from one language to another")]


def test_an_equivalence_that_crosses_still_joins_within_each_language(tmp_path):
    imported = read_brat(pair(tmp_path, BOTH, BOTH_ANN + "*\tEquiv T1 T2 T3"), split_languages=True)
    assert chains(imported.splits["train"][0]) == {frozenset(("Ada", "Arles"))}


def test_lines_that_say_all_again_are_left_out_by_name(tmp_path):
    imported = read_brat(pair(tmp_path, BOTH + BOTH, BOTH_ANN), split_languages=True)
    assert [example.document.text for example in imported.splits["train"]] == BOTH.splitlines(keepends=True)
    assert [(left.what, left.where) for left in imported.left_out] == [("text", "d.txt: lines 3 to 4")]


def test_a_text_in_one_language_becomes_one_document_of_its_group(tmp_path):
    document = one(read_brat(pair(tmp_path), split_languages=True)).document
    assert (document.id, document.group) == ("d.en", "d")


def test_an_empty_text_to_be_split_becomes_one_document_by_name(tmp_path):
    imported = read_brat(pair(tmp_path, "", ""), split_languages=True)
    assert one(imported).document.id == "d.en"
    assert changed(imported) == [("document", "its language cannot be detected: read as English")]


def test_a_text_in_two_languages_that_is_not_split_is_named(tmp_path):
    imported = read_brat(pair(tmp_path, BOTH, BOTH_ANN))
    assert changed(imported) == [("document", "its text is in two languages: --split-languages splits it")]
    assert len(one(imported).gold.chains) == 4


# --- clips ------------------------------------------------------------------------------------------------------------


def clip(folder: Path, *, name: str = "d") -> Path:
    (folder / name).mkdir(parents=True)
    (folder / name / "24.png").write_bytes(png())
    (folder / name / "48.png").write_bytes(png())
    (folder / name / "24.txt").write_text("Person 0.5 0.5 0.5 0.5\nPlace 0.5 0.5 1 1\n")
    return folder


def test_both_languages_have_the_frames_and_the_regions(tmp_path):
    imported = read_brat(
        pair(tmp_path / "c", BOTH, BOTH_ANN), split_languages=True, frames=clip(tmp_path / "v"), boxes=tmp_path / "v"
    )
    english, chinese = imported.splits["train"]
    assert english.document.frames == chinese.document.frames
    assert [(frame.index, frame.annotated) for frame in english.document.frames] == [(24, True), (48, False)]
    assert english.gold.regions == chinese.gold.regions
    assert english.gold.regions[0].box == Box(0.25, 0.25, 0.75, 0.75)
    assert set(imported.images) == {"frames/d/24.png", "frames/d/48.png"}
    assert imported.labels.names("regions") == {"Person", "Place"}
    assert imported.left_out == []


def test_frames_may_stand_among_the_documents(tmp_path):
    imported = read_brat(pair(clip(tmp_path)), frames=tmp_path)
    assert len(one(imported).document.frames) == 2
    assert [region.type for region in one(imported).gold.regions] == ["Person", "Place"]
    assert imported.left_out == []


def test_the_only_document_does_not_take_the_texts_beside_it_for_boxes(tmp_path):
    pair(tmp_path, name="9005")
    (tmp_path / "24.png").write_bytes(png())
    imported = read_brat(tmp_path, frames=tmp_path)
    assert [frame.index for frame in one(imported).document.frames] == [24]
    assert imported.left_out == []


def test_a_document_without_frames_is_named(tmp_path):
    pair(tmp_path / "c")
    imported = read_brat(pair(tmp_path / "c", name="e"), frames=clip(tmp_path / "v"))
    assert left_out(imported) == [("clip", "there is no frame of the document")]
    assert imported.left_out[0].where == "e"


def test_yolo_names_come_as_a_list_or_a_file(tmp_path):
    pair(tmp_path / "c")
    clip(tmp_path / "v")
    (tmp_path / "v/d/24.txt").write_text("1 0.5 0.5 0.5 0.5\n")
    (tmp_path / "names.txt").write_text("PER\nLOC\n")
    for names in (["PER", "LOC"], tmp_path / "names.txt"):
        imported = read_brat(tmp_path / "c", frames=tmp_path / "v", yolo_names=names)
        assert [region.type for region in one(imported).gold.regions] == ["LOC"]


def test_an_import_is_written_and_loaded_again_as_it_was(tmp_path):
    pair(tmp_path / "c", BOTH + BOTH, BOTH_ANN)
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as packed:
        packed.writestr("d/24.png", png())
    imported = read_brat(tmp_path / "c", split_languages=True, frames=tmp_path / "d.zip")
    write_corpus(tmp_path / "new", imported)
    corpus = load_corpus(tmp_path / "new")
    assert [example.gold for example in corpus["train"]] == [example.gold for example in imported.splits["train"]]
    assert Path(corpus["train"][0].document.frames[0].path).read_bytes() == png()


# --- anything at all --------------------------------------------------------------------------------------------------

PIECES = (
    *(
        "T1",
        "T2",
        "T3",
        "T4",
        "T5",
        "R1",
        "R2",
        "E1",
        "*",
        "A1",
        "#1",
        "Arg1:T1",
        "Arg2:T2",
        "Arg2:T4",
        "Equiv",
        "Coref",
    ),
    *(
        "\t",
        "\t",
        "\t",
        " ",
        " ",
        "\n",
        "\n",
        ";",
        "0 3",
        "8 12",
        "16 21",
        "3 2",
        "99 103",
        "0 4;15 20",
        "Person",
        "X-1",
    ),
    *("Ada", "Bela", "苏珊", "\r\n", "\u2028", "\x00", "🎬", "same_mention", "knows"),
)
TEXTS = (TEXT, BOTH, BOTH + BOTH, "", "苏珊出生在北京。", "Ada\r\nBela\r\n", "\ufeffAda met Bela", "🎬 Ada", "\n \n")


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.one_of(st.sampled_from(TEXTS), st.text(max_size=40)),
    ann=st.lists(st.sampled_from((*PIECES, *ANN.splitlines(keepends=True), *BOTH_ANN.splitlines(keepends=True)))),
    split_languages=st.booleans(),
    repair_offsets=st.booleans(),
    discontinuous=st.sampled_from(["cover", "leave-out"]),
)
def test_any_lines_make_a_sound_document_and_every_line_is_accounted_for(tmp_path, text, ann, **options):
    pair(tmp_path, text, "".join(ann))
    imported = read_brat(tmp_path, **options)
    examples = imported.splits["train"]
    assert len(examples) == 1 or options["split_languages"]
    spans = [mention.span for example in examples for chain in example.gold.chains for mention in chain.mentions]
    lines = sum(bool(line.strip()) and line[0] == "T" for line in "".join(ann).split("\n"))
    gone = sum(left.what in ("mention", "chain name") for left in imported.left_out)
    named = sum("name of its chain" in left.why for left in imported.changed)
    crossing = sum(left.what == "chain name" and "crosses" in left.why for left in imported.left_out)
    assert len(spans) + gone + named - crossing == lines
    for example in examples:
        assert not list(imported.labels.unknown(example.gold))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.binary(max_size=30), ann=st.binary(max_size=60))
def test_any_bytes_are_imported_or_refused_in_one_line(tmp_path, text, ann):
    pair(tmp_path, text, ann)
    try:
        read_brat(tmp_path)
    except UserError as refused:
        problem = str(refused)
    else:
        problem = ""
    assert "\n" not in problem


# --- real corpora -----------------------------------------------------------------------------------------------------


def counted(imported: Imported) -> dict[tuple[str, str], int]:
    return dict(Counter(left_out(imported)))


@pytest.fixture(scope="module")
def news(shared_data: Path) -> Imported:
    samples = shared_data / "mdocre_samples/samples"
    return read_brat(
        samples / "text_label",
        text=samples / "text",
        split_languages=True,
        frames=samples / "video",
        boxes=samples / "video_label",
    )


def test_the_news_samples_come_in_both_languages_with_all_annotations(news):
    by_lang = {lang: [e for e in news.splits["train"] if e.document.lang == lang] for lang in ("en", "zh")}
    for examples in by_lang.values():
        assert [example.document.group for example in examples] == ["9005", "9009", "9053", "9111", "9131"]
        assert sum(len(list(example.gold.mentions)) for example in examples) == 51
        assert sum(len(example.gold.relations) for example in examples) == 68
        assert [len(example.gold.regions) for example in examples] == [5, 6, 7, 8, 9]
        assert [len(example.document.frames) for example in examples] == [109, 138, 7, 8, 9]
        assert [sum(frame.annotated for frame in e.document.frames) for e in examples] == [5, 6, 7, 8, 9]
    assert "我是faith Lapidus" in by_lang["zh"][0].document.text


def test_the_news_samples_lose_nothing_but_the_repeated_lines_and_three_readmes(news):
    assert counted(news) == {
        ("text", "it repeats the lines above, without annotations"): 5,
        ("file", "there is no .ann file with its name"): 1,
        ("file", "none of its parent folders has a document's name"): 2,
    }
    assert news.changed == []


def test_the_first_chains_of_the_news_samples_read_right(news):
    english, chinese = news.splits["train"][:2]
    assert chains(english) >= {frozenset(("Dubai-based tech firm", "Biagio", "it"))}
    assert chains(chinese) >= {frozenset(("总部位于迪拜的科技公司", "Biagio", "该公司"))}


def test_the_novels_have_their_chains_by_name(shared_data):
    imported = read_brat(shared_data / "litbank/brat")
    mentions = [m for example in imported.splits["train"] for m in example.gold.mentions]
    assert len(imported.splits["train"]) == 20
    assert len(mentions) == 5602
    assert len(imported.changed) == 5467
    assert counted(imported) == {("relation", "its chains already have it"): 1}
    assert not any("-" in mention.type for mention in mentions)


def test_the_chinese_texts_come_with_every_fault_named(shared_data):
    imported = read_brat(shared_data / "chinese_literature")
    assert sum(len(list(example.gold.mentions)) for example in imported.splits["train"]) == 3746
    assert Counter(changed(imported)) == {
        ("mention", "only white space separates its fragments: joined"): 85,
        ("mention", "its text differs in marks"): 2,
    }
    assert counted(imported) == {
        ("relation", "its chains already have it"): 1,
        ("file", "there is no .ann file with its name"): 1,
    }


def test_the_formats_own_examples_come_with_everything_else_counted(shared_data):
    imported = read_brat(shared_data / "brat/example-data")
    assert len(imported.splits["train"]) == 172
    counts = Counter(left.what for left in imported.left_out)
    assert (counts["event"], counts["attribute"], counts["note"], counts["normalization"]) == (700, 3802, 1173, 1)
    assert sum(len(example.gold.relations) for example in imported.splits["train"]) == 5786
    assert {left.why for left in imported.left_out if left.what == "mention"} == {
        "it is the trigger of an event",
        "its span is already a mention",
    }
