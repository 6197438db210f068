"""Rows as CSV whose cells a spreadsheet never runs as formulas."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

_FORMULA = re.compile(r"'*[=+\-@＝＋－＠\t\r\n]")


def defused(value: object) -> object:
    """`value` with a `'` before it if it is text that a spreadsheet would take as a formula; numbers are unchanged.

    Such text that already begins with `'` gets one more, so that `restored` can undo it.
    """
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def restored(cell: str) -> str:
    """The inverse of `defused`."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def noted(
    rows: Iterable[Sequence[object]], change: Callable[[str, str, str], None], where: str
) -> Iterator[Sequence[object]]:
    """The unchanged rows; every cell that will be defused is noted by `change`."""
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
