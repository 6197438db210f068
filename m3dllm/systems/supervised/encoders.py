"""From options to encoders: the choice of the text encoder, new encoders, and those of a checkpoint."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from m3dllm.errors import UserError
from m3dllm.systems.supervised.config import Config
from m3dllm.systems.supervised.features import FeatureCache, FrameFeatures, TextFeatures, cache_folder
from m3dllm.systems.supervised.text import NoText, TinyText, Vocabulary, empty_text_encoder, load_text_encoder
from m3dllm.systems.supervised.vision import TINY, empty_vision_encoder, load_vision_encoder

READS = {"minilm": ("en",), "allenai/longformer-base-4096": ("en",), "bert-base-uncased": ("en",)}
"""The languages of known encoders; others are assumed to read any."""

Encoders = tuple[TextFeatures, FrameFeatures | None]


def text_encoder_name(config: Config, languages: Iterable[str]) -> str:
    """The text encoder for documents in `languages`. Raises UserError if none reads them all."""
    names = {lang: config.text_encoder_of(lang) for lang in sorted(languages)}
    for lang, name in names.items():
        if name is None:
            named = ", ".join(config.text_encoder)
            raise UserError(
                f"text_encoder {named}: has none for '{lang}': add {lang}=ID, or choose a language by --lang"
            )
        if lang not in READS.get(name, (lang,)):
            reads = " and ".join(READS[name])
            raise UserError(
                f"text_encoder {name}: reads {reads}, and there are documents in '{lang}': "
                f"give --lang {READS[name][0]}, or another --text-encoder"
            )
    if len(set(names.values())) > 1:
        listed = ", ".join(f"{name} for '{lang}'" for lang, name in names.items())
        raise UserError(f"text_encoder: one model has one text encoder, and here are {listed}: choose one by --lang")
    return next(iter(names.values()), None) or "tiny"


def new_encoders(config: Config, text_encoder: str, vocabulary: Vocabulary | None, *, sees: bool) -> Encoders:
    """Encoders before training: pretrained ones loaded, tiny ones random. Raises UserError if one is not available."""
    text: Any
    if vocabulary is not None:
        text = TinyText(config, vocabulary)
    elif text_encoder == NoText.name:
        text = NoText(config)
    else:
        text = load_text_encoder(
            text_encoder,
            attention_dropout=config.attention_dropout,
            checkpointing=config.checkpointing and "text" not in config.freeze,
        )
    vision: Any = None
    if sees:
        tiny = TINY.get(config.vision_encoder)
        vision = tiny(config) if tiny else load_vision_encoder(config.vision_encoder)
    return _features(config, text, vision)


def saved_encoders(
    config: Config, text_encoder: str, vocabulary: Vocabulary | None, folder: Path, *, sees: bool
) -> Encoders:
    """Encoders as described in `folder`, with weights still to be loaded; frozen ones are loaded here."""
    text: Any
    if vocabulary is not None:
        text = TinyText(config, vocabulary)
    elif text_encoder == NoText.name:
        text = NoText(config)
    elif {"text", "embeddings"} & set(config.freeze):
        text = load_text_encoder(text_encoder)
    else:
        text = empty_text_encoder(folder / "text_encoder", name=text_encoder)
    vision: Any = None
    if sees and config.vision_encoder in TINY:
        vision = TINY[config.vision_encoder](config)
    elif sees and "vision" in config.freeze:
        vision = load_vision_encoder(config.vision_encoder)
    elif sees:
        vision = empty_vision_encoder(folder / "vision_encoder", name=config.vision_encoder)
    return _features(config, text, vision)


def save_descriptions(folder: Path, text: TextFeatures | None, vision: FrameFeatures | None) -> None:
    """Write what `saved_encoders` needs of fine-tuned encoders besides their weights."""
    for name, features in (("text_encoder", text), ("vision_encoder", vision)):
        if features is not None and features.encoder.pretrained and not features.frozen:
            features.encoder.save_description(folder / name)


def _features(config: Config, text_encoder: Any, vision_encoder: Any) -> Encoders:
    """The feature extractors of the encoders; features of frozen ones are cached."""
    cache = None
    if config.freeze and config.cache_gb:
        cache = FeatureCache(cache_folder(), limit_bytes=int(config.cache_gb * 1e9))
    for part, kind, encoder in (
        ("text", "text", text_encoder),
        ("embeddings", "text", text_encoder),
        ("vision", "vision", vision_encoder),
    ):
        if part in config.freeze and encoder is not None:
            if not encoder.pretrained:
                raise UserError(
                    f"freeze {part}: the tiny {kind} encoder must learn: only a pretrained one can be frozen"
                )
            frozen = encoder.model.get_input_embeddings() if part == "embeddings" else encoder
            frozen.requires_grad_(False)
    text = TextFeatures(
        text_encoder,
        window=config.window,
        overlap=config.overlap,
        shapes=config.word_shapes and text_encoder.pretrained,
        frozen="text" in config.freeze,
        cache=cache,
    )
    if vision_encoder is None:
        return text, None
    return text, FrameFeatures(
        vision_encoder,
        text.width,
        chunk=config.frame_chunk,
        pooled=config.pools_frames,
        checkpointing=config.checkpointing,
        frozen="vision" in config.freeze,
        cache=cache,
    )
