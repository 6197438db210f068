"""The options that all supervised systems share, their checks and declarations. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, get_args

from msgspec import Meta

from m3dllm.config import ADVANCED, FIT, AtLeast0, AtLeast1, NotNegative, Options, Share, takes_gpu
from m3dllm.errors import UserError
from m3dllm.types import TASKS

Level = Literal["low", "mid", "high"]
LEVELS: tuple[Level, ...] = get_args(Level)
Frozen = Literal["text", "embeddings", "vision"]
AuxLoss = Literal["attn-mixup", "cag", "camim", "kl-prior", "shap-ca"]
"""The auxiliary losses: `auxiliary` holds a file for each."""
ACROSS: tuple[AuxLoss, ...] = ("cag", "camim", "shap-ca")
"""The losses that compare the documents of a step with one another."""
LinkageName = Literal["average", "single"]

CAPABILITIES: dict[str, Any] = {
    "tasks": frozenset(TASKS),
    "modalities": frozenset(("text", "video")),
    "languages": frozenset(("en", "zh")),
    "takes_given": True,
    "trainable": True,
    "fits_in_parallel": True,
    "extra": "supervised",
    "needs": ("torch", "transformers", "safetensors", "tokenizers"),
}
"""The fields of a supervised system's `SystemSpec`, except name, factory, config and summary."""


PAPER: dict[str, Any] = {
    "text_encoder": ("en=allenai/longformer-base-4096", "zh=markussagen/xlm-roberta-longformer-base-4096"),
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
    "hide": 0.0,
    "checkpointing": True,
    "frame_chunk": 16,
}
"""The preset `paper` of every system: text encoders, heads (eq. 15 to 18) and training settings of the M3D paper."""

_FINE_TUNED: dict[str, Any] = {
    "encoder_lr": 2e-4,
    "batch_size": 2,
    "ema_decay": 0.99,
    "refit": True,
    "weight_relation": 0.2,
}
MINILM: dict[str, Any] = {"text_encoder": ("minilm",), "epochs": 6, **_FINE_TUNED}
"""The preset `minilm`: a small pretrained encoder for English, fine-tuned on a CPU."""
MULTILINGUAL: dict[str, Any] = {
    "text_encoder": ("intfloat/multilingual-e5-small",),
    "freeze": ("embeddings",),
    "epochs": 8,
    **_FINE_TUNED,
}
"""The preset `multilingual`: one for English and Chinese."""
PRETRAINED: dict[str, dict[str, Any]] = {"minilm": MINILM, "multilingual": MULTILINGUAL}
"""The presets with a pretrained text encoder that a CPU can fine-tune, of every system that reads text."""

