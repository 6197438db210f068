"""The pointer mechanism of H-Index: a BART whose encoder also reads rows, and whose decoder points to words.

With E the embeddings of pieces and H the states of the encoder:

    x_p = (MLP(H_p) + E_p) / 2        a word, at its first piece
    v_r = (MLP(H_r) + W f_r) / 2      a row, of features f_r
    P(i | …) = softmax(h · x_i)       over words, flags and types (their own embeddings), and the end (E of it)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from m3dllm.systems.generative.codec import Slots
from m3dllm.systems.generative.seq2seq import Seq2Seq
from m3dllm.systems.hindex.indices import FLAGS, START, Indices


class Table(NamedTuple):
    """The vectors of the indices that may be written, for some queries."""

    read: Tensor
    """(queries, indices, width): the decoder's input embeddings."""
    pointed: Tensor
    """(queries, indices, width): the vectors that the decoder's states are multiplied by."""
    mask: Tensor
    """(queries, indices): False for the start, and for padding words."""


class Pointers(nn.Module):
    """The parameters added to a BART: embeddings of flags and types, and the MLP on the encoder's states."""

    def __init__(self, text: Seq2Seq, indices: Indices, dropout: float) -> None:
        super().__init__()
        width, embed = text.width, text.model.get_input_embeddings()
        self.names = nn.Embedding(len(FLAGS) + len(indices.types), width)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.Dropout(dropout), nn.ReLU(), nn.Linear(width, width))
        self.dropout = nn.Dropout(dropout)
        with torch.no_grad():  # each starts as the mean of its name's pieces
            for row, name in zip(self.names.weight, (*FLAGS, *indices.types), strict=True):
                row.copy_(embed(torch.tensor(text.codec.encode(name, Slots()))).mean(0))

    def vectors(self, states: Tensor, embedded: Tensor) -> Tensor:
        """The pointer targets: (…, width), (…, width) -> (…, width)."""
        out: Tensor = (self.mlp(states) + self.dropout(embedded)) / 2
        return out

    def table(self, ends: Tensor, states: Tensor, words: Tensor, mask: Tensor) -> Table:
        """From E of start and end (2, width), and the words' states, E (queries, words, width) and mask."""
        fixed = torch.cat([ends, self.names.weight]).expand(len(words), -1, -1)
        real = mask.new_ones(fixed.shape[:2])
        real[:, START] = False
        return Table(
            torch.cat([fixed, words], 1),
            torch.cat([self.dropout(fixed), self.vectors(states, words)], 1),
            torch.cat([real, mask], 1),
        )


def encode(bart: Any, pieces: Tensor, mask: Tensor, rows: Tensor, row_mask: Tensor) -> tuple[Tensor, Tensor]:
    """The states of pieces (queries, pieces) followed by rows (queries, rows, width), and their mask.

    Rows have no positions, and no norm before the layers.
    """
    from transformers.masking_utils import create_bidirectional_mask

    encoder = bart.get_encoder()
    words = encoder.layernorm_embedding(encoder.embed_tokens(pieces) + encoder.embed_positions(pieces))
    states = F.dropout(torch.cat([words, rows], 1), encoder.dropout, encoder.training)
    mask = torch.cat([mask, row_mask], 1)
    seen = create_bidirectional_mask(config=encoder.config, inputs_embeds=states, attention_mask=mask.long())
    for layer in encoder.layers:
        states = layer(states, seen)
    return states, mask


def decode(bart: Any, read: Tensor, states: Tensor, mask: Tensor, cache: Any = None) -> Tensor:
    """The decoder's states (queries, read, width) for its input (queries, read, width) and the encoder's states."""
    out: Tensor = bart.get_decoder()(
        inputs_embeds=read,
        encoder_hidden_states=states,
        encoder_attention_mask=mask.long(),
        past_key_values=cache,
        use_cache=cache is not None,
    ).last_hidden_state
    return out
