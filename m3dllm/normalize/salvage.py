"""The object in what a model wrote: fenced, among prose, cut off, or malformed. What it means is not asked here."""

from __future__ import annotations

import json
import re
from json.decoder import JSONDecoder
from typing import Any, NamedTuple

from m3dllm.answers import LISTS
from m3dllm.normalize.details import WHOLE, excerpt
from m3dllm.normalize.malformed import integer, mend
from m3dllm.types import Issue

ATTEMPTS = 20
"""At how many places of a text an object is looked for."""

_ANSWER = re.compile(r"""\{\s*["'“]?(?:chains|relations|regions)["'”]?\s*:|"(?:chains|relations|regions)"\s*:\s*\[""")
_FENCED = re.compile(r"```\w*\s*(?=\{)")


def read_object(text: str) -> tuple[Any, tuple[Issue, ...]]:
    """(the value, what had to be done to read it); None and the Issue `not_json` where nothing can be used.

    The first whole object that has one of the lists wins; then one that is cut off, up to its last complete element;
    then one that is mended. What a model thought aloud, between <think> and </think>, is passed over. Never raises.
    """
    body = text.rpartition("</think>")[2].partition("<think>")[0]
    braces = {body.find("{"), *(match.end() for match in _FENCED.finditer(body))} - {-1}
    answers = [match.start() for match in _ANSWER.finditer(body)]
    starts = sorted({*braces, *answers[:ATTEMPTS]})[:ATTEMPTS]
    if not starts:
        return None, (Issue("not_json", WHOLE, f"no object in {excerpt(text)}"),)
    other: Any = None
    for start in starts:
        read = _decode(body, start)
        if read.is_answer:
            return read.value, read.issues + _second(body, read.end)
        if other is None and isinstance(read.value, dict):
            other = read
    if other is not None and not answers:
        return other.value, other.issues
    return _salvage(body, answers[0] if answers else starts[-1])


# --- decoding ---------------------------------------------------------------------------------------------------------


class _Read(NamedTuple):
    """What stood at a place of a text: the value and where it ends, or why there is none."""

    value: Any = None
    end: int = 0
    issues: tuple[Issue, ...] = ()
    why: str = ""

    @property
    def is_answer(self) -> bool:
        return isinstance(self.value, dict) and not self.value.keys().isdisjoint(LISTS)


def _decode(text: str, start: int = 0) -> _Read:
    """The JSON value that begins at `start`. Of a key that stands twice the first is kept, and an Issue says so."""
    issues: list[Issue] = []

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        row: dict[str, Any] = {}
        for key, value in pairs:
            if key in row:
                issues.append(Issue("bad_shape", WHOLE, f"{excerpt(key)} stands twice in an object; the first is kept"))
            row.setdefault(key, value)
        return row

    decoder = JSONDecoder(strict=False, parse_int=integer, object_pairs_hook=collect)
    try:
        value, end = decoder.raw_decode(text, start)
    except json.JSONDecodeError as error:
        return _Read(why=f"{error.msg} at character {error.pos - start}")
    except RecursionError:
        return _Read(why="nested too deeply")
    return _Read(value, end, tuple(issues))


def _second(body: str, end: int) -> tuple[Issue, ...]:
    """An Issue where another answer follows the one that was read."""
    more = _ANSWER.search(body, end)
    return (Issue("extra_answer", WHOLE, f"not read: {excerpt(body[more.start() :])}"),) if more else ()


# --- salvage ----------------------------------------------------------------------------------------------------------


def _salvage(body: str, start: int) -> tuple[Any, tuple[Issue, ...]]:
    """The answer that begins at `start` and is cut off, malformed, or both."""
    if body[start] != "{":
        body, start = "{" + body[start:], 0
    strict = _decode(body, start)
    mended = mend(body, start)
    issues: tuple[Issue, ...] = ()
    if mended.cut:
        left_out = body[mended.end :].strip(" \t\r\n,")
        issues = (Issue("truncated", mended.cut, f"left out: {excerpt(left_out)}"),)
        strict = _decode(body[start : mended.end] + mended.closing)
        if strict.value is not None:
            return strict.value, issues + strict.issues
    if not _Read(mended.value).is_answer:
        return None, (Issue("not_json", WHOLE, f"{strict.why or 'no answer'}: {excerpt(body[start:])}"),)
    return mended.value, (*issues, Issue("repaired", WHOLE, f"malformed JSON: {strict.why or 'no opening bracket'}"))
