"""Errors that the user can fix.

`UserError` is the only exception that the command line prints without a traceback (exit code 2). Everything else is a
bug of ours and keeps its traceback (exit code 1).
"""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
_SECRETS = (
    (re.compile(r"\b([a-z][a-z0-9+.-]*:/{1,2})[^\s/?#'\"<>]*@", re.IGNORECASE), r"\1***@"),
    (
        re.compile(
            r"([?&;][\w.-]*(?:token|key|secret|passw|pwd|sig|auth|credential)[\w.-]*=)[^\s&#'\"<>]+", re.IGNORECASE
        ),
        r"\1***",
    ),
    (re.compile(r"\b(?:hf_|sk-)[A-Za-z0-9_-]{16,}"), "***"),
)
"""Patterns of secrets and their replacements: passwords in addresses, keys in queries, keys of the hub and servers."""
_KEYS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "OPENAI_API_KEY")
"""Environment variables whose values are secret."""


class UserError(Exception):
    """A message the user can act on: where, what was there, what was expected, and what to do."""

    @classmethod
    def at(cls, file: str | Path, message: str, *, line: int | None = None, place: str = "") -> UserError:
        """`file[:line][: place]: message`; `place` is a path inside the value, such as `$.chains[0]`."""
        where = f"{file}:{line}" if line is not None else f"{file}"
        return cls(f"{where}: {place}: {message}" if place else f"{where}: {message}")


def remedy(error: OSError) -> str:
    """What the user can do about a file that cannot be read or written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "free up space or choose another location"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "change its permissions or choose another location"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return "raise the limit of open files (ulimit -n)"
    return "check the path or choose another location"


def redact(value: T) -> T:
    """A text, or a value of lists and dicts, with secrets in addresses and keys replaced."""
    found: object = value
    if isinstance(value, str):
        for pattern, shown in _SECRETS:
            found = pattern.sub(shown, found)  # type: ignore[call-overload]
        for key in filter(None, (os.environ.get(name, "").strip() for name in _KEYS)):
            found = found.replace(key, "***")  # type: ignore[attr-defined]
    elif isinstance(value, dict):
        found = {name: redact(part) for name, part in value.items()}
    elif isinstance(value, list | tuple):
        found = type(value)(map(redact, value))
    return found  # type: ignore[return-value]


def printable(text: str) -> str:
    """`text` safe for a terminal: line ends and tabs stay, other unprintable characters become escapes.

    Names and answers come from outside, and could otherwise move the cursor or inject control sequences.
    """
    if text.isprintable():
        return text
    return "".join(c if c in "\n\t" or c.isprintable() or c in _SPACES else repr(c)[1:-1] for c in text)


def one_line(text: str) -> str:
    """`text` with line ends and other unprintable characters as escapes."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


_SPACES = "\u00a0\u202f\u3000"
"""Spaces that Python counts as unprintable but terminals show: no-break, narrow no-break, wide."""
