"""Learning: AdamW over the answers of train, the epoch that does best on dev, on as many devices as accelerate has.

A step learns from `step_size` answers, whichever process computes which of them, and its loss is the mean over their
tokens: several processes walk the curve of one. State is on disk after every epoch and every `save_every` steps, and
all that is random is drawn from the seed, the epoch and the step: a fit that was killed ends at the same numbers.
"""

from __future__ import annotations

import hashlib
import logging
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from m3dllm.errors import UserError
from m3dllm.files import sha256_file
from m3dllm.labels import LabelSet
from m3dllm.normalize import normalize
from m3dllm.score import score
from m3dllm.systems.videollm.adapters.card import CARD, base_sha256, prompts_sha256
from m3dllm.systems.videollm.adapters.lora import adapt, can_hold_four_bits, effect_on, unfreeze
from m3dllm.systems.videollm.adapters.probe import prove
from m3dllm.systems.videollm.config import Config, at_least
from m3dllm.systems.videollm.engines.local import LocalModel
from m3dllm.systems.videollm.engines.transformers import TransformersEngine, find_device, load_model
from m3dllm.systems.videollm.system import VideoLLM
from m3dllm.systems.videollm.tuning.conversations import TAUGHT, averages
from m3dllm.systems.videollm.tuning.course import Course, share_of, steps_of
from m3dllm.systems.videollm.tuning.encoding import collate, loss_sum
from m3dllm.systems.videollm.tuning.progress import (
    BEST,
    TRAINING,
    Progress,
    keep_best,
    load_progress,
    save_progress,
    take_best,
    weights_of,
)
from m3dllm.systems.videollm.tuning.saving import check_name, keep_as, save_fit
from m3dllm.types import Example
from m3dllm.wire import encode_example, encode_labels

log = logging.getLogger("m3dllm")


def fit(config: Config, labels: LabelSet, train: Sequence[Example], dev: Sequence[Example], out: Path) -> None:
    """Learn from `train`, choose the epoch by `dev` (the last one where it is empty), write the result into `out`.

    Raises UserError for options that cannot be, documents that cannot be learned from, exhausted memory, a full disk,
    and a result without effect.
    """
    check(config, train, out)
    if (out / CARD).is_file() and not (out / TRAINING).exists():  # killed right after
        keep_as(config, out)
        return
    with _memory_advice():
        Trainer(config, labels, train, dev, out).fit()


