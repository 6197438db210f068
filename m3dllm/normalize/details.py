"""How a part of an answer is shown in an Issue: short, and so that it can be written to a file."""

from __future__ import annotations

from typing import Any

WHOLE = "answer"
"""The place of an Issue that concerns the answer as a whole."""


def clean(text: str) -> str:
    """`text` with each lone surrogate as a question mark, because it could not be written as UTF-8."""
    return text.encode("utf-8", "replace").decode("utf-8")


def excerpt(text: str) -> str:
    """`text` in quotes; of a long one the beginning."""
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
