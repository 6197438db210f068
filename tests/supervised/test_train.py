from __future__ import annotations

import itertools
import random
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from m3dllm import training
from m3dllm.devices import find_device, is_out_of_memory, memory_advice, warn_of_emulation
from m3dllm.errors import UserError
from m3dllm.systems.dffm import Config
from m3dllm.systems.dffm.model import DFFM
from m3dllm.systems.supervised.checkpoint import MODEL, read_checkpoint
from m3dllm.systems.supervised.decoding import Thresholds
from m3dllm.systems.supervised.learner import SupervisedLearner, hidden, parameter_groups, training_item
from m3dllm.systems.supervised.predict import decoders, dev_scores, tune
from m3dllm.training import TRAINING, MovingAverage, Schedule, Training, batches, sum_of
from tests.supervised.documents import LABELS, four
from tests.supervised.models import fit, new_model
from tests.supervised.pretrained import write_multilingual
from tests.supervised.test_text import write_longformer
from tests.supervised.test_vision import write_vit

CPU = torch.device("cpu")
SMALL = {"hidden": 16, "latent_size": 8, "image_size": 32, "layers": 3, "pair_size": 8, "batch_size": 2}


def scores_of(model, examples, thresholds):
    documents = [example.document for example in examples]
    decoded = decoders(model, documents, torch.device("cpu"), 4)
    return dev_scores(examples, decoded, LABELS, thresholds)


def names_in(folder):
    return sorted(file.name for file in folder.iterdir())


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_a_fit_that_was_cut_off_ends_at_the_same_numbers(tmp_path, monkeypatch, ema_decay):
    examples = four(tmp_path)
    config = Config(epochs=3, hide=0.5, ema_decay=ema_decay, **SMALL)
    fit(config, LABELS, examples, examples, tmp_path / "whole")

    done, real = [], Training.epoch

    def cut_off(*args):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(args)
        return real(*args)

    monkeypatch.setattr(Training, "epoch", cut_off)
    with pytest.raises(KeyboardInterrupt):
        fit(config, LABELS, examples, examples, tmp_path / "cut")
    assert (tmp_path / "cut" / TRAINING).exists()
    monkeypatch.setattr(Training, "epoch", real)
    fit(config, LABELS, examples, examples, tmp_path / "cut")
    assert names_in(tmp_path / "cut") == [MODEL]
    assert (tmp_path / "cut" / MODEL).read_bytes() == (tmp_path / "whole" / MODEL).read_bytes()


def test_a_finished_fit_is_not_done_again(tmp_path, monkeypatch):
    examples = four(tmp_path)
    config = Config(epochs=1, **SMALL)
    fit(config, LABELS, examples, examples, tmp_path / "out")
    monkeypatch.setattr(Training, "epoch", None)
    fit(config, LABELS, examples, examples, tmp_path / "out")


