"""Tuning: what is learned, what is kept, what is refused. Tiny models, a few steps."""

from __future__ import annotations

import json
import os
import pickle
import resource
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="needs the extra 'llm'")
pytest.importorskip("llguidance", reason="needs the extra 'llm'")
pytest.importorskip("accelerate", reason="needs the extra 'llm'")

import torch
from safetensors.torch import load_file, save_file

from m3dllm.corpora.native import load_corpus
from m3dllm.errors import UserError
from m3dllm.experiment import Experiment, plan
from m3dllm.labels import LabelSet
from m3dllm.pipeline import fit, predict
from m3dllm.systems.videollm import embedded
from m3dllm.systems.videollm.adapters import card as adapters
from m3dllm.systems.videollm.adapters.card import CONFIG, WEIGHTS, find_adapter, open_adapter
from m3dllm.systems.videollm.adapters.lora import linear_layers
from m3dllm.systems.videollm.adapters.use import tuned
from m3dllm.systems.videollm.config import Config
from m3dllm.systems.videollm.engines.transformers import TransformersEngine
from m3dllm.systems.videollm.prompts import Prompts
from m3dllm.systems.videollm.system import VideoLLM
from m3dllm.systems.videollm.tuning.conversations import items_of
from m3dllm.systems.videollm.tuning.encoding import IGNORED, answer_ids, collate, encode, loss_sum
from m3dllm.systems.videollm.tuning.trainer import Trainer
from m3dllm.systems.videollm.verbs import merge, overview, push
from m3dllm.training import Progress, Training, save_progress
from tests.small import LABELS, small_corpus

