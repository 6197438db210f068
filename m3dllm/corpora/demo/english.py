"""How English refers to people, places, organizations and times; tokens stand between single spaces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from m3dllm.corpora.demo import prose_en as prose
from m3dllm.corpora.demo.cast import Entity, Org, Person, Place, Time
from m3dllm.corpora.demo.names import Gender
from m3dllm.corpora.demo.writing import NUMBERS, Writer

_PRONOUNS: dict[str, dict[Gender, str]] = {
    "he": {"f": "she", "m": "he"},
    "him": {"f": "her", "m": "him"},
    "his": {"f": "her", "m": "his"},
}


class English(Writer):
    """English text."""

    prose: ClassVar[Any] = prose
    joiner: ClassVar[str] = " "
    full_stop: ClassVar[str] = "."
    their: ClassVar[str] = "their"

    @staticmethod
    def literals(text: str) -> Sequence[str]:
        return text.split()

    def text(self) -> tuple[str, list[tuple[int, int]]]:
        offsets, at = [], 0
        for token in self.tokens:
            offsets.append((at, at + len(token)))
            at += len(token) + 1
        return " ".join(self.tokens), offsets

    def add(self, token: str) -> None:
        """Write a token: capital at the start of a sentence, "an" before a vowel, no comma before a mark."""
        last = self.tokens[-1] if self.tokens else "."
        if last == "," and token in set(",."):
            last = self.tokens[-2]
            self.tokens.pop()
        if last in ("a", "A") and token[0] in "aeiou":
            self.tokens[-1] += "n"
        self.tokens.append(token[0].upper() + token[1:] if last == "." else token)

    def mention(self, tokens: Sequence[str], entity: Entity) -> None:
        """Write tokens that mention the entity; the article of a name stands outside its mention."""
        named = tokens[0][0].isupper()
        if named and (isinstance(entity, Org) or (isinstance(entity, Place) and entity.kind == "valley")):
            self.add("the")
        super().mention(tokens, entity)

    def full_name(self, entity: Person | Place | Org) -> list[str]:
        if isinstance(entity, Person):
            return [entity.given, entity.surname]
        if isinstance(entity, Place):
            return [entity.stem, prose.AREAS[entity.kind]] if entity.kind in prose.AREAS else [entity.stem]
        kind, trades = prose.ORGS[entity.kind]
        return [entity.stem, trades[entity.trade], kind]

    def mention_new(self, entity: Person | Place | Org, *, introduce: bool) -> None:
        self.mention(self.full_name(entity), entity)
        if not introduce:
            return
        if isinstance(entity, Org):
            if self.rng.random() < 0.6:
                self.add("(")
                Writer.mention(self, [self.abbreviation(entity)], entity)
                self.add(")")
                self.told.add((entity, "short"))
        elif words := list(self._introduction(entity)):
            for token in [",", *words, ","]:
                self.add(token)

    def _introduction(self, entity: Person | Place) -> Iterator[str]:
        """The words of an apposition, without commas."""
        look = entity in self.show and self.rng.random() < 0.6
        if isinstance(entity, Place):
            if entity.kind in prose.AREAS or (not look and self.rng.random() < 0.3):
                return
            yield from ("a", entity.kind)
            self.told.add((entity, "kind"))
            if look:
                yield from ("with", "a", *self.look(entity, "mark").split())
        else:
            trade = entity.trade is not None and self.rng.random() < 0.8
            if not (trade or look):
                return
            yield "a"
            if trade and entity.trade is not None:
                yield prose.TRADES[entity.trade]
                self.told.add((entity, "trade"))
            else:
                yield "woman" if entity.gender == "f" else "man"
            if look:
                yield from ("in", "a", entity.coat or "", "coat")
        if look:
            self.told.add((entity, "look"))

    def names(self, person: Person) -> Iterator[list[str]]:
        yield [person.given]
        yield [person.given]
        yield self.full_name(person)
        if person is self.hero or not self.shares_surname(person):
            yield [person.surname]
        if not self.shares_surname(person, gender=True):
            married = any(kin == "spouse" and whose is person for (_, whose), kin in self.kin.items())
            yield ["Mr" if person.gender == "m" else "Mrs" if married else "Miss", person.surname]

    def other_names(self, entity: Place | Org) -> Iterator[list[str]]:
        yield self.full_name(entity)
        if isinstance(entity, Place):
            if (entity, "kind") in self.told or entity.kind in prose.AREAS:
                yield ["the", entity.kind]
                yield ["the", entity.kind]
        else:
            yield ["the", prose.ORG_NOUNS[entity.kind]]
            yield ["the", prose.ORG_NOUNS[entity.kind]]
            if (entity, "short") in self.told:
                yield [self.abbreviation(entity)]

    def trade_noun(self, person: Person) -> list[str]:
        assert person.trade is not None
        return ["the", prose.TRADES[person.trade]]

    def possessed(self, owner: Person, noun: str) -> list[str]:
        return [self.pronoun(owner, "his"), noun]

    def pronoun(self, person: Person, case: str) -> str:
        return _PRONOUNS[case][person.gender]

    def sibling(self, person: Person, other: Person) -> str:
        return "sibling"

    def add_kin_noun(self, noun: str) -> None:
        self.add("a")
        self.add(noun)

    def colour(self, colour: str) -> str:
        return colour

    def look(self, entity: Place | Org, form: str) -> str:
        if isinstance(entity, Place):
            return f"{entity.colour} {entity.landmark}" if form == "mark" else entity.landmark
        return entity.letter if form == "letter" else f"{entity.colour} {entity.shape}"

    def time(self, time: Time, form: str) -> None:
        if form == "that":
            self.mention(["that", "year"], time)
            return
        year, month = str(time.year), prose.MONTHS[time.month]
        if form == "in":
            self.add("on" if time.form == 2 else "in")
        season = prose.SEASONS[time.month % 4]
        forms = ([year], [month, year], [str(time.day), month, year], ["the", season, "of", year])
        self.mention(forms[time.form], time)

    def thing(self, form: str) -> str:
        pick = self.rng.choice
        if form == "work":
            return f"The {pick(self.prose.WORKS[0])} {pick(self.prose.WORKS[1])}"
        if form == "award":
            return f"the {pick(self.prose.AWARDS[0])} {pick(self.prose.AWARDS[1])}"
        if form == "feast":
            return f"the {pick(self.prose.FEASTS[0])} of {pick(self.prose.FEASTS[1])}"
        if form == "ship":
            return f"the {pick(self.prose.SHIPS[0])} {pick(self.prose.SHIPS[1])}"
        return str(pick(NUMBERS[:5] if form == "hours" else NUMBERS))

    @staticmethod
    def abbreviation(org: Org) -> str:
        """The initials by which an organization is known."""
        kind, trades = prose.ORGS[org.kind]
        return org.stem[0] + trades[org.trade][0] + kind[0]
