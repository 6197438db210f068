"""The values that pass between the packages: documents, annotations, answers, predictions, counts.

All are frozen and checked when they are made (`ValueError` gives the problem), and not checked again.
Gold and prediction are the same type. Nothing here reads or writes files.

Conventions, stated once:

- text: `start` and `end` are code points of `Document.text`, half open: `text[start:end]` is the mention.
- box: fractions of the frame, `x0 y0 x1 y1`, origin top left. Gold boxes are legal (`Box.is_legal`); a prediction keeps
  what the system predicted, and the scorer counts it as wrong.
- frame: the frame's own number in the clip, as the gold uses it, never a position in a list.
- time: seconds, in names that end in `_s`; pixels end in `_px`.
- ids of chains and regions are local names, unique among both: renaming them changes no score.
- confidence: a probability, 0 to 1, None if unknown; gold has none. `confidence` defines it. It does not count in
  comparisons: two mentions, relations or regions are equal whatever their confidences.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import starmap
from operator import itemgetter, lt
from typing import Any, Literal, NamedTuple

Lang = Literal["en", "zh"]
GivenKind = Literal["mentions", "chains"]
Subset = Literal["full", "no_text", "no_video"]
Task = Literal["entity", "chain", "relation", "grounding"]
TASKS: tuple[Task, ...] = ("entity", "chain", "relation", "grounding")


class Box(NamedTuple):
    """A rectangle as fractions of the frame; origin top left. May be illegal in a prediction."""

    x0: float
    y0: float
    x1: float
    y1: float

    @classmethod
    def from_cxcywh(cls, cx: float, cy: float, width: float, height: float) -> Box:
        """From a centre and a size, all fractions (the YOLO order of the M3D files)."""
        return cls(cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2)

    @classmethod
    def from_corners(cls, xa: float, ya: float, xb: float, yb: float, *, size: tuple[float, float] = (1, 1)) -> Box:
        """From two opposite corners in any order, in a frame of `size` (width, height) in the same units (LabelMe)."""
        width, height = size
        return cls(min(xa, xb) / width, min(ya, yb) / height, max(xa, xb) / width, max(ya, yb) / height)

    @property
    def has_area(self) -> bool:
        """Whether all coordinates are finite, and width and height are positive."""
        return all(map(math.isfinite, self)) and self.x0 < self.x1 and self.y0 < self.y1

    @property
    def is_legal(self) -> bool:
        """Whether the box has an area and lies inside the frame."""
        return self.has_area and self.x0 >= 0 and self.y0 >= 0 and self.x1 <= 1 and self.y1 <= 1


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of the text with its time, in seconds; both half open."""

    start: int
    end: int
    start_s: float
    end_s: float

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end:
            raise ValueError(f"segment runs backwards in the text: {self.start} to {self.end}")
        if not 0 <= self.start_s <= self.end_s:
            raise ValueError(f"segment runs backwards in time: {self.start_s} s to {self.end_s} s")


@dataclass(frozen=True, slots=True)
class Frame:
    """One still of the clip.

    `index` is the frame's own number in the clip; `path` is relative to the corpus in files and absolute once loaded;
    `annotated`: whether regions were annotated in it; grounding is scored only on these frames, which may be empty.
    `sha256` is that of the image file, "" if not computed. `time_s` is its time in the clip, None if unknown.
    """

    index: int
    path: str
    width_px: int
    height_px: int
    annotated: bool = False
    sha256: str = ""
    time_s: float | None = None

    def __post_init__(self) -> None:
        if self.index < 0:
            raise ValueError(f"frame index {self.index} is negative")
        if self.time_s is not None and not 0 <= self.time_s < math.inf:
            raise ValueError(f"frame {self.index} is shown at {self.time_s} s")
        if self.width_px <= 0 or self.height_px <= 0:
            raise ValueError(f"frame of {self.width_px} x {self.height_px} pixels")

    def at_s(self, fps: float) -> float | None:
        """Its time in the clip, in seconds: as noted, else its number / `fps`; None if `fps` is 0."""
        if self.time_s is not None:
            return self.time_s
        return self.index / fps if fps > 0 else None


@dataclass(frozen=True, slots=True)
class Video:
    """The part of a video that a document covers, in seconds of the video; `end_s` None: to its end.

    `path` is relative to the corpus, also once loaded, and the file may be missing: it is only played beside the
    document, whose segments and frames also count their seconds from the beginning of the video.
    """

    path: str
    start_s: float = 0.0
    end_s: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.start_s < math.inf or (self.end_s is not None and not self.start_s <= self.end_s < math.inf):
            raise ValueError(f"the stretch of the video runs backwards: {self.start_s} s to {self.end_s} s")


