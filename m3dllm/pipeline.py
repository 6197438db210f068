"""The steps of a run: fit, predict, normalize, score. Each reads files of the run and writes the next one.

`run` walks all of them. A step that was cut off is taken up where it stopped when the same command is given again; at
most the document in hand is lost. `normalize` and `score` need neither the system nor what it was made of.
"""

from __future__ import annotations

import logging
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from m3dllm.corpora.images import image_problem
from m3dllm.corpora.missing import Manifest, show
from m3dllm.ending import Shown
from m3dllm.errors import UserError
from m3dllm.experiment import Experiment, Plan, labels_hash, now, plan, read_done
from m3dllm.files import cannot_write, clear_leftovers, read_bytes, sha256, sha256_file, write_atomic
from m3dllm.normalize import normalize as normalize_one
from m3dllm.runs import Run, RunRecord, made_now, open_run
from m3dllm.score import Settings
from m3dllm.score import score as score_all
from m3dllm.score.corpus import GIVEN
from m3dllm.system import System
from m3dllm.types import Chain, Document, Example, Given, GivenKind, RawOutput, Subset
from m3dllm.wire import WireError, convert, decode, decode_raw, encode, encode_raw, pretty

log = logging.getLogger("m3dllm")


def run(experiment: Experiment, *, variants: Sequence[str] = (), retry_failed: bool = False) -> Run:
    """Fit where the system trains, predict, normalize and score; the same experiment again takes up where it stopped.

    `retry_failed`: documents that failed for good are asked again too.

    Raises UserError for what the user can mend; answered documents are kept.
    """
    settings = Settings(variants=tuple(variants))
    work = plan(experiment)
    with begun(work) as (found, record):
        if work.fits:
            record = _fit(found, record, work)
        record = _predict(found, record, work, retry_failed=retry_failed)
        _normalize(found, record)
        _score(found, record, replace(settings, tasks=record.tasks))
    return found


def fit(experiment: Experiment) -> Run:
    """Only fit: the run's checkpoint. Raises UserError where the system does not train.

    Of several processes that fit together (`accelerate launch`), the first one writes; the others compute.
    """
    work = plan(experiment, only_fit=True)
    if not work.fits:
        why = "does not train" if not work.spec.trainable else "has a checkpoint already: leave --checkpoint out"
        raise UserError(f"system '{work.spec.name}' {why}")
    if os.environ.get("RANK", "0") != "0":
        log.setLevel(logging.WARNING)
        found = Run(work.path)
        if not (found.checkpoint / "done.json").is_file():
            make_system(work, checkpoint=None).fit(work.train, work.dev, found.checkpoint)
        return found
    with begun(work) as (found, record):
        finished = (found.checkpoint / "done.json").is_file()
        _fit(found, record, work)
        if finished:
            log.info("%s: the fit was finished before", found.path)
            make_system(work, checkpoint=None).fitted(found.checkpoint)
    return found


def predict(experiment: Experiment, *, retry_failed: bool = False) -> Run:
    """Only predict: raw.jsonl. Raises UserError where a system that trains has no finished checkpoint."""
    work = plan(experiment)
    with begun(work) as (found, record):
        if work.fits and not (found.checkpoint / "done.json").is_file():
            message = (
                "has no finished checkpoint: fit first with 'm3dllm fit' and the same options, or give --checkpoint"
            )
            raise UserError.at(found.path, message)
        _predict(found, record, work, retry_failed=retry_failed)
    return found


def preview(experiment: Experiment) -> str:
    """What would be asked first about the first document that anything is asked about; no weights are loaded.

    Raises UserError for a system that asks with no prompt, or documents that cannot be shown.
    """
    work = plan(experiment)
    show_first = work.spec.load_preview(work.config)
    subsets = _subsets(work.record)
    for example in work.test:
        document = _given(example, work.passes[0], subsets)
        try:
            found = show_first(work.config, document, labels=work.corpus.labels, examples=work.train)
        except ValueError as error:
            raise UserError(f"document '{document.id}' cannot be shown: {error}") from error
        if found is not None:
            return str(found)
    raise UserError("nothing would be asked about any of these documents")


