"""BRAT standoff files: `.ann` annotations beside `.txt` texts, with the frames of the clips and boxes drawn in them.

What has no place in a corpus (events, attributes, normalizations, notes) is counted and named, and so is every fault:
offsets that do not hold, ends that name nothing, spans annotated twice. Coreference relations and `*` lines join
mentions to chains; other relations between mentions become relations between their chains.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Literal

from m3dllm.corpora.bilingual import Part, by_language, is_bilingual, language, repetition, whole
from m3dllm.corpora.choice import Choice, chosen
from m3dllm.corpora.frames import BoxOrientation, Clip, ClipFiles, read_clip
from m3dllm.corpora.imported import Imported, split_name, unused_id
from m3dllm.corpora.native import labels_of
from m3dllm.corpora.standoff import Link, Standoff, TextBound, parse_standoff
from m3dllm.corpora.yolo import read_names
from m3dllm.errors import UserError
from m3dllm.files import decode_text, file_name, read_bytes, read_text
from m3dllm.labels import LabelSet
from m3dllm.types import Annotation, Chain, Document, Example, Lang, Mention, Relation

COREFERENCE = ("Coreference", "Coref", "same_mention", "same_as", "Identity", "Equiv")
"""The relations that join mentions of one entity, where nobody says which; compared without case."""
CHAIN_NAMES = r".+-[0-9]+"
"""The types that name a chain, not a type, where they stand on a mention's span (`narrator-0`)."""
REACH = 100
"""How many characters from its offsets a mention's text is looked for, to repair them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    lang: Lang | None
    by_language: bool
    coreference: frozenset[str]
    chain_names: re.Pattern[str] | None
    entity_types: Choice | None
    relation_types: Choice | None
    cover: bool
    repair: bool


def read_brat(
    path: Path,
    *,
    text: Path | None = None,
    lang: Lang | None = None,
    split_languages: bool = False,
    coreference: Sequence[str] = COREFERENCE,
    chain_names: str | None = CHAIN_NAMES,
    entity_types: Choice | None = None,
    relation_types: Choice | None = None,
    region_types: Choice | None = None,
    discontinuous: Literal["cover", "leave-out"] = "cover",
    repair_offsets: bool = False,
    frames: Path | None = None,
    boxes: Path | None = None,
    yolo_names: Path | Sequence[str] | None = None,
    shapes: Literal["leave-out", "cover"] = "leave-out",
    box_orientation: BoxOrientation = "auto",
    split: str = "train",
) -> Imported:
    """The documents of the `.ann` files at `path`: a folder, searched through, or one file. Ids are paths in it.

    - `text`: the folder of the `.txt` files, where they do not stand beside the `.ann` files.
    - `lang`: the language of all documents; left out, it is told by their letters.
    - `split_languages`: a text that holds lines in both languages becomes `<id>.en` and `<id>.zh`, of one group and
      with the same frames and regions. Lines at its end that say all others again are left out by name.
    - `coreference`: the names of the relations and `*` lines that join mentions of one entity, in any case. `Equiv`
      always does.
    - `chain_names`: a type of this pattern on a span that has another type too names the chain of that mention.
    - `entity_types`, `relation_types`, `region_types`: which types come in, and under which names.
    - `discontinuous`: a mention in pieces becomes the span that covers them ("cover"), or is left out ("leave-out").
      Pieces with nothing but white space between them are always joined.
    - `repair_offsets`: a mention whose text does not stand at its offsets is moved to where it stands within REACH
      characters, if it stands there once only; else, and without this option, it is left out.
    - `frames`, `boxes`: a folder or zip archive of images, of LabelMe or YOLO files, or of both; a file belongs to the
      document whose name a folder or archive around it bears (see `frames`).
    - `yolo_names`: the names of YOLO's numbered classes, or the file of them; left out, a `classes.txt` there.
    - `shapes`: polygons, circles, masks and rotated boxes become the box that covers them ("cover"), or are left out.
    - `box_orientation`: whether boxes in images that a camera turned (EXIF) were drawn on the upright image or on the
      pixels as they are stored; "auto" asks the size in the box file, and takes upright where it does not tell.
    - `split`: the split to write.

    Raises UserError where there is no document, a file cannot be read or an option does not make sense.
    """
    if split_languages and lang:
        raise UserError(
            f"the language {lang!r} of all documents is given, and they are to be split by language: choose"
        )
    options = _Options(
        lang=lang,
        by_language=split_languages,
        coreference=frozenset(_plain(name) for name in (*coreference, "Equiv")),
        chain_names=_pattern(chain_names),
        entity_types=entity_types,
        relation_types=relation_types,
        cover=discontinuous == "cover",
        repair=repair_offsets,
    )
    class_names = read_names(yolo_names) if isinstance(yolo_names, Path) else tuple(yolo_names or ())
    imported = Imported(LabelSet())
    reader = _Reader(imported, options)
    pairs = _pairs(path, text, imported)
    roots = dict.fromkeys(root for root in (frames, boxes) if root)
    own = [file for pair in pairs.values() for file in (pair.ann, pair.txt)]
    with ExitStack() as stack:
        clips = [stack.enter_context(ClipFiles(root, pairs, imported, besides=own)) for root in roots]
        class_names = class_names or next((found.class_names for found in clips if found.class_names), ())
        for name, pair in pairs.items():
            clip = read_clip(
                name,
                (file for found in clips for file in found.of(name)),
                notes=imported,
                region_types=region_types,
                class_names=class_names,
                cover=shapes == "cover",
                orientation=box_orientation,
            )
            if clips and not clip.frames:
                imported.leave_out("clip", "there is no frame of the document", name)
            imported.images |= clip.images
            imported.splits.setdefault(split_name(split), []).extend(reader.examples(name, pair, clip))
        for found in clips:
            found.leave_out_others()
    imported.labels = labels_of(example.gold for examples in imported.splits.values() for example in examples)
    return imported.require_documents(path)


def _plain(name: str) -> str:
    """A relation's name as it is compared."""
    return name.casefold().replace("-", "_")


