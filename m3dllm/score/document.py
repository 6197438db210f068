"""All counts of one document: which metric belongs to which task, and under which name it is reported."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from m3dllm.score.chain import Partition, b3, ceaf_e, ceaf_m, muc, partition, without_singletons
from m3dllm.score.entity import entity
from m3dllm.score.grounding import grounding
from m3dllm.score.relation import relation, relation_any_match, relation_exact_chains, relation_undirected
from m3dllm.score.released import released_chain, released_relation
from m3dllm.score.settings import Settings
from m3dllm.score.triple import triple
from m3dllm.types import PRF, Annotation, Task

Counts = dict[str, PRF]
"""Counts by their reported names, such as "entity" or "chain.muc"."""


def count(
    gold: Annotation,
    preds: Mapping[Task, Annotation],
    *,
    frames: Collection[int] | None = None,
    symmetric: Collection[str] = (),
    settings: Settings | None = None,
) -> Counts:
    """The counts of the tasks in `preds`, which holds the prediction that answers each of them.

    `frames` are the annotated frames (None: all), `symmetric` the relation types that are compared unordered.
    """
    settings = settings or Settings()
    counts: Counts = {}
    if "entity" in preds:
        counts["entity"] = entity(gold, preds["entity"])
    if "chain" in preds:
        counts |= _chain(gold, preds["chain"], settings)
    if "relation" in preds:
        counts |= _relation(gold, preds["relation"], symmetric, settings)
    if "grounding" in preds:
        counts["grounding"] = grounding(gold, preds["grounding"], frames=frames)
        for threshold in settings.thresholds:
            name = f"grounding.iou_{threshold:.12g}"
            counts[name] = grounding(gold, preds["grounding"], frames=frames, threshold=threshold)
    if "triple" in settings.variants and "entity" in preds and "grounding" in preds:
        counts["triple"] = triple(gold, preds["entity"], frames=frames)
    return counts


def _chain(gold: Annotation, pred: Annotation, settings: Settings) -> Counts:
    wanted, said = partition(gold), partition(pred)
    counts = _named("chain", _muc_b3_ceaf_e(wanted, said)) | {"chain.ceaf_m": ceaf_m(wanted, said)}
    if "no_singletons" in settings.variants:
        larger = _muc_b3_ceaf_e(without_singletons(wanted), without_singletons(said))
        counts |= _named("chain.no_singletons", larger)
    if "released" in settings.variants:
        counts |= _named("chain.released", released_chain(gold, pred))
    return counts


def _muc_b3_ceaf_e(gold: Partition, pred: Partition) -> Counts:
    return {"muc": muc(gold, pred), "b3": b3(gold, pred), "ceaf_e": ceaf_e(gold, pred)}


def _named(prefix: str, counts: Counts) -> Counts:
    return {f"{prefix}.{name}": value for name, value in counts.items()}


def _relation(gold: Annotation, pred: Annotation, symmetric: Collection[str], settings: Settings) -> Counts:
    counts = {"relation": relation(gold, pred, symmetric=symmetric)}
    if "any_match" in settings.variants:
        counts["relation.any_match"] = relation_any_match(gold, pred, symmetric=symmetric)
    if "undirected" in settings.variants:
        counts["relation.undirected"] = relation_undirected(gold, pred)
    if "exact_chains" in settings.variants:
        counts["relation.exact_chains"] = relation_exact_chains(gold, pred, symmetric=symmetric)
    if "released" in settings.variants:
        counts["relation.released"] = released_relation(gold, pred)
    return counts
