"""The result of an importer: examples, their images, and everything that was skipped or changed.

An importer drops nothing silently: what it cannot use goes to `leave_out`, what it imports in another form to `change`,
and `summary_lines` prints the counts at the end of every import.
"""

from __future__ import annotations

import itertools
import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from m3dllm.columns import columns, counted
from m3dllm.confidence import without_confidences
from m3dllm.errors import UserError, one_line
from m3dllm.labels import Label, LabelSet, RelationLabel
from m3dllm.stream import Spool
from m3dllm.types import TASKS, Annotation, Example
from m3dllm.wire import decode_example, encode, encode_example


@dataclass(frozen=True, slots=True, order=True)
class LeftOut:
    """One thing that was skipped or changed: its kind ("mention", "relation", …), why, and its place."""

    what: str
    why: str
    where: str


DUPLICATE = "it is a duplicate"
NOT_SELECTED = "is not selected"
"""The end of the reason for types that the user did not select."""

ImageSource = Path | bytes | Callable[[], bytes]
"""The image of a frame: its file, its bytes, or a function that reads it when needed (and may raise ValueError)."""
WHERE = 400
"""The most characters of a place or detail that are kept of what was skipped or changed."""
NAMES = 40
"""The most keys without a place in a corpus that are counted by name; the rest share one count."""


@dataclass(frozen=True, slots=True)
class Counts:
    """The counts of a set of examples."""

    documents: int = 0
    mentions: int = 0
    chains: int = 0
    relations: int = 0
    regions: int = 0
    frames: int = 0

    @classmethod
    def of(cls, examples: Iterable[Example]) -> Counts:
        total: Counter[str] = sum((held.counts for held in Tally.of(examples).languages.values()), Counter())
        return cls(**total)


@dataclass(slots=True)
class Held:
    """The counts of some documents of one language."""

    counts: Counter[str] = field(default_factory=Counter)
    """The fields of `Counts`."""
    lacking: dict[str, int] = field(default_factory=dict)
    """task -> the number of documents in which it is not annotated."""


KINDS = ("mentions", "relations", "regions")


@dataclass(slots=True)
class Tally:
    """Running counts of documents: by language, and the types that occur."""

    languages: dict[str, Held] = field(default_factory=dict)
    mentions: set[str] = field(default_factory=set)
    relations: set[str] = field(default_factory=set)
    regions: set[str] = field(default_factory=set)
    confidences: int = field(default=0, kw_only=True)

    @classmethod
    def of(cls, examples: Iterable[Example]) -> Tally:
        """The tally of these documents, reused if they were counted when added."""
        if isinstance(examples, Examples):
            return examples.tally
        tally = cls()
        for example in examples:
            tally.add(example)
        return tally

    def add(self, example: Example) -> None:
        gold, held = example.gold, self.languages.get(example.document.lang)
        if held is None:
            held = self.languages[example.document.lang] = Held()
        mentions = [mention for chain in gold.chains for mention in chain.mentions]
        counts = held.counts
        counts["documents"] += 1
        counts["frames"] += len(example.document.frames)
        counts["chains"] += len(gold.chains)
        counts["relations"] += len(gold.relations)
        counts["regions"] += len(gold.regions)
        counts["mentions"] += len(mentions)
        if example.unannotated:
            for task in TASKS:
                if task in example.unannotated:
                    held.lacking[task] = held.lacking.get(task, 0) + 1
        self.confidences += sum([mention.link is not None for mention in mentions])
        for kinds, parts in ((self.mentions, mentions), (self.relations, gold.relations), (self.regions, gold.regions)):
            if parts:
                kinds.update([part.type for part in parts])
                self.confidences += sum([part.confidence is not None for part in parts])

    def labels(self) -> LabelSet:
        """The types, all relations directed and free to join any types."""
        mentions, relations, regions = map(sorted, (self.mentions, self.relations, self.regions))
        return LabelSet(tuple(map(Label, mentions)), tuple(map(RelationLabel, relations)), tuple(map(Label, regions)))

    def add_types(self, gold: Annotation) -> None:
        self.mentions.update([mention.type for chain in gold.chains for mention in chain.mentions])
        self.relations.update([relation.type for relation in gold.relations])
        self.regions.update([region.type for region in gold.regions])


class Examples(Spool[Example]):
    """The imported documents of a split, counted as they are added."""

    def __init__(self, examples: Iterable[Example] = ()) -> None:
        self.tally = Tally()
        super().__init__(encode_example, decode_example, examples)

    def append(self, value: Example) -> None:
        self.tally.add(value)
        super().append(value)


def places(things: Iterable[LeftOut] = ()) -> Spool[LeftOut]:
    """A spool of what was skipped or changed. It uses the json module, which accepts file names that are not UTF-8."""
    return Spool(_place, lambda line: LeftOut(*json.loads(line)), things)


def _place(thing: LeftOut) -> bytes:
    return json.dumps((thing.what, thing.why, thing.where)).encode()


