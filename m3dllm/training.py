"""The training loop of all systems: AdamW, a linear schedule, and the best epoch on dev.

A `Learner` defines the items and their losses; `Training` does the rest. A step has `batch_size` items, however they
are distributed among processes. The state is saved after every epoch, and every `save_every` steps if set; all random
numbers depend on seed, epoch and step, so that a resumed training gives the same result.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from itertools import repeat
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from m3dllm.devices import thread_pool
from m3dllm.errors import UserError
from m3dllm.files import sha256_file
from m3dllm.labels import LabelSet
from m3dllm.normalize import normalize
from m3dllm.processes import is_shared, processes_here
from m3dllm.progress import progress as reported
from m3dllm.rng import seeded
from m3dllm.score import Scores, Settings, score
from m3dllm.types import TASKS, Document, Example, RawOutput, Task
from m3dllm.weights import fill, optimizer_state, part_of, read_weights, restore_optimizer, write_weights
from m3dllm.wire import encode_example, encode_labels, read_json

log = logging.getLogger("m3dllm")

Item = TypeVar("Item")

TRAINING, BEST = "training.safetensors", "best.safetensors"
AGAIN = f"delete it and any '{TRAINING}' and '{BEST}' beside it, and fit again"
POOL = 16
"""Items are sorted by length within random pools of this many steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The options of the loop."""

    epochs: int
    """The maximum number of epochs."""
    batch_size: int
    """The number of items per step."""
    micro_batch: int = 0
    """The number of items that go through the model at once; 0: all of a step. Fewer if processes share the step."""
    whole_steps: str = ""
    """What compares the items of a step, which must then go through the model at once; "": nothing."""
    threads: int = 0
    """The threads that compute micro-batches of a step in parallel, each on one core, with its own random numbers and
    gradients added in order: their number changes no result. 0: sequentially, with torch's threads."""
    warmup: float = 0.0
    """The share of steps with linear warm-up; the learning rates then decay linearly to 0."""
    clip: float = 1.0
    """The maximum gradient norm."""
    ema_decay: float = 0.0
    """The decay of the moving average of the weights, which is evaluated on dev and saved; 0: no average."""
    seed: int = 0
    group_by_length: bool = True
    """Whether the items of a step have similar length."""
    longest_first: bool = False
    """Whether a step begins with its longest item."""
    patience: int = 0
    """Stop after this many epochs without a better dev score; 0: never."""
    save_every: int = 0
    """Steps between saved states within an epoch, each step then with its own random numbers; 0: only whole epochs."""


DIVERGED = "training diverged: the loss or its gradient is not finite: use a smaller --lr or a longer --warmup"


class Learner(ABC, Generic[Item]):
    """The interface of models to `Training`. Methods with a default may be overridden."""

    model: nn.Module
    labels: LabelSet
    schedule: Schedule
    fingerprint: str
    """A hash of everything that the result depends on, see `fingerprint_of`."""
    tasks: Sequence[Task] = TASKS
    """The tasks of the model, the only ones scored on dev."""
    loss_weights: Mapping[str, float] = {}
    """The weight of each loss in the sum; default 1."""
    speed: ClassVar[str | None] = None
    """The name, in the history of epochs, for the total length of items per second; None: not recorded."""

    @abstractmethod
    def items(self, train: Sequence[Example]) -> list[Item]:
        """The training items: small values, whose data may be made when needed."""

    @abstractmethod
    def losses(self, items: Sequence[Item]) -> dict[str, Tensor]:
        """The losses of some items by name, each a sum over the number in `counts`."""

    @abstractmethod
    def predict(self, documents: Iterable[Document]) -> Iterator[RawOutput]:
        """The answers of the current model, in eval mode, for scoring dev."""

    @abstractmethod
    def parameter_groups(self) -> list[dict[str, Any]]:
        """The parameter groups of AdamW, each with its learning rate."""

    def length(self, item: Item) -> int:
        """The length of an item, for batches of similar length."""
        return 1

    def counts(self, items: Sequence[Item]) -> Mapping[str, int]:
        """The number of terms of each loss, by name, default 1: the loop divides by that of a whole step."""
        return {}

    def count(self, items: Sequence[Item]) -> int:
        """The weight of a step in the mean loss of its epoch."""
        return 1

    def vary(self, item: Item, rng: random.Random) -> Item:
        """The item for this epoch, for example with a hidden modality."""
        return item

    def weights(self) -> dict[str, Tensor]:
        """The trained weights by name, for the saved state."""
        return {name: value for name, value in self.model.named_parameters() if value.requires_grad}


