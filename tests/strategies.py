"""Documents, annotations and predictions for hypothesis: small, crowded, and rich in what goes wrong.

Spans are drawn from short texts, so that mentions repeat, nest, overlap and meet those of the other side. Texts are
English, Chinese or empty; documents may lack frames; frames may be annotated and empty.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from m3dllm.labels import Label, LabelSet, RelationLabel
from m3dllm.types import Annotation, Box, Chain, Document, Example, Frame, Mention, Prediction, Region, Relation, Video

TYPES = ("PER", "LOC", "组织")
RELATIONS = ("PER-LOC_birth", "PER-PER_couple", "属于")
SYMMETRIC = frozenset({"PER-PER_couple"})
LABELS = LabelSet(
    tuple(map(Label, TYPES)),
    tuple(RelationLabel(name, symmetric=name in SYMMETRIC) for name in RELATIONS),
    tuple(map(Label, TYPES)),
)
TEXTS = ("", "Ada met Bela in Arles .", "苏珊和丈夫去了北京。", "a", "🎬 Susan 苏珊 .")
NUMBERS = (math.nan, math.inf, -math.inf, 0.0, -0.25, 0.25, 0.5, 1.0, 1.5, 1e200)


def spans(length: int) -> st.SearchStrategy[tuple[int, int]]:
    """(start, end) in a text of `length` > 0 code points."""
    return st.tuples(st.integers(0, length - 1), st.integers(1, min(length, 4))).map(
        lambda pair: (pair[0], min(length, pair[0] + pair[1]))
    )


def mentions(length: int) -> st.SearchStrategy[Mention]:
    return st.builds(lambda span, kind: Mention(*span, kind), spans(length), st.sampled_from(TYPES))


def grid_boxes(steps: int = 8) -> st.SearchStrategy[Box]:
    """Legal boxes whose corners are multiples of 1 / `steps`: with 8, float64 has every IoU exactly."""
    side = st.lists(st.integers(0, steps), min_size=2, max_size=2, unique=True).map(sorted)
    return st.builds(lambda x, y: Box(x[0] / steps, y[0] / steps, x[1] / steps, y[1] / steps), side, side)


def boxes() -> st.SearchStrategy[Box]:
    """What a system may say: legal boxes, boxes that stick out, and boxes that are none."""
    wild = st.lists(st.sampled_from(NUMBERS), min_size=4, max_size=4).map(lambda four: Box(*four))
    return st.one_of(grid_boxes(), grid_boxes(10), wild)


def _regions(
    frames: Sequence[int], box: st.SearchStrategy[Box] | None, chains: Sequence[str], most: int
) -> st.SearchStrategy[list[Region]]:
    chain = st.sampled_from([None, *chains])
    region = st.builds(Region, st.sampled_from(frames), boxes() if box is None else box, st.sampled_from(TYPES), chain)
    return st.lists(region, max_size=most)


@st.composite
def annotations(
    draw: st.DrawFn,
    *,
    length: int = 6,
    frames: Sequence[int] = (0, 24),
    box: st.SearchStrategy[Box] | None = None,
    disjoint: bool = False,
    named: bool = False,
    most: int = 5,
) -> Annotation:
    """An annotation of a text of `length` code points and of the frames with these numbers.

    `disjoint`: no span appears twice. `named`: regions may have ids, and relations name them as they name chains.
    `box`: how boxes are drawn (None: as a system may say them).
    """
    chains = draw(st.lists(st.lists(mentions(length), min_size=1, max_size=4), max_size=most)) if length else []
    if disjoint:
        seen: set[tuple[int, int]] = set()
        kept = []
        for chain in chains:
            fresh = {m.span: m for m in chain if m.span not in seen}
            seen |= fresh.keys()
            kept += [list(fresh.values())] if fresh else []
        chains = kept
    names = [f"c{i}" for i in range(len(chains))]
    regions: list[Region] = []
    if frames and named:
        regions = [replace(r, id=f"r{i}") for i, r in enumerate(draw(_regions(frames, box, names, most)))]
        regions = [r if draw(st.integers(0, 3)) else replace(r, id=None) for r in regions]
    sides = names + [region.id for region in regions if region.id is not None]
    relations: list[tuple[str, str, str]] = []
    if len(sides) > 1:
        pair = st.lists(st.sampled_from(sides), min_size=2, max_size=2, unique=True)
        relations = draw(
            st.lists(st.builds(lambda p, t: (p[0], p[1], t), pair, st.sampled_from(RELATIONS)), max_size=most)
        )
    if frames and not named:
        regions = draw(_regions(frames, box, names, most))
    return Annotation(
        tuple(Chain(name, tuple(chain)) for name, chain in zip(names, chains, strict=True)),
        tuple(Relation(*relation) for relation in relations),
        tuple(regions),
    )


@st.composite
def documents(draw: st.DrawFn, *, name: str = "d") -> Document:
    """A document: English, Chinese or without text; with frames, some of them annotated, or without."""
    text = draw(st.sampled_from(TEXTS))
    numbers = draw(st.sampled_from([(), (0,), (24, 72), (0, 24, 345)]))
    frames = tuple(
        Frame(i, f"frames/{i}.jpg", 64, 48, draw(st.booleans()), time_s=draw(st.sampled_from((None, i / 24))))
        for i in numbers
    )
    lang = draw(st.sampled_from(("en", "zh")))
    video = draw(st.sampled_from((None, Video("videos/a.mp4"), Video("videos/a.mp4", 1.5, 9.0))))
    return Document(name, lang, text, group=draw(st.sampled_from(("", "g0", "g1"))), frames=frames, video=video)


@st.composite
def examples(draw: st.DrawFn, *, name: str = "d") -> Example:
    """A document with gold that fits it."""
    document = draw(documents(name=name))
    frames = [frame.index for frame in document.frames]
    return Example(document, draw(annotations(length=len(document.text), frames=frames, box=grid_boxes(), named=True)))


@st.composite
def scored(draw: st.DrawFn, *, most: int = 4, passes: bool = True) -> tuple[list[Example], list[Prediction]]:
    """Examples, and predictions of some of them: those of the pass with nothing given, and maybe of the others."""
    golds = [draw(examples(name=f"d{i}")) for i in range(draw(st.integers(1, most)))]
    kinds = draw(st.sampled_from([(None,), (None, "mentions"), (None, "mentions", "chains")])) if passes else (None,)
    predictions = []
    for gold in golds:
        for kind in kinds:
            if draw(st.integers(0, 9)):
                said = annotations(length=len(gold.document.text) or 3, frames=(0, 24, 72), named=True)
                predictions.append(Prediction(gold.document.id, draw(said), kind))
    return golds, predictions


@st.composite
def shuffled(draw: st.DrawFn, annotation: Annotation) -> Annotation:
    """The same annotation: everything in another order, chains and regions under other names."""
    names = [chain.id for chain in annotation.chains] + [r.id for r in annotation.regions if r.id is not None]
    new = dict(zip(names, draw(st.permutations([f"链{i}" for i in range(len(names))])), strict=True))
    chains = [Chain(new[c.id], tuple(draw(st.permutations(c.mentions)))) for c in annotation.chains]
    relations = [replace(r, head=new[r.head], tail=new[r.tail]) for r in annotation.relations]
    regions = [replace(r, chain=new.get(r.chain or ""), id=new.get(r.id or "")) for r in annotation.regions]
    return Annotation(*(tuple(draw(st.permutations(part))) for part in (chains, relations, regions)))


def json_values() -> st.SearchStrategy[Any]:
    """Any JSON value."""
    leaf = st.one_of(st.none(), st.booleans(), st.integers(-5, 500), st.floats(allow_nan=False), st.text(max_size=8))
    return st.recursive(
        leaf,
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=6), inner, max_size=4)),
        max_leaves=12,
    )
