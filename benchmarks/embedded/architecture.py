"""A small Qwen3-VL, with a copying prior written into its first two layers.

Names and shapes are those of any Qwen3-VL. Initialized by hand: the embeddings leave RESERVED dimensions free, and one
more is constant for all tokens. In layer 0 two heads attend to the previous token (their queries and keys come from the
constant dimension, so that only the rotary positions matter) and write it into the free dimensions. In layer 1 all
heads attend to tokens whose predecessor is the current token, and copy them (induction heads). All else starts small
and random; everything is trained. `ordinary=True` keeps the library's own initialization: the control.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

WIDTH, LAYERS, HEADS, HEAD, FEED = 128, 6, 4, 32, 320
SIGHT, DEPTH, EYES = 64, 3, 4
PATCH, MERGE = 8, 2
PIXELS = (16 * 16 * 4, 5600)
"""The minimum and maximum pixels of an input frame: one of 160 x 120 becomes 80 x 64, 20 tokens."""
THETA = 1e6
SCALE = 0.05
RESERVED = 64
CONSTANT = 0.2


def make_config(tokenizer: Any) -> Any:
    from transformers import Qwen3VLConfig

    names = {"vision_start": "vision_start", "vision_end": "vision_end", "image": "image_pad", "video": "video_pad"}
    ids = {f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{token}|>") for name, token in names.items()}
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "intermediate_size": FEED,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "head_dim": HEAD,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": True,
        "rope_parameters": {
            "rope_type": "default", "rope_theta": THETA, "mrope_section": [6, 5, 5], "mrope_interleaved": True,
        },
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
        "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip
    vision = {
        "depth": DEPTH,
        "hidden_size": SIGHT,
        "num_heads": EYES,
        "intermediate_size": 2 * SIGHT,
        "out_hidden_size": WIDTH,
        "patch_size": PATCH,
        "spatial_merge_size": MERGE,
        "num_position_embeddings": 100,
        "deepstack_visual_indexes": [1],
    }
    return Qwen3VLConfig(vision_config=vision, text_config=text, tie_word_embeddings=True, **ids)


def make_processor(tokenizer: Any) -> Any:
    from transformers import Qwen2VLImageProcessor, Qwen3VLProcessor, Qwen3VLVideoProcessor

    size = {"shortest_edge": PIXELS[0], "longest_edge": PIXELS[1]}
    shape = {"patch_size": PATCH, "merge_size": MERGE, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=size, **shape),
        video_processor=Qwen3VLVideoProcessor(**shape),
        tokenizer=tokenizer,
        chat_template=tokenizer.chat_template,
    )


def make_model(tokenizer: Any, *, seed: int = 0, ordinary: bool = False) -> Any:
    from transformers import Qwen3VLForConditionalGeneration

    torch.manual_seed(seed)
    model = Qwen3VLForConditionalGeneration(make_config(tokenizer))
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    if not ordinary:
        write_prior(model, tokenizer, seed=seed)
    return model


@torch.no_grad()
def write_prior(model: Any, tokenizer: Any, *, seed: int) -> None:
    """Write the copying prior, and embeddings in which twins and neighbouring coordinates start similar."""
    text = model.model.language_model
    generator = torch.Generator().manual_seed(seed)
    free = slice(WIDTH - RESERVED - 1, WIDTH - 1)
    known = WIDTH - RESERVED - 1

    def normal(weight: torch.Tensor, std: float) -> None:
        weight.normal_(0, std, generator=generator)

    for layer in text.layers:
        attention, mlp = layer.self_attn, layer.mlp
        for linear in (attention.q_proj, attention.k_proj, attention.v_proj, mlp.gate_proj, mlp.up_proj):
            normal(linear.weight, 0.5 / math.sqrt(WIDTH))
        for linear in (attention.o_proj, mlp.down_proj):
            normal(linear.weight, 0.2 * SCALE / math.sqrt(WIDTH))
    _embed(text.embed_tokens.weight, tokenizer, generator, known)

    first, second = text.layers[0].self_attn, text.layers[1].self_attn
    frequency = THETA ** (-torch.arange(0, HEAD, 2).float() / HEAD)
    fast = torch.arange(HEAD // 2) < 4
    # Layer 0: two heads attend to the previous token, by the four fastest rotations.
    gain = torch.where(fast, 2.8, 1.0).repeat(2)
    first.q_norm.weight.copy_(gain)
    first.k_norm.weight.copy_(gain)
    quiet = torch.where(fast, 0.1, 1.0).repeat(2)
    first.q_proj.weight.mul_(quiet.repeat(HEADS)[:, None])
    first.k_proj.weight.mul_(quiet.repeat(HEADS)[:, None])
    here = torch.cat([fast.float(), torch.zeros(HEAD // 2)])
    before = torch.cat([fast * frequency.cos(), fast * frequency.sin()])
    for h in range(2):
        rows = slice(h * HEAD, (h + 1) * HEAD)
        for projection, vector in ((first.q_proj, here), (first.k_proj, before)):
            projection.weight[rows] *= 0.05
            projection.weight[rows, WIDTH - 1] = vector
        first.v_proj.weight[rows] = 0
        first.v_proj.weight[rows, h * HEAD : (h + 1) * HEAD] = torch.eye(HEAD)
        first.o_proj.weight[:, rows] = 0
        first.o_proj.weight[free, :][h * HEAD : (h + 1) * HEAD, rows] = SCALE * torch.eye(HEAD)
    # Layer 1: copy the token after an equal one; by the slow rotations, so that distance does not matter.
    slow = torch.arange(HEAD // 2) >= 6
    gain = torch.where(slow, 2.2, 0.3).repeat(2)
    second.q_norm.weight.copy_(gain)
    second.k_norm.weight.copy_(gain)
    for h in range(HEADS):
        rows = slice(h * HEAD, (h + 1) * HEAD)
        start = (h % 2) * HEAD
        turn = torch.linalg.qr(torch.randn(HEAD, HEAD, generator=generator))[0]
        second.q_proj.weight[rows] = 0
        second.k_proj.weight[rows] = 0
        second.q_proj.weight[rows, start : start + HEAD] = turn
        second.k_proj.weight[rows, free.start + start : free.start + start + HEAD] = turn
        source = h * HEAD if (h + 1) * HEAD <= known else start
        n = min(HEAD, known - source)
        second.v_proj.weight[rows] = 0
        second.v_proj.weight[rows, source : source + n] = torch.eye(HEAD)[:, :n]
        second.o_proj.weight[:, rows] = 0
        second.o_proj.weight[source : source + n, rows] = 1.5 * SCALE * torch.eye(HEAD)[:n]

    visual = model.model.visual
    for parameter in visual.parameters():
        if parameter.ndim >= 2:
            normal(parameter, 0.7 / math.sqrt(parameter[0].numel()))
    normal(visual.pos_embed.weight, 0.5)
    normal(visual.merger.linear_fc2.weight, SCALE / math.sqrt(0.4 * visual.merger.linear_fc2.in_features))
    visual.merger.linear_fc2.bias.zero_()
    visual.merger.linear_fc2.bias[WIDTH - 1] = CONSTANT
    for merger in visual.deepstack_merger_list:
        normal(merger.linear_fc2.weight, 0.2 * SCALE / math.sqrt(0.4 * merger.linear_fc2.in_features))


def _embed(weight: torch.Tensor, tokenizer: Any, generator: torch.Generator, known: int) -> None:
    weight.zero_()
    drawn = torch.randn(weight.shape[0], known, generator=generator)
    waves = torch.randn(known, generator=generator)
    phases = torch.rand(known, generator=generator) * 2 * math.pi
    vocabulary = tokenizer.get_vocab()
    for token, i in sorted(vocabulary.items(), key=lambda one: one[1]):
        base = vocabulary.get(token.removesuffix("Ġ").removesuffix(","), i)
        number = token.removesuffix(",")
        if number.isdecimal() and int(number) <= 1000 and int(number) % 20 == 0:
            smooth = math.sqrt(2) * torch.cos(waves * int(number) / 150 + phases)
            drawn[i] = 0.8 * smooth + 0.6 * drawn[i]
        elif base != i:
            drawn[i] = 0.8 * drawn[base] + 0.6 * drawn[i]
    weight[:, :known] = SCALE * drawn
    weight[:, -1] = CONSTANT


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Save the weights in half precision, with the processor; the configuration computes in single precision."""
    folder.mkdir(parents=True, exist_ok=True)
    make_processor(tokenizer).save_pretrained(folder)
    state = {name: tensor.detach().clone().half() for name, tensor in model.state_dict().items()}
    state.pop("lm_head.weight", None)
    model.save_pretrained(folder, state_dict=state)
