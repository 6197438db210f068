"""Parts of a run, made apart and joined: the same files as of one run, and what does not fit is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from m3dllm import pipeline
from m3dllm.cli import main
from m3dllm.errors import UserError
from m3dllm.experiment import Experiment, plan, read_shard
from m3dllm.runs import Run, added
from m3dllm.shards import gather
from m3dllm.types import Failure, RawOutput
from m3dllm.wire import encode_raw
from tests.small import small_corpus
from tests.timeless import files_of


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return small_corpus(tmp_path_factory.mktemp("small") / "corpus", test=11)


@pytest.fixture(scope="module")
def fitted(corpus, tmp_path_factory) -> Path:
    return pipeline.fit(Experiment(system="majority", corpus=corpus, out=tmp_path_factory.mktemp("fit") / "fit")).path


@pytest.fixture(scope="module")
def words(corpus, fitted) -> dict[str, object]:
    return {"system": "majority", "corpus": corpus, "checkpoint": fitted, "pairs": "both", "missing": "thirds"}


@pytest.fixture(scope="module")
def made(words, tmp_path_factory) -> list[Path]:
    """Three shards of a run."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    return [pipeline.predict(Experiment(**words, out=out, shard=f"{i}/3")).path for i in (1, 2, 3)]


@pytest.fixture
def shards(made, tmp_path) -> list[Path]:
    """The shards, to do with as one likes."""
    return [shutil.copytree(path, tmp_path / "mine" / path.name) for path in made]


def test_shards_joined_are_the_run_without_shards(shards, words, tmp_path):
    joined = gather(reversed(shards))
    whole = pipeline.run(Experiment(**words, out=tmp_path / "whole"))
    assert joined.path == tmp_path / "mine" / "whole"
    assert files_of(joined.path) == files_of(whole.path)
    assert list(joined.record().differences(whole.record())) == []
    assert joined.record().status == "done"


def test_the_command_without_a_shard_goes_on_with_the_joined_run(shards, words):
    joined = gather(shards).path
    before = (joined / "raw.jsonl").stat().st_mtime_ns
    pipeline.run(Experiment(**words, out=joined))
    assert (joined / "raw.jsonl").stat().st_mtime_ns == before


def test_an_interrupted_gather_is_made_again(shards):
    joined = gather(shards)
    whole = files_of(joined.path)
    joined.write_record(replace(joined.record(), status="running"))
    (joined.path / "raw.jsonl").write_bytes(b"")
    assert files_of(gather(shards).path) == whole


def test_a_run_that_is_gathered_already_stays_as_it_is_and_is_not_replaced_by_other_answers(shards):
    joined = gather(shards).path
    made = (joined / "predictions.jsonl").stat().st_mtime_ns
    assert gather(shards).path == joined
    assert (joined / "predictions.jsonl").stat().st_mtime_ns == made
    shard = Run(shards[0])
    shard.write_record(replace(shard.record(), notes=("answered again",)))
    with pytest.raises(UserError, match="is already gathered, from other answers of its shards: choose another --out"):
        gather(shards)


def test_a_shard_takes_every_nth_document_beside_the_place_of_the_run(words, tmp_path):
    asked = Experiment(**words, out=tmp_path / "run")
    whole, second = plan(asked), plan(replace(asked, shard="2/4"))
    assert [e.document.id for e in second.test] == [e.document.id for e in whole.test][1::4]
    assert second.path == tmp_path / "run-2-of-4"
    assert second.record.missing == whole.record.missing
    assert "--shard 2/4: 3 of 11 documents" in second.notes


