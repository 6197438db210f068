"""How sure a system is of each part of a prediction, what is left above a threshold, and predictions without it.

A confidence is the probability, from 0 to 1, that a system gives to a part of what it predicts:

- of a mention: that exactly this span is a mention of this type;
- of a chain link (`Mention.link`): that the mention is of one entity with those before it in its chain, which in an
  order of text are its antecedents. The first mention of a chain has none: a chain of n mentions has n − 1 links, as
  in MUC (Vilain et al. 1995);
- of a relation: that it holds between its two chains, these taken as they are;
- of a region: that there is one of this type, where the system draws its box.

Where a system says none, nothing is assumed: a part without a confidence is kept at every threshold.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count

from m3dllm.types import Annotation, Chain, Mention, Region, Relation


def rounded(probability: float) -> float:
    """A probability as systems write it; what lies further behind is noise of the arithmetic."""
    return round(min(max(probability, 0.0), 1.0), 4)


def confidences_of(part: Mention | Relation | Region) -> dict[str, float]:
    """The confidences of a part that has some, by their names: `confidence`, of a mention also `link`."""
    named = {"confidence": part.confidence, "link": part.link if isinstance(part, Mention) else None}
    return {name: value for name, value in named.items() if value is not None}


def confidences(annotation: Annotation) -> Iterator[float]:
    """Every confidence in it."""
    for chain in annotation.chains:
        for mention in chain.mentions:
            if mention.confidence is not None:
                yield mention.confidence
            if mention.link is not None:
                yield mention.link
    parts: tuple[Relation | Region, ...] = (*annotation.relations, *annotation.regions)
    yield from (part.confidence for part in parts if part.confidence is not None)


def has_confidences(annotation: Annotation) -> bool:
    """Whether there are any."""
    return next(confidences(annotation), None) is not None


def without_confidences(annotation: Annotation) -> Annotation:
    """The same, as gold has it: without any confidence."""
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
    """What of a prediction is at least that sure.

    A mention, relation or region below the threshold goes, a chain with its last mention, and with it its relations
    and the regions' ties to it. A mention whose link is below it leaves its chain, as a chain of one; the chain's first
    mention keeps its id, and with it relations and regions.
    """
    if all(sure >= threshold for sure in confidences(annotation)):
        return annotation
    taken = {chain.id for chain in annotation.chains}
    chains: list[Chain] = []
    kept: set[str] = set()
    for chain in annotation.chains:
        mentions = [m for m in chain.mentions if _sure(m.confidence, threshold)]
        if not mentions:
            continue
        together = [m for i, m in enumerate(mentions) if i == 0 or _sure(m.link, threshold)]
        alone = [m for i, m in enumerate(mentions) if i > 0 and not _sure(m.link, threshold)]
        first = replace(together[0], link=None)  # what it was linked to may be gone
        chains.append(Chain(chain.id, (first, *together[1:])))
        kept.add(chain.id)
        names = (name for n in count(1) if (name := f"{chain.id}.{n}") not in taken)
        chains += [Chain(name, (replace(mention, link=None),)) for mention, name in zip(alone, names, strict=False)]
    return replace(
        annotation,
        chains=tuple(chains),
        relations=tuple(r for r in annotation.relations if _sure(r.confidence, threshold) and {r.head, r.tail} <= kept),
        regions=tuple(
            replace(r, chain=r.chain if r.chain in kept else None)
            for r in annotation.regions
            if _sure(r.confidence, threshold)
        ),
    )


def _sure(confidence: float | None, threshold: float) -> bool:
    return confidence is None or confidence >= threshold
