"""Loading a model of the transformers library: its precision, its weights."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from m3dllm.errors import UserError
from m3dllm.progress import progress
from m3dllm.systems.videollm.engines.local.model import LocalModel


def load_model(local: LocalModel, dtype: str, device: torch.device, **more: Any) -> Any:
    """The model with its weights. Raises UserError where they do not fit into memory, or cannot be read."""
    loader = AutoModelForImageTextToText if local.sees else AutoModelForCausalLM
    numbers = dtype if dtype == "auto" else _dtype(dtype)
    try:
        with progress(f"loading model '{local.name}'"):
            model: Any = loader.from_pretrained(local.source, dtype=numbers, **local.loading, **more)
            return (model if "device_map" in more else model.to(device)).eval()
    except torch.OutOfMemoryError as error:
        message = f"model '{local.name}' does not fit into the memory of {device}: take a smaller one"
        raise UserError(message) from error
    except Exception as error:  # weights can be broken in any way
        raise UserError(f"model '{local.name}' cannot be loaded: {_brief(error)}") from error


def _dtype(name: str) -> torch.dtype:
    known = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
    if name not in known:
        raise UserError(f"--dtype {name}: expected auto, bfloat16, float16 or float32")
    return known[name]


def _brief(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
