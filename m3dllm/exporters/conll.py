"""CoNLL: one token with its BIO tag per line, a blank line between documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from m3dllm.export import File, Item, Notes, Source
from m3dllm.exporters._tokens import escaped, tokens_of
from m3dllm.tokens import joined

HOLDS = frozenset(("texts", "mentions", "tokens", "groups", "languages"))


def export(source: Source, notes: Notes) -> Iterator[File]:
    """One file per split."""
    for split, items in source.splits().items():
        yield f"{split}.conll", _lines(items, notes)


def _lines(items: Sequence[Item], notes: Notes) -> Iterator[str]:
    for item in items:
        document = item.document
        spans = tokens_of(item)
        if joined([document.text[start:end] for start, end in spans])[0] != document.text:
            notes.change("the text of a document", "white space between its tokens is not kept", document.id)
        yield f"# id = {escaped(document.id, '')}\n# lang = {document.lang}\n"
        if document.group:
            yield f"# group = {escaped(document.group, '')}\n"
        tags = {m.start: (m.end, escaped(m.type, r"\s")) for m in item.annotation.mentions}
        end, kind = 0, ""
        for start, stop in spans:
            if start in tags:
                end, kind = tags[start]
            begin = "B" if start in tags else "I"
            tag = f"{begin}-{kind}" if start < end else "O"
            yield f"{document.text[start:stop]}\t{tag}\n"
        yield "\n"