def _pattern(text: str | None) -> re.Pattern[str] | None:
    try:
        return re.compile(text) if text else None
    except re.error as error:
        raise UserError(f"{text!r} is no pattern of the names of chains: {error}") from error


# --- the files --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Pair:
    """The two files of a document, and how notes call them."""

    ann: Path
    txt: Path
    ann_name: str
    txt_name: str


def _pairs(path: Path, text: Path | None, notes: Imported) -> dict[str, _Pair]:
    """document -> its files. A file without its other half is noted."""
    if not path.exists():
        raise UserError.at(path, "does not exist; expected a folder of .ann and .txt files, or one of them")
    if text is not None and not text.exists():
        raise UserError.at(text, "does not exist; expected the folder of the .txt files")
    if path.is_dir():
        anns, txts = _found(path, ".ann"), _found(text or path, ".txt")
    elif path.suffix in (".ann", ".txt"):
        stem = path.name.removesuffix(path.suffix)
        beside = path.with_name(f"{stem}.txt")
        txt = beside if text is None else text / beside.name if text.is_dir() else text
        anns, txts = {stem: path.with_name(f"{stem}.ann")}, {stem: txt}
        anns, txts = ({name: file for name, file in half.items() if file.is_file()} for half in (anns, txts))
    else:
        raise UserError.at(path, "is no .ann or .txt file; expected a folder of them, or one")
    pairs = {}
    for name, ann in anns.items():
        if name in txts:
            pairs[name] = _Pair(ann, txts[name], f"{name}.ann", f"{name}.txt")
        else:
            why = "there is no .txt file of its name; where the texts lie elsewhere, name their folder"
            notes.leave_out("document", why, f"{name}.ann")
    for name in sorted(txts.keys() - anns.keys()):
        notes.leave_out("file", "there is no .ann file of its name", f"{name}.txt")
    return pairs


def _found(folder: Path, suffix: str) -> dict[str, Path]:
    """path in the folder without the suffix -> file, in the order of the paths; what is hidden is passed over."""
    found = {}
    for file in sorted(folder.rglob(f"*{suffix}")):
        inside = file.relative_to(folder)
        if file.is_file() and not any(part.startswith(".") or part == "__MACOSX" for part in inside.parts):
            # A name that is no UTF-8 stands in no file of ours.
            name = inside.as_posix().removesuffix(suffix).encode("utf-8", "replace").decode()
            found[name] = file
    return found


