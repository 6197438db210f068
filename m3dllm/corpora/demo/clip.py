"""Makes one clip: its text, its frames, and the gold of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from m3dllm.corpora.demo.cast import Entity, Time
from m3dllm.corpora.demo.chinese import Chinese
from m3dllm.corpora.demo.english import English
from m3dllm.corpora.demo.pictures import HEIGHT, MARK_COLOURS, WIDTH, Passerby, Picture, Shown, draw
from m3dllm.corpora.demo.plan import Plan, Said, Seen, Story, Told
from m3dllm.corpora.demo.writing import Writer
from m3dllm.types import (
    Annotation,
    Chain,
    Document,
    Example,
    Frame,
    Lang,
    Mention,
    Region,
    Relation,
    Segment,
    Subset,
)

FPS = 24
"""A frame's number is this times its second."""
WRITERS: dict[Lang, type[Writer]] = {"en": English, "zh": Chinese}
LENGTHS: dict[Lang, tuple[int, int]] = {"en": (60, 180), "zh": (100, 300)}
"""Fewest and most tokens of a text."""
BEATS = (4, 4, 5)
SEEN = (2, 2, 3)
_TOKENS_PER_S: dict[Lang, float] = {"en": 2.6, "zh": 4.2}
_GREYS = ((96, 98, 104), (128, 124, 120), (160, 158, 160), (112, 104, 92))
_SYMMETRIC = {
    "PER-PER_couple",
    "PER-PER_colleague",
    "PER-PER_peer",
    "PER-PER_neighbor",
    "PER-PER_brother_sister",
    "PER-PER_other_relatives",
    "LOC-LOC_nearby",
}


@dataclass(frozen=True, slots=True)
class Clip:
    """A document with its gold and images, and the positions of the relations that only its frames show."""

    example: Example
    images: dict[str, bytes]
    frames_only: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class _Still:
    """What a frame shows, and the sentence during which it is on screen (None: any time)."""

    shown: tuple[Shown, ...]
    mark: str | None = None
    sentence: int | None = None
    annotated: bool = True


def make_clip(
    rng: Random,
    story: Story,
    name: str,
    group: str,
    *,
    subset: Subset | None,
    beats: Sequence[int] = BEATS,
    seen: Sequence[int] = SEEN,
    lengths: tuple[int, int] | None = None,
    writer_type: type[Writer] | None = None,
    all_annotated: bool = False,
) -> Clip:
    """The next clip of a story. `subset` "no_text" and "no_video" leave a modality out, None both.

    `beats` and `seen` hold the possible numbers of events and of relations that only frames show; `lengths` bounds the
    text, in tokens; `writer_type` replaces the writer of the language; `all_annotated`: every frame has its regions.
    """
    told = set(story.told)
    while True:
        story.told = set(told)
        with_frames = subset in ("full", "no_text")
        plan = Plan(rng, story, n_beats=rng.choice(beats), n_seen=rng.choice(seen) if with_frames else 0)
        writer = (writer_type or WRITERS[story.lang])(rng, story.hero, frozenset(plan.show))
        on_screen = _write(rng, writer, plan)
        low, high = lengths or LENGTHS[story.lang]
        if low <= len(writer.tokens) <= high:
            break
    title = rng.choice(writer.prose.TITLES).format(writer.joiner.join(writer.full_name(story.hero)))
    if subset is None:
        return Clip(Example(Document(name, story.lang, "", title, group), Annotation()), {})
    text, offsets = writer.text()
    segments = _segments(rng, writer, offsets, story.lang)
    chains = _chains(writer, offsets)
    ids = {entity: chain.id for entity, chain in chains}
    relations, frames_only = _relations(plan, ids)
    frames: list[Frame] = []
    regions: list[Region] = []
    images: dict[str, bytes] = {}
    if with_frames:
        for second, still in _schedule(rng, _stills(rng, plan, on_screen), segments):
            picture = draw(rng, still.shown, mark=still.mark if still.mark in MARK_COLOURS else None)
            annotated = still.annotated or all_annotated
            frame = Frame(second * FPS, f"frames/{name}/{second * FPS}.png", WIDTH, HEIGHT, annotated=annotated)
            frames.append(frame)
            images[frame.path] = picture.png
            regions += _regions(picture, frame, ids) if annotated else []
    if subset == "no_text":
        hidden = tuple(Region(region.frame, region.box, region.type) for region in regions)
        document = Document(name, story.lang, "", title, group, frames=tuple(frames))
        return Clip(Example(document, Annotation(regions=hidden)), images)
    spoken = tuple(segment for segment, _ in segments)
    document = Document(name, story.lang, text, title, group, tuple(offsets), spoken, tuple(frames))
    gold = Annotation(tuple(chain for _, chain in chains), relations, tuple(regions))
    return Clip(Example(document, gold), images, frames_only)


# --- text -------------------------------------------------------------------------------------------------------------


