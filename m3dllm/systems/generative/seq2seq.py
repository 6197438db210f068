"""The encoder-decoder: a tiny one from scratch, or a pretrained T5, mT5 or BART; loss and decoding of a T5."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from m3dllm.errors import UserError
from m3dllm.systems.generative.codec import Codec, PretrainedCodec, TinyCodec, load_codec
from m3dllm.systems.generative.config import Config
from m3dllm.systems.generative.grammar import GrammarConstraint, Walk
from m3dllm.systems.supervised.config import TINY_HEADS
from m3dllm.systems.supervised.hub import NO_CODE, fetching, load_whole, loading_options

IGNORED = -100
"""The label of positions without a loss."""
POSITIONS = 1024
"""The number of positions of a tiny BART."""
DROPOUT = {"t5": "dropout_rate", "mt5": "dropout_rate", "bart": "dropout"}
"""model type -> the name of dropout in its configuration."""


class Seq2Seq(nn.Module):
    """An encoder-decoder with its tokenizer. The methods are those of a T5."""

    def __init__(self, model: Any, codec: Codec, *, pretrained: bool) -> None:
        super().__init__()
        self.model, self.codec, self.pretrained = model, codec, pretrained
        self.width = int(model.config.d_model)

    def encode(self, pieces: Tensor, mask: Tensor) -> Tensor:
        """(queries, pieces) and their mask -> the encoder's states (queries, pieces, width)."""
        states: Tensor = self.model.get_encoder()(input_ids=pieces, attention_mask=mask.long()).last_hidden_state
        return states

    def encode_with(self, pieces: Tensor, mask: Tensor, rows: Tensor, row_mask: Tensor) -> tuple[Tensor, Tensor]:
        """The states and mask of the pieces followed by rows (queries, rows, width)."""
        read, mask = packed(
            torch.cat([self.model.get_input_embeddings()(pieces), rows], 1), torch.cat([mask, row_mask], 1)
        )
        return self.model.get_encoder()(inputs_embeds=read, attention_mask=mask.long()).last_hidden_state, mask

    def decode(self, states: Tensor, mask: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(logits of the next piece (queries, written, pieces), the decoder's last states (queries, written, width)).

        labels: (queries, written), `IGNORED` on padding; each piece is predicted from those before it.
        """
        from transformers.modeling_outputs import BaseModelOutput

        out = self.model(
            encoder_outputs=BaseModelOutput(last_hidden_state=_floats(states)),
            attention_mask=mask.long(),
            decoder_input_ids=shifted(labels, self.codec.pad),
            output_hidden_states=True,
            use_cache=False,
        )
        return out.logits, out.decoder_hidden_states[-1]

    @torch.no_grad()
    def write(self, states: Tensor, mask: Tensor, walks: Sequence[Walk] | None, most: int) -> list[list[int]]:
        """The greedily decoded answers, at most `most` pieces: without the start, with the end if it was reached."""
        from transformers import DynamicCache, EncoderDecoderCache, GenerationConfig, LogitsProcessorList
        from transformers.modeling_outputs import BaseModelOutput

        constraints = [] if walks is None else [GrammarConstraint(walks)]
        written = self.model.generate(
            encoder_outputs=BaseModelOutput(last_hidden_state=_floats(states)),
            attention_mask=mask.long(),
            past_key_values=EncoderDecoderCache(DynamicCache(), DynamicCache()),  # theirs has the encoder's layers
            logits_processor=LogitsProcessorList(constraints),
            generation_config=GenerationConfig(
                max_new_tokens=most,
                do_sample=False,
                num_beams=1,
                pad_token_id=self.codec.pad,
                eos_token_id=self.codec.end,
                decoder_start_token_id=self.codec.pad,
            ),
        )
        return [until_end(row, self.codec.end) for row in written[:, 1:].tolist()]

    def save_description(self, folder: Path) -> None:
        """Write what `empty_seq2seq` needs of a pretrained model besides its weights."""
        self.model.config.save_pretrained(folder)
        self.codec.save(folder)


def packed(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """(queries, places, width) and their mask, with padding moved to the end."""
    order = (~mask).long().argsort(dim=1, stable=True)
    return x.gather(1, order[..., None].expand_as(x)), mask.gather(1, order)


def shifted(labels: Tensor, start: int) -> Tensor:
    """The decoder's input to predict `labels`: shifted by one, after `start`."""
    before = torch.cat([labels.new_full((len(labels), 1), start), labels[:, :-1]], 1)
    return before.masked_fill(before == IGNORED, start)


def text_loss(scores: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """The sum of the cross entropies of the pieces, with label smoothing.

    A score of minus infinity marks a piece that does not exist.
    """
    found = scores.flatten(0, 1).float().log_softmax(-1)
    loss = F.nll_loss(found, labels.flatten(), ignore_index=IGNORED, reduction="sum")
    if not smoothing:
        return loss
    found = found[labels.flatten() != IGNORED]
    real = found > -torch.inf
    uniform = -(found.masked_fill(~real, 0.0).sum(-1) / real.sum(-1)).sum()
    return (1 - smoothing) * loss + smoothing * uniform


def _floats(states: Tensor) -> Any:
    """The states with the static type that transformers expects."""
    return states


def until_end(row: list[int], end: int) -> list[int]:
    """The pieces up to and including the end, if it was reached."""
    return row[: row.index(end) + 1] if end in row else row


# --- construction -----------------------------------------------------------------------------------------------------


def new_tiny(config: Config, codec: TinyCodec) -> Seq2Seq:
    """A small model with random weights."""
    return Seq2Seq(TINY[config.kinds[0]](config, codec), codec, pretrained=False)


def _tiny_t5(config: Config, codec: TinyCodec) -> Any:
    from transformers import T5Config, T5ForConditionalGeneration

    described = T5Config(
        vocab_size=codec.size,
        d_model=config.hidden,
        d_kv=config.hidden // TINY_HEADS,
        d_ff=2 * config.hidden,
        num_layers=config.layers,
        num_decoder_layers=config.decoder_layers,
        num_heads=TINY_HEADS,
        dropout_rate=config.dropout,
        pad_token_id=codec.pad,
        eos_token_id=codec.end,
    )
    return T5ForConditionalGeneration(described)


def _tiny_bart(config: Config, codec: TinyCodec) -> Any:
    from transformers import BartConfig, BartForConditionalGeneration

    described = BartConfig(
        vocab_size=codec.size,
        d_model=config.hidden,
        encoder_ffn_dim=2 * config.hidden,
        decoder_ffn_dim=2 * config.hidden,
        encoder_layers=config.layers,
        decoder_layers=config.decoder_layers,
        encoder_attention_heads=TINY_HEADS,
        decoder_attention_heads=TINY_HEADS,
        max_position_embeddings=POSITIONS,
        dropout=config.dropout,
        pad_token_id=codec.pad,
        bos_token_id=codec.end,
        eos_token_id=codec.end,
        decoder_start_token_id=codec.end,
        forced_eos_token_id=None,
    )
    return BartForConditionalGeneration(described)


TINY: Mapping[str, Callable[[Config, TinyCodec], Any]] = {"t5": _tiny_t5, "bart": _tiny_bart}


def load_seq2seq(name: str, config: Config) -> Seq2Seq:
    """The pretrained `name`: a Hugging Face id or a folder. Raises UserError if it is not available or incomplete."""
    from transformers import AutoConfig, AutoModelForSeq2SeqLM

    with fetching("text_model", name):
        options = loading_options(name)
        kind = AutoConfig.from_pretrained(name, **options, **NO_CODE).model_type
        _check_kind(kind, name, config)
        codec = load_codec(name, options)
        dropout = {DROPOUT[kind]: config.dropout}
        model = load_whole(AutoModelForSeq2SeqLM, "text_model", name, **dropout, **options)
        _fit_vocabulary(model, codec)
    if config.checkpointing:
        model.gradient_checkpointing_enable()
    return Seq2Seq(model, codec, pretrained=True)


def empty_seq2seq(folder: Path, config: Config) -> Seq2Seq:
    """The model described by `save_description`, with weights still to be loaded."""
    from transformers import AutoConfig, AutoModelForSeq2SeqLM

    with fetching("checkpoint", str(folder)):
        described = AutoConfig.from_pretrained(folder, **NO_CODE)
        _check_kind(described.model_type, str(folder), config)
        model = AutoModelForSeq2SeqLM.from_config(described, dtype=torch.float32, **NO_CODE)
        return Seq2Seq(model, load_codec(str(folder)), pretrained=True)


def _check_kind(kind: str, name: str, config: Config) -> None:
    if kind not in config.kinds:
        raise UserError(f"text_model {name}: is a '{kind}': expected {' or '.join(config.kinds)}")


def _fit_vocabulary(model: Any, codec: PretrainedCodec) -> None:
    """Make room for the marks: published weights have more rows than the tokenizer has pieces, or get more."""
    if codec.size > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(codec.size)
