"""XML files of annotation tools, read without anything that a document type may declare.

As a value (`as_value`) an element is an object: its attributes, `@name`, and a list for each name of elements in it.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from m3dllm.errors import UserError
from m3dllm.files import decode_text, decoded_as, other_encoding, packed, read_bytes

Element = ElementTree.Element
NESTING = 100
LARGEST = 2**28
"""Bytes of XML: in memory it is ten times as much."""
_DECLARED = re.compile(rb"""<\?xml\s[^>]*?\bencoding\s*=\s*["']([A-Za-z][\w.-]*)["']""", re.ASCII)
_PARSED = frozenset(("utf8", "utf16", "usascii", "ascii"))
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
        raise UserError.at(where, f"holds more than {LARGEST // 2**20} MiB of XML: split it")
    text = _as_declared(data, where)
    plain = data.replace(b"\0", b"")  # as UTF-16 has them
    if any(word in plain or (text and word.decode() in text) for word in (b"<!DOCTYPE", b"<!ENTITY")):
        raise UserError.at(where, "declares a document type, which is never read: save it without")
    try:
        found = ElementTree.fromstring(data if text is None else text)  # noqa: S314
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        if text is None and not _DECLARED.match(data) and other_encoding(data) is None:
            decode_text(data, Path(where))  # says where it is no UTF-8, which it is by default
        raise UserError.at(where, f"is not valid XML ({error})") from error
    if _depth(found) > NESTING:
        raise UserError.at(where, "is nested too deeply to be an annotation")
    if found.tag != root:
        raise UserError.at(where, f"begins with <{found.tag}>; expected <{root}>")
    return found


def _as_declared(data: bytes, where: str) -> str | None:
    """The text of XML that declares an encoding which the parser does not read by itself; None of other XML.

    Raises UserError where it is not in the encoding that it declares, or may as well be in UTF-8: only one is right.
    """
    declared = _DECLARED.match(data)
    encoding = declared[1].decode("ascii") if declared else "utf-8"
    plain = re.sub(r"[\W_]", "", encoding).lower()
    if plain in _PARSED:
        return None
    text = decoded_as(data, "gb18030" if plain in ("gb2312", "gbk") else encoding)  # tools say the smaller ones of it
    if text is None:
        problem = "the encoding is unknown, or its bytes are in another one"
        raise UserError.at(where, f"declares encoding={encoding!r}: {problem}; save it as UTF-8")
    if not data.isascii() and decoded_as(data, "utf-8") is not None:
        raise UserError.at(
            where, f"declares encoding={encoding!r} and is in UTF-8: correct the declaration, or save it so"
        )
    return text


def _depth(root: Element) -> int:
    """How deeply elements stand in one another; what is deeper than NESTING is not counted."""
    level, depth = [root], 0
    while level and depth <= NESTING:
        level, depth = [part for one in level for part in one], depth + 1
    return depth


def as_value(element: Element) -> Any:
    """The element as an object, or its text where it is nothing else; None where it printed no message, such as "0".

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
