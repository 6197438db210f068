"""Extractions requested by the form: each is `m3dllm extract` in its own folder and process.

<folder>/<job>/given/     the uploaded files
<folder>/<job>/result/    the output of `m3dllm extract`
<folder>/<job>/log.txt    its log
"""

from __future__ import annotations

import queue
import secrets
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Status = Literal["waiting", "running", "done", "failed"]
TAIL = 4000
"""The bytes at the end of a log that are searched for its last line."""


@dataclass(slots=True)
class Job:
    """One extraction. `printed` is the final output of the command."""

    id: str
    folder: Path
    words: tuple[str, ...]
    status: Status = "waiting"
    printed: str = ""

    @property
    def given(self) -> Path:
        return self.folder / "given"

    @property
    def result(self) -> Path:
        return self.folder / "result"

    def message(self) -> str:
        """The last line of its log: the progress, or what failed."""
        try:
            with (self.folder / "log.txt").open("rb") as file:
                file.seek(max(0, file.seek(0, 2) - TAIL))
                lines = file.read().decode("utf-8", "replace").replace("\r", "\n").split("\n")
        except OSError:
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


@dataclass(slots=True)
class Jobs:
    """The jobs of a service, done one at a time in the order of arrival."""

    folder: Path
    words: Sequence[str]
    """The options of `m3dllm extract` shared by all jobs."""
    jobs: dict[str, Job] = field(default_factory=dict)
    _waiting: queue.Queue[Job | None] = field(default_factory=queue.Queue)
    _running: subprocess.Popen[str] | None = None
    _thread: threading.Thread | None = None

    def new(self) -> Job:
        """A job with an empty folder for uploaded files."""
        name = secrets.token_hex(8)
        job = self.jobs[name] = Job(name, self.folder / name, ())
        job.given.mkdir(parents=True)
        return job

    def start(self, job: Job, sources: Sequence[Path], words: Sequence[str]) -> None:
        """Queue the job behind the earlier ones."""
        job.words = ("extract", *map(str, sources), "--out", str(job.result), *words, *self.words)
        self._waiting.put(job)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop the current job, and start no other."""
        self._waiting.put(None)
        if self._running is not None:
            self._running.terminate()

    def _work(self) -> None:
        while (job := self._waiting.get()) is not None:
            job.status = "running"
            command = [sys.executable, "-m", "m3dllm", *job.words]
            with (job.folder / "log.txt").open("w", encoding="utf-8") as log:
                self._running = subprocess.Popen(  # noqa: S603  our own command
                    command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True, encoding="utf-8"
                )
                job.printed, _ = self._running.communicate()
            whole = (job.result / "page" / "index.html").is_file()
            job.status = "done" if whole and self._running.returncode in (0, 2) else "failed"
            self._running = None
