"""How a command ends: a result, one line that the user can act on, or the traceback of a bug of ours.

Exit 0: done; 1: a bug of ours; 2: something the user can fix; 130: stopped by Ctrl-C; the same command resumes.
Light to import, so that Ctrl-C gives one line even while the rest is still being loaded.
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

from m3dllm.errors import UserError, printable, redact, remedy

STOPPED = "m3dllm: stopped; the same command resumes"
OUTSIDE = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT),
        *(errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ENODEV),
        *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ETXTBSY, errno.EBUSY, errno.EXDEV, errno.EINVAL),
    }
)
"""System errors that come from the disk or a file name, not from a bug."""
AGAIN_S = 0.01
"""How long after a dropped Ctrl-C it comes again."""


class SafeFormatter(logging.Formatter):
    """Log lines without control characters from names and answers, and without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(redact(super().format(record)))


class Terminal(logging.StreamHandler[Any]):
    """Log lines on stderr; only the first warning of each kind, and at the end the number of the others.

    If stderr cannot be written, the command goes on.
    """

    def __init__(self, *, verbose: bool = False) -> None:
        """`verbose`: every warning is shown."""
        logging.Handler.__init__(self)
        self.setFormatter(SafeFormatter())
        self.verbose = verbose
        self.seen: Counter[str] = Counter()
        """kind of warning -> how often it came."""

    def emit(self, record: logging.LogRecord) -> None:
        kind = _kind(record) if record.levelno == logging.WARNING and not self.verbose else ""
        self.seen[kind] += 1
        if not kind or self.seen[kind] == 1:
            super().emit(record)

    def sum_up(self) -> None:
        """Print how many warnings were not shown."""
        for kind, n in self.seen.items():
            if kind and n > 1:
                _print_error(f"{n - 1} more like this: {printable(kind)} (--verbose shows all)")

    @property
    def stream(self) -> Any:
        """The current stderr: a progress bar replaces it, to print lines above itself."""
        return sys.stderr

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  the name that logging calls
        """Ignore a line that cannot be written."""


def _kind(record: logging.LogRecord) -> str:
    """The kind of a warning: the attribute `kind`, else the message before formatting; "" if that is only a
    placeholder."""
    text: str = getattr(record, "kind", "") or (record.msg if record.args else "")
    text = text.replace("%s", "…").replace("%d", "…")
    return text if any(map(str.isalpha, text)) else ""


def one_line(command: Callable[[], None]) -> None:
    """Run a command: errors in one line, exit codes, and Ctrl-C, which when pressed again stops at once."""
    pressed = ended = False

    def interrupt(*_: Any) -> None:
        nonlocal pressed
        if pressed:
            _leave()
        pressed = True
        if not ended:
            raise KeyboardInterrupt

    def swallowed(unraisable: Any) -> None:
        """Ctrl-C came in a callback of the interpreter, which drops exceptions: a moment later it comes again."""
        nonlocal pressed
        if unraisable.exc_type is not KeyboardInterrupt:
            hook(unraisable)
        elif not ended:
            pressed = False
            main = threading.get_ident()  # in whose calls of the system the signal is to break in
            threading.Timer(AGAIN_S, signal.pthread_kill, (main, signal.SIGINT)).start()

    before, hook = signal.getsignal(signal.SIGINT), sys.unraisablehook
    listens = threading.current_thread() is threading.main_thread() and before != signal.SIG_IGN  # as under nohup
    if listens:
        signal.signal(signal.SIGINT, interrupt)
        sys.unraisablehook = swallowed
    try:
        command()
        ended = True
    except BaseException as error:
        ended = True
        if pressed and not (isinstance(error, SystemExit) and error.code == 0):
            _leave()  # whatever exception it became on the way
        _end(error)
    finally:
        if listens:
            signal.signal(signal.SIGINT, before)
            sys.unraisablehook = hook


def open_closed_streams() -> None:
    """Let standard streams that the caller has closed (`>&-`) read and write nothing, so that the next file that is
    opened does not take the place of one."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115  open to the end


def ignore_ctrl_c_between_commands() -> None:
    """After the command has ended, ignore the first Ctrl-C; the second ends a process that hangs."""
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
        )  # no handler runs in the last steps of the interpreter


def _end(error: BaseException) -> NoReturn:
    """Report an error and end the command. Raises bugs of ours."""
    if isinstance(error, BrokenPipeError):  # `m3dllm … | head`
        _drop(sys.stdout)
        raise SystemExit(0) from None
    if line := line_of(error):
        _print_error(f"m3dllm: {printable(redact(line))}")
        _drop(sys.stdout)
        raise SystemExit(2) from None
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort":
        _leave()
    if isinstance(error, Exception) and (blamed := _of_a_plugin(error)):
        _print_error(printable(blamed))
        _drop(sys.stdout)
        raise SystemExit(1) from None
    raise error


def end_at_once(line: str) -> NoReturn:
    """End the command with one line, from any thread, without waiting for the others."""
    _print_error(f"m3dllm: {printable(redact(line))}")
    os._exit(2)


def _of_a_plugin(error: Exception) -> str:
    """The part of a traceback that lies in a package with an entry point of ours, and the error; "" if no
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
    """The one line for an error that the user can fix; "" for any other."""
    if isinstance(error, UserError):
        return str(error)
    if hasattr(error, "format_message"):  # from the command line parser
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "m3dllm"
        return f"{error.format_message().replace(': Value error, ', ': ')} (see '{command} --help')"
    if isinstance(error, OSError) and error.errno in OUTSIDE:
        name = error.filename if error.filename is not None else "the output"
        name = name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
        name = name if len(name) <= 200 else f"{name[:80]}…{name[-20:]}"
        return f"{name}: {error.strerror}: {remedy(error)}"
    if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop") and error.__context__:
        return line_of(error.__context__)  # of pathlib before Python 3.13
    if isinstance(error, MemoryError):
        return "out of memory: use fewer or shorter documents, or a smaller batch"
    return ""


def _print_error(line: str) -> None:
    """Print one line on stderr, if it can be written."""
    with suppress(OSError, ValueError):
        print(line, file=sys.stderr, flush=True)  # noqa: T201


def _drop(stream: Any) -> None:
    """Drop a stream that cannot be written, so that the exit of the process does not try again."""
    try:
        stream.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())


def _leave() -> NoReturn:
    """End a stopped command without waiting for its threads."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    _print_error(STOPPED)
    main = threading.main_thread()
    if any(thread is not main and not thread.daemon for thread in threading.enumerate()):
        if "multiprocessing" in sys.modules:
            for child in sys.modules["multiprocessing"].active_children():
                child.terminate()
        os._exit(130)
    raise SystemExit(130)
