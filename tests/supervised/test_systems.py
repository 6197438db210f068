"""What every supervised system does: learn by heart, use every parameter, see a document alone as in a batch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from m3dllm.config import options_of
from m3dllm.errors import UserError
from m3dllm.experiment import resolve_config
from m3dllm.registry import built_in
from m3dllm.systems.supervised.config import Config
from m3dllm.systems.supervised.data import gold_of
from m3dllm.systems.supervised.decoding import Thresholds
from m3dllm.systems.supervised.learner import SupervisedLearner, describe
from m3dllm.systems.supervised.predict import decoders, dev_scores
from m3dllm.training import weighted_sum
from m3dllm.types import Document
from tests.supervised.documents import LABELS, four

SUPERVISED = [name for name, spec in built_in().items() if issubclass(spec.config_class() or object, Config)]
CERTAIN = dict.fromkeys(("dropout", "pair_dropout", "word_dropout", "name_dropout", "text_alone", "hide"), 0.0)
SMALL = {"hidden": 16, "image_size": 32, "layers": 3, "pair_size": 8} | CERTAIN
ATTENTION = ("from_frames.attention.", "gate.look.")
CHOOSING = ("contrast.", "from_frames.norm.", *(f"{name}{part}." for name in ATTENTION for part in ("query", "key")))
"""What matches sentences and frames, or chooses among frames: where a blank stands for them there is nothing to do."""
STANDING_IN = ("backbone.missing_", "backbone.no_", "backbone.prefixed.no_")
"""What stands for a modality that is missing."""

each = pytest.mark.parametrize("name", SUPERVISED)


def system_of(name, **options):
    spec = built_in()[name]
    return spec.load()(replace(resolve_config(spec, {}, preset=None, seed=0), **options), labels=LABELS)


def model_of(name, examples, **options):
    system = system_of(name, **options)
    return system.new_model(describe(system.config, LABELS, examples))


def idle(model, examples):
    """The names of parameters without a gradient after one step on `examples`."""
    inputs = [model.inputs(example.document) for example in examples]
    golds = [gold_of(one, e.gold, model.labels, e.unannotated) for one, e in zip(inputs, examples, strict=True)]
    states = model.train().encode(model.batch(inputs))
    weighted_sum(model.losses(states, golds), model.config.loss_weights, {}).backward()
    return [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


def test_the_systems_of_the_library_are_found():
    named = {"dffm", "vivit-os", "vivit-ts", "videomae-os", "videomae-ts", "mdocre-hn-like", "i2srm"}
    assert named | {"text-only", "vision-only"} <= set(SUPERVISED)


@each
def test_dev_is_scored_on_the_tasks_that_it_declares(name, tmp_path):
    model = model_of(name, four(tmp_path), **SMALL)
    assert set(SupervisedLearner(model, LABELS, torch.device("cpu"), "").tasks) == set(built_in()[name].tasks)


@each
def test_four_documents_are_learned_by_heart_in_each_task_that_it_declares(name, tmp_path):
    examples, tasks = four(tmp_path), built_in()[name].tasks
    small = {"hidden": 48, "image_size": 64, "layers": 3, "lr": 4e-3, "epochs": 60, "batch_size": 4, "tune": False}
    system = system_of(name, **small | CERTAIN)
    system.fit(examples, (), tmp_path / "out")
    _, model = system._fitted
    decoded = decoders(model, [example.document for example in examples], torch.device("cpu"), 4)
    found = dev_scores(examples, decoded, LABELS, Thresholds())
    assert {task: found[task] for task in tasks} == dict.fromkeys(tasks, 1.0)


@each
def test_every_parameter_has_a_gradient(name, tmp_path):
    examples = four(tmp_path)  # two whole ones, one without text, one without frames
    assert idle(model_of(name, examples, **SMALL), examples) == []
    model = model_of(name, examples, **SMALL)
    assert [one for one in idle(model, examples[:2]) if not one.startswith(STANDING_IN)] == []
    fusion = [one for one in idle(model_of(name, examples, **SMALL), examples[2:]) if one.startswith("backbone.")]
    assert [one for one in fusion if not any(part in one for part in CHOOSING)] == []


@each
def test_a_batch_gives_each_document_what_it_gets_alone(name, tmp_path):
    examples = four(tmp_path)
    model = model_of(name, examples, **SMALL).eval()
    inputs = [model.inputs(example.document) for example in examples]
    with torch.no_grad():
        together = model.encode(model.batch(inputs))
        for i, one in enumerate(inputs):
            alone = model.encode(model.batch([one]))
            for part, n in (("words", len(one.words)), ("frames", len(one.frames)), ("patches", len(one.frames))):
                found, expected = getattr(together, part)[i, :n], getattr(alone, part)[0]
                torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)


@each
def test_half_precision_trains(name, tmp_path):
    examples = four(tmp_path)
    model = model_of(name, examples, **SMALL)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lazy = idle(model, examples)
    assert all(p.grad.isfinite().all() for name, p in model.named_parameters() if name not in lazy)


@each
def test_a_checkpoint_answers_as_the_fit_that_wrote_it_and_nothing_with_nothing(name, tmp_path):
    examples = four(tmp_path)
    fitted = system_of(name, **SMALL, epochs=1)
    fitted.fit(examples, (), tmp_path / "out")
    again = built_in()[name].load()(fitted.config, labels=LABELS, checkpoint=tmp_path / "out")
    documents = [*(example.document for example in examples), Document("empty", "zh", "")]
    answers = [[raw.payload for raw in system.predict(documents)] for system in (fitted, again)]
    assert answers[0] == answers[1]
    assert answers[0][-1] == {"chains": [], "relations": [], "regions": []}


@each
def test_the_preset_of_the_paper_has_its_encoders_heads_and_training(name):
    paper = resolve_config(built_in()[name], {}, preset="paper", seed=0)
    assert (paper.epochs, paper.batch_size, paper.encoder_lr, paper.lr) == (20, 1, 5e-6, 1e-3)
    heads = {"lexical": False, "aligned": False, "pair_size": 0, "slots": 1, "decision": "argmax"}
    own = {option: value for option, value in heads.items() if option not in paper.withheld}
    assert {option: getattr(paper, option) for option in own} == own


def test_one_modality_offers_no_option_of_the_other():
    offered = {name: {o.name for o in options_of(built_in()[name].config_class())} for name in SUPERVISED}
    of_text = {"text_encoder", "layers", "linkage", "decision", "pair_dropout", "weight_chain", "aux_loss"}
    of_frames = {"vision_encoder", "image_size", "slots", "merge_iou", "weight_box"}
    assert of_text | of_frames | {"hide", "fusion_lr", "aligned"} <= offered["dffm"]
    assert offered["text-only"] & (of_text | of_frames | {"hide", "fusion_lr", "aligned"}) == of_text
    assert offered["vision-only"] & (of_text | of_frames | {"hide", "fusion_lr", "aligned"}) == of_frames
    with pytest.raises(UserError, match="system 'text-only' has no option --merge-iou"):
        resolve_config(built_in()["text-only"], {"merge_iou": "0.4"}, preset="paper", seed=0)


@pytest.mark.parametrize("name", ["vivit-os", "videomae-ts"])
def test_streams_over_published_encoders_pool_the_frames_that_no_head_reads_by_patches(name, tmp_path):
    from tests.supervised.test_video import write_videomae, write_vivit

    write = write_vivit if name.startswith("vivit") else write_videomae
    options = {"vision_encoder": str(write(tmp_path / "hub")), "slots": 1, "aligned": False, "pair_size": 0}
    examples = four(tmp_path)
    model = model_of(name, examples, **SMALL | options)
    states = model.encode(model.batch([model.inputs(examples[0].document)]))
    assert states.patches.shape == (1, 3, 1, 16)
    assert states.frames.shape == (1, 3, 16)


def test_a_model_that_would_read_nothing_is_refused(tmp_path):
    examples = four(tmp_path)
    with pytest.raises(UserError, match="neither text nor frames are read: give another --text-encoder"):
        model_of("vision-only", examples[3:])
    with pytest.raises(UserError, match="neither text nor frames are read"):
        model_of("text-only", examples, text_encoder=("none",))


def test_what_sees_only_frames_answers_in_every_language(tmp_path):
    examples = four(tmp_path)
    system = system_of("vision-only", **SMALL, epochs=1)
    system.fit(examples[:1], (), tmp_path / "out")
    (raw,) = system.predict([examples[1].document])
    assert raw.failure is None
