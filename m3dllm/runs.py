"""Find a run, read it, write it.

A run directory holds `run.json` (the record of the experiment), `documents.jsonl` (the examples as scored), `raw.jsonl`
(one answer per line, appended as it comes), `prompts.jsonl` (each distinct prompt once, for systems with prompts),
`predictions.jsonl`, `scores.json`, `per_document.jsonl`, `checkpoint/` and `log.txt`. Each file depends
only on those before it. Nothing here knows what a system is, so a run made by a system that is no longer installed can
still be scored.
"""

from __future__ import annotations

import fcntl
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

from m3dllm.errors import UserError
from m3dllm.files import cannot_write, clear_abandoned, read_bytes, write_atomic
from m3dllm.labels import LabelSet
from m3dllm.positions import Positions
from m3dllm.stream import Stream
from m3dllm.types import Example, Failure, GivenKind, Prediction, RawOutput, Task
from m3dllm.wire import (
    FORMAT,
    AnswerHead,
    WireError,
    decode,
    decode_example,
    decode_prediction,
    decode_raw,
    encode,
    encode_example,
    encode_prediction,
    pretty,
    raw_head,
    write_lines,
)

Key = tuple[str, GivenKind | None]
ANSWERED, FAILED, RETRYABLE = range(3)

MADE_BY = ("versions", "git", "device")
"""The fields of a record about the software and machine that made the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusRecord:
    """The documents of a run."""

    name: str
    root: str
    split: str
    train: str | None = None
    dev: str | None = None
    lang: str | None = None
    limit: int | None = None
    limit_train: int | None = None
    shard: str | None = None
    """ "2/8": of these documents every eighth, from the second on; None: all."""
    sha256: dict[str, str] = field(default_factory=dict)
    """The hashes of labels.json and of every split that the run reads, by file name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """`run.json`: everything needed to repeat the run. Its identity: the fields up to `sources`, and
    whether the run trains the system."""

    system: str
    config: dict[str, Any]
    preset: str | None
    seed: int
    pairs: str
    tasks: tuple[Task, ...]
    missing: dict[str, Any] | None
    """The modality manifest: its kind, seed, and the subset of each document."""
    checkpoint: str | None
    """sha256 of a given checkpoint; None if the run trains its own or needs none."""
    corpus: CorpusRecord
    labels: LabelSet
    sources: dict[str, str] = field(default_factory=dict)
    """sha256 of the files that the system's options name, such as an adapter's."""
    format: int = FORMAT
    status: str = "running"
    """running, incomplete (some documents failed and may be retried), or done."""
    summary: str = ""
    trains: bool = False
    incidental: tuple[str, ...] = ()
    """The options that may change between a run and its resumption: a server's address, a device."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """What the system reports to have used: models, prompts and adapters with their hashes."""
    notes: tuple[str, ...] = ()
    """Notes on the system for readers of its scores, such as 'in-domain pretrained'; reports show them."""
    unsupported: tuple[Task, ...] = ()
    """Those of `tasks` that the system cannot answer with its model: they have no score."""
    command: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    git: str | None = None
    device: str = ""
    earlier: tuple[dict[str, Any], ...] = ()
    """`versions`, `git` and `device` of earlier passes, if they differed and their answers are still in the run."""
    started: str = ""
    finished: str | None = None
    tally: dict[str, Any] = field(default_factory=dict)
    """The system's own counts in the last pass: tokens, retries, memory."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall time of each step in its last pass, in seconds."""
    memory_mb: dict[str, float] = field(default_factory=dict)
    """The peak memory of the process by the end of each step, in megabytes."""

    @property
    def answered_tasks(self) -> tuple[Task, ...]:
        """The tasks that have a score."""
        return tuple(task for task in self.tasks if task not in self.unsupported)

    def identity(self) -> dict[str, Any]:
        """What makes two commands the same run, flat: dotted name -> value."""
        names = (
            *("system", "config", "preset", "seed", "pairs", "tasks", "missing", "checkpoint", "corpus", "labels"),
            *("sources", "trains"),
        )
        value = decode(encode({name: getattr(self, name) for name in names}), dict[str, Any])
        del value["corpus"]["root"]
        value["config"] = {name: option for name, option in value["config"].items() if name not in self.incidental}
        return dict(_flat(value))

    def differences(self, other: RunRecord, *, defaults: Mapping[str, Any] | None = None) -> Iterator[str]:
        """`name was X, is now Y` for every difference in identity; `self` is the older.

        Options that either of them lists as `incidental` are ignored; one that the older lacks counts as its default.
        """
        incidental = tuple({*self.incidental, *other.incidental})
        older = replace(self, config={**(defaults or {}), **self.config})
        old, new = (replace(record, incidental=incidental).identity() for record in (older, other))
        for name in sorted(old.keys() | new.keys(), key=lambda name: (name.count("."), name)):
            if old.get(name) != new.get(name):
                yield f"{name} was {_brief(old.get(name))}, is now {_brief(new.get(name))}"


