"""Tiny models of the real architectures, with random weights: built, saved and loaded like large ones.

The tokenizer is a byte-level BPE trained on a few lines here, with the special tokens and the chat format of its
family. As with real Qwen models, the model's vocabulary is larger than the tokenizer's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

LINES = [
    "Ada was born in Arles . Her brother Bela met Cora in 1976 , and the old painter lived in Basel .",
    '{"chains":[{"id":"c0","type":"PER","mentions":["Ada",["Bela",2]]}],"relations":[{"head":"c0","tail":"c1"}]}',
    '"regions":[{"frame":24,"type":"LOC","chain":null,"box":[0,1,23,456]},{"frame":345,"box":[0.123,0.456,0.7,0.89]}]',
    "苏珊出生在北京。她的哥哥乔治在巴黎遇见了她的丈夫，他们住在上海的一座老房子里。一九七六年八月十六日。",
    "PER-PER_couple PER-LOC_birth ORG TIME Frame subtitles entities mentions answer 请找出这个片段中的实体",
] * 4
PADDING = 37
"""How many more tokens the model knows than its tokenizer."""

QWEN_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"] + [
    f"<|{name}|>" for name in ("vision_start", "vision_end", "vision_pad", "image_pad", "video_pad")
]
QWEN_CHAT = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content -%}
{%- if part.type == 'image' -%}<|vision_start|><|image_pad|><|vision_end|>
{%- elif part.type == 'video' -%}<|vision_start|><|video_pad|><|vision_end|>
{%- else -%}{{ part.text }}{%- endif -%}
{%- endfor %}{% endif %}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif -%}
"""
THINKING_CHAT = QWEN_CHAT.replace(
    "{% endif -%}\n",
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif -%}\n",
)
"""As of the hybrid Qwen3: told not to think, it writes the empty thought itself."""
LLAVA_TOKENS = ["<unk>", "<s>", "</s>", "<pad>", "<image>"]
LLAVA_CHAT = """\
{%- for message in messages -%}
{%- if message.role == 'system' -%}{{ raise_exception('no system message is known here') }}{%- endif -%}
{{ message.role | upper }}: {% for part in message.content %}{% if part.type == 'image' %}<image>
{% else %}{{ part.text }}{% endif %}{% endfor %} {% endfor -%}
{%- if add_generation_prompt %}ASSISTANT:{% endif -%}
"""
INTERNVL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>", "<video>"]
INTERNVL_CHAT = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content -%}
{%- if part.type == 'image' -%}<IMG_CONTEXT>
{% elif part.type == 'video' -%}<video>
{% else -%}{{ part.text }}{%- endif -%}
{%- endfor %}{% endif %}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif -%}
"""


def tokenizer(specials: list[str], chat: str, *, eos: str, pad: str, **more: Any) -> PreTrainedTokenizerFast:
    """A byte-level BPE of a few hundred tokens."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=specials, initial_alphabet=alphabet, show_progress=False, min_frequency=2
    )
    made.train_from_iterator(LINES, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        eos_token=eos,
        pad_token=pad,
        additional_special_tokens=specials,
        chat_template=chat,
        model_max_length=100_000,
        **more,
    )


def qwen2_5_vl(folder: Path, *, seed: int = 0) -> Path:
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    tokens = tokenizer(QWEN_TOKENS, QWEN_CHAT, eos="<|im_end|>", pad="<|endoftext|>")
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "num_heads": 2,
        "intermediate_size": 64,
        "out_hidden_size": 64,
        "fullatt_block_indexes": [1],
        "window_size": 56,
    }
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [6, 5, 5]}
    ends = {"bos_token_id": tokens.convert_tokens_to_ids("<|endoftext|>"), "eos_token_id": tokens.eos_token_id}
    text = _text(tokens) | ends | {"rope_parameters": rope}
    config = Qwen2_5_VLConfig(vision_config=vision, text_config=text, **_qwen_ids(tokens))
    processor = Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size={"shortest_edge": 28 * 28 * 2, "longest_edge": 28 * 28 * 12}),
        video_processor=Qwen2VLVideoProcessor(),
        tokenizer=tokens,
        chat_template=QWEN_CHAT,
    )
    return _save(Qwen2_5_VLForConditionalGeneration, config, processor, folder, seed)


