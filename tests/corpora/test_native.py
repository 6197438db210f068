"""The native corpus: what is written is read again, and the first thing that is wrong is named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from m3dllm.corpora.imported import Imported
from m3dllm.corpora.native import corpus_files, labels_of, load_corpus, to_imported, with_root, write_corpus
from m3dllm.errors import UserError
from m3dllm.labels import LabelSet
from m3dllm.types import Annotation, Chain, Document, Example, Mention, Relation, Video
from m3dllm.wire import WireError
from tests.small import LABELS, example, png, small_corpus
from tests.strategies import LABELS as WIDE_LABELS
from tests.strategies import examples

LINE = {
    "id": "a",
    "lang": "en",
    "text": "Ada met Bela",
    "gold": {
        "chains": [
            {"id": "c0", "mentions": [{"start": 0, "end": 3, "type": "PER"}]},
            {"id": "c1", "mentions": [{"start": 8, "end": 12, "type": "PER"}]},
        ],
        "relations": [{"head": "c0", "tail": "c1", "type": "PER-PER_couple"}],
    },
}


@pytest.fixture
def corpus(tmp_path) -> Path:
    return small_corpus(tmp_path / "corpus", train=3, dev=0, test=2)


def with_lines(folder: Path, *lines: object) -> Path:
    """A corpus whose train split has these lines: values, or text that stands as it is."""
    small_corpus(folder, train=0, dev=0, test=1)
    texts = [line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines]
    (folder / "train.jsonl").write_text("\n".join(texts) + "\n", encoding="utf-8")
    return folder


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(found=st.data())
def test_what_is_written_is_read_again(found, tmp_path_factory):
    made = [found.draw(examples(name=f"d{i}")) for i in range(found.draw(st.integers(1, 3)))]
    folder = tmp_path_factory.mktemp("corpora") / "corpus"
    write_corpus(folder, Imported(WIDE_LABELS, {"dev": made}))
    loaded = load_corpus(folder)
    assert to_imported(loaded).splits == {"dev": made}
    assert loaded.labels == WIDE_LABELS


def test_splits_are_loaded_in_the_order_train_dev_test_others(tmp_path):
    names = ("zulu", "test", "alpha", "dev", "train")
    write_corpus(tmp_path / "c", Imported(LABELS, {name: [example(name, "")] for name in names}))
    assert list(load_corpus(tmp_path / "c").splits) == ["train", "dev", "test", "alpha", "zulu"]


def test_frames_are_absolute_once_loaded(corpus):
    frame = load_corpus(corpus)["train"][0].document.frames[0]
    assert Path(frame.path) == corpus / "frames/train0/0.png"
    assert Path(frame.path).read_bytes() == png()


def test_hashes_are_of_the_files(corpus):
    before = load_corpus(corpus).hashes
    assert set(before) == {"labels.json", "train.jsonl", "test.jsonl"}
    (corpus / "test.jsonl").write_text((corpus / "test.jsonl").read_text(encoding="utf-8") + "\n", encoding="utf-8")
    after = load_corpus(corpus).hashes
    assert [name for name in before if before[name] != after[name]] == ["test.jsonl"]


def test_an_unknown_split_is_named_with_those_that_are_there(corpus):
    with pytest.raises(UserError, match="has no split 'dev'; it has train, test"):
        load_corpus(corpus)["dev"]


def test_a_mark_at_the_beginning_windows_line_ends_and_blank_lines_are_passed_over(tmp_path):
    folder = with_lines(tmp_path / "c", LINE)
    line = (folder / "train.jsonl").read_bytes().strip()
    (folder / "train.jsonl").write_bytes(b"\xef\xbb\xbf\r\n" + line + b"\r\n\r\n")
    (folder / "labels.json").write_bytes(b"\xef\xbb\xbf" + (folder / "labels.json").read_bytes())
    assert [e.document.id for e in load_corpus(folder)["train"]] == ["a"]


BROKEN_LINES = {
    "not json": ('{"id": "a"', "train.jsonl:1: not valid JSON"),
    "offset outside the text": (
        {**LINE, "text": "Ada met"},
        "train.jsonl:1: gold.chains[1].mentions[0] ends at 12; the text has 7 characters",
    ),
    "dangling relation": (
        {**LINE, "gold": {**LINE["gold"], "chains": LINE["gold"]["chains"][:1]}},
        "train.jsonl:1: $.gold: relations[0].tail refers to 'c1', which is neither a chain nor a region",
    ),
    "unknown type": (
        {**LINE, "gold": {"chains": [{"id": "c0", "mentions": [{"start": 0, "end": 3, "type": "X"}]}]}},
        "train.jsonl:1: $.gold.chains[0].mentions[0].type: unknown type 'X'; the label set has LOC, PER",
    ),
    "illegal box": (
        {
            **LINE,
            "frames": [{"index": 5, "path": "frames/5.png", "width_px": 64, "height_px": 48}],
            "gold": {"regions": [{"frame": 5, "box": [0.5, 0.5, 0.25, 0.75], "type": "PER"}]},
        },
        "train.jsonl:1: gold.regions[0] has an illegal box [0.5, 0.5, 0.25, 0.75]",
    ),
    "path out of the corpus": (
        {**LINE, "frames": [{"index": 5, "path": "../5.png", "width_px": 64, "height_px": 48}]},
        "train.jsonl:1: $.frames[0].path: path '../5.png' leads out of the folder",
    ),
    "video out of the corpus": (
        {**LINE, "video": {"path": "/films/a.mp4"}},
        "train.jsonl:1: $.video.path: path '/films/a.mp4' leads out of the folder",
    ),
    "video that runs backwards": (
        {**LINE, "video": {"path": "videos/a.mp4", "start_s": 5, "end_s": 4}},
        "train.jsonl:1: $.video: the stretch of the video runs backwards: 5.0 s to 4.0 s",
    ),
    "wrong type of a value": ({**LINE, "id": 5}, "train.jsonl:1: $.id: Expected 'str', got 'int'"),
    "missing field": ({"id": "a", "lang": "en", "text": ""}, "train.jsonl:1: lacks the field 'gold'"),
    "unknown language": ({**LINE, "lang": "fr"}, "train.jsonl:1: $.lang: Invalid enum value 'fr'; expected en, zh"),
    "an id that is a path": ({**LINE, "id": "../../x"}, "train.jsonl:1: $.id: the id '../../x' reads as a path"),
    "an id of two lines": (
        {**LINE, "id": "a\nb"},
        "train.jsonl:1: $.id: the id 'a\\nb' has spaces at its ends or control",
    ),
    "no id": ({**LINE, "id": ""}, "train.jsonl:1: document without an id"),
    "deep nesting": ('{"id": ' + "[" * 100_000, "train.jsonl:1: $.id: Expected 'str'"),
    "deep nesting in a field that is not read": ('{"x": ' + "[" * 100_000, "train.jsonl:1: is nested too deeply"),
    "given": ({**LINE, "given": {"kind": "chains"}}, "train.jsonl:1: $.given: is set by the pipeline"),
}


@pytest.mark.parametrize("what", BROKEN_LINES)
def test_the_first_wrong_line_is_named(what, tmp_path):
    line, message = BROKEN_LINES[what]
    with pytest.raises(UserError) as error:
        load_corpus(with_lines(tmp_path / "c", line))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_an_id_stands_once_in_all_splits(tmp_path):
    folder = with_lines(tmp_path / "c", LINE, LINE)
    with pytest.raises(UserError, match=r"train\.jsonl:2: \$\.id: the id 'a' is already in train\.jsonl:1"):
        load_corpus(folder)
    (folder / "train.jsonl").write_text(json.dumps(LINE), encoding="utf-8")
    (folder / "test.jsonl").write_text(json.dumps(LINE), encoding="utf-8")
    with pytest.raises(UserError, match=r"test\.jsonl:1: \$\.id: the id 'a' is already in train\.jsonl:1"):
        load_corpus(folder)


def test_another_encoding_is_named(tmp_path):
    folder = with_lines(tmp_path / "c", LINE)
    (folder / "train.jsonl").write_text(json.dumps(LINE), encoding="utf-16")
    with pytest.raises(UserError, match=r"train\.jsonl: is UTF-16; expected UTF-8"):
        load_corpus(folder)
    (folder / "train.jsonl").write_bytes(json.dumps({**LINE, "text": "苏珊"}, ensure_ascii=False).encode("gb18030"))
    with pytest.raises(UserError, match=r"train\.jsonl:1: contains bytes that are not UTF-8"):
        load_corpus(folder)
    (folder / "labels.json").write_text("{}", encoding="utf-16")
    with pytest.raises(UserError, match=r"labels\.json: is UTF-16; expected UTF-8"):
        load_corpus(folder)


def test_what_is_no_corpus_is_named(tmp_path):
    with pytest.raises(UserError, match="absent: does not exist"):
        load_corpus(tmp_path / "absent")
    with pytest.raises(UserError, match=r"has no labels\.json; make a corpus from other formats with 'm3dllm import'"):
        load_corpus(tmp_path)
    (tmp_path / "labels.json").write_text('{"format": 1}')
    with pytest.raises(UserError, match=r"has no <split>\.jsonl file"):
        load_corpus(tmp_path)
    with pytest.raises(UserError, match=r"labels\.json: is not a folder"):
        corpus_files(tmp_path / "labels.json")
    (tmp_path / "train.jsonl").write_text("\n \n")
    with pytest.raises(UserError, match=r"train\.jsonl: has no documents: expected one per line"):
        load_corpus(tmp_path)
    (tmp_path / "labels.json").write_text('{"format": 2}')
    with pytest.raises(UserError, match=r"labels\.json: \$\.format: is format 2; this version reads format 1"):
        load_corpus(tmp_path)


def test_a_path_inside_the_corpus_is_checked_without_files(tmp_path):
    document = example("a", "", frames=1).document
    assert with_root(document, tmp_path).frames[0].path == str(tmp_path / "frames/a/0.png")
    frame = replace(document.frames[0], path="/etc/passwd")
    with pytest.raises(WireError, match="leads out of the folder"):
        with_root(replace(document, frames=(frame,)), tmp_path)


def test_a_corpus_is_written_whole_or_not_at_all(tmp_path):
    imported = Imported(LABELS, {"dev": [example("a", "", frames=1)]}, {"frames/a/0.png": tmp_path / "absent.png"})
    with pytest.raises(UserError, match=r"absent\.png: the image of a frame cannot be read: No such file"):
        write_corpus(tmp_path / "c", imported)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_not_overwritten(corpus):
    before = {p: p.read_bytes() for p in corpus.rglob("*") if p.is_file()}
    with pytest.raises(UserError, match="already exists: choose another folder, or delete it"):
        write_corpus(corpus, Imported(LABELS, {"dev": [example("a", "")]}))
    assert {p: p.read_bytes() for p in corpus.rglob("*") if p.is_file()} == before


def test_a_loaded_corpus_is_written_again_as_it_was(corpus, tmp_path):
    write_corpus(tmp_path / "again", to_imported(load_corpus(corpus)))
    files = [p.relative_to(corpus) for p in corpus.rglob("*") if p.is_file()]
    assert len(files) > 5
    assert all((tmp_path / "again" / p).read_bytes() == (corpus / p).read_bytes() for p in files)


def test_images_are_hard_links_on_request(corpus, tmp_path):
    write_corpus(tmp_path / "copied", to_imported(load_corpus(corpus)))
    write_corpus(tmp_path / "linked", to_imported(load_corpus(corpus)), link=True)
    image = "frames/train0/0.png"
    assert (tmp_path / "linked" / image).samefile(corpus / image)
    assert not (tmp_path / "copied" / image).samefile(corpus / image)


def filmed(folder: Path) -> Path:
    """A corpus of one document with a video, and one whose video is elsewhere."""
    clip = folder.with_suffix(".mp4")
    clip.write_bytes(b"a film")
    documents = [Document(name, "en", "", video=Video(f"videos/{name}.mp4", 2.0)) for name in ("a", "b")]
    imported = Imported(LABELS, {"test": [Example(d, Annotation()) for d in documents]}, videos={"videos/a.mp4": clip})
    write_corpus(folder, imported)
    return folder


def test_a_video_is_a_hard_link_and_goes_with_its_documents(tmp_path):
    loaded = load_corpus(filmed(tmp_path / "films"))
    assert [one.document.video for one in loaded["test"]] == [Video(f"videos/{name}.mp4", 2.0) for name in "ab"]
    write_corpus(tmp_path / "again", to_imported(loaded))
    assert (tmp_path / "again/videos/a.mp4").samefile(tmp_path / "films.mp4")
    assert not (tmp_path / "again/videos/b.mp4").exists()


def test_a_video_that_is_a_link_out_of_the_corpus_is_refused_unless_links_are_allowed(tmp_path):
    corpus = filmed(tmp_path / "films")
    (tmp_path / "elsewhere.mp4").write_bytes(b"another film")
    (corpus / "videos/b.mp4").symlink_to(tmp_path / "elsewhere.mp4")
    with pytest.raises(
        UserError, match=r"test\.jsonl:2: \$\.video\.path: 'videos/b.mp4' is a link to a file outside the corpus"
    ):
        load_corpus(corpus)
    assert len(load_corpus(corpus, linked_frames=True)["test"]) == 2


def test_a_document_without_a_video_is_written_as_before_there_were_any(corpus):
    assert b"video" not in (corpus / "train.jsonl").read_bytes()


def test_labels_of_annotations_are_every_type_directed_and_free():
    chains = (Chain("a", (Mention(0, 1, "PER"),)), Chain("b", (Mention(1, 2, "组织"),)))
    labels = labels_of([Annotation(chains, (Relation("a", "b", "属于"),)), Annotation()])
    assert [label.name for label in labels.mentions] == ["PER", "组织"]
    assert labels.relation("属于").joins("组织", "anything")
    assert labels.symmetric == frozenset()
    assert labels_of([]) == LabelSet()


def test_a_document_without_text_or_frames_is_a_document(tmp_path):
    nothing = Example(Document("nothing", "zh", ""), Annotation())
    write_corpus(tmp_path / "c", Imported(LABELS, {"test": [nothing]}))
    assert load_corpus(tmp_path / "c")["test"] == (nothing,)
