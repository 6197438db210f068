"""XML files of annotation tools, read without anything that a document type may declare.

As a value (`as_value`) an element is an object: its attributes, `@name`, and a list for each name of elements in it.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from m3dllm.errors import UserError
from m3dllm.files import packed, read_bytes

Element = ElementTree.Element
NESTING = 100
LARGEST = 2**28
"""Bytes of XML: in memory it is ten times as much."""
_NOTHING = frozenset(("", "0", "0.0", "0.00", "false", "no", "none", "unspecified", "unknown"))
"""What is written where there is nothing to say."""


def read_xml(path: Path, root: str) -> Element:
    """The root of the XML file at `path`. Raises UserError where it is none, or its root has another name."""
    return parse_xml(read_bytes(path), str(path), root)


def parse_xml(data: bytes, where: str, root: str) -> Element:
    """The root of the XML in `data`; `where` is its place. Raises UserError as `read_xml` does."""
    if problem := packed(data):
        raise UserError.at(where, problem)
    if len(data) > LARGEST:
        raise UserError.at(where, f"holds more than {LARGEST // 2**20} MiB of XML: divide it")
    plain = data.replace(b"\0", b"")  # as UTF-16 has them
    if b"<!DOCTYPE" in plain or b"<!ENTITY" in plain:
        raise UserError.at(where, "declares a document type, which is never read: save it without")
    try:
        found = ElementTree.fromstring(data)  # noqa: S314
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise UserError.at(where, f"is no XML that can be read ({error})") from error
    if _depth(found) > NESTING:
        raise UserError.at(where, "is nested too deeply to be an annotation")
    if found.tag != root:
        raise UserError.at(where, f"begins with <{found.tag}>; expected <{root}>")
    return found


def _depth(root: Element) -> int:
    """How deeply elements stand in one another; what is deeper than NESTING is not counted."""
    level, depth = [root], 0
    while level and depth <= NESTING:
        level, depth = [part for one in level for part in one], depth + 1
    return depth


def as_value(element: Element) -> Any:
    """The element as an object, or its text where it is nothing else; None where it says nothing, such as "0".

    An `attribute`, as CVAT writes it, stands under its own name.
    """
    found: dict[str, Any] = {f"@{name}": _said(value) for name, value in element.items()}
    for part in element:
        name, value = part.tag, as_value(part)
        if name == "attribute":
            name = part.get("name") or text_of(part, "name")
            value = _said(text_of(part, "value") or part.text)
        if value is not None:
            found.setdefault(name, []).append(value)
    text = _said(element.text)
    return (found if text is None else found | {"text": text}) if found else text


def _said(text: str | None) -> str | None:
    text = (text or "").strip()
    return None if text.casefold() in _NOTHING else text


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
