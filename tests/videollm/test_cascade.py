"""Two systems, one after the other: what the second is shown, and what a run keeps of both."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="needs the extra 'llm'")
pytest.importorskip("llguidance", reason="needs the extra 'llm'")

from m3dllm import Experiment, run
from m3dllm.cascade import Config
from m3dllm.errors import UserError
from m3dllm.experiment import plan
from m3dllm.normalize import normalize
from m3dllm.options import public, public_command, resolve_config
from m3dllm.pipeline import preview
from m3dllm.registry import find_system
from m3dllm.runs import Run
from m3dllm.systems.videollm import config as videollm
from m3dllm.systems.videollm.system import VideoLLM
from m3dllm.tokens import tokenize
from m3dllm.types import Annotation, Box, Chain, Document, Mention, Region, Relation
from tests.small import LABELS, example, small_corpus
from tests.videollm.documents import HARMLESS, adversarial, document, frames

SPEC = find_system("cascade")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """Among its documents are Chinese ones, one without text and one without frames."""
    return small_corpus(tmp_path_factory.mktemp("corpus"), test=7)


def experiment(corpus: Path, tiny, out: Path, **options) -> Experiment:
    second = [f"model={tiny('qwen2_5_vl')}", "dtype=float32", "device=cpu", "frames=1", "longest_side=64"]
    given = {"first": "majority", "second_option": second, **options}
    return Experiment(system="cascade", corpus=corpus, out=out, options=given)


@pytest.fixture(scope="module")
def made(corpus, tiny, tmp_path_factory) -> Run:
    return run(experiment(corpus, tiny, tmp_path_factory.mktemp("run") / "cascade"))


def test_the_first_is_fitted_in_the_run_and_the_second_prompted_about_what_it_proposes(made):
    raws = list(made.raws())
    assert [made.raws()[key].failure for key in raws] == [None] * 7
    assert json.loads((made.checkpoint / "done.json").read_text())["system"] == "majority"
    stages = {turn.stage for key in raws for turn in made.raws()[key].turns}
    assert {"type", "relation", "region", "proposed by majority"} <= stages


def test_an_answer_keeps_what_was_proposed_and_costs_what_both_cost(made):
    for key in made.raws():
        raw = made.raws()[key]
        assert raw.turns[-1].stage == "proposed by majority"
        assert {"chains", "relations", "regions"} == json.loads(raw.turns[-1].text).keys()
        assert (raw.tokens_in or 0) == sum(turn.tokens_in or 0 for turn in raw.turns)


def test_what_is_left_was_proposed(made):
    for prediction in made.predictions():
        raw = made.raws()[prediction.document, None]
        proposed = json.loads(raw.turns[-1].text)
        spans = {(m["start"], m["end"]) for chain in proposed["chains"] for m in chain["mentions"]}
        assert {m.span for m in prediction.annotation.mentions} <= spans
        assert len(prediction.annotation.regions) <= len(proposed["regions"])


def test_the_record_says_what_both_were(made):
    said = made.record().provenance
    assert (said["first"]["system"], said["second"]["system"]) == ("majority", "video-llm")
    assert said["second"]["config"]["strategy"] == "verify"
    assert said["sha256"] == said["second"]["sha256"]
    assert made.record().tally["stages"]["type"] > 0


def test_the_proposals_of_a_finished_run_are_taken_from_its_files(corpus, made, tiny, tmp_path):
    first = run(Experiment(system="majority", corpus=corpus, out=tmp_path / "majority"))
    options = {"first": "replay", "first_option": [f"answers={first.path}"]}
    again = run(experiment(corpus, tiny, tmp_path / "replayed", **options))
    assert not (again.path / "checkpoint").exists()
    assert [p.annotation for p in again.predictions()] == [p.annotation for p in made.predictions()]


def test_a_document_that_the_first_fails_on_is_not_prompted_about(corpus, tiny, tmp_path):
    first = run(Experiment(system="majority", corpus=corpus, out=tmp_path / "majority", limit=1))
    options = {"first": "replay", "first_option": [f"answers={first.path}"]}
    made = run(replace(experiment(corpus, tiny, tmp_path / "cascade", **options), limit=2))
    failures = [made.raws()[key].failure for key in made.raws()]
    assert [failure is None for failure in failures] == [True, True, False, False]
    assert "replay: " in failures[2].message


def test_it_declares_what_the_first_can_do(tmp_path):
    options = {"first": "detector", "first_option": f"model={tmp_path / 'faces.onnx'}"}
    config = resolve_config(SPEC, options, preset=None, seed=0)
    pytest.importorskip("onnxruntime", reason="needs the extra 'detector'")
    spec = SPEC.declared(config)
    assert (spec.tasks, spec.trainable, spec.takes_given) == ({"grounding"}, False, False)
    majority = SPEC.declared(Config(first="majority"))
    assert (majority.fits_first, majority.fitted_name, majority.takes_given) == (True, "majority", True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"first": "dfffm"}, "unknown system 'dfffm'; did you mean 'dffm'"),
        ({"first": "majority", "second": "majority"}, "--second majority: cannot check what another system proposes"),
        ({"first": "majority", "first_option": "boxes"}, "--first-option boxes: expected NAME=VALUE"),
        ({"first": "majority", "first_option": "boxen=3"}, "has no option --boxen; did you mean --boxes"),
        ({"first": "replay"}, "system 'replay' needs --answers"),
        ({"first": "majority", "second_option": "strategy=jont"}, "--strategy jont: expected "),
    ],
)
def test_options_that_cannot_be_are_one_line(options, message):
    with pytest.raises(UserError) as caught:
        resolve_config(SPEC, options, preset=None, seed=0)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_strategy_that_does_not_check_is_one_line_and_so_is_one_without_proposals(tiny):
    config = videollm.Config(model=tiny("qwen2_5_vl"), device="cpu", strategy="verify")
    with pytest.raises(
        UserError, match="--strategy verify checks the proposals of another system: use --system cascade"
    ):
        VideoLLM(config, labels=LABELS).predict([document("d")])
    proposed = replace(document("d"), proposed=example("d", "[PER0 Ada] .").gold)
    with pytest.raises(UserError, match="--strategy joint predicts from scratch"):
        VideoLLM(replace(config, strategy="joint"), labels=LABELS).predict([proposed])


def test_options_of_the_second_may_be_secret_and_those_that_change_no_answer_are_no_part_of_a_run():
    words = ("header=Authorization: Bearer s3cret", "device=cpu", "strategy=verify")
    config = Config(first="majority", second_option=words)
    assert public(config)["second_option"] == ["strategy=verify"]
    command = public_command(("m3dllm", "--second-option", words[0], f"--second-option={words[0]}"), config)
    assert "s3cret" not in " ".join(command)


def proposals(made: Document) -> Annotation:
    """Something to check in a document, whatever it says: its first tokens, two in one chain, and its frames."""
    spans = tokenize(made)[:4] if made.text.strip() else []
    chains = [Chain(f"x{i}", (Mention(*span, ("PER", "LOC")[i % 2], 0.5),)) for i, span in enumerate(spans[1:])]
    first = (Chain("x", (*(Mention(*span, "PER") for span in spans[:1]), *(c.mentions[0] for c in chains[:1]))),)
    chains = [*(first if spans else ()), *chains[1:]]
    relations = tuple(Relation(a.id, b.id, "PER-LOC_birth") for a, b in pairwise(chains))
    return Annotation(
        tuple(chains), relations, tuple(Region(f.index, Box(0.1, 0.1, 0.5, 0.9), "PER") for f in made.frames)
    )


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_whatever_a_document_says_what_is_left_was_proposed_and_is_right(tiny, tmp_path, lang):
    stills = frames(tmp_path, (64, 64))
    documents = [replace(d, proposed=proposals(d)) for d in adversarial(6, lang, stills, longest=20)]
    config = videollm.Config(
        model=tiny("qwen2_5_vl"), device="cpu", dtype="float32", strategy="verify", temperature=1.0, longest_side=64
    )
    for made, raw in zip(documents, VideoLLM(config, labels=LABELS).predict(documents), strict=True):
        assert raw.failure is None
        found = normalize(made, raw, LABELS)
        assert {issue.code for issue in found.issues} <= HARMLESS
        assert {m.span for m in found.annotation.mentions} <= {m.span for m in made.proposed.mentions}
        assert {r.frame for r in found.annotation.regions} <= {r.frame for r in made.proposed.regions}


def test_a_value_of_several_parts_is_one_option():
    config = Config(first="majority", second_option=("omit=temperature", "seed", "shots=0"))
    assert config.parts[1].config.omit == ("temperature", "seed")


def test_what_was_left_open_is_settled_before_a_run_is_recorded(corpus, tiny, tmp_path):
    made = plan(experiment(corpus, tiny, tmp_path / "run"))
    assert "prompt_version=2" in made.record.config["second_option"]
    assert made.record.config["first"] == "majority"


def test_a_dry_run_shows_the_prompts_of_both_systems(corpus, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {"first": "majority", "second_option": [f"model={tiny('qwen2_5_vl')}"]}
    shown = preview(Experiment(system="cascade", corpus=corpus, options=options, out=tmp_path / "runs/both"))
    assert shown.startswith("first, majority: does not use prompts\n\nsecond, video-llm, if '")
    assert shown.endswith("the answer is constrained by both.grammar")
    assert not (tmp_path / "runs").exists()