QWEN3_VISION: dict[str, Any] = {
    "depth": 2,
    "hidden_size": 32,
    "num_heads": 2,
    "intermediate_size": 64,
    "out_hidden_size": 64,
    "num_position_embeddings": 64,
}


def _qwen3_processor(tokens):
    from transformers import Qwen2VLImageProcessor, Qwen3VLProcessor, Qwen3VLVideoProcessor

    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(
            size={"shortest_edge": 32 * 32 * 2, "longest_edge": 32 * 32 * 12}, patch_size=16
        ),
        video_processor=Qwen3VLVideoProcessor(),
        tokenizer=tokens,
        chat_template=QWEN_CHAT,
    )


def qwen3_vl(folder: Path, *, seed: int = 0) -> Path:
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    tokens = tokenizer(QWEN_TOKENS, QWEN_CHAT, eos="<|im_end|>", pad="<|endoftext|>")
    vision = QWEN3_VISION | {"deepstack_visual_indexes": [0]}
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [6, 5, 5], "mrope_interleaved": True}
    text = _text(tokens) | {"head_dim": 32, "rope_parameters": rope}
    config = Qwen3VLConfig(vision_config=vision, text_config=text, **_qwen_ids(tokens))
    return _save(Qwen3VLForConditionalGeneration, config, _qwen3_processor(tokens), folder, seed)


def qwen3_5(folder: Path, *, seed: int = 0) -> Path:
    """A model of which every other layer keeps a state instead of keys and values."""
    from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration

    tokens = tokenizer(QWEN_TOKENS, QWEN_CHAT, eos="<|im_end|>", pad="<|endoftext|>")
    rope = {
        "rope_type": "default",
        "rope_theta": 1e4,
        "partial_rotary_factor": 0.25,
        "mrope_section": [2, 1, 1],
        "mrope_interleaved": True,
    }
    linear = {f"linear_{name}": 2 for name in ("num_key_heads", "num_value_heads")}
    linear |= {f"linear_{name}_head_dim": 16 for name in ("key", "value")}
    kinds = ["linear_attention", "full_attention"]
    text = _text(tokens) | linear | {"head_dim": 32, "rope_parameters": rope, "layer_types": kinds}
    config = Qwen3_5Config(vision_config=QWEN3_VISION, text_config=text, **_qwen_ids(tokens))
    return _save(Qwen3_5ForConditionalGeneration, config, _qwen3_processor(tokens), folder, seed)


def llava(folder: Path, *, seed: int = 0) -> Path:
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    tokens = tokenizer(LLAVA_TOKENS, LLAVA_CHAT, eos="</s>", pad="<pad>", bos_token="<s>", unk_token="<unk>")
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
    )
    text = LlamaConfig(**_text(tokens), eos_token_id=tokens.eos_token_id, bos_token_id=tokens.bos_token_id)
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=tokens.convert_tokens_to_ids("<image>")
    )
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}),
        tokenizer=tokens,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<image>",
        chat_template=LLAVA_CHAT,
    )
    _save(LlavaForConditionalGeneration, config, processor, folder, seed)
    weights = load_file(folder / "model.safetensors")  # under the names of the hub's checkpoints, which vLLM wants
    named = {name.replace("vision_tower.", "vision_tower.vision_model."): value for name, value in weights.items()}
    save_file(named, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def internvl(folder: Path, *, seed: int = 0) -> Path:
    from transformers import (
        GotOcr2ImageProcessor,
        InternVLConfig,
        InternVLForConditionalGeneration,
        InternVLProcessor,
        InternVLVideoProcessor,
    )

    named = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    tokens = tokenizer(
        INTERNVL_TOKENS, INTERNVL_CHAT, eos="<|im_end|>", pad="<|endoftext|>", extra_special_tokens=named
    )
    vision = {
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": [56, 56],
        "patch_size": [14, 14],
        "use_mean_pooling": True,
    }
    text = _text(tokens) | {"model_type": "qwen2", "eos_token_id": tokens.eos_token_id}
    config = InternVLConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=tokens.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
        tie_word_embeddings=False,
    )
    processor = InternVLProcessor(
        image_processor=GotOcr2ImageProcessor(size={"height": 56, "width": 56}, min_patches=1, max_patches=4),
        video_processor=InternVLVideoProcessor(size={"height": 56, "width": 56}),
        tokenizer=tokens,
        image_seq_length=4,
        chat_template=INTERNVL_CHAT,
    )
    return _save(InternVLForConditionalGeneration, config, processor, folder, seed)


