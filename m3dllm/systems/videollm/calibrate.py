"""Find the box convention of a model, from its answers about drawn shapes; no gold is used.

The prompt does not define the numbers, and the grammar allows those of every convention; each convention then parses
the same answers, and the one that matches the shapes fits.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from m3dllm.columns import columns
from m3dllm.errors import UserError
from m3dllm.files import sha256
from m3dllm.labels import Label, LabelSet
from m3dllm.normalize import normalize
from m3dllm.score.grounding import iou
from m3dllm.systems.videollm.config import Config
from m3dllm.systems.videollm.engines import make_engine
from m3dllm.systems.videollm.engines.base import Constraint, Engine, Reply, Request
from m3dllm.systems.videollm.families import CONVENTIONS, Convention, Size, find_convention
from m3dllm.systems.videollm.messages import Message, Still
from m3dllm.systems.videollm.prompts import NEWEST, Prompts
from m3dllm.types import Box, Document, Frame, RawOutput
from m3dllm.wire import read_json

if TYPE_CHECKING:
    from PIL.Image import Image

COLOURS = {"red": (200, 30, 40), "blue": (30, 60, 200), "green": (20, 140, 60), "black": (20, 20, 20)}
KINDS = ("rectangle", "circle", "triangle")
SIZES: tuple[Size, ...] = ((640, 360), (360, 640), (480, 480), (800, 320))
"""The sizes of the pictures: with squares alone, fractions of a picture and of its padded square would be the same."""
ENOUGH = 0.5
"""A convention fits if its mean IoU is at least this."""
CLOSE = 0.05
"""Conventions whose mean IoUs differ by less are not distinguished."""

GRAMMAR = r"""start: "{\"box\":[" NUMBER "," NUMBER "," NUMBER "," NUMBER "]}"
NUMBER: /0|1|0\.[0-9]{1,4}|1\.0{1,4}|[1-9][0-9]{0,3}(\.[0-9]{1,2})?/
"""
SCHEMA = {
    "type": "object",
    "properties": {"box": {"type": "array", "items": {"type": "number", "minimum": 0}, "minItems": 4, "maxItems": 4}},
    "required": ["box"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class Shape:
    """A shape drawn on a picture of `size` pixels, and its box."""

    kind: str
    colour: str
    size: Size
    box: Box

    def draw(self) -> Image:
        from PIL import Image as Images
        from PIL import ImageDraw

        image = Images.new("RGB", self.size, (235, 235, 228))
        pen, fill = ImageDraw.Draw(image), COLOURS[self.colour]
        width, height = self.size
        x0, y0, x1, y1 = (
            self.box.x0 * width,
            self.box.y0 * height,
            self.box.x1 * width,
            self.box.y1 * height,
        )
        if self.kind == "rectangle":
            pen.rectangle((x0, y0, x1, y1), fill=fill)
        elif self.kind == "circle":
            pen.ellipse((x0, y0, x1, y1), fill=fill)
        else:
            pen.polygon(((x0, y1), ((x0 + x1) / 2, y0), (x1, y1)), fill=fill)
        return image


def shapes(count: int = 12, *, seed: int = 0) -> list[Shape]:
    """Shapes of every kind and colour, on pictures of every size, nowhere near a diagonal.

    A box near the diagonal would be nearly the same with exchanged axes.
    """
    rnd = random.Random(seed)
    made: list[Shape] = []
    while len(made) < count:
        size = SIZES[len(made) % len(SIZES)]
        side = round(min(size) * rnd.uniform(0.25, 0.45))
        x, y = (rnd.randrange(round(0.04 * full), round(0.96 * full) - side) for full in size)
        box = Box(x / size[0], y / size[1], (x + side) / size[0], (y + side) / size[1])
        if iou(box, Box(box.y0, box.x0, box.y1, box.x1)) == 0.0:
            i = len(made)
            made.append(Shape(KINDS[i % len(KINDS)], tuple(COLOURS)[(i // 2) % len(COLOURS)], size, box))
    return made


@dataclass(frozen=True, slots=True)
class Answer:
    """Four numbers (or none) for the shape at `box` of a picture that the model got in `size`, before padding."""

    box: Box
    size: Size
    numbers: tuple[float, ...] | None


@dataclass(frozen=True, slots=True)
class Fit:
    """How well a convention fits: how many answers become boxes, their mean IoU with the shapes (0 for one that
    does not), and how many have an IoU above 0.5."""

    convention: str
    read: int
    mean_iou: float
    tp: int


def rank(answers: Sequence[Answer], conventions: Mapping[str, Convention] = CONVENTIONS) -> list[Fit]:
    """How well each convention fits, the best first."""
    fits = []
    for name, convention in conventions.items():
        found = [_read(answer, convention) for answer in answers]
        ious = [0.0 if box is None else iou(answer.box, box) for answer, box in zip(answers, found, strict=True)]
        read = sum(box is not None for box in found)
        fits.append(Fit(name, read, sum(ious) / max(1, len(ious)), sum(value > 0.5 for value in ious)))
    return sorted(fits, key=lambda fit: (-fit.mean_iou, fit.convention))


def _read(answer: Answer, convention: Convention) -> Box | None:
    """The answer's box as `normalize` reads it in this convention; None if it is invalid."""
    if answer.numbers is None:
        return None
    document = Document("shape", "en", "", frames=(Frame(0, "shape.png", *answer.size, annotated=True),))
    payload = {"regions": [{"frame": 0, "type": "shape", "box": list(answer.numbers)}]}
    raw = RawOutput("shape", payload=payload, boxes=convention.form({0: answer.size}))
    regions = normalize(document, raw, LabelSet(regions=(Label("shape"),))).annotation.regions
    return regions[0].box if regions and regions[0].box.is_legal else None


