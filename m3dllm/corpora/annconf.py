"""The declarations of BRAT's `annotation.conf`: entity types, and relation types with their roles."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from m3dllm.corpora.imported import Imported
from m3dllm.errors import UserError
from m3dllm.files import read_text

NAME = "annotation.conf"
_SECTION = re.compile(r"\[(\w+)\]")


@dataclass(frozen=True, slots=True)
class AnnConf:
    """`relations`: type -> its roles in their order. `coreference`: the relations that are equivalences."""

    entities: frozenset[str] = frozenset()
    relations: dict[str, tuple[str, ...]] = field(default_factory=dict)
    coreference: frozenset[str] = frozenset()


def conf_for(file: Path, root: Path, known: dict[Path, AnnConf | None], notes: Imported) -> AnnConf:
    """The nearest declarations in the folders from that of `file` up to `root`; `known` caches them by folder."""
    for folder in (file.parent, *file.parent.parents):
        path = folder / NAME
        if path not in known:
            known[path] = _read(path, notes) if path.is_file() else None
        if (found := known[path]) is not None:
            return found
        if folder == root:
            break
    return AnnConf()


def parse_conf(text: str) -> AnnConf:
    """The declarations in the text of an `annotation.conf`."""
    section = ""
    entities: set[str] = set()
    relations: dict[str, tuple[str, ...]] = {}
    coreference: set[str] = set()
    for line in text.splitlines():
        line = line.strip()
        if match := _SECTION.fullmatch(line):
            section = match[1].lower()
            continue
        words = line.lstrip("!").split(None, 1)
        if not words or words[0].startswith(("#", "<", "-")):
            continue
        name, rest = words[0], words[1] if len(words) > 1 else ""
        if section == "entities":
            entities.add(name)
        elif section == "relations":
            roles = tuple(
                part.partition(":")[0].strip() for part in rest.split(",") if not part.strip().startswith("<")
            )
            if re.search(r"<REL-TYPE>\s*:\s*(?:symmetric-transitive|transitive-symmetric)", rest, re.IGNORECASE):
                coreference.add(name)
            else:
                relations.setdefault(name, tuple(filter(None, roles)))
    return AnnConf(frozenset(entities), relations, frozenset(coreference))


def _read(path: Path, notes: Imported) -> AnnConf:
    try:
        return parse_conf(read_text(path))
    except UserError as error:
        notes.leave_out("file", "what it declares cannot be read", str(error))
        return AnnConf()