# --- state ------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Progress:
    """The progress of a training: `epoch` epochs are done, and `step` steps of the next one."""

    fingerprint: str
    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    """The weighted sum of this epoch's step losses so far, and the sum of weights."""
    learned: int = 0
    best: float = -1.0
    best_epoch: int = 0
    epochs: list[dict[str, float]] = field(default_factory=list)
    """Loss and dev scores of each epoch."""

    @property
    def is_best(self) -> bool:
        """Whether this is the end of the best epoch."""
        return 0 < self.best_epoch == self.epoch and self.step == 0

    @property
    def waiting(self) -> int:
        """Epochs since the best one."""
        return self.epoch - self.best_epoch


class MovingAverage:
    """The exponential moving average (EMA) of weights over the steps, with a lower decay in the first steps."""

    def __init__(self, weights: Mapping[str, Tensor], decay: float) -> None:
        self.decay, self.weights = decay, weights
        self.values = {name: value.detach().clone() for name, value in weights.items()} if decay else {}

    def add(self, step: int) -> None:
        """Add the weights after step `step`, counted from 0."""
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        for name, value in self.values.items():
            if value.is_floating_point():
                value.lerp_(self.weights[name].detach(), share)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Replace the weights by their average within the block."""
        before = {name: self.weights[name].detach().clone() for name in self.values}
        self._copy(self.values)
        try:
            yield
        finally:
            self._copy(before)

    @torch.no_grad()
    def _copy(self, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            self.weights[name].copy_(value)


def save_progress(
    folder: Path,
    progress: Progress,
    weights: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    average: Mapping[str, Tensor] | None = None,
) -> None:
    """Write the state atomically."""
    parts = {"model": weights, "optimizer": optimizer_state(optimizer), "average": average or {}}
    tensors = {f"{part}.{name}": value for part, values in parts.items() for name, value in values.items()}
    write_weights(folder / TRAINING, tensors, {"progress": json.dumps(asdict(progress))})


def load_progress(
    folder: Path,
    fingerprint: str,
    weights: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    average: Mapping[str, Tensor] | None = None,
) -> Progress | None:
    """Load the state of `save_progress` into weights and optimizer; None if there is none.

    Raises UserError if it is damaged, of another fit, or of an older version.
    """
    path = folder / TRAINING
    if not path.exists():
        return None
    header, tensors = read_weights(path, remedy=AGAIN)
    try:
        saved: dict[str, Any] = dict(read_json(header.get("progress", "{}")))
    except (ValueError, TypeError) as error:
        raise UserError.at(path, f"is damaged ({error}): {AGAIN}") from error
    if saved.keys() != asdict(Progress("")).keys():
        raise UserError.at(path, f"was written by another version of this package: {AGAIN}")
    if saved["fingerprint"] != fingerprint:
        other = "options or documents, or of another model: delete it, or choose another --out"
        raise UserError.at(path, f"belongs to a fit with other {other}")
    fill(weights, part_of(tensors, "model"), path, remedy=AGAIN)
    fill(average or {}, part_of(tensors, "average"), path, remedy=AGAIN)
    restore_optimizer(optimizer, part_of(tensors, "optimizer"))
    return Progress(**saved)


def take_best(folder: Path, weights: Mapping[str, Tensor]) -> None:
    """Load the weights of the best epoch into the model. Raises UserError if they are missing or damaged."""
    path = folder / BEST
    if not path.is_file():
        raise UserError.at(path, f"is missing: delete '{TRAINING}' beside it, and fit again")
    fill(weights, read_weights(path, remedy=AGAIN)[1], path, remedy=AGAIN)


# --- the loop ---------------------------------------------------------------------------------------------------------


def _nothing() -> None:
    """The default report after a step."""


class Training(Generic[Item]):
    """One training, new or resumed."""

    def __init__(
        self,
        learner: Learner[Item],
        train: Sequence[Example],
        dev: Sequence[Example],
        out: Path,
    ) -> None:
        """Raises UserError if several processes were started for it, but cannot share its steps."""
        self.learner, self.dev, self.out = learner, list(dev), out
        self.schedule = learner.schedule
        if self.schedule.whole_steps and is_shared():
            raise UserError(f"{self.schedule.whole_steps}: compares the documents of a step: fit it in one process")
        self.processes = processes_here()
        self.items = learner.items(train)
        self.lengths = [learner.length(item) for item in self.items]
        self.optimizer = torch.optim.AdamW(learner.parameter_groups())
        self.weights = list(learner.weights().values())
        self.average = MovingAverage(learner.weights(), self.schedule.ema_decay)
        self.pool = thread_pool(self.schedule.threads) if self.schedule.threads else None
        self.draw = ""
        """The seed text of a step's random numbers."""

    def fit(self) -> Progress:
        """Train to the end; the model then has the weights of the best epoch. `finish` removes the saved state.

        Raises UserError if the saved state is damaged or of another fit, or the disk is full.
        """
        learner = self.learner
        progress = load_progress(self.out, learner.fingerprint, learner.weights(), self.optimizer, self.average.values)
        if progress is None:
            progress = Progress(learner.fingerprint)
        self.processes.wait()  # until all have read it
        if progress.epoch or progress.step:
            log.info("resuming after epoch %d and step %d", progress.epoch, progress.step)
            if progress.is_best:  # interrupted between the state and the best weights
                self._save_best()
        epochs, of_epoch = self.schedule.epochs, math.ceil(len(self.items) / self.schedule.batch_size)
        steps = (epochs - progress.epoch) * of_epoch - progress.step
        with reported(f"training, {epochs} epochs", steps) if self.is_main else nullcontext(_nothing) as report:
            while progress.epoch < epochs and not self.is_over(progress):
                self.epoch(progress, report)
        if self.is_main:
            take_best(self.out, learner.weights())
        learner.model.eval()
        return progress

    def finish(self) -> None:
        """Remove the saved state: the result is on disk."""
        if self.pool is not None:
            self.pool.shutdown()
        if self.is_main:
            (self.out / TRAINING).unlink(missing_ok=True)
            (self.out / BEST).unlink(missing_ok=True)
        self.processes.wait()

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes."""
        return self.processes.index == 0

    def is_over(self, progress: Progress) -> bool:
        """Whether to stop early: dev no longer improves."""
        over = bool(self.dev) and 0 < self.schedule.patience <= progress.waiting
        if over:
            log.info("no better dev score since epoch %d: stopping", progress.best_epoch)
        return over

    def epoch(self, progress: Progress, report: Callable[[], None] = _nothing) -> None:
        """Train on every item once, score dev, save the state. `report` is called after each step."""
        learner, schedule = self.learner, self.schedule
        rng = random.Random(f"{schedule.seed}:{progress.epoch}")
        steps = batches(self.lengths, schedule, rng)
        if not schedule.save_every:
            torch.manual_seed(schedule.seed * 1_000_003 + progress.epoch + 1 + (self.processes.index << 40))
        learner.model.train()
        begun, size = time.monotonic(), 0
        for k in range(progress.step, len(steps)):
            self.set_rates((progress.epoch * len(steps) + k) / (schedule.epochs * len(steps)), len(steps))
            if schedule.save_every:
                torch.manual_seed(_number(f"{schedule.seed}:{progress.epoch}:{k}:{self.processes.index}"))
                rng = random.Random(f"{schedule.seed}:{progress.epoch}:{k}")
            self.draw = f"{schedule.seed}:{progress.epoch}:{k}"
            items = [learner.vary(self.items[i], rng) for i in steps[k]]
            progress.loss += self.step(items) * learner.count(items)
            self.average.add(progress.epoch * len(steps) + k)
            progress.learned += learner.count(items)
            size += sum(self.lengths[i] for i in steps[k])
            progress.step = k + 1
            report()
            if schedule.save_every and progress.step % schedule.save_every == 0 and progress.step < len(steps):
                self._save(progress)
        seconds = time.monotonic() - begun
        learner.model.eval()
        with self.average.in_place():
            scores = self.dev_scores()
        loss = progress.loss / max(1, progress.learned)
        speed = {} if learner.speed is None else {learner.speed: round(size / max(seconds, 1e-9), 1)}
        progress.epochs.append({"loss": loss, **speed, **scores})
        progress.epoch, progress.step, progress.loss, progress.learned = progress.epoch + 1, 0, 0.0, 0
        average = scores.get("average", float(progress.epoch))
        if average > progress.best:
            progress.best, progress.best_epoch = average, progress.epoch
        self._save(progress)
        if progress.is_best:
            self._save_best()
        whole = time.monotonic() - begun
        found = " ".join(f"{name} {value:.4g}" for name, value in progress.epochs[-1].items())
        log.info("epoch %d of %d: %s (%.1f s)", progress.epoch, schedule.epochs, found, whole)

    def step(self, items: Sequence[Item]) -> float:
        """Train on some items; returns their loss, over all processes."""
        index, count = self.processes.index, self.processes.count
        size, counts = self.schedule.micro_batch or len(items), self.learner.counts(items)
        if count > 1:
            size = min(size, -(-self.schedule.batch_size // count))
        parts = share_of(items, size, process=index, processes=count)
        weights = self.weights
        self.optimizer.zero_grad(set_to_none=True)
        loss = torch.zeros((), device=weights[0].device)
        if self.pool is None:
            for part in parts:
                one = self._loss(part, counts)
                if one.requires_grad:
                    one.backward()
                loss += one.detach()
        else:
            done = list(self.pool.map(self._gradients, range(index, len(items), count), parts, repeat(counts)))
            loss += sum(one for one, _ in done)
            for weight, *gradients in zip(weights, *(gradients for _, gradients in done), strict=True):
                weight.grad = sum_of([one for one in gradients if one is not None], weight)
        self._add_gradients(weights)
        norm = torch.zeros(())
        if any(weight.grad is not None for weight in weights):
            norm = torch.nn.utils.clip_grad_norm_(weights, self.schedule.clip)
            self.optimizer.step()
        found = float(self.processes.sum(loss))
        if not (math.isfinite(found) and math.isfinite(norm)):
            raise UserError(DIVERGED)
        return found

    def _loss(self, part: Sequence[Item], counts: Mapping[str, int]) -> Tensor:
        """The contribution of a part to the loss of a step with these `counts`."""
        return weighted_sum(self.learner.losses(part), self.learner.loss_weights, counts)

    def _gradients(self, number: int, part: Sequence[Item], counts: Mapping[str, int]) -> tuple[Tensor, Any]:
        """(the contribution of part `number` to the step's loss, its gradients), in a thread of the pool."""
        with seeded(_number(f"{self.draw}:0:{number}")):
            loss = self._loss(part, counts)
        if not loss.requires_grad:
            return loss, [None] * len(self.weights)
        return loss.detach(), torch.autograd.grad(loss, self.weights, allow_unused=True)

    def set_rates(self, done: float, steps: int) -> None:
        """Set the learning rates: linear warm-up, then linear decay to 0; `done`: the finished share of training."""
        one, warmup = 1 / (self.schedule.epochs * steps), self.schedule.warmup
        rising = min(1.0, (done + one) / warmup) if warmup else 1.0
        factor = rising * (1 - max(0.0, done - warmup) / (1 - warmup + one))
        for group in self.optimizer.param_groups:
            group.setdefault("full_lr", group["lr"])
            group["lr"] = factor * group["full_lr"]

    def dev_scores(self) -> dict[str, float]:
        """F1 of each task and their average; each process predicts its share of the documents."""
        if not self.dev:
            return {}
        mine = self.dev[self.processes.index :: self.processes.count]
        answers = self.processes.gather(list(self.learner.predict(example.document for example in mine)))
        return f1_scores(self.dev, answers, self.learner.labels, self.learner.tasks)

    def _add_gradients(self, weights: Sequence[Tensor]) -> None:
        """Sum the gradients over all processes. A weight without a gradient in any keeps none."""
        if self.processes.count == 1:
            return
        there = torch.tensor([float(w.grad is not None) for w in weights], device=weights[0].device)
        flat = torch.cat([(w.grad if w.grad is not None else torch.zeros_like(w)).flatten() for w in weights])
        there, flat = self.processes.sum(there), self.processes.sum(flat)
        for weight, part, somewhere in zip(weights, flat.split([w.numel() for w in weights]), there, strict=True):
            weight.grad = sum_of([part.view_as(weight)] if somewhere else [], weight)

    def _save(self, progress: Progress) -> None:
        if self.is_main:
            save_progress(self.out, progress, self.learner.weights(), self.optimizer, self.average.values)

    def _save_best(self) -> None:
        if self.is_main:
            write_weights(self.out / BEST, self.average.values or self.learner.weights())


def weighted_sum(losses: Mapping[str, Tensor], weights: Mapping[str, float], counts: Mapping[str, int]) -> Tensor:
    """The sum of the losses, each divided by its count and multiplied by its weight, default 1."""
    terms = (weights.get(name, 1.0) / max(1, counts.get(name, 1)) * loss for name, loss in losses.items())
    return sum(terms, start=torch.zeros(()))


def sum_of(gradients: Sequence[Tensor], weight: Tensor) -> Tensor | None:
    """Their sum, with the memory layout of the weight, as the fused AdamW requires. None if there are none.

    It shares memory with none of them: two weights that are added may have the same gradient tensor.
    """
    if not gradients:
        return None
    total = torch.empty_like(weight)
    if len(gradients) == 1:
        return total.copy_(gradients[0])
    torch.add(gradients[0], gradients[1], out=total)
    for gradient in gradients[2:]:
        total.add_(gradient)
    return total


def batches(lengths: Sequence[int], schedule: Schedule, rng: random.Random) -> list[list[int]]:
    """The steps of an epoch: the indices of the items of each, in random order.

    With `group_by_length` the items of a step have similar length: they are sorted within random pools.
    """
    numbers = list(range(len(lengths)))
    rng.shuffle(numbers)
    size = schedule.batch_size
    if not schedule.group_by_length:
        return [numbers[i : i + size] for i in range(0, len(numbers), size)]
    sign = -1 if schedule.longest_first else 1
    steps = []
    for i in range(0, len(numbers), POOL * size):
        pool = sorted(numbers[i : i + POOL * size], key=lambda n: sign * lengths[n])
        steps += [pool[j : j + size] for j in range(0, len(pool), size)]
    rng.shuffle(steps)
    return steps


def share_of(step: Sequence[Item], size: int, *, process: int, processes: int) -> list[list[Item]]:
    """The part of a step for one of several processes, in micro-batches of `size` items."""
    parts = [list(step[i : i + size]) for i in range(0, len(step), size)]
    return parts[process::processes]


def _number(text: str) -> int:
    """A seed from a text."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:15], 16)


# --- dev --------------------------------------------------------------------------------------------------------------


def f1_scores(
    examples: Sequence[Example], answers: Iterable[RawOutput], labels: LabelSet, tasks: Sequence[Task] = TASKS
) -> dict[str, float]:
    """F1 of each task and their average by the shared scorer, averaged over the languages of `examples`."""
    raws = {raw.document: raw for raw in answers}
    predictions = [normalize(e.document, raws[e.document.id], labels) for e in examples]
    return averages(score(examples, predictions, labels=labels, settings=Settings(tasks=tuple(tasks))))


def averages(scores: Scores) -> dict[str, float]:
    """End-to-end F1 of each task and the average of them, averaged over the languages."""
    rows: dict[str, list[float]] = {}
    for language in scores.languages.values():
        tasks = language.end_to_end.tasks
        found = {name: tasks[name].f1 for name in TASKS if name in tasks}
        for name, value in (found | {"average": language.end_to_end.average_f1}).items():
            if value is not None:
                rows.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in rows.items()}


# --- fingerprints -----------------------------------------------------------------------------------------------------


def fingerprint_of(
    options: Mapping[str, Any], labels: LabelSet, train: Sequence[Example], dev: Sequence[Example], *more: str
) -> str:
    """A hash of options, label set, documents with their gold, and further hashes.

    Raises UserError if a frame cannot be read.
    """
    digest = hashlib.sha256(repr(sorted(options.items())).encode() + encode_labels(labels).encode())
    digest.update("".join(more).encode())
    for part in (train, dev):
        digest.update(documents_sha256(part).encode())
    return digest.hexdigest()


def documents_sha256(examples: Sequence[Example]) -> str:
    """The hash of documents with their gold, in order; frames count by content, not by path.

    Raises UserError if a frame cannot be read.
    """
    digest = hashlib.sha256()
    for example in examples:
        frames = tuple(replace(f, path="", sha256=sha256_file(Path(f.path))) for f in example.document.frames)
        digest.update(encode_example(replace(example, document=replace(example.document, frames=frames))))
    return digest.hexdigest()
