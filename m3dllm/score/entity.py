"""Entity: typed spans, exactly right."""

from __future__ import annotations

from m3dllm.score.metric import Metric
from m3dllm.types import PRF, Annotation, Mention


def typed_spans(annotation: Annotation) -> frozenset[Mention]:
    """The set of (start, end, type): mentions that stand twice collapse, one span may have several types."""
    return frozenset(annotation.mentions)


def entity(gold: Annotation, pred: Annotation) -> PRF:
    """P = |G ∩ P| ÷ |P|, R = |G ∩ P| ÷ |G|, over the typed spans of each side."""
    wanted, said = typed_spans(gold), typed_spans(pred)
    hits = len(wanted & said)
    return PRF(hits, len(said), hits, len(wanted))


METRICS = (Metric("entity", "entity", lambda sides: entity(sides.gold, sides.pred), headline=True),)
