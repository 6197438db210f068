"""Server-sent events: some servers and proxies always stream."""

from __future__ import annotations

from typing import Any

from m3dllm.wire import read_json


def is_stream(text: str) -> bool:
    """Whether a body is a stream of events, by its beginning, which JSON cannot have; ":" begins a comment."""
    return text.lstrip().startswith(("data:", "event:", ":"))


def joined(text: str) -> dict[str, Any]:
    """The completion assembled from the events of a stream. Raises ValueError if one is not JSON.

    A stream without an end was interrupted: its `finish_reason` is "aborted".
    """
    whole: dict[str, Any] = {}
    message: dict[str, str] = {}
    finish, is_over = None, False
    for line in text.split("\n"):
        name, _, data = line.partition(":")
        is_over = is_over or (name == "data" and data.strip() == "[DONE]")
        if name != "data" or data.strip() in ("", "[DONE]"):
            continue
        event = read_json(data)
        if not isinstance(event, dict):
            raise ValueError(f"an event is not an object: {data[:80]}")
        whole |= {key: value for key, value in event.items() if value is not None}
        choices = event.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
        finish = choice.get("finish_reason") or finish
        delta = choice.get("delta")
        for key, part in delta.items() if isinstance(delta, dict) else ():
            if isinstance(part, str) and key != "role":
                message[key] = message.get(key, "") + part
    finish = finish or (None if is_over else "aborted")
    return whole | ({"choices": [{"message": message, "finish_reason": finish}]} if "choices" in whole else {})
