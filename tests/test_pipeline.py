"""A run from documents to scores, cut off anywhere and taken up again."""

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

from m3dllm import pipeline, session
from m3dllm.errors import UserError
from m3dllm.experiment import Experiment, plan
from m3dllm.labels import LabelSet
from m3dllm.options import parse_options
from m3dllm.runs import Run
from m3dllm.system import System
from m3dllm.types import Failure, RawOutput
from m3dllm.wire import decode_raw, encode_raw
from tests.small import png, small_corpus

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return small_corpus(tmp_path_factory.mktemp("small") / "corpus")


@pytest.fixture(scope="session")
def plugged(tmp_path_factory) -> dict[str, str]:
    """The environment of a process in which the plugin in tests/plugin is installed."""
    target = tmp_path_factory.mktemp("plugged")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--target", str(target), str(ROOT / "tests/plugin")], check=True, capture_output=True)
    return os.environ | {"PYTHONPATH": str(target), "OMP_NUM_THREADS": "1"}


def m3dllm(*words: object, env: dict[str, str] | None = None, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "m3dllm", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=cwd)


def majority(corpus: Path, out: Path, **words) -> Experiment:
    return Experiment(system="majority", corpus=corpus, out=out, **words)


def files(run: Path) -> dict[str, bytes]:
    """The files of a run that do not tell the time."""
    names = ("documents.jsonl", "raw.jsonl", "predictions.jsonl", "scores.json", "per_document.jsonl")
    found = {name: (run / name).read_bytes() for name in names}
    return found | {p.name: p.read_bytes() for p in (run / "checkpoint").glob("*")}


# --- a whole run ------------------------------------------------------------------------------------------------------


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


def test_a_finished_run_keeps_its_times_and_its_tally_when_it_is_asked_for_again(corpus, tmp_path):
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


def test_only_the_tasks_asked_for_are_scored(corpus, tmp_path):
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


def test_thirds_hide_the_same_whatever_part_of_a_split_is_asked(corpus, tmp_path):
    def hidden(**words) -> dict[str, str]:
        return plan(majority(corpus, tmp_path / "run", missing="thirds", **words)).record.missing["documents"]

    for part in (hidden(limit=3), hidden(lang="zh")):
        assert part.items() <= hidden().items()


def test_a_limit_takes_the_first_documents_of_each_language_and_says_so(corpus, tmp_path):
    planned = plan(majority(corpus, tmp_path / "run", limit=2, limit_train=3))
    whole = plan(majority(corpus, tmp_path / "run"))
    for part, most in (("test", 2), ("train", 3)):
        for lang in ("en", "zh"):
            kept, of = ([e for e in getattr(p, part) if e.document.lang == lang] for p in (planned, whole))
            assert kept == of[:most]
    assert "--limit 2: 4 of 8 documents of 'test', the first of each language" in planned.notes
    assert "--limit-train 3: 6 of 12 documents of 'train', the first of each language" in planned.notes


def test_a_run_whose_limit_counted_otherwise_is_not_resumed(corpus, tmp_path):
    run = pipeline.run(majority(corpus, tmp_path / "run", limit=1))
    lines = (run.path / "documents.jsonl").read_bytes().splitlines(keepends=True)
    (run.path / "documents.jsonl").write_bytes(lines[0])
    with pytest.raises(UserError, match="is about other documents than this version takes by the same words"):
        pipeline.run(majority(corpus, tmp_path / "run", limit=1))


def test_a_manifest_file_says_what_is_hidden(corpus, tmp_path):
    first = pipeline.run(majority(corpus, tmp_path / "a", missing="thirds"))
    (tmp_path / "manifest.json").write_text(json.dumps(first.record().missing))
    second = pipeline.run(majority(corpus, tmp_path / "b", missing=str(tmp_path / "manifest.json")))
    assert first.record().missing == second.record().missing


# --- resume -----------------------------------------------------------------------------------------------------------


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
    with pytest.raises(UserError, match="is another image than when the run began"):
        pipeline.run(majority(changed, tmp_path / "run"))


def test_answers_from_a_file_that_changed_make_another_run(corpus, tmp_path):
    answers = shutil.copy(corpus / "test.jsonl", tmp_path)
    asked = Experiment(system="replay", corpus=corpus, options={"answers": str(answers)}, out=tmp_path / "run")
    pipeline.run(asked)
    Path(answers).write_bytes(Path(answers).read_bytes() + b"\n")
    with pytest.raises(UserError, match=r"is a run of something else: sources.answers was"):
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


