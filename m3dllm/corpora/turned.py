"""Boxes in images that a camera turned (EXIF): drawn on the upright image, or on the pixels as they are stored.

Frames are upright; boxes that a tool drew on the stored pixels are turned with them. The size that a tool says of the
image tells which it was where the two sizes differ; else the upright image is taken, and the count says so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from m3dllm.corpora.imported import Examples, Imported, places
from m3dllm.pictures import turn_box
from m3dllm.types import Example

BoxOrientation = Literal["auto", "upright", "stored"]
_BACK = {6: 8, 8: 6}
"""The turn that undoes a turn; the others undo themselves."""


@dataclass(frozen=True, slots=True)
class Turned:
    """How the image of a frame is stored (see `pictures`), and whether its boxes are read on the stored pixels.

    `surely`: the size that the tool says leaves no doubt.
    """

    turn: int
    stored: bool
    surely: bool
    where: str

    @classmethod
    def by_size(cls, turn: int, upright: tuple[float, float], said: tuple[float, float] | None, where: str) -> Turned:
        """The reading that the size `said` by the tool tells, where it tells one."""
        as_stored = (upright[1], upright[0]) if turn > 4 else upright
        stored = said == as_stored != upright
        return cls(turn, stored, stored or (said == upright != as_stored), where)


def reading(stored: bool) -> str:
    """What the count says of boxes that were read so."""
    where = "the pixels as they are stored" if stored else "the upright image"
    other = "upright" if stored else "stored"
    return (
        f"its image is turned (EXIF): its boxes were read on {where}; '--box-orientation {other}' reads the other way"
    )


def turn_regions(example: Example, notes: Imported) -> Example:
    """The example with the boxes turned that were drawn on stored pixels; a reading that may be wrong is noted."""
    turns = {f.index: turned for f in example.document.frames if (turned := notes.turned.get(f.path))}
    drawn = {region.frame for region in example.gold.regions}
    for index, turned in turns.items():
        if index in drawn and (turned.stored or not turned.surely):
            notes.change("frame", reading(turned.stored), f"{turned.where}: orientation {turned.turn}")
    return _turn(example, {index: turned.turn for index, turned in turns.items() if turned.stored})


def read_again(imported: Imported, orientation: BoxOrientation) -> None:
    """Turn the boxes of an import that were read otherwise than `orientation` says."""
    if orientation == "auto" or not imported.turned:
        return
    wanted = orientation == "stored"
    other = {path: turned for path, turned in imported.turned.items() if turned.stored != wanted}
    imported.turned |= {path: replace(turned, stored=wanted) for path, turned in other.items()}
    for split, examples in imported.splits.items():
        imported.splits[split] = Examples(
            _turn(
                example,
                {
                    frame.index: turned.turn if wanted else _BACK.get(turned.turn, turned.turn)
                    for frame in example.document.frames
                    if (turned := other.get(frame.path))
                },
            )
            for example in examples
        )
    imported.changed = places(
        replace(change, why=reading(wanted)) if change.why == reading(not wanted) else change
        for change in imported.changed
    )


def _turn(example: Example, turns: dict[int, int]) -> Example:
    if not turns:
        return example
    regions = tuple(
        replace(region, box=turn_box(region.box, turns[region.frame])) if region.frame in turns else region
        for region in example.gold.regions
    )
    return replace(example, gold=replace(example.gold, regions=regions))
