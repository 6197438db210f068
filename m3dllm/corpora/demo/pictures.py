"""Draws the frames of the demo corpus, and says where everything in them is.

A frame shows people (told apart by the colour of the coat), landmarks of places, signs of organizations, and, between
two of them, a mark for their relation, which no text states. The marks are the same in every document:

- between two people: a heart (couple), a gear (colleague), a sun (peer), a fence (neighbor), a twig (other relatives);
- beside a landmark: a key (lives there), a hammer (works there), a suitcase (goes there), nothing (is there);
- beside a sign: a rosette (member), a struck-out circle (has left), a suitcase (goes there), nothing (is there).
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from m3dllm.corpora.demo.cast import Org, Person, Place
from m3dllm.types import Box

if TYPE_CHECKING:
    from PIL import Image

WIDTH, HEIGHT = 160, 120
SCALE = 2
"""Drawn this much larger, then reduced: edges come out smooth."""

Colour = tuple[int, int, int]
COLOURS: dict[str, Colour] = {
    "red": (204, 32, 38),
    "blue": (34, 76, 196),
    "green": (24, 132, 52),
    "yellow": (240, 204, 24),
    "purple": (128, 36, 150),
    "orange": (240, 124, 16),
    "black": (28, 28, 32),
    "white": (246, 246, 244),
}
MARK_COLOURS: dict[str, Colour] = {
    "PER-PER_couple": (255, 45, 120),
    "PER-PER_colleague": (60, 100, 140),
    "PER-PER_peer": (255, 180, 0),
    "PER-PER_neighbor": (120, 72, 30),
    "PER-PER_other_relatives": (80, 200, 60),
    "PER-LOC_residence": (200, 150, 0),
    "PER-LOC_work": (90, 90, 100),
    "PER-LOC_go_to": (140, 70, 50),
    "PER-ORG_member": (0, 170, 190),
    "PER-ORG_depart": (190, 20, 20),
    "PER-ORG_go_to": (140, 70, 50),
}
"""The colour of the mark that says each relation; those without a mark are not in it."""

_SKINS: tuple[Colour, ...] = ((250, 216, 190), (226, 178, 140), (176, 122, 84), (120, 80, 56))
_HAIRS: tuple[Colour, ...] = ((40, 30, 24), (92, 60, 34), (150, 110, 60), (170, 168, 164))
_SKIES: tuple[Colour, ...] = ((206, 226, 240), (228, 236, 240), (240, 226, 206), (214, 214, 226), (222, 238, 224))
_GROUNDS: tuple[Colour, ...] = ((186, 200, 160), (206, 196, 168), (190, 190, 186), (172, 192, 176), (214, 206, 196))
_STONE: Colour = (150, 146, 140)

_LETTERS = {
    "A": "010101111101101",
    "B": "110101110101110",
    "E": "111100110100111",
    "F": "111100110100100",
    "H": "101101111101101",
    "K": "101101110101101",
    "L": "100100100100111",
    "M": "101111111101101",
    "P": "111101111100100",
    "R": "110101110101101",
    "T": "111010010010010",
    "X": "101101010101101",
}
"""Letters of three by five cells, row by row."""


class Region(NamedTuple):
    """Where something is in a picture; `shown` is None for people without a name."""

    shown: Person | Place | Org | None
    type: str
    box: Box


class Picture(NamedTuple):
    """An image file and its regions."""

    png: bytes
    regions: tuple[Region, ...]


class Passerby(NamedTuple):
    """Somebody without a name."""

    coat: Colour


Shown = Person | Place | Org | Passerby


def draw(rng: Random, shown: Sequence[Shown], *, mark: str | None = None) -> Picture:
    """A frame that shows these, from left to right in any order; a mark stands between the first two.

    `mark` is a relation type of MARK_COLOURS.
    """
    from PIL import Image

    image = Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE), rng.choice(_SKIES))
    _scenery(_Pen(image), rng)
    sizes = {id(one): _size(rng, one, len(shown)) for one in shown}
    order: list[Shown | str] = list(shown[:2])
    rng.shuffle(order)
    if mark:
        order.insert(1, mark)
    for one in shown[2:]:
        order.insert(rng.choice((0, len(order))), one)
    widths = [24.0 if isinstance(one, str) else sizes[id(one)][0] for one in order]
    free = WIDTH - 4 - sum(widths)
    gaps = [rng.random() for _ in range(len(order) + 1)]
    if mark:
        at = order.index(mark)
        gaps[at] = gaps[at + 1] = 0.05
    shares = [gap / sum(gaps) * free for gap in gaps]
    regions = []
    x = 2 + shares[0]
    mark_at = 0.0
    for thing, width, gap in zip(order, widths, shares[1:], strict=True):
        if isinstance(thing, str):
            mark_at = x + width / 2
        else:
            regions.append(_draw_one(image, rng, thing, x, *sizes[id(thing)]))
        x += width + gap
    if mark:
        _MARKS[mark](_Pen(image), mark_at, rng.uniform(0.36, 0.62) * HEIGHT, 10.0, MARK_COLOURS[mark])
    file = io.BytesIO()
    image.reduce(SCALE).save(file, "PNG")
    return Picture(file.getvalue(), tuple(regions))


class _Pen:
    """Draws in units of the finished frame, and remembers how far it went."""

    def __init__(self, image: Image.Image) -> None:
        from PIL import ImageDraw

        self._draw = ImageDraw.Draw(image)
        self.x0 = self.y0 = math.inf
        self.x1 = self.y1 = -math.inf

    def polygon(self, points: Sequence[tuple[float, float]], fill: Colour) -> None:
        self._reach(points)
        self._draw.polygon([(x * SCALE, y * SCALE) for x, y in points], fill=fill)

    def rectangle(self, x0: float, y0: float, x1: float, y1: float, fill: Colour) -> None:
        self._reach([(x0, y0), (x1, y1)])
        self._draw.rectangle((x0 * SCALE, y0 * SCALE, x1 * SCALE, y1 * SCALE), fill=fill)

    def ellipse(self, x0: float, y0: float, x1: float, y1: float, fill: Colour) -> None:
        self._reach([(x0, y0), (x1, y1)])
        self._draw.ellipse((x0 * SCALE, y0 * SCALE, x1 * SCALE, y1 * SCALE), fill=fill)

    def disc(self, x: float, y: float, radius: float, fill: Colour) -> None:
        self.ellipse(x - radius, y - radius, x + radius, y + radius, fill)

    def line(self, points: Sequence[tuple[float, float]], width: float, fill: Colour) -> None:
        self._reach(points)
        self._draw.line([(x * SCALE, y * SCALE) for x, y in points], fill=fill, width=max(1, round(width * SCALE)))

    def _reach(self, points: Sequence[tuple[float, float]]) -> None:
        self.x0 = min(self.x0, *(x for x, _ in points))
        self.x1 = max(self.x1, *(x for x, _ in points))
        self.y0 = min(self.y0, *(y for _, y in points))
        self.y1 = max(self.y1, *(y for _, y in points))

    @property
    def box(self) -> Box:
        """Everything drawn so far, cut at the edges of the frame."""
        x0, x1 = (round(min(max(x, 0), WIDTH) / WIDTH, 4) for x in (self.x0, self.x1))
        y0, y1 = (round(min(max(y, 0), HEIGHT) / HEIGHT, 4) for y in (self.y0, self.y1))
        return Box(x0, y0, x1, y1)


def _scenery(pen: _Pen, rng: Random) -> None:
    """Ground, hills, a sun, clouds, trees: nothing that is ever a region."""
    horizon = rng.uniform(0.5, 0.72) * HEIGHT
    ground = rng.choice(_GROUNDS)
    if rng.random() < 0.4:
        pen.disc(rng.uniform(10, WIDTH - 10), rng.uniform(10, 30), rng.uniform(6, 10), (252, 240, 190))
    for _ in range(rng.randrange(3)):
        x, y, w = rng.uniform(0, WIDTH), rng.uniform(8, 34), rng.uniform(10, 18)
        pen.ellipse(x - w, y - 4, x + w, y + 4, (250, 250, 250))
    for _ in range(rng.randrange(3)):
        x, r = rng.uniform(0, WIDTH), rng.uniform(24, 50)
        pen.ellipse(x - r * 1.6, horizon - r * 0.5, x + r * 1.6, horizon + r, _jitter(rng, (178, 192, 190)))
    pen.rectangle(0, horizon, WIDTH, HEIGHT, _jitter(rng, ground))
    for _ in range(rng.randrange(3)):
        x, base, h = rng.uniform(4, WIDTH - 4), horizon + rng.uniform(2, 12), rng.uniform(18, 30)
        pen.rectangle(x - 1.5, base - h * 0.5, x + 1.5, base, (132, 110, 90))
        pen.disc(x, base - h * 0.66, h * 0.34, _jitter(rng, (140, 168, 130)))


def _size(rng: Random, one: Shown, n: int) -> tuple[float, float]:
    """(width, height) of something in a frame that shows `n` things."""
    crowd = 1.0 if n < 3 else 0.8
    if isinstance(one, (Person, Passerby)):
        height = rng.uniform(50, 104 if n == 1 else 92) * crowd
        return height * rng.uniform(0.34, 0.42), height
    if isinstance(one, Place):
        height = rng.uniform(52, 96) * crowd
        wide = {"tower": 0.42, "lighthouse": 0.36, "windmill": 0.7, "bridge": 1.1, "dome": 0.95}[one.landmark]
        if one.landmark == "bridge":
            height *= 0.62
        return height * wide * rng.uniform(0.92, 1.08), height
    side = rng.uniform(30, 48)
    return side, side


def _draw_one(image: Image.Image, rng: Random, one: Shown, x: float, width: float, height: float) -> Region:
    pen = _Pen(image)
    base = rng.uniform(max(height + 3, 92), HEIGHT - 2)
    if isinstance(one, Org):
        top = rng.uniform(6, 34)
        _Pen(image).rectangle(x + width / 2 - 1.5, top + height, x + width / 2 + 1.5, base, (110, 92, 74))
        _sign(pen, one, x, top, width)
        return Region(one, "ORG", pen.box)
    if isinstance(one, Place):
        _LANDMARKS[one.landmark](pen, x, base - height, x + width, base, _jitter(rng, COLOURS[one.colour]))
        return Region(one, "LOC", pen.box)
    if isinstance(one, Person):
        gender: str = one.gender
        coat = _jitter(rng, COLOURS[one.coat or "black"])
    else:
        gender, coat = rng.choice("fm"), one.coat
    _figure(pen, rng, x, base - height, width, height, gender, coat)
    return Region(one if isinstance(one, Person) else None, "PER", pen.box)


def _figure(
    pen: _Pen, rng: Random, x: float, top: float, width: float, height: float, gender: str, coat: Colour
) -> None:
    """A standing person: head, coat, arms, legs."""
    middle, skin, hair = x + width / 2, rng.choice(_SKINS), rng.choice(_HAIRS)
    head = height * 0.1
    shoulders, hem = top + head * 2, top + height * (0.72 if gender == "f" else 0.62)
    if gender == "f":
        pen.ellipse(middle - head * 1.25, top, middle + head * 1.25, top + head * 3, hair)
    for side in (-1, 1):
        leg = middle + side * width * 0.16
        pen.rectangle(leg - width * 0.08, hem - 2, leg + width * 0.08, top + height, (62, 58, 66))
    flare = 0.5 if gender == "f" else 0.36
    for side in (-1, 1):
        hand = middle + side * width * 0.46, top + height * rng.uniform(0.46, 0.56)
        pen.line([(middle + side * width * 0.26, shoulders + 3), hand], width * 0.16, coat)
        pen.disc(*hand, width * 0.08, skin)
    left, right = middle - width * 0.3, middle + width * 0.3
    hem_left, hem_right = middle - width * flare, middle + width * flare
    pen.polygon([(left, shoulders), (right, shoulders), (hem_right, hem), (hem_left, hem)], coat)
    pen.line([(middle, shoulders + 2), (middle, hem - 1)], 0.8, _darker(coat))
    pen.disc(middle, top + head * 1.1, head * 0.95, skin)
    pen.ellipse(middle - head, top, middle + head, top + head * 0.9, hair)
    if rng.random() < 0.3:
        pen.rectangle(middle - head * 1.5, top + head * 0.6, middle + head * 1.5, top + head * 0.85, (84, 66, 56))


def _tower(pen: _Pen, x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
    width, tooth = x1 - x0, (x1 - x0) / 5
    pen.rectangle(x0 + width * 0.08, y0 + tooth, x1 - width * 0.08, y1, colour)
    for i in (0, 2, 4):
        pen.rectangle(x0 + i * tooth, y0, x0 + (i + 1) * tooth, y0 + tooth * 1.6, colour)
    for share in (0.3, 0.55):
        y = y0 + (y1 - y0) * share
        pen.rectangle(x0 + width * 0.42, y, x0 + width * 0.58, y + width * 0.3, _STONE)
    pen.rectangle(x0 + width * 0.36, y1 - width * 0.5, x0 + width * 0.64, y1, _STONE)


def _lighthouse(pen: _Pen, x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
    width, height = x1 - x0, y1 - y0
    pen.polygon(
        [(x0 + width * 0.25, y0 + height * 0.2), (x1 - width * 0.25, y0 + height * 0.2), (x1, y1), (x0, y1)], colour
    )
    pen.rectangle(x0 + width * 0.3, y0 + height * 0.08, x1 - width * 0.3, y0 + height * 0.2, (255, 240, 150))
    pen.polygon(
        [(x0 + width * 0.22, y0 + height * 0.08), (x1 - width * 0.22, y0 + height * 0.08), (x0 + width / 2, y0)], _STONE
    )
    for share in (0.42, 0.7):
        y, inset = y0 + height * share, width * 0.25 * (1 - (share - 0.2) / 0.8)
        pen.rectangle(x0 + inset, y, x1 - inset, y + height * 0.07, _STONE)


def _windmill(pen: _Pen, x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
    width, height, middle = x1 - x0, y1 - y0, (x0 + x1) / 2
    hub = y0 + width * 0.42
    pen.polygon(
        [
            (middle - width * 0.16, hub),
            (middle + width * 0.16, hub),
            (middle + width * 0.3, y1),
            (middle - width * 0.3, y1),
        ],
        colour,
    )
    for angle in (0.6, 0.6 + math.pi / 2, 0.6 + math.pi, 0.6 + 3 * math.pi / 2):
        tip = middle + math.cos(angle) * width * 0.5, hub + math.sin(angle) * width * 0.42
        pen.line([(middle, hub), tip], width * 0.09, (238, 232, 220))
    pen.disc(middle, hub, width * 0.06, _STONE)
    pen.rectangle(middle - width * 0.07, y1 - height * 0.16, middle + width * 0.07, y1, _STONE)


def _bridge(pen: _Pen, x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
    width, height = x1 - x0, y1 - y0
    pen.rectangle(x0, y0 + height * 0.25, x1, y1, colour)
    for side in (0.0, 0.92):
        pen.rectangle(x0 + width * side, y0, x0 + width * (side + 0.08), y1, colour)
    for i in range(2):
        left = x0 + width * (0.12 + i * 0.42)
        pen.ellipse(left, y0 + height * 0.5, left + width * 0.34, y1 + height * 0.3, (150, 186, 206))
    pen.y1 = y1


def _dome(pen: _Pen, x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
    width, height = x1 - x0, y1 - y0
    pen.ellipse(x0 + width * 0.12, y0 + height * 0.08, x1 - width * 0.12, y0 + height * 0.95, colour)
    pen.rectangle(x0 + width * 0.47, y0, x0 + width * 0.53, y0 + height * 0.12, _STONE)
    pen.rectangle(x0, y0 + height * 0.52, x1, y1, _STONE)
    for share in (0.12, 0.38, 0.64):
        left = x0 + width * share
        pen.rectangle(left, y0 + height * 0.64, left + width * 0.14, y1, colour)


def _sign(pen: _Pen, org: Org, x: float, y: float, side: float) -> None:
    """A pale board with the emblem, and the letter on it."""
    pen.rectangle(x, y, x + side, y + side, (92, 76, 60))
    pen.rectangle(x + 1.5, y + 1.5, x + side - 1.5, y + side - 1.5, (226, 220, 204))
    middle, centre, r = x + side / 2, y + side / 2, side * 0.42
    fill = COLOURS[org.colour]
    if org.shape == "circle":
        pen.disc(middle, centre, r, fill)
    elif org.shape == "diamond":
        pen.polygon([(middle, centre - r), (middle + r, centre), (middle, centre + r), (middle - r, centre)], fill)
    elif org.shape == "triangle":
        pen.polygon([(middle, centre - r), (middle + r, centre + r), (middle - r, centre + r)], fill)
    else:
        lower = centre + r * 0.1
        pen.polygon(
            [
                (middle - r, centre - r),
                (middle + r, centre - r),
                (middle + r, lower),
                (middle, centre + r),
                (middle - r, lower),
            ],
            fill,
        )
    ink = (20, 20, 20) if sum(fill) > 380 else (250, 250, 250)
    cell = side * 0.075
    left, upper = middle - cell * 1.5, centre - cell * (1.6 if org.shape == "triangle" else 2.5)
    for i, bit in enumerate(_LETTERS[org.letter]):
        if bit == "1":
            at_x, at_y = left + i % 3 * cell, upper + i // 3 * cell
            pen.rectangle(at_x, at_y, at_x + cell, at_y + cell, ink)


def _heart(pen: _Pen, x: float, y: float, r: float, colour: Colour) -> None:
    for side in (-1, 1):
        pen.disc(x + side * r * 0.45, y - r * 0.3, r * 0.52, colour)
    pen.polygon([(x - r * 0.92, y - r * 0.08), (x + r * 0.92, y - r * 0.08), (x, y + r)], colour)


def _gear(pen: _Pen, x: float, y: float, r: float, colour: Colour) -> None:
    for i in range(8):
        angle = math.pi / 4 * i
        pen.line([(x, y), (x + math.cos(angle) * r, y + math.sin(angle) * r)], r * 0.3, colour)
    pen.disc(x, y, r * 0.75, colour)
    pen.disc(x, y, r * 0.25, (235, 235, 235))


def _sun(pen: _Pen, x: float, y: float, r: float, colour: Colour) -> None:
    for i in range(12):
        angle = math.pi / 6 * i
        pen.line([(x, y), (x + math.cos(angle) * r, y + math.sin(angle) * r)], r * 0.14, colour)
    pen.disc(x, y, r * 0.6, colour)


def _fence(pen: _Pen, x: float, y: float, r: float, colour: Colour) -> None:
    for i in (-2, -1, 0, 1, 2):
        at = x + i * r * 0.42
        pen.rectangle(at - r * 0.12, y - r * 0.8, at + r * 0.12, y + r * 0.9, colour)
    for at in (-0.35, 0.3):
        pen.rectangle(x - r, y + r * at, x + r, y + r * (at + 0.22), colour)


def _twig(pen: _Pen, x: float, y: float, r: float, colour: Colour) -> None:
    pen.line([(x - r * 0.2, y + r), (x + r * 0.1, y - r)], r * 0.2, (70, 110, 50))
    for dx, dy in ((-0.5, -0.55), (0.55, -0.35), (-0.6, 0.2), (0.5, 0.4)):
        pen.ellipse(x + r * (dx - 0.42), y + r * (dy - 0.24), x + r * (dx + 0.42), y + r * (dy + 0.24), colour)


def _key(pen: _Pen, x: float, y: float, r: float, colour: Colour) -> None:
    pen.line([(x, y - r * 0.4), (x, y + r)], r * 0.26, colour)
    pen.rectangle(x, y + r * 0.4, x + r * 0.5, y + r * 0.6, colour)
    pen.rectangle(x, y + r * 0.8, x + r * 0.5, y + r, colour)
    pen.disc(x, y - r * 0.5, r * 0.5, colour)
    pen.disc(x, y - r * 0.65, r * 0.2, (250, 250, 240))


def _hammer(pen: _Pen, x: float, y: float, r: float, colour: Colour) -> None:
    pen.rectangle(x - r * 0.12, y - r * 0.6, x + r * 0.12, y + r, (150, 100, 60))
    pen.rectangle(x - r * 0.8, y - r, x + r * 0.7, y - r * 0.3, colour)


def _suitcase(pen: _Pen, x: float, y: float, r: float, colour: Colour) -> None:
    pen.rectangle(x - r * 0.4, y - r * 0.75, x + r * 0.4, y - r * 0.6, (60, 40, 30))
    for side in (-1, 1):
        pen.rectangle(x + side * r * 0.36 - 0.7, y - r * 0.75, x + side * r * 0.36 + 0.7, y - r * 0.3, (60, 40, 30))
    pen.rectangle(x - r, y - r * 0.35, x + r, y + r * 0.8, colour)
    for strap in (-0.6, 0.45):
        pen.rectangle(x + r * strap, y - r * 0.35, x + r * (strap + 0.15), y + r * 0.8, (230, 200, 150))


def _rosette(pen: _Pen, x: float, y: float, r: float, colour: Colour) -> None:
    for side in (-1, 1):
        pen.polygon([(x, y), (x + side * r * 0.2, y + r), (x + side * r * 0.75, y + r * 0.85)], colour)
    for i in range(8):
        angle = math.pi / 4 * i
        pen.disc(x + math.cos(angle) * r * 0.5, y - r * 0.25 + math.sin(angle) * r * 0.5, r * 0.26, colour)
    pen.disc(x, y - r * 0.25, r * 0.36, colour)


def _struck_out(pen: _Pen, x: float, y: float, r: float, colour: Colour) -> None:
    pen.disc(x, y, r, colour)
    pen.disc(x, y, r * 0.7, (245, 245, 245))
    pen.line([(x - r * 0.65, y + r * 0.65), (x + r * 0.65, y - r * 0.65)], r * 0.32, colour)


_LANDMARKS: dict[str, Callable[[_Pen, float, float, float, float, Colour], None]] = {
    "tower": _tower,
    "lighthouse": _lighthouse,
    "windmill": _windmill,
    "bridge": _bridge,
    "dome": _dome,
}
_MARKS: dict[str, Callable[[_Pen, float, float, float, Colour], None]] = {
    "PER-PER_couple": _heart,
    "PER-PER_colleague": _gear,
    "PER-PER_peer": _sun,
    "PER-PER_neighbor": _fence,
    "PER-PER_other_relatives": _twig,
    "PER-LOC_residence": _key,
    "PER-LOC_work": _hammer,
    "PER-LOC_go_to": _suitcase,
    "PER-ORG_member": _rosette,
    "PER-ORG_depart": _struck_out,
    "PER-ORG_go_to": _suitcase,
}


def _jitter(rng: Random, colour: Colour) -> Colour:
    """The colour, a little off."""
    red, green, blue = (min(255, max(0, part + rng.randrange(-12, 13))) for part in colour)
    return red, green, blue


def _darker(colour: Colour) -> Colour:
    red, green, blue = (int(part * 0.7) for part in colour)
    return red, green, blue
