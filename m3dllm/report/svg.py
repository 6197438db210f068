"""Figures as SVG: in the page, with colours that follow its light or dark theme, and as files with fixed colours.

Text stays text, so that a file can be edited and searched.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from m3dllm.report.axes import COLORS
from m3dllm.report.drawing import WIDTHS, Dot, Drawing, Group, Item, Path, Words, draw
from m3dllm.report.layout import Figure

ON_WHITE = (
    'svg{font:11.5px "DejaVu Sans","Noto Sans","Noto Sans CJK SC",Arial,sans-serif}'
    "text{fill:#1b1e23}.title{font-weight:bold}.tick,.axis{fill:#5d6570;font-size:10.5px}"
    ".middle{text-anchor:middle}.end{text-anchor:end}.grid{stroke:#dfe3e8}.zero{stroke:#8d96a1}"
    ".mark{stroke:#8d96a1;stroke-width:3;stroke-opacity:.55}"
    ".range,.curve{fill:none;stroke:currentColor;stroke-width:1.7}.front{fill:none;stroke:#8d96a1;stroke-dasharray:4 3}"
    ".sign,.open{fill:currentColor;stroke:currentColor;stroke-width:1.6}.open{fill:#fff}.hit{fill:none}"
)


def svg(figure: Figure, *, origin: str) -> str:
    """The figure as a file, on white, with its `origin` as description."""
    drawing = draw(figure)
    colors = "".join(f".c{i}{{color:{color}}}" for i, color in enumerate(COLORS))
    head = f"<title>{_name(figure)}</title><desc>{escape(visible(origin))}</desc><style>{ON_WHITE}{colors}</style>"
    paper = '<rect width="100%" height="100%" fill="#fff"/>'
    return f'<svg {_size(drawing)} xmlns="http://www.w3.org/2000/svg">{head}{paper}{_items(drawing)}</svg>\n'


def inline_svg(figure: Figure) -> str:
    """The figure as `svg` elements of a page, one for each layout width.

    The classes w0, w1 and w2 stand for the WIDTHS; the page shows the one that fits its column.
    """
    classes: dict[Drawing, list[str]] = {}
    for i, width in enumerate(WIDTHS):
        classes.setdefault(draw(figure, width), []).append(f"w{i}")
    return "".join(
        f'<svg {_size(drawing)} class="{" ".join(names)}" role="img" aria-label="{_name(figure)}">'
        f"{_items(drawing)}</svg>"
        for drawing, names in classes.items()
    )


def _size(drawing: Drawing) -> str:
    width, height = f"{drawing.width:.0f}", f"{drawing.height:.0f}"
    return f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'


def _name(figure: Figure) -> str:
    return escape(visible(f"{figure.title}. {figure.caption}"))


def _items(drawing: Drawing) -> str:
    return "".join(part for item in drawing.items for part in _item(item))


def _item(item: Item) -> Iterator[str]:
    match item:
        case Path(points, style, closed):
            places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            yield f'<{"polygon" if closed else "polyline"} points="{places}" class="{style}"/>'
        case Dot(x, y, r, style):
            yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r}" class="{style}"/>'
        case Words(x, y, text, style, anchor):
            yield f'<text x="{x:.1f}" y="{y:.1f}" class="{style} {anchor}">{escape(visible(text))}</text>'
        case Group(color, items, tooltip):
            yield f'<g class="c{color % len(COLORS)}">'
            if tooltip:
                yield f"<title>{escape(visible(tooltip))}</title>"
            for part in items:
                yield from _item(part)
            yield "</g>"


def visible(text: str) -> str:
    """`text` without control characters, which XML does not allow."""
    return "".join(c if c.isprintable() else " " for c in text)
