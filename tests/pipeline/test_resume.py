"""A run that was cut off anywhere, and one that an older version began, is resumed."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from m3dllm import pipeline
from m3dllm.errors import UserError
from m3dllm.experiment import Experiment, plan
from m3dllm.runs import Run
from m3dllm.types import Failure, RawOutput
from m3dllm.wire import encode_raw
from tests.pipeline.asking import ROOT, files, majority
from tests.small import png


def test_a_torn_last_line_costs_that_document_only(corpus, tmp_path):
    run = pipeline.run(majority(corpus, tmp_path / "run"))
    whole = files(run.path)
    raw = run.path / "raw.jsonl"
    raw.write_bytes(raw.read_bytes()[:-20])
    pipeline.run(majority(corpus, tmp_path / "run"))
    assert files(run.path) == whole


def test_answers_of_another_time_keep_what_made_them(corpus, tmp_path):
    run = pipeline.run(majority(corpus, tmp_path / "run"))
    run.write_record(replace(run.record(), git="old", versions={"m3dllm": "0.0.1"}, command=("then",)))
    again = pipeline.run(majority(corpus, tmp_path / "run", command=("now",))).record()
    assert (again.git, again.versions, again.command) == ("old", {"m3dllm": "0.0.1"}, ("then",))


def test_a_run_of_two_times_says_what_made_each_part(corpus, tmp_path):
    run = pipeline.run(majority(corpus, tmp_path / "run"))
    now = run.record()
    run.write_record(replace(now, git="old"))
    raw = run.path / "raw.jsonl"
    raw.write_bytes(raw.read_bytes()[:-20])
    again = pipeline.run(majority(corpus, tmp_path / "run")).record()
    assert again.git == now.git
    assert [earlier["git"] for earlier in again.earlier] == ["old"]


def test_a_frame_that_changed_between_two_times_is_refused(corpus, tmp_path):
    changed = shutil.copytree(corpus, tmp_path / "corpus")
    run = pipeline.run(majority(changed, tmp_path / "run"))
    last = next(e.document for e in run.examples() if e.document.frames)
    lines = (run.path / "raw.jsonl").read_bytes().splitlines(keepends=True)
    (run.path / "raw.jsonl").write_bytes(b"".join(line for line in lines if f'"{last.id}"'.encode() not in line))
    (changed / last.frames[0].path).write_bytes(png(colour="red"))
    with pytest.raises(UserError, match="has changed since the run began"):
        pipeline.run(majority(changed, tmp_path / "run"))


def test_answers_from_a_file_that_changed_make_another_run(corpus, tmp_path):
    answers = shutil.copy(corpus / "test.jsonl", tmp_path)
    asked = Experiment(system="replay", corpus=corpus, options={"answers": str(answers)}, out=tmp_path / "run")
    pipeline.run(asked)
    Path(answers).write_bytes(Path(answers).read_bytes() + b"\n")
    with pytest.raises(UserError, match=r"is a run with other settings: sources.answers was"):
        pipeline.run(asked)


def test_without_answers_nothing_is_normalized(corpus, tmp_path):
    run = pipeline.run(majority(corpus, tmp_path / "run"))
    before = (run.path / "predictions.jsonl").read_bytes()
    (run.path / "raw.jsonl").unlink()
    with pytest.raises(UserError, match=r"has no raw.jsonl: run the same command again"):
        pipeline.normalize(run.path)
    assert (run.path / "predictions.jsonl").read_bytes() == before


def test_documents_without_an_answer_are_counted(corpus, tmp_path, caplog):
    run = pipeline.run(majority(corpus, tmp_path / "run"))
    (run.path / "raw.jsonl").write_bytes(b"")
    pipeline.normalize(run.path)
    assert "no answer for 8 documents" in caplog.text


@pytest.mark.parametrize(("train", "dev", "what"), [("test", "train", "fitted to"), ("train", "test", "chosen by")])
def test_a_checkpoint_that_knows_the_documents_says_so(corpus, tmp_path, train, dev, what):
    fitted = pipeline.fit(majority(corpus, tmp_path / "fit", split="dev", train=train, dev=dev))
    run = pipeline.run(majority(corpus, tmp_path / "run", checkpoint=fitted.path))
    assert run.record().notes == (f"the checkpoint was {what} 'test', the same documents that it is evaluated on",)


def test_a_retryable_error_is_retried_and_another_is_not(corpus, tmp_path):
    run = pipeline.run(majority(corpus, tmp_path / "run"))
    first, second = (e.document.id for e in run.examples()[:2])
    with (run.path / "raw.jsonl").open("ab") as out:
        out.write(encode_raw(RawOutput(first, error=Failure("the server is gone", retryable=True))) + b"\n")
        out.write(encode_raw(RawOutput(second, error="no answer")) + b"\n")
    before = run.raws()
    assert [e.document.id for e in run.examples() if not before.is_answered((e.document.id, None))] == [first]
    again = [e.document.id for e in run.examples() if not before.is_answered((e.document.id, None), retry_failed=True)]
    assert again == [first, second]
    assert [raw.document for raw in before.failed()] == [first, second]
    assert [raw.document for raw in before.failed(retryable=True)] == [first]
    raws = pipeline.run(majority(corpus, tmp_path / "run")).raws()
    assert raws[first, None].error is None
    assert raws[second, None].error == "no answer"


def test_a_run_of_something_else_is_refused_with_what_changed(corpus, tmp_path):
    pipeline.run(majority(corpus, tmp_path / "run"))
    with pytest.raises(UserError, match=r"seed was 0, is now 5"):
        pipeline.run(majority(corpus, tmp_path / "run", seed=5))


def test_an_incidental_option_may_change_when_a_run_is_taken_up_again(corpus, tmp_path):
    record = plan(majority(corpus, tmp_path / "run")).record
    here, there = (replace(record, config={"base_url": url, "shots": 1}, incidental=("base_url",)) for url in "ab")
    assert list(here.differences(there)) == []
    assert list(here.differences(replace(there, config={"base_url": "b", "shots": 2}))) == [
        "config.shots was 1, is now 2"
    ]


def test_a_system_that_asks_with_no_prompt_has_none_to_show(corpus, tmp_path):
    with pytest.raises(UserError, match="'majority' does not use prompts"):
        pipeline.preview(majority(corpus, tmp_path / "run"))


def test_a_changed_corpus_is_refused(corpus, tmp_path):
    changed = shutil.copytree(corpus, tmp_path / "corpus")
    pipeline.run(majority(changed, tmp_path / "run"))
    lines = (changed / "test.jsonl").read_bytes().splitlines(keepends=True)
    (changed / "test.jsonl").write_bytes(b"".join(lines[:-1]))
    with pytest.raises(UserError, match=r"corpus\.sha256\.test\.jsonl was"):
        pipeline.run(majority(changed, tmp_path / "run"))


def test_each_distinct_prompt_is_kept_once_across_resumes(tmp_path):
    run = Run(tmp_path)
    with run.prompt_log() as log:
        log.add({"a1": "Who is Ada?", "b2": "谁是苏珊？"})
    with run.prompt_log() as log:
        log.add({"b2": "谁是苏珊？", "c3": "Who?"})
    kept = [json.loads(line) for line in (tmp_path / "prompts.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["sha256"] for row in kept] == ["a1", "b2", "c3"]


def test_a_run_in_use_is_refused(corpus, tmp_path):
    run = pipeline.run(majority(corpus, tmp_path / "run"))
    with run.locked(), pytest.raises(UserError, match="in use by another process"):
        pipeline.run(majority(corpus, tmp_path / "run"))


def test_a_full_disk_takes_back_the_half_written_line(corpus, tmp_path):
    run = pipeline.run(majority(corpus, tmp_path / "run"))
    before = (run.path / "raw.jsonl").read_bytes()
    code = (
        "import resource, sys\n"
        "from m3dllm.runs import Run\n"
        "from m3dllm.errors import UserError\n"
        "from pathlib import Path\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({len(before)} + 10, -1))\n"
        "try:\n"
        "    with Run(Path(sys.argv[1])).raw_log() as log: log.append(b'y' * 1000)\n"
        "except UserError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(run.path)], capture_output=True, text=True, cwd=ROOT)
    assert "raw.jsonl: cannot be written" in done.stdout, done.stderr
    assert (run.path / "raw.jsonl").read_bytes() == before


def kill_and_resume(words: list[str], env: dict[str, str], moments: list[float]) -> None:
    """Start the command, kill it after each of `moments`, and at last let it finish."""
    for moment in moments:
        started = subprocess.Popen(words, env=env, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(moment)
        started.send_signal(signal.SIGKILL)
        started.wait()
    done = subprocess.run(words, env=env, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_with_the_files_of_an_undisturbed_one(corpus, tmp_path, plugged):
    def command(out: str) -> list[str]:
        system = ["--system", "capitals", "--lang", "en", "--pause-s", "0.05"]
        return [sys.executable, "-m", "m3dllm", "run", *system, "--corpus", str(corpus), "--out", str(tmp_path / out)]

    kill_and_resume(command("whole"), plugged, [])
    chance = random.Random(1)
    kill_and_resume(command("killed"), plugged, [chance.uniform(0.1, 1.0) for _ in range(6)])
    assert files(tmp_path / "whole") == files(tmp_path / "killed")


@pytest.mark.slow
def test_a_fit_killed_at_random_moments_ends_with_the_files_of_an_undisturbed_one(corpus, tmp_path):
    def command(out: str) -> list[str]:
        words = ["--system", "majority", "--pairs", "both", "--corpus", str(corpus), "--out", str(tmp_path / out)]
        return [sys.executable, "-m", "m3dllm", "run", *words]

    env = os.environ | {"OMP_NUM_THREADS": "1"}
    kill_and_resume(command("whole"), env, [])
    chance = random.Random(2)
    kill_and_resume(command("killed"), env, [chance.uniform(0.3, 1.2) for _ in range(5)])
    assert files(tmp_path / "whole") == files(tmp_path / "killed")


# --- runs of an older version -----------------------------------------------------------------------------------------


def older(run, **changes):
    """The run's record as a version wrote it that lacked an option, or had another."""
    record = json.loads((run.path / "run.json").read_text())
    record["config"] |= changes
    record["config"] = {name: value for name, value in record["config"].items() if value is not None}
    (run.path / "run.json").write_text(json.dumps(record))


