from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from m3dllm.catalogue import option_table
from m3dllm.errors import UserError
from m3dllm.experiment import resolve_config
from m3dllm.systems.dffm import SPEC, Config


def config(preset=None, **options):
    return resolve_config(SPEC, options, preset=preset, seed=3)


def test_the_rest_of_the_system_is_tested_too():
    for name in ("torch", "transformers", "safetensors"):
        pytest.importorskip(name, reason="needs m3dllm[supervised]")


def test_options_come_as_strings():
    found = config(without="dffm,mmcm", levels="low", lr="0.01", epochs="2", lexical="false", text_encoder="minilm")
    assert (found.without, found.levels, found.lr, found.epochs) == (("dffm", "mmcm"), ("low",), 0.01, 2)
    assert (found.lexical, found.text_encoder, found.seed) == (False, ("minilm",), 3)


@pytest.mark.parametrize("preset", Config.presets)
def test_every_preset_is_a_config(preset):
    assert isinstance(config(preset), Config)


def test_the_default_is_the_preset_tiny():
    assert config() == config("tiny")


def test_an_option_overrides_the_preset():
    assert config("paper", epochs="1").epochs == 1


def test_the_paper_preset_has_the_settings_of_the_paper():
    paper = config("paper")
    assert (paper.epochs, paper.batch_size, paper.encoder_lr, paper.lr) == (20, 1, 5e-6, 1e-3)
    assert (paper.latent_size, paper.prompt_length, paper.attention_heads, paper.slots) == (64, 64, 16, 1)
    assert (paper.clip, paper.dropout, paper.warmup, paper.merge_iou) == (5.0, 0.1, 0.0, 0.9)
    assert (paper.lexical, paper.pair_size, paper.balance, paper.decision) == (False, 0, 0.0, "argmax")
    assert not paper.aligned


def test_the_text_encoder_may_differ_by_language():
    paper = config("paper")
    assert paper.text_encoder_of("en") == "allenai/longformer-base-4096"
    assert paper.text_encoder_of("zh") == "markussagen/xlm-roberta-longformer-base-4096"
    assert config(text_encoder="zh=a/b").text_encoder_of("en") is None


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"without": "vae"}, "--without vae: expected dffm or mmcm"),
        ({"levels": ""}, "--levels : expected one or more of low, mid or high"),
        ({"latent": "gan"}, "gan"),
        ({"epochs": "0"}, "--epochs 0: expected at least 1"),
        ({"dropout": "1.5"}, "--dropout 1.5: expected 0 to 1"),
        ({"latent_size": "10", "attention_heads": "4"}, "not a multiple of --attention-heads"),
        ({"window": "50", "overlap": "64"}, "--window 50 is not longer than --overlap 64"),
        ({"layers": "2"}, "--layers 2: expected at least 3"),
        ({"lr": "-1"}, "--lr -1.0: expected 0 or more"),
        ({"lr": "nan"}, "--lr nan: expected a finite number"),
        ({"clip": "inf"}, "--clip inf: expected a finite number"),
        ({"clip": "0"}, "--clip 0.0: expected more than 0"),
        ({"freeze": "all"}, "--freeze all: expected text, embeddings or vision"),
        ({"batch_size": "many"}, "batch-size"),
    ],
)
def test_a_value_that_cannot_be_is_refused_in_one_line(options, told):
    with pytest.raises(UserError, match="dffm") as error:
        config(**options)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_every_option_says_what_it_is():
    assert [row["flag"] for row in option_table(Config) if not row["help"]] == []


def test_the_options_that_shape_the_weights_are_options():
    assert set(Config.shape) <= {field.name for field in dataclasses.fields(Config)}


def test_the_options_are_read_without_torch():
    code = "import sys, m3dllm.systems.dffm; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
