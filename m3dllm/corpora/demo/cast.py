"""Who and what a story is about: people, places, organizations and times, without the words for them.

Attributes that a picture shows (the colour of a coat, a landmark, a sign) are names of `pictures`, the same in both
languages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from m3dllm.corpora.demo.names import Gender

COLOURS = ("red", "blue", "green", "yellow", "purple", "orange", "black", "white")
"""Of coats, landmarks and signs."""
LANDMARKS = ("tower", "windmill", "lighthouse", "bridge", "dome")
SHAPES = ("diamond", "circle", "shield", "triangle")
"""Of signs."""
LETTERS = "ABEFHKLMPRTX"
"""On signs."""

Settlement = Literal["town", "village", "city", "port"]
Area = Literal["valley", "county", "island"]
SETTLEMENTS: tuple[Settlement, ...] = ("town", "village", "city", "port")
AREAS: tuple[Area, ...] = ("valley", "county", "island")


@dataclass(eq=False, slots=True)
class Person:
    """`trade` counts into a language's trades (None: not mentioned); `coat` is a colour, if mentioned."""

    gender: Gender
    given: str
    surname: str
    born: int
    trade: int | None = None
    coat: str | None = None
    type: ClassVar[str] = "PER"


@dataclass(eq=False, slots=True)
class Place:
    """`landmark` and its `colour` are what the place is known by in text and pictures."""

    stem: str
    kind: Settlement | Area
    landmark: str
    colour: str
    type: ClassVar[str] = "LOC"


@dataclass(eq=False, slots=True)
class Org:
    """`kind` counts into a language's kinds of organizations, `trade` into the trades of that kind."""

    stem: str
    kind: int
    trade: int
    shape: str
    colour: str
    letter: str
    type: ClassVar[str] = "ORG"


@dataclass(eq=False, slots=True)
class Time:
    """A year, or a part of it: `form` counts into the ways in which a language writes dates."""

    year: int
    form: int
    month: int
    day: int
    type: ClassVar[str] = "TIME"


Entity = Person | Place | Org | Time
