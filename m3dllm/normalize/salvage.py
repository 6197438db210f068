"""Extract the object from a model's output: the only reader of answers, for `normalize` and for stages of strategies.

It is found in code fences, amid prose, after a chain of thought, inside wrapper objects or as a bare list, with keys in
any case; truncated output is kept up to its last complete element, and malformed output is repaired. It is not
interpreted here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from json.decoder import JSONDecoder
from typing import Any, NamedTuple

from m3dllm.answers import LISTS
from m3dllm.normalize.details import WHOLE, excerpt
from m3dllm.normalize.malformed import integer, mend
from m3dllm.normalize.spelling import spelled
from m3dllm.types import Issue

ATTEMPTS = 20
"""The number of places at which an object is tried."""
WRAPPERS = 4
"""The most objects or lists that may wrap an answer."""

_TAG = r"(?:[a-z]+[:_])?(?:think\w*|thoughts?|reason\w*|reflect\w*|analysis|scratch_?pad|draft|inner_monologue)"
_THOUGHT_ENDS = re.compile(
    rf"</{_TAG}>|◁/think▷|\[/THINK\]|<\|?(?:end_of_thought|end_think)\|?>|<\|channel\|>\s*final\s*<\|message\|>", re.I
)
_THOUGHT_BEGINS = re.compile(
    rf"<{_TAG}>|◁think▷|\[THINK\]|<\|?(?:begin_of_thought|begin_think)\|?>|<\|channel\|>\s*analysis\s*<\|message\|>",
    re.I,
)
_FENCED = re.compile(r"```\w*\s*(?=[{\[])")


def read_object(text: str, keys: Collection[str] = LISTS) -> tuple[Any, tuple[Issue, ...]]:
    """(the value, the Issues of reading it); None and the Issue `not_json` if nothing can be used.

    `keys` are those of the answer; () for any object. The first complete object that has one of them wins; then a
    truncated one, up to its last complete element; then a repaired one. A chain of thought, in any tag, is ignored,
    unless there is no answer elsewhere: then its last complete answer is read. Never raises.
    """
    body = without_thoughts(text)
    read = _read(body, keys)
    if read.value is None and body != text and (thought := _last_thought(text, keys)) is not None:
        return thought.value, (
            *thought.issues,
            Issue("repaired", WHOLE, "the answer is inside the model's reasoning"),
        )
    if read.value is None:
        return None, (Issue("not_json", WHOLE, f"{read.why}: {excerpt(body.strip() or text)}"),)
    return read.value, read.issues


def is_whole(text: str) -> bool:
    """Whether a text holds a complete JSON object after its chain of thought."""
    body = without_thoughts(text)
    return any(isinstance(_decode(body, start).value, dict) for start in _starts(body, ())[:2])


def without_thoughts(text: str) -> str:
    """A model's output without its chain of thought."""
    ends = list(_THOUGHT_ENDS.finditer(text))
    body = text[ends[-1].end() :] if ends else text
    begun = _THOUGHT_BEGINS.search(body)
    return body[: begun.start()] if begun else body


def complete(text: str) -> str:
    """`text`, a truncated object, up to its last complete element, with its brackets closed.

    "" if it is not truncated but malformed, or has no complete element.
    """
    stack: list[str] = []
    best, end = -1, ""
    for match in re.finditer(r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)|[{}\[\],]', text, re.DOTALL):
        mark = match[0]
        if mark in "{[":
            stack.append("}" if mark == "{" else "]")
            if mark == "[":
                best, end = match.end(), "".join(reversed(stack))
        elif mark in "}]":
            if not stack or stack.pop() != mark or not stack:
                return ""
            best, end = match.end(), "".join(reversed(stack))
        elif mark == "," and stack and stack[-1] == "]":
            best, end = match.start(), "".join(reversed(stack))
    return text[:best] + end if best >= 0 else ""


# --- where to look ----------------------------------------------------------------------------------------------------


class _Read(NamedTuple):
    """The value at a place of a text and where it ends, or why there is none."""

    value: Any = None
    end: int = 0
    issues: tuple[Issue, ...] = ()
    why: str = ""


