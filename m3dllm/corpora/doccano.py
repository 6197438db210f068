"""doccano JSONL: texts with spans (`[start, end, type]`, or entities with ids and relations between them).

Texts stand under `text` or `data`, spans under `label`, `labels` or `entities`; other names are options.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

from m3dllm.corpora.imported import Imported
from m3dllm.corpora.jsonfiles import key, objects, read_objects, whole_number, words
from m3dllm.corpora.marks import Marks, language_of
from m3dllm.corpora.sources import Incoming, files_at, split_of
from m3dllm.types import Document, Example, Lang, Task

_TEXTS = ("text", "data")
_SPANS = ("label", "labels", "entities")


def read_doccano(
    path: Path,
    *,
    text: str | None = None,
    label: str | None = None,
    lang: Lang | None = None,
    split: str | None = None,
) -> Imported:
    """The documents of the export, or of the exports in the folder, at `path`. Chains are not annotated.

    - `text`: the key of the texts; default: `text` or `data`.
    - `label`: the key of the spans; default: `label`, `labels` or `entities`.
    - `lang`: the language of all documents; default: detected.
    - `split`: the split to write; default: as the names of the files say.

    Raises UserError where a file is no JSON, or there is no document.
    """
    incoming = Incoming()
    for file in files_at(path, (".jsonl", ".json"), "a JSONL export of doccano"):
        rows, part = list(read_objects(file)), split or split_of(file, path)
        related = any(isinstance(row.get("relations"), list) for _, row in rows)
        for n, (line, row) in enumerate(rows, start=1):
            where = f"{file.name}:{line}"
            found = _first(row, (text,) if text else _TEXTS, str)
            if found is None:
                incoming.notes.leave_out("document", "it has no text", where)
                continue
            marks = Marks(found, incoming.notes, where)
            spans = _first(row, (label,) if label else _SPANS, list)
            for name, start, end, kind in _spans(spans, incoming.notes, where):
                marks.mention(name, start, end, kind)
            for relation in objects(row.get("relations")):
                marks.relate(key(relation.get("from_id")), key(relation.get("to_id")), words(relation.get("type")))
            name = incoming.id_for(words(row.get("id")), f"{file.stem}-{n}", where)
            unannotated: set[Task] = {"chain"} if related else {"chain", "relation"}
            if spans is None or (spans and not any(isinstance(span, (list, dict)) for span in spans)):
                unannotated.add("entity")  # no label, or labels of the whole text
            document = Document(name, language_of(found, lang), found)
            incoming.add(part, Example(document, marks.gold(), frozenset(unannotated)))
    return incoming.done(path)


def _first(row: dict[str, Any], keys: tuple[str, ...], kind: type) -> Any:
    return next((row[key] for key in keys if isinstance(row.get(key), kind)), None)


def _spans(spans: list[Any] | None, notes: Imported, where: str) -> Iterator[tuple[Hashable, int, int, str]]:
    """(id, start, end, type) of each span; an id that is not said is a position."""
    for i, span in enumerate(spans or ()):
        if isinstance(span, dict):
            parts = span.get("start_offset"), span.get("end_offset"), span.get("label")
            said = key(span.get("id"))
        elif isinstance(span, list) and len(span) == 3:
            parts, said = (span[0], span[1], span[2]), None
        else:
            notes.leave_out("label", "it is of a whole text, not of a span", f"{where}: {span!r:.60}")
            continue
        start, end = whole_number(parts[0]), whole_number(parts[1])
        name: Hashable = ("at", i) if said is None else said
        yield name, -1 if start is None else start, -1 if end is None else end, words(parts[2])


IMPORTER = read_doccano
