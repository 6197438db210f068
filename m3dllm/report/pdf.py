"""Figures as PDF files, for papers and talks. Written by matplotlib, which is loaded only here.

The same figure gives the same bytes: no dates. Text is drawn as outlines, since embedding fonts is slow and some
publishers reject it; the SVG file has it as text. Each character uses the first font of a short list that has it; one
that no font has is written as its code, such as \\u4e2d.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import cache
from typing import Any, Literal

from m3dllm.report.axes import COLORS
from m3dllm.report.drawing import Anchor, Dot, Drawing, Group, Item, Path, Style, Words, draw, text_width
from m3dllm.report.layout import Figure

FONTS = (
    *("DejaVu Sans", "Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei"),
    *("WenQuanYi Micro Hei", "Microsoft YaHei", "PingFang SC", "Hiragino Sans GB", "Heiti SC", "SimHei", "SimSun"),
    *("Droid Sans Fallback", "Arial Unicode MS"),
)
LINES: dict[Style, tuple[str, float]] = {
    "grid": ("#dfe3e8", 0.6),
    "zero": ("#8d96a1", 0.7),
    "mark": ("#b9c0c8", 2.2),
    "front": ("#8d96a1", 0.9),
    "range": ("", 1.3),
    "curve": ("", 1.2),
}
"""Style -> (colour, width in points); "" is the system's colour."""
LETTERS: dict[Style, tuple[str, float, str]] = {
    "title": ("#1b1e23", 8.6, "bold"),
    "label": ("#1b1e23", 8.0, "normal"),
    "tick": ("#5d6570", 7.4, "normal"),
    "axis": ("#5d6570", 7.4, "normal"),
}
UNIT = 96.0  # units of a drawing per inch


def pdf(figure: Figure, origin: str) -> bytes:
    """The figure as a PDF file; `origin` is kept in its metadata."""
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.figure import Figure as Canvas

    drawing = draw(figure)
    canvas = Canvas(figsize=(drawing.width / UNIT, drawing.height / UNIT))
    for item in drawing.items:
        for artist in _artists(item, drawing, canvas, COLORS[0]):
            canvas.add_artist(artist)
    out = io.BytesIO()
    metadata = {"CreationDate": None, "Title": figure.title, "Subject": origin, "Creator": "m3dllm"}
    canvas_of: Any = FigureCanvasPdf
    canvas_of(canvas).print_pdf(out, metadata=metadata)
    return out.getvalue()


def _artists(item: Item, drawing: Drawing, canvas: Any, color: str) -> Iterator[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Ellipse, Polygon

    def place(x: float, y: float) -> tuple[float, float]:
        return x / drawing.width, 1 - y / drawing.height

    match item:
        case Group(number, items):
            for part in items:
                yield from _artists(part, drawing, canvas, COLORS[number % len(COLORS)])
        case Path(points, style, closed) if closed:
            if style != "hit":
                corners = [place(*point) for point in points]
                yield Polygon(corners, closed=True, facecolor=color, edgecolor=color, linewidth=0.8)
        case Path(points, style):
            own, width = LINES[style]
            xs, ys = zip(*(place(*point) for point in points), strict=True)
            line: Literal["-", "--"] = "--" if style == "front" else "-"
            yield Line2D(xs, ys, color=own or color, linewidth=width, linestyle=line)
        case Dot(x, y, r, style):
            fill = "white" if style == "open" else color
            wide, high = 2 * r / drawing.width, 2 * r / drawing.height
            yield Ellipse(place(x, y), wide, high, facecolor=fill, edgecolor=color, linewidth=1.1, zorder=3)
        case Words(x, y, text, style, anchor) if "".join(map(_written, text)).strip():
            yield _outlines(text, place(x, y), style, anchor, canvas)


def _outlines(text: str, at: tuple[float, float], style: Style, anchor: Anchor, canvas: Any) -> Any:
    from matplotlib.font_manager import FontProperties
    from matplotlib.patches import PathPatch
    from matplotlib.textpath import TextPath
    from matplotlib.transforms import Affine2D

    ink, size, weight = LETTERS[style]
    prop = FontProperties(family=list(_present()), weight=weight)
    written = "".join(_written(c) for c in text)
    path = TextPath((0, 0), written.replace("$", r"\$"), size=size, prop=prop)
    width = float(path.vertices[:, 0].max()) if len(path.vertices) else 0.0
    codes = written != text and width > 0  # codes are longer than the room for the text
    smaller = min(1.0, text_width(text) * 72 / UNIT / width) if codes else 1.0
    back = {"start": 0.0, "middle": width / 2, "end": width}[anchor]
    x, y = (share * side for share, side in zip(at, canvas.get_size_inches(), strict=True))
    points_to_inches = Affine2D().translate(-back, 0).scale(smaller / 72).translate(x, y)
    return PathPatch(path, facecolor=ink, linewidth=0, transform=points_to_inches + canvas.dpi_scale_trans)


@cache
def _present() -> tuple[str, ...]:
    """Those of FONTS that are installed; the first comes with matplotlib."""
    from matplotlib.font_manager import fontManager

    there = {font.name for font in fontManager.ttflist}
    return tuple(name for name in FONTS if name in there)


@cache
def _written(character: str) -> str:
    """The character; its code if no font has it, a space if it is unprintable."""
    from matplotlib.font_manager import findfont, get_font

    if not character.isprintable():
        return " "
    if any(get_font(findfont(name)).get_char_index(ord(character)) for name in _present()):
        return character
    return character.encode("unicode_escape").decode()