# --- one document -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Mentions:
    """The mentions of a whole file by id, in the order of their spans, and what else stands on those spans.

    `stand_ins`: a second annotation of a span -> the mention there. `named`: a chain's name -> its mentions.
    """

    by_id: dict[str, Mention] = field(default_factory=dict)
    stand_ins: dict[str, str] = field(default_factory=dict)
    named: dict[str, list[str]] = field(default_factory=dict)


class _Sets:
    """Sets of mentions that grow together (union-find)."""

    def __init__(self, mentions: Iterable[str]) -> None:
        self._parents = {mention: mention for mention in mentions}

    def root(self, mention: str) -> str:
        while (parent := self._parents[mention]) != mention:
            self._parents[mention] = mention = self._parents[parent]
        return mention

    def join(self, mentions: Iterable[str]) -> None:
        first, *others = map(self.root, mentions)
        for other in others:
            self._parents[self.root(other)] = self.root(first)


@dataclass(slots=True)
class _Reader:
    """Makes documents of pairs of files, noting whatever does not come in as it stands."""

    notes: Imported
    options: _Options
    ids: set[str] = field(default_factory=set)

    def examples(self, name: str, pair: _Pair, clip: Clip) -> list[Example]:
        """The document of the pair, or one for each of its languages."""
        data = read_bytes(pair.txt)
        standoff = parse_standoff(read_text(pair.ann))
        for fault in standoff.faults:
            self.notes.leave_out(fault.what, fault.why, f"{pair.ann_name}:{fault.line}: {fault.text[:80]}")
        text, shift = self._reading(decode_text(data, pair.txt), data, standoff, pair)
        spans = self._spans(standoff, text, shift, pair)
        mentions = self._mentions(spans, standoff, pair)
        parts = self._parts(text, spans.values(), pair)
        placed = self._placed(mentions, parts, pair)
        linker = _Linker(self.notes, self.options, pair.ann_name, standoff, mentions, placed)
        examples = []
        for part, (chains, relations) in zip(parts, linker.golds(len(parts)), strict=True):
            wanted = f"{name}.{part.lang}" if self.options.by_language else name
            document = Document(
                self._id(wanted),
                part.lang,
                part.text,
                group=name if self.options.by_language else "",
                frames=tuple(clip.frames),
            )
            examples.append(Example(document, Annotation(chains, relations, tuple(clip.regions))))
        return examples

    def _id(self, wanted: str) -> str:
        name = unused_id(wanted, self.ids, instead=(file_name(wanted),))
        if name != wanted:
            self.notes.change("document", "its name cannot be an id: renamed", f"{wanted!r} is {name!r}")
        self.ids.add(name)
        return name

    # --- text and spans ---

    def _reading(self, text: str, data: bytes, standoff: Standoff, pair: _Pair) -> tuple[str, int]:
        """(text, shift of the offsets) under which most annotations say what stands at their offsets.

        Offsets count characters of the file as it is; some tools count a CR LF as one, or a byte-order mark too.
        """
        texts = [(text, "")]
        if "\r\n" in text:
            texts.append((text.replace("\r\n", "\n"), "a line end as one character"))
        marks = [(0, "")]
        if data.startswith(b"\xef\xbb\xbf"):
            marks.append((-1, "the byte-order mark"))
        readings = [
            (held, shift, " and ".join(filter(None, (ends, mark)))) for held, ends in texts for shift, mark in marks
        ]
        if len(readings) == 1:
            return text, 0

        def agreeing(reading: tuple[str, int, str]) -> int:
            held, shift, _ = reading
            bounds = standoff.texts.values()
            return sum(_says(bound.text, _stands(held, _shifted(bound, shift))) for bound in bounds if bound.text)

        held, shift, how = max(readings, key=agreeing)
        if how:
            self.notes.change("document", f"its offsets count {how}", pair.ann_name)
        return held, shift

    def _spans(self, standoff: Standoff, text: str, shift: int, pair: _Pair) -> dict[str, tuple[int, int]]:
        """id -> the span of each text-bound annotation whose span is sound or could be mended."""
        spans = {}
        for bound in standoff.texts.values():
            where = f"{pair.ann_name}:{bound.line}: {bound.id}"
            span = self._span(bound, _shifted(bound, shift), text, where)
            if span:
                spans[bound.id] = span
        return spans

    def _span(
        self, bound: TextBound, fragments: Sequence[tuple[int, int]], text: str, where: str
    ) -> tuple[int, int] | None:
        start, end = fragments[0][0], max(end for _, end in fragments)
        fits = start >= 0 and end <= len(text)
        found = _stands(text, fragments) if fits else ""
        said = found if bound.text is None else bound.text
        if fits and _says(said, found):
            return self._covering(fragments, text, where)
        if fits and _differ_in_marks(said, found):
            self.notes.change("mention", "its text differs in marks", f"{where} {said!r}, the text has {found!r}")
            return self._covering(fragments, text, where)
        if self.options.repair and (moved := _nearby(said, text, start, end)):
            why = "its offsets were wrong: moved to where its text stands"
            self.notes.change("mention", why, f"{where} {said!r}: from {start} to {moved[0]}")
            return moved
        if fits:
            detail = f"{where} {said!r}, the text has {found!r}"
            self.notes.leave_out("mention", "the text at its offsets is another", detail)
        else:
            detail = f"{where} {said!r}, {start} to {end} of {len(text)}"
            self.notes.leave_out("mention", "its offsets do not fit the text", detail)
        return None

    def _covering(self, fragments: Sequence[tuple[int, int]], text: str, where: str) -> tuple[int, int] | None:
        """The span of all fragments, without white space at its ends."""
        start, end = fragments[0][0], max(end for _, end in fragments)
        found = text[start:end]
        gaps = [text[left[1] : right[0]] for left, right in pairwise(fragments)]
        if not found.strip():
            self.notes.leave_out("mention", "it has no text", f"{where} {start} to {end}")
            return None
        if any(gap.strip() for gap in gaps):
            detail = f"{where} {_stands(text, fragments)!r} in {found!r}"
            if not self.options.cover:
                self.notes.leave_out("mention", "it is in pieces", detail)
                return None
            self.notes.change("mention", "it is in pieces: the span that covers them stands for it", detail)
        elif gaps:
            self.notes.change("mention", "white space parts its pieces: joined", f"{where} {found!r}")
        if found != found.strip():
            self.notes.change("mention", "white space at its ends was cut off", f"{where} {found!r}")
            start, end = start + len(found) - len(found.lstrip()), end - len(found) + len(found.rstrip())
        return start, end

    def _mentions(self, spans: Mapping[str, tuple[int, int]], standoff: Standoff, pair: _Pair) -> _Mentions:
        """The annotations that are mentions: one a span, of a chosen type, and no trigger of an event."""
        found = _Mentions()
        triggers = set(standoff.triggers.values())
        shared: dict[tuple[int, int], list[TextBound]] = defaultdict(list)
        for name, span in spans.items():
            shared[span].append(standoff.texts[name])
        for span, bounds in sorted(shared.items()):
            naming = self._naming(bounds)
            kept: str | None = None
            for bound in bounds:
                where = f"{pair.ann_name}:{bound.line}: {bound.id} {bound.type} {bound.text or ''!r}"
                if bound in naming:
                    continue
                if bound.id in triggers:
                    self.notes.leave_out("mention", "it is the trigger of an event", where)
                elif (kind := chosen(bound.type, self.options.entity_types)) is None:
                    self.notes.leave_out("mention", f"its type {bound.type!r} is not chosen", where)
                elif kept:
                    self.notes.leave_out("mention", "its span is a mention already", f"{where}, after {kept}")
                    found.stand_ins[bound.id] = kept
                else:
                    kept = bound.id
                    found.by_id[kept] = Mention(*span, kind)
            for bound in naming:
                where = f"{pair.ann_name}:{bound.line}: {bound.id} {bound.type}"
                if kept is None:
                    self.notes.leave_out("chain name", "its mention is left out", where)
                else:
                    self.notes.change("mention", "a second type on its span was read as the name of its chain", where)
                    found.stand_ins[bound.id] = kept
                    found.named.setdefault(bound.type, []).append(kept)
        return found

    def _naming(self, bounds: Sequence[TextBound]) -> list[TextBound]:
        """The annotations of one span that name a chain: those of the pattern, where another is not."""
        pattern = self.options.chain_names
        naming = [bound for bound in bounds if pattern and pattern.fullmatch(bound.type)]
        return naming if len(naming) < len(bounds) else []

    # --- languages ---

    def _parts(self, text: str, spans: Iterable[tuple[int, int]], pair: _Pair) -> list[Part]:
        """The text in the one language it is taken for, or in each of its languages."""
        if self.options.lang:
            return [whole(text, self.options.lang)]
        lang = language(text)
        if lang is None:
            self.notes.change("document", "its text does not tell its language: taken as English", pair.txt_name)
            return [whole(text, "en")]
        if not self.options.by_language:
            if is_bilingual(text):
                why = "its text is in two languages: it may be split by language"
                self.notes.change("document", why, f"{pair.txt_name}: taken as {lang}")
            return [whole(text, lang)]
        cut = repetition(text, list(spans))
        if cut is not None:
            first, last = text.count("\n", 0, cut) + 1, text.rstrip("\n").count("\n") + 1
            why = "it says the lines above once more, without annotations"
            self.notes.leave_out("text", why, f"{pair.txt_name}: lines {first} to {last}")
        return by_language(text[:cut])

    def _placed(self, mentions: _Mentions, parts: Sequence[Part], pair: _Pair) -> dict[str, tuple[int, Mention]]:
        """id -> (number of the part, mention in the part's text) of the mentions that stand in one language."""
        placed = {}
        for name, mention in mentions.by_id.items():
            spans = ((i, part.place(*mention.span)) for i, part in enumerate(parts))
            if found := next(((i, span) for i, span in spans if span), None):
                placed[name] = found[0], Mention(*found[1], mention.type)
            else:
                where = f"{pair.ann_name}: {name} {mention.start} to {mention.end}"
                self.notes.leave_out("mention", "it crosses from one language to another", where)
        return placed