@dataclass(frozen=True, slots=True, order=True)
class Mention:
    """A typed span of the text; `link` is the confidence that it belongs to the mentions before it in its chain."""

    start: int
    end: int
    type: str
    confidence: float | None = field(default=None, compare=False)
    link: float | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise ValueError(f"mention runs backwards or is empty: {self.start} to {self.end}")
        if self.confidence is not None or self.link is not None:
            _check_confidence(self.confidence)
            _check_confidence(self.link)

    @property
    def span(self) -> tuple[int, int]:
        return self.start, self.end


@dataclass(frozen=True, slots=True)
class Chain:
    """The mentions of one entity, at least one; a lone mention is a chain of one."""

    id: str
    mentions: tuple[Mention, ...]

    def __post_init__(self) -> None:
        if not self.mentions:
            raise ValueError(f"chain {self.id!r} has no mention")

    @property
    def type(self) -> str:
        """The majority of the mentions' types; on a tie, the one that comes first."""
        first = self.mentions[0].type
        for mention in self.mentions:  # almost always of one type, which is much faster than counting
            if mention.type != first:
                return Counter(mention.type for mention in self.mentions).most_common(1)[0][0]
        return first

    @property
    def spans(self) -> frozenset[tuple[int, int]]:
        return frozenset([(mention.start, mention.end) for mention in self.mentions])


@dataclass(frozen=True, slots=True)
class Relation:
    """A typed, directed pair, named by ids: of two chains, or with a region as head, as tail or as both."""

    head: str
    tail: str
    type: str
    confidence: float | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.head == self.tail:
            raise ValueError(f"relation {self.type!r} joins {self.head!r} to itself")
        if self.confidence is not None:
            _check_confidence(self.confidence)


@dataclass(frozen=True, slots=True)
class Region:
    """A typed box in a frame; `chain` is the id of the chain that it shows, if known.

    `id` is the name by which relations refer to the region, None if it has none.
    """

    frame: int
    box: Box
    type: str
    chain: str | None = None
    confidence: float | None = field(default=None, compare=False)
    id: str | None = None

    def __post_init__(self) -> None:
        _check_confidence(self.confidence)


def _check_confidence(confidence: float | None) -> None:
    if confidence is not None and not 0 <= confidence <= 1:
        raise ValueError(f"a confidence of {confidence} is not a number from 0 to 1")


@dataclass(frozen=True, slots=True)
class Annotation:
    """The annotation of a document, gold or predicted. Mentions exist only inside chains."""

    chains: tuple[Chain, ...] = ()
    relations: tuple[Relation, ...] = ()
    regions: tuple[Region, ...] = ()

    def __post_init__(self) -> None:
        for problem in self.dangling():
            raise ValueError(problem)

    @classmethod
    def pruned(cls, chains: Iterable[Chain], relations: Iterable[Relation], regions: Iterable[Region]) -> Annotation:
        """These parts without dangling references: a relation with one is removed, a region only loses its chain."""
        chains, regions = tuple(chains), tuple(regions)
        shown = {chain.id for chain in chains}
        known = shown | {region.id for region in regions if region.id is not None}
        return cls(
            chains,
            tuple(relation for relation in relations if relation.head in known and relation.tail in known),
            tuple(r if r.chain is None or r.chain in shown else replace(r, chain=None) for r in regions),
        )

    def dangling(self) -> Iterator[str]:
        """Every reference to a missing chain or region, and every duplicate id."""
        chains: set[str] = set()
        for chain in self.chains:
            if chain.id in chains:
                yield f"two chains have the id {chain.id!r}"
            chains.add(chain.id)
        known = chains.copy()
        for i, region in enumerate(self.regions):
            if region.id is not None:
                if region.id in known:
                    yield f"regions[{i}].id {region.id!r} is already the id of a chain or of another region"
                known.add(region.id)
        for i, relation in enumerate(self.relations):
            for role, name in (("head", relation.head), ("tail", relation.tail)):
                if name not in known:
                    yield f"relations[{i}].{role} refers to {name!r}, which is neither a chain nor a region"
        for i, region in enumerate(self.regions):
            if region.chain is not None and region.chain not in chains:
                yield f"regions[{i}].chain refers to chain {region.chain!r}, which does not exist"

    @property
    def between_chains(self) -> tuple[Relation, ...]:
        """The relations without those that have a region as a side."""
        named = {region.id for region in self.regions if region.id is not None}
        if not named:
            return self.relations
        return tuple(r for r in self.relations if r.head not in named and r.tail not in named)

    @property
    def mentions(self) -> Iterator[Mention]:
        return (mention for chain in self.chains for mention in chain.mentions)