def normalize(path: Path) -> Run:
    """predictions.jsonl from raw.jsonl of the run at `path`, without its system."""
    found = Run(path)
    record = found.record()
    with found.locked():
        _normalize(found, record)
    return found


def score(path: Path, *, settings: Settings | None = None) -> Run:
    """scores.json and per_document.jsonl from predictions.jsonl of the run at `path`, without its system."""
    found = Run(path)
    record = found.record()
    with found.locked():
        _score(found, record, settings or Settings(tasks=record.tasks))
    return found


# --- the steps --------------------------------------------------------------------------------------------------------


@contextmanager
def begun(work: Plan) -> Iterator[tuple[Run, RunRecord]]:
    """The plan's run directory, locked, begun or resumed, with its documents written and its log open."""
    found = Run(work.path)
    examples = None
    if not (work.path / "documents.jsonl").exists():  # what fails here leaves no run behind
        work.spec.load(work.config)
        examples = list(_as_scored(work))
    with found.locked():
        record = open_run(found, work.record)
        with _logged(work.path / "log.txt"):
            for note in work.notes:
                log.warning(note)
            if examples is not None:
                found.write_examples(examples)
            try:
                yield found, record
            except UserError:
                found.drop_unused()
                raise


def _fit(found: Run, record: RunRecord, work: Plan) -> RunRecord:
    folder = found.checkpoint
    if (folder / "done.json").is_file():
        read_done(folder)
        return record
    clear_leftovers(folder)
    record = made_now(record, work.record, beside=False)
    log.info("fit %s on %d documents, %d to choose by", work.spec.name, len(work.train), len(work.dev))
    folder.mkdir(exist_ok=True)
    started = time.perf_counter()
    make_system(work, checkpoint=None).fit(work.train, work.dev, folder)
    seconds = time.perf_counter() - started
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    done = {
        "format": 1,
        "system": work.spec.name,
        "config": record.config,
        "labels_sha256": labels_hash(work.corpus),
        "corpus": record.corpus,
        "files": {name: sha256_file(folder / name) for name in files},
    }
    write_atomic(folder / "done.json", pretty(done))
    record = _spent(record, "fit", seconds)
    found.write_record(record)
    log.info("fitted in %.1f s", seconds)
    return record


def _predict(found: Run, record: RunRecord, work: Plan, *, retry_failed: bool) -> RunRecord:
    subsets = _subsets(record)
    answered = found.answered(retry_failed=retry_failed)
    asked = [
        _given(example, kind, subsets)
        for kind in work.passes
        for example in asked_in(kind, work.test)
        if (example.document.id, kind) not in answered
    ]
    if asked:
        checkpoint = work.checkpoint or (found.checkpoint if work.fits else None)
        started = time.perf_counter()
        system = make_system(work, checkpoint=checkpoint)
        answers = checked_answers(system, asked, work.spec.name)
        record = made_now(_told(record, system, work), work.record, beside=bool(answered) or work.fits)
        if answered:
            _check_model(found, system.provenance)
            _check_frames(found, asked)
            log.info("%d answers are there already", len(answered))
        found.write_record(record)
        resumes = bool(answered)
        with (
            found.raw_log() as raws,
            found.prompt_log() as prompts,
            _progress(len(asked), f"{work.spec.name}: predict") as step,
        ):
            for raw, line in answers:
                if resumes and raw.failure is None:  # a server tells its model with its first answer
                    _check_model(found, system.provenance)
                    resumes = False
                prompts.add(system.take_prompts())
                raws.append(line)
                step()
        record = _told(record, system, work)
        record = _spent(record, "predict", time.perf_counter() - started)
    failed = found.failed()
    again = [raw for raw in failed if raw.failure and raw.failure.retryable]
    status = "incomplete" if again else "done"
    record = replace(record, status=status, finished=record.finished if not asked and record.finished else now())
    found.write_record(record)
    for raw in failed[:3]:
        log.warning("document %s was not answered: %s", raw.document, raw.failure and raw.failure.message)
    if failed:
        n = len(found.raws())
        log.warning("%d of %d answered; %d failed", n - len(failed), n, len(failed))
        for what, n in (("the same command", len(again)), ("--retry-failed", len(failed) - len(again))):
            if n:
                log.warning("%d of these are asked again by %s", n, what)
    return record


