"""doccano JSONL: texts with spans, and relations between them.

Texts are under `text` or `data`, spans under `label`, `labels`, `entities` or, in old exports, `annotations`; other
names are options. Offsets count characters or UTF-16 units, whichever splits fewer words of a file.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

from m3dllm.corpora.documents import JSON, read_documents, scan_documents
from m3dllm.corpora.imported import Imported
from m3dllm.corpora.jsonfiles import key, keys, note_unread, objects, words
from m3dllm.corpora.marks import Marks, is_of_words, language_of, offset_table
from m3dllm.corpora.sources import Incoming, files_of_documents
from m3dllm.labels import LabelSet
from m3dllm.types import Document, Example, Lang, Task

_TEXTS = ("text", "data")
_SPANS = ("label", "labels", "entities", "annotations")
_ENTITY = keys("id start_offset end_offset label user created_at updated_at manual prob")
_RELATION = keys("id from_id to_id type")


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
    - `label`: the key of the spans; default: `label`, `labels`, `entities` or `annotations`.
    - `lang`: the language of all documents; default: detected.
    - `split`: the split to write; default: from the file names.

    Raises UserError where a file is no JSON, or there is no document.
    """
    incoming = Incoming()
    text_keys, span_keys = (text,) if text else _TEXTS, (label,) if label else _SPANS
    for file in files_of_documents(path, JSON, "a JSONL export of doccano", incoming.notes, text_keys):
        part = split or incoming.split_of(file, path)
        related, whole, in_units = _scan(file, text_keys, span_keys)
        if in_units:
            incoming.notes.remark("file", "its offsets count UTF-16 units: as characters they part words", file.name)
        rows = read_documents(file, incoming.notes, keys=text_keys, lines=True)
        for n, one in enumerate(rows, start=1):
            row, where = one.value, one.where(file.name)
            text_key, marked = _first(row, text_keys, str), _first(row, span_keys, list)
            if text_key is None:
                incoming.notes.leave_out("document", "it has no text", where)
                continue
            found, spans = row[text_key], row[marked] if marked else None
            if incoming.is_again(words(row.get("id")), found, part, file, where):
                continue
            shape = keys("id", relations=[_RELATION]) | {text_key: None, marked or "label": None}
            note_unread(row, shape, one.at(file.name), incoming.notes)
            note_unread(objects(spans), [_ENTITY], f"{one.at(file.name)}.{marked}", incoming.notes)
            marks = Marks(found, incoming.notes, where)
            units = offset_table(found) if in_units else ()
            for name, start, end, kind in _spans(spans, incoming.notes, where):
                if 0 <= start < end < len(units):
                    start, end = units[start], units[end]
                marks.mention(name, start, end, kind)
            for relation in objects(row.get("relations")):
                marks.relate(key(relation.get("from_id")), key(relation.get("to_id")), words(relation.get("type")))
            name = incoming.id_for(words(row.get("id")), f"{file.stem}-{n}", where)
            unannotated: set[Task] = {"chain"} if related else {"chain", "relation"}
            if spans is None or whole or (spans and not any(map(_is_span, spans))):
                unannotated.add("entity")  # no label, or labels of the whole text
            document = Document(name, language_of(found, lang), found)
            incoming.add(part, Example(document, marks.gold(), frozenset(unannotated)))
    return incoming.done(path)


def _first(row: dict[str, Any], keys: tuple[str, ...], kind: type) -> str | None:
    """The first of the keys under which there is a value of that type."""
    return next((key for key in keys if isinstance(row.get(key), kind)), None)


def _scan(file: Path, texts: tuple[str, ...], spans: tuple[str, ...]) -> tuple[bool, bool, bool]:
    """(whether some text of a file has relations, whether texts have document labels but no spans, whether offsets
    count UTF-16 units)."""
    related = whole = part = False
    parted = [0, 0]
    for row in scan_documents(file, keys=texts):
        related = related or isinstance(row.get("relations"), list)
        text, marked = row.get(_first(row, texts, str) or ""), row.get(_first(row, spans, list) or "")
        part = part or any(map(_is_span, marked or ()))
        whole = whole or any(not _is_span(one) for one in marked or ())
        if isinstance(text, str) and not text.isascii() and max(text) > "\uffff":
            tables = (range(len(text) + 1), offset_table(text))
            for _, start, end, _ in _spans(marked, Imported(LabelSet()), ""):
                for i, table in enumerate(tables):
                    parted[i] += not is_of_words(
                        text, *(table[at] if 0 <= at < len(table) else -1 for at in (start, end))
                    )
    return related, whole and not part, parted[1] < parted[0]


def _is_span(label: object) -> bool:
    return isinstance(label, (list, dict))


def _spans(spans: list[Any] | None, notes: Imported, where: str) -> Iterator[tuple[Hashable, int, int, str]]:
    """(id, start, end, type) of each span; a missing id is replaced by the position."""
    for i, span in enumerate(spans or ()):
        if isinstance(span, dict):
            parts = span.get("start_offset"), span.get("end_offset"), span.get("label")
            own = key(span.get("id"))
        elif isinstance(span, list) and len(span) == 3:
            parts, own = (span[0], span[1], span[2]), None
        else:
            notes.leave_out("label", "it is of a whole text, not of a span", f"{where}: {span!r:.60}")
            continue
        start, end = (at if isinstance(at := key(part), int) else -1 for part in parts[:2])
        name: Hashable = ("at", i) if own is None else own
        yield name, start, end, words(parts[2])


IMPORTER = read_doccano
