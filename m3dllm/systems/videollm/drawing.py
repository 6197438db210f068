"""Boxes drawn on frames, each with a name, as visual prompts."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from m3dllm.systems.videollm.families import Size
from m3dllm.systems.videollm.messages import Still
from m3dllm.types import Box

COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#f032e6", "#9a6324")
"""Of outlines and names: the same for one name in all frames, while there are colours."""


def drawn(still: Still, boxes: Sequence[tuple[int, str, Box]], size: Size) -> Still:
    """A copy of the picture with the outline of each box and its name; boxes are (number, name, box).

    Boxes are fractions of the frame, which has this `size` in pixels, in the middle of the padded picture. The hash
    covers the picture and the drawing, so that an engine takes it for another picture.
    """
    from PIL import ImageDraw, ImageFont

    if not boxes:
        return still
    image = still.image.copy()
    pencil, font = ImageDraw.Draw(image), ImageFont.load_default(max(10, min(image.size) // 20))
    scale = max(image.size) / max(size)
    width, height = size[0] * scale, size[1] * scale
    left, top = (image.width - width) / 2, (image.height - height) / 2
    for number, name, box in boxes:
        colour = COLOURS[number % len(COLOURS)]
        corner = left + box.x0 * width, top + box.y0 * height
        far = max(corner[0], left + box.x1 * width - 1), max(corner[1], top + box.y1 * height - 1)
        pencil.rectangle((*corner, *far), outline=colour, width=max(1, min(image.size) // 150))
        pencil.rectangle(pencil.textbbox(corner, name, font=font), fill=colour)
        pencil.text(corner, name, fill="white", font=font)
    said = f"{still.sha256} {[(number, name, tuple(box)) for number, name, box in boxes]}"
    return Still(still.frame, image, sha256(said.encode()).hexdigest() if still.sha256 else "")