def _check_model(found: Run, provenance: Mapping[str, Any]) -> None:
    """Raises UserError where another model would answer than the one whose answers are there.

    Of what a server says of its model with each answer, one of those seen now must have been seen then.
    """
    recorded = found.record().provenance
    for name, what in IDENTITY.items():
        before, after = recorded.get(name), provenance.get(name)
        if not before or not after or before == after:
            continue
        if isinstance(before, list) and isinstance(after, list):
            if not {*before}.isdisjoint(after):
                continue
            before, after = ", ".join(map(str, before)), ", ".join(map(str, after))
        shown = [str(value)[:12] if name == "sha256" else str(value)[:80] for value in (before, after)]
        message = f"was answered by {what} ({shown[0]}) than now ({shown[1]}): name another --out"
        raise UserError.at(found.path, message)


IDENTITY = {
    "sha256": "other weights",
    "model": "another model",
    "root": "another model",
    "response_models": "another model",
    "fingerprints": "another state of the server's model",
}
"""What of a system's provenance says which model answered."""


def _check_frames(found: Run, documents: Iterable[Document]) -> None:
    """Raises UserError where a frame is no longer what it was when the run began."""
    known = {e.document.id: [frame.sha256 for frame in e.document.frames] for e in found.examples()}
    for document in documents:
        for frame, expected in zip(document.frames, known.get(document.id, []), strict=False):
            if sha256_file(Path(frame.path)) != expected:
                message = "is another image than when the run began: put it back, or name another --out"
                raise UserError.at(frame.path, message)


def _normalize(found: Run, record: RunRecord) -> None:
    subsets = _subsets(record)
    raws = found.raws(missing_ok=False)
    examples = found.examples()
    predictions = []
    for example in examples:
        document = show(example.document, subsets.get(example.document.id, "full"))
        kinds: tuple[GivenKind | None, ...] = (None, "mentions", "chains")
        for raw in (raws.get((document.id, kind)) for kind in kinds):
            if raw is not None:
                predictions.append(normalize_one(document, raw, record.labels))
    if silent := sum((e.document.id, None) not in raws for e in examples):
        log.warning("%s: %d documents have no answer, which counts as an empty one", found.path, silent)
    found.write_predictions(predictions)


def _score(found: Run, record: RunRecord, settings: Settings) -> None:
    subsets = _subsets(record) or None
    scores = score_all(found.examples(), found.predictions(), labels=record.labels, settings=settings, subsets=subsets)
    found.write_scores(scores.to_wire(), scores.rows())


# --- parts ------------------------------------------------------------------------------------------------------------


def make_system(work: Plan, *, checkpoint: Path | None) -> System:
    """The plan's system, made by its factory."""
    return work.spec.load(work.config)(
        work.config, labels=work.corpus.labels, examples=work.train, checkpoint=checkpoint
    )


def _told(record: RunRecord, system: System, work: Plan) -> RunRecord:
    """`record` with what the system says of itself and of its work so far."""
    return replace(
        record,
        provenance=dict(system.provenance),
        notes=(*work.record.notes, *system.notes),
        tally=decode(encode(system.tally), dict[str, Any]),
    )