def f1_html(scores: Mapping[str, Any]) -> str:
    """The object of `scores.json` as a table for notebooks: F1 in percent, one row per language and protocol."""
    parts = {
        f"{lang}, {words}": of[name]
        for lang, of in scores["languages"].items()
        for name, words in (("end_to_end", "end to end"), ("gold_pairs", "gold mentions and chains"))
        if name in of
    }
    tasks = list(dict.fromkeys(task for part in parts.values() for task in part["tasks"] if "." not in task))
    rows = [["", *tasks, "average"]]
    for name, part in parts.items():
        f1s = [part["tasks"].get(task, {}).get("f1") for task in tasks]
        rows.append([name, *("–" if f1 is None else f"{100 * f1:.2f}" for f1 in (*f1s, part["average_f1"]))])
    cells = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
    return f"<table>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"


@dataclass(frozen=True, slots=True)
class Run:
    """A run directory: paths, and reading and writing of its files."""

    path: Path

    def _repr_html_(self) -> str | None:
        return f1_html(self.scores()) if (self.path / "scores.json").is_file() else None

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint"

    # --- reading ---

    def record(self) -> RunRecord:
        """`run.json`. Raises UserError where it is missing, broken or of another format."""
        file = self.path / "run.json"
        if not file.is_file():
            what = "has no run.json: is it a run directory?" if self.path.is_dir() else "does not exist"
            raise UserError.at(self.path, what)
        try:
            found = decode(read_bytes(file), RunRecord)
        except WireError as error:
            raise error.at(file) from error
        if found.format != FORMAT:
            raise UserError.at(file, f"is format {found.format}; this version reads {FORMAT}: make the run again")
        return found

    def examples(self) -> Stream[Example]:
        """The examples as scored; frames' paths are relative to the corpus."""
        return Stream(self._there("documents.jsonl"), decode_example)

    def raws(self, *, missing_ok: bool = True) -> RawOutputs:
        """The last answer of each document in each pass; an incomplete last line is ignored.

        Raises UserError if there is no raw.jsonl, unless `missing_ok`.
        """
        if not missing_ok:
            self._there("raw.jsonl")
        return RawOutputs(self.path / "raw.jsonl")

    def failed(self) -> Sequence[RawOutput]:
        """The last answers of the documents on which the system failed."""
        return self.raws().failed()

    def predictions(self) -> Stream[Prediction]:
        return Stream(self._there("predictions.jsonl"), decode_prediction)

    def scores(self) -> dict[str, Any]:
        """The object in `scores.json`."""
        file = self._there("scores.json")
        try:
            return decode(read_bytes(file), dict[str, Any])
        except WireError as error:
            raise error.at(file) from error

    def per_document(self) -> Stream[dict[str, Any]]:
        return Stream(self._there("per_document.jsonl"), partial(decode, kind=dict[str, Any]))

    def _there(self, name: str) -> Path:
        file = self.path / name
        if not file.is_file():
            step = {"predictions.jsonl": "normalize", "scores.json": "score", "per_document.jsonl": "score"}.get(name)
            hint = f": make it with 'm3dllm {step} {self.path}'" if step else ": run the same command again"
            raise UserError.at(self.path, f"has no {name}{hint}")
        return file

    # --- writing ---

    def begin(self, record: RunRecord, *, defaults: Mapping[str, Any] | None = None) -> RunRecord:
        """Begin or resume the run; returns its record, which includes what made the existing files.

        `defaults` are the options that a record of an older version may lack. Call under `locked`. Raises UserError,
        with the differences, if there is a run of another identity.
        """
        path = self.path
        if not (path / "run.json").exists():
            self.write_record(record)
            return record
        old = self.record()
        changes = list(old.differences(record, defaults=defaults))
        if changes:
            shown = "; ".join(changes[:4]) + (f"; and {len(changes) - 4} more" if len(changes) > 4 else "")
            raise UserError.at(path, f"is a run with other settings: {shown}. Choose another --out, or delete it")
        kept = ("started", "finished", "seconds", "memory_mb", "provenance", "notes", "unsupported", "tally")
        return replace(record, **{name: getattr(old, name) for name in (*kept, "command", *MADE_BY, "earlier")})

    def drop_unused(self) -> None:
        """Remove a run that has neither an answer nor a checkpoint."""
        if (self.path / "raw.jsonl").exists() or (self.checkpoint.is_dir() and any(self.checkpoint.iterdir())):
            return
        for name in ("run.json", "documents.jsonl", "prompts.jsonl", "log.txt", ".lock"):
            (self.path / name).unlink(missing_ok=True)
        for folder in (self.checkpoint, self.path):
            with suppress(OSError):
                folder.rmdir()

    def write_record(self, record: RunRecord) -> None:
        write_atomic(self.path / "run.json", pretty(record))

    def write_examples(self, examples: Iterable[Example]) -> None:
        write_lines(self.path / "documents.jsonl", map(encode_example, examples))

    def write_predictions(self, predictions: Iterable[Prediction]) -> None:
        write_lines(self.path / "predictions.jsonl", map(encode_prediction, predictions))

    def write_scores(self, scores: Mapping[str, Any], per_document: Iterable[bytes]) -> None:
        """`per_document` are the lines of the counts of each document."""
        write_lines(self.path / "per_document.jsonl", per_document)
        write_atomic(self.path / "scores.json", pretty(scores))

    @contextmanager
    def raw_log(self) -> Iterator[Log]:
        """raw.jsonl open for appending, without an incomplete last line."""
        file = self.path / "raw.jsonl"
        whole = read_bytes(file).rfind(b"\n") + 1 if file.exists() else 0
        with _appending(file, whole) as log:
            yield log

    @contextmanager
    def prompt_log(self) -> Iterator[PromptLog]:
        """prompts.jsonl, which keeps each distinct prompt once; it is made with the first prompt."""
        with ExitStack() as stack:
            yield PromptLog(self.path / "prompts.jsonl", stack)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """A lock for writing into the run; the operating system releases it when the process ends.

        Raises UserError if another process holds it, or for a folder of something else.
        """
        self._check_place()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / ".lock").open("w")
        except OSError as error:
            raise cannot_write(self.path, error) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                message = "is in use by another process: wait for it, or choose another --out"
                raise UserError.at(self.path, message) from error
            clear_abandoned(self.path)
            yield

    def _check_place(self) -> None:
        """Raises UserError if the folder is not empty and no run."""
        if not self.path.is_dir() or (self.path / "run.json").exists():
            return
        for file in self.path.iterdir():
            if file.name != ".lock" and not file.name.endswith(".tmp"):
                raise UserError.at(
                    self.path, f"is not empty and not a run directory ({file.name}): choose another --out"
                )


