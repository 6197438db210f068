"""What an importer hands over: examples, their images, and everything that did not come in as it stood.

An importer drops nothing silently: what it cannot use goes to `leave_out`, what it uses in another form to `change`,
and `summary_lines` is the count that closes every import.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path
from typing import Any

from m3dllm.columns import columns
from m3dllm.errors import UserError
from m3dllm.labels import LabelSet
from m3dllm.types import TASKS, Example


@dataclass(frozen=True, slots=True, order=True)
class LeftOut:
    """One thing that did not come in (as it stood): its kind ("mention", "relation", …), why, and its place."""

    what: str
    why: str
    where: str


ImageSource = Path | bytes | Callable[[], bytes]
"""The image of a frame: its file, itself, or what reads it when it is needed (and raises ValueError)."""
WHERE = 400
"""Characters of a place and a detail that are kept of what did not come in as it stood."""


@dataclass(slots=True)
class Imported:
    """A corpus on its way in. Frames' paths are relative to the corpus; `images` holds the source of each."""

    labels: LabelSet
    splits: dict[str, list[Example]] = field(default_factory=dict)
    images: dict[str, ImageSource] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    changed: list[LeftOut] = field(default_factory=list)
    remarks: list[LeftOut] = field(default_factory=list)
    turned: dict[str, Any] = field(default_factory=dict)
    """The path of a frame whose image is stored turned -> how its boxes are read (`turned.Turned`)."""
    details: list[LeftOut] = field(default_factory=list)
    """What was said of something that came in, and a corpus has no place for."""
    problems: list[str] = field(default_factory=list)
    """Why the import as a whole cannot be what was meant, such as a type that never occurs."""
    held: int = 0
    """How many bytes of images came into memory; an importer that reads many lets go of what is more than a few."""

    def leave_out(self, what: str, why: str, where: str) -> None:
        """Note something that does not come in."""
        self.left_out.append(LeftOut(what, why, _cut(where)))

    def leave_detail(self, what: str, where: str) -> None:
        """Note what is said of something that comes in, and that a corpus has no place for."""
        self.details.append(LeftOut(what, "a corpus has no place for it", where))

    def change(self, what: str, why: str, where: str) -> None:
        """Note something that comes in, but not as it stood."""
        self.changed.append(LeftOut(what, why, _cut(where)))

    def remark(self, what: str, why: str, where: str) -> None:
        """Note how something was understood that comes in as it stood."""
        self.remarks.append(LeftOut(what, why, where))

    def require_documents(self, path: Path) -> Imported:
        """This import, where it holds a document. Raises UserError where everything was skipped or nothing stood."""
        if not any(self.splits.values()):
            why = f": {self.left_out[0].why} ({self.left_out[0].where})" if self.left_out else ""
            raise UserError.at(path, f"has no document to import{why}")
        return self

    def require_gold(self, path: Path | None = None) -> None:
        """Raises UserError where this import cannot be what was meant.

        It keeps no mention and no region though something is annotated, or an option names what never occurs.
        """
        for problem in self.problems:
            raise UserError(problem)
        examples = [example for part in self.splits.values() for example in part]
        if all(not any(e.gold.mentions) and not e.gold.regions for e in examples):
            if examples and all("entity" in example.unannotated for example in examples):
                return
            first = f": {self.left_out[0].why} ({self.left_out[0].where})" if self.left_out else ""
            where = "the import" if path is None else path
            raise UserError.at(where, f"no mention and no region is kept, and nothing is written{first}")

    def report(self) -> dict[str, Any]:
        """Every place that was skipped or changed, and the counts, as plain values."""
        lacking = unannotated(self.splits)
        return {
            "held": [
                {"split": split, "lang": lang, "counts": counts, "unannotated": lacking[split, lang]}
                for (split, lang), counts in count(self.splits).items()
            ],
            "left_out": [*self.left_out, *self.details],
            "changed": self.changed,
            "remarks": self.remarks,
            "problems": self.problems,
        }

    def summary_lines(self, *, places: int = 3) -> Iterator[str]:
        """What came in, by split and language; what was skipped or changed, by reason, each with its first places."""
        yield from count_table(count(self.splits))
        yield from unannotated_lines(unannotated(self.splits))
        yield from reasons("skipped", [*self.left_out, *self.details], places)
        yield from reasons("changed", self.changed, places)
        yield from reasons("note", self.remarks, places)
        if not self.left_out and not self.details:
            yield "nothing was skipped"


