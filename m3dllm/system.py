"""What a system is: a class with one method to write, and a declaration of what it can do.

A third party ships one light module with a `SystemSpec` named by an entry point of the group "m3dllm.systems"; those of
the project stand as `SPEC` in the modules of `m3dllm.systems`. Nothing here imports a system; `SystemSpec.load` does,
when one is about to work.
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
    """Answers documents. A subclass overrides `predict`, and of the rest what it needs."""

    def __init__(
        self, config: Any, *, labels: LabelSet, examples: Sequence[Example] = (), checkpoint: Path | None = None
    ) -> None:
        """`config`: its options, or None; `examples`: of the train split; `checkpoint`: the folder that `fit` wrote."""
        self.config, self.labels, self.examples, self.checkpoint = config, labels, examples, checkpoint

    @abstractmethod
    def predict(self, documents: Sequence[Document]) -> Iterator[RawOutput]:
        """One answer a document, in order. A document that fails is answered with `error=…`; it never raises.

        Called once a run, with the documents of all its passes: one that stands in several has another `given` in each.
        """

    def fit(self, train: Sequence[Example], dev: Sequence[Example], out: Path) -> None:
        """Train, select by `dev`, and write the checkpoint into the folder `out`. A killed fit may resume from it."""
        raise UserError(f"{type(self).__name__} does not train: it has no fit")

    def fitted(self, out: Path) -> None:  # noqa: B027  # most have nothing to do
        """Called in place of `fit` where that very fit was finished before."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What it was made of, with hashes: kept with the run. Other weights (`sha256`) do not go on with a run."""
        return {}

    @property
    def unsupported(self) -> frozenset[Task]:
        """The tasks of its spec that it does not answer as it is, such as grounding with a model that reads no images.

        They are absent from its scores. `predict` was called before, as for `provenance`.
        """
        return frozenset()

    @property
    def at_once(self) -> int:
        """How many documents it answers at once: workers get their documents by multiples of that."""
        return 1

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines that a report shows beside its scores, such as 'in-domain pretrained'."""
        return ()

    @property
    def tally(self) -> Any:
        """What it counted of its own work (tokens, retries, …): a mapping or a dataclass, kept with the run.

        Over workers and shards numbers add up; those whose names end in `_share` are averaged.
        """
        return {}

    def take_prompts(self) -> Mapping[str, str]:
        """The prompts that were sent since the last call, sha256 to text: kept with the run."""
        return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemSpec:
    """What a system declares, so that a mismatch is found before a model loads."""

    name: str
    factory: str
    """ "module:name" of a `System`, or of a callable with the arguments of its `__init__` that makes one."""
    summary: str
    config: str | type[Any] | None = None
    """The frozen dataclass whose fields are the system's options (see `m3dllm.config.Options`), or its "module:name",
    light to import; None where there are none."""
    tasks: Collection[str] = frozenset()
    modalities: Collection[str] = frozenset()
    languages: Collection[str] = frozenset()
    preview: str | None = None
    """ "module:name" of a callable `(config, document, *, labels, examples)`, for systems that ask with prompts: its
    result, as text, is what would be asked about the document; None where nothing would be. What its attribute
    `constraint` holds, if anything, is kept in a file: a grammar may be long."""
    tools: Mapping[str, str] = field(default_factory=dict)
    """What else it offers: the name of a verb to "module:name" of a callable that takes its config."""
    proposals: Mapping[str, Any] | None = None
    """The options, by field name, with which it checks `Document.proposed`; None where it cannot."""
    takes_given: bool = False
    """Whether it uses `Document.given` (the gold-pair protocol)."""
    trainable: bool = False
    fits_first: bool = True
    """Of a trainable system, whether it must be fitted to answer; where not, only 'm3dllm fit' fits it."""
    fits_in_parallel: bool = False
    """Whether several processes can fit it together, as whatever `m3dllm.training` trains can: the first one writes."""
    fits: str = ""
    """The system that it fits, and whose checkpoints it takes; "": itself."""
    extra: str | None = None
    """The extra of this package that brings what the system needs, or None."""
    needs: tuple[str, ...] = ()
    """The modules that the extra brings: present when all of them are found."""

    def __post_init__(self) -> None:
        for name in ("tasks", "modalities", "languages"):
            object.__setattr__(self, name, frozenset(getattr(self, name)))
        for name, known in (("tasks", _TASKS), ("modalities", _MODALITIES), ("languages", _LANGUAGES)):
            if odd := set(getattr(self, name)) - known:
                raise ValueError(f"{name} of system {self.name!r}: {sorted(odd)} are not among {sorted(known)}")

    @property
    def fitted_name(self) -> str:
        """The system that its checkpoints are of."""
        return self.fits or self.name

    @property
    def missing(self) -> tuple[str, ...]:
        """The needed modules that are not installed."""
        return _not_installed(self.needs)

    def declared(self, config: Any) -> SystemSpec:
        """The spec with these options, where what the system can do depends on them. Raises UserError."""
        return config.declared(self) if isinstance(config, Options) else self

    def require(self, config: Any = None) -> None:
        """Raises UserError, with the command that mends it, where a module that `config` needs is not installed."""
        needed = config.needs if isinstance(config, Options) else None
        extra, needs = needed or (self.extra, self.needs)
        if missing := _not_installed(needs):
            hint = f": pip install 'm3dllm[{extra}]'" if extra else ""
            raise UserError(f"system '{self.name}' needs {', '.join(map(repr, missing))}{hint}")

    def config_class(self) -> type[Any] | None:
        """The dataclass of the system's options. Raises UserError when the module cannot be imported."""
        return self._resolve(self.config) if isinstance(self.config, str) else self.config

    def load(self, config: Any = None) -> Callable[..., System]:
        """The factory. Raises UserError when something is not installed or its module cannot be imported."""
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
        """The preview. Raises UserError where the system has none, or it cannot be loaded."""
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


_TASKS = frozenset(TASKS)
_MODALITIES = frozenset(("text", "video"))
_LANGUAGES = frozenset(("en", "zh"))