UNANNOTATED: dict[Task, Callable[[Annotation], object]] = {
    "entity": lambda gold: gold.chains,
    "chain": lambda gold: any(len(chain.mentions) > 1 for chain in gold.chains),
    "relation": lambda gold: gold.relations,
    "grounding": lambda gold: gold.regions,
}
"""The parts that must be empty in gold if the task is not annotated."""


@dataclass(frozen=True, slots=True)
class Given(Annotation):
    """The gold that the pipeline gives a system in the gold-mention setting.

    `kind` is "mentions" (each gold mention as a chain of one: predict the chains) or "chains" (the gold chains, and the
    gold regions that have an id, which say nothing of the chains that they show: predict the relations).
    """

    kind: GivenKind = "mentions"


_END = itemgetter(1)


def _fit(tokens: tuple[tuple[int, int], ...], length: int) -> bool:
    """Whether all tokens are non-empty and lie in a text of this length: a fast check of many."""
    return not tokens or (all(starmap(lt, tokens)) and min(tokens)[0] >= 0 and max(map(_END, tokens)) <= length)


@dataclass(frozen=True, slots=True)
class Document:
    """A text with its clip. `text` is "" and `frames` is () if that modality is missing.

    `group` is the source video ("": the document is its own group): splits never cut a group. `tokens` are the offsets
    of the corpus' own tokens and may be empty: `tokens.tokenize` then finds the tokens. `given` is filled by the
    pipeline, never by a system or a corpus. `proposed` is another system's prediction, with its confidences, for a
    system that checks it.
    """

    id: str
    lang: Lang
    text: str
    title: str = ""
    group: str = ""
    tokens: tuple[tuple[int, int], ...] = ()
    segments: tuple[Segment, ...] = ()
    frames: tuple[Frame, ...] = ()
    video: Video | None = None
    given: Given | None = None
    proposed: Annotation | None = None

    def __post_init__(self) -> None:
        if not self.id:
            raise ValueError("document without an id")
        length = len(self.text)
        for i, (start, end) in enumerate(self.tokens) if not _fit(self.tokens, length) else ():
            if not 0 <= start < end <= length:
                raise ValueError(f"tokens[{i}] is {start} to {end}; the text has {len(self.text)} characters")
        for i, segment in enumerate(self.segments):
            if segment.end > len(self.text):
                raise ValueError(f"segments[{i}] ends at {segment.end}; the text has {len(self.text)} characters")
        if len({frame.index for frame in self.frames}) < len(self.frames):
            twice = Counter(frame.index for frame in self.frames).most_common(1)[0][0]
            raise ValueError(f"frame {twice} appears twice")


@dataclass(frozen=True, slots=True)
class Example:
    """A document and its gold, whose offsets, frames and boxes fit the document.

    `unannotated` are the tasks that are not annotated here: their part of the gold is empty. They are neither scored
    nor trained on this document. Without entities there are no chains, and without these no relations; mentions
    without coreference are chains of one, and "chain" is unannotated.
    """

    document: Document
    gold: Annotation
    unannotated: frozenset[Task] = frozenset()

    def __post_init__(self) -> None:
        if "entity" in self.unannotated:
            object.__setattr__(self, "unannotated", self.unannotated | {"chain", "relation"})
        for _, problem in self.misfits():
            raise ValueError(problem)

    @property
    def annotated(self) -> frozenset[Task]:
        """The annotated tasks."""
        return frozenset(TASKS) - self.unannotated

    def misfits(self) -> Iterator[tuple[str, str]]:
        """(place, problem) for every part of the gold that does not fit the document."""
        length = len(self.document.text)
        for task in TASKS if self.unannotated else ():
            if task in self.unannotated and UNANNOTATED[task](self.gold):
                yield "gold", f"gold contains annotations of an unannotated task: {task}"
        for i, chain in enumerate(self.gold.chains):
            for j, mention in enumerate(chain.mentions):
                if mention.end > length:
                    place = f"gold.chains[{i}].mentions[{j}]"
                    yield place, f"{place} ends at {mention.end}; the text has {length} characters"
        known = {frame.index for frame in self.document.frames}
        for i, region in enumerate(self.gold.regions):
            place = f"gold.regions[{i}]"
            if region.frame not in known:
                yield place, f"{place} refers to frame {region.frame}, which the document does not have"
            if not region.box.is_legal:
                expected = "expected 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1"
                yield place, f"{place} has an illegal box {list(region.box)}; {expected}"


