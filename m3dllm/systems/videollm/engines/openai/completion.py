"""A completion as a Reply: all its texts are kept, and completeness is judged by the text itself."""

from __future__ import annotations

import codecs
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from m3dllm.systems.videollm.engines.base import Reply
from m3dllm.systems.videollm.engines.openai.refusals import RefusalError, code_of, one_line, refusal
from m3dllm.systems.videollm.reading import is_whole, without_thoughts
from m3dllm.types import Failure

LENGTH = frozenset(("length", "max_tokens", "max_output_tokens", "model_length", "max_length", "token_limit"))
"""Finish reasons, in lower case, for an answer truncated at the token limit."""
WITHHELD = frozenset(
    ("content_filter", "safety", "recitation", "prohibited_content", "blocklist", "spii", "refusal", "sensitive")
)
"""Finish reasons for an answer that the server withheld, wholly or partly."""
BROKEN = frozenset(
    ("error", "failed", "abort", "aborted", "cancelled", "network_error", "insufficient_system_resource")
)
"""Finish reasons for an aborted answer."""


def read_completion(answer: Mapping[str, Any], url: str, *, key: str) -> Reply:
    """The reply in a completion.

    Raises RefusalError if it holds an error and no text. A reply whose answer was withheld, refused or aborted,
    and is incomplete, is a failure that keeps its text; so is one that reached its maximum length before its answer.
    """
    where = f"{url}/chat/completions"
    choices = answer.get("choices")
    there = [one for one in choices if isinstance(one, dict)] if isinstance(choices, list) else []
    choice = next((one for one in there if one.get("index") == 0), there[0] if there else None)
    error = answer.get("error") or (choice or {}).get("error")
    if choice is None:
        blocked = answer.get("promptFeedback") or answer.get("prompt_feedback")
        if not error and blocked:
            raise RefusalError(f"{where} withholds the answer ({one_line(json.dumps(blocked))})", "document")
        if error:
            raise _inside(where, error, key)
        body = one_line(json.dumps(answer, ensure_ascii=False))[:300]
        raise RefusalError(f"{where} returned no completion ({body})", "down")
    text, reasoning, refused = _texts(choice)
    if error and not text:
        raise _inside(where, error, key)
    if not text and is_whole(reasoning):  # some servers return a schema-constrained answer as reasoning
        text, reasoning = reasoning, ""
    stated = str(choice.get("finish_reason") or "").strip().lower()
    usage = answer.get("usage") if isinstance(answer.get("usage"), dict) else {}
    finish, failure = _finish(where, stated, text, refused, error)
    if finish == "stop" and not text and not refused and "message" not in choice and "text" not in choice:
        body = one_line(json.dumps(answer, ensure_ascii=False))[:300]
        raise RefusalError(f"{where} returned no completion ({body})", "down")
    if finish == "length" and not without_thoughts(text).strip():
        what = "the model reached the maximum answer length before its answer began"
        failure = Failure(f"{what}: raise --max-tokens, or lower --thinking or --reasoning-effort")
    read, written = (
        usage.get(f"{side}_tokens_details") if isinstance(usage, dict) else None for side in ("prompt", "completion")
    )
    return Reply(
        text=text,
        finish=finish,
        reasoning=reasoning,
        refusal=refused,
        failure=failure,
        logprobs=_logprobs(choice, text),
        tokens_in=_number(usage, "prompt_tokens"),
        tokens_out=_number(usage, "completion_tokens"),
        tokens_reused=_number(read, "cached_tokens"),
        tokens_thinking=_number(written, "reasoning_tokens"),
    )


def _inside(where: str, error: Any, key: str) -> RefusalError:
    """An error that came with HTTP status 200."""
    return refusal(where, code_of(error), json.dumps({"error": error}, ensure_ascii=False), {}, key=key)


def _finish(where: str, stated: str, text: str, refused: str, error: Any) -> tuple[str, Failure | None]:
    """("stop", "length" or another reason, the failure if the answer cannot be used)."""
    if stated in LENGTH:
        return "length", None
    if refused and not text:
        return "refusal", Failure(f"the model refused: {one_line(refused)}")
    if stated in WITHHELD and not is_whole(text):
        return stated, Failure(f"{where} withheld the answer ({stated})")
    if (stated in BROKEN or error) and not is_whole(text):
        why = one_line(json.dumps(error, ensure_ascii=False)) if error else stated
        return "error", Failure(f"{where} aborted the answer ({why})", retryable=True)
    return "stop", None


def _texts(choice: Mapping[str, Any]) -> tuple[str, str, str]:
    """(the answer, the reasoning, the refusal instead of an answer) of a choice."""
    message = choice.get("message")
    if not isinstance(message, dict):
        return str(choice.get("text") or ""), "", ""
    answer: list[str] = []
    reasoning: list[str] = []
    refused: list[str] = []
    for kind, text in _parts(message.get("content")):
        (reasoning if kind in ("thinking", "reasoning") else refused if kind == "refusal" else answer).append(text)
    calls = message.get("tool_calls")
    if not "".join(answer).strip():
        functions = (
            [call.get("function") for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
        )
        for function in (*functions, message.get("function_call")):
            arguments = function.get("arguments") if isinstance(function, dict) else None
            if isinstance(arguments, dict):  # as in Ollama
                arguments = json.dumps(arguments, ensure_ascii=False)
            answer += [arguments] if isinstance(arguments, str) else []
    for name in ("reasoning_content", "reasoning", "thinking"):
        found = [text for _, text in _parts(message.get(name))]
        if any(found):
            reasoning += found
            break
    refused += [text for _, text in _parts(message.get("refusal"))]
    return "".join(answer), "\n".join(reasoning), "\n".join(filter(None, refused))


def _logprobs(choice: Mapping[str, Any], text: str) -> tuple[tuple[int, float], ...] | None:
    """(end offset, log-probability) of each token of the answer; None if the server has none, or for other tokens than
    those of the answer."""
    held = choice.get("logprobs")
    rows = held.get("content") if isinstance(held, dict) else None
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    found: list[tuple[int, float]] = []
    written = ""
    for row in rows if isinstance(rows, list) else ():
        try:
            piece = bytes(row["bytes"]) if isinstance(row.get("bytes"), list) else str(row["token"]).encode()
            logprob = float(row["logprob"])
            if not math.isfinite(logprob):
                return None
        except (AttributeError, KeyError, TypeError, ValueError):
            return None
        written += decoder.decode(piece)
        found.append((len(written), min(logprob, 0.0)))
    return tuple(found) if text and written.startswith(text) else None


def _parts(content: Any) -> Iterator[tuple[str, str]]:
    """(type, text) of each part of a content, which may be a text, a list of parts, or a part alone."""
    if isinstance(content, str):
        yield "text", content
    elif isinstance(content, list):
        for part in content:
            yield from _parts(part)
    elif isinstance(content, dict):
        kind = str(content.get("type") or "text")
        for name in ("text", "thinking", "reasoning", "refusal", "content"):
            for _, text in _parts(content.get(name)):
                yield kind, text


def _number(mapping: Any, name: str) -> int | None:
    value = mapping.get(name) if isinstance(mapping, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 40 else None
