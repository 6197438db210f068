"""Documents per second of each importer, compared with only reading the same files with the json module or as bytes.

python benchmarks/import_speed.py DATA      DATA holds m3d/, re_docred/, litbank/, mdocre_samples/
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from m3dllm.corpora.brat import read_brat
from m3dllm.corpora.imported import Imported
from m3dllm.corpora.m3d import read_m3d
from m3dllm.corpora.redocred import read_redocred


def best(function: Callable[[], Any], times: int = 3) -> tuple[float, Any]:
    found = []
    for _ in range(times):
        started = time.perf_counter()
        value = function()
        found.append(time.perf_counter() - started)
    return min(found), value


def read_only(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.suffix == ".json":
            json.loads(path.read_bytes())
        elif path.is_file():
            path.read_bytes()


def main(data: Path) -> None:
    samples = data / "mdocre_samples/samples"
    readers: dict[str, tuple[Path, Callable[[], Imported]]] = {
        "m3d": (data / "m3d", lambda: read_m3d(data / "m3d")),
        "redocred": (data / "re_docred", lambda: read_redocred(data / "re_docred")),
        "brat (litbank)": (data / "litbank/brat", lambda: read_brat(data / "litbank/brat", lang="en")),
        "brat (frames, boxes)": (
            samples,
            lambda: read_brat(
                samples / "text_label",
                text=samples / "text",
                coreference=("same_mention",),
                split_languages=True,
                frames=samples / "video",
                boxes=samples / "video_label",
            ),
        ),
    }
    for name, (folder, read) in readers.items():
        seconds, imported = best(read)
        floor, _ = best(lambda folder=folder: read_only(folder))
        documents = sum(map(len, imported.splits.values()))
        print(f"{name:22s} {documents / seconds:8.0f} documents/s   {seconds / floor:5.1f} x only reading the files")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
