from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from m3dllm.errors import UserError
from m3dllm.systems.dffm import Config
from m3dllm.systems.dffm.missing import Blank
from m3dllm.systems.supervised.data import LabelIndex, gold_of, make_mention_batch
from m3dllm.systems.supervised.encoders import text_encoder_name
from m3dllm.training import weighted_sum
from tests.supervised.documents import LABELS, four
from tests.supervised.models import new_model

TYPES = LabelIndex.of(LABELS)
SMALL = {"hidden": 16, "latent_size": 8, "image_size": 32, "dropout": 0.0, "layers": 3, "pair_size": 8}
PAPER_HEADS = {"slots": 1, "lexical": False, "pair_size": 0, "decision": "argmax", "merge_iou": 0.9}


def make(examples, **options):
    config = Config(**SMALL | options)
    model = new_model(config, LABELS, examples)
    return model, [model.inputs(example.document) for example in examples]


def total(model, states, golds):
    """The sum of the losses, as training weighs them."""
    return weighted_sum(model.losses(states, golds), model.config.loss_weights, {})


def one_step(examples, **options):
    """The model after the gradients of one step on `examples`."""
    model, inputs = make(examples, **options)
    golds = [gold_of(one, example.gold, TYPES) for one, example in zip(inputs, examples, strict=True)]
    states = model.train().encode(model.batch(inputs))
    total(model, states, golds).backward()
    return model


