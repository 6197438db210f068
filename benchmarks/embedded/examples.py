"""The training data of the embedded model: generated clips with their own names and sentences, as prompts and answers.

A prompt is that of `m3dllm run`; an answer is in the answer form, in document order: chains by first mention, relations
by the place where their two chains are mentioned closest to each other, regions by frame and from left to right.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from random import Random
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.embedded import phrasings_en, phrasings_zh
from benchmarks.embedded.tokens import STEP
from benchmarks.embedded.ways import wordings
from m3dllm.answers import write_answer
from m3dllm.corpora.demo import prose_en, prose_zh
from m3dllm.corpora.demo.chinese import Chinese
from m3dllm.corpora.demo.clip import make_clip
from m3dllm.corpora.demo.english import English
from m3dllm.corpora.demo.names import GENDERS, SHARES, Names, People, names_of
from m3dllm.corpora.demo.plan import new_story
from m3dllm.corpora.demo.writing import Writer
from m3dllm.systems.videollm.gold import named
from m3dllm.types import Annotation, Document, Example, Lang

SALT = "pretraining"
FRAMES = 8


class OtherEnglish(English):
    """English with other sentences than the demo's; nouns for people, places and organizations are the same."""

    prose = SimpleNamespace(**vars(prose_en) | vars(phrasings_en))


class OtherChinese(Chinese):
    """Chinese likewise."""

    prose = SimpleNamespace(**vars(prose_zh) | vars(phrasings_zh))


WRITERS: dict[Lang, type[Writer]] = {"en": OtherEnglish, "zh": OtherChinese}


@cache
def wide_writer(lang: Lang) -> type[Writer]:
    """A writer with many more sentences: those of `WRITERS` and of the files of wordings."""
    plain = WRITERS[lang]
    more = wordings(lang)
    beats = {name: told + more[name] for name, told in plain.prose.BEATS.items()}
    tables = {name: getattr(plain.prose, name) + said for name, said in more.items() if name.isupper()}
    prose = SimpleNamespace(**vars(plain.prose) | tables | {"BEATS": beats})
    return type(f"Wide{plain.__name__}", (plain,), {"prose": prose})


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of clip: how much happens in it, and what it lacks.

    Frames that the demo leaves unannotated are kept with regions by `every_frame`, else dropped. `pairs` keeps only
    frames with two of the clip's cast; `wide` uses many more sentences; `unshown` keeps no frames, although the answer
    has relations that only frames show: as few-shot examples in a prompt.
    """

    name: str
    subset: str
    beats: tuple[int, ...] = (4, 4, 5)
    seen: tuple[int, ...] = (2, 2, 3)
    lengths: tuple[int, int] | None = None
    every_frame: bool = False
    pairs: bool = False
    wide: bool = False
    unshown: bool = False


KINDS = {
    kind.name: kind
    for kind in (
        Kind("tiny", "no_video", (1,), (0,), (0, 90)),
        Kind("short", "no_video", (2, 3), (0,), (0, 150)),
        Kind("marks", "full", (1,), (1, 2), (0, 110)),
        Kind("frames", "no_text"),
        Kind("medium", "full", (1, 2, 3), (1, 2), (20, 200)),
        Kind("full", "full"),
        Kind("shown", "full", every_frame=True),
        Kind("told", "no_video", (2, 3), (0,), (0, 170), wide=True),
        Kind("paired", "full", (1,), (1, 2), (0, 110), pairs=True, wide=True),
        Kind("marked", "full", (1, 2), (1, 2), (0, 130), every_frame=True, wide=True),
        Kind("wide", "full", every_frame=True, wide=True),
        Kind("texts", "no_video", (4, 5, 6), (0,), wide=True),
        Kind("unshown", "full", wide=True, unshown=True),
        Kind("sights", "no_text", every_frame=True),
    )
}


def names_for(lang: Lang, *, held_out: bool = False) -> Names:
    """The names of pretraining: none is in the demo, except Chinese surnames, which may be shared.

    `held_out`: names for evaluation, which are not trained on, except Chinese surnames.
    """
    splits = ("dev",) if held_out else ("train", "test")
    found = [names_of(lang, split, salted=True) for split in splits]
    surnames = [names.people.surnames for names in found]
    if lang == "zh":
        surnames = [names_of(lang, split, salted=half).people.surnames for half in (False, True) for split in SHARES]
    given = {gender: _all(names.people.given[gender] for names in found) for gender in GENDERS}
    people = People(_all(surnames), given)
    return Names(people, _all(names.places for names in found), _all(names.stems for names in found))


def _all(parts: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(sorted(set().union(*parts)))


def clips(kind: Kind, lang: Lang, seed: int, *, held_out: bool = False) -> Iterator[tuple[Example, dict[str, bytes]]]:
    """An infinite stream of clips, one of each story. `held_out`: with names that are not trained on."""
    names, split = names_for(lang, held_out=held_out), "dev" if held_out else "train"
    writer = wide_writer(lang) if kind.wide else WRITERS[lang]
    n = 0
    while True:
        n += 1
        rng = Random(f"{SALT}|{seed}|{kind.name}|{lang}|{split}|{n}")
        story = new_story(rng, lang, split, names, writer.abbreviation, salted=True)
        clip = make_clip(
            rng, story, f"{kind.name}{n}", "", subset=kind.subset, beats=kind.beats, seen=kind.seen,
            lengths=kind.lengths, writer_type=writer, all_annotated=kind.every_frame,
        )  # fmt: skip
        example = clip.example
        shown = Counter(region.frame for region in example.gold.regions if region.chain is not None)
        frames = tuple(
            frame for frame in example.document.frames if frame.annotated and shown[frame.index] >= 2 * kind.pairs
        )[: 0 if kind.unshown else FRAMES]
        kept = {frame.index for frame in frames}
        gold = replace(example.gold, regions=tuple(r for r in example.gold.regions if r.frame in kept))
        yield Example(replace(example.document, frames=frames), gold), clip.images


def answer(document: Document, gold: Annotation) -> str:
    """The target answer, in the joint form with boxes in thousandths."""
    chains = (replace(chain, mentions=tuple(sorted(chain.mentions))) for chain in gold.chains)
    gold = named(replace(gold, chains=tuple(sorted(chains, key=lambda chain: chain.mentions[0]))))
    regions = sorted(gold.regions, key=lambda r: (r.frame, r.box.x0))
    value = {
        **write_answer(document, replace(gold, regions=())),
        "regions": [{"frame": r.frame, "type": r.type, "box": permille(r.box)} for r in regions],
    }
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def permille(box: Any) -> list[int]:
    """The box in thousandths, in steps of STEP; opposite edges differ by at least one step."""
    x0, y0, x1, y1 = (min(max(round(edge * 1000 / STEP), 0), 1000 // STEP) for edge in box)
    x0, y0 = min(x0, 1000 // STEP - 1), min(y0, 1000 // STEP - 1)
    return [n * STEP for n in (x0, y0, max(x1, x0 + 1), max(y1, y0 + 1))]


def pixels(data: bytes, size: tuple[int, int]) -> np.ndarray:
    """A frame as the model gets it, (height, width, 3), bytes."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB").resize(size, Image.Resampling.BICUBIC))
