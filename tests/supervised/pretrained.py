"""A tiny multilingual encoder with random weights, as a folder of Hugging Face files."""

from __future__ import annotations

from pathlib import Path

import torch

PIECES = ("▁", "出生", "北京", "苏", "珊", "在", "的", "。", "▁in", "▁was", "▁met", "▁Born", "Bor")


def write_multilingual(folder: Path) -> Path:
    """A BERT whose pieces, of a Unigram model with marks of beginnings, hold several Chinese characters, as XLM-R's."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,她乔治是父亲，加入了"
    pieces = [*((name, 0.0) for name in specials), *((piece, -1.0) for piece in PIECES), *((c, -4.0) for c in letters)]
    plain = Tokenizer(models.Unigram(pieces, unk_id=3, byte_fallback=False))
    plain.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    named = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>"}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=plain, unk_token="<unk>", pad_token="<pad>", model_max_length=62, **named
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(pieces),
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=62,
        pad_token_id=1,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder
