"""Write a corpus' gold or a run's predictions in the format of another tool: any module in `exporters`.

What a format cannot hold is removed here, by one rule for all formats, and counted by reason.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from m3dllm.confidence import at_least, confidences, lack_confidences, without_confidences
from m3dllm.corpora.bilingual import language
from m3dllm.corpora.imported import LeftOut, places, reasons
from m3dllm.corpora.native import load_corpus, with_root
from m3dllm.errors import UserError, one_line
from m3dllm.files import check_free, file_name, inside, new_folder, read_bytes
from m3dllm.labels import LabelSet
from m3dllm.plugins import Modules
from m3dllm.positions import Positions
from m3dllm.runs import Run
from m3dllm.stream import Spool, Stream, pick
from m3dllm.system import versions_of
from m3dllm.types import Annotation, Chain, Document, Frame, Mention, Prediction, Region, Relation, Task
from m3dllm.wire import decode, encode, prediction_key

EXPORTERS = Modules("export format", "m3dllm.exporters", "m3dllm.exporters")
FPS = 24.0
"""The default frames per second, to compute the time of a frame from its number: that of the M3D clips."""

Part = Literal[
    "texts",
    "mentions",
    "overlaps",
    "repeats",
    "spaces",
    "chains",
    "relations",
    "frames",
    "regions",
    "region chains",
    "region relations",
    "segments",
    "tokens",
    "titles",
    "groups",
    "languages",
    "unannotated",
    "glosses",
    "confidences",
]
"""What a format can hold. "texts": the text of a document, in which mentions have a place; "overlaps": mentions
that overlap or nest; "repeats": one span as several mentions; "spaces": white space at a mention's ends; "chains":
which mentions are of one entity; "region chains": which entity a region shows; "region relations": relations that have
a region as a side; "segments": the times of the text; "groups": the source video; "languages": the language where the
script suggests another; "unannotated": the tasks not annotated in a document; "glosses": the meaning of a type;
"confidences": of parts of a prediction."""
PARTS: frozenset[Part] = frozenset(get_args(Part))
_NO_PLACE = "the format cannot represent it"
File = tuple[str, str | bytes | Path | Iterable[str]]
"""A file to write: its path in the folder, and its content, whole, in pieces, or as the file to copy."""


@dataclass(frozen=True, slots=True)
class Item:
    """A document and the annotation to export: its gold, or a prediction. Frame paths are absolute."""

    split: str
    document: Document
    annotation: Annotation
    unannotated: frozenset[Task] = frozenset()


@dataclass(frozen=True, slots=True)
class Source:
    """The gold or predictions to export. `made_by` names the corpus, the system and the time, in words.

    An exporter may iterate over the items several times: they are read one at a time, and not held in memory.
    """

    name: str
    labels: LabelSet
    items: Iterable[Item]
    made_by: Mapping[str, str]

    def splits(self) -> dict[str, Sequence[Item]]:
        """The items of each split, in order."""
        items = self.items if isinstance(self.items, Sequence) else tuple(self.items)
        found: dict[str, list[int]] = {}
        for i, item in enumerate(items):
            found.setdefault(item.split, []).append(i)
        return {split: pick(items, positions) for split, positions in found.items()}


@dataclass(frozen=True, slots=True)
class _Read(Iterable[Item]):
    """Items that are read again for each iteration."""

    read: Callable[[], Iterator[Item]]

    def __iter__(self) -> Iterator[Item]:
        return self.read()


@dataclass(slots=True)
class Notes:
    """What an export skips, or writes in another form."""

    left_out: Spool[LeftOut] = field(default_factory=places)
    changed: Spool[LeftOut] = field(default_factory=places)

    def leave_out(self, what: str, why: str, where: str) -> None:
        self.left_out.append(LeftOut(what, why, where))

    def change(self, what: str, why: str, where: str) -> None:
        self.changed.append(LeftOut(what, why, where))

    def lines(self) -> Iterator[str]:
        """One line for each reason, with its count and its first places."""
        yield from reasons("skipped", self.left_out)
        yield from reasons("changed", self.changed)
        if not self.left_out:
            yield "nothing was skipped"


def export(
    name: str,
    path: Path,
    out: Path,
    *,
    gold: bool = False,
    split: str | None = None,
    threshold: float | None = None,
    **options: Any,
) -> Notes:
    """Write the run or corpus at `path` into the new folder `out`, in the format `name`; returns what was skipped.

    `gold` exports the gold of a run instead of its predictions; `split` only that split of a corpus; `threshold` only
    predictions with at least that confidence (`confidence.at_least`). Raises UserError for an unknown format, a path
    that is neither run nor corpus, a folder that is not empty, or a missing package.
    """
    exporter = EXPORTERS.find(name)
    if (fps := options.get("fps", FPS)) and not 0.001 <= fps <= 1000:
        raise UserError(f"--fps {fps:g}: expected 0, or from 0.001 to 1000 frames per second")
    check_free(out)
    source, notes = read_source(path, gold=gold, split=split), Notes()
    if threshold is not None:
        if lack_confidences(item.annotation for item in source.items):
            raise UserError.at(path, f"no prediction has a confidence: --threshold {threshold:g} would change nothing")
        items = (replace(item, annotation=at_least(item.annotation, threshold)) for item in source.items)
        source = replace(source, items=items)
    held = held_by(exporter.HOLDS, source, notes)
    with new_folder(out) as new:
        for relative, content in exporter.export(held, notes, **options):
            _write(inside(new, relative), content)
    return notes


def _write(file: Path, content: str | bytes | Path | Iterable[str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, Path):
        content = read_bytes(content)
    if isinstance(content, bytes):
        file.write_bytes(content)
        return
    with file.open("w", encoding="utf-8", newline="") as text:
        text.writelines([content] if isinstance(content, str) else content)


# --- what is exported -------------------------------------------------------------------------------------------------


def read_source(path: Path, *, gold: bool = False, split: str | None = None) -> Source:
    """The predictions of the run at `path` (with `gold`, its gold), or the gold of the corpus there."""
    if (path / "run.json").is_file():
        return _of_run(Run(path), gold=gold, split=split)
    if not path.is_dir():
        raise UserError.at(path, "does not exist; expected a run, or a native corpus")
    corpus = load_corpus(path)
    splits = corpus.splits if split is None else {split: corpus[split]}

    def items() -> Iterator[Item]:
        for name, examples in splits.items():
            yield from (Item(name, one.document, one.gold, one.unannotated) for one in examples)

    return Source(corpus.name, corpus.labels, _Read(items), _made_by(what="gold", corpus=corpus.name))


def _of_run(run: Run, *, gold: bool, split: str | None) -> Source:
    record = run.record()
    if split not in (None, record.corpus.split):
        raise UserError.at(run.path, f"covers the split '{record.corpus.split}', not '{split}'")
    examples, answers = run.examples(), None if gold else _Answers(run.predictions())
    if answers is not None and not answers:
        what = "has no end-to-end predictions; --gold exports its gold"
        raise UserError.at(run.path, what)
    root = Path(record.corpus.root)

    def items() -> Iterator[Item]:
        for example in examples:
            document = with_root(example.document, root)
            if answers is None:
                yield Item(record.corpus.split, document, example.gold, example.unannotated)
            else:
                yield Item(record.corpus.split, document, answers.of(document.id))

    words = {"system": record.system, "run": run.path.resolve().name, "made": record.finished or record.started}
    made_by = _made_by(what="gold" if gold else "predictions", corpus=record.corpus.name, **({} if gold else words))
    return Source(record.corpus.name if gold else run.path.resolve().name, record.labels, _Read(items), made_by)


class _Answers:
    """The end-to-end prediction of each document, read on access."""

    def __init__(self, predictions: Stream[Prediction]) -> None:
        self._predictions = predictions
        keys = predictions.read_as(prediction_key)
        self._ids: Positions[str] = Positions(lambda i: keys[self._places[i]][0])
        self._places = array("q")
        for place, (document, given) in enumerate(keys):
            if given is None and self._ids.add(document) is None:
                self._places.append(place)

    def __len__(self) -> int:
        return len(self._places)

    def of(self, document: str) -> Annotation:
        """What was predicted of a document, perhaps nothing."""
        for position in self._ids.candidates(document):
            found = self._predictions[self._places[position]]
            if found.document == document:
                return found.annotation
        return Annotation()


def _made_by(**words: str) -> dict[str, str]:
    return words | {"exporter": " ".join(("m3dllm", *versions_of("m3dllm").values()))}


# --- what a format holds ----------------------------------------------------------------------------------------------


def held_by(parts: Iterable[Part], source: Source, notes: Notes) -> Source:
    """`source` reduced to these parts, which a format can hold; the rest is noted."""
    holds = frozenset(parts)
    items = (_Reduction(item, holds, notes).item() for item in source.items)
    labels = source.labels
    if "glosses" not in holds:
        for kind in ("mentions", "relations", "regions"):
            for label in getattr(labels, kind):
                if label.en or label.zh or getattr(label, "symmetric", False) or getattr(label, "head", ()):
                    notes.leave_out("meaning of a type", _NO_PLACE, f"{kind}: {label.name}")
    return replace(source, items=Spool(encode, lambda line: decode(line, Item), items))


@dataclass(frozen=True, slots=True)
class _Reduction:
    """The reduction of one item to the parts that a format holds."""

    source: Item
    holds: frozenset[Part]
    notes: Notes

    def item(self) -> Item:
        document, found = self.source.document, self.source.annotation
        chains: list[Chain] = []
        names: dict[str, str] = {}
        for old, chain in self._chains(found.chains):
            chains.append(chain)
            names.setdefault(old, chain.id)
        skipped = list(self._skipped(found.regions))
        relations = tuple(self._relations(found, names, skipped))
        annotation = Annotation(tuple(chains), relations, tuple(self._regions(found.regions, names, skipped)))
        if "confidences" not in self.holds and (n := sum(1 for _ in confidences(annotation))):
            self._leave_out("the confidences of a document", _NO_PLACE, str(n))
            annotation = without_confidences(annotation)
        return Item(self.source.split, self._document(document), annotation, self._unannotated())

    def _relations(
        self, found: Annotation, names: Mapping[str, str], skipped: Sequence[str | None]
    ) -> Iterator[Relation]:
        """The relations, their chains by their new ids; `names` has these by the old ones."""
        regions = {r.id: why for r, why in zip(found.regions, skipped, strict=True) if r.id is not None}
        kept = {**names, **{name: name for name, why in regions.items() if why is None}}
        for relation in found.relations:
            has_region = relation.head in regions or relation.tail in regions
            if "relations" not in self.holds:
                self._leave_out("relation", _NO_PLACE, relation.type)
            elif has_region and "region relations" not in self.holds:
                self._leave_out("relation with a region", _NO_PLACE, relation.type)
            elif relation.head not in kept or relation.tail not in kept:
                why = "one of its sides is skipped" if has_region else "one of its chains is skipped"
                self._leave_out("relation", why, relation.type)
            else:
                yield replace(relation, head=kept[relation.head], tail=kept[relation.tail])

    def _unannotated(self) -> frozenset[Task]:
        found = self.source.unannotated
        if found and "unannotated" not in self.holds:
            self._leave_out("that a task is not annotated", _NO_PLACE, ", ".join(sorted(found)))
            return frozenset()
        return found

    def _leave_out(self, what: str, why: str, detail: str) -> None:
        self.notes.leave_out(what, why, one_line(f"{self.source.document.id}: {detail}"))

    def _document(self, document: Document) -> Document:
        kept: dict[str, Any] = {}
        parts: tuple[tuple[Part, str, str], ...] = (
            ("texts", "text", "the text of a document"),
            ("frames", "frames", "the frames of a document"),
            ("segments", "segments", "the times of a document"),
            ("tokens", "tokens", "the tokens of a document"),
            ("titles", "title", "the title of a document"),
            ("groups", "group", "the source video of a document"),
        )
        for part, name, what in parts:
            value = getattr(document, name)
            if value and part not in self.holds:
                self._leave_out(what, _NO_PLACE, str(len(value)))
                kept[name] = "" if isinstance(value, str) else ()
        if "languages" not in self.holds and language(document.text) not in (None, document.lang):
            self._leave_out("the language of a document", _NO_PLACE, f"{document.lang}, its script suggests another")
        return replace(document, **kept) if kept else document

    def _chains(self, chains: Iterable[Chain]) -> Iterator[tuple[str, Chain]]:
        """(old id, chain) of the mentions that the format holds; a chain without any is removed."""
        places = [(i, mention) for i, chain in enumerate(chains) for mention in self._trimmed(chain)]
        kept = self._apart(places)
        for i, chain in enumerate(chains):
            mentions = tuple(mention for at, mention in kept if at == i)
            if not mentions:
                continue
            if "chains" in self.holds or len(mentions) == 1:
                yield chain.id, Chain(chain.id, mentions)
                continue
            self._leave_out("chain", "the format cannot represent which mentions are of one entity", chain.id)
            for n, mention in enumerate(mentions, start=1):
                yield chain.id, Chain(f"{chain.id}.{n}", (mention,))

    def _trimmed(self, chain: Chain) -> Iterator[Mention]:
        """The mentions of a chain without white space at their ends, if the format cannot hold it."""
        text = self.source.document.text
        for mention in chain.mentions:
            found = text[mention.start : mention.end]
            detail = f"{mention.type} {mention.start} to {mention.end}"
            if "mentions" not in self.holds:
                self._leave_out("mention", _NO_PLACE, detail)
            elif "spaces" in self.holds or found == found.strip():
                yield mention
            elif not found.strip():
                self._leave_out("mention", "it is only white space", detail)
            else:
                start = mention.start + len(found) - len(found.lstrip())
                self.notes.change(
                    "mention", "leading or trailing white space was removed", f"{self.source.document.id}: {detail}"
                )
                yield replace(mention, start=start, end=start + len(found.strip()))

    def _apart(self, places: list[tuple[int, Mention]]) -> list[tuple[int, Mention]]:
        """The mentions that the format can hold together: without overlaps, the longest of those that overlap."""
        kept: list[tuple[int, Mention]] = places
        if "repeats" not in self.holds:
            kept, seen = [], set()
            for i, mention in places:
                if mention.span in seen:
                    detail = f"{mention.type} {mention.start} to {mention.end}"
                    self._leave_out("mention", "its span is already a mention", detail)
                else:
                    seen.add(mention.span)
                    kept.append((i, mention))
        if "overlaps" in self.holds:
            return kept
        taken: set[int] = set()
        apart: set[int] = set()
        for n in sorted(range(len(kept)), key=lambda n: (kept[n][1].start - kept[n][1].end, kept[n][1].start)):
            mention = kept[n][1]
            if taken.isdisjoint(range(mention.start, mention.end)):
                taken.update(range(mention.start, mention.end))
                apart.add(n)
            else:
                self._leave_out(
                    "mention", "it overlaps a longer one", f"{mention.type} {mention.start} to {mention.end}"
                )
        return [one for n, one in enumerate(kept) if n in apart]

    def _regions(
        self, regions: Iterable[Region], names: Mapping[str, str], skipped: Iterable[str | None]
    ) -> Iterator[Region]:
        for region, why in zip(regions, skipped, strict=True):
            detail = f"{region.type} in frame {region.frame}"
            if why:
                self._leave_out("region", why, detail)
                continue
            if "region relations" not in self.holds:
                region = replace(region, id=None)
            if region.chain is None:
                yield region
            elif "region chains" not in self.holds:
                self._leave_out("link of a region to its entity", _NO_PLACE, detail)
                yield replace(region, chain=None)
            elif region.chain not in names:
                self._leave_out("link of a region to its entity", "the entity was skipped", detail)
                yield replace(region, chain=None)
            else:
                yield replace(region, chain=names[region.chain])

    def _skipped(self, regions: Iterable[Region]) -> Iterator[str | None]:
        """Why each region is skipped; None: it is not."""
        frames = {frame.index for frame in self.source.document.frames}
        for region in regions:
            if "regions" not in self.holds:
                yield _NO_PLACE
            elif region.frame not in frames:
                yield "its frame is not in the document"
            else:
                yield None if all(map(math.isfinite, region.box)) else "its box is not four finite numbers"


# --- what several formats need ----------------------------------------------------------------------------------------


def spoken(document: Document, start: int, end: int) -> tuple[float, float] | None:
    """(start, end) in seconds of the text from `start` to `end`: the times of the segments that it meets, or None."""
    met = [s for s in document.segments if s.start < end and start < s.end and s.end_s > 0]
    return (min(s.start_s for s in met), max(s.end_s for s in met)) if met else None


def name_of(document: Document, chain: Chain) -> str:
    """The name of an entity: its most frequent mention; of several, the longest, then the first."""
    names = Counter(document.text[m.start : m.end] for m in chain.mentions)
    return max(names, key=lambda text: (names[text], len(text)))


def shown_at(frame: Frame, fps: float) -> float | None:
    """The time of a frame in the clip, in seconds: as noted, else its number / `fps`; None if `fps` is 0."""
    return frame.at_s(fps)


def image_name(document: Document, frame: Frame) -> str:
    """The path of a frame's image in an export, for formats with images."""
    return f"frames/{file_name(document.id)}/{frame.index}{Path(frame.path).suffix.lower()}"


def images(items: Iterable[Item], notes: Notes) -> Iterator[File]:
    """The images of all frames. Missing files are noted."""
    for item in items:
        for frame in item.document.frames:
            if Path(frame.path).is_file():
                yield image_name(item.document, frame), Path(frame.path)
            else:
                notes.leave_out("image", "its file is missing", f"{item.document.id}: {frame.path}")