def test_a_half_finished_fit_of_other_options_is_refused(tmp_path, monkeypatch):
    examples = four(tmp_path)
    monkeypatch.setattr(
        "m3dllm.systems.supervised.system.save_model", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        fit(Config(epochs=1, **SMALL), LABELS, examples, examples, tmp_path)
    with pytest.raises(UserError, match="belongs to a fit with other options or documents"):
        fit(Config(epochs=2, **SMALL), LABELS, examples, examples, tmp_path)


def test_the_same_seed_gives_the_same_weights_and_another_does_not(tmp_path):
    examples = four(tmp_path)
    weights = []
    for k, seed in enumerate((1, 1, 2)):
        fit(Config(epochs=1, seed=seed, **SMALL), LABELS, examples, (), tmp_path / str(k))
        weights.append(read_checkpoint(tmp_path / str(k) / MODEL)[1])
    name = "entity.tagger.emit.weight"
    assert torch.equal(weights[0][name], weights[1][name])
    assert not torch.equal(weights[0][name], weights[2][name])


def test_one_thread_and_two_give_the_same_weights(tmp_path, monkeypatch):
    examples, found = four(tmp_path), []
    for threads in (1, 2):
        monkeypatch.setattr("m3dllm.systems.supervised.model.usable_cores", lambda threads=threads: threads)
        fit(Config(epochs=2, hide=0.5, **SMALL | {"batch_size": 4}), LABELS, examples, (), tmp_path / str(threads))
        found.append((tmp_path / str(threads) / MODEL).read_bytes())
    assert found[0] == found[1]


def test_a_step_in_two_parts_loses_what_it_loses_whole(tmp_path):
    examples = four(tmp_path)
    model = new_model(Config(**SMALL | {"batch_size": 4}), LABELS, examples).eval()
    learner = SupervisedLearner(model, LABELS, torch.device("cpu"), "")
    items = learner.items(examples)
    counts = learner.counts(items)

    def loss(part):
        return float(training.weighted_sum(learner.losses(part), learner.loss_weights, counts).detach())

    assert loss(items) == pytest.approx(loss(items[:2]) + loss(items[2:]), rel=1e-4)


def test_gradients_of_parts_lie_as_their_weights_do(tmp_path):
    examples = four(tmp_path)
    model = new_model(Config(**SMALL | {"batch_size": 4}), LABELS, examples)
    run = Training(SupervisedLearner(model, LABELS, torch.device("cpu"), ""), examples, (), tmp_path)
    run.step(run.items)
    trained = [weight for weight in run.learner.weights().values() if weight.grad is not None]
    assert trained
    assert all(weight.grad.stride() == weight.stride() for weight in trained)  # the fused AdamW takes that for granted


def test_a_gradient_that_is_no_number_ends_a_training_though_the_loss_is_one(tmp_path):
    examples = four(tmp_path)
    model = new_model(Config(**SMALL | {"batch_size": 4}), LABELS, examples)
    run = Training(SupervisedLearner(model, LABELS, torch.device("cpu"), ""), examples, (), tmp_path)
    run.weights[0].register_hook(lambda gradient: gradient / 0)
    with pytest.raises(UserError, match="the loss or its gradient is not finite"):
        run.step(run.items)


def test_a_sum_of_gradients_shares_memory_with_none_of_them():
    weight, shared = torch.zeros(2), torch.ones(2)  # one gradient of two weights that are added
    alone, both = sum_of([shared], weight), sum_of([shared, shared, shared], weight)
    alone.mul_(5)
    assert (shared.tolist(), both.tolist()) == ([1.0, 1.0], [3.0, 3.0])
    assert sum_of([], weight) is None


def test_the_moving_average_is_between_what_the_weights_were():
    weights = {"w": torch.zeros(2), "n": torch.tensor(3)}
    average = MovingAverage(weights, 0.5)
    for step, value in enumerate((1.0, 2.0)):
        weights["w"].fill_(value)
        average.add(step)
    with average.in_place():
        inside = weights["w"].tolist()
    early = 0.9 * 1.0  # a tenth of the beginning, 0, is left after the first step
    assert inside == pytest.approx([early + (1 - 2 / 11) * (2.0 - early)] * 2)
    assert (weights["w"].tolist(), int(weights["n"])) == ([2.0, 2.0], 3)


def test_what_is_kept_of_a_fit_is_the_moving_average(tmp_path):
    weights = []
    for ema_decay in (0.0, 0.9):
        fit(Config(epochs=1, ema_decay=ema_decay, **SMALL), LABELS, four(tmp_path), (), tmp_path / str(ema_decay))
        weights.append(read_checkpoint(tmp_path / str(ema_decay) / MODEL)[1]["entity.tagger.emit.weight"])
    assert not torch.equal(*weights)


def test_a_refit_learns_dev_too_with_the_thresholds_that_were_best_on_it_before(tmp_path):
    examples = four(tmp_path)
    config = Config(epochs=1, refit=True, **SMALL)
    card, _ = fit(config, LABELS, examples[:1], examples[1:], tmp_path / "out")
    assert card.languages == ("en", "zh")
    _, first = fit(replace(config, refit=False), LABELS, examples[:1], (), tmp_path / "first")
    assert card.thresholds == tune(first, examples[1:], LABELS, torch.device("cpu"))
    fit(replace(config, tune=False), LABELS, examples[:1], examples[1:], tmp_path / "second")
    weights = [read_checkpoint(tmp_path / name / MODEL)[1] for name in ("out", "second")]
    assert all(torch.equal(weights[0][name], value) for name, value in weights[1].items())
    assert names_in(tmp_path / "out") == [MODEL]


def test_a_refit_that_was_cut_off_does_not_begin_again(tmp_path, monkeypatch):
    examples, trained, real = four(tmp_path), [], Training.fit

    def cut_off(training):
        trained.append(len(training.items))
        if len(trained) == 2:
            raise KeyboardInterrupt
        return real(training)

    monkeypatch.setattr(Training, "fit", cut_off)
    asked = Config(epochs=1, refit=True, **SMALL), LABELS, examples[:3], examples[3:], tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        fit(*asked)
    fit(*asked)
    assert trained == [3, 4, 4]


def test_without_dev_the_last_epoch_is_kept(tmp_path):
    card, _ = fit(Config(epochs=2, **SMALL), LABELS, four(tmp_path), (), tmp_path / "out")
    assert [set(row) for row in card.history] == [{"loss"}] * 2
    assert card.thresholds == Thresholds()


def test_no_train_document_is_one_line():
    with pytest.raises(UserError, match="no train document"):
        fit(Config(), LABELS, (), (), Path())


def test_pretrained_encoders_are_fitted_and_kept(tmp_path):
    examples = four(tmp_path)[1:]
    text, vision = write_longformer(tmp_path / "text"), write_vit(tmp_path / "vision")
    config = Config(
        text_encoder=(f"zh={text}", f"en={text}"),
        vision_encoder=str(vision),
        epochs=1,
        checkpointing=True,
        frame_chunk=2,
        latent_size=8,
    )
    with pytest.raises(UserError, match="does not know 'en'"):
        fit(config, LABELS, examples, (), tmp_path / "out")
    fit(config, LABELS, [example for example in examples if not example.document.text], (), tmp_path / "out")
    assert names_in(tmp_path / "out") == [MODEL, "text_encoder", "vision_encoder"]


def test_frozen_encoders_stay_as_they_are_and_are_not_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("M3DLLM_CACHE", str(tmp_path / "cache"))
    vision = write_vit(tmp_path / "vision")
    config = Config(vision_encoder=str(vision), freeze=("vision",), epochs=2, **SMALL)
    _, model = fit(config, LABELS, four(tmp_path), (), tmp_path / "out")
    names = read_checkpoint(tmp_path / "out" / MODEL)[1]
    assert not [name for name in names if "vision.encoder" in name]
    assert not [p for p in model.backbone.vision.encoder.parameters() if p.requires_grad]
    assert len(list((tmp_path / "cache" / "features").glob("*/*"))) == 7  # the seven frames


def test_one_pretrained_encoder_reads_both_languages_with_its_embeddings_as_they_are(tmp_path):
    examples = four(tmp_path)
    known = [replace(e, document=replace(e.document, id="long", text=e.document.text * 5)) for e in examples[1:2]]
    encoder = str(write_multilingual(tmp_path / "encoder"))
    options = Config.presets["multilingual"] | SMALL | {"text_encoder": (encoder,), "epochs": 1}
    card, model = fit(Config(**options), LABELS, examples + known, examples, tmp_path / "out")
    assert card.languages == ("en", "zh")
    names = read_checkpoint(tmp_path / "out" / MODEL)[1]
    assert [name for name in names if "text.encoder.model.encoder" in name]
    assert not [name for name in names if "word_embeddings" in name]
    again = DFFM(Config(**options), labels=LABELS, checkpoint=tmp_path / "out")
    decoded = decoders(model, [e.document for e in examples], torch.device("cpu"), 2)
    answers = [answer for decoder in decoded for answer in decoder.answers(card.thresholds)]
    assert [raw.payload for raw in again.predict([e.document for e in examples])] == answers


@pytest.mark.parametrize("part", ["text", "embeddings"])
def test_a_tiny_encoder_cannot_be_frozen(tmp_path, part):
    with pytest.raises(UserError, match=f"freeze {part}: the tiny text encoder must learn"):
        fit(Config(freeze=(part,), **SMALL), LABELS, four(tmp_path), (), tmp_path / "out")


def test_a_pretrained_vision_encoder_needs_frames(tmp_path):
    with pytest.raises(UserError, match="no train document has frames: give --vision-encoder none"):
        fit(Config(vision_encoder="google/vit-base-patch16-224"), LABELS, four(tmp_path)[3:], (), tmp_path / "out")


# --- parts ------------------------------------------------------------------------------------------------------------


def test_every_document_stands_in_one_batch_of_its_length():
    lengths = [n % 17 for n in range(70)]
    made = batches(lengths, Schedule(epochs=1, batch_size=4), random.Random(0))
    assert sorted(n for batch in made for n in batch) == list(range(70))
    assert max(map(len, made)) == 4
    spread = [max(lengths[n] for n in batch) - min(lengths[n] for n in batch) for batch in made]
    assert sum(spread) / len(spread) < 3


def test_a_training_item_is_masked_at_random_only_where_it_has_both(tmp_path):
    examples = four(tmp_path)
    model = new_model(Config(**SMALL), LABELS, examples)
    both, no_frames = (training_item(model, examples[i]) for i in (0, 3))
    rng = random.Random(0)
    found = [hidden(both, 0.5, rng).inputs for _ in range(400)]
    assert 60 < sum(not one.words for one in found) < 140
    assert 60 < sum(not one.frames for one in found) < 140
    assert all(one.words or one.frames for one in found)
    assert all(hidden(no_frames, 1.0, rng) is no_frames for _ in range(20))
    assert all(hidden(both, 0.0, rng) is both for _ in range(20))


def rated(optimizer, warmup):
    """A training of one epoch whose rates alone are of interest."""
    made = Training.__new__(Training)
    made.schedule, made.optimizer = Schedule(epochs=1, batch_size=1, warmup=warmup), optimizer
    return made


def test_the_rates_rise_and_fall_linearly():
    optimizer = torch.optim.AdamW([{"params": [torch.zeros(1)], "lr": 1.0}, {"params": [torch.zeros(1)], "lr": 0.1}])
    rates = []
    for k in range(10):
        rated(optimizer, 0.2).set_rates(k / 10, 10)
        rates.append(optimizer.param_groups[0]["lr"])
        assert optimizer.param_groups[1]["lr"] == pytest.approx(rates[-1] / 10)
    assert rates[:3] == pytest.approx([0.5, 1.0, 1.0])
    assert [a - b for a, b in itertools.pairwise(rates[2:])] == pytest.approx([1 / 9] * 7)
    rated(optimizer, 0.0).set_rates(0.0, 10)
    assert optimizer.param_groups[0]["lr"] == 1.0


def test_pretrained_encoders_have_their_own_rate_and_vectors_no_decay(tmp_path):
    vision = write_vit(tmp_path / "vision")
    config = Config(vision_encoder=str(vision), lr=0.5, encoder_lr=0.25, weight_decay=0.1, **SMALL)
    model = new_model(config, LABELS, four(tmp_path))
    groups = parameter_groups(model)
    rate = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert {rate[id(p)][0] for p in model.backbone.vision.encoder.parameters()} == {0.25}
    assert rate[id(model.entity.tagger.emit.weight)] == (0.5, 0.1)
    assert rate[id(model.entity.tagger.emit.bias)] == (0.5, 0.0)
    assert len(rate) == len(list(model.parameters()))


@pytest.mark.parametrize(
    ("known", "warned"), [({"avx512_bf16": False}, True), ({"avx512_bf16": True}, False), ({}, False)]
)
def test_bf16_is_warned_of_where_a_processor_only_emulates_it(monkeypatch, caplog, known, warned):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known, raising=False)
    warn_of_emulation("fp32", CPU)
    assert not caplog.messages
    warn_of_emulation("bf16", CPU)
    assert len(caplog.messages) == warned


