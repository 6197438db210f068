"""What a system is: one method, and a declaration of what it can do.

A third party ships one light module with a `SystemSpec` named by an entry point of the group "m3dllm.systems". Nothing
here imports a system; `SystemSpec.load` does, when one is about to work.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from m3dllm.errors import UserError
from m3dllm.types import Document, Example, RawOutput


@runtime_checkable
class System(Protocol):
    """Answers documents. A factory makes it: `make(config, *, labels, examples=(), checkpoint=None)`.

    `expect(documents)`, where a system has it, is told before all else what it will be asked about, in all passes.

    Four more things are kept with the run where a system has them: `provenance` (a mapping: what it was made of, with
    hashes), `notes` (lines that a report shows beside its scores, such as 'in-domain pretrained'), `tally` (what it
    counted of its work), and `take_prompts()` (sha256 to text of the prompts sent since).
    """

    def predict(self, documents: Iterable[Document]) -> Iterator[RawOutput]:
        """One RawOutput a document, in order. A document that fails yields `error=…`; it never raises."""
        ...


@runtime_checkable
class Trainable(System, Protocol):
    """A system that learns from examples before it predicts."""

    def fit(self, train: Sequence[Example], dev: Sequence[Example], out: Path) -> None:
        """Learn, choose by `dev`, and write the checkpoint into the folder `out`. A killed fit may resume from it.

        `fitted(out)`, where a system has it, is called instead where that very fit was finished before.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemSpec:
    """What a system declares, so that a mismatch is found before a model loads."""

    name: str
    factory: str
    """ "module:name" of a callable `(config, *, labels, examples=(), checkpoint=None) -> System`."""
    summary: str
    config: str | None = None
    """ "module:name" of a dataclass whose fields are the system's options (light to import), or None. Its property
    `needs`, where it has one, gives the extra and the modules that these options need, in place of those below; its
    method `sources`, where it has one, the hashes of files that the options name: with others it is another run."""
    tasks: Set[str] = frozenset()
    modalities: Set[str] = frozenset()
    languages: Set[str] = frozenset()
    preview: str | None = None
    """ "module:name" of a callable `(config, document, *, labels, examples)`, for systems that ask with prompts: its
    result, as text, is what would be asked about the document; None where nothing would be."""
    tools: Mapping[str, str] = field(default_factory=dict)
    """What else it offers: the name of a verb to "module:name" of a callable that takes its config."""
    takes_given: bool = False
    """Whether it uses `Document.given` (the gold-pair protocol)."""
    trainable: bool = False
    fits_first: bool = True
    """Of a trainable system, whether it must be fitted to answer; where not, only 'm3dllm fit' fits it."""
    extra: str | None = None
    """The extra of this package that brings what the system needs, or None."""
    needs: tuple[str, ...] = ()
    """The modules that the extra brings: present when all of them are found."""

    def __post_init__(self) -> None:
        for name in ("tasks", "modalities", "languages"):
            object.__setattr__(self, name, frozenset(getattr(self, name)))
        for name, known in (("tasks", _TASKS), ("modalities", _MODALITIES), ("languages", _LANGUAGES)):
            if odd := getattr(self, name) - known:
                raise ValueError(f"{name} of system {self.name!r}: {sorted(odd)} are not among {sorted(known)}")

    @property
    def missing(self) -> tuple[str, ...]:
        """The needed modules that are not installed."""
        return _not_installed(self.needs)

    def require(self, config: Any = None) -> None:
        """Raises UserError, with the command that mends it, where a module that `config` needs is not installed."""
        extra, needs = getattr(config, "needs", (self.extra, self.needs))
        if missing := _not_installed(needs):
            hint = f": pip install 'm3dllm[{extra}]'" if extra else ""
            raise UserError(f"system '{self.name}' needs {', '.join(map(repr, missing))}{hint}")

    def config_class(self) -> type[Any] | None:
        """The dataclass of the system's options. Raises UserError when the module cannot be imported."""
        return None if self.config is None else self._resolve(self.config)

    def load(self, config: Any = None) -> Any:
        """The factory. Raises UserError when something is not installed or its module cannot be imported."""
        self.require(config)
        return self._resolve(self.factory)

    def load_preview(self, config: Any = None) -> Any:
        """The preview. Raises UserError where the system has none, or it cannot be loaded."""
        if self.preview is None:
            raise UserError(f"system '{self.name}' asks with no prompt: there is nothing to show without running it")
        self.require(config)
        return self._resolve(self.preview)

    def load_tool(self, name: str, config: Any = None) -> Any:
        """The callable behind one of its tools. Raises UserError as `load` does."""
        self.require(config)
        return self._resolve(self.tools[name])

    def _resolve(self, where: str) -> Any:
        module, _, name = where.partition(":")
        try:
            return getattr(importlib.import_module(module), name)
        except Exception as error:  # a plugin may fail in any way while it is imported
            why = f"{type(error).__name__}: {error}"
            raise UserError(f"system '{self.name}' cannot be loaded from {where}: {why}") from error


def versions_of(*packages: str) -> dict[str, str]:
    """The versions of those packages that are installed."""
    found = {}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _not_installed(modules: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in modules if importlib.util.find_spec(name) is None)


_TASKS = frozenset(("entity", "chain", "relation", "grounding"))
_MODALITIES = frozenset(("text", "video"))
_LANGUAGES = frozenset(("en", "zh"))
