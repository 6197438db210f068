"""A run in progress: its plan, directory and record, and the writing of answers."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from m3dllm.corpora.images import image_problem
from m3dllm.ending import SafeFormatter
from m3dllm.errors import UserError
from m3dllm.experiment import Plan
from m3dllm.files import cannot_write, read_bytes, sha256, sha256_file, written_atomic
from m3dllm.memory import peak_mb
from m3dllm.positions import Positions
from m3dllm.runs import RawOutputs, Run, RunRecord
from m3dllm.stream import Spool, Stream, heads
from m3dllm.system import System
from m3dllm.types import Document, Example, RawOutput, Task
from m3dllm.wire import WireError, decode, decode_example, decode_raw, encode, encode_example, encode_raw, example_head

log = logging.getLogger("m3dllm")

MODEL = {
    "sha256": "other weights",
    "weights_sha256": "other weights",
    "model": "another model",
    "root": "another model",
    "response_models": "another model",
    "fingerprints": "another state of the server's model",
}
"""The keys of a system's provenance that identify the model."""


@dataclass(eq=False)
class RunSession:
    """A run that only this process may write; each of its files is parsed once, when needed."""

    plan: Plan
    run: Run
    record: RunRecord

    @cached_property
    def examples(self) -> Stream[Example]:
        """documents.jsonl."""
        return self.run.examples()

    @cached_property
    def raws(self) -> RawOutputs:
        """The last answer of each document in each pass."""
        return self.run.raws()

    def write(self, record: RunRecord) -> None:
        """Write `record` as the run's record."""
        self.record = record
        self.run.write_record(record)

    @contextmanager
    def keeping(self, system: System) -> Iterator[Callable[[bytes], None]]:
        """Yields a function that writes a line of an answer, after the prompts that led to it."""
        with self.run.raw_log() as raws, self.run.prompt_log() as prompts:

            def keep(line: bytes) -> None:
                prompts.add(system.take_prompts())
                raws.append(line)

            yield keep
        del self.raws

    def check_frames(self, documents: Iterable[Document]) -> None:
        """Raises UserError if a frame has changed since the run began."""
        known: Positions[str] = Positions(lambda i: example_head(self.examples.line(i)).id)
        for head in heads(self.examples):
            known.add(head.id)
        for document in documents:
            place = known.get(document.id) if document.frames else None
            before = () if place is None else self.examples[place].document.frames
            for frame, expected in zip(document.frames, (frame.sha256 for frame in before), strict=False):
                if sha256_file(Path(frame.path)) != expected:
                    message = "has changed since the run began: restore it, or choose another --out"
                    raise UserError.at(frame.path, message)


@contextmanager
def open_run(plan: Plan) -> Iterator[RunSession]:
    """The plan's run, new or resumed, locked, with its documents written and its log open."""
    run = Run(plan.path)
    examples = Spool(encode_example, decode_example)
    if not (plan.path / "documents.jsonl").exists():  # a failure here leaves no run behind
        plan.spec.load(plan.config)
        examples.extend(_as_scored(plan))
    with run.locked():
        session = RunSession(plan, run, run.begin(plan.record, defaults=plan.defaults))
        with _logged(plan.path / "log.txt"):
            for note in plan.notes:
                log.warning(note)
            if len(examples):
                with written_atomic(plan.path / "documents.jsonl") as file:
                    examples.copy_to(file)
            elif len(session.examples) != len(plan.test) or any(
                before.id != now.id for before, now in zip(heads(session.examples), heads(plan.test), strict=True)
            ):
                message = "covers other documents than this version selects by the same options: choose another --out"
                raise UserError.at(plan.path, message)
            try:
                yield session
            except UserError:
                run.drop_unused()
                raise


def make_system(plan: Plan, *, checkpoint: Path | None) -> System:
    """The plan's system, made by its factory."""
    return plan.spec.load(plan.config)(
        plan.config, labels=plan.corpus.labels, examples=plan.train, checkpoint=checkpoint
    )


def with_provenance(record: RunRecord, plan: Plan, system: System) -> RunRecord:
    """`record` with the provenance, notes and tally that the system reports."""
    return replace(
        record,
        provenance=dict(system.provenance),
        notes=(*plan.record.notes, *system.notes),
        unsupported=_unsupported(plan, system),
        tally=decode(encode(system.tally), dict[str, Any]),
    )


