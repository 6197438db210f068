"""Learning: AdamW with two learning rates, a linear schedule, and the epoch that does best on dev.

After every epoch the state is on disk: a fit that was killed goes on from its last finished epoch and ends at the same
numbers, because everything random is drawn anew from the seed and the epoch.
"""

from __future__ import annotations

import hashlib
import logging
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from m3dllm.errors import UserError
from m3dllm.labels import LabelSet
from m3dllm.systems.supervised.batch import Gold, Inputs, Types, gold_of, to_device, words_of
from m3dllm.systems.supervised.checkpoint import (
    MODEL,
    TRAINING,
    Card,
    Progress,
    fill,
    learned,
    load_progress,
    new_model,
    read_checkpoint,
    save_model,
    save_progress,
)
from m3dllm.systems.supervised.config import Config
from m3dllm.systems.supervised.decode import Thresholds
from m3dllm.systems.supervised.evaluate import decoders, dev_scores, mixed_precision, prepare, tune
from m3dllm.systems.supervised.losses import Balance, losses
from m3dllm.systems.supervised.model import DFFM, text_encoder_name
from m3dllm.systems.supervised.text import Vocabulary
from m3dllm.types import Example
from m3dllm.wire import encode_example, encode_labels

log = logging.getLogger("m3dllm")


@dataclass(frozen=True, slots=True)
class Lesson:
    """A train document and what it should say."""

    inputs: Inputs
    gold: Gold


def fit(
    config: Config, labels: LabelSet, train: Sequence[Example], dev: Sequence[Example], out: Path
) -> tuple[Card, DFFM]:
    """Learn from `train`, choose by `dev` (the last epoch where it is empty), and write the checkpoint into `out`.

    Raises UserError where there is nothing to learn from, where an encoder cannot be had or does not read the
    documents, or where memory runs out.
    """
    if not train:
        raise UserError("there is no train document: name a split by --train")
    device = find_device(config)
    fingerprint = fingerprint_of(config, labels, train, dev)
    card = describe(config, labels, train, fingerprint)
    types = Types.of(labels)
    with memory_advice():
        model = new_model(card).to(device)
        check_language(model, train)
        if (out / MODEL).is_file() and not (out / TRAINING).exists():
            header, weights = read_checkpoint(out / MODEL)
            done = Card.read(header, out / MODEL)
            if done.fingerprint == fingerprint:
                fill(model, weights, out / MODEL)
                return done, model.eval()
        lessons = [lesson(model, example, types) for example in train]
        optimizer = make_optimizer(model, config)
        progress = load_progress(out, fingerprint, model, optimizer) or Progress(fingerprint)
        if progress.epoch:
            log.info("going on after epoch %d", progress.epoch)
        balance = Balance.of([one.gold for one in lessons], types, config)
        for epoch in range(progress.epoch, config.epochs):
            started = time.perf_counter()
            loss = one_epoch(model, lessons, types, balance, optimizer, epoch, device)
            scores = {}
            if dev:
                decoded = decoders(model, [e.document for e in dev], types, device, config.batch_size)
                scores = dev_scores(dev, decoded, labels, Thresholds())
            average = scores.get("average", float(epoch))
            progress.history.append({"loss": loss, **scores})
            progress.epoch = epoch + 1
            if average > progress.best:
                progress.best = average
                progress.best_weights = {name: value.detach().clone() for name, value in learned(model).items()}
            save_progress(out, progress, model, optimizer)
            told = " ".join(f"{name} {value:.3f}" for name, value in scores.items())
            log.info(
                "epoch %d of %d: loss %.3f %s (%.1f s)",
                epoch + 1,
                config.epochs,
                loss,
                told,
                time.perf_counter() - started,
            )
        fill(model, progress.best_weights, out / TRAINING)
        model.eval()
        thresholds = tune(model, dev, labels, device) if config.tune and dev else Thresholds()
    card = replace(card, thresholds=thresholds, history=tuple(progress.history))
    save_model(out, card, model, progress.best_weights)
    (out / TRAINING).unlink(missing_ok=True)
    return card, model


# --- before -----------------------------------------------------------------------------------------------------------


def find_device(config: Config) -> torch.device:
    """The device of `config`. Raises UserError where it is not there."""
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(config.device)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        why = str(error).splitlines()[0]
        raise UserError(f"device {config.device}: cannot be used ({why}): give --device cpu or auto") from error
    return device


def _read(example: Example) -> tuple[str, list[str], list[bool]]:
    """(group, words, whether each is in a mention) of a document."""
    document = example.document
    spans, words = words_of(document)
    mentions = [mention.span for mention in example.gold.mentions]
    inside = [any(first < end and start < last for first, last in mentions) for start, end in spans]
    return document.group or document.id, words, inside


def describe(config: Config, labels: LabelSet, train: Sequence[Example], fingerprint: str = "") -> Card:
    """What the model for these documents will be. Raises UserError where no text encoder reads them."""
    documents = [example.document for example in train]
    languages = tuple(sorted({document.lang for document in documents}))
    name = text_encoder_name(config, languages)
    vocabulary = None
    if name == "tiny":
        vocabulary = Vocabulary.of(map(_read, train))
    has_frames = any(document.frames for document in documents)
    if not has_frames and config.vision_encoder not in ("tiny", "none"):
        raise UserError(
            f"vision_encoder {config.vision_encoder}: no train document has frames: "
            "give --vision-encoder none, or a corpus with frames"
        )
    return Card(
        config=config,
        labels=labels,
        languages=languages,
        text_encoder=name,
        vocabulary=vocabulary,
        sees=has_frames and config.vision_encoder != "none",
        grounds=any(frame.annotated for document in documents for frame in document.frames),
        fingerprint=fingerprint,
    )


