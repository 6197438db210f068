"""UIMA CAS JSON (INCEpTION, WebAnno): entities, relations and coreference.

Offsets count UTF-16 units there and code points here. An annotation is a mention if it has a type and is in a layer of
entities, a relation if it has a governor and a dependent and is not of syntax, a coreference link if it has a next one.
Of several views the one with most entity annotations is read; of several annotators of a document the curator, else the
first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from m3dllm.corpora.documents import read_value
from m3dllm.corpora.imported import Imported
from m3dllm.corpora.jsonfiles import key, keys, note_unread, objects, whole_number, words
from m3dllm.corpora.marks import Marks, language_of, offset_table
from m3dllm.corpora.sources import Incoming, files_at
from m3dllm.corpora.walk import shown
from m3dllm.errors import UserError
from m3dllm.types import Document, Example, Lang, Task

MENTIONS = ("NamedEntity", "Entity", "Span", "CoreferenceLink")
_TYPES = ("value", "label", "type", "referenceType", "entityType")
_PASSED_OVER = ("Sofa", "Sentence", "Token", "DocumentMetaData", "DocumentAnnotation", "TagsetDescription")
_REFERENCES = ("%ID", "@sofa", "@first", "@next", "@Governor", "@Dependent")
_KNOWN = keys("%ID %TYPE %FLAGS @sofa @first @next @Governor @Dependent begin end")
_UNKNOWN = "MISC"
_CURATED, _INITIAL = "CURATION_USER", "INITIAL_CAS"
"""The files of a project's document that no annotator made."""
_SHAPE = keys("%TYPES %VIEWS") | {"%FEATURE_STRUCTURES": [{"*": None}]}


def read_uima(
    path: Path, *, layer: Sequence[str] = MENTIONS, lang: Lang | None = None, split: str | None = None
) -> Imported:
    """The texts of the file, or of the files in the folder, at `path`.

    - `layer`: the layers with mentions, by the last part of their names.
    - `lang`: the language of all documents; default: detected.
    - `split`: the split to write; default: from the file names.

    Raises UserError where a file is no CAS, or there is no document.
    """
    incoming = Incoming()
    files = files_at(path, (".json", ".json.gz"), "UIMA CAS JSON files", incoming.notes)
    stems = Counter(file.stem for file in files)
    taken: dict[tuple[str, str], Path] = {}
    for file in sorted(files, key=lambda file: file.stem != _CURATED):
        value = read_value(file, incoming.notes)
        if not isinstance(value, dict) or not isinstance(value.get("%FEATURE_STRUCTURES"), list):
            if file == path:
                raise UserError.at(file, "is not UIMA CAS JSON: it has no %FEATURE_STRUCTURES")
            incoming.notes.leave_out("file", "it is not UIMA CAS JSON", file.name)
            continue
        note_unread(value, _SHAPE, f"{file.name}: $", incoming.notes)
        things = [
            one | {name: key(one.get(name)) for name in _REFERENCES if name in one}
            for one in objects(value["%FEATURE_STRUCTURES"])
        ]
        sofa, things = _view(things, frozenset(layer), file.name, incoming.notes)
        text = words(sofa.get("sofaString"))
        if file.parent != path != file and (why := _not_taken(file, text, taken)):
            incoming.notes.leave_out("annotation", why, shown(file, path))
            continue
        marks = Marks(text, incoming.notes, file.name)
        unannotated = _mark(marks, things, frozenset(layer))
        own = f"{file.parent.name}/{file.stem}" if stems[file.stem] > 1 else file.stem
        name = incoming.id_for(own, f"document-{len(incoming.ids)}", file.name)
        document = Document(name, language_of(text, lang), text)
        incoming.add(split or incoming.split_of(file, path), Example(document, marks.gold(), unannotated))
    return incoming.done(path)


def _not_taken(file: Path, text: str, taken: dict[tuple[str, str], Path]) -> str:
    """Why a file of a project of INCEpTION, which has a folder of annotators for each document, is not read; "": it is.

    The curated annotation comes first, then the first annotator's.
    """
    if file.stem == _INITIAL:
        return "it is the text before it was annotated"
    first = taken.setdefault((file.parent.name, text), file)
    return "" if first is file else "another annotation of its text is used"


