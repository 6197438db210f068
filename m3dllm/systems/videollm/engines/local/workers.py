"""Several engines of one kind, each in a process of its own, that share the documents of a run.

The run's own process asks the questions and keeps the answers; the workers only generate. All requests of a document go
to one worker, where the beginning of its prompts is known already, and a new document goes to the worker with the least
to do. Where there are GPUs, each worker sees its own and no other. A worker that dies fails the documents that it had
in hand, in such a way that the next run asks about them again; the others go on.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.util import Finalize
from typing import Any

from m3dllm.errors import UserError
from m3dllm.systems.videollm.engines.base import ContextBudget, Engine, Reply, Request
from m3dllm.systems.videollm.engines.local.engine import LocalEngine
from m3dllm.systems.videollm.engines.local.model import LocalModel
from m3dllm.systems.videollm.options import Options
from m3dllm.types import Failure

MakeEngine = Callable[[Options, ContextBudget | None], Engine]
VISIBLE = "CUDA_VISIBLE_DEVICES"
ENDING_S = 5.0
"""How long workers may take to end by themselves."""
"""The environment variable that says which GPUs a process sees."""


@dataclass(frozen=True, slots=True)
class _Ready:
    """A worker's first word: its engine, as far as the others must know it."""

    provenance: Mapping[str, Any]
    context: int
    max_concurrency: int


@dataclass(frozen=True, slots=True)
class _Answers:
    """What a worker has answered, and the most memory that it has needed so far."""

    replies: list[tuple[int, Reply]]
    memory_mb: float | None


@dataclass(slots=True)
class _Worker:
    """A process, what it has in hand, and what it has not been sent yet."""

    process: Any
    connection: Connection
    alive: bool = True
    in_hand: set[int] = field(default_factory=set)
    unsent: list[tuple[int, Request] | str] = field(default_factory=list)
    """Requests with their keys, and the names of documents that are done."""
    memory_mb: float | None = None


class WorkersEngine(LocalEngine):
    """As many engines as `options.workers`."""

    supports = frozenset(
        {"grammar", "schema", "option_scores", "logprobs", "images", "video", "lora", "local", "workers"}
    )

    def __init__(self, options: Options, budget: ContextBudget | None = None, *, make: MakeEngine) -> None:
        """`make` makes the engine of each worker, in its process.

        Raises UserError where there are not enough GPUs, or the model is not there.
        """
        super().__init__(options)
        self._take(LocalModel(options))
        shares = gpu_shares(options, visible_gpus(options))
        self._workers = [_start(replace(options, workers=1), budget, gpus, make) for gpus in shares]
        self._stop = Finalize(self, _end, args=(self._workers,), exitpriority=10)
        self._places: dict[str, _Worker] = {}
        ready = [self._first_word(worker) for worker in self._workers]
        self._provenance, self.context = ready[0].provenance, ready[0].context
        self.max_concurrency = sum(one.max_concurrency for one in ready)

    def _first_word(self, worker: _Worker) -> _Ready:
        try:
            said = worker.connection.recv()
        except EOFError:
            worker.process.join()
            said = UserError(f"a worker ended before its model was loaded ({_how(worker)}): take fewer --workers")
        if isinstance(said, UserError):
            self.close()
            raise said
        ready: _Ready = said
        return ready

    @property
    def provenance(self) -> Mapping[str, Any]:
        return self._provenance

    @property
    def memory_mb(self) -> float | None:
        """Of all workers together."""
        known = [worker.memory_mb for worker in self._workers if worker.memory_mb is not None]
        return sum(known) if known else None

    # --- the interface ------------------------------------------------------------------------------------------------

    def submit(self, key: int, request: Request) -> None:
        """Raises UserError where no worker is left."""
        worker = self._places.get(request.share)
        if worker is None or not worker.alive:
            living = [worker for worker in self._workers if worker.alive]
            if not living:
                how = ", ".join(sorted({_how(worker) for worker in self._workers}))
                raise UserError(f"all workers have died ({how}): give the same command again, with a smaller --batch")
            worker = min(living, key=lambda worker: len(worker.in_hand))
            if request.share:
                self._places[request.share] = worker
        worker.in_hand.add(key)
        worker.unsent.append((key, request))

    def poll(self) -> list[tuple[int, Reply]]:
        for worker in self._workers:
            if worker.alive and worker.unsent:
                _send(worker)
        by_connection = {worker.connection: worker for worker in self._workers if worker.in_hand}
        if not by_connection:
            raise ValueError("nothing is under way")
        found: list[tuple[int, Reply]] = []
        for connection in wait(list(by_connection)):
            found += _receive(by_connection[connection])  # type: ignore[index]
        return found

    def release(self, share: str) -> None:
        worker = self._places.pop(share, None)
        if worker is not None and worker.alive:
            worker.unsent.append(share)

    def close(self) -> None:
        self._stop()


