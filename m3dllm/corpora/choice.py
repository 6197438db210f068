"""Which types of a corpus are imported, and under which names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from m3dllm.errors import UserError

Choice = Mapping[str, str]
"""Pattern (`*` and `?` as in file names) -> new name, "" to keep the name; the first pattern that fits decides."""


class Chosen(dict[str, str]):
    """A choice that knows its option, and which of its patterns have matched a type."""

    def __init__(self, option: str) -> None:
        super().__init__()
        self.option, self.seen = option, set[str]()

    def never(self) -> list[str]:
        """A message about each pattern that matched no type."""
        known = ", ".join(sorted(self.seen)) or "none"
        unused = [pattern for pattern in self if not any(fnmatchcase(name, pattern) for name in self.seen)]
        return [f"{self.option} {pattern}: no type has this name; expected some of {known}" for pattern in unused]


def parse_choice(texts: Iterable[str], *, option: str) -> Chosen:
    """The choice that words such as `PROP_PER=PER`, `*_LOC=LOC` or `Person` make; `option` is where they stand.

    One text may hold several, split by commas. Raises UserError for an empty pattern, or one given twice.
    """
    choice = Chosen(option)
    for word in (word.strip() for text in texts for word in text.split(",")):
        pattern, equals, name = (part.strip() for part in word.partition("="))
        if not pattern or (equals and not name):
            raise UserError(
                f"{option}: {word!r} is not a type; expected TYPE or TYPE=NEW, such as Person=PER or '*_PER=PER'"
            )
        if pattern in choice:
            raise UserError(f"{option}: {pattern!r} is given twice")
        choice[pattern] = name
    return choice


def chosen(name: str, choice: Choice | None) -> str | None:
    """The new name of the type `name`; None if it is not imported. Without a choice every type is kept."""
    if choice is None:
        return name
    if isinstance(choice, Chosen):
        choice.seen.add(name)
    return next((new or name for pattern, new in choice.items() if fnmatchcase(name, pattern)), None)
