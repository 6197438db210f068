"""How Chinese refers to people, places, organizations and times; every character is a token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from m3dllm.corpora.demo import prose_zh as prose
from m3dllm.corpora.demo.cast import AREAS, Org, Person, Place, Time
from m3dllm.corpora.demo.writing import NUMBERS, Writer

_DIGITS = "〇一二三四五六七八九"


class Chinese(Writer):
    """Chinese text."""

    prose: ClassVar[Any] = prose
    joiner: ClassVar[str] = ""
    full_stop: ClassVar[str] = "。"
    their: ClassVar[str] = "他们的"

    @staticmethod
    def literals(text: str) -> Sequence[str]:
        return tuple(text)

    def text(self) -> tuple[str, list[tuple[int, int]]]:
        return "".join(self.tokens), [(i, i + 1) for i in range(len(self.tokens))]

    def add(self, token: str) -> None:
        """Write the characters of the token, each as its own."""
        self.tokens += token

    def full_name(self, entity: Person | Place | Org) -> list[str]:
        if isinstance(entity, Person):
            return [entity.surname + entity.given]
        if isinstance(entity, Place):
            return [entity.stem + prose.PLACES[entity.kind]]
        kind, trades = prose.ORGS[entity.kind]
        return [entity.stem + trades[entity.trade] + kind]

    def mention_new(self, entity: Person | Place | Org, *, introduce: bool) -> None:
        look = introduce and entity in self.show and self.rng.random() < 0.6
        if isinstance(entity, Person):
            if look:
                self.add(f"穿{self.colour(entity.coat or '')}大衣的")
            if introduce and entity.trade is not None and self.rng.random() < 0.8:
                self.add(prose.TRADES[entity.trade])
                self.told.add((entity, "trade"))
        elif isinstance(entity, Place) and look:
            self.add(f"有{self.look(entity, 'mark')}的")
        self.mention(self.full_name(entity), entity)
        if isinstance(entity, Org):
            if introduce and self.rng.random() < 0.6:
                self.add("（简称")
                self.mention([self.abbreviation(entity)], entity)
                self.add("）")
                self.told.add((entity, "short"))
        elif look:
            self.told.add((entity, "look"))

    def names(self, person: Person) -> Iterator[list[str]]:
        yield [person.given]
        yield [person.given]
        yield self.full_name(person)
        if not self.shares_surname(person, gender=True):
            yield [person.surname + ("先生" if person.gender == "m" else "女士")]
        if not self.shares_surname(person) and len(person.surname) == 1:
            yield [("老" if person.born < self.hero.born - 8 else "小") + person.surname]

    def other_names(self, entity: Place | Org) -> Iterator[list[str]]:
        yield self.full_name(entity)
        if isinstance(entity, Place):
            yield [prose.PLACE_NOUNS[entity.kind]]
            if entity.kind not in AREAS:
                yield [entity.stem]
        else:
            yield [prose.ORG_NOUNS[entity.kind]]
            if (entity, "short") in self.told:
                yield [self.abbreviation(entity)]

    def trade_noun(self, person: Person) -> list[str]:
        assert person.trade is not None
        return ["这位" + prose.TRADES[person.trade]]

    def possessed(self, owner: Person, noun: str) -> list[str]:
        return [self.pronoun(owner, "his"), noun]

    def pronoun(self, person: Person, case: str) -> str:
        pronoun = "她" if person.gender == "f" else "他"
        return pronoun + "的" if case == "his" else pronoun

    def sibling(self, person: Person, other: Person) -> str:
        return "elder" if person.born < other.born else "younger"

    def add_kin_noun(self, noun: str) -> None:
        self.add(noun)

    def colour(self, colour: str) -> str:
        return prose.COLOURS[colour]

    def look(self, entity: Place | Org, form: str) -> str:
        colour = self.colour(entity.colour)
        if isinstance(entity, Place):
            sight = prose.LANDMARKS[entity.landmark]
            return f"一座{colour}的{sight}" if form == "mark" else sight
        return entity.letter if form == "letter" else f"一个{colour}的{prose.SHAPES[entity.shape]}"

    def time(self, time: Time, form: str) -> None:
        if form == "that":
            self.mention([self.rng.choice(("那一年", "这一年"))], time)
            return
        digits = time.day % 3 > 0
        year = str(time.year) if digits else "".join(_DIGITS[int(digit)] for digit in str(time.year))
        forms = (
            f"{year}年",
            f"{time.year}年{time.month + 1}月",
            f"{time.year}年{time.month + 1}月{time.day}日",
            f"{year}年{prose.SEASONS[time.month % 4]}",
        )
        self.mention([forms[time.form]], time)

    def thing(self, form: str) -> str:
        pick = self.rng.choice
        if form == "work":
            return f"《{pick(self.prose.WORKS[0])}{pick(self.prose.WORKS[1])}》"
        if form == "award":
            return f"{pick(self.prose.AWARDS[0])}{pick(self.prose.AWARDS[1])}"
        if form == "feast":
            return f"{pick(self.prose.FEASTS[0])}{pick(self.prose.FEASTS[1])}"
        if form == "ship":
            return f"“{pick(self.prose.SHIPS[0])}{pick(self.prose.SHIPS[1])}”"
        return str(pick(NUMBERS[:5] if form == "hours" else NUMBERS))

    @staticmethod
    def abbreviation(org: Org) -> str:
        """The short form by which an organization is known."""
        return org.stem + {"合作社": "社", "观测站": "站"}.get(prose.ORGS[org.kind][0], prose.ORGS[org.kind][0])
