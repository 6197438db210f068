"""The embedded model: what lies in the package, who uses it, and how it was asked to learn."""

from __future__ import annotations

import json
import shutil
import struct
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m3dllm.corpora.demo import generate_demo
from m3dllm.corpora.demo.names import SHARES, Names, names_of
from m3dllm.corpora.imported import Imported
from m3dllm.corpora.m3d import m3d_labels
from m3dllm.corpora.native import write_corpus
from m3dllm.normalize import normalize
from m3dllm.systems.videollm import embedded
from m3dllm.systems.videollm.config import Config
from m3dllm.types import Example, Prediction, RawOutput

pytest.importorskip("transformers", reason="needs the extra 'llm'")

from benchmarks.embedded.examples import KINDS, answer, clips, names_for, permille
from benchmarks.embedded.shelves import SIZE, patches, pixels, positions, prompt
from m3dllm import Experiment, load_corpus, run
from m3dllm.systems.videollm.engines import make_engine
from m3dllm.systems.videollm.engines.local.masks import compile_grammar
from m3dllm.systems.videollm.system import VideoLLM
from m3dllm.types import Box
from tests.small import small_corpus

LABELS = m3d_labels()
MEGABYTES = 15


@pytest.fixture(scope="module")
def engine() -> Any:
    return make_engine(Config(device="cpu"))


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Example, ...]:
    """Documents like those it learned from, as a corpus on disk: whole, without text, without frames; EN and ZH."""
    corpus = Imported(LABELS)
    corpus.splits["train"] = []
    for kind in ("medium", "frames", "short"):
        for lang in ("en", "zh"):
            for example, images in islice(clips(KINDS[kind], lang, 99), 1):
                document = replace(example.document, id=f"{kind}-{lang}")
                corpus.splits["train"].append(Example(document, example.gold))
                corpus.images |= images
    folder = tmp_path_factory.mktemp("learned") / "corpus"
    write_corpus(folder, corpus)
    return load_corpus(folder).splits["train"]


# --- what lies in the package -----------------------------------------------------------------------------------------


def test_it_is_small_and_in_half_precision_and_nothing_is_pickled():
    files = [path for path in embedded.FOLDER.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in files) < MEGABYTES * 1_000_000
    assert not [path for path in files if path.suffix in {".bin", ".pt", ".pth", ".pkl", ".npy"}]
    with (embedded.FOLDER / "model.safetensors").open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    assert {row["dtype"] for name, row in header.items() if name != "__metadata__"} == {"F16"}


def test_its_card_says_what_it_is():
    card = (embedded.FOLDER / "MODEL_CARD.md").read_text(encoding="utf-8")
    for said in ("demonstration", "of no use outside", "by hand", "control", "names"):
        assert said in card


# --- who uses it ------------------------------------------------------------------------------------------------------


def test_it_is_meant_where_no_model_is_named_and_no_server_is_asked():
    assert VideoLLM(Config(), labels=LABELS).is_embedded
    assert VideoLLM(Config(engine="vllm"), labels=LABELS).is_embedded
    assert not VideoLLM(Config(model="Qwen/Qwen3-VL-4B-Instruct"), labels=LABELS).is_embedded
    assert not VideoLLM(Config(engine="openai"), labels=LABELS).is_embedded


def test_a_run_with_it_says_so(engine):
    system = VideoLLM(Config(device="cpu"), labels=LABELS, engine=engine)
    assert system.notes == (embedded.NOTE,)
    assert "in-domain pretrained" in system.notes[0]
    assert system.provenance["model"] == "embedded"
    assert len(system.provenance["weights_sha256"]) == 64
    assert VideoLLM(Config(model="another"), labels=LABELS, engine=engine).notes == ()


def test_it_computes_in_single_precision(engine):
    assert engine.provenance["dtype"] == "float32"


def test_it_answers_every_sort_of_document_in_both_languages(engine, tmp_path):
    write_corpus(tmp_path / "corpus", generate_demo(3, documents={"test": 4}))
    documents = [example.document for example in load_corpus(tmp_path / "corpus").splits["test"]]
    system = VideoLLM(Config(device="cpu", max_tokens=400), labels=LABELS, engine=engine)
    answers = list(system.predict(documents))
    assert [raw.document for raw in answers] == [document.id for document in documents]
    for document, raw in zip(documents, answers, strict=True):
        assert raw.error is None
        predicted = normalize(document, raw, LABELS)
        assert isinstance(predicted, Prediction)
        texts = {document.text[m.start : m.end] for m in predicted.annotation.mentions}
        assert "" not in texts


# --- how it was asked to learn ----------------------------------------------------------------------------------------


