"""Chat messages, with texts and images in order, and their form in records."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, slots=True, eq=False)
class Still:
    """A frame in a prompt: its number in the clip and its picture."""

    frame: int
    image: Image
    sha256: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """Frames as one video, with the time of each in seconds."""

    stills: tuple[Still, ...]
    seconds: tuple[float, ...]


Part = str | Still | Clip


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """One message of the role "system", "user" or "assistant"."""

    role: str
    parts: tuple[Part, ...]


def prompt_text(messages: Sequence[Message], *, like: tuple[str, Sequence[Message]] | None = None) -> str:
    """The messages as one line of JSON, with each image as the number and the hash of its frame.

    `like` is (hash, messages) of an earlier prompt: the common beginning of a message with that prompt's is written as
    {"like": its hash, "parts": how many parts}.
    """
    written = []
    for i, message in enumerate(messages):
        parts = [_written(part) for part in message.parts]
        before = like[1][i].parts if like is not None and i < len(like[1]) else ()
        same = list(takewhile(lambda pair: pair[0] is pair[1], zip(before, message.parts, strict=False)))
        if like is not None and len(same) > 0 and len(message.parts) > 1:
            parts[: len(same)] = [{"like": like[0], "parts": len(same)}]
        written.append({"role": message.role, "content": parts})
    return json.dumps(written, ensure_ascii=False)


def prompt_sha256(messages: Sequence[Message]) -> str:
    return hashlib.sha256(prompt_text(messages).encode("utf-8", "replace")).hexdigest()


def _written(part: Part) -> str | Mapping[str, Any]:
    if isinstance(part, str):
        return part
    if isinstance(part, Still):
        return {"frame": part.frame, "size": part.image.size, "sha256": part.sha256}
    return {"clip": [still.frame for still in part.stills], "sha256": [still.sha256 for still in part.stills]}