class Trainer:
    """One fit."""

    def __init__(
        self, config: Config, labels: LabelSet, train: Sequence[Example], dev: Sequence[Example], out: Path
    ) -> None:
        asked = find_device(config.device)
        self.accelerator = Accelerator(cpu=asked.type == "cpu")
        self.device = asked if self.accelerator.num_processes == 1 else self.accelerator.device
        self.config = replace(config, device=str(self.device))
        self.labels, self.out = labels, out
        self.dev = _some(dev, config)
        self.local = LocalModel(config)
        self.model, self.tuned = self._load()
        self.engine = TransformersEngine(self.config, local=self.local, model=self.model)
        self.system = VideoLLM(self.config, labels=labels, examples=train, engine=self.engine)
        freely = replace(self.config, unconstrained=True, schema_only=False)
        asking = VideoLLM(freely, labels=labels, examples=train, engine=self.engine)
        self.course = Course(asking, self.engine, train)
        self.fingerprint = self._fingerprint(train)
        self.optimizer = torch.optim.AdamW(
            list(weights_of(self.model).values()), lr=learning_rate(config), weight_decay=config.weight_decay
        )

    @property
    def main(self) -> bool:
        """Whether this is the process that writes."""
        return bool(self.accelerator.is_main_process)

    @property
    def mixed(self) -> bool:
        """Whether matrices are multiplied in bf16."""
        return bool(self.device.type == "cuda" and torch.cuda.is_bf16_supported())

    def fit(self) -> None:
        progress = load_progress(self.out, self.fingerprint, self.model, self.optimizer)
        if progress is None:
            progress = Progress(self.fingerprint)
            self._announce()
        else:
            log.info("going on after epoch %d and step %d", progress.epoch, progress.step)
            if progress.is_best and self.main:
                keep_best(self.out, self.model)
        while progress.epoch < self.config.epochs and not self._is_over(progress):
            self._epoch(progress)
        if self.main:
            take_best(self.out, self.model)
            self.model.eval()
            effect = self._effect()
            save_fit(self, progress, effect)
            (self.out / TRAINING).unlink(missing_ok=True)
            (self.out / BEST).unlink()
        self.accelerator.wait_for_everyone()

    def _is_over(self, progress: Progress) -> bool:
        over = bool(self.dev) and 0 < self.config.patience <= progress.waiting
        if over:
            log.info("no better dev score since epoch %d: enough", progress.best_epoch)
        return over

    # --- an epoch -----------------------------------------------------------------------------------------------------

    def _epoch(self, progress: Progress) -> None:
        started, tokens = time.perf_counter(), 0
        steps = steps_of([entry.tokens for entry in self.course.entries], self.config, progress.epoch)
        self.model.train()
        for k in range(progress.step, len(steps)):
            self._set_rate((progress.epoch * len(steps) + k) / (self.config.epochs * len(steps)), len(steps))
            progress.loss += self._step(steps[k], progress.epoch, k)
            progress.learned += sum(self.course.entries[i].learned for i in steps[k])
            tokens += sum(self.course.entries[i].tokens for i in steps[k])
            progress.step = k + 1
            if progress.step % self.config.save_every == 0 and progress.step < len(steps) and self.main:
                save_progress(self.out, progress, self.model, self.optimizer)
        seconds = time.perf_counter() - started
        self.model.eval()
        scores = self.dev_scores()
        loss = progress.loss / max(1, progress.learned)
        progress.epochs.append({"loss": loss, "tokens_per_s": round(tokens / max(seconds, 1e-9), 1), **scores})
        progress.epoch, progress.step, progress.loss, progress.learned = progress.epoch + 1, 0, 0.0, 0
        average = scores.get("average", float(progress.epoch))
        if average > progress.best:
            progress.best, progress.best_epoch = average, progress.epoch
        if self.main:
            save_progress(self.out, progress, self.model, self.optimizer)
            if progress.is_best:
                keep_best(self.out, self.model)
        told = " ".join(f"{name} {value:.3f}" for name, value in scores.items())
        speed = progress.epochs[-1]["tokens_per_s"]
        log.info(
            "epoch %d of %d: loss %.4f, dev: %s (%.0f tokens/s)", progress.epoch, self.config.epochs, loss, told, speed
        )

    def _step(self, step: Sequence[int], epoch: int, k: int) -> float:
        """Learn from the lessons `step`; the sum of the losses of their tokens."""
        torch.manual_seed(
            int(hashlib.sha256(f"{self.config.seed}:{epoch}:{k}:{self._process}".encode()).hexdigest()[:15], 16)
        )
        total = sum(self.course.entries[i].learned for i in step)
        said = torch.zeros((), device=self.device)
        self.optimizer.zero_grad(set_to_none=True)
        for part in share_of(step, self.config.micro_batch, process=self._process, processes=self._processes):
            batch, targets = collate([self.course[i] for i in part], padding=self._padding)
            batch = {name: value.to(self.device) for name, value in batch.items()}
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed):
                loss = loss_sum(self.model, batch, targets.to(self.device))
            (loss / total).backward()
            said += loss.detach()
        weights = list(weights_of(self.model).values())
        self._add_up(weights)
        torch.nn.utils.clip_grad_norm_(weights, self.config.clip)
        self.optimizer.step()
        return float(self.accelerator.reduce(said, "sum"))

    def _add_up(self, weights: Sequence[Tensor]) -> None:
        """The gradients of all processes together. A process without lessons adds nothing."""
        if self._processes == 1:
            return
        flat = torch.cat([(w.grad if w.grad is not None else torch.zeros_like(w)).flatten() for w in weights])
        flat = self.accelerator.reduce(flat, "sum")
        for weight, part in zip(weights, flat.split([w.numel() for w in weights]), strict=True):
            weight.grad = part.view_as(weight)

    def _set_rate(self, done: float, steps: int) -> None:
        """Linearly up during `warmup`, then down to 0; `done` is the share of training behind this step."""
        one, warmup = 1 / (self.config.epochs * steps), self.config.warmup
        rising = min(1.0, (done + one) / warmup) if warmup else 1.0
        factor = rising * (1 - max(0.0, done - warmup) / (1 - warmup + one))
        for group in self.optimizer.param_groups:
            group["lr"] = factor * learning_rate(self.config)

    @property
    def _process(self) -> int:
        return int(self.accelerator.process_index)

    @property
    def _processes(self) -> int:
        return int(self.accelerator.num_processes)

    @property
    def _padding(self) -> int:
        found = self.local.tokenizer.pad_token_id
        return int(found if found is not None else self.local.stops[0])

    # --- dev ----------------------------------------------------------------------------------------------------------

    def dev_scores(self) -> dict[str, float]:
        """F1 of each task and their average by the shared scorer; each process answers its share of the documents."""
        if not self.dev:
            return {}
        mine = self.dev[self._process :: self._processes]
        answers = list(self.system.predict(example.document for example in mine))
        raws = {raw.document: raw for raw in gather_object(answers)}
        self.system.take_prompts()
        predictions = [normalize(e.document, raws[e.document.id], self.labels) for e in self.dev]
        return averages(score(self.dev, predictions, labels=self.labels))

    # --- before and after ---------------------------------------------------------------------------------------------

    def _load(self) -> tuple[Any, Any]:
        """(the model, what peft makes around it or None), ready to learn."""
        config = self.config
        torch.manual_seed(config.seed)
        more: dict[str, Any] = {}
        if self.four_bit:
            from transformers import BitsAndBytesConfig

            numbers = torch.bfloat16 if self.mixed else torch.float32
            more["quantization_config"] = BitsAndBytesConfig(
                load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=numbers
            )
            more["device_map"] = {"": self.device}
        model = load_model(self.local, self.dtype, self.device, **more)
        tuned = None
        if config.tune == "lora":
            tuned = adapt(model, config)
        else:
            unfreeze(model, config)
        if config.checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        return model, tuned

    @property
    def dtype(self) -> str:
        """What the model is held in: bf16 where the device has it and only an adapter learns; else float32."""
        if self.config.dtype != "auto":
            return self.config.dtype
        return "bfloat16" if self.mixed and self.config.tune == "lora" else "float32"

    @property
    def four_bit(self) -> bool:
        """Whether the base weights are held in 4 bits. Raises UserError where they must and cannot be."""
        able = can_hold_four_bits(self.device)
        if self.config.four_bit == "yes" and not able:
            raise UserError(
                "--four-bit yes: this needs a GPU and bitsandbytes: pip install bitsandbytes, or leave it out"
            )
        return self.config.four_bit != "no" and able and self.config.tune == "lora"

    def _effect(self) -> float:
        """By how much the adapter changes log-probabilities. Raises UserError where it changes none."""
        if self.tuned is None:
            return 0.0
        effect = effect_on(self.tuned, self.local, self.device)
        prove(self.config.save_as or "adapter", effect)
        return effect

    def _fingerprint(self, train: Sequence[Example]) -> str:
        """A hash of everything that a fit depends on."""
        incidental = set(Config.incidental)
        options = {name: value for name, value in asdict(self.config).items() if name not in incidental}
        digest = hashlib.sha256(repr(sorted(options.items())).encode() + encode_labels(self.labels).encode())
        digest.update((base_sha256(self.local) + prompts_sha256(self.system.prompts, self.config.strategy)).encode())
        for part in (train, self.dev):
            digest.update(documents_sha256(part).encode())
        return digest.hexdigest()

    def _announce(self) -> None:
        if not self.main:
            return
        learning = sum(weight.numel() for weight in weights_of(self.model).values())
        total = sum(weight.numel() for weight in self.model.parameters())
        rows, tokens = len(self.course.entries), self.course.tokens
        log.info(
            "%s: %d of %d weights learn from %d answers (%d tokens)", self.config.tune, learning, total, rows, tokens
        )
        said = " ".join(f"{name} {value:.3f}" for name, value in self.course.ceiling.items())
        log.info("the right answers themselves score %s against the gold of train", said)


