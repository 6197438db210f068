"""Entity: typed spans, exact match."""

from __future__ import annotations

from m3dllm.kept import kept
from m3dllm.score.metric import Metric
from m3dllm.types import PRF, Annotation

TypedSpan = tuple[int, int, str]
"""(start, end, type) of a mention."""


@kept
def typed_spans(annotation: Annotation) -> frozenset[TypedSpan]:
    """The set of typed spans: repeated mentions collapse; one span may have several types."""
    return frozenset([(m.start, m.end, m.type) for chain in annotation.chains for m in chain.mentions])


def entity(gold: Annotation, pred: Annotation) -> PRF:
    """P = |G ∩ P| ÷ |P|, R = |G ∩ P| ÷ |G|, over the typed spans of each side."""
    of_gold, of_pred = typed_spans(gold), typed_spans(pred)
    tp = len(of_gold & of_pred)
    return PRF(tp, len(of_pred), tp, len(of_gold))


METRICS = (Metric("entity", "entity", lambda sides: entity(sides.gold, sides.pred), headline=True),)