@dataclass(slots=True)
class _Linker:
    """Makes chains and relations of the mentions of one file: `placed` is id -> (number of its part, mention there)."""

    notes: Imported
    options: _Options
    file: str
    standoff: Standoff
    mentions: _Mentions
    placed: Mapping[str, tuple[int, Mention]]

    def golds(self, n_parts: int) -> list[tuple[tuple[Chain, ...], tuple[Relation, ...]]]:
        """(chains, relations) of each part; chains are `c0`, `c1`, … in the order of their first mentions."""
        sets = self._joined()
        members: dict[tuple[int, str], list[Mention]] = defaultdict(list)
        for name, (part, mention) in sorted(self.placed.items(), key=lambda item: item[1]):
            members[part, sets.root(name)].append(mention)
        chains: list[list[Chain]] = [[] for _ in range(n_parts)]
        names = {}
        for (part, root), held in members.items():
            names[root] = f"c{len(chains[part])}"
            chains[part].append(Chain(names[root], tuple(held)))
        relations: list[dict[Relation, None]] = [{} for _ in range(n_parts)]
        for link in self.standoff.relations:
            if not self._is_coreference(link) and (pair := self._related(link, sets)):
                part, head, tail, kind = pair
                relation = Relation(names[head], names[tail], kind)
                if relation in relations[part]:
                    self.notes.leave_out("relation", "its chains have it already", self._where(link))
                relations[part][relation] = None
        return [(tuple(ours), tuple(theirs)) for ours, theirs in zip(chains, relations, strict=True)]

    def _joined(self) -> _Sets:
        """The chains that coreference relations, equivalences and chains' names make of the mentions."""
        sets = _Sets(self.placed)
        for link in filter(self._is_coreference, self.standoff.relations):
            ends, whys = self._ends(link)
            if whys:
                self.notes.leave_out("relation", whys[0], self._where(link))
            elif ends[0] == ends[1]:
                self.notes.leave_out("relation", "it joins a mention to itself", self._where(link))
            else:
                self._join(sets, ends, "relation", self._where(link))
        for link in self.standoff.equivalences:
            if not self._is_coreference(link):
                why = f"{link.name!r} is not among the names of coreference"
                self.notes.leave_out("equivalence", why, self._where(link))
                continue
            ends, whys = self._ends(link)
            for why in whys:
                self.notes.leave_out("end of an equivalence", why, self._where(link))
            self._join(sets, ends, "equivalence", self._where(link))
        for name, members in self.mentions.named.items():
            self._join(sets, [end for end in members if end in self.placed], "chain name", f"{self.file}: {name}")
        return sets

    def _join(self, sets: _Sets, ends: Sequence[str], what: str, where: str) -> None:
        """Join the mentions of each part, and note where they are of several."""
        by_part: dict[int, list[str]] = defaultdict(list)
        for end in ends:
            by_part[self.placed[end][0]].append(end)
        if len(by_part) > 1:
            self.notes.leave_out(what, "it crosses from one language to another", where)
        for members in by_part.values():
            sets.join(members)

    def _related(self, link: Link, sets: _Sets) -> tuple[int, str, str, str] | None:
        """(part, root of the head, root of the tail, type) of a relation; None, noted, where it has no place."""
        kind = chosen(link.name, self.options.relation_types)
        ends, whys = self._ends(link)
        if kind is None:
            whys = [f"its type {link.name!r} is not chosen"]
        elif not whys:
            (head_part, _), (tail_part, _) = (self.placed[end] for end in ends)
            head, tail = map(sets.root, ends)
            if head_part == tail_part and head != tail:
                return head_part, head, tail, kind
            whys = ["both its ends are in one chain" if head == tail else "it crosses from one language to another"]
        self.notes.leave_out("relation", whys[0], self._where(link))
        return None

    def _ends(self, link: Link) -> tuple[list[str], list[str]]:
        """(mentions that its ends stand for, why its other ends stand for none)."""
        ends, whys = [], []
        for name in link.ends:
            mention = self.mentions.stand_ins.get(name, name)
            if mention in self.placed:
                ends.append(mention)
            elif name in self.standoff.triggers:
                whys.append("an end is an event")
            else:
                whys.append("an end is left out" if name in self.standoff.texts else "an end names nothing")
        return ends, whys

    def _is_coreference(self, link: Link) -> bool:
        return _plain(link.name) in self.options.coreference

    def _where(self, link: Link) -> str:
        return f"{self.file}:{link.line}: {link.name} {' '.join(link.ends)}"


