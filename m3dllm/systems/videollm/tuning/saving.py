"""The result of a fit on disk: an adapter of peft, or a whole model, with its card."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from m3dllm.errors import UserError
from m3dllm.files import cannot_write, check_free, new_folder, sha256_file, write_atomic
from m3dllm.systems.videollm.adapters.card import (
    CARD,
    CONFIG,
    MODEL,
    OWN,
    WEIGHTS,
    Card,
    open_adapter,
)
from m3dllm.systems.videollm.config import Config
from m3dllm.weights import write_weights

if TYPE_CHECKING:
    from m3dllm.systems.videollm.engines.local.model import LocalModel


def save_fit(card: Card, config: Config, out: Path, *, local: LocalModel, model: Any, tuned: Any) -> None:
    """Write the trained weights, then the card: an adapter if `tuned` is peft's wrapper of the model, else the model.

    Raises UserError if the disk is full.
    """
    if tuned is not None:
        _write_adapter(tuned, config, out)
        names = [CONFIG, WEIGHTS]
    else:
        shutil.rmtree(out / MODEL, ignore_errors=True)  # left by a fit that was killed before this
        save_model(model, local, out / MODEL)
        names = [f"{MODEL}/{path.name}" for path in sorted((out / MODEL).iterdir())]
    card = replace(card, files={name: sha256_file(out / name) for name in names})
    write_atomic(out / CARD, card.toml())
    write_atomic(out / "README.md", readme(card))
    keep_as(config, out)


def is_copy(folder: Path, out: Path) -> bool:
    """Whether the adapter in `folder` is the one of the fit in `out`."""
    try:
        return open_adapter(folder).card.files == open_adapter(out).card.files
    except UserError:
        return False


def check_name(config: Config, out: Path) -> None:
    """Raises UserError if the fit in `out` cannot be saved under the name in the options."""
    if config.save_as and config.tune != "lora":
        raise UserError("--save-as keeps adapters: a model that is tuned fully stays in its run's checkpoint/model")
    if config.save_as and not is_copy(OWN / config.save_as, out):
        check_free(OWN / config.save_as)


def keep_as(config: Config, out: Path) -> None:
    """Save the adapter of the fit in `out` under the name in the options. Raises UserError as `check_name`."""
    check_name(config, out)
    if not config.save_as or is_copy(OWN / config.save_as, out):
        return
    card = replace(open_adapter(out).card, name=config.save_as)
    with new_folder(OWN / config.save_as) as fresh:
        for name in (CONFIG, WEIGHTS):
            shutil.copyfile(out / name, fresh / name)
        write_atomic(fresh / CARD, card.toml())
        write_atomic(fresh / "README.md", readme(card))


def _write_adapter(tuned: Any, config: Config, out: Path) -> None:
    from peft import get_peft_model_state_dict

    weights = get_peft_model_state_dict(tuned)
    lora = tuned.peft_config["default"].to_dict()
    lora |= {"inference_mode": True, "base_model_name_or_path": config.model, "auto_mapping": None}
    written = {name: sorted(value) if isinstance(value, set) else value for name, value in lora.items()}
    write_atomic(out / CONFIG, json.dumps(written, indent=1, sort_keys=True) + "\n")
    write_weights(out / WEIGHTS, weights, {"format": "pt"})


def save_model(model: Any, local: LocalModel, folder: Path) -> None:
    """Write a whole model with its processor, as transformers does, in the precision of its base.

    Raises UserError if the disk is full.
    """
    numbers = getattr(local.config, "dtype", None) or getattr(local.text_config, "dtype", None)
    with new_folder(folder) as fresh:
        try:
            (model if numbers is None else model.to(numbers)).save_pretrained(fresh)
            local.processor.save_pretrained(fresh)
        except SafetensorError as error:
            raise UserError.at(
                folder, f"cannot be written: {error}: free up space or choose another location"
            ) from error
        except OSError as error:
            raise cannot_write(folder, error) from error


def readme(card: Card) -> str:
    """The card for people, in Markdown."""
    best = card.epochs[card.best_epoch - 1] if card.epochs else {}
    scores = ", ".join(
        f"{name} {best[name]:.3f}" for name in ("entity", "chain", "relation", "grounding") if name in best
    )
    shape, data = card.shape, card.data
    what = f"A LoRA adapter of rank {shape.rank}" if shape.tune == "lora" else "A model tuned fully"
    return f"""# {card.name}

{what}, made by `m3dllm fit --system video-llm` from {data.train_documents} documents ({", ".join(data.languages)});
the epoch was chosen by {data.dev_documents} more.

- base model: `{card.base.model or "the embedded model"}` ({card.base.sha256[:12]})
- trainable weights: {shape.parameters:,}
- asked: strategy {card.asked.strategy}, prompts of version {card.asked.version}
- dev F1 of the best epoch ({card.best_epoch} of {len(card.epochs)}): {scores or "there was no dev split"}

It answers only these prompts about this label set, and only with this base model. What else it is made of stands in
`{CARD}`.
"""
