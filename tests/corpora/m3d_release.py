"""A small M3D release: one English and one Chinese document, and a clip's frames, written where they belong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from m3dllm.corpora.imported import Imported
from m3dllm.types import Example

EN: dict[str, Any] = {
    "doc": "Ada 's father , Tom , left Leeds in 1934 . Ada stayed .",
    "time_sent_pair": {"0-4": "Ada 's father , Tom , left Leeds in 1934 .", "4-6.5": "Ada stayed ."},
    "entityLink": {
        "L0": {
            "len": 2,
            "type": "PER",
            "link": [
                {"type": "PER", "start": 0, "end": 1, "text": "Ada", "sent_time": "0-4"},
                {"type": "PER", "start": 11, "end": 12, "text": "Ada", "sent_time": None},
            ],
        },
        "L1": {"len": 1, "type": "PER", "link": [{"type": "PER", "start": 0, "end": 3, "text": "Ada 's father"}]},
        "L2": {"len": 1, "type": "LOC", "link": [{"type": "LOC", "start": 7, "end": 8, "text": "Leeds"}]},
        "L3": {"len": 1, "type": "TIME", "link": [{"type": "TIME", "start": 9, "end": 10, "text": "1934"}]},
    },
    "relation": [
        {"link1": "L1", "link2": "L0", "type": "PER-PER_parents"},
        {"link1": "L2", "link2": "L1", "type": "PER-LOC_leave_for"},
    ],
    "image": [24],
    "video_id": "video_1_2",
    "video_title": "Ada 's life",
    "lang": "en",
}
ZH: dict[str, Any] = {
    "doc": "苏珊看到乔治。苏珊后怕。",
    "time_sent_pair": {"0-8": "苏珊看到乔治。", "7-17": "苏珊后怕。"},
    "entityLink": {
        "L0": {
            "len": 2,
            "type": "PER",
            "link": [
                {"type": "PER", "start": 7, "end": 9, "text": "苏珊"},
                {"type": "PER", "start": 0, "end": 2, "text": "苏珊"},
            ],
        },
        "L1": {"len": 1, "type": "PER", "link": [{"type": "PER", "start": 4, "end": 6, "text": "乔治"}]},
    },
    "relation": [{"link1": "L0", "link2": "L1", "type": "PER-PER_peer"}],
    "image": [],
    "video_id": "video_1_2",
    "video_title": "苏珊",
    "lang": "zh",
}


def release(root: Path, *, split: str = "dev", en: Any = None, zh: Any = None) -> Path:
    """A released folder with these documents; other values and bytes are written as they are."""
    for lang, documents in (("en", en), ("zh", zh)):
        if documents is not None:
            folder = root / "data" / lang
            folder.mkdir(parents=True, exist_ok=True)
            data = documents if isinstance(documents, bytes) else json.dumps(documents, ensure_ascii=False).encode()
            (folder / f"{split}_{lang}.json").write_bytes(data)
    return root


def clip(root: Path, name: str = "video_1_2", **files: bytes | str) -> Path:
    """A clip's folder of frames and box files: `f24_png` is the file 24.png."""
    folder = root / "img" / name
    folder.mkdir(parents=True)
    for file, data in files.items():
        path = folder / file.removeprefix("f").replace("_", ".")
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return root


def one(imported: Imported, i: int = 0) -> Example:
    return imported.splits["dev"][i]


def changed(source: dict[str, Any], **parts: Any) -> dict[str, Any]:
    return {**source, **parts}


def left_out(imported: Imported) -> list[tuple[str, str, str]]:
    return [(out.what, out.why, out.where) for out in imported.left_out if out.what != "annotated frame"]


def texts(example: Example) -> dict[str, list[str]]:
    text = example.document.text
    return {c.id: [text[m.start : m.end] for m in c.mentions] for c in example.gold.chains}
