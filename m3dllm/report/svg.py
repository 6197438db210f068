"""Figures as SVG: in the page, where colours follow its light and dark, and as files with colours of their own.

Text stays text, so that a file can be edited and searched.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from m3dllm.report.axes import COLORS
from m3dllm.report.drawing import Dot, Group, Item, Path, Words, draw
from m3dllm.report.layout import Figure

ON_WHITE = (
    'svg{font:11.5px "DejaVu Sans","Noto Sans","Noto Sans CJK SC",Arial,sans-serif}'
    "text{fill:#1b1e23}.title{font-weight:bold}.tick,.axis{fill:#5d6570;font-size:10.5px}"
    ".middle{text-anchor:middle}.end{text-anchor:end}.grid{stroke:#dfe3e8}.zero{stroke:#8d96a1}"
    ".range,.curve{fill:none;stroke:currentColor;stroke-width:1.7}.front{fill:none;stroke:#8d96a1;stroke-dasharray:4 3}"
    ".sign,.open{fill:currentColor;stroke:currentColor;stroke-width:1.6}.open{fill:#fff}.hit{fill:none}"
)


def svg(figure: Figure, *, origin: str | None = None) -> str:
    """The figure as an `svg` element; with an `origin`, as a file of its own on white that keeps it as description."""
    drawing = draw(figure)
    width, height = f"{drawing.width:.0f}", f"{drawing.height:.0f}"
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    name = escape(f"{figure.title}. {figure.caption}")
    items = "".join(part for item in drawing.items for part in _item(item))
    if origin is None:
        return f'<svg {size} role="img" aria-label="{name}">{items}</svg>'
    colors = "".join(f".c{i}{{color:{color}}}" for i, color in enumerate(COLORS))
    head = f"<title>{name}</title><desc>{escape(origin)}</desc><style>{ON_WHITE}{colors}</style>"
    paper = '<rect width="100%" height="100%" fill="#fff"/>'
    return f'<svg {size} xmlns="http://www.w3.org/2000/svg">{head}{paper}{items}</svg>\n'


def _item(item: Item) -> Iterator[str]:
    match item:
        case Path(points, style, closed):
            places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            yield f'<{"polygon" if closed else "polyline"} points="{places}" class="{style}"/>'
        case Dot(x, y, r, style):
            yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r}" class="{style}"/>'
        case Words(x, y, text, style, anchor):
            yield f'<text x="{x:.1f}" y="{y:.1f}" class="{style} {anchor}">{escape(_visible(text))}</text>'
        case Group(color, items, told):
            yield f'<g class="c{color % len(COLORS)}">'
            if told:
                yield f"<title>{escape(_visible(told))}</title>"
            for part in items:
                yield from _item(part)
            yield "</g>"


def _visible(text: str) -> str:
    """`text` without control characters, which XML does not allow."""
    return "".join(c if c.isprintable() else " " for c in text)