TINY_HEADS = 4
"""Attention heads of the tiny encoders; their width is divided among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Options):
    """The options of a supervised system, which may extend them and change defaults."""

    text_encoder: Annotated[tuple[str, ...], Meta(min_length=1)] = ("tiny",)
    """'tiny' (trained from scratch), 'minilm', 'none' (no text), or a Hugging Face id or folder; one per language:
    en=ID,zh=ID."""
    vision_encoder: str = "tiny"
    """'tiny', or 'tiny-vivit' or 'tiny-videomae', which see several frames together (trained from scratch), 'none' (no
    frames), or a Hugging Face id or folder of a ViT, a ViViT or a VideoMAE."""
    freeze: Annotated[tuple[Frozen, ...], FIT] = ()
    """What to freeze: the encoders 'text' and 'vision' (their features are computed once and cached), or only the
    'embeddings' of the pretrained text encoder."""
    hidden: AtLeast1 = 96
    """The width of the tiny encoders; a pretrained text encoder has its own."""
    layers: Annotated[int, Meta(ge=3)] = 4
    """The number of layers of the tiny text encoder."""
    image_size: AtLeast1 = 128
    """The side to which the tiny vision encoder resizes a frame, rounded up to 16 pixels; others have their own."""
    window: Annotated[AtLeast0, ADVANCED] = 0
    """The number of subwords per window of the text encoder; 0: its limit. Longer documents are read in windows."""
    overlap: Annotated[AtLeast0, ADVANCED] = 64
    """The overlap of neighbouring windows, in subwords."""
    word_shapes: Annotated[bool, ADVANCED] = True
    """Whether a pretrained text encoder also gets the case of words and whether the document repeats them."""
    frame_chunk: Annotated[AtLeast1, ADVANCED] = 64
    """The number of frames that the vision encoder processes at once."""

    dropout: Annotated[Share, FIT] = 0.1
    """Dropout in fusion, tagger and tiny encoders."""
    pair_dropout: Annotated[Share, FIT] = 0.2
    """Dropout in the heads of chains and relations, which otherwise tend to memorize names."""

    slots: Annotated[AtLeast0, ADVANCED] = 0
    """The number of boxes predicted from a frame's vector (1: the paper's eq. 18); 0: each patch predicts one."""
    merge_iou: Annotated[Share, ADVANCED] = 0.5
    """Predicted boxes of one type with a higher IoU than this are merged."""
    lexical: Annotated[bool, ADVANCED] = True
    """Whether pair heads also see the mentions' texts, their distance and the words between them."""
    relation_words: Annotated[bool, ADVANCED] = True
    """Whether relations are the mean of their head and of a logistic regression over words (lexical and --decision
    threshold only)."""
    text_alone: Annotated[Share, FIT] = 0.5
    """The probability that the chains of a training document are predicted from its texts without vectors (lexical
    only)."""
    pair_size: Annotated[AtLeast0, ADVANCED] = 64
    """The width of pair representations; 0: bilinear forms over the full vectors, as in eq. 16 and 17."""
    aligned: Annotated[bool, ADVANCED] = True
    """Whether relations are also predicted from the frames that show both chains."""
    linkage: Annotated[LinkageName, ADVANCED] = "average"
    """How linked mentions are clustered into chains: by average or by single linkage."""
    decision: Annotated[Literal["argmax", "threshold"], ADVANCED] = "threshold"
    """How a pair's relations are chosen: the best type or none (argmax), or every type above a threshold."""
    tune: Annotated[bool, FIT] = True
    """Whether the thresholds of chains, relations and regions are tuned on dev."""
    refit: Annotated[bool, FIT] = False
    """Whether to train twice, for all epochs: on train, to tune the thresholds on dev, then again on train and dev. Dev
    then selects no epoch."""

    weight_entity: Annotated[NotNegative, FIT] = 1.0
    """The weight of the entity loss (eq. 19) in the total loss (eq. 24)."""
    weight_chain: Annotated[NotNegative, FIT] = 1.0
    """The weight of the chain loss (eq. 20)."""
    weight_relation: Annotated[NotNegative, FIT] = 1.0
    """The weight of the relation loss (eq. 21)."""
    weight_region: Annotated[NotNegative, FIT] = 1.0
    """The weight of the region type loss (eq. 22)."""
    weight_box: Annotated[NotNegative, FIT] = 1.0
    """The weight of the region box loss (eq. 23)."""
    weight_shows: Annotated[NotNegative, FIT] = 2.0
    """The weight of the losses for which chain a patch shows, and for the relations of the two chains that a frame
    shows; trained if regions have chains (aligned only)."""
    aux_loss: Annotated[tuple[AuxLoss, ...], FIT] = ()
    """Auxiliary losses: 'kl-prior' and 'attn-mixup' (of i2srm), 'camim', 'shap-ca' and 'cag' (the text against the
    frames, over the documents of a step)."""
    weight_auxiliary: Annotated[NotNegative, FIT] = 1.0
    """The weight of the losses of --aux-loss, on top of their own weights."""
    balance: Annotated[NotNegative, FIT] = 0.5
    """Class balancing: a class with n of N decisions over C classes has the weight (N / (C n)) ** balance; 0: off."""

    epochs: Annotated[AtLeast1, FIT] = 12
    """The number of training epochs; the one with the best average F1 on dev is kept."""
    batch_size: AtLeast1 = 4
    """The number of documents per training step."""
    lr: Annotated[NotNegative, FIT] = 2e-3
    """The learning rate of all parts that are not pretrained."""
    encoder_lr: Annotated[NotNegative, FIT] = 5e-6
    """The learning rate of pretrained encoders."""
    fusion_lr: Annotated[NotNegative, FIT] = 0.0
    """The learning rate of the fusion; 0: the same as --lr."""
    warmup: Annotated[Share, FIT] = 0.1
    """The share of steps with linear warm-up; the learning rates then decay linearly to 0."""
    weight_decay: Annotated[NotNegative, FIT] = 0.01
    """AdamW's weight decay."""
    clip: Annotated[float, Meta(gt=0), FIT] = 5.0
    """The maximum gradient norm."""
    ema_decay: Annotated[Share, FIT] = 0.0
    """The decay of the exponential moving average of the weights, which is evaluated on dev and saved; 0: no
    average."""
    hide: Annotated[Share, FIT] = 0.0
    """The probability that a training document loses its text or its frames."""
    attention_dropout: Annotated[Share, FIT] = 0.0
    """Dropout of the attention weights in pretrained text encoders. Above 0, a CPU takes more than twice as long."""
    word_dropout: Annotated[Share, FIT] = 0.05
    """The probability that a known word is replaced by the unknown word in training of the tiny text encoder."""
    name_dropout: Annotated[Share, FIT] = 0.4
    """The probability that a known word that mostly occurs in mentions is unknown in a whole training document, as
    names of new documents are."""
    precision: Annotated[Literal["auto", "fp32", "bf16"], ADVANCED] = "auto"
    """The number format of training and prediction; auto: bf16 on a GPU that supports it, else fp32."""
    checkpointing: Annotated[bool, FIT] = False
    """Whether pretrained encoders use gradient checkpointing in training, which saves memory and costs time."""
    device: str = "auto"
    """'auto' (a GPU if there is one), 'cpu', 'cuda', 'cuda:1', …"""
    cache_gb: Annotated[NotNegative, ADVANCED] = 4.0
    """The maximum size of the cached features of frozen encoders on disk; 0: no cache."""
    seed: int = 0
    """The random seed of initial weights, data order and dropout."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Sets of options by name."""
    reads_patches: ClassVar[bool] = True
    """Whether the fusion reads the patches of a frame; if not, it gets one vector per frame."""
    shape: ClassVar[tuple[str, ...]] = (
        *("text_encoder", "vision_encoder", "word_shapes", "hidden", "layers", "image_size", "slots", "lexical"),
        *("relation_words", "pair_size", "aligned", "decision"),
    )
    """The options that determine a checkpoint's weights: predicting with other values is refused."""

    def check(self) -> None:
        tiny = [name for name in self.text_encoder if name.rpartition("=")[2] == "tiny"]
        if tiny and self.hidden % TINY_HEADS:
            raise UserError(f"--hidden {self.hidden}: expected a multiple of {TINY_HEADS}, its attention heads")
        if self.window and self.window <= self.overlap:
            raise UserError(f"--window {self.window} is not longer than --overlap {self.overlap}")
        if self.whole_steps and self.batch_size == 1:
            raise UserError(
                f"{self.whole_steps}: compares the documents of a step, and --batch-size is 1: give 2 or more"
            )

    def gpus(self, *, there: bool) -> int:
        return int(takes_gpu(self.device, there=there))

    @property
    def pools_frames(self) -> bool:
        """Whether nothing reads patches: neither the fusion nor a head."""
        return not (self.reads_patches or self.aligned) and self.slots > 0

    @property
    def whole_steps(self) -> str:
        """What compares the documents of a step, so that the step is not computed in parts; "" if nothing does."""
        across = ", ".join(name for name in self.aux_loss if name in ACROSS)
        return f"--aux-loss {across}" if across else ""

    @property
    def loss_weights(self) -> dict[str, float]:
        """The weight of each loss in the total (eq. 24); auxiliary losses of a backbone are already weighted."""
        names = ("entity", "chain", "relation", "region", "box")
        weights = {name: getattr(self, f"weight_{name}") for name in names}
        weights |= dict.fromkeys(("alignment", "frame_relations"), self.weight_shows)
        return weights | dict.fromkeys(self.aux_loss, self.weight_auxiliary)

    def text_encoder_of(self, lang: str) -> str | None:
        """The text encoder for documents in `lang`; None if only other languages have one."""
        return named_for(self.text_encoder, lang)


def named_for(names: tuple[str, ...], lang: str) -> str | None:
    """The name for `lang` among names for all languages or for one (`en=ID`); None if there is none."""
    named = dict(word.split("=", 1) for word in names if word.startswith(("en=", "zh=")))
    for_all = [word for word in names if not word.startswith(("en=", "zh="))]
    return named.get(lang, for_all[0] if for_all else None)
