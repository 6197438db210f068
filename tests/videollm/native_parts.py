"""Tiny native models written as their authors published theirs: a folder of parts, under the names of their files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

from m3dllm.systems.videollm.engines.native.video_llama_model import own_tensors, published


def write(engine: Any, folder: Path) -> Path:
    """The parts of an engine's model."""
    return {"video-chatgpt": _video_chatgpt, "video-llama-2": _video_llama}[engine.name](engine, folder)


def _video_chatgpt(engine: Any, folder: Path) -> Path:
    model = engine.model
    _language(engine, folder / "language", "llava", {"model.mm_projector.weight": torch.zeros(3, 3)})
    vision = {f"vision_model.{name}": value for name, value in model.vision.state_dict().items()}
    whole = vision | {"logit_scale": torch.zeros(()), "text_model.final_layer_norm.weight": torch.zeros(8)}
    _part(folder / "vision", {"model_type": "clip", "vision_config": model.vision.config.to_dict()}, whole)
    own = {f"model.mm_projector.{name}": value for name, value in model.mm_projector.state_dict().items()}
    own["model.embed_tokens.weight"] = model.language_model.get_input_embeddings().weight.detach()
    torch.save(own, folder / "video_chatgpt-7B.bin")
    return folder


def _video_llama(engine: Any, folder: Path) -> Path:
    model = engine.model
    _language(engine, folder / "llama-2-7b-chat-hf", "llama", {})
    frozen = model.frames.state_dict() | {"language_projection.weight": torch.zeros(2, 2)}
    _part(folder / "blip2", engine.local.blip2_config.to_dict(), frozen, shards=2)
    own = {published(name): value for name, value in own_tensors(model).items()}
    own["video_Qformer.bert.embeddings.position_ids"] = torch.arange(4)[None]
    torch.save({"model": own, "optimizer": {"state": {0: {"step": 1}}}, "epoch": 3}, folder / engine.local.files[1])
    return folder


def _language(engine: Any, folder: Path, kind: str, more: dict[str, torch.Tensor]) -> None:
    """The language model before it was given a clip's tokens, with what else its file holds."""
    base = LlamaForCausalLM(engine.local.config)
    kept = {n: v for n, v in engine.model.language_model.state_dict().items() if v.shape == base.state_dict()[n].shape}
    base.load_state_dict(kept, strict=False)
    base.save_pretrained(folder)
    engine.local.tokenizer.save_pretrained(folder)
    file = folder / "model.safetensors"
    save_file(load_file(file) | more, file, metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": kind, "mm_hidden_size": 32}))


def _part(folder: Path, config: dict[str, Any], tensors: dict[str, torch.Tensor], *, shards: int = 1) -> None:
    """A part of one file of weights, or of several pickles and their index."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, default=str))
    if shards == 1:
        save_file({name: value.contiguous() for name, value in tensors.items()}, folder / "model.safetensors")
        return
    files = {name: f"pytorch_model-{i % shards}.bin" for i, name in enumerate(tensors)}
    for file in set(files.values()):
        torch.save({name: value for name, value in tensors.items() if files[name] == file}, folder / file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": files}))