def test_exhausted_memory_names_the_options_that_help():
    with pytest.raises(UserError, match="--batch-size 1"), memory_advice("try --batch-size 1"):
        torch.empty(10**15)
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shape"))
    with pytest.raises(RuntimeError, match="shape"), memory_advice(""):
        raise RuntimeError("shape")


def test_a_device_that_is_not_there_is_one_line():
    if torch.cuda.is_available():
        pytest.skip("needs a machine without a GPU")
    with pytest.raises(UserError, match="device cuda: cannot be used"):
        find_device("cuda")


@pytest.mark.slow
def test_a_killed_fit_leaves_what_it_had(tmp_path):
    """A real kill, in the middle of whatever it was doing."""
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from pathlib import Path
from m3dllm.systems.dffm import Config
from tests.supervised.models import fit
from tests.supervised.documents import LABELS, four
from tests.supervised.models import fit, new_model
root = Path({str(tmp_path)!r})
(root / "pictures").mkdir(exist_ok=True)
examples = four(root / "pictures")
fit(Config(epochs=6, **{SMALL!r}), LABELS, examples, examples, root / sys.argv[1])
"""
    command = [sys.executable, "-c", code]
    subprocess.run([*command, "whole"], check=True)
    cut = subprocess.Popen([*command, "cut"])
    while not (tmp_path / "cut" / TRAINING).exists() and cut.poll() is None:
        pass
    cut.send_signal(signal.SIGKILL)
    cut.wait()
    subprocess.run([*command, "cut"], check=True)
    assert (tmp_path / "cut" / MODEL).read_bytes() == (tmp_path / "whole" / MODEL).read_bytes()


def test_the_config_decides_the_fingerprint(tmp_path):
    examples = four(tmp_path)
    config = Config(**SMALL)

    def fingerprint(config, train, dev):
        return training.fingerprint_of(asdict(config), LABELS, train, dev)

    one = fingerprint(config, examples, ())
    assert one == fingerprint(config, examples, ())
    assert one != fingerprint(replace(config, lr=0.1), examples, ())
    assert one != fingerprint(config, examples[:3], ())
    assert one != fingerprint(config, examples[:3], examples[3:])