def fingerprint_of(config: Config, labels: LabelSet, train: Sequence[Example], dev: Sequence[Example]) -> str:
    """A hash of everything that a fit depends on."""
    digest = hashlib.sha256(repr(sorted(asdict(config).items())).encode() + encode_labels(labels).encode())
    for part in (train, dev):
        digest.update(b"\0")
        for example in part:
            digest.update(encode_example(example))
    return digest.hexdigest()


def check_language(model: DFFM, train: Sequence[Example], *, most: float = 0.2) -> None:
    """Raises UserError where a pretrained text encoder does not know the words of a language."""
    encoder = model.text.encoder
    if not encoder.pretrained:
        return
    for lang in sorted({example.document.lang for example in train}):
        some = [example.document for example in train if example.document.lang == lang and example.document.text][:20]
        ids = (
            torch.cat([encoder.pieces(words_of(document)[1]).ids[:, 0] for document in some])
            if some
            else torch.zeros(0)
        )
        unknown = float((ids == encoder.tokenizer.unk_token_id).float().mean()) if len(ids) else 0.0
        if unknown > most:
            raise UserError(
                f"text_encoder {encoder.name}: does not know '{lang}': {unknown:.0%} of the pieces are unknown: "
                "give another --text-encoder, or another language by --lang"
            )


def lesson(model: DFFM, example: Example, types: Types) -> Lesson:
    """A train document as numbers."""
    inputs = prepare(model, example.document)
    return Lesson(inputs, gold_of(inputs, example.gold, types, example.unannotated))


def make_optimizer(model: DFFM, config: Config) -> torch.optim.Optimizer:
    """AdamW: pretrained encoders at `encoder_lr`, the rest at `lr`; no weight decay on vectors (biases, norms)."""
    slow = {
        id(p)
        for features in (model.text, model.vision)
        if features is not None and features.encoder.pretrained
        for p in features.encoder.model.parameters()
    }
    groups: dict[tuple[bool, bool], list[Tensor]] = {}
    for p in model.parameters():
        if p.requires_grad:
            groups.setdefault((id(p) in slow, p.ndim > 1), []).append(p)
    return torch.optim.AdamW(
        [
            {
                "params": params,
                "lr": config.encoder_lr if is_slow else config.lr,
                "weight_decay": config.weight_decay if decays else 0.0,
            }
            for (is_slow, decays), params in groups.items()
        ],
        fused=True,
    )


# --- an epoch ---------------------------------------------------------------------------------------------------------


def one_epoch(
    model: DFFM,
    lessons: Sequence[Lesson],
    types: Types,
    balance: Balance,
    optimizer: torch.optim.Optimizer,
    epoch: int,
    device: torch.device,
) -> float:
    """One pass over the train documents; the mean loss."""
    config = model.config
    torch.manual_seed(config.seed * 1_000_003 + epoch + 1)
    dice = random.Random(f"{config.seed}:{epoch}")
    model.train()
    batches = list(make_order([len(one.inputs.words) for one in lessons], config.batch_size, dice))
    total = 0.0
    for k, numbers in enumerate(batches):
        chosen = [hidden(lessons[i], config.hide, dice) for i in numbers]
        set_rates(optimizer, config, (epoch + k / len(batches)) / config.epochs, 1 / (len(batches) * config.epochs))
        batch = to_device(model.text.batch([one.inputs for one in chosen]), device)
        with mixed_precision(config, device):
            states = model.encode(batch)
            terms = losses(model, states, [one.gold for one in chosen], types, balance, device=device)
            loss = terms.total(config)
        optimizer.zero_grad(set_to_none=True)
        if loss.requires_grad:
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
            optimizer.step()
        total += float(loss.detach())
    model.eval()
    return total / len(batches)


def make_order(lengths: Sequence[int], batch_size: int, dice: random.Random) -> Iterator[list[int]]:
    """The documents in random batches of about equal length: sorted within random pools of sixteen batches."""
    numbers = list(range(len(lengths)))
    dice.shuffle(numbers)
    batches = []
    for i in range(0, len(numbers), 16 * batch_size):
        pool = sorted(numbers[i : i + 16 * batch_size], key=lambda n: lengths[n])
        batches += [pool[j : j + batch_size] for j in range(0, len(pool), batch_size)]
    dice.shuffle(batches)
    yield from batches


def hidden(one: Lesson, chance: float, dice: random.Random) -> Lesson:
    """The lesson, by chance without its text or without its frames where it has both."""
    drawn = dice.random()
    if not (one.inputs.words and one.inputs.frames) or drawn >= chance:
        return one
    if drawn < chance / 2:
        return Lesson(one.inputs.without_text(), one.gold.without_text())
    return Lesson(one.inputs.without_frames(), one.gold.without_frames())


def set_rates(optimizer: torch.optim.Optimizer, config: Config, done: float, step: float) -> None:
    """The linear schedule: up during `warmup`, then down to 0. `done` is the share of training behind this `step`."""
    rising = min(1.0, (done + step) / config.warmup) if config.warmup else 1.0
    factor = rising * (1 - max(0.0, done - config.warmup) / (1 - config.warmup + step))
    for group in optimizer.param_groups:
        group.setdefault("full_lr", group["lr"])
        group["lr"] = factor * group["full_lr"]


@contextmanager
def memory_advice() -> Iterator[None]:
    """Turns exhausted memory into a line that names the options that help."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise UserError(
                "memory ran out: try --batch-size 1, a smaller --frame-chunk, --checkpointing true, "
                "or --freeze text,vision"
            ) from error
        raise


def is_out_of_memory(error: Exception) -> bool:
    """Whether torch or Python could not get memory."""
    told = str(error)
    return (
        isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in told or "out of memory" in told
    )
