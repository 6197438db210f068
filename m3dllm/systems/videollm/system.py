"""The system: a video LLM that is prompted for annotations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from m3dllm.errors import UserError
from m3dllm.labels import LabelSet
from m3dllm.system import System
from m3dllm.systems.videollm import embedded
from m3dllm.systems.videollm.adapters.use import check_use, tuned
from m3dllm.systems.videollm.builder import PromptBuilder
from m3dllm.systems.videollm.config import Config, check
from m3dllm.systems.videollm.dialogue import Dialogue, prompts_of
from m3dllm.systems.videollm.engines import find_engine, make_engine
from m3dllm.systems.videollm.engines.base import CAPABILITIES, ContextBudget, Engine
from m3dllm.systems.videollm.fewshot import FewShotSelector
from m3dllm.systems.videollm.options import Options
from m3dllm.systems.videollm.strategies import find_strategy
from m3dllm.systems.videollm.strategies.base import Strategy
from m3dllm.systems.videollm.tally import Tally
from m3dllm.types import Document, Example, RawOutput, Task


class VideoLLM(System):
    """A video LLM that is prompted for annotations.

    `provenance`: model and prompts, with their hashes; `tally`: the cost so far; `take_prompts`: the prompts sent since
    its last call, by hash.
    """

    def __init__(
        self,
        config: Config | None,
        *,
        labels: LabelSet,
        examples: Sequence[Example] = (),
        checkpoint: Path | None = None,
        engine: Engine | None = None,
    ) -> None:
        """`engine`: a loaded one; default: loaded when needed. `checkpoint`: the result of a fit.

        Raises UserError for impossible options, and for an adapter that is missing or was tuned for other prompts.
        """
        config = config or Config()
        local = "local" in find_engine(config.engine).supports
        config, self.adapter = tuned(config, checkpoint, local=local)
        super().__init__(config, labels=labels, examples=examples, checkpoint=checkpoint)
        self.strategy = find_strategy(self.config.strategy)
        self.strategy.check(labels)
        self.is_embedded = bool(
            (local and self.config.model is None) or (self.adapter and not self.adapter.card.base.model)
        )
        self.prompts = prompts_of(self.config, embedded_model=self.is_embedded)
        self.config = replace(self.config, prompt_version=self.prompts.version)
        check(self.config, labels)
        if self.config.schema_only and not self.strategy.has_schema:
            raise UserError(f"--schema-only: the answers of --strategy {self.config.strategy} are not JSON: omit it")
        if self.adapter is not None:
            check_use(self.adapter, self.config, labels, self.prompts.sha256(self.strategy.folders[0]))
        self.selector = FewShotSelector(examples, self.config)
        self.budget: ContextBudget | None = None
        if engine is not None:
            self.engine = engine

    @cached_property
    def engine(self) -> Engine:
        """The engine, with its model loaded. Raises UserError for a missing model."""
        return make_engine(self.config, self.budget)

    @cached_property
    def dialogue(self) -> Dialogue:
        """The dialogue with the engine."""
        roles = {role: self._role_builder(options) for role, options in self._roles().items()}
        return Dialogue(self._builder(self.engine), roles)

    def _roles(self) -> dict[str, Options]:
        """role -> the options of a model besides the main one."""
        named = {"entailment": self.config.entailment_model, "grounding": self.config.grounding_model}
        alike = replace(self.config, adapter=None, revision=None, family=None, box_convention=None)
        wanted = {stage.model for stage in self.strategy.stages}
        return {role: replace(alike, model=model) for role, model in named.items() if model and role in wanted}

    def _role_builder(self, options: Options) -> PromptBuilder:
        return PromptBuilder(options, self.labels, make_engine(options), self.prompts, self.selector)

    @property
    def builder(self) -> PromptBuilder:
        """The prompt builder for the engine."""
        return self.dialogue.builder

    def _builder(self, engine: Engine) -> PromptBuilder:
        return PromptBuilder(self.config, self.labels, engine, self.prompts, self.selector)

    def fit(self, train: Sequence[Example], dev: Sequence[Example], out: Path) -> None:
        """Tune the model to the gold answers of `train`, select the epoch on `dev`, and write the weights into `out`.

        Raises UserError, see `tuning.trainer.fit`.
        """
        try:
            from m3dllm.systems.videollm.tuning.trainer import fit
        except ImportError as error:
            raise UserError(f"training needs a package that is missing ({error}): pip install 'm3dllm[llm]'") from error
        fit(self.config, self.labels, train, dev, out)

    def fitted(self, out: Path) -> None:
        """Save the result of the finished fit in `out` under the name in the options. Raises UserError."""
        if self.config.save_as:
            from m3dllm.systems.videollm.tuning.saving import keep_as

            keep_as(self.config, out)

    @property
    def at_once(self) -> int:
        return self.engine.max_concurrency

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for readers of the scores."""
        tuned_as = (self.adapter.note,) if self.adapter is not None else ()
        loaded = (*self._lacking(), *self._without_regions(), *self.engine.notes) if "engine" in vars(self) else ()
        return ((embedded.NOTE,) if self.is_embedded else ()) + tuned_as + loaded

    def _lacking(self) -> tuple[str, ...]:
        """The capabilities that the strategy relies on and the engine lacks, in words."""
        lacking = sorted(self.strategy.wants - self.engine.supports)
        return tuple(f"--strategy {self.config.strategy}: no engine that {CAPABILITIES[name]}" for name in lacking)

    @property
    def unsupported(self) -> frozenset[Task]:
        """Grounding, if regions are not predicted."""
        return frozenset(("grounding",) if self._without_regions() else ())

    def _without_regions(self) -> tuple[str, ...]:
        """Why regions are not predicted, in words; () if they are."""
        if any(builder.grounds for builder in (self.builder, *self.dialogue.roles.values())):
            return ()
        if not self.engine.sees:
            return ("text only: the model reads no images",)
        if not self.config.frames:
            return ("text only: no frames were shown (--frames 0)",)
        if self.config.video:
            return ("no regions: the frames were shown as one video",)
        if "clip" in self.engine.supports and not self.strategy.is_framewise:
            return (
                "no regions: the model sees the frames as one clip; --strategy framewise shows one frame at a time",
            )
        unknown = f"nothing documents how a model of family '{self.engine.family.name}' writes boxes"
        return (f"no regions: {unknown}; --box-convention sets one",)

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Model and prompts of the answers."""
        roles = self.dialogue.roles
        return {
            "constraint": constraint_of(self.config, self.engine, self.strategy),
            **self.engine.provenance,
            "shown": "text and frames" if self.builder.most_frames else "text only",
            "box_convention": self.builder.convention.name if self.builder.convention else None,
            "prompts": self.prompts.hashes(*self.strategy.folders),
        } | ({"roles": {role: dict(b.engine.provenance) for role, b in roles.items()}} if roles else {})

    @property
    def tally(self) -> Tally:
        """The cost of the answers so far."""
        return self.dialogue.tally if "dialogue" in vars(self) else Tally()

    def take_prompts(self) -> dict[str, str]:
        """The prompts that were sent since the last call: sha256 to text, see `messages.prompt_text`."""
        return self.dialogue.take_prompts()

    def predict(self, documents: Sequence[Document]) -> Iterator[RawOutput]:
        """One answer per document, in order; a failed document has an error, and the others go on.

        The engine is loaded before the first answer is consumed, with the budget of the documents if it uses one.
        Raises UserError for a missing model, and for a strategy that does not apply to the documents.
        """
        self._check_proposed(documents)
        if "budget" in find_engine(self.config.engine).supports and "engine" not in vars(self):
            from m3dllm.systems.videollm.engines.local.tokenizer_only import TokenizerOnlyEngine

            self.budget = self._builder(TokenizerOnlyEngine(self.config)).budget(documents)
        return self.dialogue.predict(documents)

    def _check_proposed(self, documents: Sequence[Document]) -> None:
        name, first = self.config.strategy, next(iter(documents), None)
        if first is None or self.strategy.checks == (first.proposed is not None):
            return
        if self.strategy.checks:
            raise UserError(f"--strategy {name} checks the proposals of another system: use --system cascade")
        raise UserError(f"--strategy {name} predicts from scratch and cannot check proposals: use verify")


def constraint_of(options: Options, engine: Engine, strategy: Strategy) -> str:
    """The constraint of the answers: "grammar", "schema" or "none"."""
    if options.unconstrained:
        return "none"
    kinds = ("schema",) if options.schema_only else ("grammar", "schema")
    if not strategy.has_schema:
        kinds = ("grammar",)
    return next((kind for kind in kinds if kind in engine.supports), "none")
