"""How a command ends: a result, one line that the user can act on, or the traceback of a bug of ours.

Exit 0: done; 1: a bug of ours; 2: something the user can mend; 130: stopped by Ctrl-C, and resumed by the same command.
Light, so that Ctrl-C is one line too while the rest is still being loaded.
"""

from __future__ import annotations

import atexit
import errno
import logging
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

from m3dllm.errors import UserError, printable, redact

STOPPED = "m3dllm: stopped; the same command resumes"
OUTSIDE = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT),
        *(errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ENODEV),
        *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ETXTBSY, errno.EBUSY, errno.EXDEV, errno.EINVAL),
    }
)
"""What a disk or a file's name can be the reason of."""


class Shown(logging.Formatter):
    """Log lines in which names and answers from outside cannot move the cursor, and nothing secret is shown."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(redact(super().format(record)))


class Terminal(logging.StreamHandler[Any]):
    """Log lines on stderr; of warnings of one kind the first, and at the end how many more there were.

    Where stderr cannot be written, nothing else stops for it.
    """

    def __init__(self, *, verbose: bool = False) -> None:
        """`verbose`: every warning is shown."""
        logging.Handler.__init__(self)
        self.setFormatter(Shown())
        self.verbose = verbose
        self.seen: Counter[str] = Counter()
        """How often a warning of a kind came."""

    def emit(self, record: logging.LogRecord) -> None:
        kind = _kind(record) if record.levelno == logging.WARNING and not self.verbose else ""
        self.seen[kind] += 1
        if not kind or self.seen[kind] == 1:
            super().emit(record)

    def sum_up(self) -> None:
        """Say how many warnings were not shown."""
        for kind, n in self.seen.items():
            if kind and n > 1:
                _tell(f"{n - 1} more like this: {printable(kind)} (--verbose shows all)")

    @property
    def stream(self) -> Any:
        """stderr as it is now: a bar on the terminal takes its place and moves below each line."""
        return sys.stderr

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  the name that logging calls
        """Pass over a line that cannot be shown."""


def _kind(record: logging.LogRecord) -> str:
    """What warnings of one kind share: the attribute `kind`, else the text before it is filled in; "" where that says
    nothing by itself."""
    text: str = getattr(record, "kind", "") or (record.msg if record.args else "")
    text = text.replace("%s", "…").replace("%d", "…")
    return text if any(map(str.isalpha, text)) else ""


def one_line(command: Callable[[], None]) -> None:
    """Run a command: errors in one line, the exit codes, and Ctrl-C, which stops at once when it is pressed again."""
    pressed = ended = False

    def interrupt(*_: Any) -> None:
        nonlocal pressed
        if pressed:
            _leave()
        pressed = True
        if not ended:
            raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    listens = threading.current_thread() is threading.main_thread() and before != signal.SIG_IGN  # as under nohup
    if listens:
        signal.signal(signal.SIGINT, interrupt)
    try:
        command()
        ended = True
    except BaseException as error:
        ended = True
        if pressed and not (isinstance(error, SystemExit) and error.code == 0):
            _leave()  # whatever came of it on its way here
        _end(error)
    finally:
        if listens:
            signal.signal(signal.SIGINT, before)


def ignore_ctrl_c_between_commands() -> None:
    """Once the command of this process has ended, Ctrl-C changes nothing; pressed again, it ends what holds it up."""
    pressed = False

    def interrupt(*_: Any) -> None:
        nonlocal pressed
        if pressed:
            os._exit(130)
        pressed = True

    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, interrupt)
        atexit.register(
            signal.signal, signal.SIGINT, signal.SIG_IGN
        )  # the last steps of the interpreter know no handlers


def _end(error: BaseException) -> NoReturn:
    """Say how a command ended, and end it. Raises what is a bug of ours."""
    if isinstance(error, BrokenPipeError):  # `m3dllm … | head`
        _drop(sys.stdout)
        raise SystemExit(0) from None
    if line := line_of(error):
        _tell(f"m3dllm: {printable(redact(line))}")
        _drop(sys.stdout)
        raise SystemExit(2) from None
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort":
        _leave()
    if isinstance(error, Exception) and (blamed := _of_a_plugin(error)):
        _tell(printable(blamed))
        _drop(sys.stdout)
        raise SystemExit(1) from None
    raise error


def end_at_once(line: str) -> NoReturn:
    """End the command with one line from a thread, whatever the others wait for."""
    _tell(f"m3dllm: {printable(redact(line))}")
    os._exit(2)


def _of_a_plugin(error: Exception) -> str:
    """The part of a traceback that lies in a package with an entry point of ours, and what is wrong there; "" where no
    part does: then the bug is ours."""
    import traceback
    from importlib.metadata import entry_points

    points = (
        point for group in entry_points().groups if group.startswith("m3dllm.") for point in entry_points(group=group)
    )
    packages = {point.module.partition(".")[0]: point.dist.name if point.dist else point.value for point in points}
    walked = [
        (f, line, f.f_globals.get("__name__", "").partition(".")[0])
        for f, line in traceback.walk_tb(error.__traceback__)
    ]
    theirs = [(frame, line) for frame, line, package in walked if package in packages]
    if not theirs:
        return ""
    name = packages[next(package for _, _, package in reversed(walked) if package in packages)]
    frames = "".join(traceback.StackSummary.extract(iter(theirs)).format())
    what = "".join(traceback.format_exception_only(error)).rstrip()
    return f"m3dllm: the plugin '{name}' failed:\n{frames}{what}"


def line_of(error: BaseException) -> str:
    """What the user can do about an error; "" where it is none of theirs."""
    if isinstance(error, UserError):
        return str(error)
    if hasattr(error, "format_message"):  # of the parser of the command line
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "m3dllm"
        return f"{error.format_message()} (see '{command} --help')"
    if isinstance(error, OSError) and error.errno in OUTSIDE:
        name = error.filename if error.filename is not None else "the output"
        name = name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
        name = name if len(name) <= 200 else f"{name[:80]}…{name[-20:]}"
        return f"{name}: {error.strerror}: free up space or choose another location"
    if isinstance(error, MemoryError):
        return "out of memory: use fewer or shorter documents, or a smaller batch"
    return ""


def _tell(line: str) -> None:
    """One line on stderr, if it can be written."""
    with suppress(OSError, ValueError):
        print(line, file=sys.stderr, flush=True)  # noqa: T201


def _drop(stream: Any) -> None:
    """Let a stream that cannot be written go, so that the end of the process does not try again."""
    try:
        stream.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())


def _leave() -> NoReturn:
    """End a command that was stopped, without waiting for threads that wait for others."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    _tell(STOPPED)
    main = threading.main_thread()
    if any(thread is not main and not thread.daemon for thread in threading.enumerate()):
        if "multiprocessing" in sys.modules:
            for child in sys.modules["multiprocessing"].active_children():
                child.terminate()
        os._exit(130)
    raise SystemExit(130)