@dataclass(frozen=True, slots=True)
class Turn:
    """One exchange with a generative model: the prompt (by hash), the answer, its finish reason, and its cost.

    `reasoning` is the text before the answer, `refusal` a text instead of one. Of `tokens_out` and `seconds`,
    `tokens_thinking` and `thinking_s` belong to the reasoning.

    Of the `tokens_in` of the prompt, `tokens_vision` are images and `tokens_reused` came from a cache.
    """

    stage: str
    prompt_sha256: str = ""
    text: str = ""
    finish: str = ""
    tokens_in: int | None = None
    tokens_vision: int | None = None
    tokens_reused: int | None = None
    tokens_out: int | None = None
    seconds: float | None = None
    first_token_s: float | None = None
    grammar_s: float | None = None
    tokens_thinking: int | None = None
    thinking_s: float | None = None
    retries: int = 0
    reasoning: str = ""
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class BoxForm:
    """The convention of an answer's boxes.

    `order` is the order of the four numbers; `offsets`: for each frame, its top left corner in a padded image, default
    (0, 0); `sizes`: for each frame, its width and height in the same units, from that corner: (1, 1), (1000, 1000), or
    the pixels of the model's input.
    """

    order: Literal["xyxy", "yxyx", "xywh", "cxcywh"] = "xyxy"
    sizes: dict[int, tuple[float, float]] = field(default_factory=dict)
    offsets: dict[int, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for frame, (width, height) in self.sizes.items():
            if not (0 < width < math.inf and 0 < height < math.inf):
                raise ValueError(f"frame {frame} has the size {width} x {height}")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a document was not answered; `retryable`: whether a retry may help (a server that is down, a time-out)."""

    message: str
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class RawOutput:
    """A system's answer about one document, before it is normalized and scored.

    `payload` is the answer: an object in the answer form (see `answers`) or text that should hold one. `boxes` is None
    if the payload's boxes are fractions in xyxy order. A failed document has `error` (a string is a failure that is not
    retryable) and no payload. `frames` are those that the system was given (None: all), and `issues` those that it
    noted itself, such as a prompt that had to be shortened.
    """

    document: str
    given: GivenKind | None = None
    payload: Any = None
    turns: tuple[Turn, ...] = ()
    boxes: BoxForm | None = None
    seconds: float | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    error: Failure | str | None = None
    frames: tuple[int, ...] | None = None
    issues: tuple[Issue, ...] = ()

    @property
    def failure(self) -> Failure | None:
        """`error` as a Failure."""
        return Failure(self.error) if isinstance(self.error, str) else self.error


@dataclass(frozen=True, slots=True)
class Issue:
    """A part of an answer that could not be used, or only after a repair: its code, place and detail."""

    code: str
    where: str
    detail: str


@dataclass(frozen=True, slots=True)
class Prediction:
    """A normalized answer, in the form that the scorer reads, with its Issues.

    `frames` are those that the system was given (None: all).
    """

    document: str
    annotation: Annotation
    given: GivenKind | None = None
    issues: tuple[Issue, ...] = ()
    frames: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class PRF:
    """Counts of precision and recall, which are summed before ratios are computed (micro-average).

    A ratio is None if both sides are empty; 0 if only its own side is.
    """

    p_num: float = 0
    p_den: float = 0
    r_num: float = 0
    r_den: float = 0

    def __add__(self, other: PRF) -> PRF:
        return PRF.sum((self, other))

    @classmethod
    def sum(cls, counts: Iterable[PRF]) -> PRF:
        """The sum, exact in any order of the counts (`math.fsum`)."""
        rows = [(c.p_num, c.p_den, c.r_num, c.r_den) for c in counts]
        return cls(*map(math.fsum, zip(*rows, strict=True))) if rows else cls()

    @property
    def swapped(self) -> PRF:
        """The counts with gold and prediction exchanged."""
        return PRF(self.r_num, self.r_den, self.p_num, self.p_den)

    @property
    def precision(self) -> float | None:
        if self.p_den:
            return self.p_num / self.p_den
        return 0.0 if self.r_den else None

    @property
    def recall(self) -> float | None:
        if self.r_den:
            return self.r_num / self.r_den
        return 0.0 if self.p_den else None

    @property
    def f1(self) -> float | None:
        """The harmonic mean of precision and recall; 0 if both are 0."""
        return harmonic_mean(self.precision, self.recall)


def harmonic_mean(precision: float | None, recall: float | None) -> float | None:
    """F1 of two ratios; None if either is None."""
    if precision is None or recall is None:
        return None
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
