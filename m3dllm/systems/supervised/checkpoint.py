"""The trained model on disk, as safetensors.

`model.safetensors` holds every trained weight, and in its header the card with options, label set and the rest; the
architecture and tokenizer of a fine-tuned encoder lie beside it. Pickles are never read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from torch import Tensor

from m3dllm.config import FIT, named
from m3dllm.errors import UserError
from m3dllm.files import pickle_beside
from m3dllm.labels import LabelSet
from m3dllm.systems.supervised.config import Config
from m3dllm.systems.supervised.decoding import Thresholds
from m3dllm.systems.supervised.encoders import Encoders, new_encoders, save_descriptions, saved_encoders
from m3dllm.systems.supervised.model import Model
from m3dllm.systems.supervised.text import Vocabulary
from m3dllm.training import TRAINING
from m3dllm.types import TASKS, Document, Example, Task
from m3dllm.weights import fill, read_weights, write_weights
from m3dllm.wire import (
    FORMAT,
    WireError,
    check_labels,
    convert,
    decode,
    decode_labels,
    encode,
    encode_labels,
    labels_sha256,
)

MODEL = "model.safetensors"
REMEDY = "fit again"


@dataclass(frozen=True, kw_only=True)
class FittedCard:
    """The description of a model trained by 'm3dllm fit', besides its weights."""

    plain: ClassVar[Mapping[str, Any]] = {
        "languages": tuple[str, ...],
        "sees": bool,
        "grounds": bool,
        "history": tuple[dict[str, float], ...],
        "untaught": tuple[Task, ...],
        "fingerprint": str,
    }
    """The fields besides options and labels, with their types."""
    later: ClassVar[frozenset[str]] = frozenset(("untaught",))
    """The fields that files of older versions lack: they have their defaults."""
    names: ClassVar[int | None] = None
    """The version of the weights' names, if they have changed."""

    config: Any
    labels: LabelSet
    languages: tuple[str, ...]
    """The languages of the train documents, the only ones that it predicts."""
    sees: bool = True
    """Whether train had frames, so that there is a vision encoder."""
    grounds: bool = True
    """Whether train had regions, so that regions are predicted."""
    untaught: tuple[Task, ...] = ()
    """The text tasks that no train document has gold for: they are not predicted."""
    history: tuple[dict[str, float], ...] = ()
    """Loss and dev scores of every epoch."""
    fingerprint: str = ""
    """The hash of options, labels and training documents."""

    def header(self) -> dict[str, str]:
        """The header of a safetensors file: one entry, so that equal models have equal bytes."""
        rows = {name: getattr(self, name) for name in self.plain} | {"format": FORMAT}
        rows |= {} if self.names is None else {"names": self.names}
        rows |= {"config": asdict(self.config), "labels": encode_labels(self.labels)}
        return {"m3dllm": encode(rows).decode()}

    @classmethod
    def read(cls, header: Mapping[str, str], path: Path, kind: type[Any]) -> Self:
        """From the header of `path`, with the options of a system. Raises UserError."""
        try:
            card = decode(header["m3dllm"], dict[str, Any])
            if card["format"] != FORMAT:
                raise UserError.at(path, f"is of another format than {FORMAT}, which this version reads: fit again")
            if card.get("names") != cls.names:
                raise UserError.at(path, "was fitted by an older version, whose weights have other names: fit again")
            known = {name: form for name, form in cls.plain.items() if name in card or name not in cls.later}
            rows = {name: convert(card[name], form) for name, form in known.items()}
            return cls(config=convert(card["config"], kind), labels=decode_labels(card["labels"]), **rows)
        except (KeyError, WireError, TypeError) as error:
            raise UserError.at(path, f"is not a model of this system ({error}): fit again") from error

    @classmethod
    def of_checkpoint(cls, folder: Path, config: Any, labels: LabelSet) -> tuple[Self, dict[str, Tensor]]:
        """(card, weights) of the trained model in `folder`.

        Options that matter in training are those of the fit; all others, which only predictions depend on, are from
        `config`. Raises UserError if there is none, if it is damaged or pickled, or if it was trained for another label
        set or with other options.
        """
        path = checkpoint_file(folder)
        header, weights = read_checkpoint(path)
        card = cls.read(header, path, type(config))
        check_labels(labels_sha256(card.labels), labels, path)
        check_shape(config, card.config, path)
        fitted = {name: getattr(card.config, name) for name in named(type(config), FIT)}
        return replace(card, config=replace(config, **fitted)), weights

    @classmethod
    def of_finished(cls, out: Path, config: Any, fingerprint: str) -> tuple[Self, dict[str, Tensor]] | None:
        """(card, weights) that the same fit wrote into `out`, if it was finished before; else None."""
        path = out / MODEL
        if not path.is_file() or (out / TRAINING).exists():
            return None
        header, weights = read_checkpoint(path)
        card = cls.read(header, path, type(config))
        return (card, weights) if card.fingerprint == fingerprint else None

    def check_languages(self, documents: Iterable[Document]) -> None:
        """Raises UserError for a text in a language that was not in train."""
        for document in documents:
            if document.text and document.lang not in self.languages:
                known = " and ".join(self.languages)
                raise UserError(f"the document is in '{document.lang}', and the model was fitted on {known}")


