"""Experiments in files: what they expand to, what is skipped, what a failure leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from m3dllm.bench import (
    SHIPPED,
    find_bench,
    is_done,
    listing,
    not_run,
    read_bench,
    report,
    run_all,
    runs_of,
    with_values,
)
from m3dllm.cli import main
from m3dllm.corpora.imported import Imported
from m3dllm.corpora.missing import make_manifest
from m3dllm.corpora.native import write_corpus
from m3dllm.errors import UserError
from tests.small import LABELS, example, small_corpus

TWO = """
title = "Two rows"
pairs = "both"
baseline = "majority"

[[systems]]
system = "majority"

[[systems]]
name = "singletons"
system = "majority"
options = { chain_rule = "singletons" }

[vary]
boxes = [1, 8]
"""


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "two.toml"
    path.write_text(TWO)
    return path


def names(experiments) -> list[str]:
    return [Path(one.out).name for one in experiments]


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_experiment_expands_to_runs_of_systems_that_there_are(path, tmp_path):
    assert runs_of(read_bench(path), tmp_path)


def test_an_experiment_is_systems_times_seeds_times_values(file, tmp_path):
    found = runs_of(read_bench(file), tmp_path, seeds=2)
    assert names(found) == [
        *("majority-boxes-1-seed0", "majority-boxes-8-seed0", "singletons-boxes-1-seed0", "singletons-boxes-8-seed0"),
        *("majority-boxes-1-seed1", "majority-boxes-8-seed1", "singletons-boxes-1-seed1", "singletons-boxes-8-seed1"),
    ]
    assert found[2].options == {"chain_rule": "singletons", "boxes": 1}


def test_a_system_that_does_not_train_has_one_seed(tmp_path):
    assert len(runs_of(find_bench("constraint")[1], tmp_path, seeds=3)) == 3 * 3  # video-llm can be tuned: it trains


def test_options_go_to_the_systems_that_have_them(tmp_path):
    found = runs_of(find_bench("gold-vs-end-to-end")[1], tmp_path, options={"epochs": "1", "boxes": "2"})
    assert [one.options for one in found] == [{"boxes": "2"}, {"epochs": "1"}, {"epochs": "1"}]


def test_an_option_that_no_system_has_is_refused(file, tmp_path):
    with pytest.raises(UserError, match="none of majority has an option --shots"):
        runs_of(read_bench(file), tmp_path, options={"shots": "1"})


def test_what_varies_and_no_system_has_is_refused(file, tmp_path):
    file.write_text(TWO.replace("boxes = [1, 8]", "boxis = [1, 8]"))
    with pytest.raises(UserError, match=r"none of majority has an option --boxis, which \[vary\] names"):
        runs_of(read_bench(file), tmp_path)


def test_other_values_may_be_named(file, tmp_path):
    bench = with_values(read_bench(file), ["boxes=3"])
    assert names(runs_of(bench, tmp_path)) == ["majority-boxes-3-seed0", "singletons-boxes-3-seed0"]
    with pytest.raises(UserError, match=r"--vary shots=1: expected boxes"):
        with_values(bench, ["shots=1"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("title = ", "is not valid TOML"),
        ('title = "x"\nsystems = []', "expected at least one system"),
        (TWO.replace('name = "singletons"', ""), "two systems are named 'majority'"),
        (TWO.replace("boxes = [1, 8]", "boxes = []"), "has no value"),
        (TWO.replace("title", "titel"), "title"),
    ],
)
def test_a_file_that_is_wrong_is_refused_in_one_line(file, text, words):
    file.write_text(text)
    with pytest.raises(UserError, match=words):
        read_bench(file)


def test_the_same_command_skips_what_is_done(file, tmp_path):
    corpus = small_corpus(tmp_path / "small")
    experiments = runs_of(read_bench(file), tmp_path / "runs", corpora=[corpus])
    run_all(experiments[:2])
    assert [is_done(one) for one in experiments] == [True, True, False, False]
    times = [(Path(one.out) / "raw.jsonl").stat().st_mtime_ns for one in experiments[:2]]
    done, failed = run_all(experiments)
    assert (len(done), failed) == (4, [])
    assert [(Path(one.out) / "raw.jsonl").stat().st_mtime_ns for one in experiments[:2]] == times


def test_a_run_that_fails_does_not_stop_the_others(file, tmp_path):
    corpora = [tmp_path / "none", small_corpus(tmp_path / "small")]
    done, failed = run_all(runs_of(read_bench(file), tmp_path / "runs", corpora=corpora))
    assert len(done) == len(failed) == 4
    assert "none: does not exist" in failed[0]


@pytest.mark.parametrize(
    ("vary", "words"),
    [("boxes=-1,8", "system 'majority': --boxes -1"), ("boxes=many", "system 'majority': --boxes many")],
)
def test_a_value_that_a_system_does_not_take_is_refused_before_the_first_run(vary, words, file, tmp_path):
    with pytest.raises(UserError, match=words):
        runs_of(with_values(read_bench(file), [vary]), tmp_path)


@pytest.mark.parametrize("vary", ["boxes=8,8", "boxes=8"])
def test_two_runs_do_not_share_a_folder(vary, file, tmp_path):
    corpora = [tmp_path / "a/m3d", tmp_path / "b/m3d"] if vary == "boxes=8" else [None]
    with pytest.raises(UserError, match="would be the folder of two runs"):
        runs_of(with_values(read_bench(file), [vary]), tmp_path, corpora=corpora)


def test_a_baseline_that_is_not_among_the_runs_is_named(file, tmp_path, caplog):
    file.write_text(TWO.replace('baseline = "majority"', 'baseline = "dffm"'))
    bench = with_values(read_bench(file), ["boxes=8"])
    done, _ = run_all(runs_of(bench, tmp_path / "runs", corpora=[small_corpus(tmp_path / "small")]))
    report(bench, done, tmp_path / "report")
    assert "baseline 'dffm' is not among the finished runs" in caplog.text


def test_the_command_ends_in_a_report(file, tmp_path, monkeypatch, capsys):
    small_corpus(tmp_path / "small")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["m3dllm", "bench", "two.toml", "--corpus", "small", "--seeds", "1"])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    assert (tmp_path / "bench/two/report/report.html").is_file()


def test_a_share_hides_the_text_of_half_and_the_frames_of_the_other_half():
    shown = make_manifest([str(i) for i in range(20)], kind="share", share=0.5).documents
    assert sorted(shown.values()) == ["full"] * 10 + ["no_text"] * 5 + ["no_video"] * 5


FRAMES = """
title = "One row reads frames"

[[systems]]
system = "majority"

[[systems]]
system = "vision-only"
"""


def test_what_needs_frames_is_not_run_where_there_are_none(tmp_path):
    spoken = [example(f"d{i}", "[PER0 Ada] was born in [LOC1 Arles] .") for i in range(4)]
    corpus = tmp_path / "small"
    write_corpus(corpus, Imported(LABELS, {"train": spoken[:2], "test": spoken[2:]}))
    (tmp_path / "frames.toml").write_text(FRAMES)
    experiments = runs_of(read_bench(tmp_path / "frames.toml"), tmp_path / "runs", corpora=[corpus])
    assert listing(experiments).splitlines()[1].startswith("needs frames")
    done, failed = run_all(experiments)
    assert ([run.record().system for run in done], failed) == (["majority"], [])
    assert not_run(experiments) == ["small/vision-only-seed0: needs frames"]
