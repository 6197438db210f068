"""The model: encoders, fusion or construction, heads. It reads like figure 5 of the paper.

`encode` gives the fused states of a batch; the heads are asked separately, because chains are asked about mentions and
relations about chains, which are gold in training and predicted in use.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from m3dllm.errors import UserError
from m3dllm.systems.supervised.aligned import Alignment, FrameRelations, shown, with_frames
from m3dllm.systems.supervised.batch import Batch, MentionBatch, Types
from m3dllm.systems.supervised.config import Config
from m3dllm.systems.supervised.features import FeatureCache, Features, FrameFeatures, TextFeatures, cache_folder
from m3dllm.systems.supervised.fusion import FrameVectors, Fused, Fusion
from m3dllm.systems.supervised.heads import ChainHead, PatchHead, RelationHead, SlotHead, Tagger
from m3dllm.systems.supervised.missing import Blank, Construction


@dataclass(frozen=True, slots=True)
class States:
    """A batch after fusion."""

    words: Tensor
    """(batch, words, hidden): H^{g→x}."""
    word_mask: Tensor
    patches: Tensor
    """(batch, frames, patches, hidden): the images before pooling."""
    frames: Tensor
    """(batch, frames, hidden): H^{x→g}."""
    frame_mask: Tensor
    penalty: Tensor
    """What the latent spaces cost; 0 for plain autoencoders."""


class DFFM(nn.Module):
    """The whole system of the paper, with the ablations of its Table IV."""

    def __init__(self, config: Config, types: Types, text: TextFeatures, vision: FrameFeatures | None) -> None:
        super().__init__()
        self.config, self.text, self.vision = config, text, vision
        hidden = text.width
        n_mentions, n_relations, n_regions = len(types.mentions), len(types.relations), len(types.regions)
        self.fuses = "dffm" not in config.without

        def fusion() -> Fusion:
            return Fusion(
                hidden,
                levels=config.levels,
                size=config.latent_size,
                heads=config.attention_heads,
                dropout=config.dropout,
                kind=config.latent,
                kl=config.kl_weight,
                reconstruction=config.reconstruction_weight,
            )

        def construction() -> Construction | Blank:
            if "mmcm" in config.without:
                return Blank(levels=config.levels)
            return Construction(hidden, levels=config.levels, prompt_length=config.prompt_length)

        self.into_text = fusion() if self.fuses else None
        self.missing_frames = construction() if self.fuses else None
        if vision is not None:
            self.into_frames = fusion() if self.fuses else None
            self.missing_text = construction() if self.fuses else None
            self.frame_vectors = FrameVectors(hidden, config.max_frames)
            self.regions = (
                SlotHead(hidden, config.slots, n_regions)
                if config.slots
                else PatchHead(hidden, vision.encoder.grid, n_regions)
            )
        self.tagger = Tagger(hidden, n_mentions, config.dropout)
        pair: dict[str, Any] = {"size": config.pair_size, "n_types": n_mentions, "dropout": config.pair_dropout}
        self.chains = ChainHead(hidden, lexical=config.lexical, text_alone=config.text_alone, **pair)
        classes = n_relations + (config.decision == "argmax")
        self.relations = RelationHead(hidden, classes, lexical=config.lexical, **pair)
        self.alignment = self.frame_relations = None
        if config.aligned and vision is not None:
            size = config.pair_size or hidden
            self.alignment = Alignment(hidden, size, n_mentions, config.dropout)
            self.frame_relations = FrameRelations(hidden, size, n_relations, config.dropout)

    def encode(self, batch: Batch) -> States:
        """The fused states; where a document lacks a modality, a construction stands in for it."""
        text = self.text(batch)
        batch_size, n_frames = batch.frame_mask.shape
        if self.vision is None:
            none = text.last.new_zeros(batch_size, 0, text.last.shape[2])
            images = Features(none, dict.fromkeys(text.levels, none), batch.frame_mask[:, :0])
        else:
            images = self.vision(batch)
        words = fuse(self.into_text, self.missing_frames, text, images)
        if self.vision is None:
            nothing = images.last[:, :, None]
            return States(words.features, batch.word_mask, nothing, images.last, images.mask, words.penalty)
        seen = fuse(self.into_frames, self.missing_text, images, text)
        patches = seen.features.unflatten(1, (n_frames, self.vision.n_patches))
        frames = self.frame_vectors(patches)
        return States(words.features, batch.word_mask, patches, frames, batch.frame_mask, words.penalty + seen.penalty)

    def chain_logits(self, states: States, mentions: MentionBatch) -> Tensor:
        """(batch, mentions, mentions, 2)."""
        logits: Tensor = self.chains(states.words, mentions)
        return logits.float()

    def alignment_logits(self, states: States, mentions: MentionBatch) -> Tensor | None:
        """Which chain a patch shows: (batch, frames, patches, chains + 1); None where `aligned` is off."""
        if self.alignment is None or not states.frame_mask.any():
            return None
        logits: Tensor = self.alignment(states.words, states.word_mask, states.patches, mentions)
        return logits.float()

    def frame_relation_logits(self, states: States) -> Tensor:
        """What each frame says of the two chains that it shows: (batch, frames, relation types)."""
        assert self.frame_relations is not None
        logits: Tensor = self.frame_relations(states.patches)
        return logits.float()

    def shows(self, states: States, mentions: MentionBatch) -> Tensor | None:
        """The chance that a frame shows a chain: (batch, chains, frames); None where nobody asks."""
        logits = self.alignment_logits(states, mentions)
        return None if logits is None else shown(logits) * states.frame_mask[:, None]

    def relation_logits(self, states: States, mentions: MentionBatch, shows: Tensor | None) -> Tensor:
        """(batch, chains, chains, relation types), and one more class for none where the decision is "argmax".

        `shows` (batch, chains, frames) is the chance that a frame shows a chain.
        """
        logits: Tensor = self.relations(states.words, mentions).float()
        if shows is None:
            return logits
        return with_frames(logits, self.frame_relation_logits(states), shows)

    def region_outputs(self, states: States) -> tuple[Tensor, Tensor]:
        """Types (batch, frames, slots, region types + 1) and boxes (batch, frames, slots, 4), centre and size."""
        types, boxes = self.regions(states.patches, states.frames)
        return types.float(), boxes.float()


def fuse(fusion: Fusion | None, construction: nn.Module | None, asked: Features, other: Features) -> Fused:
    """The `other` modality into the `asked` one, or what `construction` makes where a document lacks it (section V-E).

    Documents that lack the `asked` modality itself get zeros: there is nothing to ask.
    """
    if fusion is None or construction is None:
        return Fused(asked.last, asked.last.new_zeros(()))
    features = torch.zeros_like(asked.last)
    penalty = asked.last.new_zeros(())
    here, there = asked.mask.any(1), other.mask.any(1)
    if (index := (here & there).nonzero()[:, 0]).numel():
        own, source = asked.rows(index), other.rows(index)
        fused = fusion(own.last, own.mask, source.levels, source.mask)
        features = features.index_copy(0, index, fused.features.to(features.dtype))
        penalty = penalty + fused.penalty
    if (index := (here & ~there).nonzero()[:, 0]).numel():
        own = asked.rows(index)
        levels, mask = construction(own.last, own.mask)  # eq. 13, 14
        fused = fusion(own.last, own.mask, levels, mask)
        features = features.index_copy(0, index, fused.features.to(features.dtype))
        penalty = penalty + fused.penalty
    return Fused(features, penalty)


# --- from options to a model ------------------------------------------------------------------------------------------

READS = {"minilm": ("en",), "allenai/longformer-base-4096": ("en",), "bert-base-uncased": ("en",)}
"""The languages that known encoders read; others are taken to read what the user gives them."""


def text_encoder_name(config: Config, languages: Iterable[str]) -> str:
    """The one text encoder for documents in `languages`. Raises UserError where there is none that reads them all."""
    names = {lang: config.text_encoder_of(lang) for lang in sorted(languages)}
    for lang, name in names.items():
        if name is None:
            named = ", ".join(config.text_encoder)
            raise UserError(
                f"text_encoder {named}: names none for '{lang}': add {lang}=ID, or choose a language by --lang"
            )
        if lang not in READS.get(name, (lang,)):
            reads = " and ".join(READS[name])
            raise UserError(
                f"text_encoder {name}: reads {reads}, and there are documents in '{lang}': "
                f"give --lang {READS[name][0]}, or another --text-encoder"
            )
    if len(set(names.values())) > 1:
        told = ", ".join(f"{name} for '{lang}'" for lang, name in names.items())
        raise UserError(f"text_encoder: one model has one text encoder, and here are {told}: choose one by --lang")
    return next(iter(names.values()), None) or "tiny"


def build(
    config: Config,
    types: Types,
    *,
    text_encoder: nn.Module,
    vision_encoder: nn.Module | None,
) -> DFFM:
    """The model around its encoders; frozen ones are put to sleep and their features cached."""
    cache = None
    if config.freeze and config.cache_gb:
        cache = FeatureCache(cache_folder(), limit_bytes=int(config.cache_gb * 1e9))
    for kind, encoder in (("text", text_encoder), ("vision", vision_encoder)):
        if kind in config.freeze and encoder is not None:
            if not encoder.pretrained:
                raise UserError(
                    f"freeze {kind}: the tiny {kind} encoder must learn: only a pretrained one can be frozen"
                )
            encoder.requires_grad_(False)
    text = TextFeatures(
        text_encoder,
        window=config.window,
        overlap=config.overlap,
        frozen="text" in config.freeze,
        cache=cache,
    )
    vision = None
    if vision_encoder is not None:
        vision = FrameFeatures(
            vision_encoder,
            text.width,
            chunk=config.frame_chunk,
            checkpointing=config.checkpointing,
            frozen="vision" in config.freeze,
            cache=cache,
        )
    return DFFM(config, types, text, vision)
