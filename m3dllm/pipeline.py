"""The steps of a run: fit, predict, normalize, score. Each reads files of the run and writes the next one.

`run` does all of them. The same command resumes an interrupted step; at most the current document is lost. `normalize`
and `score` do not need the system.
"""

from __future__ import annotations

import logging
import time
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from m3dllm import summary
from m3dllm.cluster import Workers
from m3dllm.columns import counted
from m3dllm.corpora.missing import Manifest, show
from m3dllm.errors import UserError
from m3dllm.experiment import Experiment, now, plan, read_done
from m3dllm.files import clear_leftovers, sha256_file, write_atomic
from m3dllm.memory import forget_peak
from m3dllm.normalize import normalize as normalize_one
from m3dllm.processes import adopt_mpi, beside, is_first
from m3dllm.progress import progress
from m3dllm.runs import RawOutputs, Run, RunRecord, with_environment
from m3dllm.score import Settings
from m3dllm.score.corpus import GIVEN
from m3dllm.session import (
    RunSession,
    check_model,
    checked_answers,
    make_system,
    open_run,
    with_provenance,
    with_timing,
)
from m3dllm.stream import Lazy
from m3dllm.types import Annotation, Chain, Document, Example, Given, GivenKind, Prediction, Subset
from m3dllm.wire import convert, labels_sha256, pretty

log = logging.getLogger("m3dllm")


def run(experiment: Experiment, *, variants: Sequence[str] = (), retry_failed: bool = False) -> Run:
    """Train if needed, predict, normalize and score; the same experiment again resumes an interrupted run.

    `retry_failed`: also retry documents whose failure was final.

    Raises UserError for what the user can fix; answered documents are kept.
    """
    settings = Settings(variants=tuple(variants))
    with open_run(plan(experiment)) as session:
        if session.plan.fits:
            _fit(session)
        _predict(session, retry_failed=retry_failed)
        record = session.record
        _normalize(session.run, record, session.examples, session.raws)
        _score(session.run, record, replace(settings, tasks=record.answered_tasks))
    return session.run


def fit(experiment: Experiment, *, processes: int = 1) -> Run:
    """Only train, and write the run's checkpoint. `processes` on this machine share the work.

    Raises UserError if the system does not train, or not in several processes. Of several processes, also those of
    `torchrun` and `accelerate launch`, only the first one writes.
    """
    adopt_mpi()
    planned = plan(experiment, only_fit=True)
    spec = planned.spec
    if not planned.fits:
        why = "does not train" if not spec.trainable else "already has a checkpoint: omit --checkpoint"
        raise UserError(f"system '{spec.name}' {why}")
    if (processes > 1 or not is_first()) and not spec.fits_in_parallel:
        raise UserError(f"system '{spec.name}' trains in one process: omit --processes, or the launcher")
    if not is_first():
        log.setLevel(logging.ERROR)  # the first process logs the same
        run = Run(planned.path)
        if not (run.checkpoint / "done.json").is_file():
            make_system(planned, checkpoint=None).fit(planned.train, planned.dev, run.checkpoint)
        return run
    with open_run(planned) as session:
        finished = (session.run.checkpoint / "done.json").is_file()
        _fit(session, processes)
        if finished:
            log.info("%s: already fitted", session.run.path)
            make_system(planned, checkpoint=None).fitted(session.run.checkpoint)
    return session.run


def predict(experiment: Experiment, *, retry_failed: bool = False) -> Run:
    """Only predict, and write raw.jsonl. Raises UserError if a system that trains has no finished checkpoint."""
    with open_run(plan(experiment)) as session:
        if session.plan.fits and not (session.run.checkpoint / "done.json").is_file():
            message = (
                "has no finished checkpoint: fit first with 'm3dllm fit' and the same options, or give --checkpoint"
            )
            raise UserError.at(session.run.path, message)
        _predict(session, retry_failed=retry_failed)
    return session.run


def preview(experiment: Experiment) -> str:
    """The first prompt of the first document that has one; loads no weights.

    The constraint of the answer is written to the working directory, under the name of the run. Raises UserError for a
    system without prompts, or documents that cannot be shown.
    """
    planned = plan(experiment)
    show_first = planned.spec.load_preview(planned.config)
    subsets = _subsets(planned.record)
    for example in planned.test:
        document = _given(example, planned.passes[0], subsets)
        try:
            shown = show_first(planned.config, document, labels=planned.corpus.labels, examples=planned.train)
        except ValueError as error:
            raise UserError(f"document '{document.id}' cannot be shown: {error}") from error
        if shown is not None:
            if not (constraint := getattr(shown, "constraint", None)):
                return str(shown)
            file = Path(f"{planned.path.name}.grammar")
            write_atomic(file, constraint)
            return f"{shown} by {file}"
    raise UserError("none of these documents would be prompted for")


