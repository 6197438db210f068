"""The configuration of an adapter, made safe: patterns are replaced by the module names that they match.

An `adapter_config.json` is untrusted. Its patterns are matched here, within a time limit, and peft gets module names;
settings that would load code, or make layers without weights, are refused.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

LIMIT_S = 2.0
"""The time limit for all patterns of an adapter. Ordinary ones take milliseconds."""
KEPT = frozenset(
    {
        *("r", "lora_alpha", "lora_dropout", "bias", "lora_bias", "use_rslora", "use_dora", "fan_in_fan_out"),
        *("target_modules", "exclude_modules", "modules_to_save", "rank_pattern", "alpha_pattern", "target_parameters"),
        *("layers_to_transform", "layers_pattern", "layer_replication", "trainable_token_indices", "task_type"),
    }
)
"""The settings that define the adapter's layers."""
REFUSED = frozenset(
    {
        *("megatron_config", "auto_mapping", "use_qalora", "use_bdlora", "alora_invocation_tokens", "arrow_config"),
        *("monteclora_config", "velora_config", "kasa_config"),
    }
)
"""Settings that load code or make other kinds of layers. All others concern initialization, and are ignored."""


def safe_settings(values: Mapping[str, Any], modules: Sequence[str]) -> dict[str, Any]:
    """The settings of an `adapter_config.json` for peft, with patterns replaced by names in `modules`.

    Raises ValueError for unsupported settings, and for patterns that are invalid or take too long.
    """
    if odd := sorted(name for name in REFUSED if values.get(name)):
        raise ValueError(f"{odd[0]} is not supported")
    kept = {name: value for name, value in values.items() if name in KEPT}
    patterns = _Patterns(modules)
    for name in ("target_modules", "exclude_modules"):
        if isinstance(pattern := kept.get(name), str) and pattern != "all-linear":
            kept[name] = "|".join(map(re.escape, patterns.whole(pattern))) or None
    if isinstance(values.get("target_modules"), str) and kept["target_modules"] is None:
        raise ValueError("target_modules matches no layer")
    for name in ("rank_pattern", "alpha_pattern"):
        found: dict[str, Any] = {}
        for pattern, value in dict(kept.get(name) or {}).items():
            for module in patterns.whole(rf"(?:.*\.)?(?:{pattern})"):
                found.setdefault(re.escape(module), value)
        kept[name] = found
    layers = kept.get("layers_pattern")
    for pattern in [layers] if isinstance(layers, str) else layers or ():
        if not re.fullmatch(r"[\w.]*", str(pattern)):
            raise ValueError("layers_pattern is not the name of a list of layers")
    return kept


class _Patterns:
    """Matches the patterns of one adapter with the module names of a model."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._modules = modules
        self._end = time.monotonic() + LIMIT_S

    def whole(self, pattern: str) -> list[str]:
        """The modules whose whole names match."""
        import regex

        try:
            return [
                module
                for module in self._modules
                if regex.fullmatch(pattern, module, timeout=max(0.001, self._end - time.monotonic()))
            ]
        except TimeoutError as error:
            raise ValueError(f"the pattern {pattern[:60]!r} takes longer than {LIMIT_S:.0f} s") from error
        except (regex.error, RecursionError, MemoryError, OverflowError) as error:
            raise ValueError(f"{pattern[:60]!r} is not a valid pattern: {error}") from error
