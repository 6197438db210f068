"""The videos of a page, or the reason why one is not available.

They are numbered in the order of the documents, so that no text of a corpus becomes a file name.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from m3dllm.files import inside, links_out
from m3dllm.types import Video
from m3dllm.videos import PLAYED, Put, put_video

log = logging.getLogger("m3dllm")


class Players:
    """Puts videos into the folder `out`, each once."""

    def __init__(self, out: Path, how: Put) -> None:
        self._out, self._how = out, how
        self._known: dict[Path, dict[str, Any]] = {}

    def of(self, video: Video | None, roots: Sequence[Path]) -> dict[str, Any] | None:
        """{"src": address, "start_s", "end_s"} or {"gone": why} of a video that is sought under each of the `roots`;
        None where the document has none, or the page is to have none."""
        if video is None or self._how == "none":
            return None
        found = next((found for root in roots if "src" in (found := self._one(video, root))), None)
        return {"start_s": video.start_s, "end_s": video.end_s} | (found or self._one(video, roots[0]))

    def _one(self, video: Video, root: Path) -> dict[str, Any]:
        try:
            file = inside(root, video.path)
        except ValueError:
            return {"gone": "its path leads out of the corpus"}
        if file not in self._known:
            self._known[file] = self._placed(file, root)
            if why := self._known[file].get("gone"):
                log.warning("no video on the page: %s: %s", file, why, extra={"kind": "no video on the page"})
        return self._known[file]

    def _placed(self, file: Path, root: Path) -> dict[str, Any]:
        suffix = file.suffix.lower()
        if suffix not in PLAYED:
            return {"gone": f"browsers play no {suffix or 'file without a suffix'}"}
        if links_out(root, file) or not (root / "labels.json").is_file():  # a run from elsewhere names no file of mine
            return {"gone": "it is not in a corpus"}
        name = f"videos/{sum('src' in known for known in self._known.values()):04}{suffix}"
        why = put_video(file, self._out / name, self._how)
        return {"gone": why} if why else {"src": name}
