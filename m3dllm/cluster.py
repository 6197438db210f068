"""Several workers answer the documents of a run, on this machine or on the nodes of a cluster, through Ray.

The run's own process hands out documents and writes the answers to `raw.jsonl`; each worker holds the whole system,
with its own model. If a worker's process or node dies, its unanswered documents go to another worker, and Ray restarts
it where there is room. Ray is imported only when needed.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import tempfile
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from m3dllm.columns import counted
from m3dllm.config import Options
from m3dllm.errors import UserError
from m3dllm.experiment import Plan
from m3dllm.files import read_bytes, sha256_file
from m3dllm.guidelines import guideline_files
from m3dllm.labels import LabelSet
from m3dllm.options import resolve_config
from m3dllm.registry import find_system
from m3dllm.runs import added
from m3dllm.session import MODEL
from m3dllm.system import System, versions_of
from m3dllm.types import Document, Example, Failure, RawOutput, Task
from m3dllm.wire import decode, encode

log = logging.getLogger("m3dllm")

HANDFULS = 2
"""Handfuls of documents that a worker holds: the current one and the next."""
BATCHES = 4
"""A handful has at most this many times the documents that are answered at once."""
DEATHS = 3
"""A document counts as failed after this many workers have died on it."""
HERE = "127.0.0.2" if sys.platform == "linux" else "127.0.0.1"
"""The loopback address given to Ray, which replaces 127.0.0.1 by the machine's network address."""
KNOCK_S = 10.0
"""How long to wait for the head of a cluster to answer."""
RESTARTS = 100
"""How often Ray restarts a worker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a worker needs to make the system. Paths must be the same on every node, except that of the corpus."""

    system: str
    options: Mapping[str, Any]
    preset: str | None
    seed: int
    labels: LabelSet
    examples: tuple[Example, ...]
    checkpoint: Path | None
    corpus: Path
    labels_sha256: str
    guidelines: Mapping[str, bytes]
    """The guidelines of the corpus, by file name, for a node without the corpus."""
    folder: Path
    """The working directory of the command: relative paths in options start there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a worker reports of itself and its system, as a run keeps it."""

    worker: str
    version: str
    has_corpus: bool
    at_once: int
    provenance: Mapping[str, Any]
    unsupported: frozenset[Task]
    notes: tuple[str, ...]
    tally: Mapping[str, Any]


class Worker:
    """The system on a node."""

    def load(self, job: Job) -> Facts | UserError:
        """Make the system, with its model loaded."""
        if job.folder.is_dir():
            os.chdir(job.folder)
        labels = job.corpus / "labels.json"
        self.has_corpus = labels.is_file() and sha256_file(labels) == job.labels_sha256
        corpus = job.corpus if self.has_corpus else self._corpus(job)
        try:
            spec = find_system(job.system)
            config = resolve_config(spec, job.options, preset=job.preset, seed=job.seed)
            if isinstance(config, Options):
                config = config.settled(corpus, job.checkpoint)
            self.system = spec.load(config)(config, labels=job.labels, examples=job.examples, checkpoint=job.checkpoint)
            return self.facts()  # loads the model now, not with the first handful
        except UserError as error:
            return error

    def _corpus(self, job: Job) -> Path:
        """A folder with the guidelines of the corpus, the only files that a system reads itself."""
        self.folder = tempfile.TemporaryDirectory(prefix="m3dllm-")
        for name, data in job.guidelines.items():
            (Path(self.folder.name) / name).write_bytes(data)
        return Path(self.folder.name)

    def facts(self) -> Facts:
        return Facts(
            worker=f"{socket.gethostname()}, process {os.getpid()}",
            version=versions_of("m3dllm").get("m3dllm", ""),
            has_corpus=self.has_corpus,
            at_once=self.system.at_once,
            provenance=dict(self.system.provenance),
            unsupported=self.system.unsupported,
            notes=self.system.notes,
            tally=decode(encode(self.system.tally), dict[str, Any]),
        )

    def answer(self, documents: list[Document], frames: Mapping[str, Any]) -> Iterator[Any]:
        """(answer, prompts) for each document, in order; before the second one, and at the end, the facts.

        `frames`: the images that are not on this node, as Ray references by path.
        """
        import ray

        with tempfile.TemporaryDirectory(prefix="m3dllm-") as folder:
            here = {}
            for i, (path, data) in enumerate(zip(frames, ray.get(list(frames.values())), strict=True)):
                here[path] = Path(folder) / f"{i}{Path(path).suffix}"
                here[path].write_bytes(data)
            brought = [
                replace(document, frames=tuple(replace(f, path=str(here.get(f.path, f.path))) for f in document.frames))
                for document in documents
            ]
            for raw, document in zip(self.system.predict(brought), documents, strict=False):
                yield raw, dict(self.system.take_prompts())
                if document is documents[0]:  # a server names its model with its first answer
                    yield self.facts()
        yield self.facts()


@dataclass(slots=True, eq=False)
class _Handful:
    """Documents sent to a worker, by position, and the stream of their answers."""

    documents: dict[int, Document]
    stream: Any
    frames: Mapping[str, Any]
    """References to images, which Ray keeps as long as they are held."""


