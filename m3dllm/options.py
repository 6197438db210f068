"""A system's own options: the fields of its config dataclass, from the words of a command line, and as a table.

Presets stand in the config class as `presets`, a mapping of name to values; the names of options that may change when a
run is taken up again as `incidental`.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
import types
import typing
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from itertools import pairwise
from typing import Any

from m3dllm.errors import UserError
from m3dllm.system import SystemSpec
from m3dllm.wire import WireError, convert, decode, encode


def flag(name: str) -> str:
    """The option of the field `name`."""
    return f"--{name.replace('_', '-')}"


def parse_options(words: Sequence[str]) -> dict[str, str]:
    """`--name value`, `--name=value` and `--flag` (true) as a mapping of field names.

    A repeated name collects its values, parted by commas. Raises UserError for a word that belongs to no option.
    """
    options: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--") or len(word) < 3:
            raise UserError(f"'{word}' belongs to no option; options are written --name value")
        name, equals, value = word[2:].partition("=")
        name = name.replace("-", "_")
        if not equals:
            value = rest.pop(0) if rest and not rest[0].startswith("--") else "true"
        options[name] = f"{options[name]},{value}" if name in options else value
    return options


def resolve_config(spec: SystemSpec, options: Mapping[str, Any], *, preset: str | None, seed: int) -> Any:
    """The system's config: its defaults, then the preset's values, then the options; `seed` where it has such a field.

    Strings are read as the field's type; a field of several values takes them parted by commas. None for a system
    without a config. Raises UserError for an unknown, missing or wrong option, or an unknown preset.
    """
    kind = spec.config_class()
    fields = {} if kind is None else {field.name: field for field in dataclasses.fields(kind)}
    _check_names(spec, options, list(fields))
    presets: Mapping[str, Mapping[str, Any]] = getattr(kind, "presets", {})
    if preset is not None and preset not in presets:
        raise UserError(f"system '{spec.name}' has no preset '{preset}'; it has {', '.join(presets) or 'none'}")
    if kind is None:
        return None
    values: dict[str, Any] = {"seed": seed} if "seed" in fields else {}
    values |= presets[preset] if preset is not None else {}
    hints = typing.get_type_hints(kind)
    for name, value in options.items():
        several = isinstance(value, str) and _takes_several(hints[name])
        values[name] = [part.strip() for part in value.split(",") if part.strip()] if several else value
    for name, field in fields.items():
        if name not in values and _is_required(field):
            raise UserError(f"system '{spec.name}' needs {flag(name)}: see 'm3dllm systems {spec.name}'")
    try:
        return convert(values, kind, strict=False)
    except WireError as error:
        name = error.place.removeprefix("$.").split("[")[0]
        where = f"{flag(name)} {options.get(name, '')}: ".replace(" : ", ": ") if name in fields else ""
        raise UserError(f"system '{spec.name}': {where}{error.message}") from error


def public(config: Any) -> dict[str, Any]:
    """The options as a run keeps them: what may be secret as its `public()`, where the config has that, shows it."""
    if config is None:
        return {}
    shown = config.public() if hasattr(config, "public") else {}
    return decode(encode(config), dict[str, Any]) | decode(encode(shown), dict[str, Any])


def public_command(words: Sequence[str], config: Any) -> tuple[str, ...]:
    """The words of a command line, with the values of options that may be secret as `public` shows them."""
    shown = config.public() if hasattr(config, "public") else {}
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
        found.append(word)
    return tuple(found)


def option_table(config: type[Any] | None) -> list[dict[str, str]]:
    """The fields of a config dataclass as options: flag, type, default, and the docstring under the field."""
    if config is None:
        return []
    helps = _field_docstrings(config)
    return [
        {
            "flag": flag(field.name),
            "type": field.type if isinstance(field.type, str) else getattr(field.type, "__name__", str(field.type)),
            "default": _default(field),
            "help": helps.get(field.name, ""),
        }
        for field in dataclasses.fields(config)
    ]


def _check_names(spec: SystemSpec, options: Mapping[str, Any], known: Sequence[str]) -> None:
    for name in options:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"; did you mean {flag(close[0])}?" if close else ""
            listed = ", ".join(map(flag, known)) or "none"
            raise UserError(f"system '{spec.name}' has no option {flag(name)}{hint} (its options: {listed})")


def _takes_several(kind: Any) -> bool:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return any(map(_takes_several, typing.get_args(kind)))
    return (typing.get_origin(kind) or kind) in (tuple, list, set, frozenset)


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _default(field: dataclasses.Field[Any]) -> str:
    if _is_required(field):
        return "(required)"
    value = field.default
    if value is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    if isinstance(value, (tuple, list, frozenset, set)):
        return ",".join(map(str, value)) or "(none)"
    return "(none)" if value is None or value == "" else str(value)


def _field_docstrings(config: type[Any]) -> dict[str, str]:
    """The string under each field of the class and of those it extends, from their source where there is one."""
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