def check(config: Config, train: Sequence[Example], out: Path) -> None:
    """Raises UserError for options that cannot be, before a model is loaded; `out` is where the fit is kept."""
    if not train:
        raise UserError("there is no train document: name a split by --train")
    if config.engine != "transformers":
        raise UserError(
            f"--engine {config.engine} does not learn: leave it out to fit; the adapter works in every engine"
        )
    if config.adapter:
        raise UserError(
            "--adapter: a fit makes a new adapter; leave it out, or merge it first ('m3dllm adapters merge')"
        )
    if config.strategy not in TAUGHT:
        raise UserError(
            f"--strategy {config.strategy}: its questions have no right answers to learn; expected joint or staged"
        )
    check_name(config, out)
    at_least(
        config, rank=1, alpha=1, epochs=1, step_size=1, micro_batch=1, save_every=1, box_step=1, patience=0, dev_limit=0
    )
    if learning_rate(config) <= 0 or config.clip <= 0 or config.weight_decay < 0:
        raise UserError("--lr and --clip must be above 0, and --weight-decay 0 or more")
    if not (0 <= config.dropout < 1 and 0 <= config.warmup < 1):
        raise UserError("--dropout and --warmup must be 0 or more, and below 1")


def learning_rate(config: Config) -> float:
    return config.lr if config.lr is not None else (2e-4 if config.tune == "lora" else 2e-5)


def documents_sha256(examples: Sequence[Example]) -> str:
    """The hash of documents with their gold, in order; frames count by their bytes and not by where they lie.

    Raises UserError where a frame cannot be read.
    """
    digest = hashlib.sha256()
    for example in examples:
        frames = tuple(replace(f, path="", sha256=sha256_file(Path(f.path))) for f in example.document.frames)
        digest.update(encode_example(replace(example, document=replace(example.document, frames=frames))))
    return digest.hexdigest()


def _some(dev: Sequence[Example], config: Config) -> list[Example]:
    """The dev documents to choose by: all, or some drawn by the seed, in the order of the split."""
    if not config.dev_limit or config.dev_limit >= len(dev):
        return list(dev)
    drawn = random.Random(config.seed).sample(range(len(dev)), config.dev_limit)
    return [dev[i] for i in sorted(drawn)]


@contextmanager
def _memory_advice() -> Iterator[None]:
    """Turns exhausted memory into a line that names the options that help."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        told = str(error)
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in told:
            help_ = "try --micro-batch 1, --checkpointing true, fewer --frames or a smaller --longest-side"
            raise UserError(f"memory ran out: {help_}; the same command goes on from the last saved step") from error
        raise
