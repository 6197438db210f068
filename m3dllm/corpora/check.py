"""Every problem of a native corpus in one pass, with its file, line and place, and counts of the corpus' parts.

Problems would stop `load_corpus` or a system; warnings are legal, but rarely meant. Nothing is changed, and of each
document only its id, group and images are kept in memory.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from m3dllm.corpora.ids import FirstLines, FirstTexts
from m3dllm.corpora.images import image_problem
from m3dllm.corpora.imported import Counts, Tally, count_table, id_problem, unannotated_lines
from m3dllm.corpora.native import split_files, unread_files
from m3dllm.corpora.pieces import BROKEN, Finding, Pieces, findings, is_whole, whole
from m3dllm.errors import UserError, one_line
from m3dllm.files import LINKED, inside, links_out, other_encoding, read_bytes, sha256_file
from m3dllm.guidelines import FILES, guideline_files, read_guidelines
from m3dllm.keys import TWICE, repeated_keys
from m3dllm.labels import Label, LabelSet, RelationLabel
from m3dllm.progress import progress
from m3dllm.stream import Spool
from m3dllm.types import Chain, Example, Frame, Lang, Region, Relation, Segment, Task, Video
from m3dllm.wire import FILLED, FORMAT, WireError, convert, decode, decode_example, placed_lines

T = TypeVar("T")


MARKED = "begins with a byte-order mark, which is ignored: save it as UTF-8 without one"


@dataclass(frozen=True, slots=True)
class Held:
    """Counts of one split in one language, over documents without a problem."""

    split: str
    lang: str
    counts: Counts
    unannotated: Mapping[str, int] = field(default_factory=dict)
    """task -> the number of documents in which it is not annotated"""


PACKED = frozenset((".gz", ".zip", ".zst", ".bz2", ".xz"))
SHOWN = 200
"""The most problems, and the most warnings, that are listed one by one; of more, the first of each kind."""
EXAMPLES = 3
"""The number listed of each kind, then."""
LONG = 40
"""The characters from which on a text that two splits share is no coincidence."""
KINDS = 1000
"""The most kinds that are told apart."""


@dataclass(slots=True)
class Report:
    """The findings, in the order of files, lines and fields."""

    corpus: str
    problems: Spool[Finding] = field(default_factory=findings)
    warnings: Spool[Finding] = field(default_factory=findings)
    held: list[Held] = field(default_factory=list)
    uncounted: int = 0
    """The number of documents with a problem, which `held` does not count."""

    def lines(self) -> Iterator[str]:
        """The report for people: a line for each problem, each warning, and each split and language.

        Of more than SHOWN problems or warnings, only the first of each kind, with the count of the others.
        """
        yield from _shown(self.problems, "problem")
        yield from (f"warning: {line}" for line in _shown(self.warnings, "warning"))
        if self.held:
            yield from count_table({(held.split, held.lang): held.counts for held in self.held})
            yield from unannotated_lines({(held.split, held.lang): held.unannotated for held in self.held})
        if self.uncounted:
            yield f"not counted: {_number(self.uncounted, 'document')} with problems"
        yield f"{_number(len(self.problems), 'problem')}, {_number(len(self.warnings), 'warning')}"

    def json(self) -> Iterator[str]:
        """The whole report as JSON, line by line, each finding on a line of its own."""
        yield "{"
        yield f'  "corpus": {_json(self.corpus)},'
        for name, found in (("problems", self.problems), ("warnings", self.warnings)):
            yield f'  "{name}": ['
            for n, finding in enumerate(found, start=1):
                parts = {"file": finding.file, "line": finding.line, "place": finding.place, "message": finding.message}
                yield f"    {_json(parts)}{',' if n < len(found) else ''}"
            yield "  ],"
        yield f'  "held": {_json([asdict(held) for held in self.held])},'
        yield f'  "uncounted": {self.uncounted}'
        yield "}"

    def pieces(self, file: Path, line: int | None = None) -> Pieces:
        """A reader of that line, which adds its findings to this report."""
        loose = _Line, _Gold, _Chain, _Labels
        return Pieces(str(file), line, self.problems, self.warnings, loose, frozenset(FILLED))


def _shown(found: Sequence[Finding], what: str) -> Iterator[str]:
    """The findings a line each; of more than SHOWN, EXAMPLES of each kind, which is the file and the field."""
    if len(found) <= SHOWN:
        yield from map(str, found)
        return
    counts: Counter[str] = Counter()
    for finding in found:
        kind = f"{finding.file}: {re.sub(r'[0-9]+', '…', finding.place)}"
        kind = kind if kind in counts or len(counts) < KINDS else f"{finding.file}: other places"
        counts[kind] += 1
        if counts[kind] <= EXAMPLES:
            yield str(finding)
    for kind, n in counts.most_common():
        if n > EXAMPLES:
            yield one_line(f"{kind}: {_number(n - EXAMPLES, f'more {what}')}; --report FILE has them all")


_ENCODER = json.JSONEncoder(ensure_ascii=False)


def _json(value: Any) -> str:
    """JSON, with lone surrogates, which file names may hold, as escapes."""
    return _ENCODER.encode(value).encode("utf-8", "backslashreplace").decode()


def check(path: str | Path, *, linked_frames: bool = False) -> Report:
    """Everything that is wrong with the native corpus in the folder `path`.

    `linked_frames`: frames may be links to files outside of it.

    Raises UserError only if there is no such folder; everything else is in the report.
    """
    root = Path(path)
    files = split_files(root)
    report = Report(str(path))
    corpus = _Corpus(root, report, _read_types(root / "labels.json", report), linked_frames)
    if not files:
        report.pieces(root).problem("$", "has no <split>.jsonl file, such as train.jsonl: the corpus is empty")
    with progress(f"checking {path}: MB", sum(file.stat().st_size for file in files.values()) / 1e6) as step:
        for split, file in files.items():
            corpus.check_split(split, file, step)
    corpus.check_groups()
    for file in guideline_files(root).values():
        try:
            read_guidelines(file)
        except UserError as error:
            report.pieces(file).problem("$", str(error).removeprefix(f"{file}: "))
    for file in unread_files(root):
        remedy = (
            "unpack it"
            if file.suffix.lower() in PACKED
            else f"guidelines are {' or '.join(FILES.values())}"
            if file.name.lower().startswith("guidelines")
            else f"{'it is a folder; ' if file.is_dir() else ''}a split is a file such as train.jsonl"
        )
        report.pieces(file).warn("$", f"is not read: {remedy}")
    return report


# --- the files' shape: the types of the parts, not how they fit together ----------------------------------------------


class _Chain(Chain):
    def __post_init__(self) -> None:
        pass


@dataclass(frozen=True, slots=True)
class _Gold:
    chains: tuple[_Chain, ...] | None = None
    relations: tuple[Relation, ...] | None = None
    regions: tuple[Region, ...] | None = None
    unannotated: tuple[Task, ...] = ()


@dataclass(frozen=True, slots=True)
class _Line:
    id: str
    lang: Lang
    text: str
    gold: _Gold
    title: str = ""
    group: str = ""
    tokens: tuple[tuple[int, int], ...] = ()
    segments: tuple[Segment, ...] = ()
    frames: tuple[Frame, ...] = ()
    video: Video | None = None
    given: Any = None
    proposed: Any = None


@dataclass(frozen=True, slots=True)
class _Labels:
    mentions: tuple[Label, ...] = ()
    relations: tuple[RelationLabel, ...] = ()
    regions: tuple[Label, ...] = ()
    format: int = FORMAT


# --- labels -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Types:
    """The names of each kind (None: unknown, labels.json is broken there), and the types that relations may join."""

    mentions: frozenset[str] | None = None
    relations: frozenset[str] | None = None
    regions: frozenset[str] | None = None
    joins: Mapping[str, RelationLabel] = field(default_factory=dict)


def _read_types(file: Path, report: Report) -> _Types:
    """The types in a labels.json; its problems go to the report."""
    pieces = report.pieces(file)
    before = len(report.problems)
    if not file.is_file():
        pieces.problem("$", "does not exist; make a corpus from other formats with 'm3dllm import'")
        return _Types()
    data = _utf8(pieces, file)
    if data is None:
        return _Types()
    try:
        value = decode(data, Any)
    except WireError as error:
        pieces.problem(error.place, error.message)
        return _Types()
    labels: Any = pieces.read(value, _Labels)
    if labels is BROKEN:
        return _Types()
    if labels.format is not BROKEN and labels.format != FORMAT:
        pieces.problem("$.format", f"is {labels.format}; this version reads format {FORMAT}: update m3dllm")
    mentions = _check_names(pieces, "mentions", labels.mentions)
    relations = _check_names(pieces, "relations", labels.relations)
    regions = _check_names(pieces, "regions", labels.regions)
    joined = None if mentions is None or regions is None else mentions | regions
    for i, relation in whole(labels.relations):
        for side in ("head", "tail"):
            for j, name in enumerate(getattr(relation, side)):
                if joined is not None and name not in joined:
                    pieces.problem(f"$.relations[{i}].{side}[{j}]", _unknown(name, joined))
    if len(report.problems) == before:
        _net(pieces, lambda: convert(value, LabelSet))
    return _Types(mentions, relations, regions, {label.name: label for _, label in whole(labels.relations)})


def _check_names(pieces: Pieces, kind: str, labels: Any) -> frozenset[str] | None:
    """The names of the labels of a kind; one that is empty or appears twice is a problem."""
    first: dict[str, int] = {}
    for i, label in whole(labels):
        if not label.name:
            pieces.problem(f"$.{kind}[{i}].name", "is empty: a type needs a name")
        elif label.name in first:
            pieces.problem(f"$.{kind}[{i}].name", f"{label.name!r} is already in $.{kind}[{first[label.name]}]")
        elif label.name != label.name.strip() or not label.name.isprintable():
            pieces.warn(f"$.{kind}[{i}].name", f"{label.name!r} has spaces at its ends or control characters")
        first.setdefault(label.name, i)
    return frozenset(first) if is_whole(labels) else None


# --- documents --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Corpus:
    """The pass over the splits: the state so far, and the report."""

    root: Path
    report: Report
    types: _Types
    linked_frames: bool = False
    folders: dict[Path, Path] = field(default_factory=dict)
    """folder -> its resolved path"""
    ids: FirstLines = field(default_factory=FirstLines)
    groups: dict[str, dict[str, tuple[Path, int]]] = field(default_factory=dict)
    """group -> split -> (file, line) of its first document there"""
    texts: FirstTexts = field(default_factory=FirstTexts)
    images: dict[tuple[str, int, int], str | None] = field(default_factory=dict)
    """(path, width, height) -> what is wrong with that image"""

    def check_split(self, split: str, file: Path, step: Callable[[float], None]) -> None:
        tally, n_lines, pieces = Tally(), 0, self.report.pieces(file)
        self.ids.begin(file)
        try:
            for number, begin, line in placed_lines(file):
                n_lines += 1
                if n_lines == 1 and begin and number == 1:
                    pieces.warn("$", MARKED)
                example = self._check_line(self.report.pieces(file, number), line, begin, split, file)
                if example is None:
                    self.report.uncounted += 1
                else:
                    tally.add(example)
                step(len(line) / 1e6)
        except UserError as error:  # the file is not JSON Lines, or cannot be read
            pieces.problem("$", str(error).removeprefix(f"{file}: "))
            return
        if not n_lines:
            pieces.problem("$", "has no documents: expected one per line")
        self.report.held += [
            Held(split, lang, Counts(**held.counts), held.lacking) for lang, held in sorted(tally.languages.items())
        ]

    def check_groups(self) -> None:
        """Warn of every group that is in two splits."""
        for group, places in self.groups.items():
            (first, (file, line)), *others = places.items()
            for split, (other, number) in others:
                message = (
                    f"group {group!r} is in {split} and in {first} ({file.name}:{line}): a source video in two splits "
                    "leaks what is evaluated into training; 'm3dllm split' keeps groups whole"
                )
                self.report.pieces(other, number).warn("$.group", message)

    def _check_line(self, pieces: Pieces, line: bytes, begin: int, split: str, file: Path) -> Example | None:
        """The document of a line; None if it has a problem."""
        before = len(self.report.problems)
        try:
            value = decode(line, Any)
        except WireError as error:
            pieces.problem(error.place, error.message)
            return None
        for place in repeated_keys(line, value):
            pieces.problem(place, TWICE)
        row: Any = pieces.read(value, _Line)
        if row is BROKEN:
            return None
        for name in FILLED:
            if getattr(row, name) is not None:
                pieces.problem(f"$.{name}", "is set by the pipeline and must not be in a file")
        if row.id is not BROKEN:
            self._check_id(pieces, row.id, begin)
        if row.group and row.group is not BROKEN:
            self.groups.setdefault(row.group, {}).setdefault(split, (file, pieces.line or 0))
        self._check_text(pieces, row, file)
        _check_offsets(pieces, row)
        self._check_frames(pieces, row)
        _check_times(pieces, row)
        self._check_video(pieces, row)
        if row.gold is not BROKEN:
            self._check_chains(pieces, row)
            self._check_relations(pieces, row.gold)
            self._check_regions(pieces, row)
        if len(self.report.problems) > before:
            return None
        return _net(pieces, lambda: decode_example(line))

    def _check_id(self, pieces: Pieces, name: str, begin: int) -> None:
        if problem := id_problem(name):
            pieces.problem("$.id", problem)
        elif first := self.ids.add(name, pieces.line or 0, begin):
            pieces.problem("$.id", f"the id {name!r} is already in {first}: ids must be unique")

    def _check_text(self, pieces: Pieces, row: _Line, file: Path) -> None:
        """Warn of a text of several words that a document of another split has too."""
        if row.text is BROKEN or len(row.text) < LONG:
            return
        other, number = self.texts.add(row.text, file, pieces.line or 0)
        if other != file:
            message = f"the same text is in {other.stem} ({other.name}:{number}): what is evaluated leaks into training"
            pieces.warn("$.text", f"{message}; remove one, or give both the same group and split again")

    def _check_frames(self, pieces: Pieces, row: _Line) -> None:
        first: dict[int, int] = {}
        for i, frame in whole(row.frames):
            if frame.index in first:
                again = f"frame {frame.index} is already in $.frames[{first[frame.index]}]"
                pieces.problem(f"$.frames[{i}].index", again)
            first.setdefault(frame.index, i)
            key = frame.path, frame.width_px, frame.height_px
            if key not in self.images:
                self.images[key] = self._image_problem(*key)
            if problem := self.images[key]:
                pieces.problem(f"$.frames[{i}].path", f"{frame.path!r}: {problem}")
            elif frame.sha256 and sha256_file(inside(self.root, frame.path)) != frame.sha256:
                message = f"{frame.path!r} has another hash: it may not be the image that was annotated"
                pieces.warn(f"$.frames[{i}].sha256", message)

    def _check_video(self, pieces: Pieces, row: _Line) -> None:
        """The video's file must lie in the corpus folder; a missing file is a warning."""
        if row.video is None or not is_whole(row.video):
            return
        try:
            file = inside(self.root, row.video.path)
        except ValueError as error:
            pieces.problem("$.video.path", str(error))
            return
        if not self.linked_frames and links_out(self.root, file, self.folders):
            pieces.problem("$.video.path", f"{row.video.path!r} {LINKED}")
        elif not file.is_file():
            pieces.warn("$.video.path", f"{row.video.path!r} does not exist: pages only show the frames")

    def _image_problem(self, path: str, width_px: int, height_px: int) -> str | None:
        try:
            file = inside(self.root, path)
            if not self.linked_frames and links_out(self.root, file, self.folders):
                return LINKED
            return image_problem(file, (width_px, height_px))
        except ValueError as error:
            return str(error)

    def _check_chains(self, pieces: Pieces, row: _Line) -> None:
        first: dict[str, int] = {}
        spans: dict[tuple[int, int], str] = {}
        for i, chain in whole(row.gold.chains):
            place = f"$.gold.chains[{i}]"
            if chain.id in first and chain.id is not BROKEN:
                pieces.problem(f"{place}.id", f"{chain.id!r} is already in $.gold.chains[{first[chain.id]}]")
            first.setdefault(chain.id, i)
            if chain.mentions == ():
                pieces.problem(f"{place}.mentions", "is empty: a chain has at least one mention")
            for j, mention in whole(chain.mentions):
                where = f"{place}.mentions[{j}]"
                if row.text is not BROKEN and mention.end > len(row.text):
                    pieces.problem(f"{where}.end", f"is {mention.end}; the text has {len(row.text)} characters")
                if self.types.mentions is not None and mention.type not in self.types.mentions:
                    pieces.problem(f"{where}.type", _unknown(mention.type, self.types.mentions))
                words = "" if row.text is BROKEN else row.text[mention.start : mention.end]
                if words != words.strip():
                    pieces.warn(where, f"{words!r} begins or ends with white space: no answer does")
                if mention.confidence is not None or mention.link is not None:
                    pieces.warn(where, "has a confidence: gold has none")
                if mention.span in spans:
                    pieces.warn(where, f"its span is {spans[mention.span]} already: no answer can say both")
                spans.setdefault(mention.span, where)

    def _check_relations(self, pieces: Pieces, gold: _Gold) -> None:
        types = {c.id: c.type for _, c in whole(gold.chains) if is_whole(c.mentions) and c.mentions}
        types |= {r.id: r.type for _, r in whole(gold.regions) if r.id is not None}
        chains, regions = _known_chains(gold), _known_regions(gold)
        known = None if chains is None or regions is None else chains | regions
        seen: dict[Relation, str] = {}
        for i, relation in whole(gold.relations):
            place = f"$.gold.relations[{i}]"
            if seen.setdefault(relation, place) != place:
                pieces.warn(place, f"is {seen[relation]} again: no answer can match both")
            for side, name in (("head", relation.head), ("tail", relation.tail)):
                if known is not None and name not in known:
                    pieces.problem(f"{place}.{side}", f"refers to {name!r}, which is neither a chain nor a region")
            if self.types.relations is not None and relation.type not in self.types.relations:
                pieces.problem(f"{place}.type", _unknown(relation.type, self.types.relations))
            label = self.types.joins.get(relation.type)
            if label and relation.head in types and relation.tail in types:
                head, tail = types[relation.head], types[relation.tail]
                if not label.joins(head, tail):
                    expected = f"{' or '.join(label.head) or 'any'} to {' or '.join(label.tail) or 'any'}"
                    pieces.warn(place, f"joins {head} to {tail}; {label.name} joins {expected}")

    def _check_regions(self, pieces: Pieces, row: _Line) -> None:
        if row.gold.regions is None and (looked := [i for i, frame in whole(row.frames) if frame.annotated]):
            pieces.warn(
                f"$.frames[{looked[0]}].annotated", "is true, but gold has no regions: treated as not annotated"
            )
        known = _known_chains(row.gold)
        first: dict[str, str] = {c.id: f"$.gold.chains[{i}]" for i, c in whole(row.gold.chains) if c.id is not BROKEN}
        annotated = {frame.index: frame.annotated for _, frame in whole(row.frames)}
        seen: dict[Region, str] = {}
        for i, region in whole(row.gold.regions):
            place = f"$.gold.regions[{i}]"
            if (same := replace(region, id=None)) in seen:
                pieces.warn(place, f"is {seen[same]} again: no answer can match both")
            seen.setdefault(same, place)
            if region.frame in annotated:
                if not annotated[region.frame]:
                    pieces.warn(f"{place}.frame", f"frame {region.frame} is not annotated: the region is not scored")
            elif is_whole(row.frames):
                pieces.problem(f"{place}.frame", f"refers to frame {region.frame}, which the document does not have")
            if not region.box.is_legal:
                expected = "expected 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1, fractions of the frame"
                pieces.problem(f"{place}.box", f"is {list(region.box)}; {expected}")
            if self.types.regions is not None and region.type not in self.types.regions:
                pieces.problem(f"{place}.type", _unknown(region.type, self.types.regions))
            if region.chain is not None and known is not None and region.chain not in known:
                pieces.problem(f"{place}.chain", f"refers to chain {region.chain!r}, which the document does not have")
            if region.id is not None:
                if region.id in first:
                    again = f"{region.id!r} is already in {first[region.id]}: chains and regions share their ids"
                    pieces.problem(f"{place}.id", again)
                first.setdefault(region.id, place)


