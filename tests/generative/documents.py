"""The four small documents, with candidates for their regions: the gold boxes, and one more in each frame."""

from __future__ import annotations

from dataclasses import replace

from m3dllm.types import Annotation, Box, Prediction, Region
from m3dllm.wire import encode_prediction
from tests.supervised.documents import example as drawn
from tests.supervised.documents import four

DISTRACTOR = Box(0.02, 0.9, 0.2, 0.98)


def four_with_candidates(folder):
    """(the documents, the file of their candidates)."""
    examples = four(folder)
    return examples, candidates_of(examples, folder)


def candidates_of(examples, folder):
    """The file of the candidates of documents."""
    lines = []
    for example in examples:
        wrong = [Region(frame.index, DISTRACTOR, "PER", confidence=0.1) for frame in example.document.frames]
        found = [replace(region, chain=None, confidence=0.9) for region in example.gold.regions]
        regions = tuple(sorted((*found, *wrong), key=lambda region: region.frame))
        lines.append(encode_prediction(Prediction(example.document.id, Annotation(regions=regions))))
    path = folder / "predictions.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return str(path)


def four_short(folder):
    """Four shorter documents of the same kinds; the regions of the English one say what they show, but for one."""
    left, right = Box(0.1, 0.2, 0.35, 0.9), Box(0.5, 0.3, 0.95, 0.8)
    english = drawn(
        folder,
        "english",
        "[PER0 Ada] is a friend of [PER1 Karl] . [PER0 Byron] lives in [LOC2 London] .",
        frames=([("PER", left), ("LOC", right)], [("PER", right)], []),
    )
    person, place, stranger = english.gold.regions
    regions = (replace(person, chain="c0"), replace(place, chain="c2"), stranger)
    examples = [
        replace(english, gold=replace(english.gold, regions=regions)),
        drawn(folder, "chinese", "[PER0 苏珊]在[LOC1 北京]。", lang="zh", frames=([("LOC", left)], [("PER", right)])),
        drawn(folder, "no_text", "", frames=([("PER", left)], [("LOC", right)])),
        drawn(folder, "no_frames", "[PER0 Gauss] grew up in [LOC1 Brunswick] ."),
    ]
    return examples, candidates_of(examples, folder)
