from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from m3dllm.systems.dffm import Config
from m3dllm.systems.supervised.decoding import Thresholds
from m3dllm.systems.supervised.predict import decoders, dev_scores, tune
from m3dllm.types import Given
from tests.supervised.documents import LABELS, four
from tests.supervised.models import new_model

CPU = torch.device("cpu")
NEVER = Thresholds(1.0, 1.0, 1.0, 1.0, 1.0)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A model that has learned nothing, and four documents."""
    examples = four(tmp_path_factory.mktemp("four"))
    config = Config(hidden=16, latent_size=8, image_size=32, layers=3, pair_size=8, batch_size=2)
    return new_model(config, LABELS, examples).eval(), examples


def given(examples, kind):
    """The documents with their gold chains, or with each gold mention as a chain of one."""
    chains = [
        example.gold.chains if kind == "chains" else [replace(c, mentions=c.mentions[:1]) for c in example.gold.chains]
        for example in examples
    ]
    return [
        replace(e.document, given=Given(chains=tuple(own), kind=kind)) for e, own in zip(examples, chains, strict=False)
    ]


def answers(model, documents, thresholds, **options):
    decoded = decoders(model, documents, CPU, 4)
    return [answer for decoder in decoded for answer in decoder.answers(thresholds, **options)]


def test_each_pass_has_its_own_thresholds(made):
    model, examples = made
    sure = replace(NEVER, given_chain=0.0)
    for i in (0, 1, 3):  # the third document has no text
        alone = answers(model, given(examples, "mentions"), NEVER)[i]["chains"]
        assert len(answers(model, given(examples, "mentions"), sure)[i]["chains"]) == 1 < len(alone)
        assert answers(model, given(examples, "chains"), NEVER)[i]["relations"] == []
        assert answers(model, given(examples, "chains"), replace(NEVER, given_relation=0.0))[i]["relations"]
        assert answers(model, given(examples, "chains"), replace(NEVER, relation=0.0))[i]["relations"] == []


def test_an_answer_is_the_same_whichever_was_asked_before(made):
    model, examples = made
    documents = [example.document for example in examples]
    asked = [Thresholds(), Thresholds(chain=0.0, relation=0.3), Thresholds(relation=0.1, region=0.0), Thresholds()]
    (kept,) = decoders(model, documents, CPU, 4)
    for thresholds in asked:
        assert kept.answers(thresholds) == answers(model, documents, thresholds)


def test_regions_are_written_where_they_are_prompted_for(made):
    model, examples = made
    documents = [example.document for example in examples]
    found = answers(model, documents, Thresholds(region=0.0))
    without = answers(model, documents, Thresholds(region=0.0), regions=False)
    assert any(answer["regions"] for answer in found)
    assert [answer | {"regions": []} for answer in found] == without


def test_tuned_thresholds_do_as_well_on_dev_as_the_middle_ones(made):
    model, examples = made
    best = tune(model, examples, LABELS, CPU)
    decoded = decoders(model, given(examples, "chains"), CPU, 2)
    found = dev_scores(examples, decoded, LABELS, best)
    assert found["relation"] >= dev_scores(examples, decoded, LABELS, Thresholds())["relation"]
    assert found["entity"] == found["chain"] == 1.0  # as given


def test_a_threshold_that_changes_nothing_stays_in_the_middle(made):
    model, examples = made
    assert tune(model, examples[2:3], LABELS, CPU).chain == 0.5
