"""Weights on disk, as safetensors: the fitted model, and a fit that is not finished.

`model.safetensors` holds every weight that was learned, and in its header the options, the label set and what else
makes it a model; the architecture and tokenizer of a fine-tuned encoder lie beside it. `training.safetensors` is the
state after the last finished epoch; it goes when the fit ends. Pickles are never read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from m3dllm.errors import UserError
from m3dllm.files import pickle_beside
from m3dllm.labels import LabelSet
from m3dllm.systems.supervised.batch import Types
from m3dllm.systems.supervised.config import SHAPE, Config
from m3dllm.systems.supervised.decode import Thresholds
from m3dllm.systems.supervised.model import DFFM, build
from m3dllm.systems.supervised.text import TinyText, Vocabulary, empty_text_encoder, load_text_encoder
from m3dllm.systems.supervised.vision import TinyVision, empty_vision_encoder, load_vision_encoder
from m3dllm.weights import fill as put
from m3dllm.weights import part_of, read_weights, restore_state, save_state, write_weights
from m3dllm.wire import FORMAT, WireError, convert, decode, decode_labels, encode, encode_labels

MODEL, TRAINING = "model.safetensors", "training.safetensors"
REMEDY = "fit again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What a model is besides its weights."""

    config: Config
    labels: LabelSet
    languages: tuple[str, ...]
    """Those of the train documents; it answers no other."""
    text_encoder: str
    vocabulary: Vocabulary | None = None
    """Of the tiny text encoder."""
    sees: bool = True
    """Whether there were frames in train, so that there is a vision encoder."""
    grounds: bool = True
    """Whether there were annotated frames in train, so that regions are answered."""
    thresholds: Thresholds = field(default_factory=Thresholds)
    history: tuple[dict[str, float], ...] = ()
    """Loss and dev scores of every epoch."""
    fingerprint: str = ""
    """The hash of options, labels and documents of the fit."""

    def header(self) -> dict[str, str]:
        """As the header of a safetensors file: one entry, so that the same model is the same bytes."""
        rows = {name: getattr(self, name) for name in _PLAIN}
        labels = encode_labels(self.labels)
        return {"m3dllm": encode(rows | {"format": FORMAT, "config": asdict(self.config), "labels": labels}).decode()}

    @classmethod
    def read(cls, header: Mapping[str, str], path: Path) -> Card:
        """From the header of `path`. Raises UserError."""
        try:
            card = decode(header["m3dllm"], dict[str, Any])
            if card["format"] != FORMAT:
                raise UserError.at(path, f"is of another format than {FORMAT}, which this version reads: fit again")
            rows = {name: convert(card[name], kind) for name, kind in _PLAIN.items()}
            return cls(config=convert(card["config"], Config), labels=decode_labels(card["labels"]), **rows)
        except (KeyError, WireError, TypeError) as error:
            raise UserError.at(path, f"is no model of this system ({error}): fit again") from error


_PLAIN: dict[str, Any] = {
    "languages": tuple[str, ...],
    "text_encoder": str,
    "vocabulary": Vocabulary | None,
    "sees": bool,
    "grounds": bool,
    "thresholds": Thresholds,
    "history": tuple[dict[str, float], ...],
    "fingerprint": str,
}


def new_model(card: Card) -> DFFM:
    """A model before training: pretrained encoders loaded, everything else random by the seed.

    Raises UserError where an encoder cannot be had.
    """
    config = card.config
    torch.manual_seed(config.seed)
    text: Any
    if card.vocabulary is not None:
        text = TinyText(config, card.vocabulary)
    else:
        text = load_text_encoder(
            card.text_encoder,
            shapes=config.word_shapes,
            attention_dropout=config.attention_dropout,
            checkpointing=config.checkpointing and "text" not in config.freeze,
        )
    vision: Any = None
    if card.sees:
        vision = TinyVision(config) if config.vision_encoder == "tiny" else load_vision_encoder(config.vision_encoder)
    return build(config, Types.of(card.labels), text_encoder=text, vision_encoder=vision)


