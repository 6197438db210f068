"""Load a model of the transformers library."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from m3dllm.errors import UserError
from m3dllm.progress import progress
from m3dllm.systems.videollm.engines.local.model import LocalModel


def load_model(local: LocalModel, dtype: str, device: torch.device, **more: Any) -> Any:
    """The model with its weights. Raises UserError if they do not fit into memory, or cannot be read."""
    loader = AutoModelForImageTextToText if local.sees else AutoModelForCausalLM
    numbers = number_type(dtype)
    with loading(local, device):
        model: Any = loader.from_pretrained(local.source, dtype=numbers, **local.loading, **more)
        return (model if "device_map" in more else model.to(device)).eval()


@contextmanager
def loading(local: LocalModel, device: torch.device) -> Iterator[None]:
    """While a model is loaded, show progress, and turn errors into a UserError."""
    try:
        with progress(f"loading model '{local.name}'"):
            yield
    except UserError:
        raise
    except torch.OutOfMemoryError as error:
        message = f"model '{local.name}' does not fit into the memory of {device}: take a smaller one"
        raise UserError(message) from error
    except Exception as error:  # broken weights raise any kind of error
        raise UserError(f"model '{local.name}' cannot be loaded: {_brief(error)}") from error


def number_type(name: str) -> Any:
    """The precision of that name, or "auto". Raises UserError."""
    if name == "auto":
        return name
    known = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
    if name not in known:
        raise UserError(f"--dtype {name}: expected auto, bfloat16, float16 or float32")
    return known[name]


def _brief(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