def _read(body: str, keys: Collection[str]) -> _Read:
    answers = _answers(body, keys)
    starts = _starts(body, answers)
    if not starts:
        return _Read(why="no object")
    other: _Read | None = None
    schema_end = 0
    for start in starts:
        if start < schema_end:
            continue
        read = _decode(body, start)
        answer = _answer_in(read.value, keys)
        if answer is not None:
            return read._replace(value=answer, issues=read.issues + _second(body, read.end, keys))
        if _is_schema(read.value):
            schema_end = read.end
        elif other is None and isinstance(read.value, dict):
            other = read
    answers = [start for start in answers if start >= schema_end]
    if other is not None and not answers:
        return other
    if schema_end and not answers:
        return _Read(why="the schema of the answer instead of an answer")
    alone = _list_alone(body)
    if alone >= 0 and not (answers and answers[0] < alone) and (name := _list_name(body[alone:], keys)):
        return _salvage(f'{{"{name}":{body[alone:]}', 0, keys)
    places = answers[:1] or [start for start in starts if body[start] == "{"]
    return _salvage(body, places[-1], keys) if places else _Read(why="no object")


def _list_name(text: str, keys: Collection[str]) -> str | None:
    """The key whose list `text`, truncated or malformed, begins with."""
    if len(keys) == 1:
        return next((key for key in keys if key in _LISTED), None)
    named = {"mentions": "chains", "head": "relations", "frame": "regions"} if keys is LISTS else {}
    return next((name for mark, name in named.items() if re.search(rf"\b{mark}\b\W*:", text[:400])), None)


def _answers(body: str, keys: Collection[str]) -> list[int]:
    """The places where an object begins with one of the keys, or where one of them precedes a list."""
    return [match.start() for match in _pattern(keys).finditer(body)] if keys else []


def _pattern(keys: Collection[str]) -> re.Pattern[str]:
    names = "|".join(map(re.escape, keys))
    return re.compile(rf"""\{{\s*["'“]?(?:{names})["'”]?\s*:|"(?:{names})"\s*:\s*\[""", re.IGNORECASE)


def _starts(body: str, answers: Collection[int]) -> list[int]:
    """The places at which a value is tried, in order."""
    braces = {body.find("{"), _list_alone(body), *(match.end() for match in _FENCED.finditer(body))} - {-1}
    return sorted({*braces, *list(answers)[:ATTEMPTS]})[:ATTEMPTS]


def _list_alone(body: str) -> int:
    """Where a list outside of any object begins; -1 if there is none."""
    start = body.find("[")
    before = body[: max(start, 0)]
    return -1 if "{" in before or re.search(r"""["'”\w]\s*:\s*\Z""", before) else start


def _last_thought(text: str, keys: Collection[str]) -> _Read | None:
    """The last complete answer in finished chains of thought; None if there is none."""
    ends = list(_THOUGHT_ENDS.finditer(text))
    if not ends:
        return None
    body = text[: ends[-1].start()]
    for start in reversed(_answers(body, keys)[-ATTEMPTS:]):
        read = _decode(body, start)
        if (answer := _answer_in(read.value, keys)) is not None:
            return read._replace(value=answer)
    return None


def _second(body: str, end: int, keys: Collection[str]) -> tuple[Issue, ...]:
    """An Issue if another answer follows the one that was read."""
    more = _pattern(keys).search(body, end) if keys else None
    return (Issue("extra_answer", WHOLE, f"not read: {excerpt(body[more.start() :])}"),) if more else ()


# --- what is an answer ------------------------------------------------------------------------------------------------


