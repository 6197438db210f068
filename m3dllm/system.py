"""The interface of systems: a class with one method to write, and a declaration of its abilities.

A third party ships one light module with a `SystemSpec` named by an entry point of the group "m3dllm.systems"; those of
the project are `SPEC` in the modules of `m3dllm.systems`. Nothing here imports a system; `SystemSpec.load` does,
when it is used.
"""

from __future__ import annotations

import importlib
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from m3dllm.config import Options
from m3dllm.errors import UserError
from m3dllm.labels import LabelSet
from m3dllm.types import TASKS, Document, Example, RawOutput, Task


class System(ABC):
    """Predicts the annotations of documents. A subclass overrides `predict`, and other methods as needed."""

    def __init__(
        self, config: Any, *, labels: LabelSet, examples: Sequence[Example] = (), checkpoint: Path | None = None
    ) -> None:
        """`config`: its options, or None; `examples`: of the train split; `checkpoint`: the folder that `fit` wrote."""
        self.config, self.labels, self.examples, self.checkpoint = config, labels, examples, checkpoint

    @abstractmethod
    def predict(self, documents: Sequence[Document]) -> Iterator[RawOutput]:
        """Yield one answer per document, in order. A failure is an answer with `error=…`, not an exception.

        Called once per run, with the documents of all passes; the same document has another `given` in each pass.
        """

    def fit(self, train: Sequence[Example], dev: Sequence[Example], out: Path) -> None:
        """Train, select the model on `dev`, and write the checkpoint into the folder `out`. A killed fit may resume."""
        raise UserError(f"{type(self).__name__} does not train: it has no fit")

    def fitted(self, out: Path) -> None:  # noqa: B027  # most have nothing to do
        """Called instead of `fit` if the same fit was finished before."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Models and files used, with hashes: kept with the run. A run does not resume with another `sha256`."""
        return {}

    @property
    def unsupported(self) -> frozenset[Task]:
        """Tasks of its spec that it cannot answer as configured, such as grounding with a model that reads no images.

        They have no score. Like `provenance`, it is read after `predict` was called.
        """
        return frozenset()

    @property
    def at_once(self) -> int:
        """The number of documents in a batch: workers get multiples of it."""
        return 1

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines that a report shows beside its scores, such as 'in-domain pretrained'."""
        return ()

    @property
    def tally(self) -> Any:
        """Its own counts (tokens, retries, …): a mapping or a dataclass, kept with the run.

        Numbers are added over workers and shards; those with names in `_share` are averaged.
        """
        return {}

    def take_prompts(self) -> Mapping[str, str]:
        """The prompts sent since the last call, sha256 -> text: kept with the run."""
        return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemSpec:
    """The declaration of a system, so that mismatches are found before a model is loaded."""

    name: str
    factory: str
    """ "module:name" of a `System` class, or of a callable with the same arguments."""
    summary: str
    config: str | type[Any] | None = None
    """The frozen dataclass whose fields are the system's options (see `m3dllm.config.Options`), or its "module:name",
    light to import; None if it has no options."""
    tasks: Collection[str] = frozenset()
    modalities: Collection[str] = frozenset()
    languages: Collection[str] = frozenset()
    preview: str | None = None
    """ "module:name" of a callable `(config, document, *, labels, examples)`, for systems with prompts: its result, as
    text, is the first prompt about the document; None if there is none. The text in its attribute `constraint`, if any
    (a grammar may be long), is written to a file."""
    tools: Mapping[str, str] = field(default_factory=dict)
    """Further commands: verb -> "module:name" of a callable that takes its config."""
    proposals: Mapping[str, Any] | None = None
    """The options, by field name, with which it checks `Document.proposed`; None if it cannot."""
    takes_given: bool = False
    """Whether it uses `Document.given` (the gold-mention setting)."""
    trainable: bool = False
    fits_first: bool = True
    """Whether a trainable system must be trained before predicting; if not, only 'm3dllm fit' trains it."""
    fits_in_parallel: bool = False
    """Whether several processes can train it together, as with `m3dllm.training`; the first one writes."""
    fits: str = ""
    """The system that it trains, and whose checkpoints it takes; "": itself."""
    extra: str | None = None
    """The extra of this package with the system's dependencies, or None."""
    needs: tuple[str, ...] = ()
    """The modules of that extra, all of which must be installed."""

    def __post_init__(self) -> None:
        for name in ("tasks", "modalities", "languages"):
            object.__setattr__(self, name, frozenset(getattr(self, name)))
        for name, known in (("tasks", _TASKS), ("modalities", _MODALITIES), ("languages", _LANGUAGES)):
            if odd := set(getattr(self, name)) - known:
                raise ValueError(f"{name} of system {self.name!r}: {sorted(odd)} are not among {sorted(known)}")

    @property
    def fitted_name(self) -> str:
        """The system to which its checkpoints belong."""
        return self.fits or self.name

    @property
    def missing(self) -> tuple[str, ...]:
        """The needed modules that are not installed."""
        return _not_installed(self.needs)

    def declared(self, config: Any) -> SystemSpec:
        """The spec with these options, on which the system's abilities may depend. Raises UserError."""
        return config.declared(self) if isinstance(config, Options) else self

    def require(self, config: Any = None) -> None:
        """Raises UserError, with the install command, if a module that `config` needs is not installed."""
        needed = config.needs if isinstance(config, Options) else None
        extra, needs = needed or (self.extra, self.needs)
        if missing := _not_installed(needs):
            hint = f": pip install 'm3dllm[{extra}]'" if extra else ""
            raise UserError(f"system '{self.name}' needs {', '.join(map(repr, missing))}{hint}")

    def config_class(self) -> type[Any] | None:
        """The dataclass of the system's options. Raises UserError when the module cannot be imported."""
        return self._resolve(self.config) if isinstance(self.config, str) else self.config

    def load(self, config: Any = None) -> Callable[..., System]:
        """The factory. Raises UserError if something is not installed, or its module cannot be imported."""
        self.require(config)
        factory = self._resolve(self.factory)

        def make(*args: Any, **values: Any) -> System:
            system = factory(*args, **values)
            if not isinstance(system, System):
                message = f"system '{self.name}': {self.factory} does not make a System: extend m3dllm.system.System"
                raise UserError(f"{message}, which has a default for all but predict")
            return system

        return make

    def load_preview(self, config: Any = None) -> Any:
        """The preview. Raises UserError if the system has none, or it cannot be loaded."""
        if self.preview is None:
            raise UserError(f"system '{self.name}' does not use prompts: there is nothing to show without running it")
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
        except Exception as error:  # the import of a plugin may fail in any way
            why = f"{type(error).__name__}: {error}"
            raise UserError(f"system '{self.name}' cannot be loaded from {where}: {why}") from error


def versions_of(*packages: str) -> dict[str, str]:
    """package -> version, for those that are installed."""
    found = {}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _not_installed(modules: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in modules if importlib.util.find_spec(name) is None)


_TASKS = frozenset(TASKS)
_MODALITIES = frozenset(("text", "video"))
_LANGUAGES = frozenset(("en", "zh"))
