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
