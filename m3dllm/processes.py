"""Several processes that train one model: how they start, what they exchange, and how they end.

'm3dllm fit --processes N' starts them on this machine; on several machines, `torchrun`, `accelerate launch` or `mpirun`
does. They exchange data by torch, with gloo between CPUs and NCCL between GPUs; torch is not loaded before.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import TYPE_CHECKING, Any, NamedTuple

from m3dllm.ending import end_at_once, line_of
from m3dllm.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

PATIENCE = timedelta(days=1)
"""How long a process waits for the others, which may work alone for long. Dead ones are noticed without it."""
GRACE_S = 5.0
"""How long a process may take to end by itself after another one died."""
LOST = 3
"""The exit code of a process that ended because another one had."""

MPI = {
    "RANK": ("OMPI_COMM_WORLD_RANK", "PMI_RANK"),
    "WORLD_SIZE": ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE"),
    "LOCAL_RANK": ("OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID"),
}
"""torchrun's names of a process's number, of how many there are, and of its number on its machine; and MPI's."""


class LostError(UserError):
    """Another process ended during the training."""


# --- what they exchange -----------------------------------------------------------------------------------------------


class Processes:
    """The processes that train together; here only this one. The one with `index` 0 writes the files."""

    index: int = 0
    count: int = 1

    def sum(self, value: Tensor) -> Tensor:
        """The sum of the `value` of all processes, of any shape."""
        return value

    def gather(self, values: list[Any]) -> list[Any]:
        """The `values` of all processes, concatenated in their order."""
        return values

    def wait(self) -> None:
        """Wait until all processes call this."""


class Launched(Processes):
    """Those that were started to train together, as the environment says: RANK, WORLD_SIZE, MASTER_ADDR and others."""

    def __init__(self) -> None:
        """Raises UserError if the processes do not find one another."""
        import torch

        from m3dllm.devices import usable_cores

        if not torch.distributed.is_initialized():
            torch.set_num_threads(usable_cores())
            backends = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
            if torch.cuda.is_available():
                torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
            try:
                torch.distributed.init_process_group(backends, timeout=PATIENCE)
            except (RuntimeError, ValueError) as error:
                raise UserError(f"the processes do not find one another: {' '.join(str(error).split())}") from error
        self.index, self.count = torch.distributed.get_rank(), torch.distributed.get_world_size()

    def sum(self, value: Tensor) -> Tensor:
        import torch

        with _together():
            torch.distributed.all_reduce(value)
        return value

    def gather(self, values: list[Any]) -> list[Any]:
        import torch

        found: list[list[Any]] = [[] for _ in range(self.count)]
        with _together():
            torch.distributed.all_gather_object(found, values)
        return [value for part in found for value in part]

    def wait(self) -> None:
        import torch

        self.sum(torch.zeros(()))


@contextmanager
def _together() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        why = " ".join(str(error).split())[:200]
        raise LostError(f"another process of this training ended: the same command resumes ({why})") from error


def processes_here() -> Processes:
    """The processes that this one was started with. Raises UserError if they do not find one another."""
    return Launched() if is_shared() else Processes()


def is_shared() -> bool:
    """Whether several processes were started to train together."""
    return "RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1"


def is_first() -> bool:
    """Whether this is the process that writes."""
    return os.environ.get("RANK", "0") == "0"


def adopt_mpi() -> None:
    """What MPI's `mpirun` says to each process, under the names that torchrun has for it."""
    if "RANK" in os.environ:
        return
    for name, of_mpi in MPI.items():
        if told := next((os.environ[one] for one in of_mpi if one in os.environ), ""):
            os.environ[name] = told
            os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
            os.environ.setdefault("MASTER_PORT", "29500")


# --- how they are started, and end ------------------------------------------------------------------------------------


@contextmanager
def beside(count: int, work: Callable[..., Any], *given: Any) -> Iterator[None]:
    """`count` processes at work: this one, in the block, and others that run `work(*given)`.

    They end with the block, however it ends. Raises UserError if one of them failed or died.
    """
    if count == 1:
        yield
        return
    with _environment(count):
        watch = _Watch([_started(rank, work, given) for rank in range(1, count)])
        watch.start()
        try:
            yield
            for child in watch.children:
                child.process.join()
            watch.over.set()
            watch.join()
        except LostError:
            watch.failed.wait(GRACE_S)
            if not watch.why:
                raise
        finally:
            failed = watch.why
            watch.end()
            if "torch" in sys.modules and sys.modules["torch"].distributed.is_initialized():
                sys.modules["torch"].distributed.destroy_process_group()
    if failed:
        raise UserError(failed)


@contextmanager
def _environment(count: int) -> Iterator[None]:
    """In the block, environment variables for `count` processes on this machine: how they find one another, and the
    number of cores of each. This process is the first."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    variables = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
    variables |= {"RANK": "0", "LOCAL_RANK": "0"}
    variables |= {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, cores // count)))}
    before = {name: os.environ.get(name) for name in variables}
    os.environ |= variables
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class _Child(NamedTuple):
    process: SpawnProcess
    said: Connection
    """Receives its error, in one line."""


def _started(rank: int, work: Callable[..., Any], given: Sequence[Any]) -> _Child:
    """A new process at work. Only its parent gets Ctrl-C, and it ends with the parent."""
    context = multiprocessing.get_context("spawn")
    hears, says = context.Pipe(duplex=False)
    process = context.Process(target=_beside, args=(rank, says, work, given), daemon=True)
    resource_tracker.ensure_running()  # before the signal is blocked: starting it would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    says.close()
    return _Child(process, hears)


def _beside(rank: int, says: Connection, work: Callable[..., Any], given: Sequence[Any]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    try:
        work(*given)
    except LostError:
        sys.exit(LOST)
    except Exception as error:
        if not (line := line_of(error)):
            raise
        says.send(line)
        sys.exit(2)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(LOST)


class _Watch(threading.Thread):
    """Waits for the children. If one fails and this process does not end by itself within `GRACE_S`, as it waits for
    the dead one, it is ended."""

    def __init__(self, children: Sequence[_Child]) -> None:
        super().__init__(daemon=True)
        self.children = children
        self.why = ""
        """Why the first child failed."""
        self.failed, self.over = threading.Event(), threading.Event()

    def run(self) -> None:
        left = dict(enumerate(self.children, 1))
        while left and not self.why:
            wait([child.process.sentinel for child in left.values()])
            for rank, child in tuple(left.items()):
                code = child.process.exitcode
                if code is not None:
                    del left[rank]
                    self.why = self.why or self._failure(rank, child, code)
        if self.why:
            self.failed.set()
            if not self.over.wait(GRACE_S):
                end_at_once(self.why)

    def _failure(self, rank: int, child: _Child, code: int) -> str:
        """Why a child failed; "" if it succeeded, or ended because another one had."""
        if code in (0, LOST):
            return ""
        with suppress(EOFError):
            if child.said.poll():
                return str(child.said.recv())
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        full = " (memory may have run out)" if code == -signal.SIGKILL else ""
        return f"process {rank + 1} of {len(self.children) + 1} ended with {name}{full}: the same command resumes"

    def end(self) -> None:
        """Kill the children."""
        self.over.set()
        for child in self.children:
            child.process.kill()
