"""The options that generative systems share, their checks and declarations. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from m3dllm.config import ADVANCED, FIT, AtLeast1, NotNegative, Options, Share
from m3dllm.errors import UserError
from m3dllm.systems.generative.boxes import boxes_sha256
from m3dllm.systems.supervised import config as supervised
from m3dllm.systems.supervised.config import TINY_HEADS

CAPABILITIES: dict[str, Any] = supervised.CAPABILITIES
"""The fields of a generative system's `SystemSpec`, except name, factory, config and summary."""

PAPER: dict[str, Any] = {
    "text_model": ("en=google/flan-t5-base", "zh=google/mt5-base"),
    "vision_encoder": "google/vit-base-patch16-224",
    "constrain": False,
    "window": 512,
    "max_pieces": 512,
    "epochs": 40,
    "batch_size": 2,
    "lr": 1e-4,
    "checkpointing": True,
    "frame_chunk": 16,
}
"""The preset `paper`: published models for both languages, and the training settings of UMIE."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Options):
    """The options of a generative system, which may extend them and change defaults."""

    text_model: Annotated[tuple[str, ...], Meta(min_length=1)] = ("tiny",)
    """'tiny' (a T5 trained from scratch, with its own vocabulary), or a Hugging Face id or folder of a T5 or mT5; one
    per language: en=ID,zh=ID."""
    vision_encoder: str = "tiny"
    """'tiny' (trained from scratch), 'none' (no frames), or a Hugging Face id or folder of a ViT."""
    freeze: Annotated[tuple[Literal["vision"], ...], FIT] = ()
    """'vision': freeze the pretrained vision encoder; its features are computed once and cached."""
    boxes: tuple[str, ...] = ()
    """The candidate boxes of regions: runs (such as of `detector`), predictions.jsonl files, or splits of a corpus."""
    most_boxes: Annotated[AtLeast1, ADVANCED] = 3
    """The number of candidates per frame: those with the highest confidence."""
    constrain: bool = True
    """Whether decoding is constrained to the types, texts, numbers and candidates of the document."""

    hidden: AtLeast1 = 96
    """The width of the tiny text model; a pretrained one has its own."""
    layers: AtLeast1 = 2
    """The number of encoder layers of the tiny text model."""
    decoder_layers: AtLeast1 = 2
    """The number of decoder layers of the tiny text model."""
    fewest: Annotated[AtLeast1, ADVANCED, FIT] = 6
    """A word is in the tiny vocabulary if it occurs in this many source videos of train; others are copied from
    slots."""
    image_size: AtLeast1 = 64
    """The side to which the tiny vision encoder resizes a frame, rounded up to 16 pixels."""
    frame_chunk: Annotated[AtLeast1, ADVANCED] = 64
    """The number of frames that the vision encoder processes at once."""
    window: Annotated[AtLeast1, ADVANCED] = 48
    """The number of words per window in which mentions are extracted: whole sentences, as many as fit."""
    longest_mention: Annotated[AtLeast1, ADVANCED] = 16
    """The maximum number of words of a mention, in constrained answers."""
    max_pieces: Annotated[AtLeast1, ADVANCED] = 160
    """The maximum number of pieces of an answer."""

    dropout: Annotated[Share, FIT] = 0.1
    """Dropout in text model, fusion and tiny vision encoder."""
    label_smoothing: Annotated[Share, FIT] = 0.0
    """Label smoothing: the probability mass moved from the gold piece to all pieces."""
    epochs: Annotated[AtLeast1, FIT] = 10
    """The number of training epochs; the one with the best average F1 on dev is kept."""
    batch_size: Annotated[AtLeast1, FIT] = 2
    """The number of documents per training step."""
    lr: Annotated[NotNegative, FIT] = 2e-3
    """The learning rate of all parts that are not pretrained."""
    pretrained_lr: Annotated[NotNegative, FIT] = 1e-4
    """The learning rate of pretrained models."""
    warmup: Annotated[Share, FIT] = 0.06
    """The share of steps with linear warm-up; the learning rates then decay linearly to 0."""
    weight_decay: Annotated[NotNegative, FIT] = 0.01
    """AdamW's weight decay."""
    clip: Annotated[float, Meta(gt=0), FIT] = 5.0
    """The maximum gradient norm."""
    precision: Annotated[Literal["auto", "fp32", "bf16"], ADVANCED] = "auto"
    """The number format of training and prediction; auto: bf16 on a GPU that supports it, else fp32."""
    checkpointing: Annotated[bool, FIT] = False
    """Whether pretrained models use gradient checkpointing in training, which saves memory and costs time."""
    device: str = "auto"
    """'auto' (a GPU if there is one), 'cpu', 'cuda', 'cuda:1', …"""
    cache_gb: Annotated[NotNegative, ADVANCED] = 4.0
    """The maximum size of the cached features of frozen encoders on disk; 0: no cache."""
    seed: int = 0
    """The random seed of initial weights, data order and dropout."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Sets of options by name."""
    kinds: ClassVar[tuple[str, ...]] = ("t5", "mt5")
    """The supported model types (Hugging Face names) of the text model; the tiny one has the first."""
    shape: ClassVar[tuple[str, ...]] = (
        *("text_model", "vision_encoder", "hidden", "layers", "decoder_layers", "image_size", "most_boxes"),
    )
    """The options that determine a checkpoint's weights: predicting with other values is refused."""

    def check(self) -> None:
        if self.hidden % TINY_HEADS:
            raise UserError(f"--hidden {self.hidden}: expected a multiple of {TINY_HEADS}, its attention heads")

    def sources(self) -> dict[str, str]:
        """The hashes of the files with candidates. Raises UserError if one is missing."""
        return {f"boxes {i}": boxes_sha256(where) for i, where in enumerate(self.boxes)}

    def text_model_of(self, lang: str) -> str | None:
        """The text model for documents in `lang`; None if only other languages have one."""
        return supervised.named_for(self.text_model, lang)

    def vision(self, hidden: int) -> supervised.Config:
        """The options of the vision encoder, in the form of supervised systems."""
        return supervised.Config(
            text_encoder=("none",),
            vision_encoder=self.vision_encoder,
            freeze=self.freeze,
            hidden=hidden,
            image_size=self.image_size,
            frame_chunk=self.frame_chunk,
            dropout=self.dropout,
            checkpointing=self.checkpointing,
            cache_gb=self.cache_gb,
        )
