"""Several native corpora as one, their types mapped by a table; every change is counted.

The table is a CSV file with the columns `kind` (mention, relation or region), `from` and `to`; an empty `to` takes the
type out, and a fourth column `corpus` keeps a row to the corpus of that name.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

from m3dllm.corpora.imported import Imported, unused_id
from m3dllm.corpora.native import Corpus, to_imported
from m3dllm.errors import UserError
from m3dllm.files import file_name, read_bytes, read_text
from m3dllm.guidelines import FILES, guideline_files
from m3dllm.labels import Label, LabelSet, RelationLabel
from m3dllm.sheets import restored
from m3dllm.types import Annotation, Chain, Example, Mention, Region, Relation

Kind = Literal["mention", "relation", "region"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_COLUMNS = {"kind", "from", "to"}


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a map: what a type of a kind is called in the merged corpus, "" where it is taken out."""

    kind: Kind
    old: str
    new: str
    corpus: str = ""
    line: int = 0


@dataclass(slots=True)
class TypeMap:
    """The rows of a map, and which of them some corpus has the type of."""

    rows: Sequence[Row] = ()
    used: set[int] = field(default_factory=set)

    def new(self, kind: Kind, old: str, corpus: str) -> str:
        """What a type of a corpus is called; a row of that very corpus goes before one of all."""
        for wanted in (corpus, ""):
            for i, row in enumerate(self.rows):
                if (row.kind, row.old, row.corpus) == (kind, old, wanted):
                    self.used.add(i)
                    return row.new
        return old


def read_map(path: Path) -> TypeMap:
    """The map in the CSV file. Raises UserError, with file and line, for what is none."""
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
    try:
        head = {name.strip().lower() for name in reader.fieldnames or ()}
        if not head >= _COLUMNS or head - _COLUMNS - {"corpus"}:
            found = ", ".join(sorted(head)) or "none"
            raise UserError.at(path, f"has the columns {found}; expected kind, from, to, and corpus if need be", line=1)
        rows = [_row(cells, path, reader.line_num) for cells in reader]
    except csv.Error as error:
        raise UserError.at(path, f"is not valid CSV: {error}", line=reader.line_num) from error
    seen: dict[tuple[str, str, str], int] = {}
    for row in rows:
        key = row.kind, row.old, row.corpus
        if key in seen:
            raise UserError.at(path, f"maps the {row.kind} {row.old!r} again, after line {seen[key]}", line=row.line)
        seen[key] = row.line
    return TypeMap(rows)


def _row(cells: dict[str, str | None], path: Path, line: int) -> Row:
    values = {(name or "").strip().lower(): restored((cell or "").strip()) for name, cell in cells.items() if name}
    kind = next((kind for kind in KINDS if values["kind"].lower().rstrip("s") == kind), None)
    if kind is None:
        raise UserError.at(path, f"the kind {values['kind']!r}: expected {', '.join(KINDS)}", line=line)
    if not values["from"]:
        raise UserError.at(path, "has no type in the column 'from'", line=line)
    return Row(kind, values["from"], values["to"], values.get("corpus", ""), line)


def merge_corpora(corpora: Sequence[Corpus], types: TypeMap | None = None, *, where: Path | None = None) -> Imported:
    """The documents of all corpora, split by split, as one import that `write_corpus` writes.

    Ids that stand in several are made different; groups of one name are one source video. Where label sets disagree on
    a type, the first one's gloss stands, and a relation joins what any of them lets it join. Raises UserError for fewer
    than two corpora, one that is given twice, or a row of the map (`where`) that is of no type of theirs.
    """
    if len(corpora) < 2:
        raise UserError("merge needs two corpora or more")
    roots = [corpus.root.resolve() for corpus in corpora]
    if again := next((corpus for i, corpus in enumerate(corpora) if roots[i] in roots[:i]), None):
        raise UserError.at(again.root, "is given twice: its documents would be doubled; give each corpus once")
    types = types or TypeMap()
    merged = Imported(LabelSet())
    labels = _Labels()
    used: set[str] = set()
    _add_guidelines(corpora, merged)
    for corpus in corpora:
        labels.add(corpus, types)
        source = to_imported(corpus)
        for split, examples in source.splits.items():
            for example in examples:
                name = unused_id(example.document.id, used, instead=(f"{corpus.name}-{example.document.id}",))
                used.add(name)
                if name != example.document.id:
                    detail = f"{corpus.name}: {example.document.id!r} is {name!r}"
                    merged.change("document", "its id is also in another corpus: renamed", detail)
                mapped = _mapped(_renamed(example, name, corpus.name, source, merged), corpus.name, types, merged)
                merged.add(split, mapped)
    names = {corpus.name for corpus in corpora}
    for i, row in enumerate(types.rows):
        if i not in types.used:
            what = (
                f"the corpus {row.corpus!r}"
                if row.corpus and row.corpus not in names
                else f"the {row.kind} {row.old!r}"
            )
            raise UserError.at(where or "the map", f"maps {what}, which no corpus has", line=row.line)
    merged.labels = labels.done()
    return merged