def test_without_out_a_shard_lies_beside_the_place_of_the_run(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole, shard = (plan(Experiment(**words, shard=shard)).path for shard in (None, "2/4"))
    assert shard == whole.with_name(f"{whole.name}-2-of-4")


@pytest.mark.parametrize("shard", ["0/3", "4/3", "3", "a/b", "1/0", "-1/3", ""])
def test_what_names_no_shard_is_refused(shard):
    with pytest.raises(UserError, match=r"expected I/N, such as 2/8"):
        read_shard(shard)


def test_a_shard_without_documents_is_refused(words):
    with pytest.raises(UserError, match="--shard 12/12 is empty: there are 11 documents"):
        plan(Experiment(**words, shard="12/12"))


def test_a_system_that_each_shard_would_fit_is_refused(words):
    with pytest.raises(UserError, match="would be fitted again in each shard: fit it once with"):
        plan(Experiment(**words | {"checkpoint": None}, shard="1/3"))


def test_missing_shards_are_named(shards):
    with pytest.raises(UserError, match="shards 1, 3 of 3 are missing: give all 3 of the run"):
        gather(shards[1:2])


def test_a_shard_that_is_there_twice_is_named(shards, tmp_path):
    again = shutil.copytree(shards[0], tmp_path / "again")
    with pytest.raises(UserError, match=r"again: is shard 1 of 3, and so is .*whole-1-of-3"):
        gather([*shards, again])


def test_a_shard_of_another_number_is_named(shards, words, tmp_path):
    other = pipeline.predict(Experiment(**words, out=tmp_path / "other", shard="2/4")).path
    with pytest.raises(UserError, match=r"other-2-of-4: is shard 2 of 4, and .*whole-1-of-3 of 3"):
        gather([shards[0], other, shards[2]])


@pytest.mark.parametrize(
    ("other", "what"),
    [
        ({"seed": 7}, "seed was 0, is now 7"),
        ({"missing": "text"}, "missing"),
        ({"pairs": "end-to-end"}, "pairs was"),
    ],
)
def test_a_shard_of_another_run_is_named_with_what_differs(shards, words, tmp_path, other, what):
    strange = pipeline.predict(Experiment(**words | other, out=tmp_path / "strange", shard="2/3")).path
    with pytest.raises(UserError, match=rf"strange-2-of-3: is a shard of another run than .*{what}"):
        gather([shards[0], strange, shards[2]])


def test_a_shard_with_another_option_of_the_system_is_named(shards):
    for path, boxes in zip(shards, (8, 3, 8), strict=True):
        record = Run(path).record()  # whose options only matter in training, which is no part of a shard
        Run(path).write_record(replace(record, config={**record.config, "boxes": boxes}, incidental=()))
    with pytest.raises(UserError, match=r"whole-2-of-3: is a shard of another run than .*config.boxes was"):
        gather(shards)


def test_a_shard_of_another_corpus_is_named(shards):
    record = json.loads((shards[2] / "run.json").read_text())
    record["corpus"]["sha256"]["test.jsonl"] = "0" * 64
    (shards[2] / "run.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"corpus.sha256.test.jsonl was"):
        gather(shards)


def test_a_shard_that_another_model_answered_is_named(shards):
    for path, model in zip(shards, ("a" * 64, "b" * 64, "a" * 64), strict=True):
        Run(path).write_record(replace(Run(path).record(), provenance={"sha256": model}))
    with pytest.raises(UserError, match=r"whole-2-of-3: was answered by other weights"):
        gather(shards)


def test_an_unfinished_shard_is_named(shards):
    Run(shards[1]).write_record(replace(Run(shards[1]).record(), status="running"))
    with pytest.raises(UserError, match=r"whole-2-of-3: is not finished \(12 answers\): run its command again"):
        gather(shards)


def test_a_run_of_all_documents_is_no_shard(shards, words, tmp_path):
    whole = pipeline.predict(Experiment(**words, out=tmp_path / "whole"))
    with pytest.raises(UserError, match="is not a shard but a run of all documents"):
        gather([whole.path])


def test_the_last_answer_to_a_document_counts_and_a_failure_is_retried(shards, words):
    first = Run(shards[0]).examples()[0].document.id
    with (shards[0] / "raw.jsonl").open("ab") as out:
        out.write(encode_raw(RawOutput(first, error=Failure("the server is gone", retryable=True))) + b"\n")
    Run(shards[0]).write_record(replace(Run(shards[0]).record(), status="incomplete"))
    joined = gather(shards)
    assert (joined.record().status, [raw.document for raw in joined.failed()]) == ("incomplete", [first])
    assert len((joined.path / "raw.jsonl").read_bytes().splitlines()) == len(joined.raws())
    pipeline.run(Experiment(**words, out=joined.path))
    assert joined.record().status == "done"


def test_what_shards_counted_adds_up():
    counted = added([{"tokens": 3, "finishes": {"stop": 1}, "grammar_share": 0.5, "grammar_s": None}, {"tokens": 4}])
    assert counted == {"tokens": 7, "finishes": {"stop": 1}, "grammar_share": 0.5, "grammar_s": None}


def test_prompts_are_those_of_the_run_without_shards(corpus, tmp_path):
    pytest.importorskip("llguidance", reason="needs the extra 'llm'")
    options = {"max_tokens": 16, "frames": 0, "batch": 1, "device": "cpu"}
    asked = Experiment(system="video-llm", corpus=corpus, limit=2, lang="en", options=options, out=tmp_path / "run")
    shards = [pipeline.predict(replace(asked, shard=f"{i}/2")).path for i in (1, 2)]
    joined, whole = gather(shards), pipeline.run(replace(asked, out=tmp_path / "whole"))
    assert files_of(joined.path) == files_of(whole.path)
    assert (joined.path / "prompts.jsonl").read_bytes() == (whole.path / "prompts.jsonl").read_bytes()
    assert joined.record().tally["tokens_out"] == whole.record().tally["tokens_out"]


def test_the_command_joins_and_scores(shards, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["m3dllm", "gather", *map(str, shards)])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    assert "gold mentions and chains" in capsys.readouterr().out