def normalize(path: Path) -> Run:
    """Write predictions.jsonl from raw.jsonl of the run at `path`, without its system."""
    run = Run(path)
    record = run.record()
    with run.locked():
        _normalize(run, record, run.examples(), run.raws(missing_ok=False))
    return run


def score(path: Path, *, settings: Settings | None = None) -> Run:
    """Write scores.json and per_document.jsonl from predictions.jsonl of the run at `path`, without its system."""
    run = Run(path)
    record = run.record()
    with run.locked():
        _score(run, record, settings or Settings(tasks=record.answered_tasks))
    return run


UNREAD = frozenset(("no_answer", "not_json", "bad_shape"))
"""The issues of an answer that has not the expected form."""
FORM = (
    'expected {"chains": [{"id", "type", "mentions": […]}], "relations": [{"head", "tail", "type"}], '
    '"regions": [{"frame", "type", "box"}]}'
)


def complaint(run: Run) -> str:
    """Why the scores of a run mean little: most documents have no answer, or most answers cannot be read; else ""."""
    languages = run.scores()["languages"].values()
    documents, silent = (sum(of.get(name, 0) for of in languages) for name in ("documents", "unanswered"))
    if 2 * silent > documents:
        return f"{run.path}: {silent} of {counted(documents, 'document')} were not answered: the scores mean little"
    answers = unread = 0
    first = ""
    for prediction in run.predictions():
        wrong = [issue for issue in prediction.issues if issue.code in UNREAD]
        answers += prediction.given is None
        if prediction.given is None and prediction.annotation == Annotation() and wrong:
            unread += 1
            detail = f" ({wrong[0].detail})" if wrong[0].detail else ""
            first = first or f"'{prediction.document}': {wrong[0].where or 'the answer'}: {wrong[0].code}{detail}"
    if 2 * unread <= answers:
        return ""
    what = f"{unread} of {counted(answers, 'answer')} cannot be read, first {first}"
    return f"{run.path}: {what}; {FORM}"


# --- the steps --------------------------------------------------------------------------------------------------------


def _fit(session: RunSession, processes: int = 1) -> None:
    planned, folder = session.plan, session.run.checkpoint
    if (folder / "done.json").is_file():
        read_done(folder)
        return
    clear_leftovers(folder)
    record = with_environment(session.record, planned.record, beside=False)
    train = counted(len(planned.train), "document")
    shared = f", in {processes} processes" if processes > 1 else ""
    log.info("fit %s on %s, %d for model selection%s", planned.spec.name, train, len(planned.dev), shared)
    folder.mkdir(exist_ok=True)
    forget_peak()
    started = time.perf_counter()
    with beside(processes, fit, planned.experiment):
        make_system(planned, checkpoint=None).fit(planned.train, planned.dev, folder)
    seconds = time.perf_counter() - started
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    done = {
        "format": 1,
        "system": planned.spec.fitted_name,
        "config": record.config,
        "labels_sha256": labels_sha256(planned.corpus.labels),
        "corpus": replace(record.corpus, root=""),
        "files": {name: sha256_file(folder / name) for name in files},
    }
    write_atomic(folder / "done.json", pretty(done))
    session.write(with_timing(record, "fit", seconds))
    log.info("fitted in %.1f s", seconds)


