"""Boxes in images rotated by EXIF: drawn on the upright image, or on the stored pixels.

Frames are upright; boxes that a tool drew on the stored pixels are rotated with them. Which of the two it was follows
from the image size that the tool declares, or from boxes that fit into only one of them; else the upright image is
assumed, which is noted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from m3dllm.corpora.imported import Examples, Imported, places
from m3dllm.pictures import cut_to_frame, turn_box
from m3dllm.types import Box, Example

BoxOrientation = Literal["auto", "upright", "stored"]
_BACK = {6: 8, 8: 6}
"""The inverse of an orientation; the others are their own inverse."""


@dataclass(frozen=True, slots=True)
class Turned:
    """How the image of a frame is stored (see `pictures`), and whether its boxes are read on the stored pixels.

    `surely`: the declared size, or the boxes themselves, leave no doubt. `in_pixels`: the boxes are in pixels of an
    image of unknown size, which is taken to be the one that they are read on.
    """

    turn: int
    stored: bool
    surely: bool
    where: str
    in_pixels: bool = False

    @classmethod
    def by_size(
        cls, turn: int, upright: tuple[float, float], declared: tuple[float, float] | None, where: str
    ) -> Turned:
        """The reading that follows from the size `declared` by the tool, if it decides."""
        as_stored = (upright[1], upright[0]) if turn > 4 else upright
        stored = declared == as_stored != upright
        return cls(turn, stored, stored or (declared == upright != as_stored), where)

    @classmethod
    def by_reach(cls, turn: int, upright: tuple[float, float], reach: tuple[float, float], where: str) -> Turned:
        """The reading of boxes in pixels, none beyond `reach`, if they fit into only one of the two images."""
        as_stored = (upright[1], upright[0]) if turn > 4 else upright
        fits_upright, fits_stored = (reach[0] <= w and reach[1] <= h for w, h in (upright, as_stored))
        return cls(turn, fits_stored and not fits_upright, fits_stored != fits_upright, where, in_pixels=True)

    def size(self, upright: tuple[int, int]) -> tuple[int, int]:
        """The size of the image that the boxes are read on."""
        return (upright[1], upright[0]) if self.stored and self.turn > 4 else upright

    def read_on(self, box: Box, upright: tuple[int, int], *, stored: bool) -> Box:
        """Convert a box that was read on one image to the other: the stored one or the upright one."""
        (width, height), back = upright, _BACK.get(self.turn, self.turn)
        if not self.in_pixels or self.turn <= 4:
            return turn_box(box, self.turn if stored else back)
        if stored:
            return turn_box(_scaled(box, width / height), self.turn)
        return _scaled(turn_box(box, back), height / width)


def _scaled(box: Box, by: float) -> Box:
    """A box in fractions of one image as fractions of the image with exchanged sides."""
    return Box(box.x0 * by, box.y0 / by, box.x1 * by, box.y1 / by)


def reading(stored: bool) -> str:
    """The note about boxes that were read so."""
    where = "the pixels as they are stored" if stored else "the upright image"
    other = "upright" if stored else "stored"
    fault = f"its image is rotated (EXIF): its boxes were read on {where}"
    return f"{fault}; '--box-orientation {other}' reads them the other way"


def turn_regions(example: Example, notes: Imported) -> Example:
    """The example with boxes drawn on stored pixels rotated; a guess that may be wrong is noted."""
    turns = {f.index: turned for f in example.document.frames if (turned := notes.turned.get(f.path))}
    drawn = {region.frame for region in example.gold.regions}
    for index, turned in turns.items():
        if index in drawn and (turned.stored or not turned.surely):
            notes.change("frame", reading(turned.stored), f"{turned.where}: orientation {turned.turn}")
    turn = {index: turned.turn for index, turned in turns.items() if turned.stored}
    regions = tuple(
        replace(region, box=turn_box(region.box, turn[region.frame])) if region.frame in turn else region
        for region in example.gold.regions
    )
    return replace(example, gold=replace(example.gold, regions=regions)) if turn else example


def read_again(imported: Imported, orientation: BoxOrientation) -> None:
    """Convert the boxes of an import that were not read as `orientation` says."""
    if orientation == "auto" or not imported.turned:
        return
    wanted = orientation == "stored"
    other = {path: turned for path, turned in imported.turned.items() if turned.stored != wanted}
    imported.turned |= {path: replace(turned, stored=wanted) for path, turned in other.items()}
    for split, examples in imported.splits.items():
        imported.splits[split] = Examples(_read_again(example, other, imported, stored=wanted) for example in examples)
    imported.changed = places(
        replace(change, why=reading(wanted)) if change.why == reading(not wanted) else change
        for change in imported.changed
    )


def _read_again(example: Example, other: dict[str, Turned], notes: Imported, *, stored: bool) -> Example:
    """The example with the boxes of the frames in `other` read the other way; boxes out of the frame are skipped."""
    frames = {frame.index: frame for frame in example.document.frames if frame.path in other}
    if not frames:
        return example
    regions = []
    for region in example.gold.regions:
        if frame := frames.get(region.frame):
            turned, size = other[frame.path], (frame.width_px, frame.height_px)
            box = cut_to_frame(turned.read_on(region.box, size, stored=stored))
            if box is None:
                notes.leave_out("region", "its box extends beyond the frame", turned.where)
                continue
            region = replace(region, box=box)
        regions.append(region)
    return replace(example, gold=replace(example.gold, regions=tuple(regions)))
