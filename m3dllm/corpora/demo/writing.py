"""Fills templates with text, records the mentions, and chooses how to refer to each entity.

A template is literal words and slots `{R}`, `{R+}` or `{R:form}`, R being a role (see `beats`). The forms of a slot:

- people: `{P}` a subject, so a pronoun where that is clear; `{P+}` no pronoun, introduced when new; `{P:n}` a name or
  a role noun; `{P:full}`; the pronouns `he`, `him`, `his`; `coat`, a colour; `child`, `parent`, … the noun for P's
  gender; `{Q:spouse.P}` "his wife", `{P:parent.+}` "their mother", `{Q:akin.P}` "an uncle";
- places and organizations: as it reads; `+` introduces, `n` never does; `mark` "blue tower", `sight` "tower", `sign`,
  `letter`;
- times: the date, `in` with its preposition (English), `that` "that year";
- W: `work`, `award`, `feast`, `ship`, `number`, `hours`: what looks like a name or a year and is none.

Mentions are names and definite descriptions of one entity ("his wife", "the painter", "the village"). Pronouns,
indefinite descriptions ("a painter") and plurals are none.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Any, ClassVar, NamedTuple

from m3dllm.corpora.demo.beats import KIN_OF, Beat, Kin
from m3dllm.corpora.demo.cast import Entity, Org, Person, Place, Time

_SLOT = re.compile(r"\{([A-Z])(\+|:[^}]*)?\}")
FAR_KIN = ("aunt", "cousin", "grand", "niece")
NUMBERS = (12, 20, 36, 48, 60, 90, 120, 300, 700, 1200, 2400)


class Mentioned(NamedTuple):
    """Tokens `start` to `end` (half open) mention `entity`."""

    start: int
    end: int
    entity: Entity


class Writer(ABC):
    """A text being written. `show`: the entities whose looks the text must describe, so that pictures are clear."""

    prose: ClassVar[Any]
    """The module with the words of this language."""
    joiner: ClassVar[str]
    """Between two tokens."""
    full_stop: ClassVar[str]

    def __init__(self, rng: Random, hero: Person, show: frozenset[Entity]) -> None:
        self.rng = rng
        self.hero = hero
        self.show = show
        self.tokens: list[str] = []
        self.mentions: list[Mentioned] = []
        self.sentences: list[tuple[int, int]] = []
        self.seen: set[Entity] = set()
        self.cast: list[Person] = []
        self.told: set[tuple[Entity, str]] = set()
        self.kin: dict[tuple[Person, Person], str] = {}
        self.last_time: Time | None = None
        self._named: set[Person] = set()
        self._used: set[str] = set()
        self._start = 0
        self._subject: Person | None = None
        self._present: list[Person] = []
        self._last_subject: Person | None = None
        self._last_present: list[Person] = []

    # --- telling ------------------------------------------------------------------------------------------------------

    def tell_beat(self, beat: Beat, roles: Mapping[str, Entity]) -> None:
        """Write a beat with one of its templates; from then on relatives can be referred to by kinship."""
        for relation, head, tail in beat.facts:
            if kin := KIN_OF.get(relation):
                self._relate(roles[head], kin, roles[tail])
        self.tell(self.prose.BEATS[beat.name], roles, hedge=self.rng.random() < 0.3)

    def tell(self, templates: Sequence[str], roles: Mapping[str, Entity], *, hedge: bool = False) -> None:
        """Write one of the templates, an unused one if possible; `hedge` puts a source ("it is said") before it."""
        template = self._fresh(templates)
        if hedge and template.startswith(("{P", "{Q", "{L", "{O")):
            template = self._fresh(self.prose.HEDGES) + self.joiner + template
        for piece in self.pieces(template):
            if isinstance(piece, str):
                self.add(piece)
                if piece == self.full_stop:
                    self._end_sentence()
            else:
                self._fill(*piece, roles)

    def _fresh(self, templates: Sequence[str]) -> str:
        """One of the templates, not used before where that is possible."""
        template = self.rng.choice([template for template in templates if template not in self._used] or templates)
        self._used.add(template)
        return template

    def show_looks(self, entities: Sequence[Entity]) -> None:
        """Describe the looks of the entities, where needed and not yet done."""
        for entity in entities:
            if entity in self.show and (entity, "look") not in self.told:
                if isinstance(entity, Person):
                    self.tell(self.prose.COAT, {"P": entity})
                elif isinstance(entity, Place):
                    self.tell(self.prose.LANDMARK, {"L": entity})
                elif isinstance(entity, Org):
                    self.tell(self.prose.SIGN, {"O": entity})
                self.told.add((entity, "look"))

    @classmethod
    def pieces(cls, template: str) -> Iterator[str | tuple[str, str]]:
        """The template as literal tokens and (role, form) slots."""
        at = 0
        for match in _SLOT.finditer(template):
            yield from cls.literals(template[at : match.start()])
            yield match[1], (match[2] or "").removeprefix(":")
            at = match.end()
        yield from cls.literals(template[at:])

    def _fill(self, role: str, form: str, roles: Mapping[str, Entity]) -> None:
        if role == "W":
            for token in self.literals(self.thing(form)):
                self.add(token)
            return
        entity = roles[role]
        if isinstance(entity, Person):
            self._person(entity, form, roles)
            return
        if isinstance(entity, Time):
            self.time(entity, form)
            self.last_time = entity
        elif form in ("mark", "sight", "sign", "letter"):
            for token in self.literals(self.look(entity, form)):
                self.add(token)
            if form in ("mark", "sign"):
                self.told.add((entity, "look"))
        elif entity not in self.seen:
            self.mention_new(entity, introduce=form == "+")
        else:
            self.mention(self.rng.choice(list(self.other_names(entity))), entity)
        self.seen.add(entity)

    # --- people -------------------------------------------------------------------------------------------------------

    def _person(self, person: Person, form: str, roles: Mapping[str, Entity]) -> None:
        noun, _, owner = form.partition(".")
        if form in ("he", "him", "his"):
            self.add(self.pronoun(person, form))
        elif form == "coat":
            self.add(self.colour(person.coat or ""))
            self.told.add((person, "look"))
        elif noun == "akin":
            self.add_kin_noun(self._kin_noun(person, roles[owner]))
        elif owner == "+":
            self.mention([self.their, self.prose.KIN[noun][person.gender]], person)
        elif owner:
            possessor = roles[owner]
            assert isinstance(possessor, Person)
            self.mention(self.possessed(possessor, self._kin_noun(person, possessor)), person)
        elif noun in self.prose.KIN:
            self.add(self.prose.KIN[noun][person.gender])
        elif person not in self._named:
            self.mention_new(person, introduce=form in ("", "+"))
            self._named.add(person)
        elif form == "full":
            self.mention(self.full_name(person), person)
        elif form == "" and self._pronoun_is_clear(person) and self.rng.random() < 0.6:
            self.add(self.pronoun(person, "he"))
        else:
            self.mention(self._reference(person), person)
        if form != "coat" and (not noun or noun not in self.prose.KIN or owner):
            self._appear(person)

    def _appear(self, person: Person) -> None:
        if self._subject is None:
            self._subject = person
        if person not in self._present:
            self._present.append(person)
        if person not in self.cast:
            self.cast.append(person)
        self.seen.add(person)

    def _pronoun_is_clear(self, person: Person) -> bool:
        """`person` was the last sentence's subject, and nobody else of the gender was in it."""
        others = (p for p in self._last_present if p is not person)
        return (
            self._subject is None
            and self._last_subject is person
            and all(other.gender != person.gender for other in others)
        )

    def _reference(self, person: Person) -> list[str]:
        """One of the ways to call somebody who is known already."""
        ways = list(self.names(person))
        if (person, "trade") in self.told:
            ways += 4 * [self.trade_noun(person)]
        owner = self._subject or self._last_subject
        if owner is not None and owner is not person:
            present = self._present if self._subject else self._last_present
            noun = self.kin.get((person, owner))
            alone = all(other is owner or other.gender != owner.gender for other in present)
            same = [other for (other, whose), n in self.kin.items() if whose is owner and n == noun]
            if noun and alone and all(other.gender != person.gender for other in same if other is not person):
                ways += len(ways) * [self.possessed(owner, self._kin_noun(person, owner))]
        return self.rng.choice(ways)

    def _relate(self, entity: Entity, kin: Kin, other: Entity) -> None:
        assert isinstance(entity, Person)
        assert isinstance(other, Person)
        if kin == "relative":
            self.kin[other, entity] = self._far_kin(other, entity)
        elif kin == "sibling":
            self.kin[entity, other] = self.sibling(entity, other)
            self.kin[other, entity] = self.sibling(other, entity)
        else:
            self.kin[entity, other] = kin
            self.kin[other, entity] = "spouse" if kin == "spouse" else "child"

    def _far_kin(self, entity: Person, other: Person) -> str:
        years = other.born - entity.born
        return "grand" if years > 40 else "aunt" if years > 14 else "cousin" if years > -12 else "niece"

    def _kin_noun(self, person: Person, other: Entity) -> str:
        assert isinstance(other, Person)
        noun: str = self.prose.KIN[self.kin[person, other]][person.gender]
        return noun

    def shares_surname(self, person: Person, *, gender: bool = False) -> bool:
        """Whether someone else in the story has the surname (and, with `gender`, the gender too)."""
        return any(
            other is not person and other.surname == person.surname and (not gender or other.gender == person.gender)
            for other in self.cast
        )

    # --- tokens -------------------------------------------------------------------------------------------------------

    def add(self, token: str) -> None:
        """Write one token that belongs to no mention."""
        self.tokens.append(token)

    def mention(self, tokens: Sequence[str], entity: Entity) -> None:
        """Write tokens that mention the entity."""
        start = len(self.tokens)
        for token in tokens:
            self.add(token)
        self.mentions.append(Mentioned(start, len(self.tokens), entity))

    def _end_sentence(self) -> None:
        self.sentences.append((self._start, len(self.tokens)))
        self._start = len(self.tokens)
        self._last_subject, self._last_present = self._subject, self._present
        self._subject, self._present = None, []

    # --- what a language decides --------------------------------------------------------------------------------------

    their: ClassVar[str]

    @staticmethod
    @abstractmethod
    def literals(text: str) -> Sequence[str]:
        """The tokens of literal text."""

    @abstractmethod
    def text(self) -> tuple[str, list[tuple[int, int]]]:
        """The text and the offsets of its tokens."""

    @abstractmethod
    def full_name(self, entity: Person | Place | Org) -> list[str]:
        """The full name, without an article."""

    @abstractmethod
    def mention_new(self, entity: Person | Place | Org, *, introduce: bool) -> None:
        """Mention somebody or something for the first time; `introduce` may add what they are."""

    @abstractmethod
    def names(self, person: Person) -> Iterator[list[str]]:
        """The names by which a known person can be called here."""

    @abstractmethod
    def other_names(self, entity: Place | Org) -> Iterator[list[str]]:
        """The names and nouns by which a known place or organization can be called here."""

    @abstractmethod
    def trade_noun(self, person: Person) -> list[str]:
        """The role noun of a person whose trade was mentioned, such as "the painter"."""

    @abstractmethod
    def possessed(self, owner: Person, noun: str) -> list[str]:
        """The noun with its possessive pronoun, such as "his wife"."""

    @abstractmethod
    def pronoun(self, person: Person, case: str) -> str:
        """The pronoun in the case of `he`, `him` or `his`."""

    @abstractmethod
    def sibling(self, person: Person, other: Person) -> str:
        """The key of KIN for what `person` is to a brother or sister."""

    @abstractmethod
    def add_kin_noun(self, noun: str) -> None:
        """Write "an uncle"."""

    @abstractmethod
    def colour(self, colour: str) -> str:
        """The word for a colour."""

    @abstractmethod
    def look(self, entity: Place | Org, form: str) -> str:
        """The words for what a place or organization is known by."""

    @abstractmethod
    def time(self, time: Time, form: str) -> None:
        """Write a date."""

    @abstractmethod
    def thing(self, form: str) -> str:
        """Something that looks like a name but is none."""

    @staticmethod
    @abstractmethod
    def abbreviation(org: Org) -> str:
        """The short form by which an organization is known."""
