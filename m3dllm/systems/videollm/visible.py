"""The frames of a prompt and the bounds of its answer, for grammars, schemas and prompts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from m3dllm.systems.videollm.families import CONVENTIONS, Convention, Size
from m3dllm.systems.videollm.options import Options


@dataclass(frozen=True, slots=True)
class VisibleFrames:
    """The frames of a prompt, in order: index -> size in pixels of the image as the model gets it."""

    sizes: Mapping[int, Size] = field(default_factory=dict)
    convention: Convention = CONVENTIONS["fraction"]

    def fractions(self, frame: int, box: Any) -> Any:
        """A box in the model's convention as fractions of the frame; an invalid box unchanged."""
        if not isinstance(box, list) or len(box) != 4 or not all(isinstance(n, int | float) for n in box):
            return box
        form = self.convention.form({frame: self.sizes[frame]})
        (width, height), (left, top) = form.sizes[frame], form.offsets.get(frame, (0.0, 0.0))
        a, b, c, d = map(_as_float, box)
        x0, y0, x1, y1 = (a, b, c, d) if self.convention.order == "xyxy" else (b, a, d, c)
        return [(x0 - left) / width, (y0 - top) / height, (x1 - left) / width, (y1 - top) / height]


def _as_float(number: float) -> float:
    """The number as a float; infinite where it is too large to be one."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The maximum sizes of the parts of an answer, so that every answer ends."""

    chains: int = 48
    mentions: int = 24
    relations: int = 64
    regions: int = 8
    characters: int = 120

    @classmethod
    def of(cls, options: Options) -> Bounds:
        return cls(
            chains=options.max_chains,
            mentions=options.max_mentions,
            relations=options.max_relations,
            regions=options.max_regions,
            characters=options.max_mention_characters,
        )


@dataclass(frozen=True, slots=True)
class Named:
    """A mention or chain as listed in a prompt: its name there and its type."""

    name: str
    type: str