@dataclass(frozen=True, kw_only=True)
class Card(FittedCard):
    """The card of a supervised model."""

    plain: ClassVar = {
        "languages": tuple[str, ...],
        "text_encoder": str,
        "vocabulary": Vocabulary | None,
        "sees": bool,
        "grounds": bool,
        "untaught": tuple[Task, ...],
        "thresholds": Thresholds,
        "history": tuple[dict[str, float], ...],
        "fingerprint": str,
    }
    names: ClassVar = 2
    """Version 1: before models had a backbone and heads."""

    config: Config
    text_encoder: str
    vocabulary: Vocabulary | None = None
    """The vocabulary of the tiny text encoder."""
    thresholds: Thresholds = field(default_factory=Thresholds)


def untaught_by(train: Iterable[Example]) -> tuple[Task, ...]:
    """The tasks of the text that no document has gold of."""
    taught = {task for example in train if example.document.text for task in example.annotated}
    return tuple(task for task in TASKS if task not in taught and task != "grounding")


def new_encoders_of(card: Card) -> Encoders:
    """Its encoders before training. Raises UserError if one is not available."""
    return new_encoders(card.config, card.text_encoder, card.vocabulary, sees=card.sees)


def saved_encoders_of(card: Card, folder: Path) -> Encoders:
    """Its encoders as described in `folder`, without weights."""
    return saved_encoders(card.config, card.text_encoder, card.vocabulary, folder, sees=card.sees)


def fill_model(model: Model, weights: Mapping[str, Tensor], path: Path) -> None:
    """Load `weights` into the model. Raises UserError if names or shapes differ."""
    fill(model.kept_weights(), weights, path, remedy=REMEDY)


def save_model(folder: Path, card: Card, model: Model) -> None:
    """Write the trained model: the encoders' descriptions first, the weights last and atomically."""
    save_descriptions(folder, model.backbone.text, model.backbone.vision)
    write_weights(folder / MODEL, model.kept_weights(), card.header())


def checkpoint_file(folder: Path) -> Path:
    """The weights file in a checkpoint folder. Raises UserError if there is none."""
    path = folder / MODEL
    if not path.is_file():
        beside = pickle_beside(folder)
        raise UserError.at(folder, f"has no {MODEL}{beside}: expected a checkpoint that 'm3dllm fit' wrote")
    return path


def check_shape(config: Any, fitted: Any, path: Path) -> None:
    """Raises UserError if the weights in `path` were made for other options."""
    for name in config.shape:
        here, there = getattr(config, name), getattr(fitted, name)
        if here != there:
            flag, was = f"--{name.replace('_', '-')}", ",".join(there) if isinstance(there, tuple) else there
            raise UserError.at(
                path, f"was fitted with {flag} {was or '(none)'}: give the options or the preset of its fit"
            )


def read_checkpoint(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """(header, tensors) of a checkpoint file. Raises UserError if it is not one."""
    return read_weights(path, remedy="expected safetensors that 'm3dllm fit' wrote; fit again")
