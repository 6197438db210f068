"""Systems that choose boxes, `tiger` and `h-index`: learned by heart, and what they do where something is missing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from m3dllm.experiment import resolve_config
from m3dllm.normalize import normalize
from m3dllm.registry import built_in
from m3dllm.systems import hindex, tiger
from m3dllm.systems.generative.checkpoint import describe
from m3dllm.systems.generative.learner import GenerativeLearner
from m3dllm.systems.hindex.model import HIndex
from m3dllm.systems.tiger.model import Tiger
from m3dllm.training import f1_scores, weighted_sum
from m3dllm.types import Document
from tests.generative.bart import write_bart
from tests.generative.documents import four_short
from tests.generative.t5 import write_t5
from tests.supervised.documents import LABELS

SMALL = {"hidden": 16, "layers": 1, "decoder_layers": 1, "image_size": 32, "max_pieces": 60, "fewest": 1}
HEART = {**SMALL, "hidden": 48, "dropout": 0.0, "warmup": 0.1, "batch_size": 4}


class One:
    """A system, and how it learns by heart."""

    def __init__(self, system, config, **heart):
        self.system, self.config, self.heart = system, config, {**HEART, **heart}

    def make(self, boxes, options, checkpoint=None):
        return self.system(self.config(boxes=boxes, **options), labels=LABELS, checkpoint=checkpoint)


ALL = {
    "tiger": One(Tiger, tiger.Config, lr=6e-3, epochs=160),
    "h-index": One(HIndex, hindex.Config, lr=6e-3, epochs=80, pointer_dropout=0.0),
}


@pytest.fixture(scope="module", params=ALL)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    examples, boxes = four_short(tmp_path_factory.mktemp("four"))
    return examples, (boxes,)


def fitted(name, folder, examples, boxes, **options):
    system = ALL[name].make(boxes, {"epochs": 1, **SMALL, **options})
    system.fit(examples, (), folder)
    return system


@pytest.fixture(scope="module")
def by_heart(name, documents, tmp_path_factory):
    return fitted(name, tmp_path_factory.mktemp("heart"), *documents, **ALL[name].heart)


def answers(system, examples):
    return list(system.predict([example.document for example in examples]))


@pytest.mark.parametrize("constrain", [True, False])
def test_four_documents_are_learned_by_heart_in_both_tasks(documents, by_heart, constrain):
    by_heart._fitted[1].config = replace(by_heart.config, constrain=constrain)
    found = f1_scores(documents[0], answers(by_heart, documents[0]), LABELS)
    assert (found["entity"], found["grounding"]) == (1.0, 1.0)


SAID = {
    "tiger": [
        " <spot> ".join(
            (
                "Ada is a PER, which is in the image",
                "Karl is a PER, which is not in the image",
                "Byron is a PER, which is in the image",
                "London is a LOC, which is in the image",
            )
        ),
        "something is a PER, which is in the image",
    ],
    "h-index": [
        "[0] <<which region>> PER [5] <<no region>> PER [7] <<which region>> PER [10] <<which region>> LOC",
        "<<which region>> PER",
    ],
}


def test_it_says_what_is_shown_and_its_regions_which_mention_that_is(name, documents, by_heart):
    english = documents[0][0]
    (raw,) = answers(by_heart, [english])
    assert [turn.text.replace(" ,", ",") for turn in raw.turns] == SAID[name]
    found = normalize(english.document, raw, LABELS).annotation
    assert shown_mentions(found) == shown_mentions(english.gold)


def shown_mentions(annotation):
    """Of each box the place of the first mention that it shows."""
    chains = {chain.id: chain.mentions[0].start for chain in annotation.chains}
    return {(region.frame, region.box, chains.get(region.chain)) for region in annotation.regions}


def new_model(name, examples, boxes):
    system = ALL[name].make(boxes, {"dropout": 0.0, **SMALL})
    card = describe(system.config, LABELS, examples, "", system.model.words(system.config, LABELS))
    torch.manual_seed(0)
    text = card.new_text()
    model = system.model(system.config, LABELS, text, card.new_vision(text.width))
    model.boxes = system._boxes
    return model


def idle(model, examples):
    """The names of parameters without a gradient after one step on `examples`."""
    learner = GenerativeLearner(model.train(), LABELS, "")
    items = learner.items(examples)
    weighted_sum(learner.losses(items), {}, learner.counts(items)).backward()
    return [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


def test_every_parameter_has_a_gradient(name, documents):
    examples, boxes = documents
    assert idle(new_model(name, examples, boxes), examples[:1]) == []
    assert idle(new_model(name, examples, boxes), examples[2:3]) == []  # without text
    found = idle(new_model(name, examples, boxes), examples[3:])  # without frames, from a row of zeros
    assert [weight for weight in found if not weight.startswith("vision.") and weight != "rows.weight"] == []


def test_a_batch_gives_each_document_what_it_gets_alone(name, documents):
    examples, boxes = documents
    model = new_model(name, examples, boxes).eval()
    together = model.answer([example.document for example in examples])
    alone = [model.answer([example.document])[0] for example in examples]
    assert [answer.payload for answer in together] == [answer.payload for answer in alone]


def test_an_empty_document_gets_no_prompt(by_heart):
    (raw,) = by_heart.predict([Document("empty", "zh", "")])
    assert raw.payload == {"chains": [], "relations": [], "regions": []}
    assert raw.turns == ()


@pytest.mark.parametrize(("n_sources", "encoder"), [(0, "tiny"), (1, "none")])
def test_without_candidates_or_eyes_it_grounds_nothing_and_says_so(name, documents, tmp_path, n_sources, encoder):
    examples, boxes = documents
    system = fitted(name, tmp_path / "out", examples, boxes[:n_sources], vision_encoder=encoder)
    assert system.unsupported == {"grounding"}
    assert all(raw.failure is None and raw.payload["regions"] == [] for raw in answers(system, documents[0]))


PUBLISHED = {"tiger": write_t5, "h-index": write_bart}


def test_a_published_model_is_fitted_and_kept(name, documents, tmp_path):
    examples, boxes = documents
    where = str(PUBLISHED[name](tmp_path / "published"))
    own = [examples[0], examples[3]]
    system = fitted(name, tmp_path / "out", own, boxes, text_model=(where,))
    again = ALL[name].system(system.config, labels=LABELS, checkpoint=tmp_path / "out")
    assert [raw.payload for raw in answers(again, own)] == [raw.payload for raw in answers(system, own)]


def test_a_tiny_decoder_may_have_more_layers_than_the_encoder(name, documents, tmp_path):
    system = fitted(name, tmp_path / "out", *documents, decoder_layers=2)
    assert all(raw.failure is None for raw in answers(system, documents[0]))


@pytest.mark.parametrize(("name", "text_model"), [("tiger", "google/flan-t5-base"), ("h-index", "facebook/bart-base")])
def test_it_declares_two_tasks_and_its_preset_of_the_paper_has_a_model_of_its_kind(name, text_model):
    spec = built_in()[name]
    assert (spec.tasks, set(ALL[name].system.model.tasks), spec.takes_given) == (
        {"entity", "grounding"},
        {"entity", "grounding"},
        False,
    )
    assert resolve_config(spec, {}, preset="paper", seed=0).text_model[0] == f"en={text_model}"