def _predict(session: RunSession, *, retry_failed: bool) -> None:
    planned, record = session.plan, session.record
    documents = _to_ask(session, retry_failed=retry_failed)
    if documents:
        resumes = bool(session.raws)
        checkpoint = planned.checkpoint or (session.run.checkpoint if planned.fits else None)
        forget_peak()
        started = time.perf_counter()
        make = Workers if planned.experiment.executor == "ray" else make_system
        system = make(planned, checkpoint=checkpoint)
        answers = checked_answers(system, documents, planned.spec.name)
        recorded = record.provenance if resumes else {}
        check_model(session.run.path, recorded, system.provenance)
        if resumes:
            session.check_frames(documents)
            log.info("%s there already", counted(len(session.raws), "answer"))
        record = with_environment(record, planned.record, beside=resumes or planned.fits)
        record = with_provenance(record, planned, system)
        session.write(replace(record, provenance=recorded | record.provenance))
        for note in system.notes:
            log.warning("%s: %s", planned.spec.name, note)
        unchecked, n_answers = resumes, 0
        passes = f" × {len(planned.passes)} passes" if len(planned.passes) > 1 else ""
        what = f"{planned.spec.name}, {counted(len(planned.test), 'document')}{passes}"
        with session.keeping(system) as keep, progress(what, len(documents)) as step:
            for raw, line in answers:
                if unchecked and raw.failure is None:  # a server names its model in its first answer
                    check_model(session.run.path, recorded, system.provenance)
                    unchecked = False
                keep(line)
                n_answers += raw.failure is None
                step()
        seconds = time.perf_counter() - started
        log.info("%s in %.1f s", counted(n_answers, "answer"), seconds)
        record = with_timing(with_provenance(record, planned, system), "predict", seconds)
    failed = session.raws.failed()
    again = len(session.raws.failed(retryable=True))
    finished = record.finished if not documents and record.finished else now()
    session.write(replace(record, status="incomplete" if again else "done", finished=finished))
    for raw in failed:
        log.warning("document %s was not answered: %s", raw.document, raw.failure.message if raw.failure else "")
    if failed:
        n = len(session.raws)
        log.warning("%d of %d answered; %d failed", n - len(failed), n, len(failed))
        for what, n in (("the same command", again), ("--retry-failed", len(failed) - again)):
            if n:
                log.warning("%d of these can be retried by %s", n, what)


def _to_ask(session: RunSession, *, retry_failed: bool) -> Sequence[Document]:
    """The documents of all passes without an answer yet, as the system gets them, made on access."""
    planned, subsets = session.plan, _subsets(session.record)
    passes, raws, n = planned.passes, session.raws, len(planned.test)
    which = array("q")
    """Each pass and document as one number: that of the pass times all documents, plus that of the document."""
    for at, kind in enumerate(passes):
        for i, example in enumerate(planned.test):
            key = example.document.id, kind
            if is_asked(kind, example) and not raws.is_answered(key, retry_failed=retry_failed):
                which.append(at * n + i)
    return Lazy(which, lambda one: _given(planned.test[one % n], passes[one // n], subsets))


def _normalize(run: Run, record: RunRecord, examples: Iterable[Example], raws: RawOutputs) -> None:
    subsets = _subsets(record)
    silent = 0

    def predictions() -> Iterator[Prediction]:
        nonlocal silent
        passes: tuple[GivenKind | None, ...] = (None, "mentions", "chains")
        kinds = [kind for kind in passes if kind in raws.passes]
        for example in examples:
            document = show(example.document, subsets.get(example.document.id, "full"))
            answers = [raw for kind in kinds if (raw := raws.get((document.id, kind))) is not None]
            silent += not answers or answers[0].given is not None
            for raw in answers:
                yield normalize_one(document, raw, record.labels)

    run.write_predictions(predictions())
    if silent:
        log.warning("%s: no answer for %s, which counts as an empty one", run.path, counted(silent, "document"))


def _score(run: Run, record: RunRecord, settings: Settings) -> None:
    summary.keep(run, record, summary.walk(run, record, settings))


# --- parts ------------------------------------------------------------------------------------------------------------


def is_asked(kind: GivenKind | None, example: Example) -> bool:
    """Whether a document is in the pass `kind`: passes with gold given need an annotated task to score."""
    return kind is None or any(given == kind and task in example.annotated for task, given in GIVEN.items())


def _given(example: Example, kind: GivenKind | None, subsets: Mapping[str, Subset]) -> Document:
    """A document as the system gets it in the pass `kind`. What is hidden is not given.

    With the chains it gets the regions that have an id: what a relation can name.
    """
    subset = subsets.get(example.document.id, "full")
    document = show(example.document, subset)
    if kind is None:
        return document
    chains = () if subset == "no_text" else example.gold.chains
    if kind == "mentions":
        spans = {m.span: m for chain in reversed(chains) for m in reversed(chain.mentions)}
        chains = tuple(Chain(f"m{i}", (m,)) for i, m in enumerate(sorted(spans.values())))
    frames = {frame.index for frame in document.frames} if kind == "chains" else ()
    regions = (replace(r, chain=None) for r in example.gold.regions if r.id is not None and r.frame in frames)
    return replace(document, given=Given(chains=chains, regions=tuple(regions), kind=kind))


def _subsets(record: RunRecord) -> dict[str, Subset]:
    return {} if record.missing is None else convert(record.missing, Manifest).documents