def _check_offsets(pieces: Pieces, row: _Line) -> None:
    """Tokens and segments must lie in the text; the first that overlaps the one before it is a warning."""
    if row.text is BROKEN:
        return
    length = len(row.text)
    tokens = [(f"$.tokens[{i}]", start, end) for i, (start, end) in whole(row.tokens)]
    segments = [(f"$.segments[{i}]", segment.start, segment.end) for i, segment in whole(row.segments)]
    for place, start, end in tokens:
        if not 0 <= start < end <= length:
            pieces.problem(place, f"is {start} to {end}; the text has {length} characters")
    for place, _, end in segments:
        if end > length:
            pieces.problem(f"{place}.end", f"is {end}; the text has {length} characters")
    for what, spans in (("token", tokens), ("segment", segments)):
        for (_, _, last), (place, start, _) in pairwise(spans):
            if start < last:
                pieces.warn(place, f"begins at {start}, before the previous {what} ends at {last}")
                break


def _check_times(pieces: Pieces, row: _Line) -> None:
    """Warns of the first segment or frame that starts before its predecessor, and of the first one outside the part of
    the video that the document covers."""
    segments = [(f"$.segments[{i}].start_s", one.start_s, one.end_s) for i, one in whole(row.segments)]
    shown = sorted((f.index, f.time_s, f"$.frames[{i}].time_s") for i, f in whole(row.frames) if f.time_s is not None)
    frames = [(place, time_s, time_s) for _, time_s, place in shown]
    for what, times in (("segment", segments), ("frame", frames)):
        for (_, before_s, _), (place, start_s, _) in pairwise(times):
            if start_s < before_s:
                pieces.warn(place, f"is {start_s:g}, before the {before_s:g} of the previous {what}")
                break
        if row.video and is_whole(row.video):
            first_s, last_s = row.video.start_s, math.inf if row.video.end_s is None else row.video.end_s
            for place, start_s, end_s in times:
                if end_s < first_s or start_s > last_s:
                    pieces.warn(
                        place, f"is {start_s:g}; the document covers {first_s:g} s to {last_s:g} s of its video"
                    )
                    break


