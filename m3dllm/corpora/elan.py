"""ELAN: the annotations of a tier become the text of a document, line by line, with their times; no mention is in them.

Documents from ELAN have no gold: systems are run on them, or their text is annotated elsewhere.
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
"""The participant of a tier, comments and links to a lexicon have no place in a corpus."""


def read_elan(
    path: Path, *, tier: tuple[str, ...] = (), lang: Lang | None = None, split: str | None = None
) -> Imported:
    """The text of the `.eaf` file, or of the files in the folder, at `path`.

    - `tier`: the tiers whose annotations are the text, in the order of their times; default: the one with most text.
    - `lang`: the language of all documents; default: detected.
    - `split`: the split to write; default: as the names of the files say.

    Raises UserError where a file is no ELAN file, has no such tier, or there is no document.
    """
    incoming = Incoming()
    for file in files_at(path, (".eaf",), "ELAN files", incoming.notes):
        root = read_xml(file, "ANNOTATION_DOCUMENT")
        note_unread(as_value(root), _SHAPE, file.name, incoming.notes)
        times = {slot.get("TIME_SLOT_ID"): number(slot.get("TIME_VALUE")) for slot in root.iterfind(".//TIME_SLOT")}
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


def _lines(
    tier: Element, times: dict[str | None, float | None], where: str, notes: Imported
) -> list[tuple[float, float, str]]:
    """(start, end, text) of each annotation of a tier that has times of its own."""
    found = []
    for one in tier.findall("ANNOTATION/ALIGNABLE_ANNOTATION"):
        line = " ".join((one.findtext("ANNOTATION_VALUE") or "").split())
        start, end = times.get(one.get("TIME_SLOT_REF1")), times.get(one.get("TIME_SLOT_REF2"))
        place = f"{where}: {one.get('ANNOTATION_ID', '')}"
        if start is None or end is None or not 0 <= start <= end:
            notes.leave_out("annotation", "it has no time", place)
        elif line:
            found.append((start / 1000, end / 1000, line))
    for one in tier.findall("ANNOTATION/REF_ANNOTATION"):
        notes.leave_out("annotation", "it has no time of its own", f"{where}: {one.get('ANNOTATION_ID', '')}")
    return found


IMPORTER = read_elan
