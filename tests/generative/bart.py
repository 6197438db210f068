"""A tiny BART with random weights, as a folder of Hugging Face files; its tokenizer writes bytes."""

from __future__ import annotations

from pathlib import Path

import torch


def write_bart_tokenizer(folder: Path) -> Path:
    """Bytes, a blank before a word being one of them, as BART's without what it merges."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = ["<s>", "<pad>", "</s>", "<unk>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    plain = Tokenizer(models.BPE({name: i for i, name in enumerate(names)}, [], unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=plain, bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    tokenizer.save_pretrained(folder)
    return folder


def write_bart(folder: Path, positions: int = 128) -> Path:
    from transformers import BartConfig, BartForConditionalGeneration

    size = {"d_model": 16, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_position_embeddings": positions}
    layers = {f"{part}_{what}": 2 for part in ("encoder", "decoder") for what in ("layers", "attention_heads")}
    write_bart_tokenizer(folder)
    torch.manual_seed(0)
    BartForConditionalGeneration(BartConfig(vocab_size=260, **size, **layers)).save_pretrained(folder)
    return folder
