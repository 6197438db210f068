"""Server-sent events: some servers and proxies stream whatever they are asked for."""

from __future__ import annotations

from typing import Any

from m3dllm.wire import read_json


def is_stream(text: str) -> bool:
    """Whether the body of an answer is a stream of events, as no JSON begins; ":" begins a comment."""
    return text.lstrip().startswith(("data:", "event:", ":"))


def joined(text: str) -> dict[str, Any]:
    """The completion that the events of a stream add up to. Raises ValueError where one is no JSON."""
    whole: dict[str, Any] = {}
    message: dict[str, str] = {}
    finish = None
    for line in text.split("\n"):
        name, _, data = line.partition(":")
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
    return whole | ({"choices": [{"message": message, "finish_reason": finish}]} if "choices" in whole else {})
