"""ELAN: a tier becomes the text of a document, with times; it has no mentions.

Annotations without their own time share the time of the annotation that they refer to, or lie between those with times.
Documents from ELAN have no gold: they are for running systems, or for annotating their text elsewhere.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from m3dllm.corpora.imported import Imported
from m3dllm.corpora.jsonfiles import keys, note_unread
from m3dllm.corpora.marks import language_of
from m3dllm.corpora.markup import Element, as_value, number, read_xml
from m3dllm.corpora.sources import Incoming, files_at
from m3dllm.errors import UserError
from m3dllm.types import TASKS, Annotation, Document, Example, Lang, Segment

_SHAPE = keys(
    "@AUTHOR @DATE @FORMAT @VERSION @xsi:noNamespaceSchemaLocation HEADER TIME_ORDER LINGUISTIC_TYPE CONSTRAINT LOCALE "
    "LANGUAGE CONTROLLED_VOCABULARY LICENSE EXTERNAL_REF",
    TIER=[keys("ANNOTATION @TIER_ID @LINGUISTIC_TYPE_REF @DEFAULT_LOCALE @ANNOTATOR @LANG_REF @PARENT_REF")],
)
"""The participant of a tier, comments and links to a lexicon are not imported."""


def read_elan(
    path: Path, *, tier: tuple[str, ...] = (), lang: Lang | None = None, split: str | None = None
) -> Imported:
    """The text of the `.eaf` file, or of the files in the folder, at `path`.

    - `tier`: the tiers with the text, ordered by time; default: the tier with the most text.
    - `lang`: the language of all documents; default: detected.
    - `split`: the split to write; default: from the file names.

    Raises UserError where a file is no ELAN file, has no such tier, or there is no document.
    """
    incoming = Incoming()
    for file in files_at(path, (".eaf",), "ELAN files", incoming.notes):
        root = read_xml(file, "ANNOTATION_DOCUMENT")
        note_unread(as_value(root), _SHAPE, file.name, incoming.notes)
        times = _times(root)
        tiers = {one.get("TIER_ID", ""): one for one in root.findall("TIER")}
        for name in tier:
            if name not in tiers:
                raise UserError.at(file, f"has no tier {name!r}; it has {', '.join(map(repr, tiers)) or 'none'}")
        spoken = tier or tuple(sorted(tiers, key=lambda name: -sum(map(len, tiers[name].itertext()))))[:1]
        lines = sorted(line for name in spoken for line in _lines(tiers[name], times, file.name, incoming.notes))
        for name, one in tiers.items():
            for found in one.iterfind(".//ANNOTATION_VALUE") if name not in spoken else ():
                incoming.notes.leave_out(
                    "annotation", f"the tier {name!r} is not the text", f"{file.name}: {found.text or ''!r:.40}"
                )
        media = root.find("HEADER/MEDIA_DESCRIPTOR")
        video = PurePosixPath((media.get("MEDIA_URL") or "").replace("\\", "/")).stem if media is not None else ""
        text, segments = "", []
        for start_s, end_s, line in lines:
            text += "\n" if text else ""
            segments.append(Segment(len(text), len(text) + len(line), start_s, end_s))
            text += line
        name = incoming.id_for(file.stem, f"document-{len(incoming.ids)}", file.name)
        document = Document(name, language_of(text, lang), text, group=video, segments=tuple(segments))
        incoming.add(split or incoming.split_of(file, path), Example(document, Annotation(), frozenset(TASKS)))
    return incoming.done(path)


def _slots(root: Element) -> dict[str, float]:
    """The milliseconds of each time slot; slots without a time between two others divide the time evenly."""
    said = {one.get("TIME_SLOT_ID", ""): number(one.get("TIME_VALUE")) for one in root.iterfind(".//TIME_SLOT")}
    found = {name: time for name, time in said.items() if time is not None}
    for tier in root.findall("TIER"):
        lines = tier.findall("ANNOTATION/ALIGNABLE_ANNOTATION")
        after = {one.get("TIME_SLOT_REF1", ""): one.get("TIME_SLOT_REF2", "") for one in lines}
        for first in [name for name in after if name in found]:
            way = [first, after[first]]
            while way[-1] not in found and way[-1] in after and len(way) <= len(after):
                way.append(after[way[-1]])
            if len(way) > 2 and way[-1] in found:
                step = (found[way[-1]] - found[first]) / (len(way) - 1)
                found |= {name: found[first] + i * step for i, name in enumerate(way[1:-1], start=1)}
    return found


def _times(root: Element) -> dict[str, tuple[float, float]]:
    """The start and end, in milliseconds, of each annotation with a time, its own or from the one that it refers to.

    As in ELAN, time is divided evenly: among the slots without a time between two others, and among the annotations
    of one tier that refer to the same annotation.
    """
    slots = _slots(root)
    found: dict[str, tuple[float, float]] = {}
    referring: dict[str, tuple[str, str]] = {}
    parts: dict[tuple[str, str], dict[str, str]] = {}
    for tier in root.findall("TIER"):
        for one in tier.findall("ANNOTATION/ALIGNABLE_ANNOTATION"):
            start, end = slots.get(one.get("TIME_SLOT_REF1", "")), slots.get(one.get("TIME_SLOT_REF2", ""))
            if start is not None and end is not None and 0 <= start <= end:
                found[one.get("ANNOTATION_ID", "")] = start, end
        for one in tier.findall("ANNOTATION/REF_ANNOTATION"):
            name, of = one.get("ANNOTATION_ID", ""), (tier.get("TIER_ID", ""), one.get("ANNOTATION_REF", ""))
            referring[name] = of
            parts.setdefault(of, {})[name] = one.get("PREVIOUS_ANNOTATION", "")
    ordered = {of: {name: i for i, name in enumerate(_in_order(held))} for of, held in parts.items()}
    depth = len(root)  # no chain of references is longer than the number of tiers, unless it is a cycle
    for name in referring:
        way = [name]
        while way[-1] in referring and way[-1] not in found and len(way) <= depth:
            way.append(referring[way[-1]][1])
        for child in way[-2::-1]:
            of = referring[child]
            if of[1] in found and child not in found:
                (start, end), held = found[of[1]], ordered[of]
                step = (end - start) / len(held)
                at = held[child]
                found[child] = start + at * step, start + (at + 1) * step
    return found


def _in_order(before: dict[str, str]) -> list[str]:
    """The annotations, each after the one that `before` names; else in the order of the file."""
    after = {before[name]: name for name in before if before[name] in before}
    found: dict[str, None] = {}
    for first in sorted(before, key=lambda name: before[name] in before):
        name: str | None = first
        while name is not None and name not in found:
            found[name] = None
            name = after.get(name)
    return list(found)


def _lines(
    tier: Element, times: dict[str, tuple[float, float]], where: str, notes: Imported
) -> list[tuple[float, float, str]]:
    """(start, end, text) of each annotation of a tier that has a time."""
    found = []
    for one in tier.iterfind("ANNOTATION/*"):
        line, name = " ".join((one.findtext("ANNOTATION_VALUE") or "").split()), one.get("ANNOTATION_ID", "")
        if name not in times:
            notes.leave_out("annotation", "it has no time", f"{where}: {name}")
        elif line:
            found.append((times[name][0] / 1000, times[name][1] / 1000, line))
    return found


IMPORTER = read_elan