@dataclass(slots=True, eq=False)
class _Actor:
    """The Ray actor of a worker: `loading` until its facts are known."""

    handle: Any
    loading: Any
    has_corpus: bool = False
    handfuls: deque[_Handful] = field(default_factory=deque)


class Workers(System):
    """The system of a plan, run by workers."""

    def __init__(self, plan: Plan, *, checkpoint: Path | None) -> None:
        super().__init__(plan.config, labels=plan.corpus.labels, examples=plan.train, checkpoint=checkpoint)
        self.plan = plan
        self._facts: Facts | None = None
        self._tallies: dict[str, Mapping[str, Any]] = {}
        self._prompts: dict[str, str] = {}
        self._actors: list[_Actor] = []
        self._job: Any = None

    @property
    def facts(self) -> Facts:
        """The facts of the worker that reported last."""
        assert self._facts is not None
        return self._facts

    @property
    def provenance(self) -> Mapping[str, Any]:
        return self.facts.provenance

    @property
    def unsupported(self) -> frozenset[Task]:
        return self.facts.unsupported

    @property
    def notes(self) -> tuple[str, ...]:
        return self.facts.notes

    @property
    def tally(self) -> Mapping[str, Any]:
        return added(self._tallies.values())

    def take_prompts(self) -> Mapping[str, str]:
        sent, self._prompts = self._prompts, {}
        return sent

    def predict(self, documents: Sequence[Document]) -> Iterator[RawOutput]:
        """One answer per document, in order. The first worker is loaded before the first answer is awaited.

        Raises UserError if no cluster answers, no worker can be made, or two workers have different models.
        """
        ray = connect(self.plan.experiment.address)
        self._start(ray, most=len(documents))
        try:
            while not self._facts:
                self._receive(ray, {})
        except BaseException:
            self._end(ray)
            raise
        return self._answers(ray, documents)

    def _answers(self, ray: Any, documents: Sequence[Document]) -> Iterator[RawOutput]:
        answers: dict[int, tuple[RawOutput, Mapping[str, str]]] = {}
        returned: deque[dict[int, Document]] = deque()
        deaths: Counter[int] = Counter()
        turn = following = 0
        at_once = self.facts.at_once
        try:
            while turn < len(documents):
                window = turn + len(self._actors) * BATCHES * HANDFULS * BATCHES * at_once
                for actor in sorted(self._actors, key=lambda actor: len(actor.handfuls)):
                    while actor.loading is None and len(actor.handfuls) < HANDFULS:
                        if returned:
                            taken = returned.popleft()
                        elif following < min(window, len(documents)):
                            share = -(-(len(documents) - following) // (HANDFULS * len(self._actors) * at_once))
                            taken = _handful(documents, following, at_once * min(BATCHES, share))
                            following += len(taken)
                        else:
                            break
                        self._hand(ray, actor, taken)
                lost = self._receive(ray, answers)
                for i in [i for handful in lost[:1] for i in islice(handful, at_once)]:  # those it was working on
                    deaths[i] += 1
                    if deaths[i] >= DEATHS:
                        failure = Failure(f"{DEATHS} workers died while working on this document", retryable=True)
                        answers[i] = RawOutput(lost[0].pop(i).id, error=failure), {}
                returned.extend(filter(None, lost))
                while turn in answers:
                    while turn == len(documents) - 1 and any(actor.handfuls for actor in self._actors):
                        self._receive(ray, answers)  # the last facts: the caller stops after the last answer
                    raw, prompts = answers.pop(turn)
                    self._prompts |= prompts
                    yield raw
                    turn += 1
        finally:
            self._end(ray)

    # --- workers ------------------------------------------------------------------------------------------------------

    def _start(self, ray: Any, *, most: int) -> None:
        """Start as many workers as requested, or as there is room for; at most `most`."""
        plan, there = self.plan, ray.cluster_resources()
        gpus = self.config.gpus(there=there.get("GPU", 0) > 0) if isinstance(self.config, Options) else 0
        room = there.get("GPU", 0) // gpus if gpus else there.get("CPU", 0)
        count = min(most, plan.experiment.workers or max(1, int(room)))
        self._job = ray.put(job_of(plan, self.checkpoint))
        kind = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=RESTARTS)(Worker)
        handles = [kind.remote() for _ in range(count)]
        self._actors = [_Actor(handle, self._load(handle)) for handle in handles]
        log.info("%s on %s", counted(count, "worker"), counted(len([n for n in ray.nodes() if n["Alive"]]), "node"))

    def _load(self, handle: Any) -> Any:
        """The future facts of a worker, which is restarted as often as needed until it is loaded."""
        return handle.load.options(max_task_retries=-1).remote(self._job)

    def _hand(self, ray: Any, actor: _Actor, documents: dict[int, Document]) -> None:
        frames = {}
        if not actor.has_corpus:
            paths = {frame.path for document in documents.values() for frame in document.frames}
            frames = {path: ray.put(read_bytes(Path(path))) for path in sorted(paths)}
        method = actor.handle.answer.options(num_returns="streaming")
        actor.handfuls.append(_Handful(documents, method.remote(list(documents.values()), frames), frames))

    def _receive(self, ray: Any, answers: dict[int, Any]) -> list[dict[int, Document]]:
        """Wait for a message of a worker and store it; returns the documents of workers that have died."""
        waited = {
            actor.loading or actor.handfuls[0].stream: actor
            for actor in self._actors
            if actor.loading or actor.handfuls
        }
        lost: list[dict[int, Document]] = []
        for ready in ray.wait(list(waited))[0]:
            actor = waited[ready]
            try:
                if actor.loading:
                    reply = ray.get(actor.loading)
                    if isinstance(reply, UserError):
                        raise reply
                    self._take(reply)
                    actor.loading, actor.has_corpus = None, reply.has_corpus
                    continue
                handful = actor.handfuls[0]
                reply = ray.get(next(handful.stream))
            except StopIteration:
                if left := [document.id for document in actor.handfuls.popleft().documents.values()]:
                    what = f"stopped before document '{left[0]}': expected one answer per document"
                    raise UserError(f"system '{self.plan.spec.name}' {what}") from None
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error
            except (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError) as error:
                if actor.loading:
                    self._actors.remove(actor)
                    if not self._actors:
                        message = "run the same command again"
                        raise UserError(f"all workers have died: {message} ({_brief(error)})") from error
                    continue
                log.warning("a worker died; its documents go to another one", extra={"kind": "a worker died"})
                lost += [held.documents for held in actor.handfuls if held.documents]
                actor.handfuls.clear()
                actor.loading = self._load(actor.handle)
            else:
                if isinstance(reply, Facts):
                    self._take(reply)
                else:
                    i = next(iter(handful.documents))
                    del handful.documents[i]
                    answers[i] = reply
        return lost

    def _take(self, facts: Facts) -> None:
        """Raises UserError if the worker has another version or another model than those before it."""
        if facts.version != (ours := versions_of("m3dllm").get("m3dllm", "")):
            raise UserError(
                f"{facts.worker} has m3dllm {facts.version}, and this machine has {ours}: install the same version"
            )
        for name, what in MODEL.items():
            others, its = (self._facts.provenance if self._facts else {}).get(name), facts.provenance.get(name)
            if isinstance(others, str) and isinstance(its, str) and others != its:
                shown = f"{its[:12]} where the others have {others[:12]}"
                raise UserError(f"{facts.worker} has {what} ({shown}): give all nodes the same")
        self._facts = facts
        self._tallies[facts.worker] = facts.tally

    def _end(self, ray: Any) -> None:
        for actor in self._actors:
            ray.kill(actor.handle, no_restart=True)
        self._actors = []


