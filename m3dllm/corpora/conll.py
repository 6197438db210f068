"""CoNLL: a token a line with its tag, blank lines between sentences; Twitter-2015 and -2017, with `IMGID:`, too.

The first column is the token, the last its tag: BIO, IOB1, or BIOES. What stands in other columns is counted. A block
of lines is a document, which `IMGID:…` or `# id = …` may name; with `-DOCSTART-` lines, all blocks up to the next are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from m3dllm.corpora.imported import Imported
from m3dllm.corpora.jsonfiles import keys, note_unread
from m3dllm.corpora.marks import Marks, language_of
from m3dllm.corpora.sources import Incoming, files_at
from m3dllm.corpora.stills import find_image, still
from m3dllm.files import text_lines
from m3dllm.tokens import joined
from m3dllm.types import Document, Example, Lang, Task

SUFFIXES = (".conll", ".bio", ".iob", ".iob2", ".txt", ".tsv")
UNANNOTATED: frozenset[Task] = frozenset(("chain", "relation"))
_TAGGED = re.compile(r"[ \t](?:O|[BIESLU][-_]\S+)[ \t]*$")
_TAG = re.compile(r"([BIESLUO])(?:[-_](.+))?", re.DOTALL)


@dataclass(slots=True)
class Block:
    """The lines of a document: (line number, token, tag) by sentence, and what was said about it before."""

    line: int
    about: dict[str, str] = field(default_factory=dict)
    sentences: list[list[tuple[int, str, str]]] = field(default_factory=lambda: [[]])

    def close_sentence(self) -> None:
        if self.sentences[-1]:
            self.sentences.append([])

    @property
    def is_empty(self) -> bool:
        return not self.about and self.sentences == [[]]


def read_conll(
    path: Path, *, lang: Lang | None = None, images: Path | None = None, split: str | None = None
) -> Imported:
    """The documents of the file, or of the files in the folder, at `path`. Mentions only: each is an entity of its own.

    - `lang`: the language of all documents; default: `# lang`, else detected.
    - `images`: the folder of the images that `IMGID:…` names: `<id>.jpg` and the like.
    - `split`: the split to write; default: as the names of the files say: train, dev, valid, test.

    Text is the tokens joined by spaces, where their script has them. Raises UserError where there is no document.
    """
    incoming = Incoming()
    for file in files_at(path, SUFFIXES, "a file of tokens and tags, or a folder of them", incoming.notes):
        name = split or incoming.split_of(file, path)
        if file != path and not any(map(_TAGGED.search, text_lines(file))):
            incoming.notes.leave_out("file", "none of its lines ends with a tag", file.name)
            continue
        for n, block in enumerate(blocks(file, incoming.notes), start=1):
            incoming.add(name, example(block, incoming, f"{file.name}:{block.line}", f"{file.stem}-{n}", lang, images))
    return incoming.done(path)


def blocks(file: Path, notes: Imported) -> Iterator[Block]:
    """The documents of a file of tokens and tags, one at a time. A line that is neither is noted."""
    by_mark = any(line.startswith("-DOCSTART-") for line in text_lines(file))
    block, columns, where = Block(1), 2, file.name
    for number, line in enumerate(text_lines(file), start=1):
        if line.startswith("-DOCSTART-") or (line.startswith("IMGID:") and "\t" not in line):
            if not block.is_empty:
                yield block
            block = Block(number)
            if line.startswith("IMGID:"):
                block.about["image"] = line.removeprefix("IMGID:").strip()
        elif match := re.fullmatch(r"# (\w+) = ?(.*)", line):
            if block.sentences != [[]] and not by_mark:
                yield block
                block = Block(number)
            block.about[match[1]] = unquote(match[2])
        elif not line.strip():
            block.close_sentence()
            if not by_mark and not block.is_empty:
                yield block
                block = Block(number + 1)
        elif line.startswith("# ") and not _TAGGED.search(line):
            notes.leave_out("line", "it is a comment", f"{where}:{number}: {line[:80]!r}")
        elif len(words := line.split("\t") if "\t" in line else line.split()) < 2:
            notes.leave_out("line", "it is not a token and its tag", f"{where}:{number}: {line[:80]!r}")
        else:
            if len(words) > columns:
                columns = len(words)
                notes.leave_detail("columns between token and tag", f"{where}:{number}: {columns - 2}")
            block.sentences[-1].append((number, words[0].strip(), words[-1].strip()))
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
        file = next((f for end in (".jpg", ".jpeg", ".png") if (f := find_image(image + end, [images]))), None)
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
    """(first token, last token, type) of each mention. `I` where nothing has begun begins one, as in IOB1."""
    first, kind = None, ""
    for n, tag in enumerate([*tags, "O"]):
        match = _TAG.fullmatch(tag)
        if match is None or (match[1] != "O" and not match[2]) or (match[1] == "O" and match[2]):
            line, token, _ = rows[n]
            notes.leave_out("tag", "it is no BIO tag: read as O", f"{where}: line {line}: {token!r} {tag!r}")
        place, new = (match[1], match[2] or "") if match and (match[1] == "O") == (not match[2]) else ("O", "")
        goes_on = place in "IEL" and new == kind and first is not None
        if first is not None and not goes_on:
            yield first, n - 1, kind
            first = None
        if place != "O" and not goes_on:
            if place in "IEL":
                line, token, _ = rows[n]
                where_it_stands = f"{where}: line {line}: {token!r} {tag!r}"
                notes.change("tag", "it continues no mention: read as the beginning of one", where_it_stands)
            first, kind = n, new
        if place in "ESLU" and place != "O" and first is not None:
            yield first, n, kind
            first = None


IMPORTER = read_conll
