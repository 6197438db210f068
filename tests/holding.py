"""A small corpus in which entities of the text are related to regions of frames, and answers about it."""

from __future__ import annotations

from pathlib import Path

from m3dllm import pipeline
from m3dllm.corpora.imported import Imported
from m3dllm.corpora.native import write_corpus
from m3dllm.experiment import Experiment
from m3dllm.labels import Label, LabelSet, RelationLabel
from m3dllm.runs import Run
from m3dllm.types import Annotation, Box, Document, Example, Frame, Region, Relation
from m3dllm.wire import encode_example, lines
from tests.small import annotated, png

LABELS = LabelSet(
    (Label("PER", "person", "人物"),),
    (
        RelationLabel("holds", "holds in a hand", "手持", ("PER",), ("cup",)),
        RelationLabel("couple", "couple", "夫妻", ("PER",), ("PER",), symmetric=True),
    ),
    (Label("PER", "person", "人物"), Label("cup", "cup", "杯子")),
)
CUP = Box(0.5, 0.5, 0.75, 1.0)


def holding(name: str, marked: str, lang: str = "en", *, cup: Box = CUP) -> Example:
    """c0, who is shown, holds a cup and is a couple with c1; nobody holds the second cup. Frame 24 is not annotated."""
    text, chains = annotated(marked)
    frames = tuple(Frame(24 * i, f"frames/{name}/{24 * i}.png", 64, 48, annotated=not i) for i in range(2))
    regions = (
        Region(0, Box(0.0, 0.0, 0.5, 1.0), "PER", "c0"),
        Region(0, cup, "cup", id="r0"),
        Region(0, Box(0.75, 0.0, 1.0, 0.25), "cup", id="r1"),
    )
    relations = (Relation("c0", "r0", "holds"), Relation("c0", "c1", "couple"))
    return Example(Document(name, lang, text, frames=frames), Annotation(chains, relations, regions))


EXAMPLES = (
    holding("en-1", "[PER0 Ada] and [PER1 Bo] . [PER0 She] drinks ."),
    holding("zh-1", "[PER0 苏珊]和[PER1 乔治]。", "zh"),
    Example(Document("nothing", "en", ""), Annotation()),
)
ELSEWHERE = (
    holding("en-1", "[PER0 Ada] and [PER1 Bo] . [PER0 She] drinks .", cup=Box(0.0, 0.0, 0.1, 0.1)),
    *EXAMPLES[1:],
)
"""The same with the cup of en-1 at a place where there is none."""


def corpus(folder: Path) -> Path:
    imported = Imported(LABELS)
    imported.splits["test"] = list(EXAMPLES)
    imported.images |= {frame.path: png() for example in EXAMPLES for frame in example.document.frames}
    write_corpus(folder, imported)
    return folder


def said(root: Path, examples: tuple[Example, ...], out: Path, **more: object) -> Run:
    """A run that says the gold of these examples about the corpus at `root`."""
    answers = out.with_suffix(".jsonl")
    answers.write_bytes(lines(map(encode_example, examples)))
    experiment = Experiment(system="replay", corpus=root, out=out, options={"answers": str(answers)}, **more)  # type: ignore[arg-type]
    return pipeline.run(experiment)