def _answer_in(value: Any, keys: Collection[str], depth: int = WRAPPERS) -> dict[str, Any] | None:
    """The answer that a value is or wraps: an object with one of the keys, in the right spelling."""
    if depth < 0:
        return None
    if isinstance(value, dict):
        if _is_schema(value):
            return _answer_in(value.get("properties"), keys, 0) if _holds_data(value, keys) else None
        if not keys:
            return value if depth == WRAPPERS else None
        own = spelled(value, keys)
        if not own.keys().isdisjoint(keys):
            return own
        for inner in value.values():
            if isinstance(inner, str) and inner.lstrip().startswith("{"):
                inner = _decode(inner.strip()).value
            if isinstance(inner, dict | list) and (found := _answer_in(inner, keys, depth - 1)) is not None:
                return found
        return None
    if isinstance(value, list) and keys and depth:
        return _of_list(value, keys, depth)
    return None


def _of_list(rows: list[Any], keys: Collection[str], depth: int) -> dict[str, Any] | None:
    """A bare list as an answer with that list, by the form of its rows; or the answer in it."""
    if len(rows) == 1 and (found := _answer_in(rows[0], keys, depth - 1)) is not None:
        return found
    if not rows or depth < WRAPPERS:  # an empty list does not tell which part is empty
        return None
    first = rows[0]
    if tuple(keys) == LISTS and isinstance(first, dict):
        own = {str(key).lower() for key in first}
        if "mentions" in own:
            return {"chains": rows}
        if {"head", "tail"} <= own:
            return {"relations": rows}
        if "frame" in own or any("box" in key for key in own):
            return {"regions": rows}
        return None
    name = next(iter(keys)) if len(keys) == 1 else None
    return {str(name): rows} if name in _LISTED and isinstance(first, _LISTED[name]) else None


_LISTED: dict[str | None, tuple[type, ...]] = {
    "chains": (list,),
    "relations": (dict,),
    "regions": (dict,),
    "mentions": (str,),
    "box": (int, float),
}
"""The keys whose list may be bare if only one is expected, and the types of its items."""


def _is_schema(value: Any) -> bool:
    """Whether an object is a JSON schema, which a model repeated instead of answering."""
    return (
        isinstance(value, dict)
        and isinstance(value.get("properties"), dict)
        and ("type" in value or "$schema" in value)
    )


def _holds_data(schema: dict[str, Any], keys: Collection[str]) -> bool:
    """Whether the answer was written into the schema, in place of the items of its lists."""
    return any(isinstance(value, list) for key, value in schema["properties"].items() if key in keys)


# --- decoding ---------------------------------------------------------------------------------------------------------


def _decode(text: str, start: int = 0) -> _Read:
    """The JSON value that begins at `start`. Of a repeated key the first value is kept, with an Issue."""
    issues: list[Issue] = []

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        row: dict[str, Any] = {}
        for key, value in pairs:
            if key in row:
                issues.append(
                    Issue("bad_shape", WHOLE, f"{excerpt(key)} appears twice in an object; the first is kept")
                )
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


# --- salvage ----------------------------------------------------------------------------------------------------------


def _salvage(body: str, start: int, keys: Collection[str]) -> _Read:
    """The answer that begins at `start` and is truncated, malformed, or both."""
    if body[start] != "{":
        body, start = "{" + body[start:], 0
    strict = _decode(body, start)
    if keys is not LISTS and (kept := complete(body[start:].partition("```")[0])):
        cut = _decode(kept)
        if isinstance(cut.value, dict):
            issue = Issue("truncated", WHOLE, f"kept up to character {len(kept)}")
            return cut._replace(value=spelled(cut.value, keys), issues=(issue, *cut.issues))
    mended = mend(body, start)
    issues: tuple[Issue, ...] = ()
    if mended.cut:
        left_out = body[mended.end :].strip(" \t\r\n,")
        issues = (Issue("truncated", mended.cut, f"left out: {excerpt(left_out)}"),)
        strict = _decode(body[start : mended.end] + mended.closing)
        if strict.value is not None:
            return strict._replace(value=_answer_in(strict.value, keys) or strict.value, issues=issues + strict.issues)
    answer = _answer_in(mended.value, keys)
    if answer is None:
        return _Read(why=strict.why or "no answer")
    problem = f"malformed JSON: {strict.why or 'no opening bracket'}"
    return _Read(answer, mended.end, (*issues, Issue("repaired", WHOLE, problem)))
