"""A table in LaTeX, with the rules of booktabs: `\\input` it; the preamble needs `\\usepackage{booktabs}`."""

from __future__ import annotations

from itertools import accumulate

from m3dllm.report.layout import Cell, Column, Table

LATIN = 0x24F
SPECIAL = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "{": r"\{",
        "}": r"\}",
        "$": r"\$",
        "&": r"\&",
        "#": r"\#",
        "%": r"\%",
        "_": r"\_",
        "^": r"\textasciicircum{}",
        "~": r"\textasciitilde{}",
        "–": "--",
        "↓": r"$\downarrow$",
        "·": r"$\cdot$",
        "³": r"$^3$",
        "²": r"$^2$",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
    }
)


def latex(table: Table, origin: str, again: str) -> str:
    """The table as a `tabular`, after comments with its sources and the command to make it again."""
    lines = [*(f"% {_line(text)}" for text in (f"{table.title}. {table.caption}", origin, again))]
    lines += [f"% {letter}: {_line(note)}" for letter, note in table.notes]
    if any(ord(c) > LATIN for row in table.rows for cell in row.cells for c in escape(cell.text)):
        lines.append("% has letters that pdfLaTeX does not know: XeLaTeX or LuaLaTeX and a font with them, or CJKutf8")
    slots = [max((len(row.cells[i].small) for row in table.rows), default=0) for i, _ in enumerate(table.columns)]
    lines += [
        rf"\begin{{tabular}}{{{''.join('r' if column.number else 'l' for column in table.columns)}}}",
        r"\toprule",
    ]
    if any(group for group, _ in table.groups):
        lines += [_heads(table), _rules(table)]
    lines += [" & ".join(map(_title, table.columns, slots)) + r" \\", r"\midrule"]
    for row in table.rows:
        lines += [r"\midrule"] if row.starts else []
        lines.append(" & ".join(map(_cell, row.cells, table.columns, slots)) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    if table.notes:
        notes = (rf"\textsuperscript{{{letter}}} {escape(note)}" for letter, note in table.notes)
        lines += ["", r"\par\smallskip{\footnotesize " + "; ".join(notes) + "}"]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """`text` escaped for LaTeX; unprintable characters are omitted."""
    return "".join(c if c.isprintable() else " " for c in text).translate(SPECIAL)


def _heads(table: Table) -> str:
    return (
        " & ".join(rf"\multicolumn{{{n}}}{{c}}{{{escape(group)}}}" if group else "" for group, n in table.groups)
        + r" \\"
    )


def _rules(table: Table) -> str:
    ends = accumulate(n for _, n in table.groups)
    rules = (f"{end - n + 1}-{end}" for (group, n), end in zip(table.groups, ends, strict=True) if group)
    return " ".join(rf"\cmidrule(lr){{{rule}}}" for rule in rules)


def _title(column: Column, slot: int) -> str:
    return escape(column.title) + _small("", slot)


def _cell(cell: Cell, column: Column, slot: int) -> str:
    text = escape(cell.text)
    if column.number and text.startswith("-") and text != "--":
        text = f"$-${text[1:]}"
    if cell.mark:
        text = rf"\textbf{{{text}}}" if cell.mark == "best" else rf"\underline{{{text}}}"
    return text + (rf"\textsuperscript{{{cell.refs}}}" if cell.refs else "") + _small(cell.small, slot)


def _small(text: str, slot: int) -> str:
    """Small print in a box as wide as the longest of its column, so that numbers and heads are aligned."""
    return rf" {{\scriptsize\makebox[{slot / 2 + 0.1:.1f}em][l]{{{escape(text)}}}}}" if slot else ""


def _line(text: str) -> str:
    """`text` as a one-line comment."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