def _known_chains(gold: _Gold) -> set[str] | None:
    """The ids of the chains; None if one cannot be read."""
    if not is_whole(gold.chains) or any(chain.id is BROKEN for chain in gold.chains or ()):
        return None
    return {chain.id for chain in gold.chains or ()}


def _known_regions(gold: _Gold) -> set[str] | None:
    """The ids of the regions, or None where a region is broken, so that nobody knows its id."""
    if gold.regions is not None and not is_whole(gold.regions):
        return None
    return {region.id for region in gold.regions or () if region.id is not None}


# --- parts ------------------------------------------------------------------------------------------------------------


def _utf8(pieces: Pieces, file: Path) -> bytes | None:
    """The bytes of a file without a byte-order mark; None (and a problem) where they cannot be read or are UTF-16."""
    try:
        data = read_bytes(file)
    except UserError as error:
        pieces.problem("$", str(error).removeprefix(f"{file}: "))
        return None
    if problem := other_encoding(data):
        pieces.problem("$", problem)
        return None
    if data.startswith(b"\xef\xbb\xbf"):
        pieces.warn("$", MARKED)
    return data.removeprefix(b"\xef\xbb\xbf")


def _net(pieces: Pieces, read: Callable[[], T]) -> T | None:
    """The result of `read`; an error that only its types raise becomes a problem."""
    try:
        return read()
    except WireError as error:
        pieces.problem(error.place, error.message)
        return None


def _unknown(name: str, known: frozenset[str]) -> str:
    return f"unknown type {name!r}; labels.json has {', '.join(sorted(known)) or 'none'}"


def _number(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"