def test_a_run_whose_version_lacked_an_option_is_resumed_where_the_option_has_its_default(corpus, tmp_path):
    run = pipeline.run(majority(corpus, tmp_path / "run"))
    older(run, boxes=None)
    (run.path / "raw.jsonl").write_bytes((run.path / "raw.jsonl").read_bytes().splitlines(keepends=True)[0])
    before = run.raws()
    again = pipeline.run(majority(corpus, tmp_path / "run")).raws()
    assert len(again) > len(before)
    assert again.items() >= before.items()
    older(run, boxes=None)
    with pytest.raises(UserError, match=r"config.boxes was 8, is now 3"):
        pipeline.run(majority(corpus, tmp_path / "run", options={"boxes": 3}))


def test_a_run_with_an_option_that_is_gone_is_refused_in_one_line(corpus, tmp_path):
    run = pipeline.run(majority(corpus, tmp_path / "run"))
    older(run, lemmas=True)
    with pytest.raises(UserError, match=r"is a run with other settings: config.lemmas was true, is now nothing"):
        pipeline.run(majority(corpus, tmp_path / "run"))


def test_without_out_a_run_is_found_that_an_older_version_named(corpus, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = pipeline.run(Experiment(system="majority", corpus=corpus))
    named = run.path.rename(run.path.with_name(run.path.name[:-8] + "0123abcd"))
    older(Run(named), boxes=None)
    assert plan(Experiment(system="majority", corpus=corpus)).path == named
    assert plan(Experiment(system="majority", corpus=corpus, seed=1)).path != named


def test_each_step_of_a_run_opens_each_file_at_most_once(corpus, tmp_path, monkeypatch):
    parsed = []
    for name in ("examples", "raws", "predictions"):
        real = getattr(Run, name)
        monkeypatch.setattr(Run, name, lambda run, *a, _r=real, _n=name, **k: parsed.append(_n) or _r(run, *a, **k))
    out = pipeline.run(majority(corpus, tmp_path / "run", pairs="both")).path
    assert sorted(parsed) == ["examples"] * 2 + ["predictions"] + ["raws"] * 3  # predict, normalize, score
    parsed.clear()
    pipeline.run(majority(corpus, out, pairs="both"))
    assert sorted(parsed) == ["examples"] * 2 + ["predictions"] + ["raws"] * 2
    parsed.clear()
    pipeline.normalize(out)
    pipeline.score(out)
    assert sorted(parsed) == ["examples"] * 2 + ["predictions"] + ["raws"] * 2


def test_an_option_of_a_fit_is_no_part_of_a_run_that_fits_nothing(corpus, tmp_path):
    def identity(**words):
        return plan(Experiment(system="video-llm", corpus=corpus, out=tmp_path / "run", **words)).record.identity()

    pytest.importorskip("torch", reason="needs the extra 'llm'")
    assert identity() == identity(options={"lr": "1e-3"})
    assert identity() != identity(options={"shots": "1"})


def test_an_option_of_a_fit_in_a_run_that_fits_nothing_is_noted(corpus, tmp_path):
    pytest.importorskip("torch", reason="needs the extra 'llm'")
    options = {"lr": "1e-3", "shots": "1"}
    notes = plan(Experiment(system="video-llm", corpus=corpus, out=tmp_path / "run", options=options)).notes
    assert [note for note in notes if "--lr" in note] == [
        "--lr: only has an effect in training, and nothing is trained here"
    ]
