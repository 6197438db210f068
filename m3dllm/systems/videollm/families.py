"""What is known of each family of models: what the numbers of its boxes mean, and what it does to an image.

A family is declared, found by the model's type or name, and never guessed from what a model answers: an unknown one is
an error that lists the known. Nothing here loads a model.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from m3dllm.errors import UserError
from m3dllm.types import BoxForm

Size = tuple[int, int]
"""Width and height in pixels."""


@dataclass(frozen=True, slots=True)
class Convention:
    """What the four numbers of a box mean.

    `edge` is the coordinate of the right and of the bottom edge; None: the width and the height in pixels of the image
    as the model sees it. `decimals` is how many a number is written with. `square` says that the numbers are of the
    square that the image is padded to.
    """

    name: str
    edge: int | None
    decimals: int = 0
    order: Literal["xyxy", "yxyx"] = "xyxy"
    square: bool = False

    def limits(self, size: Size) -> Size:
        """The largest legal coordinates of an image of this size: across and down, in units of the last decimal."""
        across, down = size if self.edge is None else (self.edge, self.edge)
        return across * 10**self.decimals, down * 10**self.decimals

    def form(self, sizes: Mapping[int, Size]) -> BoxForm:
        """How boxes are to be read, for frames of these sizes as the model sees them (before any padding)."""
        units: dict[int, tuple[float, float]] = {}
        offsets: dict[int, tuple[float, float]] = {}
        for frame, (width, height) in sizes.items():
            across, down = (width, height) if self.edge is None else (self.edge, self.edge)
            if self.square:
                side = max(width, height)
                units[frame] = across * width / side, down * height / side
                offsets[frame] = across * (side - width) / 2 / side, down * (side - height) / 2 / side
            else:
                units[frame] = float(across), float(down)
        return BoxForm(self.order, units, offsets)


CONVENTIONS: Mapping[str, Convention] = {
    convention.name: convention
    for convention in (
        Convention("fraction", 1, decimals=3),
        Convention("permille", 1000),
        Convention("pixels", None),
        Convention("square", 1, decimals=3, square=True),
        Convention("permille-yx", 1000, order="yxyx"),
        Convention("1024-yx", 1024, order="yxyx"),
    )
}


@dataclass(frozen=True, slots=True)
class SmartResize:
    """Sides made multiples of `factor`, with an area between `min_pixels` and `max_pixels` (the Qwen-VL processors)."""

    factor: int
    min_pixels: int
    max_pixels: int

    def __call__(self, size: Size) -> Size:
        """The size of the image that the model sees. Raises ValueError for one more than 200 times as long as wide."""
        width, height = size
        if max(size) > 200 * min(size):
            raise ValueError(f"an image of {width} x {height} pixels is too long for its width")
        across, down = (round(side / self.factor) * self.factor for side in size)
        if across * down > self.max_pixels:
            scale = math.sqrt(width * height / self.max_pixels)
            across, down = (max(self.factor, math.floor(s / scale / self.factor) * self.factor) for s in size)
        elif across * down < self.min_pixels:
            scale = math.sqrt(self.min_pixels / (width * height))
            across, down = (math.ceil(s * scale / self.factor) * self.factor for s in size)
        return across, down


@dataclass(frozen=True, slots=True)
class Family:
    """One family: how it is recognized, what its boxes mean, what it does to an image."""

    name: str
    pattern: str
    """A regular expression over the model's name in small letters; "" where only --family names it."""
    types: tuple[str, ...]
    """The `model_type` of its configurations."""
    convention: str
    resize: SmartResize | None = None
    """What its processor does to an image, where that matters and no processor is at hand to ask."""
    pads: bool = False
    """Whether an image is padded to a square before it is shown."""
    interleaves: bool = True
    """Whether its chat format leaves images where they stand among the texts."""


FAMILIES: Mapping[str, Family] = {
    family.name: family
    for family in (
        Family("qwen2-vl", r"qwen2-?vl", ("qwen2_vl",), "permille", SmartResize(28, 56 * 56, 28 * 28 * 16384)),
        Family("qwen2.5-vl", r"qwen2\.5-?vl", ("qwen2_5_vl",), "pixels", SmartResize(28, 56 * 56, 28 * 28 * 16384)),
        Family(
            "qwen3-vl",
            r"qwen3-?vl",
            ("qwen3_vl", "qwen3_vl_moe"),
            "permille",
            SmartResize(32, 256 * 256, 4096 * 4096),
        ),
        Family("internvl", r"internvl", ("internvl", "internvl_chat"), "permille"),
        Family("llava", r"llava", ("llava", "llava_next", "llava_onevision"), "square", pads=True, interleaves=False),
        Family("glm-v", r"glm-?4(\.\d+)?v", ("glm4v", "glm4v_moe"), "permille"),
        Family("gemini", r"gemini", (), "permille-yx"),
        Family("paligemma", r"paligemma", ("paligemma",), "1024-yx"),
        Family("generic", r"", (), "fraction"),
    )
}


class UnknownFamilyError(UserError):
    """A model whose family is not declared."""


def find_family(model: str, *, model_type: str | None = None, family: str | None = None) -> Family:
    """The family that `family` names, or that has `model_type`, or whose pattern the model's name fits.

    Raises UserError for an unknown name, and UnknownFamilyError where there is none; both list the known ones.
    """
    known = ", ".join(FAMILIES)
    if family is not None:
        if family not in FAMILIES:
            raise UserError(f"--family {family}: there is no such family; known: {known}")
        return FAMILIES[family]
    for candidate in FAMILIES.values():
        if model_type is not None and model_type in candidate.types:
            return candidate
    name = model.rstrip("/").rpartition("/")[2].lower()
    for candidate in FAMILIES.values():
        if candidate.pattern and re.search(candidate.pattern, name):
            return candidate
    what = f" (of type '{model_type}')" if model_type else ""
    raise UnknownFamilyError(
        f"model '{model}'{what} is of no known family, so that its boxes cannot be read: name one by --family"
        f" ({known}; generic: fractions)"
    )


def find_convention(family: Family, name: str | None = None) -> Convention:
    """The convention that `name` names, or the family's. Raises UserError for an unknown name."""
    if name is not None and name not in CONVENTIONS:
        raise UserError(f"--box-convention {name}: there is no such convention; known: {', '.join(CONVENTIONS)}")
    return CONVENTIONS[name or family.convention]
