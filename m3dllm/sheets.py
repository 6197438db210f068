"""Rows as CSV whose cells a spreadsheet shows and never runs."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

_FORMULA = re.compile(r"'*[=+\-@＝＋－＠\t\r\n]")


def defused(value: object) -> object:
    """`value` with a `'` before it where it is text that a spreadsheet would take as a formula; numbers are none.

    Text that begins so and has marks before it gets one more, so that `restored` finds what stood there.
    """
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def restored(cell: str) -> str:
    """What stood where `defused` wrote `cell`."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def noted(
    rows: Iterable[Sequence[object]], change: Callable[[str, str, str], None], where: str
) -> Iterator[Sequence[object]]:
    """The rows as they are, every cell that will be defused noted by `change`."""
    for row in rows:
        for value in row:
            if defused(value) != value:
                change("cell", "a spreadsheet would read it as a formula: prefixed with '", f"{where}: {value}")
        yield row


def csv_lines(rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """Each row as a line of CSV, its cells defused; None is an empty cell."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for row in rows:
        writer.writerow([defused(value) for value in row])
        yield out.getvalue()
        out.seek(0)
        out.truncate()
