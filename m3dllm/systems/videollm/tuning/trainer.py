"""LoRA and full fine-tuning of a video LLM: the gold answers of train as items of `training.Training`.

The loss of a step is the mean over the tokens of its answers, so that several processes give the same curve as one.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from m3dllm.config import INCIDENTAL, named
from m3dllm.devices import find_device, memory_advice
from m3dllm.errors import UserError
from m3dllm.labels import LabelSet
from m3dllm.system import versions_of
from m3dllm.systems.videollm.adapters.card import CARD, Base, Card, Data, Prompting, Shape
from m3dllm.systems.videollm.adapters.lora import adapt, can_hold_four_bits, effect_on, unfreeze
from m3dllm.systems.videollm.adapters.probe import prove
from m3dllm.systems.videollm.builder import PromptBuilder
from m3dllm.systems.videollm.config import Config
from m3dllm.systems.videollm.dialogue import Dialogue, prompts_of
from m3dllm.systems.videollm.engines import find_engine
from m3dllm.systems.videollm.engines.local.loading import load_model
from m3dllm.systems.videollm.engines.local.model import LocalModel
from m3dllm.systems.videollm.engines.transformers import TransformersEngine
from m3dllm.systems.videollm.fewshot import FewShotSelector
from m3dllm.systems.videollm.strategies import find_strategy, strategy_names
from m3dllm.systems.videollm.tuning.dataset import Entry, SFTDataset
from m3dllm.systems.videollm.tuning.encoding import collate, loss_sum
from m3dllm.systems.videollm.tuning.saving import check_name, keep_as, save_fit
from m3dllm.training import (
    TRAINING,
    Learner,
    Progress,
    Schedule,
    Training,
    documents_sha256,
    fingerprint_of,
)
from m3dllm.types import Document, Example, RawOutput
from m3dllm.wire import labels_sha256

log = logging.getLogger("m3dllm")


def fit(config: Config, labels: LabelSet, train: Sequence[Example], dev: Sequence[Example], out: Path) -> None:
    """Train on `train`, select the epoch on `dev` (the last one if it is empty), write the result into `out`.

    Raises UserError for impossible options, documents that cannot be trained on, exhausted memory, a full disk,
    and a result without effect.
    """
    check(config, train, out)
    if (out / CARD).is_file() and not (out / TRAINING).exists():  # killed before cleaning up
        keep_as(config, out)
        return
    options = "try --micro-batch 1, --checkpointing true, fewer --frames or a smaller --longest-side"
    with memory_advice(f"{options}; the same command resumes after the last saved step"):
        Trainer(config, labels, train, dev, out).fit()


class Trainer(Learner[Entry]):
    """One fit. An item is one answer."""

    speed = "tokens_per_s"

    def __init__(
        self, config: Config, labels: LabelSet, train: Sequence[Example], dev: Sequence[Example], out: Path
    ) -> None:
        self.device = find_device(config.device, metal=True)
        self.config = replace(config, device=str(self.device))
        self.labels, self.out = labels, out
        self.dev = _some(dev, config)
        self.local = LocalModel(config)
        self.model, self.tuned = self._load()
        self.engine = TransformersEngine(self.config, local=self.local, model=self.model)
        self.prompts = prompts_of(config, embedded_model=config.model is None)
        self.dialogue = self._dialogue(self.config, train)
        self.fingerprint = self._fingerprint(train)
        self.schedule = Schedule(
            epochs=config.epochs,
            batch_size=config.step_size,
            micro_batch=config.micro_batch,
            warmup=config.warmup,
            clip=config.clip,
            seed=config.seed,
            group_by_length=config.group_by_length,
            longest_first=True,
            patience=config.patience,
            save_every=config.save_every,
        )
        self.training = Training(self, train, self.dev, out)

    @property
    def mixed(self) -> bool:
        """Whether bf16 autocast is used."""
        return bool(self.device.type == "cuda" and torch.cuda.is_bf16_supported())

    def fit(self) -> None:
        if self.training.is_main:
            self._announce()
        progress = self.training.fit()
        if self.training.is_main:
            card = self._card(progress, self._effect())
            save_fit(card, self.config, self.out, local=self.local, model=self.model, tuned=self.tuned)
        self.training.finish()

    # --- what the loop asks -------------------------------------------------------------------------------------------

    def items(self, train: Sequence[Example]) -> list[Entry]:
        freely = replace(self.config, unconstrained=True, schema_only=False)
        self.dataset = SFTDataset(self._dialogue(freely, train).builder, self.engine, train, freely)
        return self.dataset.entries

    def length(self, item: Entry) -> int:
        return item.tokens

    def count(self, items: Sequence[Entry]) -> int:
        return sum(item.target_tokens for item in items)

    def counts(self, items: Sequence[Entry]) -> dict[str, int]:
        return {"answer": self.count(items)}

    def vary(self, item: Entry, rng: random.Random) -> Entry:
        return self.dataset.varied(item, rng)

    def losses(self, items: Sequence[Entry]) -> dict[str, Tensor]:
        batch, targets = collate([self.dataset.encoded(item) for item in items], padding=self._padding)
        batch = {name: value.to(self.device) for name, value in batch.items()}
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed):
            return {"answer": loss_sum(self.model, batch, targets.to(self.device))}

    def parameter_groups(self) -> list[dict[str, Any]]:
        weights = list(self.weights().values())
        return [{"params": weights, "lr": learning_rate(self.config), "weight_decay": self.config.weight_decay}]

    def predict(self, documents: Iterable[Document]) -> Iterator[RawOutput]:
        yield from self.dialogue.predict(documents)
        self.dialogue.take_prompts()

    def _dialogue(self, options: Config, train: Sequence[Example]) -> Dialogue:
        selector = FewShotSelector(train, options)
        return Dialogue(PromptBuilder(options, self.labels, self.engine, self.prompts, selector))

    @property
    def _padding(self) -> int:
        found = self.local.tokenizer.pad_token_id
        return int(found if found is not None else self.local.stops[0])

    # --- before and after ---------------------------------------------------------------------------------------------

    def _load(self) -> tuple[Any, Any]:
        """(the model, peft's wrapper of it or None), ready for training."""
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
        """The precision of the weights: bf16 if the device supports it and only an adapter is trained; else float32."""
        if self.config.dtype != "auto":
            return self.config.dtype
        return "bfloat16" if self.mixed and self.config.tune == "lora" else "float32"

    @property
    def four_bit(self) -> bool:
        """Whether the base weights are quantized to 4 bits. Raises UserError if required but not possible."""
        able = can_hold_four_bits(self.device)
        if self.config.four_bit == "yes" and not able:
            raise UserError("--four-bit yes: this needs a GPU and bitsandbytes: pip install bitsandbytes, or omit it")
        return self.config.four_bit != "no" and able and self.config.tune == "lora"

    def _effect(self) -> float:
        """The adapter's effect on log-probabilities. Raises UserError if it has none."""
        if self.tuned is None:
            return 0.0
        effect = effect_on(self.tuned, self.local.tokenizer, self.device)
        prove(self.config.save_as or "adapter", effect)
        return effect

    def _card(self, progress: Progress, effect: float) -> Card:
        """The card of the result, without its files."""
        config, dataset = self.config, self.dataset
        lora = config.tune == "lora"
        targets = self.tuned.peft_config["default"].target_modules if lora else ()
        documents = [example.document for example in dataset.examples]
        return Card(
            name=config.save_as or "adapter",
            base=Base(
                model=config.model or "",
                sha256=self.local.weights_sha256,
                revision=config.revision or "",
                four_bit=self.four_bit,
            ),
            shape=Shape(
                tune=config.tune,
                rank=config.rank if lora else 0,
                alpha=config.alpha if lora else 0,
                dropout=config.dropout if lora else 0.0,
                targets=tuple(sorted(targets)),
                train_fully=config.train_fully,
                parameters=sum(weight.numel() for weight in self.weights().values()),
            ),
            asked=Prompting(
                strategy=config.strategy,
                version=self.prompts.version,
                sha256=self.prompts.sha256(self.dialogue.builder.strategy.folders[0]),
                labels_sha256=labels_sha256(self.labels),
            ),
            data=Data(
                languages=tuple(sorted({document.lang for document in documents})),
                train_documents=len(documents),
                train_sha256=documents_sha256(dataset.examples),
                dev_documents=len(self.dev),
                dev_sha256=documents_sha256(self.dev),
                excluded=len(dataset.unfit),
                ceiling=_rounded(dataset.ceiling),
            ),
            best_epoch=progress.best_epoch,
            effect=round(effect, 4),
            training={name: getattr(config, name) for name in RECORDED} | {"lr": learning_rate(config)},
            versions=versions_of("m3dllm", "torch", "transformers", "peft", "accelerate"),
            epochs=tuple(_rounded(epoch) for epoch in progress.epochs),
        )

    def _fingerprint(self, train: Sequence[Example]) -> str:
        """A hash of everything that the result depends on."""
        incidental = named(Config, INCIDENTAL)
        options = {name: value for name, value in asdict(self.config).items() if name not in incidental}
        hashes = (self.local.weights_sha256, self.prompts.sha256(self.dialogue.builder.strategy.folders[0]))
        return fingerprint_of(options, self.labels, train, self.dev, *hashes)

    def _announce(self) -> None:
        trained = sum(weight.numel() for weight in self.weights().values())
        total = sum(weight.numel() for weight in self.model.parameters())
        rows, tokens = len(self.dataset.entries), self.dataset.tokens
        log.info(
            "%s: %d of %d weights are trained on %d answers (%d tokens)", self.config.tune, trained, total, rows, tokens
        )
        scores = " ".join(f"{name} {value:.3f}" for name, value in self.dataset.ceiling.items())
        log.info("the gold answers themselves score %s against the gold of train", scores)


RECORDED = (
    *(
        "seed",
        "epochs",
        "lr",
        "warmup",
        "weight_decay",
        "clip",
        "step_size",
        "group_by_length",
        "patience",
        "dev_limit",
        "box_step",
        "box_jitter",
    ),
    *("frames", "frame_choice", "longest_side", "video", "fps", "box_convention", "shots", "shot_choice", "max_tokens"),
    *("shot_frames", "prompt_form"),
    *("max_chains", "max_mentions", "max_relations", "max_regions", "max_mention_characters"),
)
"""The options in the card."""


def check(config: Config, train: Sequence[Example], out: Path) -> None:
    """Raises UserError for impossible options, before a model is loaded; `out`: the folder of the fit."""
    if not train:
        raise UserError("there are no train documents: choose a split by --train")
    if "fit" not in find_engine(config.engine).supports:
        raise UserError(f"--engine {config.engine} does not train: omit it to fit; the adapter works in every engine")
    if config.adapter:
        raise UserError("--adapter: a fit makes a new adapter; omit it, or merge it first ('m3dllm adapters merge')")
    if config.model and config.model.lower().endswith(".gguf"):
        raise UserError(f"--model {config.model}: a GGUF file cannot be trained: give a folder or a hub id to fit")
    if config.thinking:
        raise UserError(f"--thinking {config.thinking}: gold answers have no reasoning: omit it to fit")
    if not find_strategy(config.strategy).has_targets:
        able = " or ".join(name for name in strategy_names() if find_strategy(name).has_targets)
        raise UserError(
            f"--strategy {config.strategy}: its questions have no gold answers to train on; expected {able}"
        )
    check_name(config, out)


def learning_rate(config: Config) -> float:
    return config.lr if config.lr is not None else (2e-4 if config.tune == "lora" else 2e-5)


def _some(dev: Sequence[Example], config: Config) -> list[Example]:
    """The dev documents for model selection: all, or a random sample by the seed, in the order of the split."""
    if not config.dev_limit or config.dev_limit >= len(dev):
        return list(dev)
    drawn = random.Random(config.seed).sample(range(len(dev)), config.dev_limit)
    return [dev[i] for i in sorted(drawn)]


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}
