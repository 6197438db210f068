"""A tiny T5 with random weights, as a folder of Hugging Face files: English only, or of both languages as an mT5."""

from __future__ import annotations

from pathlib import Path

import torch

LATIN = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;-_[]<>"
HAN = "苏珊出生在北京。乔治是的父亲，她加入了皇家学会"


def write_t5_tokenizer(folder: Path, letters: str = LATIN) -> Path:
    """A Unigram model of letters with marks of beginnings, as T5's."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    specials = ["<pad>", "</s>", "<unk>"]
    pieces = [*((name, 0.0) for name in specials), ("▁", -2.0), ("▁the", -2.0), *((c, -4.0) for c in letters)]
    plain = Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=False))
    plain.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    plain.decoder = decoders.Metaspace(prepend_scheme="always")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )
    tokenizer.save_pretrained(folder)
    return folder


def write_t5(folder: Path, *, multilingual: bool = False) -> Path:
    """A T5 or, with Chinese letters and a head of its own, an mT5."""
    from transformers import MT5Config, MT5ForConditionalGeneration, T5Config, T5ForConditionalGeneration

    letters = LATIN + HAN if multilingual else LATIN
    write_t5_tokenizer(folder, letters)
    size = {"vocab_size": 8 + len(letters), "d_model": 16, "d_kv": 4, "d_ff": 32, "num_layers": 2, "num_heads": 4}
    torch.manual_seed(0)
    if multilingual:
        MT5ForConditionalGeneration(MT5Config(**size)).save_pretrained(folder)
    else:
        T5ForConditionalGeneration(T5Config(**size)).save_pretrained(folder)
    return folder
