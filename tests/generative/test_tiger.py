"""TIGER as a system: its sentences, learned by heart, and what it does where something is missing."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from m3dllm.experiment import resolve_config
from m3dllm.normalize import normalize
from m3dllm.registry import built_in
from m3dllm.systems.generative.boxes import candidates, read_boxes
from m3dllm.systems.generative.checkpoint import describe
from m3dllm.systems.generative.learner import GenerativeLearner
from m3dllm.systems.generative.places import windows
from m3dllm.systems.tiger import Config, sentences
from m3dllm.systems.tiger.model import Tiger, TigerModel
from m3dllm.tokens import tokenize
from m3dllm.training import f1_scores, weighted_sum
from m3dllm.types import Annotation, Document
from tests.generative.documents import four_short
from tests.generative.t5 import write_t5
from tests.generative.writing import CODECS, codec_of, write_any, write_gold
from tests.supervised.documents import LABELS

SMALL = {"hidden": 16, "layers": 1, "decoder_layers": 1, "image_size": 32, "max_pieces": 60, "fewest": 1}
HEART = {**SMALL, "hidden": 48, "dropout": 0.0, "lr": 6e-3, "warmup": 0.1, "epochs": 160, "batch_size": 4}


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    examples, boxes = four_short(tmp_path_factory.mktemp("four"))
    return examples, (boxes,)


def fitted(folder, examples, boxes, **options):
    system = Tiger(Config(boxes=boxes, **{"epochs": 1, **SMALL, **options}), labels=LABELS)
    system.fit(examples, (), folder)
    return system


@pytest.fixture(scope="module")
def by_heart(documents, tmp_path_factory):
    return fitted(tmp_path_factory.mktemp("heart"), *documents, **HEART)


def answers(system, examples):
    return list(system.predict([example.document for example in examples]))


@pytest.mark.parametrize("constrain", [True, False])
def test_four_documents_are_learned_by_heart_in_both_tasks(documents, by_heart, constrain):
    by_heart._fitted[1].config = replace(by_heart.config, constrain=constrain)
    found = f1_scores(documents[0], answers(by_heart, documents[0]), LABELS)
    assert (found["entity"], found["grounding"]) == (1.0, 1.0)


def test_its_sentences_say_what_is_shown_and_its_regions_which_mention_that_is(documents, by_heart):
    english = documents[0][0]
    (raw,) = answers(by_heart, [english])
    assert [turn.text.replace(" ,", ",").split(" <spot> ") for turn in raw.turns] == [
        [
            "Ada is a PER, which is in the image",
            "Karl is a PER, which is not in the image",
            "Byron is a PER, which is in the image",
            "London is a LOC, which is in the image",
        ],
        ["something is a PER, which is in the image"],
    ]
    found = normalize(english.document, raw, LABELS).annotation
    assert shown_mentions(found) == shown_mentions(english.gold)


def shown_mentions(annotation):
    """Of each box the place of the first mention that it shows."""
    chains = {chain.id: chain.mentions[0].start for chain in annotation.chains}
    return {(region.frame, region.box, chains.get(region.chain)) for region in annotation.regions}


# --- sentences --------------------------------------------------------------------------------------------------------


def queries_of(example, boxes, most=3):
    document, frames = example.document, range(len(example.document.frames))
    seen = frames, candidates(document, read_boxes(boxes), most)
    found = [
        (sentences.mention_query(document, words, LABELS, 6, *seen, example.gold), words)
        for words in windows(tokenize(document), document.text, 12)
    ]
    return [*found, (sentences.region_query(document, LABELS, most, *seen, example.gold), ())] if frames else found


@pytest.fixture(scope="module", params=CODECS)
def codec(request, documents, tmp_path_factory):
    return codec_of(request.param, documents[0], tmp_path_factory.mktemp("t5"), sentences.WORDS)


def test_every_gold_sentence_may_be_written_also_where_the_text_goes_on_as_it_does(codec, documents):
    examples, boxes = documents
    for example in examples:
        for query, _ in queries_of(example, boxes):
            write_gold(query, codec)


def test_whatever_may_be_written_ends_and_is_sentences_about_what_is_there(codec, documents):
    rng = random.Random(0)
    examples, boxes = documents
    for example in examples:
        for query, _ in queries_of(example, boxes) * 4:
            written = write_any(query, codec, rng)
            read = [sentences.read(part) for part in (written.split("<spot>") if written.strip() else ())]
            assert all(sentence is not None and sentence.type in LABELS.names("mentions") for sentence in read)
            if not query.frames:
                assert not any(sentence.shown for sentence in read)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("Ada is a PER, which is in the image", ("Ada", "PER", True)),
        (" Acme , Inc. is a ORG , which is not  in the image ", ("Acme , Inc.", "ORG", False)),
        ("This is a test is a LOC, which is in the image", ("This is a test", "LOC", True)),
        ("苏珊 is a PER, which is in the image", ("苏珊", "PER", True)),
        ("Ada is a PER", None),
        ("is a PER, which is in the image", None),
        ("", None),
    ],
)
def test_a_sentence_is_read_whole_or_not_at_all(written, expected):
    assert sentences.read(written) == expected


def test_what_has_no_name_is_said_by_turns_in_the_order_of_the_candidates(documents):
    examples, boxes = documents
    chinese = examples[1]
    (query, _) = queries_of(chinese, boxes)[-1]
    assert query.target[0:2] == ("something", "is a PER,")
    assert len(query.overlaps) == 2
    assert queries_of(replace(chinese, gold=Annotation()), boxes)[-1][0].overlaps == ()


def test_a_region_without_a_candidate_is_not_in_the_image(documents):
    examples, _ = documents
    document = examples[0].document
    words = windows(tokenize(document), document.text, 99)[0]
    query = sentences.mention_query(document, words, LABELS, 6, (0,), (), examples[0].gold)
    assert query.overlaps == (None,) * 4
    assert query.target.count("which is not") == 4


# --- as a system ------------------------------------------------------------------------------------------------------


def new_model(examples, boxes):
    system = Tiger(Config(boxes=boxes, dropout=0.0, **SMALL), labels=LABELS)
    card = describe(system.config, LABELS, examples, "", TigerModel.words(system.config, LABELS))
    torch.manual_seed(0)
    text = card.new_text()
    model = TigerModel(system.config, LABELS, text, card.new_vision(text.width))
    model.boxes = system._boxes
    return model


def idle(model, examples):
    """The names of parameters without a gradient after one step on `examples`."""
    learner = GenerativeLearner(model.train(), LABELS, "")
    items = learner.items(examples)
    weighted_sum(learner.losses(items), {}, learner.counts(items)).backward()
    return [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


def test_every_parameter_has_a_gradient(documents):
    examples, boxes = documents
    assert idle(new_model(examples, boxes), examples[:1]) == []
    assert idle(new_model(examples, boxes), examples[2:3]) == []  # without text
    found = idle(new_model(examples, boxes), examples[3:])  # without frames, from a row of zeros
    assert [name for name in found if not name.startswith("vision.") and name != "rows.weight"] == []


def test_a_batch_gives_each_document_what_it_gets_alone(documents):
    examples, boxes = documents
    model = new_model(examples, boxes).eval()
    together = model.answer([example.document for example in examples])
    alone = [model.answer([example.document])[0] for example in examples]
    assert [answer.payload for answer in together] == [answer.payload for answer in alone]


def test_nothing_is_asked_about_nothing(by_heart):
    (raw,) = by_heart.predict([Document("empty", "zh", "")])
    assert raw.payload == {"chains": [], "relations": [], "regions": []}
    assert raw.turns == ()


@pytest.mark.parametrize(("n_sources", "encoder"), [(0, "tiny"), (1, "none")])
def test_without_candidates_or_eyes_it_grounds_nothing_and_says_so(documents, tmp_path, n_sources, encoder):
    examples, boxes = documents
    system = fitted(tmp_path / "out", examples, boxes[:n_sources], vision_encoder=encoder)
    assert system.unsupported == {"grounding"}
    assert all(raw.failure is None and raw.payload["regions"] == [] for raw in answers(system, documents[0]))


def test_a_published_t5_is_fitted_and_kept(documents, tmp_path):
    examples, boxes = documents
    name = str(write_t5(tmp_path / "t5"))
    own = [examples[0], examples[3]]
    system = fitted(tmp_path / "out", own, boxes, text_model=(name,))
    again = Tiger(system.config, labels=LABELS, checkpoint=tmp_path / "out")
    assert [raw.payload for raw in answers(again, own)] == [raw.payload for raw in answers(system, own)]


def test_a_tiny_decoder_may_have_more_layers_than_the_encoder(documents, tmp_path):
    system = fitted(tmp_path / "out", *documents, decoder_layers=2)
    assert all(raw.failure is None for raw in answers(system, documents[0]))


def test_it_declares_two_tasks_and_its_preset_of_the_paper_has_a_t5():
    spec = built_in()["tiger"]
    assert (spec.tasks, set(TigerModel.tasks), spec.takes_given) == (
        {"entity", "grounding"},
        {"entity", "grounding"},
        False,
    )
    assert resolve_config(spec, {}, preset="paper", seed=0).text_model[0] == "en=google/flan-t5-base"
