"""How the embedded model is made: shelves, batches, and a training that processes share and a kill interrupts."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("transformers", reason="needs the extra 'llm'")

import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from benchmarks.embedded.blur import SHARE, Blur
from benchmarks.embedded.examples import KINDS, clips, names_for
from benchmarks.embedded.shelves import Shelf, collate, fill
from benchmarks.embedded.tokens import weights
from benchmarks.embedded.train import WITH_EXAMPLES, Library, Recipe, length, one_gradient, rate_at, train
from m3dllm.corpora.m3d import m3d_labels
from m3dllm.systems.videollm import embedded

RECIPE = Recipe(tokens=40_000, batch=400, warmup=4)
BEHIND_EXAMPLES = replace(
    WITH_EXAMPLES,
    stages=((np.inf, {"tiny": 1}),),
    shots=(0.5, 0, 0.5),
    examples={"unshown": 1},
    behind={"tiny": 1},
)
TOKENIZER = embedded.FOLDER


@pytest.fixture(scope="module")
def shelves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work") / "shelves"
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    for name, lang in (("tiny", "en"), ("tiny", "zh"), ("single", "en"), ("unshown", "en"), ("unshown", "zh")):
        fill(folder / f"{name}-{lang}-0", name, lang, 12, tokenizer, seed=0)
    return folder


def learned(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "state.pt", weights_only=True)["model"]


@pytest.fixture(scope="module")
def whole(shelves: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of 25 steps in one go, which its log says."""
    folder = tmp_path_factory.mktemp("whole")
    train(shelves, folder, TOKENIZER, RECIPE, until=18_500)
    return folder


def test_the_loss_falls(whole):
    (row,) = map(json.loads, (whole / "log.jsonl").read_text().splitlines())
    assert row["step"] == 25
    assert row["loss"] < 0.8 * np.log(len(AutoTokenizer.from_pretrained(TOKENIZER)))


def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(shelves, whole, tmp_path):
    for tokens in (5_000, 18_500):
        train(shelves, tmp_path, TOKENIZER, RECIPE, until=tokens)
    assert _apart(learned(tmp_path), learned(whole)) == 0


def test_numbers_are_as_exact_after_a_training_as_before(whole):
    assert float(np.float64(5e-324)) > 0
    assert float(torch.tensor(1e-310, dtype=torch.float64) * 0.5) > 0


def test_two_processes_learn_what_one_learns(shelves, tmp_path):
    for processes in (1, 2):
        train(shelves, tmp_path / str(processes), TOKENIZER, RECIPE, until=4_000, processes=processes)
    assert _apart(learned(tmp_path / "1"), learned(tmp_path / "2")) < 1e-4


def _apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return max((one[name] - other[name]).abs().max().item() for name in one)


def test_a_batch_is_no_longer_than_asked_and_of_documents_alike(shelves):
    for batch in Library(shelves).batches({"tiny": 1, "single": 1}, 0, RECIPE):
        lengths = list(map(length, batch))
        assert len(lengths) * max(lengths) <= 400 or len(lengths) == 1


def test_a_document_stands_behind_as_many_examples_as_asked_in_its_language(shelves):
    pool = Library(shelves).pool({"tiny": 1}, 0, BEHIND_EXAMPLES)
    counts = np.bincount([len(one) - 1 for one in pool], minlength=3) / len(pool)
    assert counts == pytest.approx([0.5, 0, 0.5], abs=0.1)
    for *examples, (shelf, _) in pool:
        assert shelf.kind == "tiny"
        assert {(other.kind, other.lang) for other, _ in examples} <= {("unshown", shelf.lang)}


def test_of_answers_that_say_what_is_not_shown_only_chains_are_learned(shelves):
    example, document = Shelf(shelves / "unshown-en-0")[0], Shelf(shelves / "tiny-en-0")[0]
    wanted = collate([[example, document]], image=6, pad=0)["wanted"][0]
    said = example.ids[1:][wanted[: len(example.ids) - 1]]
    text = AutoTokenizer.from_pretrained(TOKENIZER).decode(said)
    assert text.startswith('{"chains":[{"id":"c0"')
    assert text.endswith('"]}],"relations":[')
    assert wanted[len(example.ids) :].sum() == len(document.ids) - document.asked


