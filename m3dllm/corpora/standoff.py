"""The lines of a BRAT `.ann` file, parsed without the text.

`T` a text-bound annotation, `R` a relation, `*` an equivalence, `E` an event; attributes (`A`, `M`), normalizations
(`N`), notes (`#`) and all other lines are only kept with their kind.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

_SPAN = "[0-9]{1,9} [0-9]{1,9}"
_TEXT_BOUND = re.compile(
    rf"(T[^\t ]*)[\t ]+([^\t ](?:[^\t]*?[^\t ])?)[\t ]+({_SPAN}(?:;{_SPAN})*)(?:[\t ](.*))?", re.DOTALL
)
_HEAD_TAIL = (
    ("arg1", "arg2"),
    ("arg0", "arg1"),
    ("head", "tail"),
    ("subj", "obj"),
    ("subject", "object"),
    ("source", "target"),
    ("from", "to"),
)
"""Role names, in lower case, that tell which argument is the head."""
_KINDS = {"A": "attribute", "M": "attribute", "N": "normalization", "#": "note"}


@dataclass(frozen=True, slots=True)
class TextBound:
    """A `T` line. `fragments`: its (start, end) as written; `text`: the text that it quotes, if any."""

    id: str
    type: str
    fragments: tuple[tuple[int, int], ...]
    text: str | None
    line: int


@dataclass(frozen=True, slots=True)
class Link:
    """An `R` line (`ends` are its two arguments, head first) or a `*` line (`ends` are its members).

    `roles`: the names of the two arguments, if these do not tell which is the head.
    """

    name: str
    ends: tuple[str, ...]
    line: int
    roles: tuple[str, ...] = field(default=(), compare=False)

    def ordered(self, roles: Sequence[str]) -> Link:
        """The link with its ends in the order of these roles, if it has them."""
        if sorted(self.roles) != sorted(roles) or tuple(roles) == self.roles:
            return self
        return replace(self, ends=self.ends[::-1], roles=self.roles[::-1])


@dataclass(frozen=True, slots=True)
class Fault:
    """A line that cannot be used: its kind, why, and its text."""

    what: str
    why: str
    line: int
    text: str


@dataclass(slots=True)
class Standoff:
    """A whole `.ann` file. `triggers` names the trigger of each event."""

    texts: dict[str, TextBound] = field(default_factory=dict)
    relations: list[Link] = field(default_factory=list)
    equivalences: list[Link] = field(default_factory=list)
    triggers: dict[str, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)


def parse_standoff(text: str) -> Standoff:
    """The annotations in the text of an `.ann` file. Never raises: a line that cannot be used is a Fault."""
    found = Standoff()
    for number, line in enumerate(_lines(text), start=1):
        line = line.rstrip("\r")
        if not line.strip():
            continue
        if fault := _add(found, line, number):
            found.faults.append(Fault(*fault, number, " ".join(line.split())))
    return found


def _lines(text: str) -> list[str]:
    """The lines; those of an old Mac end with a CR alone."""
    first, *others = text.split("\r")
    return [first, *others] if others and "\n" not in text and _TEXT_BOUND.fullmatch(first) else text.split("\n")


def _add(found: Standoff, line: str, number: int) -> tuple[str, str] | None:
    """Add the line to `found`; returns (what, why) if it cannot be used."""
    match line[0]:
        case "T":
            return _add_text_bound(found, line, number)
        case "R":
            return _add_relation(found, line, number)
        case "*":
            _, *names = line.split()
            if len(names) < 3:
                return "equivalence", "it is not '*, name, T1, T2, …'"
            found.equivalences.append(Link(names[0], tuple(names[1:]), number))
            return None
        case "E":
            name, *parts = line.split()
            if parts and ":" in parts[0]:
                found.triggers[name] = parts[0].partition(":")[2]
            return "event", "a corpus cannot represent events"
        case kind if kind in _KINDS:
            return _KINDS[kind], f"a corpus cannot represent {_KINDS[kind]}s"
    return "line", "it is not an annotation"


def _add_text_bound(found: Standoff, line: str, number: int) -> tuple[str, str] | None:
    match = _TEXT_BOUND.fullmatch(line)
    if match is None:
        return "mention", "it is not 'T1, type start end, text'"
    name, kind, spans, text = match.groups()
    if name in found.texts:
        return "mention", "its id is already used"
    fragments = tuple((int(start), int(end)) for start, end in (span.split(" ") for span in spans.split(";")))
    length = sum(end - start + 1 for start, end in fragments) - 1
    in_order = list(fragments) == sorted(fragments) or not text or len(text) == length
    if any(start >= end for start, end in fragments) or not in_order:
        return "mention", "its offsets run backwards or are empty"
    found.texts[name] = TextBound(name, kind, fragments, text or None, number)
    return None


def _add_relation(found: Standoff, line: str, number: int) -> tuple[str, str] | None:
    """The direction follows the role names if they tell it (`Arg2:T5 Arg1:T4`, case ignored), else their order."""
    _, *parts = line.split()
    if not parts:
        return "relation", "it is not 'R1, type Arg1:T1 Arg2:T2'"
    roles = [part.partition(":") for part in parts[1:]]
    if len(roles) != 2 or not all(role and end for role, _, end in roles):
        return "relation", "it is not 'R1, type Arg1:T1 Arg2:T2'"
    names = [role.lower() for role, _, _ in roles]
    order = next((pair for pair in _HEAD_TAIL if sorted(pair) == sorted(names)), None)
    if order and tuple(names) != order:
        roles.reverse()
    link = Link(parts[0], (roles[0][2], roles[1][2]), number, () if order else tuple(role for role, _, _ in roles))
    found.relations.append(link)
    return None
