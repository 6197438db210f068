"""CoNLL: one token and its tag per line; also Twitter-2015 and -2017 (`IMGID:`).

The token is in the first column, or in the second if the first numbers the rows of a sentence. Its tag (BIO, IOB1,
BIOES or BMES, in any case) is in the last column, unless that has chunk tags or none. Other columns are counted as
skipped. A block of lines is a document, which `IMGID:…` or `# id = …` may name; with `-DOCSTART-` lines, all blocks up
to the next one are.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import unquote

from m3dllm.corpora.imported import Imported
from m3dllm.corpora.jsonfiles import keys, note_unread
from m3dllm.corpora.marks import Marks, language_of
from m3dllm.corpora.sources import Incoming, files_at
from m3dllm.corpora.stills import find_own, still
from m3dllm.errors import UserError
from m3dllm.files import text_lines
from m3dllm.tokens import joined
from m3dllm.types import Document, Example, Lang, Task

SUFFIXES = (".conll", ".bio", ".iob", ".iob2", ".bioes", ".bmes", ".txt", ".tsv")
UNANNOTATED: frozenset[Task] = frozenset(("chain", "relation"))
_TAGGED = re.compile(r"[ \t](?:O|[BIESLUMW][-_]\S+)[ \t]*$", re.IGNORECASE)
_TAG = re.compile(r"([BIESLUMWO])(?:[-_](.+))?", re.DOTALL | re.IGNORECASE)
_PLACES = {"M": "I", "W": "S", "U": "S", "L": "E"}
"""Other names of the prefixes B, I, E and S."""
_PHRASES = frozenset(("NP", "VP", "PP", "ADJP", "ADVP", "SBAR", "PRT", "CONJP", "INTJ", "LST", "UCP", "PNP"))
"""The types of chunk (phrase) tags."""
_SEEN = 5000
"""The number of rows by which columns are told apart."""
_TYPES = 50
"""The number of different types by which a column of chunk tags is recognized."""


@dataclass(slots=True)
class Block:
    """The lines of a document: (line number, token, tag) by sentence, and the comments before them."""

    line: int
    about: dict[str, str] = field(default_factory=dict)
    sentences: list[list[tuple[int, str, str]]] = field(default_factory=lambda: [[]])

    def close_sentence(self) -> None:
        if self.sentences[-1]:
            self.sentences.append([])

    @property
    def is_empty(self) -> bool:
        return not self.about and self.sentences == [[]]


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of tokens and tags, from 0 (-1: the last one); whether `-DOCSTART-` separates documents."""

    token: int = 0
    tag: int = -1
    marked: bool = False


def read_conll(
    path: Path,
    *,
    lang: Lang | None = None,
    images: Path | None = None,
    tags: int | None = None,
    split: str | None = None,
) -> Imported:
    """The documents of the file, or of the files in the folder, at `path`. Mentions only: each is an entity of its own.

    - `lang`: the language of all documents; default: `# lang`, else detected.
    - `images`: the folder of the images to which `IMGID:…` refers: `<id>.jpg` and the like.
    - `tags`: the column of the tags, counted from 1; default: the last one; if that has no tags, or chunk tags, the
      first column with tags.
    - `split`: the split to write; default: from the file names: train, dev, valid, test.

    The text is the tokens joined by spaces, if their script has them. Raises UserError where there is no document.
    """
    incoming = Incoming()
    if tags is not None and tags < 1:
        raise UserError(f"--tags {tags}: columns are counted from 1")
    for file in files_at(path, SUFFIXES, "a file of tokens and tags, or a folder of them", incoming.notes):
        columns = _columns(file)
        if tags is not None and columns:
            columns = replace(columns, tag=tags - 1)
        if columns is None and file != path:
            incoming.notes.leave_out("file", "none of its columns has tags", file.name)
            continue
        if columns is None:
            raise UserError.at(file, "has no column of tags; expected tokens and BIO tags, a pair a line")
        name = split or incoming.split_of(file, path)
        for n, block in enumerate(blocks(file, incoming.notes, columns), start=1):
            incoming.add(name, example(block, incoming, f"{file.name}:{block.line}", f"{file.stem}-{n}", lang, images))
    return incoming.done(path)


