"""What the exporters' tests export: documents whose every part is in sight."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from m3dllm.export import EXPORTERS, Item, Notes, Source, held_by
from m3dllm.types import Annotation, Box, Chain, Document, Example, Frame, Mention, Region, Relation, Segment
from tests.strategies import LABELS

ADA = Example(
    Document(
        "ada",
        "en",
        "Ada was born in Arles . She wrote .",
        title="Ada's life",
        group="film",
        segments=(Segment(0, 23, 1.0, 3.5), Segment(24, 35, 4.0, 5.0)),
        frames=(Frame(24, "/clips/24.jpg", 64, 48, annotated=True), Frame(48, "/clips/48.jpg", 64, 48)),
    ),
    Annotation(
        (
            Chain("a", (Mention(0, 3, "PER"), Mention(24, 27, "PER"))),
            Chain("b", (Mention(16, 21, "LOC"),)),
        ),
        (Relation("a", "b", "PER-LOC_birth"),),
        (Region(24, Box(0.25, 0.25, 0.5, 0.75), "PER", "a"), Region(24, Box(0.0, 0.0, 1.0, 0.5), "LOC")),
    ),
)
"""Text with times, two frames, two entities, a relation, a region of an entity, and one of none."""
SUSAN = Example(
    Document("苏珊", "zh", "苏珊去了北京。"),
    Annotation((Chain("c0", (Mention(0, 2, "PER"),)), Chain("c1", (Mention(4, 6, "LOC"),)))),
)
EMPTY = Example(Document("empty", "en", ""), Annotation())


def source(*examples: Example, split: str = "train") -> Source:
    items = tuple(Item(split, one.document, one.gold, one.unannotated) for one in examples or (ADA, SUSAN, EMPTY))
    return Source("corpus", LABELS, items, {"what": "gold", "corpus": "corpus", "exporter": "m3dllm"})


def exported(name: str, *examples: Example, **options: Any) -> dict[str, str]:
    """path -> text of the files that the exporter writes."""
    return files_of(name, source(*examples), Notes(), **options)


def files_of(name: str, what: Source, notes: Notes, **options: Any) -> dict[str, Any]:
    exporter = EXPORTERS.find(name)
    held = held_by(exporter.HOLDS, what, notes)
    written = exporter.export(held, notes, **options)
    return {path: content if isinstance(content, (str, bytes)) else _whole(content) for path, content in written}


def _whole(content: Any) -> Any:
    return "".join(content) if isinstance(content, Iterable) else content