def idle(module):
    """The parameters without a gradient."""
    return [name for name, p in module.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


def test_relations_with_regions_are_nothing_that_pair_heads_learn(tmp_path):
    (example, *_) = four(tmp_path)
    _, (inputs,) = make([example])
    regions = tuple(replace(region, id=f"r{i}") for i, region in enumerate(example.gold.regions))
    shown = replace(example.gold.relations[0], tail="r0")
    more = replace(example.gold, relations=(*example.gold.relations, shown), regions=regions)
    assert gold_of(inputs, more, TYPES).relations.equal(gold_of(inputs, example.gold, TYPES).relations)


def test_features_of_texts_are_made_where_something_reads_them(tmp_path):
    for options, some in (({}, True), (PAPER_HEADS, False)):
        model, inputs = make(four(tmp_path)[:1], **options)
        pairs = gold_of(inputs[0], four(tmp_path)[0].gold, model.labels).mentions.pairs
        assert (pairs.shape[:2], pairs.shape[2] > 0) == ((7, 7), some)


def test_relations_are_read_from_the_lower_layers_of_the_text_encoder_too(tmp_path):
    model, inputs = make(four(tmp_path)[:1])
    states = model.eval().encode(model.batch(inputs))
    levels = states.encoded[0].levels
    assert states.kinds.equal(torch.cat([states.words, levels["low"], levels["mid"]], -1))
    assert replace(states, encoded=None).kinds.equal(torch.cat([states.words] * 3, -1))


@pytest.mark.parametrize("options", [{}, PAPER_HEADS, {"latent": "vae"}], ids=["tiny", "paper heads", "vae"])
def test_on_a_full_document_every_parameter_of_the_fusion_learns(tmp_path, options):
    model = one_step(four(tmp_path)[:1], **options)
    assert idle(model.backbone.into_text) == []
    assert idle(model.backbone.into_frames) == []
    assert [name for name in idle(model.backbone.frame_vectors) if name != "positions.weight"] == []


def test_without_frames_every_parameter_that_constructs_them_learns(tmp_path):
    examples = four(tmp_path)
    model, _ = make(examples)
    no_frames = examples[3]
    inputs = [model.inputs(no_frames.document)]
    states = model.train().encode(model.batch(inputs))
    golds = [gold_of(inputs[0], no_frames.gold, TYPES)]
    total(model, states, golds).backward()
    assert idle(model.backbone.missing_frames) == []
    assert idle(model.backbone.into_text) == []
    assert idle(model.backbone.missing_text) == [name for name, _ in model.backbone.missing_text.named_parameters()]


def test_without_text_every_parameter_that_constructs_it_learns(tmp_path):
    model = one_step(four(tmp_path)[2:3])
    assert idle(model.backbone.missing_text) == []
    assert idle(model.backbone.into_frames) == []


@pytest.mark.parametrize(
    "options", [{}, PAPER_HEADS, {"without": ("dffm",)}, {"without": ("mmcm",)}, {"window": 8, "overlap": 2}]
)
def test_a_batch_gives_each_document_what_it_gets_alone(tmp_path, options):
    examples = four(tmp_path)
    model, inputs = make(examples, **options)
    golds = [gold_of(one, example.gold, TYPES) for one, example in zip(inputs, examples, strict=True)]
    model.eval()
    close = {"atol": 1e-4, "rtol": 1e-3}
    with torch.no_grad():
        states = model.encode(model.batch(inputs))
        emissions = model.entity.tagger(states.words)
        together = make_mention_batch([gold.mentions for gold in golds])
        chains, shows = model.chain.logits(states, together), model.relation.shows(states, together)
        relations = model.relation.logits(states, together, shows)
        kinds, boxes = model.grounding.outputs(states)
        for i, (one, gold) in enumerate(zip(inputs, golds, strict=True)):
            n, m, c, f = len(one.words), len(gold.mentions), gold.mentions.n_chains, len(one.frames)
            alone = model.encode(model.batch([one]))
            torch.testing.assert_close(emissions[i, :n], model.entity.tagger(alone.words)[0], **close)
            if m:
                own = make_mention_batch([gold.mentions])
                torch.testing.assert_close(chains[i, :m, :m], model.chain.logits(alone, own)[0], **close)
                own_shows = model.relation.shows(alone, own)
                if own_shows is not None:
                    torch.testing.assert_close(shows[i, :c, :f], own_shows[0], **close)
                torch.testing.assert_close(
                    relations[i, :c, :c], model.relation.logits(alone, own, own_shows)[0], **close
                )
            if f:
                own_kinds, own_boxes = model.grounding.outputs(alone)
                torch.testing.assert_close(kinds[i, :f], own_kinds[0], **close)
                torch.testing.assert_close(boxes[i, :f], own_boxes[0], **close)


def test_the_loss_of_a_batch_is_the_mean_of_its_documents(tmp_path):
    examples = four(tmp_path)[:2]
    model, inputs = make(examples)
    golds = [gold_of(one, example.gold, TYPES) for one, example in zip(inputs, examples, strict=True)]

    def terms(rows):
        states = model.eval().encode(model.batch([inputs[i] for i in rows]))
        return model.losses(states, [golds[i] for i in rows])

    both, each = terms([0, 1]), [terms([0]), terms([1])]
    for name in ("entity", "chain", "relation", "region", "box"):
        mean = (each[0][name] + each[1][name]) / 2
        torch.testing.assert_close(both[name], mean, atol=1e-4, rtol=1e-3)


def test_the_frames_change_what_the_text_says_only_through_the_fusion(tmp_path):
    examples = four(tmp_path)[:1]
    for without, changes in (((), True), (("dffm",), False)):
        model, inputs = make(examples, without=without)
        with torch.no_grad():
            seen, blind = (
                model.eval().encode(model.batch([one])).words for one in (inputs[0], inputs[0].without_frames())
            )
        assert torch.allclose(seen, blind) is not changes


def test_without_mmcm_blanks_stand_in(tmp_path):
    model, _ = make(four(tmp_path), without=("mmcm",))
    assert isinstance(model.backbone.missing_text, Blank)
    assert isinstance(model.backbone.missing_frames, Blank)


def test_the_length_of_the_prompt_and_the_levels_are_options(tmp_path):
    model, _ = make(four(tmp_path), prompt_length=3, levels=("low", "high"))
    assert model.backbone.missing_text.prompts["low"].shape == (3, 16)
    assert set(model.backbone.into_text.levels) == {"low", "high"}


def test_a_corpus_without_frames_has_no_vision_and_one_with_them_has(tmp_path):
    examples = four(tmp_path)
    assert make(examples[3:])[0].backbone.vision is None
    assert make(examples, vision_encoder="none")[0].backbone.vision is None
    assert make(examples)[0].backbone.vision is not None


def test_a_document_of_nothing_is_encoded(tmp_path):
    examples = four(tmp_path)
    model, inputs = make(examples)
    nothing = replace(inputs[2].without_frames(), document=replace(inputs[2].document, frames=()))
    states = model.eval().encode(model.batch([nothing]))
    assert (states.words.shape, states.frames.shape) == ((1, 0, 16), (1, 0, 16))


def test_dropout_that_all_threads_share_is_computed_by_one(tmp_path, monkeypatch):
    monkeypatch.setattr("m3dllm.systems.supervised.model.usable_cores", lambda: 2)
    model, _ = make(four(tmp_path))
    assert model.threads(torch.device("cpu")) == 2
    model.backbone.add_module("other", torch.nn.Dropout(0.1))
    assert model.threads(torch.device("cpu")) == 0


# --- which encoder reads it -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoder", "languages", "told"),
    [
        (("minilm",), {"en", "zh"}, "minilm: reads en, and there are documents in 'zh': give --lang en"),
        (("en=a/b",), {"zh"}, "has none for 'zh'"),
        (("en=a/b", "zh=c/d"), {"en", "zh"}, "choose one by --lang"),
    ],
)
def test_a_language_that_no_encoder_reads_is_refused(encoder, languages, told):
    with pytest.raises(UserError, match="text_encoder") as error:
        text_encoder_name(Config(text_encoder=encoder), languages)
    assert told in str(error.value)


def test_the_encoder_of_the_language_is_taken():
    config = Config(text_encoder=("en=a/b", "zh=c/d"))
    assert text_encoder_name(config, {"zh"}) == "c/d"
    assert text_encoder_name(Config(), {"en", "zh"}) == "tiny"
