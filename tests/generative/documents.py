"""The four small documents, with candidates for their regions: the gold boxes, and one more in each frame."""

from __future__ import annotations

from dataclasses import replace

from m3dllm.types import Annotation, Box, Prediction, Region
from m3dllm.wire import encode_prediction
from tests.supervised.documents import four

DISTRACTOR = Box(0.02, 0.9, 0.2, 0.98)


def four_with_candidates(folder):
    """(the documents, the file of their candidates)."""
    examples = four(folder)
    lines = []
    for example in examples:
        wrong = [Region(frame.index, DISTRACTOR, "PER", confidence=0.1) for frame in example.document.frames]
        found = [replace(region, chain=None, confidence=0.9) for region in example.gold.regions]
        regions = tuple(sorted((*found, *wrong), key=lambda region: region.frame))
        lines.append(encode_prediction(Prediction(example.document.id, Annotation(regions=regions))))
    path = folder / "predictions.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return examples, str(path)
