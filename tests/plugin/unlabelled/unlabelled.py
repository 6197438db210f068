"""Relations without types: pairs of mentions whose chains have any relation."""

from m3dllm.score import Metric
from m3dllm.types import PRF


def pairs(annotation):
    """The unordered pairs of spans of two related chains."""
    spans = {chain.id: chain.spans for chain in annotation.chains}
    return {frozenset((h, t)) for r in annotation.between_chains for h in spans[r.head] for t in spans[r.tail]}


def unlabelled(sides):
    gold, pred = sides.both(pairs)
    tp = len(gold & pred)
    return PRF(tp, len(pred), tp, len(gold))


METRIC = Metric("relation.unlabelled", "relation", unlabelled, headline=True)