@pytest.mark.parametrize(("train", "what"), [("test", "fitted to"), ("train", "chosen by")])
def test_a_checkpoint_that_knows_the_documents_says_so(corpus, tmp_path, train, what):
    fitted = pipeline.fit(majority(corpus, tmp_path / "fit", split="dev", train=train, dev="test"))
    run = pipeline.run(majority(corpus, tmp_path / "run", checkpoint=fitted.path))
    assert run.record().notes == (f"the checkpoint was {what} 'test', the very documents that it is evaluated on",)


def test_a_retryable_error_is_asked_again_and_another_is_not(corpus, tmp_path):
    run = pipeline.run(majority(corpus, tmp_path / "run"))
    first, second = (e.document.id for e in run.examples()[:2])
    with (run.path / "raw.jsonl").open("ab") as out:
        out.write(encode_raw(RawOutput(first, error=Failure("the server is gone", retryable=True))) + b"\n")
        out.write(encode_raw(RawOutput(second, error="no answer")) + b"\n")
    assert [e.document.id for e in run.examples() if (e.document.id, None) not in run.answered()] == [first]
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
    with pytest.raises(UserError, match="'majority' asks with no prompt"):
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


# --- a third party's system -------------------------------------------------------------------------------------------


def test_an_installed_plugin_is_listed(plugged):
    done = m3dllm("systems", "--json", env=plugged)
    assert {"name": "capitals", "tasks": ["entity"]}.items() <= json.loads(done.stdout)[0].items()


def test_an_installed_plugin_runs_and_is_scored_on_its_task_alone(corpus, tmp_path, plugged):
    done = m3dllm(
        "run", "--system", "capitals", "--corpus", corpus, "--lang", "en", "--out", tmp_path / "r", env=plugged
    )
    assert done.returncode == 0, done.stderr
    scores = Run(tmp_path / "r").scores()["languages"]["en"]["end_to_end"]
    assert scores["average_of"] == ["entity"]
    assert scores["tasks"]["entity"]["recall"] == pytest.approx(0.75)


def test_a_language_that_a_system_does_not_read_is_one_line(corpus, plugged):
    done = m3dllm("run", "--system", "capitals", "--corpus", corpus, env=plugged)
    assert done.returncode == 2
    assert done.stderr.startswith("m3dllm: system 'capitals' does not read zh")
    assert done.stderr.count("\n") == 1


def test_a_plugin_that_fails_on_import_is_one_line_and_leaves_the_others_alone(tmp_path, plugged):
    (tmp_path / "rotten.py").write_text("raise RuntimeError('no such luck')\n")
    info = tmp_path / "rotten-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: rotten\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[m3dllm.systems]\nrotten = rotten:SPEC\n")
    env = plugged | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{plugged['PYTHONPATH']}"}
    done = m3dllm("run", "--system", "rotten", env=env)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "system 'rotten' of rotten cannot be loaded: RuntimeError: no such luck" in done.stderr
    listed = m3dllm("systems", env=env)
    assert listed.returncode == 0
    assert "no such luck" in listed.stdout


def test_an_answer_that_cannot_be_kept_fails_its_document_alone(corpus, tmp_path):
    payloads = ["\ud800", object(), {"x": 10**400}, "fine"]

    class Odd(System):
        def predict(self, documents):
            for document, payload in zip(documents, payloads, strict=False):
                yield RawOutput(document.id, payload=payload)

    documents = [e.document for e in plan(majority(corpus, tmp_path / "run")).test[:4]]
    lines = session.checked_answers(Odd(None, labels=LabelSet()), documents, "odd")
    errors = [decode_raw(line).error for _, line in lines]
    assert [bool(error) for error in errors] == [True, True, False, False]


def test_a_system_that_answers_the_wrong_document_is_named(corpus, tmp_path):
    class Wrong(System):
        def predict(self, documents):
            yield from (RawOutput("elsewhere") for _ in documents)

    documents = [e.document for e in plan(majority(corpus, tmp_path / "run")).test]
    with pytest.raises(UserError, match="'wrong' answered 'elsewhere' where document 'test0' was next"):
        list(session.checked_answers(Wrong(None, labels=LabelSet()), documents, "wrong"))


def test_a_system_that_stops_early_is_named(corpus, tmp_path):
    class Short(System):
        def predict(self, documents):
            return iter(())

    documents = [e.document for e in plan(majority(corpus, tmp_path / "run")).test]
    with pytest.raises(UserError, match="'short' stopped before document 'test0'"):
        list(session.checked_answers(Short(None, labels=LabelSet()), documents, "short"))