@dataclass(frozen=True, slots=True)
class Log:
    """Appends lines, each in one write: a kill leaves at most one incomplete line."""

    path: Path
    _file: Any

    def append(self, line: bytes) -> None:
        """Write one line. Raises UserError if the disk refuses; a partial line is removed."""
        line, at = line + b"\n", os.fstat(self._file.fileno()).st_size
        try:
            done = self._file.write(line)
            while done < len(line):
                done += self._file.write(line[done:])
        except OSError as error:
            self._file.truncate(at)
            raise cannot_write(self.path, error) from error


class PromptLog:
    """Keeps prompts by their hash, each once."""

    def __init__(self, file: Path, stack: ExitStack) -> None:
        self._file, self._stack = file, stack
        self._held: set[str] = set()
        self._log = self._open() if file.exists() else None

    def add(self, prompts: Mapping[str, str]) -> None:
        """Keep the prompts (sha256 to text) that are not there yet. Raises UserError for a broken prompts.jsonl."""
        if not prompts:
            return
        log = self._log = self._log or self._open()
        for name, text in prompts.items():
            if name not in self._held:
                log.append(encode({"sha256": name, "text": text}))
                self._held.add(name)

    def _open(self) -> Log:
        data = read_bytes(self._file) if self._file.exists() else b""
        whole = data.rfind(b"\n") + 1
        for number, line in enumerate(data[:whole].splitlines(), start=1):
            try:
                self._held.add(decode(line, dict[str, str]).get("sha256", ""))
            except WireError as error:
                raise error.at(self._file, number) from error
        return self._stack.enter_context(_appending(self._file, whole))