SMALL = {
    "max_chains": 3,
    "max_mentions": 3,
    "max_relations": 2,
    "max_regions": 2,
    "max_mention_characters": 30,
    "max_tokens": 160,
    "longest_side": 64,
    "device": "cpu",
}
LEARNING = {
    "rank": 4,
    "alpha": 8,
    "dropout": 0.0,
    "epochs": 2,
    "lr": 1e-2,
    "warmup": 0.0,
    "step_size": 4,
    "micro_batch": 2,
    "dev_limit": 1,
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return small_corpus(tmp_path_factory.mktemp("corpus") / "small", train=6, dev=2, test=2)


@pytest.fixture(scope="module")
def base(tiny):
    """The options of a fit of a tiny model without eyes: the quickest one."""
    return {"model": tiny("text_only"), "frames": 0} | SMALL | LEARNING


@pytest.fixture(scope="module")
def run(corpus, base, tmp_path_factory) -> Path:
    """A finished fit."""
    return fit(
        Experiment(system="video-llm", corpus=corpus, options=base, out=tmp_path_factory.mktemp("runs") / "fit")
    ).path


@pytest.fixture
def copy(run, tmp_path) -> Path:
    """The adapter of the finished fit, to be damaged."""
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in (run / "checkpoint").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def use(base, **options) -> VideoLLM:
    """The system with its engine loaded."""
    system = VideoLLM(Config(**base | options), labels=LABELS)
    assert system.engine
    return system


def trainer(base, corpus, out: Path, **options) -> Trainer:
    """A fit that chooses the last epoch: it answers no dev documents."""
    found = load_corpus(corpus)
    out.mkdir(exist_ok=True)
    return Trainer(Config(**base | options), found.labels, found["train"], (), out)


# --- what is learned --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def engines(tiny):
    loaded = {}

    def engine(model: str) -> tuple[VideoLLM, TransformersEngine]:
        if model not in loaded:
            config = Config(**SMALL | {"model": tiny(model), "unconstrained": True, "dtype": "float32"})
            made = TransformersEngine(config)
            loaded[model] = VideoLLM(config, labels=LABELS, engine=made), made
        return loaded[model]

    return engine


def encoded(system, engine, corpus, count: int = 4):
    taught = [
        item for e in load_corpus(corpus)["train"][:count] for item in items_of(system.builder.of(e.document), e.gold)
    ]
    return taught, [encode(engine, item) for item in taught]


def test_only_the_answer_is_learned_with_the_token_that_ends_it(engines, corpus):
    system, engine = engines("qwen2_5_vl")
    items, rows = encoded(system, engine, corpus)
    batch, targets = collate(rows, padding=0)
    for i, (item, row) in enumerate(zip(items, rows, strict=True)):
        prompt = engine.local.encode(item.request.messages)["input_ids"][0].tolist()
        answer = answer_ids(engine.local, item.answer)
        assert batch["input_ids"][i][batch["attention_mask"][i] == 1].tolist() == prompt + answer
        assert [token for token in targets[i].tolist() if token != IGNORED] == answer
        assert row.target_tokens == len(answer)
        assert answer[-1] == engine.local.tokenizer.eos_token_id


@pytest.mark.parametrize("model", ["qwen2_5_vl", "qwen3_vl", "llava", "text_only"])
def test_a_padded_batch_loses_what_its_rows_lose_alone(tiny, engines, corpus, model):
    if model == "text_only":
        config = Config(**SMALL | {"model": tiny(model), "frames": 0, "unconstrained": True})
        engine = TransformersEngine(config)
        system = VideoLLM(config, labels=LABELS, engine=engine)
    else:
        system, engine = engines(model)
    _, rows = encoded(system, engine, corpus)
    assert len({row.tokens for row in rows}) > 1
    with torch.no_grad():
        together = float(loss_sum(engine.model, *collate(rows, padding=0)))
        alone = sum(float(loss_sum(engine.model, *collate([row], padding=0))) for row in rows)
    assert together == pytest.approx(alone, rel=1e-4)


@pytest.mark.parametrize(("model", "left_out"), [("qwen2_5_vl", r"model\.visual\..*"), ("qwen3_vl", None)])
def test_lora_takes_the_linear_layers_of_the_language_model_and_nothing_else(engines, model, left_out):
    _, engine = engines(model)
    ends = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    assert linear_layers(engine.model) == (ends, left_out)
    with pytest.raises(UserError, match=r"--targets nope: .*known: down_proj"):
        linear_layers(engine.model, ["nope"])


def test_no_weight_of_the_vision_tower_learns(tiny, base, corpus, tmp_path):
    base = base | {"model": tiny("qwen2_5_vl"), "frames": 1}
    for tune in ("lora", "full"):
        made = trainer(base, corpus, tmp_path / tune, tune=tune)
        names = [name for name, weight in made.model.named_parameters() if weight.requires_grad]
        assert names
        assert not [name for name in names if "visual" in name]
    assert any("embed_tokens" in name for name in names)
    made = trainer(base, corpus, tmp_path / "more", train_fully=("lm_head", "visual.merger"))
    names = {name for name, weight in made.model.named_parameters() if weight.requires_grad and "lora" not in name}
    assert {name.split(".modules_to_save")[0] for name in names} == {"lm_head", "model.visual.merger"}


# --- a fit ------------------------------------------------------------------------------------------------------------


def test_a_fit_leaves_an_adapter_that_says_what_it_is(run, base):
    card = open_adapter(run / "checkpoint").card
    assert (card.shape.rank, card.shape.tune, card.shape.parameters) == (4, "lora", 8192)
    assert card.effect > 0.01
    assert len(card.epochs) == 2
    assert card.epochs[1]["loss"] < card.epochs[0]["loss"]
    assert {"average", "loss", "tokens_per_s"} <= card.epochs[0].keys()
    assert card.data.train_documents == 6
    assert card.data.languages == ("en", "zh")
    assert card.data.ceiling["relation"] == 1.0
    assert sorted(card.files) == [CONFIG, WEIGHTS]
    assert "rank 4" in (run / "checkpoint" / "README.md").read_text()
    assert {p.name for p in (run / "checkpoint").iterdir()} == {
        *("README.md", "adapter.toml", CONFIG, WEIGHTS, "done.json")
    }


def test_only_the_verb_fit_fits(corpus, base):
    asked = Experiment(system="video-llm", corpus=corpus, options=base)
    assert not plan(asked).fits
    assert plan(asked, only_fit=True).fits
    assert plan(asked).path != plan(asked, only_fit=True).path
    assert plan(Experiment(system="majority", corpus=corpus)).fits


def test_a_run_takes_the_adapter_by_checkpoint_and_by_name(corpus, base, run, tmp_path, monkeypatch):
    (tmp_path / "adapters").mkdir()
    (tmp_path / "adapters" / "mine").symlink_to(run / "checkpoint")
    monkeypatch.chdir(tmp_path)
    asked = Experiment(system="video-llm", corpus=corpus, options=base, limit=1)
    by_checkpoint = predict(replace(asked, checkpoint=run, out=tmp_path / "a"))
    by_name = predict(replace(asked, options=base | {"adapter": "mine"}, out=tmp_path / "b"))
    plain = predict(replace(asked, out=tmp_path / "c"))
    assert [r.payload for r in by_checkpoint.raws().values()] == [r.payload for r in by_name.raws().values()]
    assert [r.payload for r in by_checkpoint.raws().values()] != [r.payload for r in plain.raws().values()]
    sha256 = by_name.record().provenance["adapter"]["sha256"]
    assert sha256 == open_adapter(run / "checkpoint").card.files[WEIGHTS]
    assert "mine" in overview()
    assert json.loads(overview(json=True))[0]["adapter"] == "mine"


def test_a_fit_that_was_killed_goes_on_and_ends_at_the_same_weights(corpus, base, tmp_path, monkeypatch):
    out, whole = tmp_path / "out", tmp_path / "whole"
    base = base | {"dropout": 0.1}
    trainer(base, corpus, whole).fit()
    step = Training.step
    taken = []

    def dies(self, items):
        taken.append(items)
        if len(taken) == 4:
            raise KeyboardInterrupt
        return step(self, items)

    monkeypatch.setattr(Training, "step", dies)
    with pytest.raises(KeyboardInterrupt):
        trainer(base, corpus, out, save_every=1).fit()
    monkeypatch.undo()
    assert len(taken) == 4  # the second step of the second epoch
    trainer(base, corpus, out, save_every=1).fit()
    here, there = load_file(out / WEIGHTS), load_file(whole / WEIGHTS)
    assert here.keys() == there.keys()
    assert all(here[name].equal(there[name]) for name in here)


def test_a_fit_that_was_killed_after_its_last_step_keeps_what_it_learned(corpus, base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found, out = load_corpus(corpus), tmp_path / "out"
    out.mkdir()
    system = VideoLLM(Config(**base | {"epochs": 1, "save_as": "mine"}), labels=LABELS)
    with pytest.MonkeyPatch.context() as dying:
        dying.setattr(Path, "unlink", lambda self, **_: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            system.fit(found["train"], (), out)
    learned = (out / WEIGHTS).read_bytes()
    assert (out / "training.safetensors").exists()
    monkeypatch.setattr(Training, "step", lambda *_: pytest.fail("it learns again"))
    for _ in range(2):  # with its state, and without
        system.fit(found["train"], (), out)
        assert sorted(path.name for path in out.iterdir()) == ["README.md", "adapter.toml", CONFIG, WEIGHTS]
        assert (out / WEIGHTS).read_bytes() == (tmp_path / "adapters" / "mine" / WEIGHTS).read_bytes() == learned


def test_a_kill_between_the_state_and_the_best_weights_loses_neither(corpus, base, tmp_path, monkeypatch):
    for name in ("whole", "cut"):
        made = trainer(base, corpus, tmp_path / name)
        made.training.epoch(Progress(made.fingerprint))
    (tmp_path / "cut" / "best.safetensors").unlink()
    monkeypatch.setattr(Training, "is_over", lambda *_: True)
    for name in ("whole", "cut"):
        trainer(base, corpus, tmp_path / name).fit()
    here, there = (load_file(tmp_path / name / WEIGHTS) for name in ("whole", "cut"))
    assert all(here[name].equal(there[name]) for name in here)


def test_a_state_of_another_fit_is_refused(corpus, base, tmp_path, monkeypatch):
    monkeypatch.setattr(Training, "dev_scores", lambda self: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        trainer(base, corpus, tmp_path / "out", save_every=1).fit()
    with pytest.raises(UserError, match="belongs to a fit with other options"):
        trainer(base, corpus, tmp_path / "out", rank=4, lr=1e-3).fit()


@pytest.mark.parametrize("later", [(0.4, 0.3), (0.5, 0.5)], ids=["worse", "as good"])
def test_learning_stops_when_dev_gets_no_better(corpus, base, tmp_path, monkeypatch, later):
    scores = iter([0.5, *later, 0.9])
    monkeypatch.setattr(Training, "dev_scores", lambda self: {"average": next(scores)})
    made = trainer(base, corpus, tmp_path / "out", epochs=4, patience=2)
    made.training.dev = list(load_corpus(corpus)["dev"])
    made.fit()
    card = open_adapter(tmp_path / "out").card
    assert (card.best_epoch, len(card.epochs)) == (1, 3)


def test_a_model_that_is_tuned_fully_is_a_model_like_any_other(corpus, base, tmp_path):
    options = base | {"tune": "full", "epochs": 1, "lr": 1e-3}
    made = fit(Experiment(system="video-llm", corpus=corpus, options=options, out=tmp_path / "run"))
    asked = Experiment(system="video-llm", corpus=corpus, options=base, limit=1)
    by_checkpoint = predict(replace(asked, checkpoint=made.path, out=tmp_path / "a"))
    by_model = predict(replace(asked, options=base | {"model": str(made.checkpoint / "model")}, out=tmp_path / "b"))
    assert [r.payload for r in by_checkpoint.raws().values()] == [r.payload for r in by_model.raws().values()]
    with pytest.raises(UserError, match="is a whole model, not an adapter"):
        use(base, adapter=str(made.path))


def test_what_was_tuned_of_the_embedded_model_is_asked_with_its_prompts(base, copy):
    card = open_adapter(copy).card
    prompts = Prompts(embedded.PROMPTS)
    asked = replace(card.asked, version=1, sha256=prompts.sha256("joint"))
    (copy / "model").mkdir()
    shape = replace(card.shape, tune="full")
    made = replace(card, base=replace(card.base, model=""), asked=asked, shape=shape)
    (copy / "adapter.toml").write_text(made.toml())
    system = VideoLLM(Config(frames=0), labels=LABELS, checkpoint=copy)
    assert system.prompts.hashes("joint") == prompts.hashes("joint")
    assert embedded.NOTE in system.notes


def test_an_adapter_brings_the_revision_of_its_base_model(copy):
    card = open_adapter(copy).card
    (copy / "adapter.toml").write_text(replace(card, base=replace(card.base, revision="abc")).toml())
    assert tuned(Config(adapter=str(copy)), None, local=True)[0].revision == "abc"
    assert tuned(Config(adapter=str(copy), model="another"), None, local=True)[0].revision is None


def test_a_finished_fit_is_kept_under_a_name_that_is_given_later(corpus, base, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Trainer, "__init__", lambda *_: pytest.fail("it learns again"))
    fit(Experiment(system="video-llm", corpus=corpus, options=base | {"save_as": "later"}, out=run))
    assert find_adapter("later").card == replace(open_adapter(run / "checkpoint").card, name="later")


def test_a_run_is_not_taken_for_the_fit_whose_folder_it_names(corpus, base, run):
    with pytest.raises(UserError, match="trains was true, is now false"):
        predict(Experiment(system="video-llm", corpus=corpus, options=base, out=run))


def test_an_adapter_that_was_tuned_again_makes_another_run(corpus, base, copy):
    asked = Experiment(system="video-llm", corpus=corpus, options=base | {"adapter": str(copy)})
    before = plan(asked).path
    (copy / "adapter.toml").write_text(replace(open_adapter(copy).card, effect=9.0).toml())
    assert plan(asked).path != before


def test_a_changed_prompt_makes_another_run(corpus, base, tmp_path):
    (tmp_path / "joint").mkdir()
    file = tmp_path / "joint" / "system.en.v1.jinja"
    paths = set()
    for words in ("List.", "Tell."):
        file.write_text(words)
        paths.add(plan(Experiment(system="video-llm", corpus=corpus, options=base | {"prompts": str(tmp_path)})).path)
    assert len(paths) == 2


def test_merged_weights_answer_as_the_adapter_does(corpus, base, run, tmp_path):
    documents = [e.document for e in load_corpus(corpus)["test"][:1]]
    whole = merge(str(run), tmp_path / "whole")
    adapted = [raw.payload for raw in use(base, adapter=str(run)).predict(documents)]
    assert [raw.payload for raw in use(base, model=str(whole)).predict(documents)] == adapted
    with pytest.raises(UserError, match="already exists"):
        merge(str(run), tmp_path / "whole")


def test_checkpointing_changes_no_loss(base, corpus, tmp_path):
    curves = []
    for on in (True, False):
        made = trainer(base, corpus, tmp_path / str(on), checkpointing=on, dev_limit=1)
        made.model.train()
        curves.append([made.training.step(made.dataset.entries[i : i + 2]) for i in (0, 2)])
    assert curves[0] == pytest.approx(curves[1], rel=1e-5)


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(corpus, base, run, tmp_path):
    options = [f"--{name.replace('_', '-')}={value}" for name, value in base.items()]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "m3dllm"]
    command += ["fit", "--system", "video-llm", "--corpus", str(corpus), "--out", str(tmp_path / "two"), *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = (open_adapter(folder / "checkpoint").card.epochs for folder in (run, tmp_path / "two"))
    assert [epoch["loss"] for epoch in two] == pytest.approx([epoch["loss"] for epoch in one], abs=2e-4)


def test_a_card_is_read_as_it_was_written(run, tmp_path):
    card = open_adapter(run / "checkpoint").card
    (tmp_path / "adapter.toml").write_text(card.toml())
    assert asdict(open_adapter(tmp_path).card) == asdict(card)


# --- what is refused --------------------------------------------------------------------------------------------------


def test_an_adapter_of_another_model_is_refused(base, run, tmp_path):
    from tests.videollm.tiny import text_only

    other = text_only(tmp_path / "other", seed=1)
    with pytest.raises(UserError, match=r"was tuned on '.*not on '.*other'.*give that model as --model"):
        use(base, adapter=str(run), model=str(other))


def test_an_adapter_for_other_prompts_is_refused(base, run, copy, tmp_path):
    with pytest.raises(UserError, match="was tuned with --strategy joint, not staged"):
        use(base, adapter=str(run), strategy="staged")
    text = (copy / "adapter.toml").read_text().replace("version = 2", "version = 7")
    (copy / "adapter.toml").write_text(text)
    with pytest.raises(UserError, match="version 7 of the prompts, not 2: give --prompt-version 7"):
        use(base, adapter=str(copy), prompt_version=2)
    with pytest.raises(UserError, match="there are no prompts of version 7"):
        use(base, adapter=str(copy))
    (tmp_path / "prompts" / "joint").mkdir(parents=True)
    (tmp_path / "prompts" / "joint" / "joint.en.v1.jinja").write_text("Say it.")
    with pytest.raises(UserError, match="with other prompts"):
        use(base, adapter=str(run), prompts=str(tmp_path / "prompts"))


def test_an_adapter_for_another_label_set_is_refused(base, run):
    fewer = LabelSet(mentions=LABELS.mentions, relations=LABELS.relations[:1], regions=LABELS.regions)
    with pytest.raises(UserError, match="was tuned for another label set"):
        VideoLLM(Config(**base | {"adapter": str(run)}), labels=fewer)


def test_an_adapter_that_is_cut_off_is_refused(base, copy):
    (copy / WEIGHTS).write_bytes((copy / WEIGHTS).read_bytes()[:-100])
    with pytest.raises(UserError, match=r"adapter_model.safetensors: is truncated: it has \d+ of \d+ bytes"):
        use(base, adapter=str(copy))
    (copy / WEIGHTS).write_bytes(b"nothing")
    with pytest.raises(UserError, match="is damaged or truncated"):
        use(base, adapter=str(copy))


def test_a_pickled_adapter_is_never_read(base, copy):
    (copy / WEIGHTS).unlink()
    (copy / "adapter_model.bin").write_bytes(pickle.dumps({"w": 1}))
    with pytest.raises(UserError, match=r"adapter_model.bin is a pickle, which is never loaded"):
        use(base, adapter=str(copy))
    (copy / "adapter_model.bin").rename(copy / WEIGHTS)
    with pytest.raises(UserError, match="is a pickle, which is never loaded"):
        use(base, adapter=str(copy))


def test_an_adapter_of_another_rank_than_its_configuration_says_is_refused(base, copy):
    told = json.loads((copy / CONFIG).read_text()) | {"r": 8}
    (copy / CONFIG).write_text(json.dumps(told))
    with pytest.raises(UserError, match=r"has rank 4, and adapter_config\.json says 8"):
        use(base, adapter=str(copy))


@pytest.mark.parametrize("option", [{"video": True}, {"box_convention": "pixels"}], ids=["video", "boxes"])
def test_an_adapter_whose_boxes_or_frames_mean_something_else_is_refused(base, run, option):
    with pytest.raises(UserError, match="its answers mean something else then"):
        VideoLLM(Config(**base | {"adapter": str(run)} | option), labels=LABELS)


def test_an_adapter_that_is_asked_otherwise_than_it_learned_says_so(base, run, caplog):
    VideoLLM(Config(**base | {"adapter": str(run), "longest_side": 32}), labels=LABELS)
    assert "was tuned with --longest-side 64, and is prompted with 32" in caplog.text


def test_a_tensor_of_one_dimension_is_one_line(base, copy):
    weights = load_file(copy / WEIGHTS)
    name = next(name for name in weights if ".lora_B." in name)
    save_file(weights | {name: weights[name].flatten()}, copy / WEIGHTS)
    with pytest.raises(UserError, match=r"has rank 0, and adapter_config\.json says 4"):
        open_adapter(copy).check_files()


def test_a_changed_file_is_refused(base, copy):
    (copy / CONFIG).write_text((copy / CONFIG).read_text() + "\n")
    with pytest.raises(UserError, match=r"adapter_config.json: is not the file that the fit wrote"):
        use(base, adapter=str(copy))


def test_an_adapter_without_effect_is_an_error(base, copy):
    weights = {name: value * 0 if "lora_B" in name else value for name, value in load_file(copy / WEIGHTS).items()}
    save_file(weights, copy / WEIGHTS)
    card = open_adapter(copy).card
    card.files[WEIGHTS] = adapters.sha256_file(copy / WEIGHTS)
    (copy / "adapter.toml").write_text(card.toml())
    with pytest.raises(UserError, match="changes no log-probability of three texts"):
        use(base, adapter=str(copy))


def test_a_name_that_no_adapter_has_is_one_line(base, tmp_path):
    with pytest.raises(UserError, match="--adapter nowhere: no such adapter or folder; known: "):
        find_adapter("nowhere")
    with pytest.raises(UserError, match=r"has no adapter.toml"):
        find_adapter(tmp_path)
    (tmp_path / "adapter.toml").write_text("name = ")
    with pytest.raises(UserError, match="is not valid TOML"):
        find_adapter(tmp_path)


def test_answers_that_do_not_fit_are_named_and_left_out_only_when_asked(base, corpus, tmp_path):
    lengths = sorted({entry.target_tokens for entry in trainer(base, corpus, tmp_path / "all").dataset.entries})
    with pytest.raises(UserError, match=r"of 6 train documents cannot be trained on \('train.*--exclude-unfit"):
        trainer(base, corpus, tmp_path / "a", max_tokens=lengths[0])
    dataset = trainer(base, corpus, tmp_path / "b", max_tokens=lengths[0], exclude_unfit=True).dataset
    assert {entry.target_tokens for entry in dataset.entries} == {lengths[0]}
    assert len(dataset.examples) == 6 - len(dataset.unfit) < 6


def test_a_corpus_without_train_is_one_line(tmp_path, base):
    made = small_corpus(tmp_path / "corpus", train=0, dev=0, test=1)
    with pytest.raises(UserError, match="has no train split"):
        plan(Experiment(system="video-llm", corpus=made, options=base), only_fit=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "vllm"}, "--engine vllm does not train"),
        ({"schema_only": True, "rank": 0}, "--rank 0"),
        ({"strategy": "mqa"}, "--strategy mqa: its questions have no gold answers"),
        ({"rank": 0}, "--rank 0: expected at least 1"),
        ({"dropout": 1.0}, "--dropout 1.0: expected 0 or more and less than 1"),
        ({"four_bit": "yes"}, "--four-bit yes: this needs a GPU and bitsandbytes"),
        ({"tune": "full", "save_as": "x"}, "--save-as keeps adapters"),
        ({"targets": ("nope",)}, "--targets nope"),
        ({"train_fully": ("nope",)}, "--train-fully nope"),
    ],
)
def test_options_that_cannot_be_are_one_line(base, corpus, tmp_path, options, message):
    found = load_corpus(corpus)
    with pytest.raises(UserError, match=message):
        VideoLLM(Config(**base | options), labels=LABELS).fit(found["train"], found["dev"], tmp_path)


def test_an_adapter_of_that_name_is_reported_before_anything_is_learned(base, corpus, tmp_path, monkeypatch):
    found = load_corpus(corpus)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "adapters" / "mine").mkdir(parents=True)
    (tmp_path / "adapters" / "mine" / "adapter.toml").write_text("")
    system = VideoLLM(Config(**base | {"save_as": "mine"}), labels=LABELS)
    with pytest.raises(UserError, match="adapters/mine: already exists"):
        system.fit(found["train"], found["dev"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_fit_may_be_asked_for_with_the_schema_alone(base, corpus, tmp_path):
    assert trainer(base, corpus, tmp_path / "out", schema_only=True).dataset.entries


@pytest.mark.parametrize("damage", ["missing", "cut off"])
def test_best_weights_that_are_lost_are_one_line(base, corpus, tmp_path, damage):
    made = trainer(base, corpus, tmp_path)
    progress = Progress(made.fingerprint)
    made.training.epoch(progress)
    save_progress(tmp_path, replace(progress, epoch=2), made.weights(), made.training.optimizer)
    if damage == "missing":
        (tmp_path / "best.safetensors").unlink()
    else:
        (tmp_path / "best.safetensors").write_bytes(b"cut")
    with pytest.raises(UserError, match=r"best\.safetensors: is .*training\.safetensors.*, and fit again"):
        trainer(base, corpus, tmp_path).fit()


def test_a_full_disk_keeps_the_last_good_state(base, corpus, tmp_path):
    out = tmp_path / "out"
    made = trainer(base, corpus, out)
    progress = Progress(made.fingerprint)
    made.training.epoch(progress)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert sorted(before) == ["best.safetensors", "training.safetensors"]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        with pytest.raises(UserError, match="cannot be written: "):
            made.training.epoch(progress)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    trainer(base, corpus, out).fit()
    assert open_adapter(out).card.best_epoch


def test_a_hub_that_cannot_be_reached_is_one_line(run):
    with pytest.raises(UserError, match="me/mine: adapter 'adapter' cannot be pushed"):
        push(str(run), "me/mine")
