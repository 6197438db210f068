"""The engines: each module here except `base`, `local` and `native` is one, found by name; other packages add more.

A package names an engine's class by an entry point of the group "m3dllm.engines".
"""

from __future__ import annotations

from functools import cache

from m3dllm.errors import UserError
from m3dllm.plugins import Modules, class_in
from m3dllm.systems.videollm.engines.base import ContextBudget, Engine
from m3dllm.systems.videollm.options import Options

_MODULES = Modules("engine", __name__, "m3dllm.engines", besides=("base", "local", "native"))


def engine_names() -> list[str]:
    """The names of all engines. None is imported."""
    return _MODULES.names()


@cache
def find_engine(name: str) -> type[Engine]:
    """The engine's class; no model library is loaded. Raises UserError for an unknown name."""
    if name not in engine_names():
        raise UserError(f"--engine {name}: expected {', '.join(engine_names())}")
    kind: type[Engine] = class_in(_MODULES.find(name), Engine, name)
    return kind


def make_engine(options: Options, budget: ContextBudget | None = None) -> Engine:
    """The engine, with its model loaded; with a `budget`, it reserves memory for no more than that.

    Raises UserError for what the user can fix.
    """
    kind = find_engine(options.engine)
    try:
        return kind(options, budget)  # type: ignore[call-arg]
    except ImportError as error:
        remedy = "install builds of torch, torchvision and the engine that fit each other"
        raise UserError(f"--engine {options.engine} cannot be loaded ({error}): {remedy}") from error
