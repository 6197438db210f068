"""A system's options: the fields of a frozen dataclass that extends `Options`.

Type, range, purpose and help stand on the field, and are read once: for the command line, for Python and for checks.

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config(Options):
        rank: Annotated[int, Meta(ge=1), FIT] = 16
        "The rank of the adapter."

`Meta` is msgspec's (ge, gt, le, lt, min_length, pattern, …); a `Literal` names the words that are allowed.
"""

from __future__ import annotations

import dataclasses
import math
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, cast

from msgspec import Meta

from m3dllm.errors import UserError
from m3dllm.wire import WireError, convert


@dataclass(frozen=True, slots=True)
class Mark:
    """What an option is for."""

    name: str


FIT = Mark("fit")
"""The option matters only for training: it is not part of the identity of a run that trains nothing."""
INCIDENTAL = Mark("incidental")
"""The option changes no answer (an address, a device): a resumed run may have another value."""
ADVANCED = Mark("advanced")
"""An option that most runs leave at its default: it is listed after the others."""

AtLeast0 = Annotated[int, Meta(ge=0)]
AtLeast1 = Annotated[int, Meta(ge=1)]
NotNegative = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]


Spec = TypeVar("Spec")


class Options:
    """The base of every config; a subclass is a frozen dataclass, and overrides what it needs."""

    __slots__ = ()

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Named sets of values, by the name of the preset."""
    withheld: ClassVar[frozenset[str]] = frozenset()
    """Inherited options that the class does not offer: they keep their defaults."""

    def __post_init__(self) -> None:
        """Raises UserError for a value outside its field's range, or one that `check` refuses."""
        for option in options_of(type(self)):
            option.check(getattr(self, option.name))
        self.check()

    def check(self) -> None:
        """Raises UserError for values that do not go together."""

    @property
    def needs(self) -> tuple[str | None, tuple[str, ...]] | None:
        """The extra and the modules that these options need, in place of those of the spec; None: those of the spec."""
        return None

    def public(self) -> Mapping[str, Any]:
        """Values that a run stores in place of options that may hold secrets, by field name."""
        return {}

    def settled(self, corpus: Path, checkpoint: Path | None) -> Self:
        """These options with open values decided for the corpus in this folder and for the checkpoint, if any.

        A run stores them so: a default that changes later changes no run. Raises UserError for values that do not fit.
        """
        return self

    def gpus(self, *, there: bool) -> int:
        """The number of GPUs that a model with these options takes; `there`: whether the machine has any."""
        return 0

    def declared(self, spec: Spec) -> Spec:
        """The `SystemSpec` with these options, for a system whose abilities depend on them. Raises UserError."""
        return spec

    def sources(self) -> Mapping[str, str]:
        """The sha256 of the files that options name (an adapter, prompts, answers): other contents make another run."""
        return {}


@dataclass(frozen=True, slots=True)
class Option:
    """A field of a config, as a command-line option."""

    name: str
    type: Any
    """The type with its range."""
    default: Any
    """dataclasses.MISSING where the option is required."""
    marks: frozenset[Mark]

    @property
    def flag(self) -> str:
        return flag(self.name)

    @property
    def is_required(self) -> bool:
        return self.default is dataclasses.MISSING

    @property
    def takes_several(self) -> bool:
        """Whether its value is a list, written with commas."""
        return any((typing.get_origin(kind) or kind) in (tuple, list, set, frozenset) for kind in _parts(self.type))

    @property
    def words(self) -> tuple[str, ...]:
        """The allowed values of a choice; () if it is not a choice."""
        choices = [kind for kind in _nested(self.type) if _is_choice(kind)]
        return tuple(str(word) for kind in choices for word in typing.get_args(kind))

    @property
    def type_text(self) -> str:
        """The type as Python writes it, without its range."""
        kind = _plain(self.type)
        return str(getattr(kind, "__name__", kind) if typing.get_origin(kind) is None else kind).replace("typing.", "")

    @property
    def expected(self) -> str:
        """The range in words, such as "at least 1" or "low, mid or high"; "" if every value of the type is allowed."""
        if words := self.words:
            one_of = " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))
            return f"one or more of {one_of}" if any(meta.min_length for meta in _metas(self.type)) else one_of
        return next(filter(None, (_range(meta) for meta in _metas(self.type))), "")

    def read(self, value: Any) -> Any:
        """`value` as the field's type; strings are parsed, lists split at commas. Raises UserError if it cannot."""
        if isinstance(value, str) and self.takes_several:
            value = [part.strip() for part in value.split(",") if part.strip()]
        try:
            return convert(value, _plain(self.type), strict=False)
        except WireError as error:
            raise UserError(f"{self.flag} {_shown(value)}: {self._wanted or error.message}") from error

    @property
    def _wanted(self) -> str:
        """What a value must be, in words; "" where they say less than the error does."""
        if self.words:
            return f"expected {self.expected}"
        kinds = {kind for kind in _parts(self.type) if kind is not types.NoneType}
        named = [words for kind, words in _NUMBERS.items() if kinds == {kind}]
        default = "; omit it for the default" if self.default is None else ""
        return f"expected {', '.join(filter(None, (*named, self.expected)))}{default}" if named else ""

    def check(self, value: Any) -> None:
        """Raises UserError for a value outside the range."""
        numbers = value if isinstance(value, tuple | list) else (value,)
        if any(isinstance(n, float) and not math.isfinite(n) and n != self.default for n in numbers):
            raise UserError(f"{self.flag} {_shown(value)}: expected a finite number")
        if any(isinstance(n, int) and abs(n) > sys.maxsize for n in numbers):
            raise UserError(f"{self.flag} {_shown(value)}: expected a number of at most 64 bits")
        if not _metas(self.type) and not self.expected:
            return
        try:
            convert(list(value) if isinstance(value, (set, frozenset)) else value, self.type)
        except WireError as error:
            message = f"expected {self.expected}" if self.expected else error.message
            raise UserError(f"{self.flag} {_shown(value)}: {message}") from error


