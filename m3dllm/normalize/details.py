"""Parts of an answer as text for an Issue: short, and writable to a file."""

from __future__ import annotations

from typing import Any

WHOLE = "answer"
"""The place of an Issue that concerns the answer as a whole."""


def clean(text: str) -> str:
    """`text` with each lone surrogate as a question mark, since UTF-8 cannot hold it."""
    return text.encode("utf-8", "replace").decode("utf-8")


def excerpt(text: str) -> str:
    """`text` in quotes, cut if it is long."""
    text = clean(text)
    return repr(text) if len(text) <= 80 else f"{text[:60]!r} … ({len(text)} characters)"


def shown(value: Any) -> str:
    """A value, however large or deep it is."""
    if isinstance(value, str):
        return excerpt(value)
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    if value is None:
        return "nothing"
    return "a large number" if isinstance(value, int) and value.bit_length() > 64 else excerpt(str(value)).strip("'")