def _write(rng: Random, writer: Writer, plan: Plan) -> dict[int, int]:
    """Write the plan down; the sentence in which each of `plan.seen` is on screen, by its position."""
    hero = plan.story.hero
    script: list[Told | Seen | Said] = list(plan.told)

    def put(item: Seen | Said, *, after: int = 0) -> None:
        script.insert(rng.randrange(after + 1, len(script) + 1), item)

    for newcomer in plan.newcomers:
        put(Said("SEEN_NEW", {"Q": newcomer}))
    for _ in range(rng.choice((0, 1, 1, 2))):
        put(Said("FILLERS", {"P": hero}))
    if rng.random() < 0.25:
        put(Said("STRANGERS", {"P": hero, "Q": plan.stranger()}))
    if rng.random() < 0.3:
        put(Said("NAMESAKES", {"P": hero, "Q": plan.namesake()}))
    for seen in plan.seen:
        put(seen, after=max(_introduced(script, entity) for entity in seen.pair))
    on_screen: dict[int, int] = {}
    for item in script:
        if isinstance(item, Told):
            writer.tell_beat(item.beat, item.roles)
            if writer.last_time is item.roles["T"] and rng.random() < 0.35:
                writer.tell(writer.prose.AFTER_TIME, item.roles)
            if rng.random() < 0.5:
                writer.show_looks([entity for entity in item.roles.values() if entity in writer.seen])
        elif isinstance(item, Seen):
            writer.show_looks(item.pair)
            if rng.random() < 0.75:
                there = "SEEN_PAIR" if "Q" in item.roles else "SEEN_PLACE" if "L" in item.roles else "SEEN_ORG"
                writer.tell(getattr(writer.prose, there), item.roles)
            on_screen[plan.seen.index(item)] = len(writer.sentences) - 1
        else:
            writer.tell(getattr(writer.prose, item.words), item.roles)
    writer.show_looks([entity for entity in plan.show if entity in writer.seen])
    return on_screen


def _introduced(script: Sequence[Told | Seen | Said], entity: Entity) -> int:
    """The position of the first item that has the entity."""
    return next(i for i, item in enumerate(script) if entity in item.roles.values())


def _chains(writer: Writer, offsets: Sequence[tuple[int, int]]) -> list[tuple[Entity, Chain]]:
    """The chain of everybody mentioned, in the order of their first mentions."""
    mentions: dict[Entity, list[Mention]] = {}
    for start, end, entity in writer.mentions:
        mentions.setdefault(entity, []).append(Mention(offsets[start][0], offsets[end - 1][1], entity.type))
    return [(entity, Chain(f"L{i}", tuple(found))) for i, (entity, found) in enumerate(mentions.items())]


def _relations(plan: Plan, ids: dict[Entity, str]) -> tuple[tuple[Relation, ...], tuple[int, ...]]:
    """The relations in the order of their chains, and the positions of those that only frames show."""
    order = {name: i for i, name in enumerate(ids.values())}
    hidden = {(seen.relation, *map(id, seen.pair)) for seen in plan.seen}
    rows = []
    for relation, head, tail in plan.facts:
        only = (relation, id(head), id(tail)) in hidden or (relation, id(tail), id(head)) in hidden
        first, second = ids[head], ids[tail]
        if relation in _SYMMETRIC and order[first] > order[second]:
            first, second = second, first
        rows.append((order[first], order[second], relation, only, Relation(first, second, relation)))
    rows.sort(key=lambda row: row[:3])
    return tuple(row[4] for row in rows), tuple(i for i, row in enumerate(rows) if row[3])


def _segments(
    rng: Random, writer: Writer, offsets: Sequence[tuple[int, int]], lang: Lang
) -> list[tuple[Segment, range]]:
    """One or two sentences each, as they are said, with the positions of their sentences."""
    segments = []
    at, clock = 0, round(rng.uniform(0.0, 6.0), 1)
    while at < len(writer.sentences):
        n = min(rng.choice((1, 1, 2)), len(writer.sentences) - at)
        start, end = writer.sentences[at][0], writer.sentences[at + n - 1][1]
        stop = round(clock + max(2.0, (end - start) / _TOKENS_PER_S[lang]), 1)
        segments.append((Segment(offsets[start][0], offsets[end - 1][1], clock, stop), range(at, at + n)))
        at, clock = at + n, stop if rng.random() < 0.7 else round(stop + rng.uniform(0.2, 2.0), 1)
    return segments


# --- frames -----------------------------------------------------------------------------------------------------------


def _stills(rng: Random, plan: Plan, on_screen: dict[int, int]) -> list[_Still]:
    """Every frame of the clip: those that the text refers to, and others."""
    stills = [_Still(seen.pair, seen.relation, on_screen[i]) for i, seen in enumerate(plan.seen)]  # type: ignore[arg-type]
    shown: list[Shown] = [entity for entity in plan.show if not isinstance(entity, Time)]
    stills.append(_Still((rng.choice(shown),)))
    if rng.random() < 0.5:
        stills.append(_Still((rng.choice(shown),)))
    if rng.random() < 0.4:
        stills.append(_Still(tuple(Passerby(rng.choice(_GREYS)) for _ in range(rng.choice((1, 2, 3))))))
    if rng.random() < 0.4:
        stills.append(_Still(()))
    for _ in range(rng.choice((0, 1, 1, 2))):
        stills.append(_Still(tuple(rng.sample(shown, rng.choice((0, 1)))), annotated=False))
    return stills


def _schedule(
    rng: Random, stills: Sequence[_Still], segments: Sequence[tuple[Segment, range]]
) -> list[tuple[int, _Still]]:
    """A second of its own for every frame, in order; what a sentence speaks of is shown while it is said."""
    taken: dict[int, _Still] = {}
    last = int(segments[-1][0].end_s)
    for still in stills:
        span = range(1, last + 1)
        for segment, sentences in segments:
            if still.sentence is not None and still.sentence in sentences:
                span = range(int(segment.start_s) + 1, int(segment.end_s) + 1)
        free = [second for second in span if second not in taken]
        free = free or [second for second in range(1, last + 20) if second not in taken]
        taken[rng.choice(free)] = still
    return sorted(taken.items())


def _regions(picture: Picture, frame: Frame, ids: dict[Entity, str]) -> list[Region]:
    return [
        Region(frame.index, box, kind, None if shown is None else ids[shown]) for shown, kind, box in picture.regions
    ]