@dataclass(frozen=True, slots=True)
class Calibration:
    """The conventions that fit a model's answers, and the declared one."""

    model: str
    family: str
    declared: str | None
    """The documented convention of its family; None: there is none."""
    answers: tuple[Answer, ...]
    fits: tuple[Fit, ...]

    @property
    def fitting(self) -> tuple[str, ...]:
        """The conventions that fit and cannot be distinguished, the best first; () if the best does not fit."""
        best = self.fits[0].mean_iou
        return tuple(fit.convention for fit in self.fits if best >= ENOUGH and fit.mean_iou > best - CLOSE)

    @property
    def verdict(self) -> str:
        answered = sum(answer.numbers is not None for answer in self.answers)
        if not self.fitting:
            return (
                f"no declared convention fits the {answered} answers ({len(self.answers)} shapes were shown): the model"
                " does not find the shapes, or uses other numbers"
            )
        if self.declared in self.fitting:
            others = [name for name in self.fitting if name != self.declared]
            beside = f" (as does {', '.join(others)})" if others else ""
            return f"'{self.declared}', declared of family '{self.family}', fits{beside}"
        instead = f"and not '{self.declared}'" if self.declared else f"and none is declared of family '{self.family}'"
        return f"'{self.fitting[0]}' fits, {instead}: say --box-convention {self.fitting[0]}"

    def __str__(self) -> str:
        rows = [("convention", "boxes read", "mean IoU", "IoU > 0.5")]
        n = len(self.answers)
        rows += [(f.convention, f"{f.read}/{n}", f"{f.mean_iou:.3f}", f"{f.tp}/{n}") for f in self.fits]
        return "\n".join([f"{self.model}, {n} drawn shapes", "", *columns(rows), "", self.verdict])


def calibrate(config: Config, *, engine: Engine | None = None) -> Calibration:
    """Prompt a model for the boxes of drawn shapes.

    Raises UserError for a model or server that is not available, or that reads no images.
    """
    config = replace(config, frames=max(1, config.frames), video=False)
    engine = engine or make_engine(config)
    if not engine.sees:
        raise UserError(
            f"model '{engine.provenance.get('model')}' does not read images: there are no boxes to calibrate"
        )
    prompts = Prompts(version=config.prompt_version or NEWEST)
    drawn = shapes()
    sizes = []
    for i, shape in enumerate(drawn):
        image = shape.draw()
        shown = engine.prepare(image)
        sizes.append(image.size if engine.family.pads else shown.size)
        text = prompts.render("calibrate/shape", "en", colour=shape.colour, kind=shape.kind)
        message = Message("user", (Still(i, shown, sha256(image.tobytes())), f"\n{text}"))
        engine.submit(
            i, Request(messages=(message,), max_tokens=64, constraint=Constraint(grammar=GRAMMAR, schema=SCHEMA))
        )
    replies: dict[int, Reply] = {}
    while len(replies) < len(drawn):
        replies |= dict(engine.poll())
    failures = [reply.failure for reply in replies.values() if reply.failure is not None]
    if len(failures) == len(drawn):
        raise UserError(f"no question was answered: {failures[0].message}")
    answers = tuple(
        Answer(shape.box, size, _numbers(replies[i])) for i, (shape, size) in enumerate(zip(drawn, sizes, strict=True))
    )
    convention = find_convention(engine.family, config.box_convention)
    model = str(engine.provenance.get("model", config.model))
    declared = convention.name if convention else None
    return Calibration(model, engine.family.name, declared, answers, tuple(rank(answers)))


def _numbers(reply: Reply) -> tuple[float, ...] | None:
    """The four numbers of an answer; None if it has none."""
    try:
        box = read_json(reply.text)["box"]
        numbers = tuple(float(number) for number in box)
    except (ValueError, TypeError, LookupError, OverflowError):
        return None
    return numbers if len(numbers) == 4 else None
