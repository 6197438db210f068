"""Texts with their mentions in brackets: `[PER Ada] met [PER Bo] .`, one document a line."""

import re
from pathlib import Path

from m3dllm.corpora.imported import Imported
from m3dllm.labels import LabelSet
from m3dllm.types import Annotation, Chain, Document, Example, Mention

MARK = re.compile(r"\[(\w+) ([^\[\]]+)\]")


def read_brackets(path: Path, *, split: str = "train") -> Imported:
    """The lines of the file as English documents. Nobody says which mentions are of one entity, or how they relate.

    - `split`: the split to write.
    """
    imported = Imported(LabelSet())
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        text, mentions, last = "", [], 0
        for mark in MARK.finditer(line):
            text += line[last : mark.start()]
            mentions.append(Mention(len(text), len(text) + len(mark[2]), mark[1]))
            text, last = text + mark[2], mark.end()
        if not mentions:
            imported.leave_out("document", "it has no mention", f"{path.name}:{number}")
            continue
        gold = Annotation(tuple(Chain(f"c{i}", (mention,)) for i, mention in enumerate(mentions)))
        document = Document(f"{path.stem}-{number}", "en", text + line[last:])
        example = Example(document, gold, unannotated=frozenset(("chain", "relation")))
        imported.add(split, example)
    imported.labels = imported.types()
    return imported.require_documents(path)


IMPORTER = read_brackets
