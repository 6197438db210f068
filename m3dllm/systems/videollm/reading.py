"""What a model wrote in the middle of a conversation, as an object: the next question is made from it.

The last word on an answer is `normalize`'s. Here only what a stage needs is read, and what had to be mended, or could
not be read, becomes an Issue.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

from m3dllm.normalize import salvage
from m3dllm.types import Issue


def read_object(text: str, where: str) -> tuple[dict[str, Any], tuple[Issue, ...]]:
    """(the object in `text`, Issues at the place `where`); empty, with an Issue, where there is none."""
    start = text.find("{", text.rfind("</think>") + 1)
    body = text[start:].strip() if start >= 0 else ""
    for candidate, code in ((body, ""), (body.partition("```")[0], ""), (complete(body), "truncated")):
        try:
            value = json.loads(candidate, strict=False)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            return value, (Issue(code, where, f"kept up to character {len(candidate)}"),) if code else ()
    value, issues = salvage.read_object(text)
    return value if isinstance(value, dict) else {}, tuple(replace(issue, where=where) for issue in issues)


def complete(text: str) -> str:
    """`text`, an object that is cut off somewhere, up to its last complete element, with its brackets closed.

    "" where it is not cut off but malformed, or holds nothing complete.
    """
    stack: list[str] = []
    best = ""
    for match in re.finditer(r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)|[{}\[\],]', text, re.DOTALL):
        mark = match[0]
        if mark in "{[":
            stack.append("}" if mark == "{" else "]")
            if mark == "[":
                best = text[: match.end()] + "".join(reversed(stack))
        elif mark in "}]":
            if not stack or stack.pop() != mark:
                return ""
            if not stack:
                return ""
            best = text[: match.end()] + "".join(reversed(stack))
        elif mark == "," and stack and stack[-1] == "]":
            best = text[: match.start()] + "".join(reversed(stack))
    return best


def strings(value: Any) -> list[str]:
    """The strings of a list; nothing else."""
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def rows(value: Any) -> list[dict[str, Any]]:
    """The objects of a list; nothing else."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
