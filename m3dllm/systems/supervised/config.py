"""The options of `dffm` and its presets. Nothing here imports torch.

`paper` is the paper's model with its settings and those that the authors' training has; `minilm` fine-tunes a small
real encoder of English; `tiny`, the default, learns small encoders for English and Chinese from scratch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

LEVELS = ("low", "mid", "high")
MODULES = ("dffm", "mmcm")
ENCODERS = ("text", "vision")
LinkageName = Literal["average", "single"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The options of `dffm`; the defaults are the preset `tiny`."""

    text_encoder: tuple[str, ...] = ("tiny",)
    """'tiny' (learned from scratch), 'minilm', or a Hugging Face id or folder; one a language: en=ID,zh=ID."""
    vision_encoder: str = "tiny"
    """'tiny' (learned from scratch), 'none' (frames are not read), or a Hugging Face id or folder of a ViT."""
    freeze: tuple[str, ...] = ()
    """Encoders that are not trained: 'text', 'vision'. What they give is computed once and cached."""
    hidden: int = 96
    """The width of tiny encoders; a pretrained text encoder brings its own."""
    layers: int = 4
    """The number of layers of the tiny text encoder."""
    image_size: int = 128
    """The side to which the tiny vision encoder resizes a frame, rounded up to 16 pixels; others bring their own."""
    window: int = 0
    """Pieces that the text encoder sees at once; 0: as many as it can. Longer documents are read in windows."""
    overlap: int = 64
    """Pieces that neighbouring windows share."""
    word_shapes: bool = True
    """Whether words of a pretrained text encoder also carry their case, and whether the document repeats them."""
    frame_chunk: int = 64
    """Frames that the vision encoder sees at once."""

    without: tuple[str, ...] = ()
    """Ablations: 'dffm' (no fusion between the modalities), 'mmcm' (blanks instead of a missing modality)."""
    levels: tuple[str, ...] = LEVELS
    """The levels of features that are fused: 'low', 'mid', 'high'."""
    latent: Literal["ae", "vae"] = "ae"
    """The latent space of the fusion: a plain autoencoder, or a variational one with the two weights below."""
    latent_size: int = 32
    """The width of the latent space."""
    attention_heads: int = 4
    """Attention heads in the latent space."""
    kl_weight: float = 0.001
    """Weight of the latent's divergence from a standard normal (vae only)."""
    reconstruction_weight: float = 0.01
    """Weight of the latent's reconstruction error (vae only)."""
    prompt_length: int = 8
    """The length of the prompt of a missing modality."""
    max_frames: int = 256
    """Frame positions that are learned; further frames share the last."""
    dropout: float = 0.1
    """Dropout in fusion, tagger and tiny encoders."""
    pair_dropout: float = 0.2
    """Dropout in the heads of chains and relations, which learn names by heart where they can."""

    slots: int = 0
    """Boxes that a frame's vector predicts (1: the paper's eq. 18); 0: each patch of the frame predicts one."""
    merge_iou: float = 0.5
    """Predicted boxes of one type that overlap more than this are one."""
    lexical: bool = True
    """Whether pair heads see the mentions' texts, their distance and the words between them beside the vectors."""
    text_alone: float = 0.5
    """The chance that a training document's chains are read off its texts without vectors (lexical only)."""
    pair_size: int = 64
    """The width of pair representations; 0: bilinear forms over the full vectors, as in eq. 16 and 17."""
    aligned: bool = True
    """Whether relations are also read off the frames that show both chains."""
    linkage: LinkageName = "average"
    """How linked mentions become chains: by the average over two chains' mentions, or by any single link."""
    decision: Literal["argmax", "threshold"] = "threshold"
    """How a pair's relations are chosen: the best type or none, or every type above a threshold."""
    tune: bool = True
    """Whether the thresholds of chains, relations and regions are chosen on dev."""

    weight_entity: float = 1.0
    """The weight of the entity loss (eq. 19) in the total (eq. 24)."""
    weight_chain: float = 1.0
    """The weight of the chain loss (eq. 20)."""
    weight_relation: float = 1.0
    """The weight of the relation loss (eq. 21)."""
    weight_region: float = 1.0
    """The weight of the loss of region types (eq. 22)."""
    weight_box: float = 1.0
    """The weight of the loss of region boxes (eq. 23)."""
    weight_shows: float = 2.0
    """The weight of the losses of which chain a patch shows, and of what a frame says of the two chains that it shows;
    learned where regions name their chains (aligned only)."""
    balance: float = 0.5
    """Against class imbalance: a class of n among N decisions of C classes weighs (N / (C n)) ** balance; 0: off."""

    epochs: int = 12
    """Passes over the train documents; the best by the average F1 on dev is kept."""
    batch_size: int = 4
    """Documents a training step."""
    lr: float = 2e-3
    """The learning rate of all that is not pretrained."""
    encoder_lr: float = 5e-6
    """The learning rate of pretrained encoders."""
    warmup: float = 0.1
    """The share of the steps in which the learning rates rise; then they fall linearly to 0."""
    weight_decay: float = 0.01
    """AdamW's weight decay."""
    clip: float = 5.0
    """Gradients are cut to this norm."""
    hide: float = 0.1
    """The chance that a training document is shown without its text or without its frames, so that MMCM learns."""
    attention_dropout: float = 0.0
    """Dropout of the attention weights in pretrained text encoders. Above 0 a CPU takes more than twice as long."""
    word_dropout: float = 0.05
    """The chance that the tiny text encoder does not recognize a known word in training."""
    name_dropout: float = 0.4
    """The chance that it does not recognize, in a whole document, a known word that mostly stands in mentions: names of
    other documents are unknown too."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """The numbers of training and prediction; auto: bf16 on a GPU that has it, else fp32."""
    checkpointing: bool = False
    """Whether pretrained encoders compute twice to save memory in training."""
    device: str = "auto"
    """'auto' (a GPU where there is one), 'cpu', 'cuda', 'cuda:1', …"""
    cache_gb: float = 4.0
    """The most that cached features of frozen encoders may take on disk; 0: no cache."""
    seed: int = 0
    """The seed of initial weights, order and dropout."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {},
        "minilm": {
            "text_encoder": ("minilm",),
            "encoder_lr": 2e-4,
            "epochs": 8,
            "batch_size": 2,
        },
        "paper": {
            "text_encoder": (
                "en=allenai/longformer-base-4096",
                "zh=markussagen/xlm-roberta-longformer-base-4096",
            ),
            "vision_encoder": "google/vit-base-patch16-224",
            "latent_size": 64,
            "attention_heads": 16,
            "prompt_length": 64,
            "slots": 1,
            "merge_iou": 0.9,
            "word_shapes": False,
            "lexical": False,
            "aligned": False,
            "pair_size": 0,
            "linkage": "single",
            "decision": "argmax",
            "tune": False,
            "balance": 0.0,
            "epochs": 20,
            "batch_size": 1,
            "lr": 1e-3,
            "pair_dropout": 0.1,
            "attention_dropout": 0.1,
            "warmup": 0.0,
            "hide": 0.0,
            "checkpointing": True,
            "frame_chunk": 16,
        },
    }

    def __post_init__(self) -> None:
        for name, allowed in (("freeze", ENCODERS), ("without", MODULES), ("levels", LEVELS)):
            for word in getattr(self, name):
                if word not in allowed:
                    raise ValueError(f"{name} holds {word!r}; expected {' or '.join(allowed)}")
        if not self.levels:
            raise ValueError(f"levels is empty; expected one or more of {', '.join(LEVELS)}")
        if not self.text_encoder:
            raise ValueError("text_encoder is empty; expected 'tiny', 'minilm', or a Hugging Face id or folder")
        counts = ("hidden", "layers", "image_size", "frame_chunk", "latent_size", "attention_heads", "prompt_length")
        for name in (*counts, "max_frames", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        for name in ("window", "overlap", "slots", "pair_size", "lr", "encoder_lr", "weight_decay", "cache_gb"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0 or more")
        for name in (
            "dropout",
            "pair_dropout",
            "attention_dropout",
            "warmup",
            "hide",
            "word_dropout",
            "name_dropout",
            "merge_iou",
            "text_alone",
        ):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0 to 1")
        if self.clip <= 0:
            raise ValueError(f"clip is {self.clip}; expected more than 0")
        if self.layers < len(LEVELS):
            raise ValueError(f"layers is {self.layers}; expected at least {len(LEVELS)}, one a level")
        if self.latent_size % self.attention_heads:
            raise ValueError(
                f"latent_size {self.latent_size} is not a multiple of attention_heads {self.attention_heads}"
            )
        if self.window and self.window <= self.overlap:
            raise ValueError(f"window {self.window} is not longer than overlap {self.overlap}")

    def text_encoder_of(self, lang: str) -> str | None:
        """The text encoder for documents in `lang`; None where only those of other languages are named."""
        named = dict(word.split("=", 1) for word in self.text_encoder if word.startswith(("en=", "zh=")))
        for_all = [word for word in self.text_encoder if not word.startswith(("en=", "zh="))]
        return named.get(lang, for_all[0] if for_all else None)


SHAPE = (
    "text_encoder",
    "vision_encoder",
    "word_shapes",
    "hidden",
    "layers",
    "image_size",
    "without",
    "levels",
    "latent",
    "latent_size",
    "attention_heads",
    "prompt_length",
    "max_frames",
    "slots",
    "lexical",
    "pair_size",
    "aligned",
    "decision",
)
"""The options that a checkpoint's weights are made for: predicting with others is refused."""