@dataclass(slots=True)
class Imported:
    """A corpus being imported. Frame paths are relative to the corpus; `images` holds the source of each, and of the
    other files of the corpus.

    Neither documents nor notes are held in memory.
    """

    labels: LabelSet
    splits: dict[str, Sequence[Example]] = field(default_factory=dict)
    images: dict[str, ImageSource] = field(default_factory=dict)
    videos: dict[str, Path] = field(default_factory=dict)
    """The videos of documents by their paths in the corpus, each with its file."""
    left_out: Spool[LeftOut] = field(default_factory=places)
    changed: Spool[LeftOut] = field(default_factory=places)
    remarks: Spool[LeftOut] = field(default_factory=places)
    turned: dict[str, Any] = field(default_factory=dict)
    """The path of a frame whose image is stored rotated -> how its boxes are read (`turned.Turned`)."""
    details: Spool[LeftOut] = field(default_factory=places)
    """Details of imported things that a corpus cannot hold."""
    problems: list[str] = field(default_factory=list)
    """Reasons why the import as a whole cannot be intended, such as a selected type that never occurs."""
    held: int = 0
    """The bytes of images in memory; importers of many images keep only a few of them."""

    def add(self, split: str, example: Example) -> None:
        """Add a document."""
        self.split(split).append(example)

    def split(self, name: str) -> Examples:
        """The documents of a split, created if missing."""
        part = self.splits.get(name, ())
        if not isinstance(part, Examples):
            part = self.splits[name] = Examples(part)
        return part

    def drop_confidences(self) -> int:
        """Remove confidences, which gold does not have; returns how many there were."""
        dropped = 0
        for name, part in self.splits.items():
            if n := Tally.of(part).confidences:
                dropped += n
                self.splits[name] = Examples(replace(one, gold=without_confidences(one.gold)) for one in part)
        return dropped

    def types(self) -> LabelSet:
        """A label set of every imported type."""
        tallies = [Tally.of(part) for part in self.splits.values()]
        return Tally({}, *(set().union(*(getattr(of, kind) for of in tallies)) for kind in KINDS)).labels()

    def leave_out(self, what: str, why: str, where: str) -> None:
        """Note something that is skipped."""
        self.left_out.append(LeftOut(what, why, _cut(where)))

    def leave_detail(self, what: str, where: str) -> None:
        """Note a detail of something imported that a corpus cannot hold."""
        self.details.append(LeftOut(what, "a corpus cannot represent it", where))

    def change(self, what: str, why: str, where: str) -> None:
        """Note something that is imported with a change."""
        self.changed.append(LeftOut(what, why, _cut(where)))

    def remark(self, what: str, why: str, where: str) -> None:
        """Note how something was interpreted that is imported unchanged."""
        self.remarks.append(LeftOut(what, why, where))

    def require_documents(self, path: Path) -> Imported:
        """This import. Raises UserError if it holds no document."""
        if not any(self.splits.values()):
            why = f": {self.left_out[0].why} ({self.left_out[0].where})" if self.left_out else ""
            raise UserError.at(path, f"has no document to import{why}")
        return self

    def require_gold(self, path: Path | None = None) -> None:
        """Raises UserError if this import cannot be intended.

        It has neither mentions nor regions although something is annotated, or an option names what never occurs.
        """
        for problem in self.problems:
            raise UserError(problem)
        counts = count(self.splits)
        if not any(held.mentions or held.regions for held in counts.values()):
            lacking = unannotated(self.splits)
            marked = any(thing.what in ("mention", "region") for thing in self.left_out)
            if counts and not marked and all(lacking[k].get("entity") == held.documents for k, held in counts.items()):
                return
            those = (thing for thing in self.left_out if thing.what in ("mention", "region"))
            why = next(those, None) or next(iter(self.left_out), None)
            first = f": {why.why} ({why.where})" if why else ""
            where = "the import" if path is None else path
            raise UserError.at(where, f"no mention or region is left, so nothing is written{first}")

    def report(self, about: Mapping[str, Any]) -> Iterator[bytes]:
        """Every place that was skipped or changed, one per line, and the counts, as the pieces of a JSON object that
        begins with `about`."""
        lacking = unannotated(self.splits)
        held = [
            {"split": split, "lang": lang, "counts": counts, "unannotated": lacking[split, lang]}
            for (split, lang), counts in count(self.splits).items()
        ]
        yield b"{\n"
        for name, value in {**about, "held": held, "problems": self.problems}.items():
            yield encode(name) + b": " + encode(value) + b",\n"
        parts = {"left_out": (self.left_out, self.details), "changed": (self.changed,), "remarks": (self.remarks,)}
        for n, (name, spools) in enumerate(parts.items()):
            yield (b",\n" if n else b"") + encode(name) + b": ["
            for i, thing in enumerate(itertools.chain.from_iterable(spools)):
                yield (b",\n  " if i else b"\n  ") + encode(thing)
            yield b"]"
        yield b"\n}\n"

    def summary_lines(self, *, places: int = 3) -> Iterator[str]:
        """The counts by split and language; what was skipped or changed, by reason, each with its first places."""
        yield from count_table(count(self.splits))
        yield from unannotated_lines(unannotated(self.splits))
        yield from reasons("skipped", itertools.chain(self.left_out, self.details), places)
        yield from reasons("changed", self.changed, places)
        yield from reasons("note", self.remarks, places)
        if not self.left_out and not self.details:
            yield "nothing was skipped"


