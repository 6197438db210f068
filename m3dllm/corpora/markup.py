"""XML files of annotation tools, read without anything that a document type may declare."""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree

from m3dllm.errors import UserError
from m3dllm.files import read_bytes

Element = ElementTree.Element


def read_xml(path: Path, root: str) -> Element:
    """The root of the XML file at `path`. Raises UserError where it is none, or its root has another name."""
    return parse_xml(read_bytes(path), str(path), root)


def parse_xml(data: bytes, where: str, root: str) -> Element:
    """The root of the XML in `data`; `where` is its place. Raises UserError as `read_xml` does."""
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise UserError.at(where, "declares a document type, which is never read: save it without")
    try:
        found = ElementTree.fromstring(data)  # noqa: S314
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise UserError.at(where, f"is no XML that can be read ({error})") from error
    if found.tag != root:
        raise UserError.at(where, f"begins with <{found.tag}>; expected <{root}>")
    return found


def text_of(element: Element | None, path: str) -> str:
    """The text of the element at `path`, without white space at its ends; "" where there is none."""
    return ((element.findtext(path) if element is not None else None) or "").strip()


def number(text: str | None) -> float | None:
    """A finite number, or None."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