# --- what the user can mend -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"system": "majorty"}, "did you mean 'majority'"),
        ({"split": "exam"}, "has no split 'exam'; it has train, dev, test"),
        ({"train": "school"}, "has no train split: 'school' is not there"),
        ({"train": "test"}, "'test' is the split to predict"),
        ({"preset": "large"}, "has no preset 'large'"),
        ({"options": {"shotz": "1"}}, "has no option --shotz"),
        ({"missing": "nowhere.json"}, "nowhere.json"),
        ({"checkpoint": Path("nowhere")}, "nowhere: does not exist"),
        ({"corpus": Path("nowhere")}, "nowhere: does not exist"),
        ({"pairs": "silver"}, "there is no protocol 'silver' for pairs; expected end-to-end, gold, both"),
        ({"limit": -1}, "--limit -1 leaves no document"),
        ({"limit_train": 0}, "--limit-train 0 leaves no document"),
        ({"tasks": ()}, "expected some of entity, chain, relation, grounding"),
        ({"tasks": "entity"}, "tasks 'entity': expected some of"),
        ({"system": "nothing"}, "there is no system 'nothing'; known: "),
        ({"options": {"boxes": "-3"}}, "boxes"),
    ],
)
def test_a_word_that_names_nothing_is_one_line_with_the_remedy(corpus, tmp_path, words, message):
    base = {"system": "majority", "corpus": corpus, "out": tmp_path / "run"}
    with pytest.raises(UserError) as caught:
        pipeline.run(Experiment(**(base | words)))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "damage", [Path.unlink, lambda p: p.write_bytes(p.read_bytes()[:-9]), lambda p: p.write_text("x")]
)
def test_a_frame_that_is_missing_truncated_or_no_image_stops_the_run_before_it_begins(corpus, tmp_path, damage):
    broken = shutil.copytree(corpus, tmp_path / "corpus")
    frame = sorted((broken / "frames").glob("test*/*.png"))[0]
    damage(frame)
    with pytest.raises(UserError, match=frame.name):
        pipeline.run(majority(broken, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_of_another_label_set_is_refused(corpus, tmp_path):
    pipeline.run(majority(corpus, tmp_path / "run"))
    other = shutil.copytree(corpus, tmp_path / "corpus")
    labels = json.loads((other / "labels.json").read_text())
    labels["mentions"].append({"name": "ORG"})
    (other / "labels.json").write_text(json.dumps(labels))
    with pytest.raises(UserError, match="another label set"):
        pipeline.run(majority(other, tmp_path / "second", checkpoint=tmp_path / "run"))


def test_a_changed_checkpoint_file_is_refused(corpus, tmp_path):
    run = pipeline.run(majority(corpus, tmp_path / "run"))
    file = next(p for p in run.checkpoint.iterdir() if p.name != "done.json")
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(UserError, match="truncated or changed"):
        pipeline.run(majority(corpus, tmp_path / "second", checkpoint=tmp_path / "run"))


def test_out_that_is_some_other_folder_is_refused(corpus, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/one.jpg").write_bytes(b"")
    with pytest.raises(UserError, match="is no run directory"):
        pipeline.run(majority(corpus, tmp_path / "photos"))
    assert (tmp_path / "photos/one.jpg").exists()


def test_a_variant_that_is_not_known_is_told_before_anything_is_done(corpus, tmp_path):
    with pytest.raises(UserError, match="variant 'foo' is not known"):
        pipeline.run(majority(corpus, tmp_path / "run"), variants=("foo",))
    assert not (tmp_path / "run").exists()


def test_a_prompt_log_that_is_damaged_is_one_line(tmp_path):
    (tmp_path / "prompts.jsonl").write_text('{"sha256": "a", "text": "b"}\n{bad\n')
    with pytest.raises(UserError, match=r"prompts.jsonl:2"), Run(tmp_path).prompt_log():
        pass


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (["--shots", "2"], {"shots": "2"}),
        (["--box-convention=pixels"], {"box_convention": "pixels"}),
        (["--unconstrained", "--shots", "2"], {"unconstrained": "true", "shots": "2"}),
        (["--without", "dffm", "--without", "mmcm"], {"without": "dffm,mmcm"}),
        (["--offset", "-3"], {"offset": "-3"}),
    ],
)
def test_a_systems_own_options_are_read_from_the_command_line(words, options):
    assert parse_options(words) == options


def test_a_word_without_an_option_is_refused():
    with pytest.raises(UserError, match="'stray' belongs to no option"):
        parse_options(["stray"])


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
    with pytest.raises(UserError, match=r"is a run of something else: config.lemmas was true, is now nothing"):
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
    assert [note for note in notes if "--lr" in note] == ["--lr: only of use to a fit, and nothing is fitted here"]