def count(splits: Mapping[str, Iterable[Example]]) -> dict[tuple[str, str], Counts]:
    """The counts of every (split, language), in the order of the splits, then of the languages."""
    return {
        (split, lang): Counts(**held.counts)
        for split, examples in splits.items()
        for lang, held in sorted(Tally.of(examples).languages.items())
    }


def unannotated(splits: Mapping[str, Iterable[Example]]) -> dict[tuple[str, str], dict[str, int]]:
    """For every (split, language) the tasks that are not annotated, each with the number of such documents."""
    return {
        (split, lang): held.lacking
        for split, examples in splits.items()
        for lang, held in Tally.of(examples).languages.items()
    }


def unannotated_lines(lacking: Mapping[tuple[str, str], Mapping[str, int]]) -> Iterator[str]:
    """One line for each split and language in which something is not annotated."""
    for (split, lang), tasks in lacking.items():
        if tasks:
            what = ", ".join(f"{task} in {n:,}" for task, n in tasks.items())
            noun = "document" if {*tasks.values()} == {1} else "documents"
            yield f"not annotated, so without a score ({split}, {lang}): {what} {noun}"


def count_table(counts: Mapping[tuple[str, str], Counts]) -> list[str]:
    """The counts as lines in columns, the first line the heads."""
    rows = [("split", "lang", *(f.name for f in fields(Counts)))]
    rows += [(split, lang, *(f"{n:,}" for n in astuple(held))) for (split, lang), held in counts.items()]
    return columns(rows, left=2)


def id_problem(name: str) -> str | None:
    """Why `name` cannot be the id of a document, or None: ids are used in files, tables and links."""
    if not name.strip():
        return "an id cannot be empty"
    if name != name.strip() or (
        not name.isprintable() and any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in name)
    ):
        return f"the id {name!r} has spaces at its ends or control characters: rename the document"
    if name.startswith("/") or "\\" in name or ".." in name.split("/"):
        return f"the id {name!r} reads as a path out of a folder: rename the document"
    return None


def unused_id(wanted: str, used: Iterable[str], *, instead: Iterable[str]) -> str:
    """`wanted`, if it is a valid, free id; else the first of `instead` that is; else that with a number."""
    taken = used if isinstance(used, (set, frozenset, dict)) else set(used)
    candidates = [name for name in (wanted, *instead) if id_problem(name) is None]
    last = candidates[-1] if candidates else "document"
    numbered = (f"{last}-{n}" for n in itertools.count(2))
    return next(name for name in itertools.chain(candidates, numbered) if name not in taken)


def split_name(text: str) -> str:
    """`text` as the name of a split: letters, digits, `.`, `_` and `-` only."""
    return re.sub(r"[^\w.-]+", "_", text).strip(".") or "train"


def reasons(verb: str, things: Iterable[LeftOut], places: int = 3) -> Iterator[str]:
    """One line for each (what, why), the most frequent first, with its first `places`.

    Keys beyond the NAMES most frequent share one.
    """
    counts: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], list[str]] = defaultdict(list)
    for thing in things:
        reason = thing.what, thing.why
        counts[reason] += 1
        if counts[reason] <= places:
            first[reason].append(thing.where)
    keys = (reason for reason, _ in counts.most_common() if reason[0].startswith("key "))
    for reason in list(keys)[NAMES:]:
        counts["other keys", reason[1]] += counts.pop(reason)
        first["other keys", reason[1]] += first.pop(reason)
    for (what, why), n in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        more = f"; and {n - places:,} more" if n > places else ""
        yield one_line(f"{verb}: {_counted(n, what)}: {why} ({'; '.join(first[what, why][:places])}{more})")


def _counted(n: int, what: str) -> str:
    """Such as "1 mention", "2 links of a region to its entity", "the language of 2 documents"; what begins with no noun
    stays as it is."""
    if part := re.fullmatch("(the .* of) an? ([a-z]+)", what):
        return f"{part[1]} {counted(n, part[2])}"
    noun = re.match(
        r"(?!the |that |other |its? )(?:(?:box|annotated|second|chain) )?[a-z]+(?<!s)(?= of | with | '|$)", what
    )
    if n == 1 or noun is None:
        return f"{n:,} {what}"
    plural = re.sub("(?<=[^aeiou])y$", "ie", noun[0]) + ("es" if noun[0].endswith("x") else "s")
    return f"{n:,} {plural}{what[noun.end() :]}"


def _cut(text: str) -> str:
    return text if len(text) <= WHERE else f"{text[: WHERE - 60]} … ({len(text):,} characters)"