def _add_guidelines(corpora: Sequence[Corpus], merged: Imported) -> None:
    """Those guidelines that all corpora have alike."""
    for lang, name in FILES.items():
        texts = {read_bytes(f) if (f := guideline_files(corpus.root).get(lang)) else None for corpus in corpora}
        if len(texts) > 1:
            merged.leave_out(
                "guidelines", "the corpora have different ones: write guidelines for the merged corpus", name
            )
        elif (text := texts.pop()) is not None:
            merged.images[name] = text


def _renamed(example: Example, name: str, corpus: str, source: Imported, merged: Imported) -> Example:
    """The example under an id, its images noted under paths of that id, its video under one of its corpus."""
    frames = []
    for frame in example.document.frames:
        path = f"frames/{file_name(name)}/{frame.index}{Path(frame.path).suffix.lower()}"
        merged.images[path] = source.images[frame.path]
        frames.append(replace(frame, path=path))
    video = example.document.video
    if video is not None:
        path = f"videos/{file_name(corpus)}/{video.path.removeprefix('videos/')}"
        if video.path in source.videos:
            merged.videos[path] = source.videos[video.path]
        video = replace(video, path=path)
    return replace(example, document=replace(example.document, id=name, frames=tuple(frames), video=video))


def _mapped(example: Example, corpus: str, types: TypeMap, merged: Imported) -> Example:
    """The example with its types as the map has them; what is taken out goes with what hangs on it."""
    where = f"{corpus}: {example.document.id}"

    def new(kind: Kind, old: str) -> str:
        found = types.new(kind, old, corpus)
        if not found:
            merged.leave_out(kind, f"the map removes the type {old!r}", where)
        elif found != old:
            merged.change(kind, f"the map renames the type {old!r} to {found!r}", where)
        return found

    chains = []
    for chain in example.gold.chains:
        mentions = tuple(Mention(*m.span, kind) for m in chain.mentions if (kind := new("mention", m.type)))
        if mentions:
            chains.append(Chain(chain.id, mentions))
    known = {chain.id for chain in chains}
    named = {r.id for r in example.gold.regions if r.id is not None}
    sides = known | {r.id for r in example.gold.regions if r.id is not None and types.new("region", r.type, corpus)}
    relations: dict[Relation, None] = {}
    for relation in example.gold.relations:
        kind = new("relation", relation.type)
        if kind and not {relation.head, relation.tail} <= sides:
            what = "sides" if named & {relation.head, relation.tail} else "chains"
            merged.leave_out("relation", f"one of its {what} is removed", f"{where}: {relation.type}")
        elif kind:
            made = replace(relation, type=kind)
            if made in relations:
                merged.leave_out("relation", "its chains already have it", f"{where}: {kind}")
            relations[made] = None
    regions: dict[Region, None] = {}
    for region in example.gold.regions:
        kind = new("region", region.type)
        if kind:
            shown = region.chain if region.chain in known else None
            regions[replace(region, type=kind, chain=shown)] = None
    return replace(example, gold=Annotation(tuple(chains), tuple(relations), tuple(regions)))


@dataclass(slots=True)
class _Labels:
    """The label sets of several corpora on their way to one."""

    mentions: dict[str, Label] = field(default_factory=dict)
    relations: dict[str, RelationLabel] = field(default_factory=dict)
    regions: dict[str, Label] = field(default_factory=dict)

    def add(self, corpus: Corpus, types: TypeMap) -> None:
        for kind, held in (("mention", self.mentions), ("region", self.regions)):
            for label in getattr(corpus.labels, f"{kind}s"):
                if name := types.new(kind, label.name, corpus.name):  # type: ignore[arg-type]
                    held.setdefault(name, replace(label, name=name))
        for relation in corpus.labels.relations:
            if not (name := types.new("relation", relation.name, corpus.name)):
                continue
            head, tail = (tuple(self._mapped(ends, corpus, types)) for ends in (relation.head, relation.tail))
            made = replace(relation, name=name, head=head, tail=tail)
            first = self.relations.get(name)
            self.relations[name] = made if first is None else _wider(first, made)

    def _mapped(self, ends: Iterable[str], corpus: Corpus, types: TypeMap) -> Iterator[str]:
        mentions = corpus.labels.names("mentions")
        kinds: Iterable[tuple[Kind, str]] = (("mention" if end in mentions else "region", end) for end in ends)
        yield from dict.fromkeys(filter(None, (types.new(kind, end, corpus.name) for kind, end in kinds)))

    def done(self) -> LabelSet:
        return LabelSet(tuple(self.mentions.values()), tuple(self.relations.values()), tuple(self.regions.values()))


def _wider(first: RelationLabel, other: RelationLabel) -> RelationLabel:
    """The first label, joining whatever either may join; symmetric where both are."""
    ends = [
        tuple(dict.fromkeys((*a, *b))) if a and b else ()
        for a, b in ((first.head, other.head), (first.tail, other.tail))
    ]
    return replace(first, head=ends[0], tail=ends[1], symmetric=first.symmetric and other.symmetric)