@contextmanager
def _appending(file: Path, whole: int) -> Iterator[Log]:
    """The file open for appending after its first `whole` bytes."""
    try:
        with file.open("ab", buffering=0) as out:
            out.truncate(whole)
            yield Log(file, out)
    except OSError as error:
        raise cannot_write(file, error) from error


class RawOutputs(Mapping[Key, RawOutput]):
    """The last answer of each document in each pass. They stay in their file; in memory are a few bytes of each."""

    def __init__(self, file: Path) -> None:
        """`file` is raw.jsonl, which need not be there."""
        self._lines = Stream(file, decode_raw, torn=True)
        self._positions: Positions[Key] = Positions(lambda i: self._key(raw_head(self._lines.line(self._last[i]))))
        self._last = array("q")
        """The line of the last answer of each document and pass."""
        self._states = bytearray()
        """Whether that is an answer, a failure, or one that may be retried."""
        self.passes: set[GivenKind | None] = set()
        for i, head in enumerate(self._lines.read_as(raw_head) if file.exists() else ()):
            state = ANSWERED
            self.passes.add(head.given)
            if head.error is not None:
                state = RETRYABLE if isinstance(head.error, Failure) and head.error.retryable else FAILED
            known = self._positions.add((head.document, head.given))
            if known is None:
                self._last.append(i)
                self._states.append(state)
            else:
                self._last[known], self._states[known] = i, state

    @staticmethod
    def _key(head: AnswerHead) -> Key:
        return head.document, head.given

    def __getitem__(self, key: Key) -> RawOutput:
        found: RawOutput | None = self.get(key)
        if found is None:
            raise KeyError(key)
        return found

    def get(self, key: Key, default: Any = None) -> Any:
        """The answer of a document in a pass, or `default`."""
        for position in self._positions.candidates(key):
            raw = self._lines[self._last[position]]
            if (raw.document, raw.given) == key:
                return raw
        return default

    def __iter__(self) -> Iterator[Key]:
        return (self._key(head) for head in self._lines.read_as(raw_head).pick(self._last)) if self._last else iter(())

    def __len__(self) -> int:
        return len(self._positions)

    def __contains__(self, key: object) -> bool:
        return self.get(key) is not None  # type: ignore[arg-type]

    def line(self, key: Key) -> bytes | None:
        """The line of an answer, without its end."""
        position = self._positions.get(key)
        return None if position is None else self._lines.line(self._last[position])

    def is_answered(self, key: Key, *, retry_failed: bool = False) -> bool:
        """Whether a document and pass need not be repeated: answered, or (without `retry_failed`) failed for good."""
        position = self._positions.get(key)
        return position is not None and self._states[position] in (ANSWERED, *([] if retry_failed else [FAILED]))

    def failed(self, *, retryable: bool | None = None) -> Sequence[RawOutput]:
        """The answers that are failures, in the order of all, read on access; `retryable`: only such, or others."""
        states = (FAILED, RETRYABLE) if retryable is None else (RETRYABLE if retryable else FAILED,)
        lines = array("q", (self._last[i] for i, state in enumerate(self._states) if state in states))
        return self._lines.pick(lines) if lines else ()


def added(tallies: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The sum of several tallies: numbers are added; those with names in `_share` are averaged."""
    found: dict[str, list[Any]] = {}
    for tally in tallies:
        for name, value in tally.items():
            found.setdefault(name, []).append(value)
    return {name: _together(name, values) for name, values in found.items()}


def _together(name: str, values: list[Any]) -> Any:
    known = [value for value in values if value is not None]
    if known and all(isinstance(value, dict) for value in known):
        return added(known)
    if not known or not all(isinstance(value, int | float) for value in known):
        return known[0] if known else None
    return sum(known) / len(known) if name.endswith("_share") else sum(known)


def with_environment(record: RunRecord, now: RunRecord, *, beside: bool) -> RunRecord:
    """`record` with the environment of `now`; `beside`: answers of earlier passes are kept."""
    old, new = ({name: getattr(one, name) for name in MADE_BY} for one in (record, now))
    earlier = (*record.earlier, old) if beside and old != new else record.earlier
    return replace(record, command=now.command, **new, earlier=earlier)


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, part in value.items():
            yield from _flat(part, f"{name}.{key}" if name else key)
    else:
        yield name, value


def _brief(value: Any) -> str:
    text = "nothing" if value is None else encode(value).decode()
    return text if len(text) <= 60 else text[:57] + "…"