def _columns(file: Path) -> Columns | None:
    """Which column holds tokens and which tags, by the first rows; None if none holds tags."""
    marked, before = False, 0
    seen: dict[int, _Seen] = {}
    rows = 0
    for line in text_lines(file):
        if line.startswith("-DOCSTART-"):
            marked = True
        elif marked and rows >= _SEEN:
            break
        elif not line.strip():
            before = 0
        elif rows < _SEEN and not _is_comment(line) and len(row := _row(line)) > 1:
            rows += 1
            seen.setdefault(len(row), _Seen(len(row))).add(row, first=before == 0)
            before = len(row)
    best = max(seen.values(), key=lambda one: one.rows, default=None)
    return best.columns(marked=marked) if best else None


@dataclass(slots=True)
class _Seen:
    """Counts for rows of one width, by column: cells with a tag, the types of the tags, cells that number their row."""

    width: int
    rows: int = 0
    tagged: Counter[int] = field(default_factory=Counter)
    kinds: dict[int, set[str]] = field(default_factory=dict)
    numbered: int = 0
    _number: int = 0

    def add(self, row: Sequence[str], *, first: bool) -> None:
        self.rows += 1
        for i, word in enumerate(row[1:], start=1):
            if (match := _TAG.fullmatch(word)) and (match[1] in "Oo") != bool(match[2]):
                self.tagged[i] += 1
                kinds = self.kinds.setdefault(i, set())
                if match[2] and len(kinds) < _TYPES:
                    kinds.add(match[2].upper())
        number = int(row[0]) if row[0].isascii() and row[0].isdigit() and len(row[0]) < 7 else -1
        self.numbered += number in (0, 1) if first else number == self._number + 1
        self._number = number

    def columns(self, *, marked: bool) -> Columns | None:
        token = 1 if self.width > 2 and self.numbered == self.rows > 1 else 0
        held = [i for i in range(token + 1, self.width) if 2 * self.tagged[i] >= self.rows]
        held = held or [self.width - 1] * (self.tagged[self.width - 1] > 0)
        named = [i for i in held if self.kinds[i]] or held[-1:]
        named = [i for i in named if not self.kinds[i] <= _PHRASES] or named[-1:]
        if not named:
            return None
        return Columns(token, -1 if named[0] == self.width - 1 else named[0], marked)


def _row(line: str) -> list[str]:
    """The columns of a line: split at tabs, else at spaces, except those that are part of a token."""
    return [word.strip() for word in line.split("\t")] if "\t" in line else re.split(" +", line.strip(" \r"))


def _is_comment(line: str) -> bool:
    return line.startswith(("# ", "#\t")) and not _TAGGED.search(line)


def blocks(file: Path, notes: Imported, columns: Columns | None = None) -> Iterator[Block]:
    """The documents of a file of tokens and tags, one at a time. A line that is neither is noted."""
    columns = columns or _columns(file) or Columns()
    block, widest, where = Block(1), 2 + columns.token, file.name
    if columns.token:
        notes.remark("column", "it numbers the rows: the tokens are in the next one", where)
    if columns.tag >= 0:
        why = "its tags are read, not those of the last one: '--tags COLUMN' reads another"
        notes.remark("column", why, f"{where}: column {columns.tag + 1}")
    for number, line in enumerate(text_lines(file), start=1):
        if line.startswith("-DOCSTART-") or (line.startswith("IMGID:") and "\t" not in line):
            if not block.is_empty:
                yield block
            block = Block(number)
            if line.startswith("IMGID:"):
                block.about["image"] = line.removeprefix("IMGID:").strip()
        elif match := re.fullmatch(r"# (?:(\w+) = ?(.*)|id (\S+)(.*))", line):
            if block.sentences != [[]] and not columns.marked:
                yield block
                block = Block(number)
            block.about[match[1] or "id"] = unquote(match[2] or match[3] or "")
            if (match[4] or "").strip():
                notes.leave_out("line", "it is a comment", f"{where}:{number}: {match[4].strip()[:80]!r}")
        elif not line.strip():
            block.close_sentence()
            if not columns.marked and not block.is_empty:
                yield block
                block = Block(number + 1)
        elif _is_comment(line):
            notes.leave_out("line", "it is a comment", f"{where}:{number}: {line[:80]!r}")
        elif len(words := _row(line)) < 2 or not columns.token < len(words) > columns.tag:
            notes.leave_out("line", "it is not a token with a tag", f"{where}:{number}: {line[:80]!r}")
        else:
            if len(words) > widest:
                widest = len(words)
                others = widest - 2 - columns.token
                notes.leave_detail("columns beside token and tag", f"{where}:{number}: {others}")
            block.sentences[-1].append((number, words[columns.token], words[columns.tag]))
    if not block.is_empty:
        yield block


