"""A table in LaTeX, with the rules of booktabs: `\\input` it; the preamble needs `\\usepackage{booktabs}`."""

from __future__ import annotations

from itertools import accumulate

from m3dllm.report.layout import Cell, Column, Table

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
    """The table as a `tabular`, after comments that say what it was made from and how to make it again."""
    lines = [*(f"% {_line(text)}" for text in (f"{table.title}. {table.caption}", origin, again))]
    lines += [f"% {letter}: {_line(note)}" for letter, note in table.notes]
    lines += [
        rf"\begin{{tabular}}{{{''.join('r' if column.number else 'l' for column in table.columns)}}}",
        r"\toprule",
    ]
    if any(group for group, _ in table.groups):
        lines += [_heads(table), _rules(table)]
    lines += [" & ".join(map(_title, table.columns)) + r" \\", r"\midrule"]
    for row in table.rows:
        lines += [r"\midrule"] if row.starts else []
        lines.append(" & ".join(map(_cell, row.cells)) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    if table.notes:
        notes = (rf"\textsuperscript{{{letter}}} {escape(note)}" for letter, note in table.notes)
        lines += ["", r"\par\smallskip{\footnotesize " + "; ".join(notes) + "}"]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """`text` as LaTeX prints it; what is no printable character is left out."""
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


def _title(column: Column) -> str:
    return escape(column.title)


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    if cell.mark:
        text = rf"\textbf{{{text}}}" if cell.mark == "best" else rf"\underline{{{text}}}"
    small = rf" {{\scriptsize {escape(cell.small)}}}" if cell.small else ""
    return text + small + (rf"\textsuperscript{{{cell.refs}}}" if cell.refs else "")


def _line(text: str) -> str:
    return " ".join(text.split())