def job_of(plan: Plan, checkpoint: Path | None) -> Job:
    """What workers need to make the system of a plan."""
    return Job(
        system=plan.spec.name,
        options=dict(plan.experiment.options),
        preset=plan.experiment.preset,
        seed=plan.experiment.seed,
        labels=plan.corpus.labels,
        examples=tuple(plan.train),
        checkpoint=checkpoint and checkpoint.resolve(),
        corpus=plan.corpus.root.resolve(),
        labels_sha256=plan.corpus.hashes["labels.json"],
        guidelines={path.name: read_bytes(path) for path in guideline_files(plan.corpus.root).values()},
        folder=Path.cwd(),
    )


def connect(address: str | None) -> Any:
    """Ray, connected to the cluster at `address`, or to one started on this machine for this process.

    Raises UserError if Ray is not installed, or no cluster answers.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise UserError("--executor ray needs 'ray': pip install 'm3dllm[ray]'") from error
    if not ray.is_initialized():
        quiet: dict[str, Any] = {"configure_logging": False, "log_to_driver": False, "logging_level": logging.ERROR}
        try:
            if address is None:
                ray.init("local", include_dashboard=False, _node_ip_address=HERE, **quiet)
            else:
                _knock(address)
                ray.init(address, **quiet)
        except (OSError, RuntimeError, ValueError) as error:
            where = f"--address {address}: no Ray cluster responds there" if address else "Ray cannot start here"
            raise UserError(f"{where} ({_brief(error)})") from error
    return ray


def _knock(address: str) -> None:
    """Raises OSError if nothing listens at HOST:PORT, which Ray itself would notice only after minutes."""
    host, _, port = address.rpartition(":")
    if address != "auto" and not (host and port.isdecimal() and "/" not in host):
        raise ValueError("expected HOST:PORT, or auto")
    if address != "auto":
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_S).close()


def _handful(documents: Sequence[Document], first: int, most: int) -> dict[int, Document]:
    """Documents of one pass, by position, so that batches are those of a run without workers."""
    taken: dict[int, Document] = {}
    kinds = set()
    for i in islice(range(first, len(documents)), most):
        document = documents[i]
        kinds.add(document.given and document.given.kind)
        if len(kinds) > 1:
            break
        taken[i] = document
    return taken


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
