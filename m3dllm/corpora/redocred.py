"""DocRED and Re-DocRED: English text with entities and relations.

A file is a list of documents: `sents` (tokens), `vertexSet` (the mentions of each entity: sentence, tokens, type) and
`labels` (relations between entities by their numbers). `rel_info.json` beside the files names the relations. What a
file lacks is not annotated: entities, relations; nor are relations where all lists of them in a file are empty.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain, islice
from operator import add
from pathlib import Path

import msgspec
from msgspec import UNSET, UnsetType

from m3dllm.corpora.documents import Row, read_documents, scan_documents
from m3dllm.corpora.imported import DUPLICATE, Imported, split_name, unused_id
from m3dllm.corpora.jsonfiles import keys, note_unread
from m3dllm.corpora.places import SPLIT_WORDS
from m3dllm.errors import UserError
from m3dllm.files import read_text
from m3dllm.labels import Label, LabelSet, RelationLabel
from m3dllm.types import Annotation, Chain, Document, Example, Mention, Relation, Task
from m3dllm.wire import WireError, convert, decode

SPLITS = ("train", "dev", "test")
NAMES_FILE = "rel_info.json"
_SUFFIX = re.compile(r"\.jsonl?(\.gz)?$", re.IGNORECASE)
_SHAPE = keys(
    "title sents",
    vertexSet=[[keys("name pos sent_id type global_pos index")]],  # Re-DocRED's last two say again where it stands
    labels=[keys("h t r")],
)
_TYPES = {
    "PER": ("person", "人物"),
    "LOC": ("place", "地点"),
    "ORG": ("organization", "组织"),
    "TIME": ("date or time", "时间"),
    "NUM": ("number or quantity", "数量"),
    "MISC": ("another name: a work, an event, a language, …", "其他名称：作品、事件、语言等"),
}


def read_redocred(path: Path) -> Imported:
    """The documents at `path`: a JSON file, or a folder with (or with a `data` folder with) such files.

    In a folder, files whose names begin with train, dev or test are read, each as that split; two of one beginning
    keep their whole names. Text is the tokens joined by spaces. Every relation is directed and may join any types.
    Raises UserError where there is no document or a file has another shape.
    """
    imported = Imported(LabelSet())
    files = _data_files(path, imported)
    reader = _Reader(imported)
    shared = Counter(map(_beginning, files))
    for file in files:
        split = _beginning(file) if shared[_beginning(file)] == 1 else split_name(_stem(file))
        empty = _has_no_relations(file)
        if empty:
            imported.remark("file", "no document has a relation: treated as not annotated", file.name)
        for i, row in enumerate(read_documents(file, imported, keys=("sents",), kind=_Known)):
            place = row.at(file.name)
            source = row.value if isinstance(row.value, _Known) else _source(row, file)
            if isinstance(source, _Known):
                for j, relation in enumerate(source.relations or ()):
                    if relation.evidence:
                        imported.leave_detail("key 'evidence'", f"{place}.labels[{j}].evidence")
            else:
                note_unread(row.value, _SHAPE, place, imported)
            name = unused_id(source.title, reader.ids, instead=(f"{split}-{i}",))
            if empty:
                source.relations = None
            reader.add(source, name, split, place)
    imported.labels = LabelSet(
        tuple(Label(name, *_TYPES.get(name, ("", ""))) for name in sorted(reader.types)),
        tuple(RelationLabel(name, en=en) for name, en in sorted(_glosses(files[0], reader.relations).items())),
    )
    return imported.require_documents(path)


class _Mention(msgspec.Struct):
    type: str
    sentence: int = msgspec.field(name="sent_id")
    tokens: tuple[int, int] = msgspec.field(name="pos")
    name: str | None = None


class _Relation(msgspec.Struct):
    head: int = msgspec.field(name="h")
    tail: int = msgspec.field(name="t")
    type: str = msgspec.field(name="r")


class _Source(msgspec.Struct):
    sentences: list[list[str]] = msgspec.field(name="sents")
    title: str = ""
    entities: Sequence[Sequence[_Mention]] | None = msgspec.field(name="vertexSet", default=None)
    relations: Sequence[_Relation] | None = msgspec.field(name="labels", default=None)


class _KnownMention(_Mention, forbid_unknown_fields=True, omit_defaults=True):
    global_position: list[int] | UnsetType = msgspec.field(name="global_pos", default=UNSET)
    index: str | UnsetType = UNSET


class _KnownRelation(_Relation, forbid_unknown_fields=True):
    evidence: list[int] | UnsetType = UNSET


class _Known(_Source, forbid_unknown_fields=True, omit_defaults=True):
    """A document all of whose keys are known, as those of DocRED and Re-DocRED are."""

    entities: Sequence[Sequence[_KnownMention]] | None = msgspec.field(name="vertexSet", default=None)
    relations: Sequence[_KnownRelation] | None = msgspec.field(name="labels", default=None)


def _source(row: Row, file: Path) -> _Source:
    """The document of a row. Raises UserError with the place of the first value of another shape."""
    try:
        return convert(row.value, _Source)
    except WireError as error:
        raise row.error(error, file) from error


def _data_files(path: Path, notes: Imported) -> list[Path]:
    """The files of documents at `path`, in the order train, dev, test. Raises UserError where there is none."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError.at(path, "does not exist; expected a DocRED file or a folder of them")
    folders = [folder for folder in (path, path / "data") if folder.is_dir()]
    here = [file for folder in folders for file in sorted(folder.iterdir()) if _SUFFIX.search(file.name)]
    found = [file for file in here if _split_of(file)]
    if not found:
        raise UserError.at(path, "has no file such as train_revised.json or dev.json; name the file itself")
    for file in here:
        if file not in found and _is_list(file):
            why = "its name begins with no split, such as train, dev, valid or test: import it separately"
            notes.leave_out("file", why, file.name)
    return sorted(found, key=lambda file: (SPLITS.index(_beginning(file)), file.name, str(file)))


