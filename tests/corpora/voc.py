"""Pascal VOC files for tests."""

from __future__ import annotations


def voc(image: str, *boxes: tuple[str, float, float, float, float], size: tuple[int, int] | None = (100, 100)) -> str:
    """The XML of an image with boxes (name, xmin, ymin, xmax, ymax)."""
    said = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>" if size else ""
    things = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox>"
        "</object>"
        for name, a, b, c, d in boxes
    )
    return f"<annotation><filename>{image}</filename>{said}{things}</annotation>"
