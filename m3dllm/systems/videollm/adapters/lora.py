"""LoRA layers in a model of the transformers library."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from m3dllm.errors import UserError
from m3dllm.files import read_bytes
from m3dllm.systems.videollm.adapters.card import CONFIG, WEIGHTS, Adapter
from m3dllm.systems.videollm.adapters.patterns import safe_settings
from m3dllm.systems.videollm.adapters.probe import PROBES, effect
from m3dllm.systems.videollm.options import TuningOptions
from m3dllm.wire import read_json


def adapt(model: Any, config: TuningOptions) -> Any:
    """`model` with new LoRA layers of peft; only these, and modules to train fully, are trained.

    Raises UserError where an option names a module that is not there.
    """
    from peft import LoraConfig, get_peft_model

    targets, left_out = linear_layers(model, config.targets)
    lora = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=targets,
        exclude_modules=left_out,
        modules_to_save=_full_names(model, config.train_fully) or None,
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, lora)


def unfreeze(model: Any, config: TuningOptions) -> None:
    """Make all weights of the language model trainable, and the modules that `train_fully` names; nothing else.

    Raises UserError where an option names a module that is not there.
    """
    model.requires_grad_(False)
    sight = _sight(model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(sight))
    for name in _full_names(model, config.train_fully):
        model.get_submodule(name).requires_grad_(True)


def linear_layers(model: Any, targets: Sequence[str] = ()) -> tuple[list[str], str | None]:
    """(the linear layers to adapt, by the ends of their names; a pattern of modules to exclude with such names).

    These are the linear layers of the language model (without its head) whose names end in one of `targets`; all if it
    is empty. A target may also name a layer elsewhere. Raises UserError if a target is not a linear layer.
    """
    sight, head = _sight(model), model.get_output_embeddings()
    linear = [name for name, module in model.named_modules() if _is_linear(module) and module is not head]
    inside = [name for name in linear if not name.startswith(sight)]
    for target in targets:
        if not any(_ends(name, target) for name in linear):
            known = ", ".join(sorted({name.rpartition(".")[2] for name in inside}))
            raise UserError(f"--targets {target}: the model has no such linear layer; known: {known}")
    ends = list(targets) or sorted({name.rpartition(".")[2] for name in inside})
    everywhere = [end for end in ends if not any(_ends(name, end) for name in inside)]
    if everywhere or not any(_ends(name, end) for name in linear if name.startswith(sight) for end in ends):
        return ends, None
    return ends, "|".join(re.escape(begin) + ".*" for begin in sight)


def _is_linear(module: nn.Module) -> bool:
    """Whether it is a linear layer, also with 4-bit weights."""
    return isinstance(module, nn.Linear) or type(module).__name__ in ("Linear4bit", "Linear8bitLt")


def _sight(model: Any) -> tuple[str, ...]:
    """The name prefixes of the vision modules: the encoder, and its projection to the language model."""
    if not hasattr(model.config, "vision_config"):
        return ("\0",)
    decoder = model.get_decoder()
    own = next(name for name, module in model.named_modules() if module is decoder)
    beside = [name for name, _ in model.get_submodule(own.rpartition(".")[0]).named_children()]
    prefix = own.rpartition(".")[0]
    return tuple(f"{prefix}.{name}." for name in beside if f"{prefix}.{name}" != own and name != "lm_head")


def _full_names(model: Any, wanted: Sequence[str]) -> list[str]:
    """The modules whose names end in one of `wanted`. Raises UserError if there is none."""
    found = []
    for end in wanted:
        names = [name for name, _ in model.named_modules() if name and _ends(name, end)]
        if not names:
            raise UserError(f"--train-fully {end}: the model has no such module; an example is lm_head")
        found += names
    return found


def _ends(name: str, end: str) -> bool:
    return name == end or name.endswith(f".{end}")


# --- an adapter that is there -----------------------------------------------------------------------------------------


def load_adapter(model: Any, adapter: Adapter) -> Any:
    """Add the adapter's layers to `model`, in place; returns peft's wrapper, which can disable them.

    Raises UserError if its files are damaged or do not fit the model.
    """
    from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
    from safetensors.torch import load_file

    adapter.check_files()
    try:
        settings = dict(read_json(read_bytes(adapter.folder / CONFIG)))
        modules = [name for name, _ in model.named_modules()]
        lora = LoraConfig(**_known(LoraConfig, safe_settings(settings, modules)))
        lora.inference_mode = True
        tuned = get_peft_model(model, lora)
        result: Any = set_peft_model_state_dict(tuned, load_file(adapter.folder / WEIGHTS))
    except (ValueError, TypeError, RuntimeError, KeyError, AttributeError) as error:
        why = " ".join(str(error).split())[:160]
        raise UserError.at(adapter.folder, f"adapter '{adapter.name}' does not fit the model ({why})") from error
    if result.unexpected_keys:
        what = f"has '{result.unexpected_keys[0]}', which the model does not have"
        raise UserError.at(adapter.folder, f"adapter '{adapter.name}' {what}: it was tuned on another model")
    return tuned.requires_grad_(False).eval()


def _known(kind: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values without fields of a newer peft."""
    return {name: value for name, value in values.items() if name in kind.__dataclass_fields__}


def effect_on(tuned: Any, tokenizer: Any, device: torch.device) -> float:
    """The largest change of a log-probability of the PROBES by the adapter."""
    model = tuned.get_base_model()
    learning = model.training
    model.eval()
    with torch.inference_mode():
        texts = [tokenizer.encode(text, add_special_tokens=False) for text in PROBES]
        adapted = [_log_probabilities(model, ids, device) for ids in texts]
        with tuned.disable_adapter():
            plain = [_log_probabilities(model, ids, device) for ids in texts]
    model.train(learning)
    return effect(adapted, plain)


def _log_probabilities(model: Any, ids: Sequence[int], device: torch.device) -> list[float]:
    """The log-probability of each token of a text but the first."""
    given = torch.tensor([ids], device=device)
    logits = model(input_ids=given, use_cache=False).logits[0, :-1].float()
    found: list[float] = logits.log_softmax(-1).gather(-1, given[0, 1:, None])[:, 0].tolist()
    return found


def can_hold_four_bits(device: torch.device) -> bool:
    """Whether bitsandbytes and a GPU are available."""
    return device.type == "cuda" and importlib.util.find_spec("bitsandbytes") is not None
