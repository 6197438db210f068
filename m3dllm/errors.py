"""What the user can mend.

`UserError` is the only exception that the command line prints without a traceback (exit code 2). Everything else is a
bug of ours and keeps its traceback (exit code 1).
"""

from __future__ import annotations

from pathlib import Path


class UserError(Exception):
    """A message the user can act on: where, what was there, what was expected, and what to do."""

    @classmethod
    def at(cls, file: str | Path, message: str, *, line: int | None = None, place: str = "") -> UserError:
        """`file[:line][: place]: message`; `place` is a path inside the value, such as `$.chains[0]`."""
        where = f"{file}:{line}" if line is not None else f"{file}"
        return cls(f"{where}: {place}: {message}" if place else f"{where}: {message}")


def printable(text: str) -> str:
    """`text` as a terminal may be sent it: line ends and tabs stay, what else does not print becomes an escape.

    Names and answers come from outside: what would move the cursor, rename the window or type for the user is shown.
    """
    if text.isprintable():
        return text
    return "".join(c if c in "\n\t" or c.isprintable() or c in _SPACES else repr(c)[1:-1] for c in text)


_SPACES = "\u00a0\u202f\u3000"
"""Spaces that Python does not count as printable and a terminal shows as such: no-break, narrow no-break, wide."""