@dataclass(frozen=True, slots=True)
class Counts:
    """How much a set of examples holds."""

    documents: int = 0
    mentions: int = 0
    chains: int = 0
    relations: int = 0
    regions: int = 0
    frames: int = 0

    @classmethod
    def of(cls, examples: Iterable[Example]) -> Counts:
        total: Counter[str] = Counter()
        for example in examples:
            gold = example.gold
            total["documents"] += 1
            total["mentions"] += sum(len(chain.mentions) for chain in gold.chains)
            total["chains"] += len(gold.chains)
            total["relations"] += len(gold.relations)
            total["regions"] += len(gold.regions)
            total["frames"] += len(example.document.frames)
        return cls(**total)


def count(splits: Mapping[str, Iterable[Example]]) -> dict[tuple[str, str], Counts]:
    """The counts of every (split, language), in the order of the splits, then of the languages."""
    counts: dict[tuple[str, str], Counts] = {}
    for split, examples in splits.items():
        by_lang: dict[str, list[Example]] = defaultdict(list)
        for example in examples:
            by_lang[example.document.lang].append(example)
        counts |= {(split, lang): Counts.of(by_lang[lang]) for lang in sorted(by_lang)}
    return counts


def unannotated(splits: Mapping[str, Iterable[Example]]) -> dict[tuple[str, str], dict[str, int]]:
    """For every (split, language) the tasks that are not annotated, each with the number of such documents."""
    found: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for split, examples in splits.items():
        for example in examples:
            lacking = found[split, example.document.lang]
            for task in TASKS:
                if task in example.unannotated:
                    lacking[task] = lacking.get(task, 0) + 1
    return found


def unannotated_lines(lacking: Mapping[tuple[str, str], Mapping[str, int]]) -> Iterator[str]:
    """One line for each split and language in which something is not annotated."""
    for (split, lang), tasks in lacking.items():
        if tasks:
            what = ", ".join(f"{task} in {n:,}" for task, n in tasks.items())
            yield f"not annotated, so without a score ({split}, {lang}): {what} documents"


def count_table(counts: Mapping[tuple[str, str], Counts]) -> list[str]:
    """The counts as lines in columns, the first line the heads."""
    rows = [("split", "lang", *(f.name for f in fields(Counts)))]
    rows += [(split, lang, *(f"{n:,}" for n in astuple(held))) for (split, lang), held in counts.items()]
    return columns(rows, left=2)


def id_problem(name: str) -> str | None:
    """Why `name` cannot be the id of a document, or None: ids stand in files, tables and links."""
    if not name.strip():
        return "an id cannot be empty"
    if name != name.strip() or any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in name):
        return f"the id {name!r} has spaces at its ends or control characters: rename the document"
    if name.startswith("/") or "\\" in name or ".." in name.split("/"):
        return f"the id {name!r} reads as a path out of a folder: rename the document"
    return None


def unused_id(wanted: str, used: Iterable[str], *, instead: Iterable[str]) -> str:
    """`wanted`, where it is a fit id that nobody has; else the first of `instead` that is, else that one numbered."""
    taken = used if isinstance(used, (set, frozenset, dict)) else set(used)
    candidates = [name for name in (wanted, *instead) if id_problem(name) is None]
    last = candidates[-1] if candidates else "document"
    numbered = (f"{last}-{n}" for n in itertools.count(2))
    return next(name for name in itertools.chain(candidates, numbered) if name not in taken)


def one_line(text: str) -> str:
    """`text` with its line ends and other characters that do not print written as escapes."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def check_json_list(value: Any, path: Path) -> list[Any]:
    """The value of the file `path`, where it is a list. Raises UserError where it is none, or an empty one."""
    if not isinstance(value, list):
        raise UserError.at(path, f"is not a JSON list but {_kind(value)}; expected a list of documents")
    if not value:
        raise UserError.at(path, "is an empty list; expected documents")
    return value


def split_name(text: str) -> str:
    """`text` as the name of a split: letters, digits, `.`, `_` and `-` only."""
    return re.sub(r"[^\w.-]+", "_", text).strip(".") or "train"


def _kind(value: object) -> str:
    names = {dict: "an object", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def reasons(verb: str, things: list[LeftOut], places: int = 3) -> Iterator[str]:
    """One line for each (what, why), the most frequent first."""
    grouped: dict[tuple[str, str], list[str]] = defaultdict(list)
    for thing in things:
        grouped[thing.what, thing.why].append(thing.where)
    for (what, why), where in sorted(grouped.items(), key=lambda item: (-len(item[1]), item[0])):
        more = f"; and {len(where) - places:,} more" if len(where) > places else ""
        yield one_line(f"{verb}: {len(where):,} {what}: {why} ({'; '.join(where[:places])}{more})")


def _cut(text: str) -> str:
    return text if len(text) <= WHERE else f"{text[: WHERE - 60]} … ({len(text):,} characters)"