def gpu_shares(options: Options, gpus: Sequence[str]) -> list[str | None]:
    """Which of `gpus` each worker sees, by commas; None for all of them where there are no GPUs to share.

    Raises UserError where there are not enough.
    """
    if not gpus:
        return [None] * options.workers
    each = options.tensor_parallel
    if (needed := options.workers * each) > len(gpus):
        how = f"--workers {options.workers}" + (f" with --tensor-parallel {each}" if each > 1 else "")
        raise UserError(f"{how} needs {needed} GPUs, and {len(gpus)} can be seen: take fewer --workers")
    return [",".join(gpus[i * each : (i + 1) * each]) for i in range(options.workers)]


def visible_gpus(options: Options) -> list[str]:
    """The GPUs that the workers may share, as CUDA names them; none where the model is to run elsewhere.

    Raises UserError where one GPU is named for all of them.
    """
    if options.device.startswith("cuda:"):
        raise UserError(f"--device {options.device} names one GPU: with --workers say --device cuda, or leave it out")
    if options.device not in ("auto", "cuda"):
        return []
    import torch

    if not torch.cuda.is_available():
        return []
    listed = os.environ.get(VISIBLE, "").strip()
    return listed.split(",") if listed else [str(i) for i in range(torch.cuda.device_count())]


# --- this side --------------------------------------------------------------------------------------------------------


def _start(options: Options, budget: ContextBudget | None, gpus: str | None, make: MakeEngine) -> _Worker:
    """A worker that sees these GPUs; it loads its model meanwhile."""
    context = get_context("spawn")  # a forked process could not use a GPU
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, options, budget, make), name="m3dllm worker")
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: a worker never tells of Ctrl-C, even as it loads
    try:
        with _environment(VISIBLE, gpus):
            process.start()
    finally:
        signal.signal(signal.SIGINT, before)
    theirs.close()
    return _Worker(process, ours)


@contextmanager
def _environment(name: str, value: str | None) -> Iterator[None]:
    """The environment with another value of `name`; None leaves it as it is."""
    before = os.environ.get(name)
    if value is not None:
        os.environ[name] = value
    try:
        yield
    finally:
        if value is not None:
            os.environ.pop(name)
            if before is not None:
                os.environ[name] = before


def _send(worker: _Worker) -> None:
    """Send what is unsent. Of one that has died, the next `_receive` will know."""
    messages, worker.unsent = worker.unsent, []
    with suppress(OSError):
        worker.connection.send(messages)


def _receive(worker: _Worker) -> list[tuple[int, Reply]]:
    """What it has answered; where it has died, a failure for everything that it had in hand."""
    try:
        answers: _Answers = worker.connection.recv()
    except (EOFError, OSError):
        worker.process.join()
        worker.alive = False
        failure = Failure(f"the worker that had this document in hand died ({_how(worker)})", retryable=True)
        lost, worker.in_hand = sorted(worker.in_hand), set()
        return [(key, Reply(finish="error", failure=failure)) for key in lost]
    worker.memory_mb = answers.memory_mb
    worker.in_hand -= {key for key, _ in answers.replies}
    return answers.replies


def _how(worker: _Worker) -> str:
    code = worker.process.exitcode
    return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"


def _end(workers: Sequence[_Worker]) -> None:
    """Let all workers end; one that does not within ENDING_S is ended."""
    for worker in workers:
        worker.connection.close()
    until = time.monotonic() + ENDING_S
    for worker in workers:
        worker.process.join(max(0.0, until - time.monotonic()))
        if worker.process.is_alive():
            worker.process.terminate()
            worker.process.join()


# --- the worker's side ------------------------------------------------------------------------------------------------


def _work(connection: Connection, options: Options, budget: ContextBudget | None, make: MakeEngine) -> None:
    """Load the engine and answer what is asked, until the other side is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who stops the run closes the connection
    try:
        engine = make(options, budget)
    except UserError as error:
        connection.send(error)
        return
    inbox: queue.SimpleQueue[list[tuple[int, Request] | str] | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(connection, inbox), daemon=True).start()
    connection.send(_Ready(dict(engine.provenance), engine.context, engine.max_concurrency))
    under_way = 0
    while True:
        while not (inbox.empty() and under_way):
            messages = inbox.get()
            if messages is None:
                return
            for item in messages:
                if isinstance(item, str):
                    engine.release(item)
                else:
                    engine.submit(*item)
                    under_way += 1
        replies = engine.poll()
        under_way -= len(replies)
        try:
            connection.send(_Answers(replies, engine.memory_mb))
        except OSError:
            return


def _read(connection: Connection, inbox: queue.SimpleQueue[Any]) -> None:
    """Take in what is sent at once, so that neither side ever waits for the other to read."""
    while True:
        try:
            inbox.put(connection.recv())
        except (EOFError, OSError):
            inbox.put(None)
            return
