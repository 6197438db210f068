"""Combine the shards of a run: `--shard i/n` makes them, perhaps on several machines, and `gather` joins them.

Shard i of n holds every n-th document of the run, from the i-th on. Joining needs neither the system nor the corpus:
the lines of the shards are put in order, and scored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, cast

from m3dllm import pipeline
from m3dllm.columns import counted
from m3dllm.errors import UserError
from m3dllm.experiment import PASSES, Pairs, read_shard
from m3dllm.runs import MADE_BY, RawOutputs, Run, RunRecord, added
from m3dllm.session import check_model
from m3dllm.stream import Stream
from m3dllm.types import Example
from m3dllm.wire import decode, decode_raw, example_head, write_lines


@dataclass(frozen=True, slots=True)
class Shard:
    """A run that is shard `i` of `n`."""

    run: Run
    record: RunRecord
    i: int
    n: int
    examples: Stream[Example]
    raws: RawOutputs


def gather(paths: Iterable[Path], out: Path | None = None) -> Run:
    """The run whose shards are at `paths`, normalized and scored; its files are those of a run without shards.

    `out`: the folder of the run; None: beside the shards, under their name without the shard. Raises UserError for
    shards of different runs, for missing, duplicate or unfinished ones, and if `out` has another run, or this one from
    other answers. One that is gathered already stays as it is.
    """
    shards = _checked([_read(Path(path)) for path in paths])
    run = Run(out or _place(shards[0]))
    record = _record(shards)
    with run.locked():
        run.begin(replace(record, status="running"))
        if run.record() == record:
            return run
        if run.record().status != "running":
            what = "is already gathered, from other answers of its shards: choose another --out, or delete it"
            raise UserError.at(run.path, what)
        documents = (shard.examples.line(position) for shard, position in _documents(shards))
        write_lines(run.path / "documents.jsonl", documents)
        write_lines(run.path / "raw.jsonl", (line for _, line in _answers(shards)))
        if any((shard.run.path / "prompts.jsonl").is_file() for shard in shards):
            write_lines(run.path / "prompts.jsonl", _prompts(shards))
    pipeline.normalize(run.path)
    pipeline.score(run.path)
    run.write_record(record)
    return run


def _read(path: Path) -> Shard:
    run = Run(path)
    record = run.record()
    if record.corpus.shard is None:
        raise UserError.at(path, "is not a shard but a run of all documents: expected runs that --shard I/N made")
    raws = run.raws(missing_ok=False)
    if record.status == "running":
        raise UserError.at(path, f"is not finished ({counted(len(raws), 'answer')}): run its command again")
    return Shard(run, record, *read_shard(record.corpus.shard), run.examples(), raws)


def _checked(shards: Sequence[Shard]) -> list[Shard]:
    """The shards in order. Raises UserError if they are not all shards of one run, each once."""
    if not shards:
        raise UserError("gather needs the shards of a run: give their folders")
    first = shards[0]
    found: dict[int, Shard] = {}
    for shard in shards:
        path = shard.run.path
        if shard.n != first.n:
            what = f"shard {shard.i} of {shard.n}, and {first.run.path} of {first.n}"
            raise UserError.at(path, f"is {what}: gather those of one number")
        whole, of = (replace(one.record, corpus=replace(one.record.corpus, shard=None)) for one in (first, shard))
        if changes := list(whole.differences(of)):
            shown = "; ".join(changes[:4]) + (f"; and {len(changes) - 4} more" if len(changes) > 4 else "")
            raise UserError.at(path, f"is a shard of another run than {first.run.path}: {shown}")
        check_model(path, first.record.provenance, shard.record.provenance)
        if shard.i in found:
            raise UserError.at(path, f"is shard {shard.i} of {shard.n}, and so is {found[shard.i].run.path}")
        found[shard.i] = shard
    if missing := [str(i) for i in range(1, first.n + 1) if i not in found]:
        listed = ", ".join(missing[:8]) + (f" and {len(missing) - 8} more" if len(missing) > 8 else "")
        are = f"shard {listed} of {first.n} is" if len(missing) == 1 else f"shards {listed} of {first.n} are"
        raise UserError(f"{are} missing: give all {first.n} of the run")
    ordered = [found[i] for i in sorted(found)]
    total = sum(len(shard.examples) for shard in ordered)
    for shard in ordered:
        expected = len(range(shard.i - 1, total, shard.n))
        if len(shard.examples) != expected:
            message = f"has {counted(len(shard.examples), 'document')} where {expected} are due: make it again"
            raise UserError.at(shard.run.path / "documents.jsonl", message)
    return ordered


def _place(shard: Shard) -> Path:
    """The default folder of the whole run. Raises UserError if the shard's name does not tell it."""
    path, end = shard.run.path, f"-{shard.i}-of-{shard.n}"
    if not path.name.endswith(end) or path.name == end:
        raise UserError.at(path, f"is not named as a shard, which ends in '{end}': give the run's folder by --out")
    return path.with_name(path.name.removesuffix(end))