def _unsupported(plan: Plan, system: System) -> tuple[Task, ...]:
    """The requested tasks that the system does not answer. Raises UserError if it answers none."""
    found = tuple(task for task in plan.record.tasks if task in system.unsupported)
    if found == plan.record.tasks:
        why = "; ".join(system.notes) or "it does not read what they need, or had no gold to learn them from"
        raise UserError(f"system '{plan.spec.name}' as configured does not answer {', '.join(found)}: {why}")
    return found


def with_timing(record: RunRecord, step: str, seconds: float) -> RunRecord:
    """`record` with the time of a step, and this process's peak memory since `forget_peak`."""
    return replace(
        record,
        seconds=record.seconds | {step: round(seconds, 3)},
        memory_mb=record.memory_mb | {step: round(peak_mb(), 1)},
    )


def check_model(path: Path, recorded: Mapping[str, Any], provenance: Mapping[str, Any]) -> None:
    """Raises UserError if the model is another than the one recorded for the existing answers.

    Of the model names that a server reports with its answers, at least one must be the same.
    """
    for name, what in MODEL.items():
        before, after = recorded.get(name), provenance.get(name)
        if not before or not after or before == after:
            continue
        if isinstance(before, list) and isinstance(after, list):
            if not {*before}.isdisjoint(after):
                continue
            before, after = ", ".join(map(str, before)), ", ".join(map(str, after))
        shown = [str(value)[:12] if name.endswith("sha256") else str(value)[:80] for value in (before, after)]
        message = f"was answered by {what} ({shown[0]}) than now ({shown[1]}): choose another --out"
        raise UserError.at(path, message)


def checked_answers(system: System, documents: Sequence[Document], name: str) -> Iterator[tuple[RawOutput, bytes]]:
    """(answer, its line for raw.jsonl) of each document, checked to be in order.

    The system is called before the first answer is consumed. Raises UserError for an answer to another document.
    """
    return _lines_of(iter(system.predict(documents)), documents, name)


def _lines_of(
    answers: Iterator[RawOutput], documents: Sequence[Document], name: str
) -> Iterator[tuple[RawOutput, bytes]]:
    for document in documents:
        raw = next(answers, None)
        if raw is None:
            raise UserError(
                f"system '{name}' stopped before document '{document.id}': expected one answer per document"
            )
        if not isinstance(raw, RawOutput) or raw.document != document.id:
            named = raw.document if isinstance(raw, RawOutput) else type(raw).__name__
            raise UserError(f"system '{name}' answered '{named}' where document '{document.id}' was next")
        raw = replace(raw, given=document.given.kind if document.given else None)
        try:
            line = encode_raw(raw)
            decode_raw(line)
        except WireError as error:
            raw = RawOutput(document.id, raw.given, error=f"the answer cannot be kept: {error.message}")
            line = encode_raw(raw)
        yield raw, line


def _as_scored(plan: Plan) -> Iterable[Example]:
    """The full examples, frames relative to the corpus and hashed. Raises UserError for a frame that is no image."""
    root = plan.corpus.root.absolute()
    for example in plan.test:
        frames = []
        for frame in example.document.frames:
            data = read_bytes(Path(frame.path))
            if problem := image_problem(data, (frame.width_px, frame.height_px)):
                raise UserError.at(frame.path, f"{problem}: see 'm3dllm check {plan.corpus.root}'")
            relative = Path(frame.path).relative_to(root).as_posix()
            frames.append(replace(frame, path=relative, sha256=sha256(data)))
        yield replace(example, document=replace(example.document, frames=tuple(frames)))


class RunLog(logging.FileHandler):
    """The run's log.txt."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace")
        self.setFormatter(SafeFormatter("%(asctime)s %(levelname)s %(message)s"))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  the name that logging calls
        """Raises UserError if a line cannot be written."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            raise cannot_write(Path(self.baseFilename), error) from error
        super().handleError(record)

    def close(self) -> None:
        """Close without another error: a failed write was reported when it happened."""
        with suppress(OSError):
            super().close()


@contextmanager
def _logged(path: Path) -> Iterator[None]:
    """Write log lines to the run's log.txt as well."""
    handler = RunLog(path)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()
