"""The verbs for adapters: list, merge into full weights, push to the hub."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from m3dllm.columns import columns
from m3dllm.errors import UserError
from m3dllm.files import check_free
from m3dllm.systems.videollm import embedded
from m3dllm.systems.videollm.adapters.card import Adapter, find_adapter, listed
from m3dllm.systems.videollm.config import Config
from m3dllm.systems.videollm.prompts import SHIPPED, copy
from m3dllm.wire import pretty

log = logging.getLogger("m3dllm")


def overview(*, json: bool = False) -> str:
    """The adapters in ./adapters and those that come with the package, one per line."""
    found = list(listed())
    if json:
        return pretty([_facts(one) for one in found])
    if not found:
        return "no adapters: 'm3dllm fit --system video-llm --save-as NAME' makes one"
    rows: list[tuple[str, ...]] = [("adapter", "base model", "rank", "asked", "languages", "dev F1", "where")]
    broken = []
    for one in found:
        if isinstance(one, Adapter):
            rows.append(_row(one))
        else:
            broken.append(f"broken: {one}")
    return "\n".join([*columns(rows), *broken])


def copy_prompts(out: Path, *, embedded_model: bool = False) -> Path:
    """Write the prompts that `--prompts` can override into `out`: the package's, or the embedded model's.

    Raises UserError if `out` exists and is not empty.
    """
    copy(out, embedded.PROMPTS if embedded_model else SHIPPED)
    return out


def merge(adapter: str, out: Path, *, model: str | None = None, device: str = "cpu") -> Path:
    """Write the adapter's base model with the adapter in its weights to `out`: a model like any other.

    Raises UserError if the adapter or its base model is missing or damaged, or `out` exists.
    """
    from m3dllm.devices import find_device
    from m3dllm.systems.videollm.adapters.lora import effect_on, load_adapter
    from m3dllm.systems.videollm.adapters.probe import prove
    from m3dllm.systems.videollm.engines.local.loading import load_model
    from m3dllm.systems.videollm.engines.local.model import LocalModel
    from m3dllm.systems.videollm.tuning.saving import save_model

    check_free(out)
    found = find_adapter(adapter)
    if found.card.shape.tune == "full":
        raise UserError.at(found.folder, "is a whole model already: there is nothing to merge")
    config = Config(model=model or found.card.base.model or None, revision=found.card.base.revision or None, frames=0)
    local = LocalModel(replace(config, device=device))
    found.check_base(local.name, local.weights_sha256)
    place = find_device(device, metal=True)
    base = load_model(local, "float32", place)
    tuned = load_adapter(base, found)
    prove(found.name, effect_on(tuned, local.tokenizer, place))
    whole = tuned.merge_and_unload()
    save_model(whole, local, out)
    if not found.card.base.model:
        log.warning("the embedded model has prompts of its own: ask %s with --prompts %s", out, embedded.PROMPTS)
    return out


def push(adapter: str, repository: str, *, private: bool = True) -> str:
    """Upload the adapter's folder to the hub; returns the address. Raises UserError if the hub refuses."""
    from huggingface_hub import HfApi

    found = find_adapter(adapter)
    found.check_files()
    try:
        api = HfApi()
        address = api.create_repo(repository, private=private, exist_ok=True)
        names = [*found.card.files, "adapter.toml", "README.md"]
        api.upload_folder(repo_id=repository, folder_path=str(found.folder), allow_patterns=names)
    except Exception as error:  # wrong names, tokens and networks raise all kinds of errors
        why = " ".join(str(error).split())[:200]
        raise UserError(
            f"{repository}: adapter '{found.name}' cannot be pushed ({why}): log in with 'hf auth login'"
        ) from error
    return str(address)


def _row(one: Adapter) -> tuple[str, ...]:
    card = one.card
    best = card.epochs[card.best_epoch - 1].get("average") if 0 < card.best_epoch <= len(card.epochs) else None
    return (
        one.folder.name,
        card.base.model or "(embedded)",
        str(card.shape.rank),
        f"{card.asked.strategy} v{card.asked.version}",
        " ".join(card.data.languages),
        "–" if best is None else f"{100 * best:.2f}",
        str(one.folder),
    )


def _facts(one: Adapter | UserError) -> dict[str, Any]:
    if isinstance(one, UserError):
        return {"error": str(one)}
    names = ("adapter", "base", "rank", "asked", "languages", "dev_f1", "where")
    return dict(zip(names, _row(one), strict=True))
