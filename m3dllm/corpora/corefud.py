"""CorefUD: CoNLL-U with entities and coreference in MISC (`Entity=`).

The text is that of the rows, with the white space of `SpaceAfter`, `SpacesAfter` and `SpacesBefore`. Mentions of empty
nodes have no text and are skipped; mentions in pieces become the span that covers them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from m3dllm.corpora.imported import Imported
from m3dllm.corpora.jsonfiles import keys, note_unread
from m3dllm.corpora.marks import Marks, language_of
from m3dllm.corpora.sources import Incoming, files_at
from m3dllm.errors import UserError
from m3dllm.files import text_lines
from m3dllm.types import Document, Example, Lang, Task

UNANNOTATED: frozenset[Task] = frozenset(("relation",))
UNKNOWN = "MISC"
"""The type of entities without one in the file."""
_FORM = "eid-etype-head-other"
_BRACKET = re.compile(r"\(([^()]+)(\))?|([^()]+)\)")
_ABOUT = keys("newdoc newpar sent_id text lang group global.Entity global.columns") | dict.fromkeys(
    ("newdoc id", "newpar id")
)
_MISC = keys("Entity SpaceAfter SpacesAfter SpacesBefore SpacesInToken")
_ID = re.compile(r"[0-9]{1,9}(?:[-.][0-9]{1,9})?")
_PART = re.compile(r"(.*)\[(\d+)/(\d+)\]")
_WHITE = {"\\s": " ", "\\t": "\t", "\\n": "\n", "\\r": "\r", "\\p": "|", "\\\\": "\\"}


def read_corefud(path: Path, *, lang: Lang | None = None, split: str | None = None) -> Imported:
    """The documents of the file, or of the files in the folder, at `path`.

    - `lang`: the language of all documents; default: `# lang`, else detected.
    - `split`: the split to write; default: from the file names: train, dev, test.

    Raises UserError where a row has not ten columns, or there is no document.
    """
    incoming = Incoming()
    for file in files_at(path, (".conllu",), "CoNLL-U files", incoming.notes):
        form = _FORM
        part = split or incoming.split_of(file, path)
        for n, found in enumerate(_documents(file), start=1):
            form = found.about.get("global.Entity", form)
            where = f"{file.name}:{found.line}"
            note_unread(found.about, _ABOUT, f"{where}: #", incoming.notes)
            reader = _Reader(found, form, incoming.notes, where)
            marks = reader.marks()
            name = incoming.id_for(found.about.get("newdoc id", ""), f"{file.stem}-{n}", where)
            kind = language_of(marks.text, lang, found.about.get("lang"))
            group = found.about.get("group", "")
            document = Document(name, kind, marks.text, group=group, tokens=tuple(reader.tokens))
            incoming.add(part, Example(document, marks.gold(), UNANNOTATED))
    return incoming.done(path)


@dataclass(slots=True)
class _Source:
    """The rows of a document by sentence, and its comments."""

    line: int
    about: dict[str, str] = field(default_factory=dict)
    sentences: list[list[tuple[int, list[str]]]] = field(default_factory=list)


def _documents(file: Path) -> Iterator[_Source]:
    source = _Source(1)
    sentence: list[tuple[int, list[str]]] = []
    for number, line in enumerate(text_lines(file), start=1):
        if line.startswith("#"):
            name, _, value = (part.strip() for part in line[1:].partition("="))
            if name.split(" ")[0] == "newdoc":
                if source.sentences:
                    yield source
                source = _Source(number)
            source.about[name] = unquote(value)
        elif not line.strip():
            if sentence:
                source.sentences.append(sentence)
            sentence = []
        else:
            columns = line.split("\t")
            if len(columns) != 10:
                raise UserError.at(file, f"has {len(columns)} columns; expected the ten of CoNLL-U", line=number)
            if not _ID.fullmatch(columns[0]):
                raise UserError.at(file, f"begins with {columns[0]!r}; expected a word number", line=number)
            sentence.append((number, columns))
    if sentence:
        source.sentences.append(sentence)
    if source.sentences:
        yield source


@dataclass(slots=True)
class _Open:
    """A mention whose bracket is still open: where it began, its type, and the line."""

    start: int | None
    kind: str
    line: int


@dataclass(slots=True)
class _Reader:
    """Makes the text and the marks of one document."""

    source: _Source
    form: str
    notes: Imported
    where: str
    tokens: list[tuple[int, int]] = field(default_factory=list)
    _found: list[tuple[str, int, int, str]] = field(default_factory=list)
    _open: dict[str, list[_Open]] = field(default_factory=dict)
    _parts: dict[tuple[str, str], tuple[int, int, str]] = field(default_factory=dict)

    def marks(self) -> Marks:
        text = self._read()
        marks = Marks(text, self.notes, self.where)
        for key, (start, end, kind) in self._parts.items():
            why = "it is discontinuous: replaced by the span that covers it"
            self.notes.change("mention", why, f"{self.where}: {key[0]}")
            self._found.append((key[0], start, end, kind))
        members: dict[str, list[int]] = {}
        for n, (entity, start, end, kind) in enumerate(self._found):
            if not kind:
                self.notes.change("mention", f"it has no type: {UNKNOWN}", f"{self.where}: {entity}")
            marks.mention(n, start, end, kind or UNKNOWN)
            if marks.holds(n):
                members.setdefault(entity, []).append(n)
        for names in members.values():
            marks.join(names)
        return marks

    def _read(self) -> str:
        text, space = "", ""
        for sentence in self.source.sentences:
            until, end_of_range = 0, 0
            for number, columns in sentence:
                misc = dict(part.partition("=")[::2] for part in columns[9].split("|"))
                note_unread(misc, _MISC, f"{self.where}: line {number}: MISC", self.notes)
                first, dash, last = columns[0].partition("-")
                if "." in columns[0]:  # an empty node: no text
                    self._brackets(misc.get("Entity", ""), None, None, number)
                    continue
                if dash or int(first) > until:  # a token; the words inside a range have its place
                    text += space + _white(misc.get("SpacesBefore", ""))
                    start = len(text)
                    text += columns[1]
                    self.tokens += [(start, len(text))] if columns[1] else []
                    space = _after(misc)
                    until, end_of_range = (int(last), len(text)) if dash else (int(first), len(text))
                    if dash:
                        continue
                self._brackets(misc.get("Entity", ""), self.tokens[-1][0] if self.tokens else 0, end_of_range, number)
        for entity, opened in self._open.items():
            for one in opened:
                self.notes.leave_out(
                    "mention", "its bracket is never closed", f"{self.where}: line {one.line}: {entity}"
                )
        last = self.source.sentences[-1][-1][1][9]
        return text + (space if "SpacesAfter=" in last else "")

    def _brackets(self, brackets: str, start: int | None, end: int | None, line: int) -> None:
        """Open and close mentions at the token from `start` to `end` (None: an empty node)."""
        if rest := _BRACKET.sub("", brackets):
            self.notes.leave_out("mention", "its bracket cannot be parsed", f"{self.where}: line {line}: {rest}")
        for opening, at_once, closing in _BRACKET.findall(brackets):
            if closing:
                name = closing
                opened = self._open.get(name) or []
                if not opened:
                    why = "it closes a bracket that is not open"
                    self.notes.leave_out("mention", why, f"{self.where}: line {line}: {closing}")
                    continue
                one = opened.pop()
                self._close(name, one, end, line)
            else:
                fields = opening.split("-")
                name = fields[self._position("eid")] if len(fields) > self._position("eid") else opening
                at = self._position("etype")
                kind = unquote(fields[at]) if 0 <= at < len(fields) else ""
                one = _Open(start, kind, line)
                if at_once:
                    self._close(name, one, end, line)
                else:
                    self._open.setdefault(name, []).append(one)

    def _close(self, name: str, one: _Open, end: int | None, line: int) -> None:
        if one.start is None or end is None:
            why = "it begins or ends at an empty node, which has no text"
            self.notes.leave_out("mention", why, f"{self.where}: line {line}: {name}")
            return
        if match := _PART.fullmatch(name):
            entity = unquote(match[1])
            key = entity, match[3]
            begin = self._parts[key][0] if key in self._parts and match[2] != "1" else one.start
            self._parts[key] = begin, end, one.kind
            if match[2] == match[3]:
                self._parts[entity, f"{match[3]} at {line}"] = self._parts.pop(key)
            return
        self._found.append((unquote(name), one.start, end, one.kind))

    def _position(self, field_name: str) -> int:
        fields = self.form.split("-")
        return fields.index(field_name) if field_name in fields else 0 if field_name == "eid" else -1


def _after(misc: dict[str, str]) -> str:
    if "SpacesAfter" in misc:
        return _white(misc["SpacesAfter"])
    return "" if misc.get("SpaceAfter") == "No" else " "


def _white(text: str) -> str:
    return unquote(re.sub(r"\\[stnrp\\]", lambda match: _WHITE[match[0]], text))


IMPORTER = read_corefud
