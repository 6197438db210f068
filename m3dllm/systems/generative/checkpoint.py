"""A trained generative model on disk, as safetensors: its weights, and a card in the header."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from m3dllm.errors import UserError
from m3dllm.labels import LabelSet
from m3dllm.systems.generative.codec import PretrainedCodec, TinyCodec
from m3dllm.systems.generative.config import Config
from m3dllm.systems.generative.model import GenerativeModel
from m3dllm.systems.generative.seq2seq import Seq2Seq, empty_seq2seq, load_seq2seq, new_tiny
from m3dllm.systems.supervised.checkpoint import MODEL, FittedCard, untaught_by
from m3dllm.systems.supervised.encoders import new_encoders, save_descriptions, saved_encoders
from m3dllm.systems.supervised.features import FrameFeatures
from m3dllm.types import Example, Task
from m3dllm.weights import write_weights

TEXT_MODEL = "text_model"
"""The folder with the description of a pretrained text model."""
NO_TEXT = "none"


@dataclass(frozen=True, kw_only=True)
class Card(FittedCard):
    """The card of a generative model; it is trained on regions that candidates overlap."""

    plain: ClassVar = {
        "languages": tuple[str, ...],
        "text_model": str,
        "words": tuple[str, ...],
        "sees": bool,
        "grounds": bool,
        "untaught": tuple[Task, ...],
        "history": tuple[dict[str, float], ...],
        "fingerprint": str,
    }

    config: Config
    text_model: str
    words: tuple[str, ...] = ()
    """The vocabulary of the tiny text model."""

    def new_text(self) -> Seq2Seq:
        """Its text model before training. Raises UserError where it cannot be had."""
        return self._tiny() if self.text_model == "tiny" else load_seq2seq(self.text_model, self.config)

    def saved_text(self, folder: Path) -> Seq2Seq:
        """Its text model as described in `folder`, without weights."""
        return self._tiny() if self.text_model == "tiny" else empty_seq2seq(folder / TEXT_MODEL, self.config)

    def new_vision(self, width: int) -> FrameFeatures | None:
        """Its vision encoder before training. Raises UserError where it cannot be had."""
        return new_encoders(self.config.vision(width), NO_TEXT, None, sees=self.sees)[1]

    def saved_vision(self, width: int, folder: Path) -> FrameFeatures | None:
        """Its vision encoder as described in `folder`, without weights."""
        return saved_encoders(self.config.vision(width), NO_TEXT, None, folder, sees=self.sees)[1]

    def _tiny(self) -> Seq2Seq:
        return new_tiny(self.config, TinyCodec(self.words, self.labels))


def describe(
    config: Config, labels: LabelSet, train: Sequence[Example], fingerprint: str, instructions: Iterable[str]
) -> Card:
    """What the model for these documents will be. Raises UserError where no text model reads them all."""
    documents = [example.document for example in train]
    languages = tuple(sorted({document.lang for document in documents}))
    names = {lang: config.text_model_of(lang) for lang in languages}
    for lang, name in names.items():
        if name is None:
            raise UserError(f"text_model {', '.join(config.text_model)}: has none for '{lang}': add {lang}=ID")
    if len(set(names.values())) > 1:
        listed = ", ".join(f"{name} for '{lang}'" for lang, name in names.items())
        raise UserError(f"text_model: one model has one text model, and here are {listed}: choose a language by --lang")
    name = next(iter(names.values())) or "tiny"
    words: tuple[str, ...] = ()
    if name == "tiny":
        texts = [(document.group or document.id, document.text) for document in documents]
        words = TinyCodec.of(texts, labels, config.fewest, instructions).words
    sees = config.vision_encoder != "none" and any(document.frames for document in documents)
    annotated = any(f.annotated for e in train if "grounding" in e.annotated for f in e.document.frames)
    return Card(
        config=config,
        labels=labels,
        languages=languages,
        text_model=name,
        words=words,
        sees=sees,
        grounds=sees and annotated and bool(config.boxes),
        untaught=untaught_by(train),
        fingerprint=fingerprint,
    )


def check_language(text: Seq2Seq, train: Sequence[Example], *, most: float = 0.2) -> None:
    """Raises UserError where a pretrained tokenizer does not know the words of a language."""
    if not isinstance(text.codec, PretrainedCodec):
        return
    for lang in sorted({example.document.lang for example in train}):
        some = [example.document.text for example in train if example.document.lang == lang][:20]
        unknown = text.codec.unknown_share(some)
        if unknown > most:
            raise UserError(
                f"text_model: does not know '{lang}': {unknown:.0%} of the pieces are unknown: give another "
                "--text-model (mT5 knows Chinese), or another language by --lang"
            )


def save_model(folder: Path, card: Card, model: GenerativeModel) -> None:
    """Write the fitted model: descriptions first, the weights last and in one step."""
    if model.text.pretrained:
        model.text.save_description(folder / TEXT_MODEL)
    if model.vision is not None:
        save_descriptions(folder, None, model.vision)
    write_weights(folder / MODEL, model.trained_weights(), card.header())