def test_what_stands_behind_examples_may_be_of_other_kinds_than_what_stands_alone(shelves):
    pool = Library(shelves).pool({"tiny": 1}, 0, replace(BEHIND_EXAMPLES, behind={"single": 1}))
    assert {(len(one) - 1, one[-1][0].kind) for one in pool} == {(0, "tiny"), (2, "single")}


def test_a_training_begins_with_the_weights_that_it_is_given(shelves, tmp_path):
    train(shelves, tmp_path, TOKENIZER, BEHIND_EXAMPLES, until=400, start=embedded.FOLDER)
    given = load_file(embedded.FOLDER / "model.safetensors")
    found = learned(tmp_path)
    assert 0 < max((found[name] - tensor.float()).abs().max().item() for name, tensor in given.items()) < 0.01


def test_a_shelf_is_filled_once(shelves):
    folder = shelves / "tiny-en-0"
    before = (folder / "rows.npy").stat().st_mtime_ns
    fill(folder, "tiny", "en", 3, None, seed=0)
    assert (folder / "rows.npy").stat().st_mtime_ns == before
    assert len(Shelf(folder)) == 12


@pytest.fixture(scope="module")
def blur() -> Blur:
    return Blur(AutoTokenizer.from_pretrained(TOKENIZER))


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_blurred_words_leave_the_answer_and_what_it_copies(shelves, blur, lang):
    for item in map(Shelf(shelves / f"tiny-{lang}-0").__getitem__, range(12)):
        blurred = blur(item, np.random.default_rng(0)).ids
        kept = np.isin(item.ids, item.ids[item.asked :])
        assert (blurred[kept] == item.ids[kept]).all()


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_about_a_twentieth_of_the_words_is_blurred(shelves, blur, lang):
    shelf = Shelf(shelves / f"tiny-{lang}-0")
    shares = []
    for seed in range(40):
        for item in map(shelf.__getitem__, range(12)):
            words = (blur.words | blur.characters)[item.ids] & ~np.isin(item.ids, item.ids[item.asked :])
            shares.append((blur(item, np.random.default_rng(seed)).ids != item.ids).sum() / max(1, words.sum()))
    assert np.mean(shares) == pytest.approx(SHARE / 4, abs=SHARE / 10)
    assert np.median(shares) == 0 or min(shares) == 0


@pytest.mark.parametrize(("tokens", "rate"), [(20e6, 1), (30e6 - 1, 0.05), (30e6, 0.3), (33e6, 0.05), (65e6, 0.02)])
def test_the_rate_falls_twice_and_a_third_time(tokens, rate):
    assert rate_at(tokens, 10_000, Recipe()) == pytest.approx(rate, abs=1e-4)


def test_a_clip_of_pairs_shows_no_frame_without_two_of_its_cast():
    for example, _ in islice(clips(KINDS["paired"], "en", 0), 10):
        for frame in example.document.frames:
            assert sum(r.frame == frame.index and r.chain is not None for r in example.gold.regions) >= 2


def test_all_gradients_are_one_row(shelves):
    model = torch.nn.Linear(3, 2)
    row = one_gradient(model)
    model(torch.ones(1, 3)).sum().backward()
    assert row.tolist() == [1.0] * 8


def test_relations_weigh_more_than_boxes():
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    known, found = tokenizer.get_vocab(), weights(tokenizer, m3d_labels())
    relation, chain, edge = (known[token] for token in ('","type":"PER-PER_couple"}', "c7", "120,"))
    assert found[relation] == found[chain] > 1 > found[edge]


def test_an_english_name_is_two_tokens():
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    names = names_for("en")
    all_names = (
        *names.people.surnames,
        *names.people.given["f"],
        *names.people.given["m"],
        *names.places,
        *names.stems,
    )
    assert {len(tokenizer.tokenize(name)) for name in all_names} == {2}


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_names_to_measure_with_are_not_learned_from(lang: Any):
    learned_from, other = names_for(lang), names_for(lang, held_out=True)
    assert set(other.places).isdisjoint(learned_from.places)
    assert set(other.people.given["f"]).isdisjoint(learned_from.people.given["f"])
