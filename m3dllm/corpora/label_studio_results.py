"""What stands in a result of Label Studio: its labels, its span, its box; and in the data of a task: its images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from m3dllm.corpora.images import SUFFIXES
from m3dllm.corpora.jsonfiles import objects, real, whole_number, words
from m3dllm.corpora.stills import Size
from m3dllm.types import Box


def value_of(result: dict[str, Any]) -> dict[str, Any]:
    value = result.get("value")
    return value if isinstance(value, dict) else {}


def id_of(result: dict[str, Any], number: int) -> str:
    return words(result.get("id")) or f"result {number}"


def labels_of(holder: dict[str, Any], key: str) -> list[str]:
    found = holder.get(key)
    return [label for label in found if isinstance(label, str) and label] if isinstance(found, list) else []


def in_one(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The results, a rectangle and the labels of the same one (`<Rectangle>` with `<Labels>`) as one result."""
    labelled = {id_of(one, n) for n, one in enumerate(results) if one.get("type") == "labels" and is_drawn(one)}
    found = []
    for n, result in enumerate(results):
        kind, value = words(result.get("type")), value_of(result)
        if kind == "labels" and is_drawn(result):
            shape = "ellipse" if "radiusX" in value else "polygon" if "points" in value else "rectangle"
            found.append(result | {"type": f"{shape}labels", "value": value | {"rectanglelabels": value.get("labels")}})
        elif kind in ("rectangle", "ellipse", "polygon"):
            found += [] if id_of(result, n) in labelled else [result | {"type": f"{kind}labels"}]
        else:
            found.append(result)
    return found


def is_drawn(result: dict[str, Any]) -> bool:
    """Whether the labels of a result are of something that is drawn on an image."""
    value = value_of(result)
    return "start" not in value and (("x" in value and "y" in value) or "points" in value)


def is_of_sound(result: dict[str, Any]) -> bool:
    """Whether the labels of a result are of a stretch of time, whose start and end are seconds."""
    value = value_of(result)
    ends = [real(value.get(key)) for key in ("start", "end")]
    return "original_length" in result or "channel" in value or any(end is not None and end != int(end) for end in ends)


def are_of(key: str, to: str, of: dict[str, int], spans: Sequence[Span], said: dict[str, dict[str, int]]) -> bool:
    """Whether the spans of the control `to` are of the text `key`, where they may be of other texts of the task.

    Spans without their words are, unless their control bears the name of another text, or those of another have words.
    """
    if any(surface for _, _, _, surface, _ in spans):
        return of[key] == max(of.values())
    return to == key or (to not in of and len(said) == 1)


def box_between(first: dict[str, Any], last: dict[str, Any], share: float) -> Box | None:
    """The box that is `share` of the way from one keyframe to the next."""
    one, other = box_of(first), box_of(last)
    return Box(*(a + share * (b - a) for a, b in zip(one, other, strict=True))) if one and other else None


Span = tuple[str, int, int, str | None, list[str]]
"""(id, start, end, words, types)"""


def spans_of(results: Iterable[dict[str, Any]]) -> Iterator[Span]:
    """The spans of text."""
    for n, result in enumerate(results):
        if result.get("type") == "labels":
            value = value_of(result)
            start, end = whole_number(value.get("start")), whole_number(value.get("end"))
            surface = value["text"].replace("\\n", "\n") if isinstance(value.get("text"), str) else None
            yield (
                id_of(result, n),
                -1 if start is None else start,
                -1 if end is None else end,
                surface,
                labels_of(value, "labels"),
            )


def says(text: str, span: Span) -> bool:
    _, start, end, surface, _ = span
    return 0 <= start < end <= len(text) and (surface is None or text[start:end].split() == surface.split())


def original_size(holder: dict[str, Any]) -> Size | None:
    """(width, height) in pixels of the image of a result, or of a frame of ours."""
    width = whole_number(holder.get("original_width", holder.get("width")))
    height = whole_number(holder.get("original_height", holder.get("height")))
    return (width, height) if width and height and width > 0 and height > 0 else None


def box_of(holder: dict[str, Any]) -> Box | None:
    found = [real(holder.get(key)) for key in ("x", "y", "width", "height")]
    x, y, width, height = ((one or 0.0) / 100 for one in found)
    return None if None in found else Box(x, y, x + width, y + height)


def unfit(box: Box | None, kinds: list[str], holder: dict[str, Any]) -> str | None:
    """Why a rectangle cannot come in, or None."""
    if box is None:
        return "it has no x, y, width and height"
    if (real(holder.get("rotation")) or 0.0) % 360:
        return "it is rotated: not an upright box"
    return None if kinds else "it has no type"


def images_of(data: dict[str, Any]) -> Iterator[tuple[str, int, int, str, dict[str, Any]]]:
    """(control, position, frame, name, what is said of it) of each image in a task's data."""
    frames = objects(data.get("frames"))
    if frames:
        for i, about in enumerate(frames):
            index = whole_number(about.get("index"))
            yield f"frame_{i}", 0, i if index is None else index, words(about.get("image")), about
        return
    index = 0
    for key, value in data.items():
        for position, name in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(name, str) and is_image(key, name):
                yield key, position, index, name, {}
                index += 1


def shows_file(key: str, name: str) -> bool:
    """Whether a string is no text but an image, a video or a sound."""
    return is_image(key, name) or is_video(key, name) or suffix_of(name) in (".wav", ".mp3", ".flac", ".ogg", ".m4a")


def suffix_of(name: str) -> str:
    return PurePosixPath(urlsplit(name).path).suffix.lower() if len(name) < 4096 else ""


def is_video(key: str, name: str) -> bool:
    return key == "video" or PurePosixPath(name[:4096]).suffix.lower() in (".mp4", ".webm", ".mov", ".avi", ".mkv")


def is_image(key: str, name: str) -> bool:
    return suffix_of(name) in SUFFIXES or (key in ("image", "img") and "\n" not in name)
