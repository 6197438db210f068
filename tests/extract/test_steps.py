"""The command from a video to a graph, by systems that need no model library."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from m3dllm import pipeline
from m3dllm.corpora.native import load_corpus
from m3dllm.errors import UserError
from m3dllm.experiment import Experiment
from m3dllm.extract import steps
from m3dllm.extract.reading import Reading
from m3dllm.extract.steps import Extraction, extract
from m3dllm.runs import Run
from m3dllm.wire import encode
from tests.clips import write_clip
from tests.small import png, small_corpus

pytest.importorskip("av", reason="needs av (the extra video)")

LINES = [
    (0.5, 1.5, "Ada Lovelace was born in London."),
    (2.0, 3.0, "Ada Lovelace met Charles Babbage."),
    (70.0, 71.0, "Ada wrote to Charles Babbage."),
    (150.0, 151.0, "In London she worked."),
]


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "film.mkv", 160, rate=1, subtitles=LINES)


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    """What `replay` says of each of the film's two documents."""
    rows = []
    for document, relation in (("film-001", ("Ada Lovelace", "London")), ("film-002", None)):
        chains = [
            {"id": "a", "type": "PER", "mentions": ["Ada Lovelace", "Ada"]},
            {"id": "b", "type": "PER", "mentions": ["Charles Babbage"]},
            {"id": "l", "type": "LOC", "mentions": ["London"]},
        ]
        relations = [{"head": "a", "tail": "l", "type": "PER-LOC_birth"}] if relation else []
        rows.append({"document": document, "payload": {"chains": chains, "relations": relations}, "format": 1})
    file = tmp_path / "answers.jsonl"
    file.write_bytes(b"".join(encode(row) + b"\n" for row in rows))
    return file


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that fitted the heuristic baselines."""
    folder = tmp_path_factory.mktemp("fitted")
    asked = Experiment(system="majority", corpus=small_corpus(folder / "corpus"), out=folder / "run")
    return pipeline.fit(asked).path


def wanted(tmp_path: Path, film: Path, answers: Path, **changes: object) -> Extraction:
    asked = {"sources": [film], "out": tmp_path / "out", "system": "replay", "options": {"answers": str(answers)}}
    return Extraction(**{**asked, **changes})


def tree(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def test_a_film_becomes_corpus_run_joins_graph_and_page(tmp_path, film, answers):
    done = extract(wanted(tmp_path, film, answers))
    corpus = load_corpus(tmp_path / "out/corpus")
    assert [e.document.id for e in corpus["test"]] == ["film-001", "film-002"]
    assert all(e.annotated == frozenset() for e in corpus["test"])
    assert done.complete
    assert done.triples == ("Ada Lovelace —PER-LOC_birth→ London  (film, 0:00)",)
    assert done.page.is_file()
    joins = [json.loads(line) for line in (tmp_path / "out/joins.jsonl").read_text().splitlines()]
    assert {(j["name"], j["rule"], tuple(j["first"]), tuple(j["second"])) for j in joins if j["joined"]} == {
        ("Charles Babbage", "same name", ("film-001", "b"), ("film-002", "b")),
        ("London", "same name", ("film-001", "l"), ("film-002", "l")),
        ("Ada", "only bearer", ("film-001", "a"), ("film-002", "a")),
    }


def test_the_page_begins_with_the_whole_film(tmp_path, film, answers):
    page = extract(wanted(tmp_path, film, answers)).page
    first, *parts = (page.parent / "documents/00000.js").read_text(encoding="utf-8").splitlines()
    assert len(parts) == 2
    content = json.loads(first.split(",", 1)[1].removesuffix(");"))
    assert content["id"] == "film"
    assert [entity["name"] for entity in content["entities"]].count("Charles Babbage") == 1
    assert len(content["segments"]) > 2


def test_a_film_is_played_from_where_each_of_its_documents_begins(tmp_path, film, answers):
    done = extract(wanted(tmp_path, film, answers))
    videos = [example.document.video for example in load_corpus(tmp_path / "out/corpus")["test"]]
    assert [video.path for video in videos] == ["videos/film.mkv"] * 2
    assert [video.start_s for video in videos] == [0.0, videos[0].end_s]
    assert (done.page.parent / "videos/0000.mkv").samefile(film)
    first = (done.page.parent / "documents/00000.js").read_text(encoding="utf-8").splitlines()[0]
    content = json.loads(first.split(",", 1)[1].removesuffix(");"))
    assert content["video"] == {"start_s": 0.0, "end_s": videos[1].end_s, "src": "videos/0000.mkv"}


def test_a_film_is_named_and_not_played_where_nobody_wants_it(tmp_path, film, answers):
    done = extract(wanted(tmp_path, film, answers, videos="none"))
    assert not [*(tmp_path / "out").rglob("*.mkv")]
    assert '"video":null' in (done.page.parent / "documents/00000.js").read_text(encoding="utf-8")
    assert load_corpus(tmp_path / "out/corpus")["test"][0].document.video


def test_the_graph_has_each_entity_of_a_film_once(tmp_path, film, answers):
    extract(wanted(tmp_path, film, answers))
    graph = json.loads((tmp_path / "out/graph/film.jsonld").read_text())["@graph"]
    people = [node["name"] for node in graph if "Person" in str(node.get("@type"))]
    assert sorted(people) == ["Ada Lovelace", "Charles Babbage"]


def test_the_decoder_stands_in_the_run(tmp_path, film, answers):
    import av

    versions = extract(wanted(tmp_path, film, answers)).run.record().versions
    assert versions["av"] == av.__version__
    assert {"ffmpeg", "libavcodec", "pysubs2", "python"} <= set(versions)


def test_a_corpus_without_gold_scores_nothing(tmp_path, film, answers):
    scores = extract(wanted(tmp_path, film, answers)).run.scores()
    tasks = scores["languages"]["en"]["end_to_end"]["tasks"]
    assert {name: task["f1"] for name, task in tasks.items() if task["f1"] is not None} == {}
    assert {"entity", "chain", "relation"} <= set(tasks)


def test_the_same_command_again_changes_no_answer_and_no_corpus(tmp_path, film, answers):
    first = extract(wanted(tmp_path, film, answers))
    before = {
        name: time for name, time in tree(tmp_path / "out").items() if not name.startswith(("page", "graph", "joins"))
    }
    again = extract(wanted(tmp_path, film, answers))
    after = tree(tmp_path / "out")
    kept = [name for name in before if name.startswith("corpus") or name in ("sources.json", "run/raw.jsonl")]
    assert all(before[name] == after[name] for name in kept)
    assert first.triples == again.triples


def test_what_was_read_before_a_kill_is_not_read_again(tmp_path, film, answers, monkeypatch):
    other = write_clip(tmp_path / "other.mkv", 30, subtitles=LINES[:1])
    asked = wanted(tmp_path, film, answers, sources=[film, other])
    read, names = steps.read_source, []

    def killed(source, name, reading, folder):
        names.append(name)
        if len(names) == 2:
            raise KeyboardInterrupt
        return read(source, name, reading, folder)

    monkeypatch.setattr(steps, "read_source", killed)
    with pytest.raises(KeyboardInterrupt):
        extract(asked)
    extract(asked)
    assert names == ["film", "other", "other"]
    assert len(load_corpus(tmp_path / "out/corpus")["test"]) == 3


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"reading": Reading(every=12)}, "how the sources are read"),
        ({"sources": ["other"]}, "the sources"),
    ],
)
def test_a_folder_of_another_command_is_refused(tmp_path, film, answers, changes, says):
    extract(wanted(tmp_path, film, answers))
    if "sources" in changes:
        changes = {"sources": [write_clip(tmp_path / "film2.mkv", 30, subtitles=LINES[:1])]}
    with pytest.raises(UserError, match=f"was made from something else .*{says}"):
        extract(wanted(tmp_path, film, answers, **changes))


def test_a_folder_with_something_in_it_is_refused(tmp_path, film, answers):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    with pytest.raises(UserError, match="already exists"):
        extract(wanted(tmp_path, film, answers))


def test_what_cannot_be_read_leaves_nothing_behind_and_another_command_may_follow(tmp_path, film, answers):
    german = tmp_path / "film.de.srt"
    german.write_text("1\n00:00:01,000 --> 00:00:02,000\nIch weiß nicht, was das ist.\n", encoding="utf-8")
    with pytest.raises(UserError, match="is in German"):
        extract(wanted(tmp_path, film, answers, subtitles=[german]))
    assert not (tmp_path / "out").exists()
    extract(wanted(tmp_path, film, answers, subtitles=[german], reading=Reading(lang="en")))


def test_texts_alone_need_no_video(tmp_path, monkeypatch, fitted):
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "a.txt").write_text("Ada Lovelace met the king.", encoding="utf-8")
    (tmp_path / "b.txt").write_text("她见了国王。", encoding="utf-8")
    done = extract(Extraction(sources=[tmp_path], out=tmp_path / "out", system="majority", checkpoint=fitted))
    assert [(e.document.id, e.document.lang) for e in done.run.examples()] == [("a", "en"), ("b", "zh")]


def test_pictures_of_a_folder_are_documents_of_their_own(tmp_path, fitted):
    for i, caption in enumerate(("Ada Lovelace met the king.", "", "她见了国王。")):
        (tmp_path / f"{i}.png").write_bytes(png(8 + i, 6))
        if caption:
            (tmp_path / f"{i}.txt").write_text(caption, encoding="utf-8")
    done = extract(Extraction(sources=[tmp_path], out=tmp_path / "out", system="majority", checkpoint=fitted))
    found = [(e.document.text, e.document.lang, len(e.document.frames)) for e in done.run.examples()]
    assert found == [("Ada Lovelace met the king.", "en", 1), ("", "en", 1), ("她见了国王。", "zh", 1)]
    assert len(list(done.graphs.glob("*.jsonld"))) == 3


@pytest.mark.parametrize(("system", "demo"), [("majority", False), ("dffm", True)])
def test_a_system_that_must_be_fitted_says_how(tmp_path, film, system, demo):
    with pytest.raises(UserError, match=f"system '{system}' must be fitted: 'm3dllm fit --system {system}") as raised:
        extract(Extraction(sources=[film], out=tmp_path / "out", system=system))
    assert ("--checkpoint demo" in str(raised.value)) == demo
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_of_another_system_is_refused_before_anything_is_read(tmp_path, film, fitted):
    with pytest.raises(UserError, match="is a checkpoint of system 'majority', not of 'dffm'"):
        extract(Extraction(sources=[film], out=tmp_path / "out", system="dffm", checkpoint=fitted))
    assert not (tmp_path / "out").exists()


def test_labels_may_be_named(tmp_path, film, answers):
    labels = tmp_path / "labels.json"
    labels.write_text('{"format": 1, "mentions": [{"name": "PER"}], "relations": [], "regions": []}')
    done = extract(wanted(tmp_path, film, answers, labels=labels))
    assert done.run.record().labels.names("mentions") == {"PER"}


def test_the_guidelines_beside_the_labels_are_those_of_the_corpus(tmp_path, film, answers):
    labels = tmp_path / "mine" / "labels.json"
    labels.parent.mkdir()
    labels.write_text('{"format": 1, "mentions": [{"name": "PER"}], "relations": [], "regions": []}')
    (labels.parent / "guidelines.en.md").write_text("Mark names.")
    extract(wanted(tmp_path, film, answers, labels=labels))
    assert (tmp_path / "out" / "corpus" / "guidelines.en.md").read_text() == "Mark names."
    (labels.parent / "guidelines.en.md").write_text("Mark titles, too.")
    with pytest.raises(UserError, match=r"was made from something else \(the guidelines\)"):
        extract(wanted(tmp_path, film, answers, labels=labels))


def test_an_unknown_option_is_reported_before_anything_is_read(tmp_path, film):
    with pytest.raises(UserError, match="has no option --wrong"):
        extract(Extraction(sources=[film], out=tmp_path / "out", system="majority", options={"wrong": "1"}))
    assert not (tmp_path / "out").exists()


def test_two_films_of_one_name_are_distinguished(tmp_path, film, answers, fitted):
    (tmp_path / "more").mkdir()
    other = shutil.copy(film, tmp_path / "more")
    done = extract(
        wanted(tmp_path, film, answers, sources=[film, Path(other)], system="majority", options={}, checkpoint=fitted)
    )
    assert [e.document.id for e in done.run.examples()] == ["film-001", "film-002", "film-2-001", "film-2-002"]


def test_the_command_prints_triples_and_where_everything_is(tmp_path, film, answers):
    command = [sys.executable, "-m", "m3dllm", "extract", film.name, "--system", "replay", "--out", "out"]
    done = subprocess.run([*command, "--answers", answers.name], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "Ada Lovelace —PER-LOC_birth→ London  (film, 0:00)"
    assert f"Open: {(tmp_path / 'out/page/index.html').resolve().as_uri()}" in done.stdout
    assert Run(tmp_path / "out/run").record().command[:2] == ("m3dllm", "extract")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["absent.mp4", "--out", "o", "--system", "majority"], "absent.mp4: does not exist"),
        (["film.mkv", "--out", "o", "--system", "nobody"], "nobody"),
        (["film.mkv", "--out", "o", "--system", "majority", "--fps", "2", "--every", "3"], "exclude one another"),
        (
            ["film.mkv", "--out", "o", "--system", "majority", "--rules", "1", "more.mkv"],
            "'more.mkv' is not the value of an option",
        ),
    ],
)
def test_a_mistake_is_one_line(tmp_path, film, words, says):
    done = subprocess.run(
        [sys.executable, "-m", "m3dllm", "extract", *words], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "o").exists()