def example(
    block: Block, incoming: Incoming, where: str, instead: str, lang: Lang | None, images: Path | None = None
) -> Example:
    """The document of a block, with its image where there is one."""
    note_unread(block.about, keys("id image lang group"), f"{where}: #", incoming.notes)
    marks, tokens = marked(block, incoming.notes, where)
    name = incoming.id_for(block.about.get("id") or block.about.get("image") or "", instead, where)
    frames = []
    if (image := block.about.get("image")) and images:
        file = find_own(image, "", [images], incoming.notes, where)
        found = still(name, 0, file, None, incoming.notes, where=f"{where}: {image}", annotated=False)
        frames = [found] if found else []
    document = Document(
        name,
        language_of(marks.text, lang, block.about.get("lang")),
        marks.text,
        group=block.about.get("group", ""),
        tokens=tuple(tokens),
        frames=tuple(frames),
    )
    return Example(document, marks.gold(), UNANNOTATED)


def marked(block: Block, notes: Imported, where: str) -> tuple[Marks, list[tuple[int, int]]]:
    """The text of the sentences, one a line, with its mentions, named by their numbers; and its tokens' offsets."""
    text, tokens, found = "", [], []
    for rows in filter(None, block.sentences):
        line, spans = joined([token for _, token, _ in rows])
        shift = len(text) + bool(text)
        text += ("\n" if text else "") + line
        spans = tuple((start + shift, end + shift) for start, end in spans)
        tokens += [span for span in spans if span[0] < span[1]]
        found += [
            (spans[a][0], spans[b][1], kind) for a, b, kind in _spans([tag for _, _, tag in rows], rows, notes, where)
        ]
    marks = Marks(text, notes, where)
    for n, (start, end, kind) in enumerate(found):
        marks.mention(n, start, end, unquote(kind))
    return marks, tokens


def _spans(
    tags: Sequence[str], rows: Sequence[tuple[int, str, str]], notes: Imported, where: str
) -> Iterator[tuple[int, int, str]]:
    """(first token, last token, type) of each mention. An `I` without a mention before it begins one, as in IOB1."""
    first, kind = None, ""
    for n, tag in enumerate([*tags, "O"]):
        match = _TAG.fullmatch(tag)
        place, new = (_PLACES.get(match[1].upper(), match[1].upper()), match[2] or "") if match else ("O", "")
        if match is None or (place == "O") != (not new):
            line, token, _ = rows[n]
            notes.leave_out("tag", "it is not a BIO tag: read as O", f"{where}: line {line}: {token!r} {tag!r}")
            place, new = "O", ""
        goes_on = place in "IE" and new == kind and first is not None
        if first is not None and not goes_on:
            yield first, n - 1, kind
            first = None
        if place != "O" and not goes_on:
            if place in "IE":
                line, token, _ = rows[n]
                where_it_stands = f"{where}: line {line}: {token!r} {tag!r}"
                notes.change("tag", "it does not continue a mention: read as the beginning of one", where_it_stands)
            first, kind = n, new
        if place in "ES" and first is not None:
            yield first, n, kind
            first = None


IMPORTER = read_conll
