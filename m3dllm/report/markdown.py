"""A report in Markdown, for reading in a terminal and on code hosts. Figures are linked, not drawn."""

from __future__ import annotations

import re
from collections.abc import Iterator

from m3dllm.report.layout import Block, Bullets, Cell, Facts, Forest, Plot, Report, Section, Table, Text


def markdown(report: Report) -> str:
    """The whole report."""
    parts = [f"# {_text(report.title)}", *(text for block in report.glance.blocks for text in _block(block))]
    if report.pages:
        parts.append(f"[The documents, with what each system predicted]({report.pages})")
    parts += ["## Findings", _text(report.lead)]
    parts.append("\n".join(f"- **{_text(where)}**: {_text(what)}" for where, what in report.findings))
    for section in report.sections:
        parts += _section(section, 2)
    parts.append(f"Made by {code(report.again)}")
    return "\n\n".join(parts) + "\n"


def _section(section: Section, level: int) -> Iterator[str]:
    yield f"{'#' * level} {_text(section.title)}"
    for block in section.blocks:
        yield from _block(block)
    for part in section.sections:
        yield from _section(part, level + 1)


def _block(block: Block) -> Iterator[str]:
    match block:
        case Text(text, kind):
            yield f"**{_text(text)}**" if kind == "lead" else _text(text)
        case Facts(rows, codes):
            yield "\n".join(f"- {name}: {code(value) if name in codes else _text(value)}" for name, value in rows)
        case Bullets(rows):
            yield "\n".join(f"- {_text(name)}: {_text(value)}" for name, value in rows)
        case Table():
            yield f"**{_text(block.title)}.** {_text(block.caption)}"
            yield _table(block)
            if block.notes:
                yield "\n".join(f"- {letter}: {_text(note)}" for letter, note in block.notes)
        case Forest() | Plot():
            yield f"![{_text(block.title)}](figures/{block.name}.svg)"
            yield _text(block.caption)


def _table(table: Table) -> str:
    """A table with left-aligned text and right-aligned numbers."""
    heads = [f"{column.group} {column.title}" if column.group else column.title for column in table.columns]
    rule = ["---:" if column.number else "---" for column in table.columns]
    rows = [list(map(_text, heads)), rule, *([_cell(cell) for cell in row.cells] for row in table.rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(cell: Cell) -> str:
    text = _text(cell.text)
    if cell.mark:
        text = f"**{text}**" if cell.mark == "best" else f"_{text}_"
    return " ".join(filter(None, (text, _text(cell.small), f"({cell.refs})" if cell.refs else "")))


def _text(text: str) -> str:
    """`text` escaped so that it neither ends a cell nor begins a tag or a link."""
    for sign, written in (("\\", "\\\\"), ("|", "\\|"), ("<", "&lt;"), ("`", "\\`"), ("[", "\\[")):
        text = text.replace(sign, written)
    return " ".join(text.split())


def code(text: str) -> str:
    """`text` as code, fenced by more backticks than it has in a row."""
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{' '.join(text.splitlines())}{pad}{fence}"
