"""A corpus of five documents with their data in sight, and answers about it that are wrong in known ways."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from m3dllm import pipeline
from m3dllm.corpora.imported import Imported
from m3dllm.corpora.native import write_corpus
from m3dllm.experiment import Experiment
from m3dllm.labels import LabelSet
from m3dllm.runs import Run
from m3dllm.types import Annotation, Box, Chain, Document, Example, Frame, Mention, Region, Relation, Segment
from tests.small import LABELS, png

EN = "Ada King met Bela in Arles . Ada liked Arles ."
ZH = "苏珊出生在北京。"


def mention(text: str, words: str, kind: str, nth: int = 0) -> Mention:
    """The `nth` place where `words` stand in `text`."""
    at = -1
    for _ in range(nth + 1):
        at = text.index(words, at + 1)
    return Mention(at, at + len(words), kind)


def frames(name: str, n: int = 2) -> tuple[Frame, ...]:
    return tuple(Frame(24 * i, f"frames/{name}/{24 * i}.png", 64, 48, annotated=True) for i in range(n))


def english() -> Example:
    """Ada (2 mentions, in frame 0), Bela, Arles (2 mentions); Ada was born in Arles and is a couple with Bela."""
    gold = Annotation(
        (
            Chain("ada", (mention(EN, "Ada King", "PER"), mention(EN, "Ada", "PER", 1))),
            Chain("bela", (mention(EN, "Bela", "PER"),)),
            Chain("arles", (mention(EN, "Arles", "LOC"), mention(EN, "Arles", "LOC", 1))),
        ),
        (Relation("ada", "arles", "PER-LOC_birth"), Relation("ada", "bela", "PER-PER_couple")),
        (Region(0, Box(0.25, 0.25, 0.5, 0.75), "PER", "ada"), Region(24, Box(0.5, 0.25, 0.75, 0.75), "PER", "bela")),
    )
    segments = (Segment(0, 28, 4.0, 9.5), Segment(29, len(EN), 65.0, 70.0))
    return Example(Document("en-1", "en", EN, "Ada in Arles", "clip", segments=segments, frames=frames("en-1")), gold)


def chinese() -> Example:
    gold = Annotation(
        (Chain("a", (mention(ZH, "苏珊", "PER"),)), Chain("b", (mention(ZH, "北京", "LOC"),))),
        (Relation("a", "b", "PER-LOC_birth"),),
    )
    return Example(Document("zh-1", "zh", ZH, "苏珊", frames=frames("zh-1", 1)), gold)


def bare(name: str, *, text: str = "", n: int = 0) -> Example:
    return Example(Document(name, "en", text, frames=frames(name, n)), Annotation())


EXAMPLES = (english(), chinese(), bare("no-text", n=1), bare("no-frames", text="Nobody came ."), bare("nothing"))

ANSWER = Annotation(
    (
        Chain("x", (mention(EN, "Ada King", "PER"),)),  # Ada lacks a mention
        Chain("y", (mention(EN, "Bela", "LOC"),)),  # wrong type
        Chain("z", (mention(EN, "Arles", "LOC"), mention(EN, "Arles", "LOC", 1))),  # right
        Chain("w", (mention(EN, "King", "PER"),)),  # spurious, inside "Ada King"
    ),
    (Relation("x", "y", "PER-LOC_birth"), Relation("x", "z", "PER-LOC_birth"), Relation("w", "z", "PER-LOC_birth")),
    (Region(0, Box(0.25, 0.25, 0.5, 0.75), "PER", "x"), Region(24, Box(0, 0, 0.1, 0.1), "PER")),
)
"""What `wrong` says of en-1; of the others it says nothing."""


def corpus(
    folder: Path,
    examples: tuple[Example, ...] = EXAMPLES,
    labels: LabelSet = LABELS,
    videos: dict[str, Path] | None = None,
) -> Path:
    imported = Imported(labels, videos=videos or {})
    imported.splits["test"] = list(examples)
    imported.images |= {frame.path: png() for example in examples for frame in example.document.frames}
    write_corpus(folder, imported, videos="copy")
    return folder


def replay(root: Path, answers: Path | list[dict[str, Any]], out: Path, **more: Any) -> Run:
    """A run that says what a file says, or what the given prediction lines say."""
    if isinstance(answers, list):
        file = out.with_suffix(".jsonl")
        file.write_text("".join(json.dumps(line) + "\n" for line in answers))
        answers = file
    return pipeline.run(Experiment(system="replay", corpus=root, out=out, options={"answers": str(answers)}, **more))


def wrong_lines() -> list[dict[str, Any]]:
    from m3dllm.wire import decode, encode

    said = {"en-1": ANSWER}
    return [
        decode(encode({"document": e.document.id, "annotation": said.get(e.document.id, Annotation())}), dict[str, Any])
        for e in EXAMPLES
    ]
