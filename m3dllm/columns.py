"""Text for people: rows in columns, for a terminal, and counts with their noun."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal


def columns(rows: Iterable[Sequence[str]], *, left: int | None = None) -> list[str]:
    """One line per row, two spaces between columns; a Chinese character takes two cells.

    `left`: how many columns are aligned to the left, the others to the right; None: all of them.
    """
    from rich.console import Console  # loaded only where something is printed
    from rich.table import Table
    from rich.text import Text

    found = [[Text(cell) for cell in row] for row in rows]
    if not found:
        return []
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for i in range(len(found[0])):
        side: Literal["left", "right"] = "left" if left is None or i < left else "right"
        table.add_column(no_wrap=True, overflow="crop", justify=side)
    for row in found:
        table.add_row(*row)
    console = Console(width=1_000_000, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return [line.rstrip() for line in capture.get().splitlines()]


def counted(n: int, noun: str) -> str:
    """Such as "1 document" and "1,200 documents"."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