def _view(
    things: list[dict[str, Any]], layers: frozenset[str], where: str, notes: Imported
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(the text that is read, its annotations); those of other texts are noted."""
    sofas = [one for one in things if _kind(one) == "Sofa"]
    if not sofas:
        return {}, things
    held = Counter(one.get("@sofa") for one in things if _kind(one) in layers)
    read = max(sofas, key=lambda one: (held[one.get("%ID")], one.get("sofaID") == "_InitialView"))
    others = {one.get("%ID") for one in sofas if one is not read} - {None}
    for one in things:
        if one.get("@sofa") in others and _kind(one) not in _PASSED_OVER:
            notes.leave_out(_kind(one) or "annotation", "it is of another view", f"{where}: {one.get('%ID')}")
    for sofa in sofas:
        if sofa is not read and words(sofa.get("sofaString")):
            notes.leave_out("view", "another one is read", f"{where}: {words(sofa.get('sofaID'))}")
    return read, [one for one in things if one.get("@sofa") not in others or _kind(one) == "Sofa"]


def _kind(thing: dict[str, Any]) -> str:
    return words(thing.get("%TYPE")).rpartition(".")[2]


def _mark(marks: Marks, things: list[dict[str, Any]], layers: frozenset[str]) -> frozenset[Task]:
    """Put the annotations into `marks`; returns the tasks that are not annotated."""
    text = marks.text
    units = offset_table(text)
    by_id = {one.get("%ID"): one for one in things}
    spans = {one.get("%ID"): span for one in things if (span := _span(one, units))}
    chained = {one.get("%ID") for one in things if _kind(one) == "CoreferenceLink"}
    typed = {
        spans[one.get("%ID")]: _type(one)
        for one in things
        if one.get("%ID") in spans.keys() - chained and _kind(one) in layers and _type(one)
    }
    relations = False
    for thing in things:
        name, kind = thing.get("%ID"), _kind(thing)
        if kind not in _PASSED_OVER and (kind in (*layers, "CoreferenceChain") or _is_relation(thing)):
            shape = _KNOWN | {_type_key(thing): None}
            note_unread(thing, shape, f"{marks.where}: {kind} {name}", marks.notes)
        if name in spans and kind in layers:
            label = typed.get(spans[name]) or (_UNKNOWN if name in chained else _type(thing))
            if not (name in chained and marks.holds(("span", spans[name]))):
                marks.mention(("span", spans[name]), *spans[name], label)
        elif _is_relation(thing):
            relations = True
        elif kind in layers:
            where = f"{marks.where}: {kind} {name}: {thing.get('begin')} to {thing.get('end')} of {len(units) - 1}"
            marks.notes.leave_out("mention", "its offsets are outside the text", where)
        elif kind not in (*_PASSED_OVER, "CoreferenceChain"):
            detail = f"{marks.where}: {name}"
            marks.notes.leave_out(kind or "annotation", f"a corpus cannot represent the layer {kind!r}", detail)
    for thing in things:
        if _is_relation(thing):
            ends = [("span", spans.get(thing.get(key), (-1, -1))) for key in ("@Governor", "@Dependent")]
            marks.relate(ends[0], ends[1], _type(thing))
        elif _kind(thing) == "CoreferenceChain":
            marks.join(("span", spans.get(link, link)) for link in _links(thing.get("@first"), by_id))
    lacking: set[Task] = set() if relations else {"relation"}
    if not any(_kind(one) == "CoreferenceChain" for one in things):
        lacking.add("chain")
    return frozenset(lacking)


def _span(thing: dict[str, Any], units: Sequence[int]) -> tuple[int, int] | None:
    """The span of an annotation in code points; None where it has none in the text."""
    begin, end = whole_number(thing.get("begin")), whole_number(thing.get("end"))
    if begin is None or end is None or not 0 <= begin < end < len(units):
        return None
    return units[begin], units[end]


def _is_relation(thing: dict[str, Any]) -> bool:
    """Whether it joins two annotations; dependencies of syntax join words."""
    return ("@Governor" in thing or "@Dependent" in thing) and ".syntax." not in words(thing.get("%TYPE"))


def _type(thing: dict[str, Any]) -> str:
    return words(thing.get(_type_key(thing)))


def _type_key(thing: dict[str, Any]) -> str:
    """The first key of an annotation that holds a type; "" if none does."""
    return next((key for key in _TYPES if words(thing.get(key))), "")


def _links(first: object, by_id: dict[Any, dict[str, Any]]) -> Iterator[object]:
    """The links of a chain, from the first; the last may refer to a missing annotation."""
    seen: set[object] = set()
    while first is not None and first not in seen:
        seen.add(first)
        yield first
        first = by_id.get(first, {}).get("@next")


IMPORTER = read_uima