def _spent(record: RunRecord, step: str, seconds: float) -> RunRecord:
    """`record` with the time of a step, and the most memory that this process has had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak_mb = peak / (1_000_000 if sys.platform == "darwin" else 1_000)  # kilobytes, but bytes on macOS
    return replace(
        record,
        seconds=record.seconds | {step: round(seconds, 3)},
        memory_mb=record.memory_mb | {step: round(peak_mb, 1)},
    )


def checked_answers(system: System, documents: Sequence[Document], name: str) -> Iterator[tuple[RawOutput, bytes]]:
    """The system's answers and their lines in raw.jsonl, each checked to be of the document that is next.

    The system is called before the first answer is taken. Raises UserError for an answer to another document.
    """
    return _lines_of(iter(system.predict(documents)), documents, name)


def _lines_of(
    answers: Iterator[RawOutput], documents: Sequence[Document], name: str
) -> Iterator[tuple[RawOutput, bytes]]:
    for document in documents:
        raw = next(answers, None)
        if raw is None:
            raise UserError(f"system '{name}' stopped before document '{document.id}': it owes one answer a document")
        if not isinstance(raw, RawOutput) or raw.document != document.id:
            said = raw.document if isinstance(raw, RawOutput) else type(raw).__name__
            raise UserError(f"system '{name}' answered '{said}' where document '{document.id}' was next")
        raw = replace(raw, given=document.given.kind if document.given else None)
        try:
            line = encode_raw(raw)
            decode_raw(line)
        except WireError as error:
            raw = RawOutput(document.id, raw.given, error=f"the answer cannot be kept: {error.message}")
            line = encode_raw(raw)
        yield raw, line


def asked_in(kind: GivenKind | None, examples: Iterable[Example]) -> list[Example]:
    """The documents of the pass `kind`: with gold given, those on which what it is given for has a score."""
    tasks = {task for task, given in GIVEN.items() if given == kind}
    return [example for example in examples if kind is None or tasks & example.annotated]


def _given(example: Example, kind: GivenKind | None, subsets: dict[str, Subset]) -> Document:
    """What the system sees of a document in the pass `kind`. A hidden text has no mentions to give."""
    subset = subsets.get(example.document.id, "full")
    document = show(example.document, subset)
    if kind is None:
        return document
    chains = () if subset == "no_text" else example.gold.chains
    if kind == "mentions":
        spans = {m.span: m for chain in reversed(chains) for m in reversed(chain.mentions)}
        chains = tuple(Chain(f"m{i}", (m,)) for i, m in enumerate(sorted(spans.values())))
    return replace(document, given=Given(chains=chains, kind=kind))


def _subsets(record: RunRecord) -> dict[str, Subset]:
    return {} if record.missing is None else convert(record.missing, Manifest).documents


def _as_scored(work: Plan) -> Iterable[Example]:
    """The full examples, frames relative to the corpus and hashed. Raises UserError for a frame that is no image."""
    root = work.corpus.root.absolute()
    for example in work.test:
        frames = []
        for frame in example.document.frames:
            data = read_bytes(Path(frame.path))
            if problem := image_problem(data, (frame.width_px, frame.height_px)):
                raise UserError.at(frame.path, f"{problem}: see 'm3dllm check {work.corpus.root}'")
            relative = Path(frame.path).relative_to(root).as_posix()
            frames.append(replace(frame, path=relative, sha256=sha256(data)))
        yield replace(example, document=replace(example.document, frames=tuple(frames)))


class RunLog(logging.FileHandler):
    """The run's log.txt."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace")
        self.setFormatter(Shown("%(asctime)s %(levelname)s %(message)s"))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  the name that logging calls
        """Raises UserError where the disk refuses a line."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            raise cannot_write(Path(self.baseFilename), error) from error
        super().handleError(record)


@contextmanager
def _logged(path: Path) -> Iterator[None]:
    """Log lines go to the run's log.txt as well."""
    handler = RunLog(path)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()


@contextmanager
def _progress(total: int, what: str) -> Iterator[Callable[[], None]]:
    """A bar on a terminal; a line every ten seconds in a pipe."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(what, total=total)
            yield lambda: bar.advance(task)
    else:
        clock = _Clock(total, what, time.monotonic())
        yield clock.step
        log.info("%s: %d documents", what, clock.done)


@dataclass(slots=True)
class _Clock:
    total: int
    what: str
    said: float
    done: int = 0

    def step(self) -> None:
        self.done += 1
        if time.monotonic() - self.said > 10:
            self.said = time.monotonic()
            log.info("%s: %d of %d", self.what, self.done, self.total)