def _has_no_relations(file: Path) -> bool:
    """Whether the documents of a file have lists of relations, and all of them are empty, as test sets have."""
    lists = [row.get("labels") for row in islice(scan_documents(file, keys=("sents",)), 2)]
    if len(lists) < 2 or any(one != [] for one in lists):
        return False
    return all(row.get("labels") == [] for row in scan_documents(file, keys=("sents",)))


def _is_list(file: Path) -> bool:
    """Whether a file may hold documents: names of relations and other facts are objects."""
    if not file.is_file():
        return False
    with file.open("rb") as opened:
        return opened.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"["


def _stem(file: Path) -> str:
    return _SUFFIX.sub("", file.name)


def _split_of(file: Path) -> str | None:
    """The split with whose name, in any case, the file's begins; "valid" and "val" are dev."""
    name = _stem(file).lower()
    return next((split for split, words in SPLIT_WORDS.items() for word in words if name.startswith(word)), None)


def _beginning(file: Path) -> str:
    return _split_of(file) or split_name(_stem(file))


def _glosses(file: Path, found: set[str]) -> dict[str, str]:
    """relation -> its English name, of all that `rel_info.json` beside the file or above it names and all found.

    A relation that it does not name has the name "". Raises UserError where it has another shape.
    """
    names: dict[str, str] = dict.fromkeys(found, "")
    beside = [folder / NAMES_FILE for folder in (file.parent, file.absolute().parent.parent)]
    if path := next((path for path in beside if path.is_file()), None):
        try:
            names |= decode(read_text(path), dict[str, str])
        except WireError as error:
            raise error.at(path) from error
        if "" in names:
            raise UserError.at(path, "has a relation without a name: every relation needs one")
    return names