def text_only(folder: Path, *, seed: int = 0) -> Path:
    """A language model without vision."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokens = tokenizer(QWEN_TOKENS, QWEN_CHAT, eos="<|im_end|>", pad="<|endoftext|>")
    config = LlamaConfig(**_text(tokens), eos_token_id=tokens.eos_token_id)
    return _save(LlamaForCausalLM, config, tokens, folder, seed)


def thinking(folder: Path, *, seed: int = 0) -> Path:
    """A language model that may think, and soon ends its thoughts."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokens = tokenizer([*QWEN_TOKENS, "<think>", "</think>"], THINKING_CHAT, eos="<|im_end|>", pad="<|endoftext|>")
    config = LlamaConfig(**_text(tokens), eos_token_id=tokens.eos_token_id)
    _save(LlamaForCausalLM, config, tokens, folder, seed)
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"][tokens.convert_tokens_to_ids("</think>")] *= 3
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def gguf(file: Path) -> Path:
    """`text_only` as one file of llama.cpp's format."""
    import json

    from gguf import GGUFWriter, TokenType

    folder = text_only(file.parent / "folder")
    config = json.loads((folder / "config.json").read_text())
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    writer = GGUFWriter(file, "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    words = sorted(model["vocab"], key=model["vocab"].get)
    words += [f"<unused{i}>" for i in range(config["vocab_size"] - len(words))]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(words)
    writer.add_token_types([TokenType.CONTROL if word in QWEN_TOKENS else TokenType.NORMAL for word in words])
    writer.add_token_merges([" ".join(merge) for merge in model["merges"]])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_chat_template(QWEN_CHAT)
    for name, value in load_file(folder / "model.safetensors").items():
        if ".q_proj" in name or ".k_proj" in name:  # llama.cpp turns pairs of neighbours, the library halves
            parts = heads if ".q_proj" in name else kv_heads
            value = value.reshape(parts, 2, -1, value.shape[1]).swapaxes(1, 2).reshape(value.shape)
        writer.add_tensor(_gguf_name(name), value.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _gguf_name(name: str) -> str:
    names = {
        "model.embed_tokens": "token_embd",
        "model.norm": "output_norm",
        "lm_head": "output",
        "model.layers.": "blk.",
        "self_attn.o_proj": "attn_output",
        "self_attn.": "attn_",
        "mlp.": "ffn_",
        "_proj": "",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    for ours, theirs in names.items():
        name = name.replace(ours, theirs)
    return name


def _text(tokens: PreTrainedTokenizerFast) -> dict[str, object]:
    return {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,  # vLLM wants heads of at least 32
        "num_key_value_heads": 1,
        "vocab_size": len(tokens) + PADDING,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": False,
    }


def _qwen_ids(tokens: PreTrainedTokenizerFast) -> dict[str, int]:
    names = ("vision_start", "vision_end", "image", "video")
    written = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    return {f"{n}_token_id": tokens.convert_tokens_to_ids(w) for n, w in zip(names, written, strict=True)}


def _save(kind: type, config: object, processor: object, folder: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    model = kind(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.normal_(0, 0.08)
    model.generation_config.eos_token_id = getattr(processor, "tokenizer", processor).eos_token_id
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