_NUMBERS = {int: "a whole number", float: "a number", bool: "true or false"}
"""What values of these types are called."""


def options_of(config: type[Any] | None) -> tuple[Option, ...]:
    """The options of a config class, in the order of its fields; none for None."""
    return () if config is None else _options_of(cast(Any, config))


@cache
def _options_of(config: Any) -> tuple[Option, ...]:
    hints = typing.get_type_hints(config, include_extras=True)
    return tuple(
        Option(field.name, hints[field.name], _default(field), frozenset(_marks(hints[field.name])))
        for field in dataclasses.fields(config)
        if field.name not in getattr(config, "withheld", ())
    )


def named(config: type[Any] | None, *marks: Mark) -> tuple[str, ...]:
    """The names of the options that carry one of these marks."""
    return tuple(option.name for option in options_of(config) if option.marks & set(marks))


def takes_gpu(device: str, *, there: bool) -> bool:
    """Whether a model on this device takes a GPU; "auto" does if `there` is one."""
    return device.startswith("cuda") or (device == "auto" and there)


def flag(name: str) -> str:
    """The option of the field `name`."""
    return f"--{name.replace('_', '-')}"


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


# --- types ------------------------------------------------------------------------------------------------------------


def _nested(kind: Any) -> Iterator[Any]:
    """The type and all types in it."""
    yield kind
    if not _is_choice(kind):
        for part in (kind.__origin__,) if hasattr(kind, "__metadata__") else typing.get_args(kind):
            yield from _nested(part)


def _parts(kind: Any) -> list[Any]:
    """The types of which a value has one: those of a union, else the type itself."""
    kind = kind.__origin__ if hasattr(kind, "__metadata__") else kind
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return [part for one in typing.get_args(kind) for part in _parts(one)]
    return [kind]


def _is_choice(kind: Any) -> bool:
    return typing.get_origin(kind) is Literal


def _metas(kind: Any) -> list[Meta]:
    return [meta for part in _nested(kind) for meta in getattr(part, "__metadata__", ()) if isinstance(meta, Meta)]


def _marks(kind: Any) -> list[Mark]:
    return [mark for part in _nested(kind) for mark in getattr(part, "__metadata__", ()) if isinstance(mark, Mark)]


def _plain(kind: Any) -> Any:
    """The type without ranges and marks."""
    if hasattr(kind, "__metadata__"):
        return _plain(kind.__origin__)
    if typing.get_origin(kind) is None or _is_choice(kind):
        return kind
    parts = [_plain(part) for part in typing.get_args(kind)]
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        union = parts[0]
        for part in parts[1:]:
            union = union | part
        return union
    return typing.get_origin(kind)[tuple(parts)]


def _range(meta: Meta) -> str:
    low = f"at least {meta.ge}" if meta.ge else "0 or more" if meta.ge is not None else ""
    low = f"more than {meta.gt}" if meta.gt is not None else low
    high = f"at most {meta.le}" if meta.le is not None else f"less than {meta.lt}" if meta.lt is not None else ""
    if meta.ge is not None and meta.le is not None:
        return f"{meta.ge} to {meta.le}"
    return " and ".join(filter(None, (low, high)))


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, (tuple, list, set, frozenset)) else str(value)
