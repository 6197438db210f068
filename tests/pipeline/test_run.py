"""A run from documents to scores."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from m3dllm import pipeline, session
from m3dllm.corpora import native
from m3dllm.errors import UserError
from m3dllm.experiment import Experiment, plan
from m3dllm.types import Example
from m3dllm.wire import decode_example
from tests.pipeline.asking import files, majority
from tests.small import small_corpus


def test_a_run_leaves_every_file_of_the_layout(corpus, tmp_path):
    pipeline.run(majority(corpus, tmp_path / "run", pairs="both"))
    found = {p.name for p in (tmp_path / "run").iterdir()} - {".lock"}
    wanted = {"run.json", "documents.jsonl", "raw.jsonl", "predictions.jsonl", "scores.json", "per_document.jsonl"}
    assert found == wanted | {"checkpoint", "log.txt", "summary.json"}


def test_both_pair_protocols_ask_three_times_and_score_each_task_from_its_pass(corpus, tmp_path):
    run = pipeline.run(majority(corpus, tmp_path / "run", pairs="both"))
    assert {kind for _, kind in run.raws()} == {None, "mentions", "chains"}
    assert set(run.scores()["languages"]["en"]) >= {"end_to_end", "gold_pairs"}


def test_the_same_command_gives_the_same_files(corpus, tmp_path):
    for name in ("a", "b"):
        pipeline.run(majority(corpus, tmp_path / name, pairs="both"))
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_a_finished_run_is_not_asked_again(corpus, tmp_path):
    run = pipeline.run(majority(corpus, tmp_path / "run"))
    before = (run.path / "raw.jsonl").stat().st_mtime_ns
    pipeline.run(majority(corpus, tmp_path / "run"))
    assert (run.path / "raw.jsonl").stat().st_mtime_ns == before


def test_a_finished_run_keeps_its_times_and_its_tally_when_it_is_run_again(corpus, tmp_path):
    run = pipeline.run(majority(corpus, tmp_path / "run"))
    run.write_record(replace(run.record(), finished="2020-01-01T00:00:00+00:00", tally={"tokens_in": 7}))
    again = pipeline.run(majority(corpus, tmp_path / "run")).record()
    assert (again.finished, again.tally) == ("2020-01-01T00:00:00+00:00", {"tokens_in": 7})


def test_a_system_is_called_once_with_the_documents_of_all_passes(corpus, tmp_path, monkeypatch):
    calls, real = [], session.make_system

    def listening(work, *, checkpoint):
        system = real(work, checkpoint=checkpoint)
        predict = system.predict
        system.predict = lambda documents: calls.append(documents) or predict(documents)
        return system

    monkeypatch.setattr(pipeline, "make_system", listening)
    found = pipeline.run(majority(corpus, tmp_path / "run", pairs="both"))
    (documents,) = calls
    assert [(d.id, d.given and d.given.kind) for d in documents] == list(found.raws())
    assert {d.given and d.given.kind for d in documents} == {None, "mentions", "chains"}


def test_without_out_the_same_experiment_finds_its_own_run(corpus, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = {"system": "majority", "corpus": corpus}
    assert plan(Experiment(**words)).path == plan(Experiment(**words)).path != plan(Experiment(**words, seed=1)).path


def test_run_json_holds_what_is_needed_to_make_it_again(corpus, tmp_path):
    record = pipeline.run(majority(corpus, tmp_path / "run", seed=3)).record()
    assert (record.status, record.seed, record.corpus.split) == ("done", 3, "test")
    assert set(record.corpus.sha256) == {"labels.json", "train.jsonl", "dev.jsonl", "test.jsonl"}
    assert {"python", "m3dllm"} <= set(record.versions)


def test_frames_are_recorded_by_relative_path_and_hash(corpus, tmp_path):
    run = pipeline.run(majority(corpus, tmp_path / "run"))
    frame = run.examples()[0].document.frames[0]
    assert frame.path.startswith("frames/")
    assert len(frame.sha256) == 64


def test_fit_and_predict_and_normalize_and_score_are_the_parts_of_run(corpus, tmp_path):
    whole, parts = majority(corpus, tmp_path / "whole"), majority(corpus, tmp_path / "parts")
    pipeline.run(whole)
    pipeline.fit(parts)
    pipeline.predict(parts)
    pipeline.normalize(tmp_path / "parts")
    pipeline.score(tmp_path / "parts")
    assert files(tmp_path / "whole") == files(tmp_path / "parts")


def test_a_checkpoint_brought_along_gives_the_same_predictions_without_a_fit(corpus, tmp_path):
    pipeline.run(majority(corpus, tmp_path / "first"))
    pipeline.run(majority(corpus, tmp_path / "second", checkpoint=tmp_path / "first"))
    assert not (tmp_path / "second/checkpoint").exists()
    first, second = (tmp_path / name / "predictions.jsonl" for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()


def test_a_run_can_be_scored_again_when_its_system_is_gone(corpus, tmp_path):
    run = pipeline.run(majority(corpus, tmp_path / "run"))
    text = (run.path / "run.json").read_text()
    (run.path / "run.json").write_text(text.replace('"system": "majority"', '"system": "gone"'))
    before = (run.path / "scores.json").read_bytes()
    (run.path / "scores.json").unlink()
    pipeline.normalize(run.path)
    pipeline.score(run.path)
    assert (run.path / "scores.json").read_bytes() == before


def test_without_a_dev_split_a_part_of_train_is_held_out_by_group(tmp_path):
    corpus = small_corpus(tmp_path / "corpus", dev=0)
    work = plan(majority(corpus, tmp_path / "run"))
    groups = [{e.document.group for e in part} for part in (work.train, work.dev)]
    assert all(groups)
    assert not groups[0] & groups[1]


def test_a_language_can_be_chosen(corpus, tmp_path):
    run = pipeline.run(majority(corpus, tmp_path / "run", lang="zh"))
    assert {e.document.lang for e in run.examples()} == {"zh"}


def test_paths_may_be_strings(corpus, tmp_path):
    run = pipeline.run(Experiment(system="majority", corpus=str(corpus), out=str(tmp_path / "run")))
    assert run.path == tmp_path / "run"


def test_only_the_requested_tasks_are_scored(corpus, tmp_path):
    run = pipeline.run(majority(corpus, tmp_path / "run", tasks=("entity", "chain")))
    scores = run.scores()["languages"]["en"]["end_to_end"]
    assert scores["average_of"] == ["entity", "chain"]
    assert not {"relation", "grounding"} & set(scores["tasks"])


# --- missing modalities -----------------------------------------------------------------------------------------------


def test_a_hidden_text_is_not_shown_and_not_scored(corpus, tmp_path):
    run = pipeline.run(majority(corpus, tmp_path / "run", missing="text"))
    tasks = run.scores()["languages"]["en"]["end_to_end"]["tasks"]
    assert tasks["entity"]["f1"] is None
    assert all(not p.annotation.chains for p in run.predictions())
    assert any(e.document.text for e in run.examples())  # the run keeps the full documents


def test_thirds_store_their_manifest_with_the_run(corpus, tmp_path):
    record = pipeline.run(majority(corpus, tmp_path / "run", missing="thirds")).record()
    assert record.missing is not None
    assert set(record.missing["documents"].values()) == {"full", "no_text", "no_video"}


def test_thirds_hide_the_same_whatever_part_of_a_split_is_selected(corpus, tmp_path):
    def hidden(**words) -> dict[str, str]:
        return plan(majority(corpus, tmp_path / "run", missing="thirds", **words)).record.missing["documents"]

    for part in (hidden(limit=3), hidden(lang="zh")):
        assert part.items() <= hidden().items()
    assert hidden(seed=1) == hidden()  # runs of several seeds stand in one row


def test_a_limit_takes_the_first_documents_of_each_language_and_says_so(corpus, tmp_path):
    planned = plan(majority(corpus, tmp_path / "run", limit=2, limit_train=3))
    whole = plan(majority(corpus, tmp_path / "run"))
    for part, most in (("test", 2), ("train", 3)):
        for lang in ("en", "zh"):
            kept, of = ([e for e in getattr(p, part) if e.document.lang == lang] for p in (planned, whole))
            assert kept == of[:most]
    assert "--limit 2: 4 of 8 documents of 'test', the first of each language" in planned.notes
    assert "--limit-train 3: 6 of 12 documents of 'train', the first of each language" in planned.notes


def test_a_plan_reads_no_document_again_and_again(corpus, tmp_path, monkeypatch):
    lines: list[bytes] = []

    def read(line: bytes) -> Example:
        lines.append(line)
        return decode_example(line)

    monkeypatch.setattr(native, "decode_example", read)
    plan(majority(corpus, tmp_path / "run", limit=2, limit_train=3))
    assert len(lines) <= 2 * len(set(lines))


def test_a_run_whose_limit_counted_otherwise_is_not_resumed(corpus, tmp_path):
    run = pipeline.run(majority(corpus, tmp_path / "run", limit=1))
    lines = (run.path / "documents.jsonl").read_bytes().splitlines(keepends=True)
    (run.path / "documents.jsonl").write_bytes(lines[0])
    with pytest.raises(UserError, match="covers other documents than this version selects by the same options"):
        pipeline.run(majority(corpus, tmp_path / "run", limit=1))


def test_a_manifest_file_says_what_is_hidden(corpus, tmp_path):
    first = pipeline.run(majority(corpus, tmp_path / "a", missing="thirds"))
    (tmp_path / "manifest.json").write_text(json.dumps(first.record().missing))
    second = pipeline.run(majority(corpus, tmp_path / "b", missing=str(tmp_path / "manifest.json")))
    assert first.record().missing == second.record().missing
