"""Ordinary options of a training that cannot work, or that other machines have, end in one line or in a run."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="needs the extra 'supervised'")

from m3dllm import pipeline
from m3dllm.errors import UserError
from m3dllm.experiment import Experiment
from m3dllm.runs import Run
from tests.small import small_corpus

TINY = {"epochs": "1", "hidden": "8", "image_size": "16", "latent_size": "8", "pair_size": "8", "device": "cpu"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return small_corpus(tmp_path_factory.mktemp("training") / "corpus", train=4, dev=1, test=1)


def trained(corpus, out, **options) -> Run:
    return pipeline.run(Experiment(system="dffm", corpus=corpus, out=out, options=TINY | options))


def test_bf16_on_a_processor_is_a_run_like_any_other(corpus, tmp_path):
    assert trained(corpus, tmp_path / "run", precision="bf16").record().status == "done"


@pytest.mark.parametrize("rate", ["1", "1e6", "1e30"])
def test_a_training_that_diverges_is_one_line(rate, corpus, tmp_path):
    with pytest.raises(UserError, match=r"training diverged: .* smaller --lr"):
        trained(corpus, tmp_path / "run", epochs="40", warmup="0", clip="1e30", lr=rate)


@pytest.mark.parametrize("width", ["1", "2", "3", "5", "6", "7", "97"])
def test_a_width_that_heads_do_not_divide_is_refused_before_anything_is_made(width, corpus, tmp_path):
    with pytest.raises(UserError, match=f"--hidden {width}: expected a multiple of 4"):
        trained(corpus, tmp_path / "run", hidden=width)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "NaN"])
@pytest.mark.parametrize("option", ["lr", "dropout", "weight_decay", "clip", "weight_entity", "merge_iou", "warmup"])
def test_what_is_no_finite_number_is_refused(option, value, corpus, tmp_path):
    with pytest.raises(UserError, match=f"--{option.replace('_', '-')}.*expected|{option} is"):
        trained(corpus, tmp_path / "run", **{option: value})
