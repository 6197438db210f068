"""Gold as answers, as far as the grammars can express it, for few-shot examples and tuning.

What cannot be expressed is skipped: mentions that begin or end inside a token or are too long, items beyond the bounds
of an answer, relations of a chain with itself or with a region, regions of frames that the model does not get.
`conversations.ceiling` measures the loss.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, product
from typing import Any

from m3dllm.answers import Occurrences, Span
from m3dllm.systems.videollm.context import PromptContext
from m3dllm.systems.videollm.grammar import CELLS, mention_chunks
from m3dllm.systems.videollm.groups import Group
from m3dllm.tokens import tokenize
from m3dllm.types import Annotation, Box, Chain, Region


class Gold:
    """The gold of a document in a prompt: `annotation`, with its chains named c0, c1 and so on.

    The `target` of each stage writes its answer from it.
    """

    def __init__(self, context: PromptContext, gold: Annotation, *, box_step: int = 1) -> None:
        """`box_step`: boxes are rounded to multiples of this many units of the last digit."""
        self.context, self.box_step = context, box_step
        self.annotation = named(_expressible(context, gold))

    def groups(self, groups: Sequence[Group]) -> dict[str, Group]:
        """gold chain -> the group with most of its mentions."""
        owner = {mention.span: chain.id for chain in self.annotation.chains for mention in chain.mentions}
        shares = Counter(
            (owner[mention.span], i)
            for i, group in enumerate(groups)
            for mention in group.mentions
            if mention.span in owner
        )
        best: dict[str, int] = {}
        for (chain, i), n in shares.items():
            if chain not in best or n > shares[chain, best[chain]]:
                best[chain] = i
        return {chain: groups[i] for chain, i in best.items()}

    def regions(self) -> list[tuple[Region, str]]:
        """(region, its box as written) in the frames of the prompt, by frame and from left to right."""
        visible, most = self.context.visible, self.context.bounds.regions
        order = {frame: i for i, frame in enumerate(visible.sizes)}
        here = [region for region in self.annotation.regions if region.frame in order]
        here.sort(key=lambda region: (order[region.frame], region.box))
        return [(region, written_box(region.box, region.frame, self.context, step=self.box_step)) for region in here][
            : most * len(order)
        ]


def written_box(box: Box, frame: int, context: PromptContext, *, step: int = 1) -> str:
    """A box in the model's convention: the inverse of how `normalize` reads it.

    If the grammar distinguishes the two edges only by tens, a very narrow box is widened.
    """
    visible = context.visible
    convention, size = visible.convention, visible.sizes[frame]
    form = convention.form({frame: size})
    units, (left, top) = form.sizes[frame], form.offsets.get(frame, (0.0, 0.0))
    scale = 10**convention.decimals
    sides = []
    for low, high, unit, offset, limit in (
        (box.x0, box.x1, units[0], left, convention.limits(size)[0]),
        (box.y0, box.y1, units[1], top, convention.limits(size)[1]),
    ):
        exact = ((edge * unit + offset) * scale for edge in (low, high))
        a, b = (min(limit, max(0, step * round(number / step))) for number in exact)
        sides.append(_apart(a, b, limit))
    (x0, x1), (y0, y1) = sides
    numbers = (x0, y0, x1, y1) if convention.order == "xyxy" else (y0, x0, y1, x1)
    if not convention.decimals:
        return _json(list(numbers))
    return "[" + ",".join(f"{number / scale:.{convention.decimals}f}" for number in numbers) + "]"


def _apart(low: int, high: int, limit: int) -> tuple[int, int]:
    """The two edges, moved as little as needed into different cells of the grammar."""
    cell = 10 if limit >= CELLS else 1
    last = limit // cell * cell  # the upper edge may be here or above, the lower one must be below
    low = min(low, last - 1)
    return low, max(high, (low // cell + 1) * cell)


def _expressible(context: PromptContext, gold: Annotation) -> Annotation:
    """The gold of what is in the prompt, without what the grammars cannot express."""
    document, labels, bounds = context.document, context.labels, context.bounds
    edges = _edges(context)
    occurrences = Occurrences(document)
    seen: set[Span] = set()
    chains = []
    for chain in gold.chains if context.has_text else ():
        mentions = []
        for mention in sorted(chain.mentions):
            text = document.text[mention.start : mention.end]
            whole = set(mention.span) <= edges and text == text.strip() and occurrences.aligned(mention.span)
            if whole and len(text) <= bounds.characters and mention.span not in seen:
                seen.add(mention.span)
                mentions.append(replace(mention, type=chain.type))
        if mentions and chain.type in labels.names("mentions"):
            chains.append(Chain(chain.id, tuple(mentions)))
    chains = sorted(chains, key=lambda chain: chain.mentions[0])[: bounds.chains]
    kept = {chain.id for chain in chains}
    relations = [r for r in gold.relations if {r.head, r.tail} <= kept and r.head != r.tail]
    types = {kind: labels.names(kind) for kind in ("relations", "regions")}
    return Annotation(
        tuple(chains),
        tuple(r for r in dict.fromkeys(relations) if r.type in types["relations"]),
        tuple(
            replace(region, chain=region.chain if region.chain in kept else None, id=None)
            for region in gold.regions
            if region.type in types["regions"]
        ),
    )


def _edges(context: PromptContext) -> set[int]:
    """Where a mention may begin or end."""
    tokens = tokenize(context.document)
    if not tokens:
        return set()
    first = min(start for start, _ in tokens)
    return set(accumulate(map(len, mention_chunks(context.document)), initial=first))


def named(gold: Annotation) -> Annotation:
    """The chains, in order, named c0, c1, and so on.

    Relations are in reading order: by the first place where their two chains are mentioned closest to each other.
    """
    names = {chain.id: f"c{i}" for i, chain in enumerate(gold.chains)}
    order = {chain.id: i for i, chain in enumerate(gold.chains)}
    chains = {chain.id: chain for chain in gold.chains}
    related = sorted(
        gold.relations,
        key=lambda r: (_meeting(chains[r.head], chains[r.tail]), order[r.head], order[r.tail], r.type),
    )
    return Annotation(
        tuple(replace(chain, id=names[chain.id]) for chain in gold.chains),
        tuple(replace(r, head=names[r.head], tail=names[r.tail]) for r in related),
        tuple(replace(region, chain=names.get(region.chain or "")) for region in gold.regions),
    )


def _meeting(one: Chain, other: Chain) -> tuple[int, int]:
    """(end of the later, end of the earlier) of the two closest mentions, one of each chain."""
    pairs = (
        sorted((a.span, b.span), key=lambda span: (span[1], span[0])) for a, b in product(one.mentions, other.mentions)
    )
    _, end, before = min((late[0] - early[1], late[1], early[1]) for early, late in pairs)
    return end, before


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