def fitted_model(card: Card, folder: Path, weights: Mapping[str, Tensor]) -> DFFM:
    """A model with the weights of a checkpoint. Raises UserError where they do not fit it."""
    config = card.config
    text: Any
    if card.vocabulary is not None:
        text = TinyText(config, card.vocabulary)
    elif "text" in config.freeze:
        text = load_text_encoder(card.text_encoder, shapes=config.word_shapes)
    else:
        text = empty_text_encoder(folder / "text_encoder", name=card.text_encoder, shapes=config.word_shapes)
    vision: Any = None
    if card.sees and config.vision_encoder == "tiny":
        vision = TinyVision(config)
    elif card.sees and "vision" in config.freeze:
        vision = load_vision_encoder(config.vision_encoder)
    elif card.sees:
        vision = empty_vision_encoder(folder / "vision_encoder", name=config.vision_encoder)
    model = build(config, Types.of(card.labels), text_encoder=text, vision_encoder=vision)
    fill(model, weights, folder / MODEL)
    return model


def learned(model: DFFM) -> dict[str, Tensor]:
    """The weights to keep: all but those of frozen encoders."""
    frozen = {id(p) for p in model.parameters() if not p.requires_grad}
    return {name: value for name, value in model.state_dict(keep_vars=True).items() if id(value) not in frozen}


def fill(model: DFFM, weights: Mapping[str, Tensor], path: Path) -> None:
    """Put `weights` into the model. Raises UserError where names or shapes differ."""
    put(learned(model), weights, path, remedy=REMEDY)


def save_model(folder: Path, card: Card, model: DFFM, weights: Mapping[str, Tensor]) -> None:
    """Write the fitted model: the encoders' descriptions first, the weights last and in one step."""
    for name, features in (("text_encoder", model.text), ("vision_encoder", model.vision)):
        if features is not None and features.encoder.pretrained and not features.frozen:
            features.encoder.save_description(folder / name)
    write_weights(folder / MODEL, weights, card.header())


def load_model(folder: Path, config: Config, labels: LabelSet) -> tuple[Card, DFFM]:
    """The fitted model in `folder`.

    Raises UserError where there is none, where it is damaged or pickled, or where it was fitted for another label set
    or with other options.
    """
    path = folder / MODEL
    if not path.is_file():
        beside = pickle_beside(folder)
        raise UserError.at(folder, f"has no {MODEL}{beside}: expected a checkpoint that 'm3dllm fit' wrote")
    header, weights = read_checkpoint(path)
    card = Card.read(header, path)
    if encode_labels(card.labels) != encode_labels(labels):
        raise UserError.at(path, "was fitted for another label set than that of this corpus: fit again on this corpus")
    for name in SHAPE:
        here, there = getattr(config, name), getattr(card.config, name)
        if here != there:
            flag, was = f"--{name.replace('_', '-')}", ",".join(there) if isinstance(there, tuple) else there
            raise UserError.at(
                path, f"was fitted with {flag} {was or '(none)'}: give the options or the preset of its fit"
            )
    return card, fitted_model(card, folder, weights)


def read_checkpoint(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """(header, tensors) of a file that a fit wrote. Raises UserError where it is none."""
    return read_weights(path, remedy="expected safetensors that 'm3dllm fit' wrote; fit again")


# --- a fit that is not finished ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class Progress:
    """A fit after some epochs."""

    fingerprint: str
    epoch: int = 0
    """Epochs that are done."""
    best: float = -1.0
    """The dev average of the best of them."""
    history: list[dict[str, float]] = field(default_factory=list)
    best_weights: dict[str, Tensor] = field(default_factory=dict)


def save_progress(folder: Path, progress: Progress, model: DFFM, optimizer: torch.optim.Optimizer) -> None:
    """Write the state after an epoch in one step."""
    told = {name: getattr(progress, name) for name in ("fingerprint", "epoch", "best", "history")}
    save_state(folder / TRAINING, told, learned(model), optimizer, best=progress.best_weights)


def load_progress(folder: Path, fingerprint: str, model: DFFM, optimizer: torch.optim.Optimizer) -> Progress | None:
    """The state that `save_progress` wrote, put into model and optimizer; None where there is none.

    Raises UserError where it is of another fit.
    """
    path = folder / TRAINING
    if not path.exists():
        return None
    header, tensors = read_checkpoint(path)
    other = "options or documents: remove it, or name another folder"
    own = learned(model)
    told = restore_state(path, header, tensors, fingerprint, own, optimizer, other=other, remedy=REMEDY)
    return Progress(best_weights=part_of(tensors, "best"), **told)
