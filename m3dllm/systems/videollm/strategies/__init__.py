"""Prompting strategies: each module here except `base` and `choices` is one, found by name; other packages add more.

A package names the class of a strategy by an entry point of the group "m3dllm.strategies". Nothing is imported until a
strategy is found.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from m3dllm.errors import UserError
from m3dllm.plugins import Modules, class_in

if TYPE_CHECKING:
    from m3dllm.systems.videollm.strategies.base import Strategy

_MODULES = Modules("strategy", __name__, "m3dllm.strategies", besides=("base", "choices"))


def strategy_names() -> list[str]:
    """The names of all strategies. None is imported."""
    return _MODULES.names()


def check_strategy(name: str) -> None:
    """Raises UserError for an unknown name."""
    if name not in strategy_names():
        raise UserError(f"--strategy {name}: expected {', '.join(strategy_names())}")


@cache
def find_strategy(name: str) -> Strategy:
    """The strategy of that name. Raises UserError if there is none, or it fails on import."""
    from m3dllm.systems.videollm.strategies.base import Strategy

    check_strategy(name)
    kind: type[Strategy] = class_in(_MODULES.find(name), Strategy, name)
    return kind()
