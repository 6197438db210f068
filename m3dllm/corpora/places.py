"""What the folders of documents say: of which split each is, and of which source video."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection

from m3dllm.corpora.imported import Imported, split_name

SPLIT_WORDS = {
    "train": ("train", "training", "训练", "训练集"),
    "dev": ("dev", "devel", "development", "val", "valid", "validation", "验证", "验证集", "开发集"),
    "test": ("test", "testing", "测试", "测试集"),
}
"""The words that name each split, in any case."""


def split_word(name: str) -> str | None:
    """The split that a folder or file of this name is of; None where it names none."""
    return next((split for split, words in SPLIT_WORDS.items() if name.lower() in words), None)


class Places:
    """The split and the group of documents, whose names are paths."""

    def __init__(
        self, names: Collection[str], *, group: re.Pattern[str] | None, split: str | None, notes: Imported
    ) -> None:
        """`split` is that of all, where given; `group` finds the group in a name, or folders are groups."""
        self._split = split_name(split) if split is not None else None
        self._pattern, self._notes = group, notes
        folders = Counter(folder for name in names if (folder := self._folder(name)))
        self._by_folder = group is None and len(folders) > 1 and max(folders.values()) > 1
        self._in_splits = split is None and any(self._split_of(name) for name in names)
        if group is not None and not any(map(group.search, names)):
            notes.problems.append(
                f"--group {group.pattern}: it matches no document's name, such as {next(iter(names), '')!r}"
            )

    def split(self, name: str) -> str:
        if self._split is not None:
            return self._split
        found = self._split_of(name)
        if found is None and self._in_splits:
            self._notes.remark("document", "none of its parent folders is a split: assigned to train", name)
        return found or "train"

    def group(self, name: str) -> str:
        if self._by_folder:
            folder = self._folder(name)
            if folder:
                self._notes.remark("document", "its folder is its group: '--group PATTERN' chooses another", name)
            return folder
        if self._pattern is None:
            return ""
        match = self._pattern.search(name)
        if match is None:
            self._notes.remark("document", "its name does not match --group: it is a group of its own", name)
            return ""
        return next((part for part in match.groups() if part), match[0])

    @staticmethod
    def _split_of(name: str) -> str | None:
        return next(filter(None, map(split_word, name.split("/")[:-1])), None)

    @staticmethod
    def _folder(name: str) -> str:
        """The folders around a document, without one that is a split."""
        return "/".join(part for part in name.split("/")[:-1] if split_word(part) is None)