def test_it_is_trained_on_the_prompts_of_prediction(engine, learned):
    system = VideoLLM(Config(device="cpu"), labels=LABELS, engine=engine)
    image = engine.model.config.image_token_id
    for example in learned:
        document = example.document
        question = _question(system, document)
        inputs = engine.local.encode(question.messages)
        ids = engine.local.tokenizer(prompt(document), add_special_tokens=False).input_ids
        assert inputs["input_ids"][0].tolist() == ids
        if document.frames:
            frames = sorted(document.frames, key=lambda frame: frame.index)
            shown = [pixels(Path(frame.path).read_bytes(), SIZE) for frame in frames]
            assert np.abs(patches(np.stack(shown), 8, 2) - inputs["pixel_values"].numpy()).max() < 1e-5
            index = engine.model.model.get_rope_index(
                inputs["input_ids"], inputs["mm_token_type_ids"], image_grid_thw=inputs["image_grid_thw"]
            )[0]
            assert positions(np.array(ids), image).tolist() == index[:, 0].tolist()


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_examples_stand_before_a_document_as_a_training_with_them_has_it(engine, learned, lang):
    asked = Config(device="cpu", shots=1)
    system = VideoLLM(asked, labels=LABELS, engine=engine, examples=learned)
    (document,) = (e.document for e in learned if e.document.id == f"short-{lang}")
    (shot,) = system.selector.choose(document)
    unshown = replace(shot.document, frames=())
    turns = (prompt(unshown), answer(unshown, replace(shot.gold, regions=())) + "<|im_end|>", prompt(document))
    ids = [i for turn in turns for i in engine.local.tokenizer(turn, add_special_tokens=False).input_ids]
    messages = _question(system, document).messages
    assert [message.role for message in messages] == ["system", "user", "assistant", "user"]
    assert engine.local.encode(messages)["input_ids"][0].tolist() == ids


def test_what_it_learned_to_say_is_allowed_and_means_the_gold(engine, learned):
    system = VideoLLM(Config(device="cpu"), labels=LABELS, engine=engine)
    for example in learned:
        document = example.document
        question = _question(system, document)
        said = answer(document, example.gold)
        matcher = compile_grammar(question.constraint.grammar, engine.local.grammar_tokenizer)
        for token in engine.local.tokenizer(said + "<|im_end|>", add_special_tokens=False).input_ids:
            allowed = np.unpackbits(np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8), bitorder="little")
            assert allowed[token], (engine.local.tokenizer.decode([token]), said)
            assert matcher.consume_token(token), said
        sizes = {frame.index: SIZE for frame in document.frames}
        raw = RawOutput(document.id, payload=said, boxes=system.builder.convention.form(sizes))
        read = normalize(document, raw, LABELS).annotation
        assert {m for c in read.chains for m in c.mentions} == set(example.gold.mentions)
        assert len(read.relations) == len(example.gold.relations)
        assert [r.type for r in read.regions] == [
            r.type for r in sorted(example.gold.regions, key=lambda r: (r.frame, r.box.x0))
        ]


def _question(system: VideoLLM, document: Any) -> Any:
    from m3dllm.systems.videollm.strategies import find_strategy

    (question,) = next(find_strategy("joint").run(system.builder.show(document)))
    return question.request


def test_a_box_is_learned_in_steps_and_has_an_area():
    assert permille(Box(0.101, 0.2, 0.5, 0.999)) == [100, 200, 500, 1000]
    assert permille(Box(0.999, 0.999, 1.0, 1.0)) == [980, 980, 1000, 1000]


def test_a_mention_is_the_same_tokens_in_a_text_and_in_an_answer_but_for_its_last(engine):
    tokens = engine.local.tokenizer
    text, said = tokens.tokenize("Henorra Radsaw came ."), tokens.tokenize('["Henorra Radsaw"]')
    name = text[: text.index("cameĠ")]
    at = said.index(name[0])
    assert said[at : at + len(name)] == [*name[:-1], name[-1].removesuffix("Ġ")]


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_no_name_that_it_learned_from_stands_in_the_demo(lang):
    learned = _names(names_for(lang), lang)
    assert learned
    for split in SHARES:
        assert not learned & _names(names_of(lang, split, salted=False), lang)


def _names(names: Names, lang: str) -> set[str]:
    """All names, but for Chinese surnames: these are shared, as they are among people."""
    given = {*names.people.given["f"], *names.people.given["m"]}
    return {*given, *names.places, *names.stems, *(names.people.surnames if lang == "en" else ())}


def test_a_run_begun_by_a_version_that_knew_it_by_all_its_files_is_resumed_with_the_same_result(tmp_path):
    corpus = small_corpus(tmp_path / "corpus", test=4)
    options = {"max_tokens": "96", "frames": "0", "device": "cpu"}
    asked = Experiment(system="video-llm", corpus=corpus, options=options, out=tmp_path / "whole")
    whole = run(asked)
    half = tmp_path / "half"
    shutil.copytree(whole.path, half)
    record = json.loads((half / "run.json").read_text())
    record["provenance"]["sha256"] = record["provenance"].pop("weights_sha256")[::-1]
    for name in ("entailment_model", "grounding_model", "omit"):
        del record["config"][name]
    (half / "run.json").write_text(json.dumps(record | {"status": "running"}))
    rows = (half / "raw.jsonl").read_text().splitlines(keepends=True)
    (half / "raw.jsonl").write_text("".join(rows[:2]))
    (half / "predictions.jsonl").unlink()
    resumed = run(replace(asked, out=half))
    assert (half / "predictions.jsonl").read_bytes() == (whole.path / "predictions.jsonl").read_bytes()
    assert {key: raw.payload for key, raw in resumed.raws().items()} == {
        key: raw.payload for key, raw in whole.raws().items()
    }
