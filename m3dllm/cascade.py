"""The cascade: one system proposes, another confirms, retypes or drops each proposal.

Each of the two keeps its own options, and neither knows of the other: the proposals reach the second as
`Document.proposed`. An answer holds both: the decisions of the second, with its confidences where it has any, and as
the last turn the proposals, with the confidences of the first. The cost is the sum of both. `fit` trains the first
system, and a checkpoint is one of it; with `--first replay` the proposals are those of a finished run.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from m3dllm.columns import counted
from m3dllm.config import INCIDENTAL, Options, named, options_of
from m3dllm.errors import UserError
from m3dllm.labels import LabelSet
from m3dllm.normalize import normalize
from m3dllm.options import public, resolve_config
from m3dllm.registry import Broken, all_systems, find_system
from m3dllm.session import checked_answers
from m3dllm.stream import Lazy, Spool
from m3dllm.system import System, SystemSpec
from m3dllm.tokens import tokenize
from m3dllm.types import Annotation, Chain, Document, Example, Mention, RawOutput, Task, Turn
from m3dllm.wire import decode, decode_raw, encode, encode_annotation, encode_raw

log = logging.getLogger("m3dllm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Options):
    """The options of `cascade`."""

    first: str
    """The system that proposes, such as dffm; use replay for the predictions of a finished run."""
    first_preset: str | None = None
    """A preset of the first system."""
    first_option: tuple[str, ...] = ()
    """An option of the first system, name=value, such as answers=runs/mine for replay; repeatable."""
    second: str = "video-llm"
    """The system that confirms, retypes or drops each proposal."""
    second_preset: str | None = None
    """A preset of the second system."""
    second_option: tuple[str, ...] = ()
    """An option of the second system, name=value, such as model=Qwen/Qwen3-VL-4B-Instruct; repeatable."""
    seed: int = 0
    """The random seed of both."""

    def check(self) -> None:
        """Raises UserError for unknown systems, presets or options, and if the second cannot check proposals."""
        _, checker = self.parts
        if checker.spec.proposals is None:
            able = [s.name for s in all_systems() if not isinstance(s, Broken) and s.proposals is not None]
            raise UserError(
                f"--second {self.second}: cannot check what another system proposes; expected {', '.join(able)}"
            )

    @property
    def parts(self) -> tuple[Part, Part]:
        """The two systems with their options. Raises UserError."""
        return (
            _part("first", self.first, self.first_preset, self.first_option, self.seed),
            _part("second", self.second, self.second_preset, self.second_option, self.seed),
        )

    def declared(self, spec: Any) -> Any:
        """The spec of the first system, with the languages and given parts that both systems accept."""
        proposer, checker = (part.spec for part in self.parts)
        for part in self.parts:
            part.spec.require(part.config)
        return replace(
            spec,
            tasks=proposer.tasks,
            modalities={*proposer.modalities, *checker.modalities},
            languages={*proposer.languages}.intersection(checker.languages),
            takes_given=proposer.takes_given and checker.takes_given,
            trainable=proposer.trainable,
            fits_first=proposer.fits_first,
            fits_in_parallel=proposer.fits_in_parallel,
            fits=proposer.fitted_name,
        )

    def gpus(self, *, there: bool) -> int:
        """The larger number of the two: both work in one process and share the GPUs."""
        own = [part.config for part in self.parts if isinstance(part.config, Options)]
        return max((config.gpus(there=there) for config in own), default=0)

    def settled(self, corpus: Path, checkpoint: Path | None) -> Config:
        proposer, checker = self.parts
        return replace(
            self,
            first_option=proposer.settled(corpus, checkpoint),
            second_option=checker.settled(corpus, None),
        )

    def public(self) -> dict[str, Any]:
        """The options of both, without secrets and without options that change no answer."""
        return {f"{part.role}_option": part.shown() for part in self.parts}

    def sources(self) -> dict[str, str]:
        return {
            f"{part.role}.{name}": value
            for part in self.parts
            if isinstance(part.config, Options)
            for name, value in part.config.sources().items()
        }


@dataclass(frozen=True, slots=True)
class Part:
    """One of the two systems, with its options as given and resolved."""

    role: str
    spec: SystemSpec
    given: Mapping[str, str]
    config: Any

    def make(self, labels: LabelSet, examples: Sequence[Example], checkpoint: Path | None) -> System:
        return self.spec.load(self.config)(self.config, labels=labels, examples=examples, checkpoint=checkpoint)

    def preview(self, document: Document, labels: LabelSet, examples: Sequence[Example]) -> Any:
        """Its first prompt; None if it uses no prompts, or has none for this document."""
        if self.spec.preview is None:
            return None
        return self.spec.load_preview(self.config)(self.config, document, labels=labels, examples=examples)

    def settled(self, corpus: Path, checkpoint: Path | None) -> tuple[str, ...]:
        """Its options, with open ones settled. Raises UserError for values that cannot be settled."""
        if not isinstance(self.config, Options):
            return _written(self.given)
        config = self.config.settled(corpus, checkpoint)
        names = [option.name for option in options_of(type(config))]
        decided = {name: value for name in names if (value := getattr(config, name)) != getattr(self.config, name)}
        return _written({**self.given, **decided})

    def shown(self) -> tuple[str, ...]:
        """The given options, as a run keeps them."""
        known, passing = public(self.config), named(type(self.config), INCIDENTAL) if self.config else ()
        return _written({name: known[name] for name in self.given if name not in passing})


def _part(role: str, name: str, preset: str | None, words: Sequence[str], seed: int) -> Part:
    """Raises UserError for an unknown system, preset or option."""
    spec, given = find_system(name), _read(f"--{role}-option", words)
    checks = dict(spec.proposals or {}) if role == "second" else {}
    return Part(role, spec, given, resolve_config(spec, {**checks, **given}, preset=preset, seed=seed))


def _read(flag: str, words: Sequence[str]) -> dict[str, str]:
    """Parse `name=value` words. After a comma, text without an equals sign is one more value of the same option."""
    found: dict[str, str] = {}
    last = ""
    for word in words:
        name, equals, value = word.partition("=")
        if equals:
            last = name.strip().replace("-", "_")
            found[last] = f"{found[last]},{value}" if last in found else value
        elif last:
            found[last] += f",{word}"
        else:
            raise UserError(f"{flag} {word}: expected NAME=VALUE")
    return found


def _written(options: Mapping[str, Any]) -> tuple[str, ...]:
    """The inverse of `_read`."""
    return tuple(
        f"{name}={','.join(map(str, value)) if isinstance(value, tuple | list) else value}"
        for name, value in options.items()
    )


@dataclass(frozen=True, slots=True)
class Preview:
    """The first prompt of each of the two; `constraint` is that of the second."""

    text: str
    constraint: str | None

    def __str__(self) -> str:
        return self.text


def preview(
    config: Config, document: Document, *, labels: LabelSet, examples: Sequence[Example] = ()
) -> Preview | None:
    """The first prompts of both systems about `document`; None if it has no words.

    The real proposals are known only after the first has run: the first word as a mention of the first type stands in.
    """
    proposer, checker = config.parts
    words = tokenize(document)
    if not words:
        return None
    (start, end), kind = words[0], labels.mentions[0].name
    proposed = Annotation((Chain("c0", (Mention(start, end, kind),)),))
    first = proposer.preview(document, labels, examples)
    second = checker.preview(replace(document, proposed=proposed), labels, examples)
    if_so = f"if '{document.text[start:end]}' were proposed as {kind}"
    text = (
        f"first, {proposer.spec.name}: {first or 'does not use prompts'}\n\n"
        f"second, {checker.spec.name}, {if_so}: {second or 'does not use prompts'}"
    )
    return Preview(text, getattr(second, "constraint", None))


class Cascade(System):
    """Runs the first system on all documents, then the second on its proposals."""

    config: Config

    def __init__(
        self, config: Config, *, labels: LabelSet, examples: Sequence[Example] = (), checkpoint: Path | None = None
    ) -> None:
        """`checkpoint`: of the first system. Raises UserError if one of the two cannot be made with its options."""
        super().__init__(config, labels=labels, examples=examples, checkpoint=checkpoint)
        self.parts = config.parts
        proposer, checker = self.parts
        self.first = proposer.make(labels, examples, checkpoint)
        self.second = checker.make(labels, examples, None)

    def fit(self, train: Sequence[Example], dev: Sequence[Example], out: Path) -> None:
        """Fit the first system."""
        self.first.fit(train, dev, out)

    def fitted(self, out: Path) -> None:
        self.first.fitted(out)

    def predict(self, documents: Sequence[Document]) -> Iterator[RawOutput]:
        """One answer per document, in order: what the second makes of the proposals of the first."""
        proposer, _ = self.parts
        proposals = Spool(encode_raw, decode_raw)
        answered: list[int] = []
        for i, (raw, line) in enumerate(checked_answers(self.first, documents, proposer.spec.name)):
            proposals.append_line(line)
            if raw.failure is None:
                answered.append(i)
        log.info("%s proposed in %s", proposer.spec.name, counted(len(answered), "document"))

        def proposed(i: int) -> Document:
            annotation = normalize(documents[i], proposals[i], self.labels).annotation
            return replace(documents[i], proposed=annotation)

        return self._joined(documents, proposals, self.second.predict(Lazy(answered, proposed)))

    def _joined(
        self, documents: Sequence[Document], proposals: Sequence[RawOutput], decided: Iterator[RawOutput]
    ) -> Iterator[RawOutput]:
        name = self.parts[0].spec.name
        for document, raw in zip(documents, proposals, strict=True):
            if raw.failure is not None:
                yield replace(raw, error=replace(raw.failure, message=f"{name}: {raw.failure.message}"))
            else:
                yield _both(name, document, raw, next(decided), self.labels)

    @property
    def provenance(self) -> Mapping[str, Any]:
        """The provenance of the second, and under "first" and "second" that of each."""
        systems = (self.first, self.second)
        return dict(self.second.provenance) | {
            part.role: {"system": part.spec.name, "config": public(part.config), **system.provenance}
            for part, system in zip(self.parts, systems, strict=True)
        }

    @property
    def unsupported(self) -> frozenset[Task]:
        """The tasks that the first does not propose; proposals that the second cannot check are kept as they are."""
        return self.first.unsupported

    @property
    def at_once(self) -> int:
        return self.second.at_once

    @property
    def notes(self) -> tuple[str, ...]:
        systems = (self.first, self.second)
        return tuple(
            f"{part.spec.name}: {note}"
            for part, system in zip(self.parts, systems, strict=True)
            for note in system.notes
        )

    @property
    def tally(self) -> dict[str, Any]:
        """The tally of the second and, under "first", of the first."""
        first, second = (decode(encode(system.tally), dict[str, Any]) for system in (self.first, self.second))
        return second | ({"first": first} if first else {})

    def take_prompts(self) -> dict[str, str]:
        return {**self.first.take_prompts(), **self.second.take_prompts()}


def _both(name: str, document: Document, proposal: RawOutput, answer: RawOutput, labels: LabelSet) -> RawOutput:
    """The second's answer, with the proposals of the first as its last turn and the cost of both."""
    proposed = normalize(document, proposal, labels).annotation
    own = [replace(turn, stage=f"{name}: {turn.stage}") for turn in proposal.turns]
    last = Turn(
        stage=f"proposed by {name}",
        text=encode_annotation(proposed).decode(),
        seconds=None if own else proposal.seconds,
    )
    frames = None
    if proposal.frames is not None and answer.frames is not None:
        frames = tuple(sorted({*proposal.frames, *answer.frames}))
    return replace(
        answer,
        turns=(*answer.turns, *own, last),
        seconds=_sum(proposal.seconds, answer.seconds),
        tokens_in=_sum(proposal.tokens_in, answer.tokens_in),
        tokens_out=_sum(proposal.tokens_out, answer.tokens_out),
        frames=frames,
    )


def _sum(*parts: Any) -> Any:
    """The sum of the known values; None if none is known."""
    known = [part for part in parts if part is not None]
    return sum(known) if known else None