# --- spans of text ----------------------------------------------------------------------------------------------------


def _shifted(bound: TextBound, shift: int) -> list[tuple[int, int]]:
    return [(start + shift, end + shift) for start, end in bound.fragments]


def _stands(text: str, fragments: Iterable[tuple[int, int]]) -> str:
    """What stands at these spans, joined as BRAT joins them; "" before the start of a text."""
    return " ".join(text[start:end] if start >= 0 else "" for start, end in fragments)


def _says(said: str, found: str) -> bool:
    """Whether the two agree; BRAT writes a line end as a space."""
    return said == found or said.split() == found.split()


def _differ_in_marks(said: str, found: str) -> bool:
    """Whether they have the same letters at the same places, and only marks are others."""
    pairs = list(zip(said, found, strict=False))
    marks = all(a == b or not any(c.isalnum() or c.isspace() for c in (a, b)) for a, b in pairs)
    return len(said) == len(found) and marks and any(a.isalnum() for a, _ in pairs)


def _nearby(said: str, text: str, start: int, end: int) -> tuple[int, int] | None:
    """Where `said` stands within REACH characters of its offsets, if it stands there exactly once."""
    words = r"\s+".join(map(re.escape, said.split()))
    if not words:
        return None
    first = max(0, min(start, len(text)) - REACH)
    window = text[first : max(end, 0) + REACH]
    # A lookahead, so that occurrences that overlap count as several.
    spans = [match.span(1) for match in re.finditer(f"(?=({words}))", window)]
    return (first + spans[0][0], first + spans[0][1]) if len(spans) == 1 else None


IMPORTER = read_brat
