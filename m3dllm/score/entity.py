"""Entity: typed spans, exact match."""

from __future__ import annotations

from m3dllm.score.metric import Metric
from m3dllm.types import PRF, Annotation, Mention


def typed_spans(annotation: Annotation) -> frozenset[Mention]:
    """The set of (start, end, type): mentions that stand twice collapse, one span may have several types."""
    return frozenset(annotation.mentions)


def entity(gold: Annotation, pred: Annotation) -> PRF:
    """P = |G ∩ P| ÷ |P|, R = |G ∩ P| ÷ |G|, over the typed spans of each side."""
    of_gold, of_pred = ({(m.start, m.end, m.type) for m in side.mentions} for side in (gold, pred))
    tp = len(of_gold & of_pred)
    return PRF(tp, len(of_pred), tp, len(of_gold))


METRICS = (Metric("entity", "entity", lambda sides: entity(sides.gold, sides.pred), headline=True),)