@dataclass(slots=True)
class _Reader:
    """Brings documents into `imported`, naming whatever cannot come in."""

    imported: Imported
    ids: set[str] = field(default_factory=set)
    types: set[str] = field(default_factory=set)
    relations: set[str] = field(default_factory=set)

    def add(self, source: _Source, name: str, split: str, place: str) -> None:
        if name != source.title:
            why = "its title is a duplicate" if source.title in self.ids else "its title is not a valid id"
            self.imported.change("document", f"{why}: renamed", f"{place}.title: {source.title!r} is {name!r}")
        self.ids.add(name)
        tokens = list(chain.from_iterable(source.sentences))
        lengths = list(map(len, tokens))
        begins = list(accumulate(map((1).__add__, lengths), initial=0))
        spans = list(zip(begins, map(add, begins, lengths), strict=False))  # begins has the end of the text, too
        text = " ".join(tokens)
        chains = self._chains(source, text, spans, place)
        document = Document(
            name,
            "en",
            text,
            title=source.title,
            tokens=tuple([span for span in spans if span[0] < span[1]] if 0 in lengths else spans),
        )
        gold = Annotation(tuple(chains.values()), self._relations(source, chains, place))
        unannotated: frozenset[Task] = frozenset(("relation",) if source.relations is None else ())
        if source.entities is None:
            unannotated = frozenset(("entity", "chain", "relation"))
        self.imported.add(split, Example(document, gold, unannotated))

    def _chains(self, source: _Source, text: str, spans: Sequence[tuple[int, int]], place: str) -> dict[int, Chain]:
        """entity number -> its chain, `e0`, `e1`, …"""
        first = [0, *accumulate(map(len, source.sentences))]
        chains: dict[int, Chain] = {}
        seen: set[tuple[int, int]] = set()
        for i, entity in enumerate(source.entities or ()):
            mentions = []
            for j, mention in enumerate(entity):
                start, end = mention.tokens
                known = 0 <= mention.sentence < len(source.sentences)
                if not known or not 0 <= start < end <= len(source.sentences[mention.sentence]):
                    where = f"{place}.vertexSet[{i}][{j}]: sentence {mention.sentence}, tokens {start} to {end}"
                    self.imported.leave_out("mention", "its tokens are not in the text", where)
                    continue
                offset = first[mention.sentence]
                span = spans[offset + start][0], spans[offset + end - 1][1]
                found = text[span[0] : span[1]]
                if (mention.name is None or mention.name == found) and found and mention.type and span not in seen:
                    seen.add(span)
                    self.types.add(mention.type)
                    mentions.append(Mention(*span, mention.type))
                    continue
                name = letters = detail = ""
                if mention.name is not None and mention.name != found:
                    name, letters = _letters(mention.name), _letters(found)
                    detail = f"{place}.vertexSet[{i}][{j}]: {mention.name!r}, the text has {found!r}"
                if letters not in name and name not in letters:
                    self.imported.leave_out("mention", "its text differs from the text at its tokens", detail)
                elif not found or not mention.type:
                    why = "it has no type" if found else "it has no text"
                    self.imported.leave_out("mention", why, f"{place}.vertexSet[{i}][{j}]")
                elif span in seen:
                    where = f"{place}.vertexSet[{i}][{j}]: {found!r}"
                    self.imported.leave_out("mention", "its span is already a mention", where)
                else:
                    if name != letters:
                        self.imported.change("mention", "its name is longer or shorter than its text", detail)
                    seen.add(span)
                    self.types.add(mention.type)
                    mentions.append(Mention(*span, mention.type))
            if mentions:
                chains[i] = Chain(f"e{i}", tuple(mentions))
            else:
                self.imported.leave_out("chain", "none of its mentions is left", f"{place}.vertexSet[{i}]")
        return chains

    def _relations(self, source: _Source, chains: dict[int, Chain], place: str) -> tuple[Relation, ...]:
        relations: dict[Relation, None] = {}
        for j, relation in enumerate(source.relations or ()):
            head, tail, kind = chains.get(relation.head), chains.get(relation.tail), relation.type
            if head is None or tail is None:
                missing = relation.tail if head else relation.head
                where = f"{place}.labels[{j}]: {missing}"
                self.imported.leave_out("relation", "it refers to an entity that does not exist", where)
            elif head is tail:
                where = f"{place}.labels[{j}]: {relation.head}"
                self.imported.leave_out("relation", "it joins an entity to itself", where)
            elif not kind:
                self.imported.leave_out("relation", "it has no type", f"{place}.labels[{j}]")
            else:
                found = Relation(head.id, tail.id, kind)
                if found in relations:
                    self.imported.leave_out("relation", DUPLICATE, f"{place}.labels[{j}]: {kind}")
                self.relations.add(kind)
                relations[found] = None
        return tuple(relations)


def _letters(text: str) -> str:
    """Without white space: an entity's name in these files is spaced as people write, not as tokens."""
    return "".join(text.split())


IMPORTER = read_redocred
