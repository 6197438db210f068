"""A system's own options, which `m3dllm.config` reads off its config class: from a command line, and as a table."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from itertools import pairwise
from typing import Any

from m3dllm.config import ADVANCED, FIT, Option, Options, flag, options_of
from m3dllm.errors import UserError, redact
from m3dllm.system import SystemSpec
from m3dllm.wire import decode, encode


def parse_options(words: Sequence[str]) -> dict[str, str]:
    """`--name value`, `--name=value` and `--flag` (true) as a mapping of field names.

    Values of a repeated name are joined by commas. Raises UserError for a word that belongs to no option.
    """
    options: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--") or len(word) < 3:
            raise UserError(f"'{word}' is not the value of an option; options are written --name value")
        name, equals, value = word[2:].partition("=")
        name = name.replace("-", "_")
        if not equals:
            value = rest.pop(0) if rest and not rest[0].startswith("--") else "true"
        options[name] = f"{options[name]},{value}" if name in options else value
    return options


def resolve_config(
    spec: SystemSpec, options: Mapping[str, Any], *, preset: str | None, seed: int, besides: Collection[str] = ()
) -> Any:
    """The system's config: its defaults, then the preset's values, then the options; `seed`, if it has such a field.

    Strings are parsed as the field's type, several values split at commas. Returns None for a system without
    a config. Raises UserError for an unknown, missing or wrong option, or an unknown preset; its hint for an unknown
    option may also be one of `besides`, the names of options that are not the system's.
    """
    kind = spec.config_class()
    known = {option.name: option for option in options_of(kind)}
    _check_names(spec, options, list(known), besides)
    presets = presets_of(kind)
    if preset is not None and preset not in presets:
        raise UserError(f"system '{spec.name}' has no preset '{preset}'; it has {', '.join(presets) or 'none'}")
    if kind is None:
        return None
    values: dict[str, Any] = {"seed": seed} if "seed" in known else {}
    values |= presets[preset] if preset is not None else {}
    values |= options
    for name, option in known.items():
        if name not in values and option.is_required:
            raise UserError(f"system '{spec.name}' needs {option.flag}: see 'm3dllm systems {spec.name}'")
    try:
        return kind(**{name: known[name].read(value) for name, value in values.items()})
    except (UserError, ValueError) as error:
        raise UserError(f"system '{spec.name}': {error}") from error


def presets_of(config: type[Any] | None) -> Mapping[str, Mapping[str, Any]]:
    """Named sets of values; a dataclass that does not extend `Options` has none."""
    return config.presets if config is not None and issubclass(config, Options) else {}


def public(config: Any) -> dict[str, Any]:
    """The options as a run stores them: secret ones as in its `public()`, addresses without passwords."""
    if config is None:
        return {}
    shown = config.public() if isinstance(config, Options) else {}
    return redact(decode(encode(config), dict[str, Any]) | decode(encode(shown), dict[str, Any]))


def default_values(config: type[Any] | None) -> dict[str, Any]:
    """The defaults of the options that have one, as a run stores them."""
    return decode(encode({o.name: o.default for o in options_of(config) if not o.is_required}), dict[str, Any])


def public_command(words: Sequence[str], config: Any) -> tuple[str, ...]:
    """The words of a command line, with secret values as in `public`."""
    shown = config.public() if isinstance(config, Options) else {}
    hidden = {
        flag(name): ",".join(value) if isinstance(value, list | tuple) else value for name, value in shown.items()
    }
    found: list[str] = []
    for i, word in enumerate(words):
        name, equals, _ = word.partition("=")
        if name in hidden and equals:
            word = f"{name}={hidden[name]}"
        elif i and words[i - 1] in hidden:
            word = str(hidden[words[i - 1]])
        found.append(redact(word))
    return tuple(found)


def option_table(config: type[Any] | None) -> list[dict[str, str]]:
    """The options of a config: flag, type, default, help (the docstring under the field), and, if there is one, the
    range, and whether it is for training or advanced."""
    helps = {} if config is None else _field_docstrings(config)
    return [
        {
            "flag": option.flag,
            "type": option.type_text,
            "default": _default_text(option),
            "help": helps.get(option.name, ""),
            **({"range": option.expected} if option.expected and not option.words else {}),
            **({"for": apart[0].name} if (apart := [mark for mark in (FIT, ADVANCED) if mark in option.marks]) else {}),
        }
        for option in options_of(config)
    ]


def _check_names(spec: SystemSpec, options: Mapping[str, Any], known: Sequence[str], besides: Collection[str]) -> None:
    for name in options:
        if name not in known:
            close = get_close_matches(name, [*known, *besides], n=1)
            hint = f"; did you mean {flag(close[0])}?" if close else ""
            listed = f"'m3dllm systems {spec.name}' lists its options"
            raise UserError(f"system '{spec.name}' has no option {flag(name)}{hint} ({listed})")


def _default_text(option: Option) -> str:
    if option.is_required:
        return "(required)"
    value = option.default
    if isinstance(value, (tuple, list, frozenset, set)):
        return ",".join(map(str, value)) or "(none)"
    return "(none)" if value is None or value == "" else str(value)


def _field_docstrings(config: type[Any]) -> dict[str, str]:
    """The docstring under each field of the class and its bases, from their source if available."""
    found: dict[str, str] = {}
    for kind in reversed(config.__mro__[:-1]):
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
        except (OSError, TypeError, SyntaxError):
            continue
        statements = body.body if isinstance(body, ast.ClassDef) else []
        for field, text in pairwise(statements):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                found[ast.unparse(field.target)] = " ".join(str(text.value.value).split())
    return found
