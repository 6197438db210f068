"""BRAT standoff: `.ann` files beside `.txt` files, optionally with frames and boxes.

What a corpus cannot hold (events, attributes, normalizations, notes) is counted and named, and so is every fault:
wrong offsets, relation ends that name nothing, spans annotated twice. Coreference relations and `*` lines join
mentions to chains; other relations between mentions become relations between their chains.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

from m3dllm.corpora.annconf import AnnConf, conf_for
from m3dllm.corpora.bilingual import Part, by_language, is_bilingual, language, repetition, whole
from m3dllm.corpora.brat_links import Linker, Marked, plain_name
from m3dllm.corpora.choice import Choice, chosen
from m3dllm.corpora.frames import BoxOrientation, Clip, ClipFiles, read_clip
from m3dllm.corpora.images import SUFFIXES
from m3dllm.corpora.imported import NOT_SELECTED, Counts, Examples, Imported, unused_id
from m3dllm.corpora.offsets import (
    Reading,
    Span,
    differ_in_marks,
    nearby,
    other_readings,
    plain_readings,
    stands,
    surface_stands,
)
from m3dllm.corpora.places import Places
from m3dllm.corpora.sources import may_annotate
from m3dllm.corpora.standoff import Standoff, TextBound, parse_standoff
from m3dllm.corpora.standoff_files import Pair, find_pairs
from m3dllm.corpora.walk import shown, walk_files
from m3dllm.corpora.yolo import read_names
from m3dllm.errors import UserError
from m3dllm.files import decode_text, file_name, read_bytes, read_text
from m3dllm.labels import LabelSet
from m3dllm.types import Annotation, Document, Example, Lang, Mention, Task

COREFERENCE = ("Coreference", "Coref", "same_mention", "same_as", "Identity", "Equiv")
"""The default coreference relations; compared without case."""
CHAIN_NAMES = r".+-[0-9]+"
"""Second types of a mention that may name its chain (`narrator-0`)."""
AUTO = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    lang: Lang | None
    by_language: bool
    coreference: frozenset[str] | None
    chain_names: re.Pattern[str] | None
    chains_are_numbered: bool
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
    coreference: Sequence[str] | None = None,
    chain_names: str | None = AUTO,
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
    group: str | None = None,
    split: str | None = None,
    annotated: Sequence[str] | None = None,
) -> Imported:
    """The documents of the `.ann` files at `path`: a folder, searched through, or one file. Ids are paths in it.

    - `text`: the folder of the `.txt` files; default: next to the `.ann` files.
    - `lang`: the language of all documents; default: detected from their script.
    - `split_languages`: split a text with lines in both languages into `<id>.en` and `<id>.zh`, in one group and with
      the same frames and regions. Lines at its end that only repeat the others are skipped.
    - `coreference`: names of relations or `*` lines that link coreferent mentions, in any case; `Equiv` always does.
      Default: Coreference, Coref, same_mention, same_as, Identity, and what `annotation.conf` declares transitive.
    - `chain_names`: a pattern of types that name a chain: a mention with a second type that matches belongs to that
      chain; "" for none. "auto": types such as `narrator-0` that are numbered from 0 or repeat the mention.
    - `entity_types`, `relation_types`, `region_types`: the types to import, and their new names; default: all.
    - `discontinuous`: "cover" replaces a discontinuous mention by the span that covers it, "leave-out" skips it.
      Fragments separated only by white space are always joined.
    - `repair_offsets`: move a mention with wrong offsets to its text, if that occurs once within REACH characters;
      default: such mentions are skipped.
    - `frames`, `boxes`: a folder or zip archive with images, LabelMe files or YOLO files; a file belongs to the
      document whose name one of its parent folders has (see `frames`).
    - `yolo_names`: the names of YOLO's numbered classes, or a file with them; default: a `classes.txt` in the folder.
    - `shapes`: "cover" replaces polygons, circles, masks and rotated boxes by their bounding boxes; else they are
      skipped.
    - `box_orientation`: whether boxes in images rotated by EXIF were drawn on the upright image or on the stored
      pixels; "auto" compares the size in the box file, and else assumes upright.
    - `group`: a pattern: its match in a document's name (or its first capturing group) is the source video, which stays
      in one split. Default: the folder of the document, if there are several.
    - `split`: the split to write; default: from a folder named train, dev, val, test, …, else train.
    - `annotated`: chain or relation: a task that counts as annotated even if no file of a split has any; repeatable.

    Raises UserError where there is no document, a file cannot be read or an option does not make sense.
    """
    if split_languages and lang:
        raise UserError(
            f"--lang {lang} gives all documents one language, and --split-languages splits them by language: choose one"
        )
    if odd := set(annotated or ()) - {"chain", "relation"}:
        raise UserError(f"--annotated {min(odd)}: expected chain or relation")
    options = _Options(
        lang=lang,
        by_language=split_languages,
        coreference=None if coreference is None else frozenset(plain_name(name) for name in (*coreference, "Equiv")),
        chain_names=_pattern(CHAIN_NAMES if chain_names == AUTO else chain_names, "--chain-names"),
        chains_are_numbered=chain_names == AUTO,
        entity_types=entity_types,
        relation_types=relation_types,
        cover=discontinuous == "cover",
        repair=repair_offsets,
    )
    class_names = read_names(yolo_names) if isinstance(yolo_names, Path) else tuple(yolo_names or ())
    imported = Imported(LabelSet())
    reader = _Reader(imported, options)
    pairs, alone = find_pairs(path, text, imported)
    places = Places(pairs, group=_pattern(group, "--group"), split=split, notes=imported)
    roots = dict.fromkeys(root for root in (frames, boxes) if root)
    if path.is_dir():
        _note_others(path, roots, imported)
    own = [file for pair in pairs.values() for file in (pair.ann, pair.txt)]
    folder = path if path.is_dir() else path.parent
    confs: dict[Path, AnnConf | None] = {}
    with ExitStack() as stack:
        clips = [
            stack.enter_context(ClipFiles(root, pairs, imported, besides=own, noted=alone.values())) for root in roots
        ]
        used = set().union(*(found.used() for found in clips))
        for name, file in alone.items():
            if file not in used:
                imported.leave_out("file", "there is no .ann file with its name", f"{name}{file.suffix}")
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
            conf = conf_for(pair.ann, folder, confs, imported)
            imported.split(places.split(name)).extend(reader.examples(name, pair, clip, conf, places.group(name)))
        for found in clips:
            found.leave_out_others()
    reader.leave_open(set(annotated or ()), [conf for conf in confs.values() if conf])
    reader.check_names(coreference)
    imported.labels = imported.types()
    return imported.require_documents(path)


def _note_others(path: Path, roots: Collection[Path], notes: Imported) -> None:
    """Count the unread files under `path`, except those under `roots`, that may contain annotations or be frames."""
    for file in walk_files(path, Imported(LabelSet())):
        if any(root == file or root in file.parents for root in roots):
            continue
        if file.suffix.lower() in (*SUFFIXES, ".json"):
            if not roots:
                notes.remark("file", "it may be a frame or its boxes: '--frames FOLDER' reads them", shown(file, path))
        elif file.suffix.lower() != ".ann" and may_annotate(file.name):
            notes.leave_out("file", "it is not read: expected .ann and .txt files", shown(file, path))


def _pattern(text: str | None, option: str) -> re.Pattern[str] | None:
    try:
        return re.compile(text) if text else None
    except re.error as error:
        raise UserError(f"{option}: {text!r} is not a valid pattern: {error}") from error


_DEFAULT = frozenset(map(plain_name, COREFERENCE))


# --- one document -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Reader:
    """Makes documents of pairs of files, and notes what is skipped or changed."""

    notes: Imported
    options: _Options
    ids: set[str] = field(default_factory=set)
    link_names: set[str] = field(default_factory=set)
    chain_types: set[str] = field(default_factory=set)

    def examples(self, name: str, pair: Pair, clip: Clip, conf: AnnConf, group: str) -> list[Example]:
        """The document of the pair, or one for each of its languages."""
        data = read_bytes(pair.txt)
        standoff = parse_standoff(read_text(pair.ann))
        for fault in standoff.faults:
            self.notes.leave_out(fault.what, fault.why, f"{pair.ann_name}:{fault.line}: {fault.text[:80]}")
        self.link_names |= {plain_name(link.name) for link in (*standoff.relations, *standoff.equivalences)}
        reading = self._reading(decode_text(data, pair.txt), data, standoff, pair)
        text = reading.text
        spans = self._spans(standoff, reading, pair)
        mentions = self._mentions(spans, standoff, pair, text, conf)
        parts = self._parts(text, spans.values(), pair)
        placed = self._placed(mentions, parts, pair)
        linker = Linker(
            self.notes,
            self._coreference(standoff, conf, pair),
            self.options.relation_types,
            pair.ann_name,
            _directed(standoff, conf),
            mentions,
            placed,
        )
        examples = []
        for part, (chains, relations) in zip(parts, linker.golds(len(parts)), strict=True):
            wanted = f"{name}.{part.lang}" if self.options.by_language else name
            document = Document(
                self._id(wanted),
                part.lang,
                part.text,
                group=group or (name if self.options.by_language else ""),
                frames=tuple(clip.frames),
            )
            examples.append(Example(document, Annotation(chains, relations, tuple(clip.regions))))
        return examples

    def _id(self, wanted: str) -> str:
        name = unused_id(wanted, self.ids, instead=(file_name(wanted),))
        if name != wanted:
            self.notes.change("document", "its name is not a valid id: renamed", f"{wanted!r} is {name!r}")
        self.ids.add(name)
        return name

    # --- text and spans ---

    def _reading(self, text: str, data: bytes, standoff: Standoff, pair: Pair) -> Reading:
        """The reading of the offsets under which most annotations quote the text at their span.

        Readings that count something else than characters and line ends are only used if offsets are repaired.
        """
        bounds = [bound for bound in standoff.texts.values() if bound.text]
        marked = data.startswith(b"\xef\xbb\xbf")
        best = max(plain_readings(text, marked=marked), key=lambda reading: reading.agreeing(bounds))
        agreeing = best.agreeing(bounds)
        if agreeing < len(bounds):
            other = max(other_readings(text, marked=marked), key=lambda r: r.agreeing(bounds), default=best)
            if other.agreeing(bounds) > agreeing:
                if self.options.repair:
                    best = other
                else:
                    why = f"its offsets fit if they count {other.how}: '--repair-offsets' reads them that way"
                    self.notes.remark("document", why, pair.ann_name)
        if best.how:
            self.notes.change("document", f"its offsets count {best.how}", pair.ann_name)
        return best

    def _spans(self, standoff: Standoff, reading: Reading, pair: Pair) -> dict[str, tuple[int, int]]:
        """id -> the span of each text-bound annotation whose offsets are right or could be repaired."""
        spans = {}
        for bound in standoff.texts.values():
            where = f"{pair.ann_name}:{bound.line}: {bound.id}"
            span = self._span(bound, reading.spans(bound), reading.text, where)
            if span:
                spans[bound.id] = span
        return spans

    def _span(self, bound: TextBound, listed: Sequence[Span], text: str, where: str) -> Span | None:
        fragments = sorted(listed)
        start, end = fragments[0][0], max(end for _, end in fragments)
        fits = start >= 0 and end <= len(text) and all(first < last for first, last in fragments)
        found = stands(text, fragments) if fits else ""
        surface = found if bound.text is None else bound.text
        if fits and surface_stands(surface, text, listed):
            return self._covering(fragments, text, where)
        if fits and differ_in_marks(surface, found):
            self.notes.change("mention", "its text differs in marks", f"{where} {surface!r}, the text has {found!r}")
            return self._covering(fragments, text, where)
        if self.options.repair and (moved := nearby(surface, text, start, end)):
            why = "its offsets were wrong: moved to where its text is"
            self.notes.change("mention", why, f"{where} {surface!r}: from {start} to {moved[0]}")
            return moved
        if fits:
            detail = f"{where} {surface!r}, the text has {found!r}"
            self.notes.leave_out("mention", "its text differs from the text at its offsets", detail)
        else:
            detail = f"{where} {surface!r}, {start} to {end} of {len(text)}"
            self.notes.leave_out("mention", "its offsets are outside the text", detail)
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
            detail = f"{where} {stands(text, fragments)!r} in {found!r}"
            if not self.options.cover:
                self.notes.leave_out("mention", "it is discontinuous", detail)
                return None
            self.notes.change("mention", "it is discontinuous: replaced by the span that covers it", detail)
        elif gaps:
            self.notes.change("mention", "only white space separates its fragments: joined", f"{where} {found!r}")
        if found != found.strip():
            self.notes.change("mention", "leading or trailing white space was removed", f"{where} {found!r}")
            start, end = start + len(found) - len(found.lstrip()), end - len(found) + len(found.rstrip())
        return start, end

    def _mentions(
        self, spans: Mapping[str, tuple[int, int]], standoff: Standoff, pair: Pair, text: str, conf: AnnConf
    ) -> Marked:
        """The annotations that are mentions: one per span, of a chosen type, and not the trigger of an event."""
        found = Marked()
        triggers = set(standoff.triggers.values())
        shared: dict[tuple[int, int], list[TextBound]] = defaultdict(list)
        for name, span in spans.items():
            shared[span].append(standoff.texts[name])
        names = self._chain_names(shared, text, conf, pair)
        self.chain_types |= names
        for span, bounds in sorted(shared.items()):
            naming = [bound for bound in bounds if bound.type in names]
            naming = naming if len(naming) < len(bounds) else []
            kept: str | None = None
            for bound in bounds:
                where = f"{pair.ann_name}:{bound.line}: {bound.id} {bound.type} {bound.text or ''!r}"
                if bound in naming:
                    continue
                if bound.id in triggers:
                    self.notes.leave_out("mention", "it is the trigger of an event", where)
                elif (kind := chosen(bound.type, self.options.entity_types)) is None:
                    self.notes.leave_out("mention", f"its type {bound.type!r} {NOT_SELECTED}", where)
                elif kept:
                    self.notes.leave_out("mention", "its span is already a mention", f"{where}, after {kept}")
                    found.stand_ins[bound.id] = kept
                else:
                    kept = bound.id
                    found.by_id[kept] = Mention(*span, kind)
            for bound in naming:
                where = f"{pair.ann_name}:{bound.line}: {bound.id} {bound.type}"
                if kept is None:
                    self.notes.leave_out("chain name", "its mention is skipped", where)
                else:
                    self.notes.change("mention", "a second type on its span was read as the name of its chain", where)
                    found.stand_ins[bound.id] = kept
                    found.named.setdefault(bound.type, []).append(kept)
        return found

    def _chain_names(
        self, shared: Mapping[Span, Sequence[TextBound]], text: str, conf: AnnConf, pair: Pair
    ) -> set[str]:
        """The types that name chains: they match the pattern, share a span with another type, and are not declared.

        Without a pattern, their numbers must be those of chains: one per name, from 0, unless the names repeat the text
        of their mentions.
        """
        pattern = self.options.chain_names
        if pattern is None:
            return set()
        texts: dict[str, list[str]] = defaultdict(list)
        for span, bounds in shared.items():
            named = [bound.type for bound in bounds if pattern.fullmatch(bound.type)]
            for name in named if len(named) < len(bounds) else ():
                texts[name].append(text[slice(*span)])
        if not self.options.chains_are_numbered:
            return set(texts)
        names = set(texts) - conf.entities
        parts = [name.rpartition("-") for name in names]
        numbers = {int(number) for _, _, number in parts}
        repeated = sum(_letters(base) in map(_letters, texts[f"{base}-{number}"]) for base, _, number in parts)
        schemes = {base for base, _, _ in parts}
        are_numbered = 0 in numbers and len(numbers) == len(names) and (len(schemes) > 1 or len(names) == 1)
        if are_numbered or 2 * repeated > len(names) > 0:
            return names
        for name in sorted(names):
            why = "its number does not look like a chain's: read as a type; '--chain-names' reads it as a chain's name"
            self.notes.remark("second type", why, f"{pair.ann_name}: {name}")
        return set()

    def _coreference(self, standoff: Standoff, conf: AnnConf, pair: Pair) -> frozenset[str]:
        """The relations that join mentions in this file; undeclared ones are noted."""
        if self.options.coreference is not None:
            return self.options.coreference
        declared = {plain_name(name) for name in conf.coreference}
        for name in dict.fromkeys(link.name for link in (*standoff.relations, *standoff.equivalences)):
            if plain_name(name) in _DEFAULT and plain_name(name) not in declared | {"equiv"}:
                why = f"{name!r} is read as coreference by default: '--coreference' says which names are"
                self.notes.remark("relation", why, pair.ann_name)
        return frozenset(_DEFAULT | declared)

    # --- the whole import ---

    def leave_open(self, annotated: Collection[str], confs: Iterable[AnnConf]) -> None:
        """Note chains or relations as not annotated if no file of a split has them and none declares them."""
        confs = list(confs)
        declared = set(annotated)
        if self.options.coreference is not None or self.chain_types or any(conf.coreference for conf in confs):
            declared.add("chain")
        if any(conf.relations for conf in confs):
            declared.add("relation")
        for split, examples in self.notes.splits.items():
            held = Counts.of(examples)
            lacking: set[Task] = set()
            if held.mentions == held.chains:
                lacking.add("chain")
            if not held.relations:
                lacking.add("relation")
            if open_tasks := frozenset(lacking - declared):
                self.notes.splits[split] = Examples(replace(example, unannotated=open_tasks) for example in examples)

    def check_names(self, coreference: Sequence[str] | None) -> None:
        """Note coreference names that never occur as problems of the import."""
        for name in coreference or ():
            if plain_name(name) not in self.link_names:
                known = ", ".join(sorted(self.link_names)) or "none"
                self.notes.problems.append(f"--coreference {name}: no relation has this name; expected some of {known}")

    # --- languages ---

    def _parts(self, text: str, spans: Iterable[tuple[int, int]], pair: Pair) -> list[Part]:
        """The text as one part, or split into its languages."""
        if self.options.lang:
            return [whole(text, self.options.lang)]
        lang = language(text)
        if lang is None:
            self.notes.change("document", "its language cannot be detected: read as English", pair.txt_name)
            return [whole(text, "en")]
        if not self.options.by_language:
            if is_bilingual(text):
                why = "its text is in two languages: --split-languages splits it"
                self.notes.change("document", why, f"{pair.txt_name}: taken as {lang}")
            return [whole(text, lang)]
        cut = repetition(text, list(spans))
        if cut is not None:
            first, last = text.count("\n", 0, cut) + 1, text.rstrip("\n").count("\n") + 1
            why = "it repeats the lines above, without annotations"
            self.notes.leave_out("text", why, f"{pair.txt_name}: lines {first} to {last}")
        return by_language(text[:cut])

    def _placed(self, mentions: Marked, parts: Sequence[Part], pair: Pair) -> dict[str, tuple[int, Mention]]:
        """id -> (number of the part, mention in the part's text) of the mentions that lie in one language."""
        placed = {}
        for name, mention in mentions.by_id.items():
            spans = ((i, part.place(*mention.span)) for i, part in enumerate(parts))
            if found := next(((i, span) for i, span in spans if span), None):
                placed[name] = found[0], Mention(*found[1], mention.type)
            else:
                where = f"{pair.ann_name}: {name} {mention.start} to {mention.end}"
                self.notes.leave_out("mention", "it crosses from one language to another", where)
        return placed


def _directed(standoff: Standoff, conf: AnnConf) -> Standoff:
    """The annotations, with the arguments of relations in the order of their declared roles."""
    relations = [link.ordered(conf.relations.get(link.name, ())) for link in standoff.relations]
    return replace(standoff, relations=relations)


def _letters(text: str) -> str:
    return re.sub(r"[\W_]", "", text).casefold()


IMPORTER = read_brat
