"""Where each id and each text of a corpus first stands: what finds a second document that has it."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from pathlib import Path

import msgspec

from m3dllm.files import open_file
from m3dllm.positions import Positions


class _Head(msgspec.Struct):
    id: str


class FirstLines:
    """The file and line of each id. In memory are some forty bytes of each, and not the id, which its line has."""

    def __init__(self) -> None:
        self._positions: Positions[str] = Positions(self._id)
        self._files: list[tuple[Path, int]] = []
        """Each file, with the number of ids before it."""
        self._begins, self._numbers = array("q"), array("q")

    def begin(self, file: Path) -> None:
        """The next ids are of this file."""
        self._files.append((file, len(self._positions)))

    def add(self, name: str, number: int, begin: int) -> str | None:
        """Note the id of the line `number`, which begins at the byte `begin`; returns where it stood before."""
        known = self._positions.add(name)
        if known is None:
            self._begins.append(begin)
            self._numbers.append(number)
            return None
        return f"{self._file(known).name}:{self._numbers[known]}"

    def _file(self, position: int) -> Path:
        return self._files[bisect_right(self._files, position, key=lambda one: one[1]) - 1][0]

    def _id(self, position: int) -> str:
        with open_file(self._file(position)) as file:
            file.seek(self._begins[position])
            return msgspec.json.decode(file.readline(), type=_Head).id


class FirstTexts:
    """The file and line of each text, by its hash of 64 bits alone: for a warning, not for a refusal."""

    def __init__(self) -> None:
        self._hashes, self._numbers = array("q"), array("q")
        self._positions: Positions[int] = Positions(self._hashes.__getitem__)
        self._files: list[tuple[Path, int]] = []

    def add(self, text: str, file: Path, number: int) -> tuple[Path, int]:
        """Note the text of a line; returns the file and line where it first stood, perhaps these."""
        found = hash(text)
        known = self._positions.add(found)
        if known is not None:
            return self._files[bisect_right(self._files, known, key=lambda one: one[1]) - 1][0], self._numbers[known]
        if not self._files or self._files[-1][0] != file:
            self._files.append((file, len(self._hashes)))
        self._hashes.append(found)
        self._numbers.append(number)
        return file, number