def _record(shards: Sequence[Shard]) -> RunRecord:
    """The record of the whole run; counts and measurements are sums or maxima."""
    records = [shard.record for shard in shards]
    first = records[0]
    environments = [environment for record in records for environment in (_made_by(record), *record.earlier)]
    others = [one for i, one in enumerate(environments) if one not in environments[:i]][1:]
    steps = dict.fromkeys(step for record in records for step in record.seconds)
    return replace(
        first,
        corpus=replace(first.corpus, shard=None),
        status="incomplete" if any(record.status == "incomplete" for record in records) else "done",
        notes=tuple(dict.fromkeys(note for record in records for note in record.notes)),
        unsupported=tuple(dict.fromkeys(task for record in records for task in record.unsupported)),
        earlier=tuple(others),
        started=min(record.started for record in records),
        finished=max(record.finished or "" for record in records) or None,
        tally=added(record.tally for record in records),
        seconds={step: round(sum(record.seconds.get(step, 0) for record in records), 3) for step in steps},
        memory_mb={step: max(record.memory_mb.get(step, 0) for record in records) for step in steps},
    )


def _made_by(record: RunRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in MADE_BY}


def _documents(shards: Sequence[Shard]) -> Iterator[tuple[Shard, int]]:
    """(shard, position in it) of each document of the run, in the run's order."""
    for position in range(len(shards[0].examples)):
        for shard in shards:
            if position < len(shard.examples):
                yield shard, position


def _answers(shards: Sequence[Shard]) -> Iterator[tuple[Shard, bytes]]:
    """(shard, line) of each answer of the run, pass by pass."""
    for kind in PASSES[cast(Pairs, shards[0].record.pairs)]:
        for shard, position in _documents(shards):
            line = shard.raws.line((example_head(shard.examples.line(position)).id, kind))
            if line is not None:
                yield shard, line


def _prompts(shards: Sequence[Shard]) -> Iterator[bytes]:
    """Each prompt once, in the order of their answers; then those without an answer."""
    held: dict[int, dict[str, tuple[Stream[dict[str, str]], int]]] = {}
    for shard in shards:
        file = shard.run.path / "prompts.jsonl"
        prompts = Stream(file, partial(decode, kind=dict[str, str]), torn=True)
        names = (prompt.get("sha256", "") for prompt in prompts) if file.is_file() else ()
        held[shard.i] = {name: (prompts, i) for i, name in enumerate(names)}
    turns = ((shard.i, turn) for shard, line in _answers(shards) for turn in decode_raw(line).turns)
    led = ((i, turn.prompt_sha256) for i, turn in turns if turn.prompt_sha256 in held[i])
    written: set[str] = set()
    for i, name in chain(led, ((i, name) for i, names in held.items() for name in names)):
        if name not in written:
            written.add(name)
            stream, place = held[i][name]
            yield stream.line(place)
