"""No command replaces a file that is not its own: what a user names as an output may be anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from m3dllm import Experiment, cli, run
from m3dllm.errors import UserError
from tests.small import small_corpus

TEXT = "anything of the user's\n"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return small_corpus(tmp_path_factory.mktemp("overwriting") / "corpus")


@pytest.fixture(scope="module")
def done(corpus, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("overwriting") / "run"
    return run(Experiment(system="majority", corpus=str(corpus), out=str(out))).path


@pytest.fixture
def standoff(tmp_path) -> Path:
    folder = tmp_path / "standoff"
    folder.mkdir()
    (folder / "a.txt").write_text("Ada met Bo.\n", encoding="utf-8")
    (folder / "a.ann").write_text("T1\tPER 0 3\tAda\n", encoding="utf-8")
    return folder


def invoke(*words: object) -> None:
    """Run a command, with its errors as exceptions."""
    result = CliRunner().invoke(cli.app, [*map(str, words)], catch_exceptions=False, standalone_mode=False)
    assert result.exit_code == 0, result.output


def refused(*words: object) -> str:
    with pytest.raises(UserError) as error:
        invoke(*words)
    return str(error.value)


def test_counts_per_document_do_not_replace_the_answers_of_the_run(done):
    before = (done / "raw.jsonl").read_bytes()
    assert "would be overwritten" in refused("score", done, "--per-document", done / "raw.jsonl")
    assert (done / "raw.jsonl").read_bytes() == before


def test_counts_per_document_replace_earlier_ones(done, tmp_path):
    for _ in range(2):
        invoke("score", done, "--per-document", tmp_path / "counts.jsonl")


def test_the_report_of_an_import_does_not_replace_what_is_imported(standoff, tmp_path):
    words = ("import", "brat", standoff, "--out", tmp_path / "corpus", "--report", standoff / "a.txt")
    assert "is not a report of 'm3dllm import'" in refused(*words)
    assert (standoff / "a.txt").read_text(encoding="utf-8") == "Ada met Bo.\n"


def test_the_report_of_an_import_replaces_an_earlier_one(standoff, tmp_path):
    for name in ("one", "two"):
        invoke("import", "brat", standoff, "--out", tmp_path / name, "--report", tmp_path / "report.json")


def test_the_report_of_an_import_is_not_in_the_way_of_its_corpus(standoff, tmp_path):
    out = tmp_path / "corpus"
    words = ("import", "brat", standoff, "--out", out, "--report", out / "report.json")
    assert "is inside the new corpus" in refused(*words)
    assert not out.exists()


def test_a_folder_that_is_taken_is_refused_before_anything_is_read(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text(TEXT, encoding="utf-8")
    for verb in (("import", "brat"), ("split",), ("merge",)):
        assert "out: already exists" in refused(*verb, tmp_path / "missing", "--out", tmp_path / "out")


@pytest.mark.parametrize("name", ["", "../test", "my test"])
def test_a_split_that_is_no_name_of_a_file_is_refused(name, standoff, tmp_path):
    words = ("import", "brat", standoff, "--out", tmp_path / "corpus", "--split", name)
    assert "--split" in refused(*words)


def test_the_report_of_a_check_does_not_replace_a_split(corpus):
    before = (corpus / "test.jsonl").read_bytes()
    assert "is not a report of 'm3dllm check'" in refused("check", corpus, "--report", corpus / "test.jsonl")
    assert (corpus / "test.jsonl").read_bytes() == before


def test_the_report_of_a_check_replaces_an_earlier_one(corpus, tmp_path):
    for _ in range(2):
        invoke("check", corpus, "--report", tmp_path / "report.json")


@pytest.mark.parametrize(
    ("verb", "name"), [("view", "index.html"), ("report", "index.html"), ("report", "report.html")]
)
def test_pages_do_not_replace_a_page_of_the_user(verb, name, done, tmp_path):
    (tmp_path / name).write_text(TEXT, encoding="utf-8")
    assert f"{tmp_path / name}: is not" in refused(verb, done, "--out", tmp_path)
    assert [(path.name, path.read_text(encoding="utf-8")) for path in tmp_path.iterdir()] == [(name, TEXT)]


@pytest.mark.parametrize("name", ["report.md", "report.txt", "data/mine.csv"])
def test_a_report_does_not_fill_a_folder_of_the_user(name, done, tmp_path):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(TEXT, encoding="utf-8")
    assert "already exists" in refused("report", done, "--out", tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / name]


def test_a_document_page_does_not_replace_the_first_page_of_a_report(done, tmp_path):
    invoke("report", done, "--out", tmp_path / "report")
    assert "is not a document page" in refused("view", done, "--out", tmp_path / "report")


def test_pages_replace_earlier_ones(done, tmp_path):
    for verb in ("view", "view", "report", "report"):
        invoke(verb, done, "--out", tmp_path / verb)
    for _ in range(2):
        invoke("view", done, "--embed", "--out", tmp_path / "embedded")


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("check", ""), "PATH"),
        (("import", "brat", "", "--out", "corpus"), "PATH"),
        (("report", "run", ""), "RUN"),
        (("extract", "", "--out", "film"), "SOURCE"),
        (("score", "--gold", "", "--pred", "pred.jsonl"), "--gold"),
        (("score", "--gold=", "--pred", "pred.jsonl"), "--gold"),
        (("run", "--system", "majority", "--corpus", ""), "--corpus"),
    ],
    ids=str,
)
def test_an_empty_path_is_not_the_working_directory(words, name):
    assert refused(*words).startswith(f"{name}: is empty")
