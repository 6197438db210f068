"""The confidence of each part of a prediction, predictions above a threshold, and predictions without confidences.

A confidence is the probability, from 0 to 1, that a system gives to a part of what it predicts:

- of a mention: that exactly this span is a mention of this type;
- of a chain link (`Mention.link`): that the mention is of one entity with those before it in its chain, which in an
  document order are its antecedents. The first mention of a chain has none: a chain of n mentions has n − 1 links, as
  in MUC (Vilain et al. 1995);
- of a relation: that it holds between its two sides, these taken as they are;
- of a region: that there is one of this type, where the system draws its box.

A part without a confidence is kept at every threshold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import count

from m3dllm.types import Annotation, Chain, Mention, Region, Relation


def rounded(probability: float) -> float:
    """A probability as systems write it; further digits are numerical noise."""
    return round(min(max(probability, 0.0), 1.0), 4)


def confidences_of(part: Mention | Relation | Region) -> dict[str, float]:
    """The confidences that a part has, by name: `confidence`, and of a mention also `link`."""
    named = {"confidence": part.confidence, "link": part.link if isinstance(part, Mention) else None}
    return {name: value for name, value in named.items() if value is not None}


def confidences(annotation: Annotation) -> Iterator[float]:
    """Every confidence in the annotation."""
    for chain in annotation.chains:
        for mention in chain.mentions:
            if mention.confidence is not None:
                yield mention.confidence
            if mention.link is not None:
                yield mention.link
    parts: tuple[Relation | Region, ...] = (*annotation.relations, *annotation.regions)
    yield from (part.confidence for part in parts if part.confidence is not None)


def has_confidences(annotation: Annotation) -> bool:
    """Whether the annotation has any confidence."""
    return next(confidences(annotation), None) is not None


def lack_confidences(annotations: Iterable[Annotation]) -> bool:
    """Whether something is annotated and none of it has a confidence: a threshold would change nothing."""
    anything = False
    for annotation in annotations:
        if has_confidences(annotation):
            return False
        anything |= annotation != Annotation()
    return anything


def without_confidences(annotation: Annotation) -> Annotation:
    """The annotation without confidences, as gold is."""
    if not has_confidences(annotation):
        return annotation
    return replace(
        annotation,
        chains=tuple(replace(c, mentions=tuple(map(_bare, c.mentions))) for c in annotation.chains),
        relations=tuple(replace(relation, confidence=None) for relation in annotation.relations),
        regions=tuple(replace(region, confidence=None) for region in annotation.regions),
    )


def _bare(mention: Mention) -> Mention:
    return replace(mention, confidence=None, link=None)


def at_least(annotation: Annotation, threshold: float) -> Annotation:
    """The parts of a prediction whose confidence is at least the threshold (or unknown).

    A mention, relation or region below the threshold is removed; a chain is removed with its last mention, and with it
    its relations and the regions' links to it; a region is removed with its relations. A mention whose link is below
    the threshold becomes a chain of one; the chain's first mention keeps the chain's id, relations and regions.
    """
    if all(sure >= threshold for sure in confidences(annotation)):
        return annotation
    taken = {chain.id for chain in annotation.chains} | {region.id for region in annotation.regions}
    chains: list[Chain] = []
    for chain in annotation.chains:
        mentions = [m for m in chain.mentions if _sure(m.confidence, threshold)]
        if not mentions:
            continue
        together = [m for i, m in enumerate(mentions) if i == 0 or _sure(m.link, threshold)]
        alone = [m for i, m in enumerate(mentions) if i > 0 and not _sure(m.link, threshold)]
        first = replace(together[0], link=None)  # its antecedent may be removed
        chains.append(Chain(chain.id, (first, *together[1:])))
        names = (name for n in count(1) if (name := f"{chain.id}.{n}") not in taken)
        chains += [Chain(name, (replace(mention, link=None),)) for mention, name in zip(alone, names, strict=False)]
    return Annotation.pruned(
        chains,
        (relation for relation in annotation.relations if _sure(relation.confidence, threshold)),
        (region for region in annotation.regions if _sure(region.confidence, threshold)),
    )


def _sure(confidence: float | None, threshold: float) -> bool:
    return confidence is None or confidence >= threshold
