"""The sources that the user gave, in order: films with their subtitles, texts, and pictures with captions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from m3dllm.columns import counted
from m3dllm.corpora.images import SUFFIXES as IMAGES
from m3dllm.errors import UserError
from m3dllm.files import natural
from m3dllm.subtitles import SUFFIXES as SUBTITLES
from m3dllm.videos import SUFFIXES as VIDEOS

TEXTS = frozenset((".txt", ".md"))
SOUNDS = frozenset((".mp3", ".m4a", ".wav", ".ogg", ".flac"))
"""In a folder, these and videos count as films; a file given by name is tried whatever its suffix."""
Kind = Literal["film", "text", "picture"]


@dataclass(frozen=True, slots=True)
class Source:
    """One thing to read. `subtitles` are given for a film, or found beside it; `path` is None for subtitles alone.

    A picture's caption is its `subtitles`.
    """

    kind: Kind
    path: Path | None
    subtitles: tuple[Path, ...] = ()
    given: bool = False
    """Whether the subtitles were given, not found."""
    folder: str = ""
    """The name of the folder that was given, for pictures."""

    @property
    def name(self) -> str:
        return (self.path or self.subtitles[0]).stem

    @property
    def files(self) -> tuple[Path, ...]:
        return ((self.path,) if self.path else ()) + self.subtitles


def find_sources(paths: Sequence[Path], subtitles: Sequence[Path] = ()) -> list[Source]:
    """The sources at `paths`; the first of `subtitles` belongs to the first film, and so on.

    A folder stands for the files in it. Raises UserError for a missing file, a folder without anything to
    read, or more subtitles than films.
    """
    found: list[Source] = []
    for path in paths:
        if path.is_dir():
            found += _in_folder(path)
        elif not path.exists():
            raise UserError.at(path, "does not exist; expected a video, subtitles, a text, or a folder of these")
        else:
            found.append(_one(path))
    for path in subtitles:
        if not path.is_file():
            raise UserError.at(path, "does not exist; expected a subtitle file")
    films = [i for i, source in enumerate(found) if source.kind == "film" and source.path is not None]
    if len(subtitles) > len(films):
        given = f"{counted(len(subtitles), 'subtitle file')} for {counted(len(films), 'film')}"
        raise UserError(f"got {given}: expected at most one per film, in order")
    for i, path in zip(films, subtitles, strict=False):
        found[i] = Source("film", found[i].path, (path,), given=True)
    return found


def _one(path: Path) -> Source:
    suffix = path.suffix.lower()
    if suffix in TEXTS:
        return Source("text", path)
    if suffix in SUBTITLES:
        return Source("film", None, (path,), given=True)
    if suffix in IMAGES:
        return _picture(path, "")
    return Source("film", path, _beside(path))


def _beside(video: Path) -> tuple[Path, ...]:
    """Subtitle files with the video's name, such as film.srt and film.en.srt."""
    names = sorted(p for p in video.parent.iterdir() if p.suffix.lower() in SUBTITLES and p.is_file())
    return tuple(p for p in names if p.stem == video.stem or p.name.startswith(f"{video.stem}."))


def _picture(path: Path, folder: str) -> Source:
    caption = next((c for suffix in sorted(TEXTS) if (c := path.with_suffix(suffix)).is_file()), None)
    return Source("picture", path, () if caption is None else (caption,), folder=folder)


def _in_folder(folder: Path) -> list[Source]:
    found = (p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    files = sorted(found, key=lambda path: natural(path.name))
    sources = [_one(p) for p in files if p.suffix.lower() in VIDEOS | SOUNDS]
    sources += [_picture(p, folder.resolve().name) for p in files if p.suffix.lower() in IMAGES]
    used = {file for source in sources for file in source.files}
    sources += [_one(p) for p in files if p not in used and p.suffix.lower() in SUBTITLES | TEXTS]
    if not sources:
        raise UserError.at(folder, "contains no video, subtitles, text or image")
    return sources
