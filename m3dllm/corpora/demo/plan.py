"""Decides the content of a clip: its cast, its beats, and the facts that only its pictures show. No text, no drawing.

The same kind of sentence ("one picture shows … and …") goes with pictures that show a fact and with pictures that show
none, so that the text does not give the fact away.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product
from random import Random

from m3dllm.corpora.demo.beats import BEATS, KIN_OF, Beat
from m3dllm.corpora.demo.cast import (
    AREAS,
    COLOURS,
    LANDMARKS,
    LETTERS,
    SETTLEMENTS,
    SHAPES,
    Entity,
    Org,
    Person,
    Place,
    Time,
)
from m3dllm.corpora.demo.names import GENDERS, Gender, Names, draw, may_use
from m3dllm.types import Lang

MARKED_PAIRS = ("PER-PER_couple", "PER-PER_colleague", "PER-PER_peer", "PER-PER_neighbor", "PER-PER_other_relatives")
MARKED_PLACES = ("PER-LOC_residence", "PER-LOC_work", "PER-LOC_go_to", "PER-LOC_located")
MARKED_ORGS = ("PER-ORG_member", "PER-ORG_depart", "PER-ORG_go_to", "PER-ORG_located")
"""What a picture can say of two people, of a person and a landmark, of a person and a sign."""

_KIN = set(KIN_OF)
_EXCLUSIVE: tuple[set[str], ...] = (
    {"ORG-LOC_located", "ORG-LOC_nearby"},
    {"LOC-LOC_contain", "LOC-LOC_nearby"},
    {"PER-LOC_go_to", "PER-LOC_leave_for"},
    {"PER-PER_parents", "PER-PER_peer", "PER-PER_neighbor"},
    _KIN,
)
"""Of each set, two people (or places, …) have one at most."""
_NOT_BOTH = {"death": {"residence", "birth_home"}, "birth": {"birth_home"}, "couple": {"couple_colleague"}}
_NOT_BOTH |= {"parent": {"parents"}}
"""Beats that one person does not have together, each pair written once."""
_MOST_PEOPLE, _MOST_SETTLEMENTS, _MOST_ORGS = 7, 3, 2
_N_TRADES, _N_ORGS, _N_ORG_TRADES, _N_DATE_FORMS = 24, 8, 4, 4

_OTHER: dict[Gender, Gender] = {"f": "m", "m": "f"}
_MOTHER_AND_FATHER: dict[str, Gender] = {"Q": "f", "R": "m"}

Roles = dict[str, Entity]


@dataclass(slots=True)
class Story:
    """What the clips of one video share: its hero, and what was told of the hero."""

    lang: Lang
    split: str
    salted: bool
    names: Names
    abbreviate: Callable[[Org], str]
    hero: Person
    told: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Said:
    """Words without facts, by the name that the prose has for them, and who is in them."""

    words: str
    roles: Roles


@dataclass(frozen=True, slots=True)
class Told:
    """A beat and who is in it."""

    beat: Beat
    roles: Roles


@dataclass(frozen=True, slots=True)
class Seen:
    """A frame that the text may speak of: `relation` (None: nothing) holds between the two in it, and nowhere else."""

    roles: Roles
    relation: str | None

    @property
    def pair(self) -> tuple[Entity, Entity]:
        first, second = self.roles.values()
        return first, second


def new_story(
    rng: Random, lang: Lang, split: str, names: Names, abbreviate: Callable[[Org], str], *, salted: bool
) -> Story:
    """A story with a hero whose names the split may use."""
    gender = rng.choice(GENDERS)
    given, surname = rng.choice(names.people.given[gender]), rng.choice(names.people.surnames)
    hero = Person(gender, given, surname, rng.randrange(1862, 1932), rng.randrange(_N_TRADES))
    return Story(lang, split, salted, names, abbreviate, hero)


class Plan:
    """What one clip tells. `told` are its beats in order, `seen` the frames that show two of its cast together.

    `newcomers` are people who are only named, and then seen.
    """

    def __init__(self, rng: Random, story: Story, *, n_beats: int, n_seen: int) -> None:
        self.rng = rng
        self.story = story
        self.people = [story.hero]
        self.places: list[Place] = []
        self.orgs: list[Org] = []
        self.newcomers: list[Person] = []
        self.facts: list[tuple[str, Entity, Entity]] = []
        self.told: list[Told] = []
        self.seen: list[Seen] = []
        self.show: list[Entity] = []
        self._taken = {story.hero.given}
        self._beats_of: defaultdict[Person, set[str]] = defaultdict(set)
        self._beats_of[story.hero] |= story.told
        self._types: defaultdict[frozenset[Entity], set[str]] = defaultdict(set)
        self._spouses: set[Person] = {story.hero} if story.told & {"couple", "couple_colleague"} else set()
        story.hero.coat = None
        self._choose_beats(n_beats)
        self._choose_seen(n_seen)

    # --- beats --------------------------------------------------------------------------------------------------------

    def _choose_beats(self, n: int) -> None:
        openings = [beat for beat in BEATS if beat.stage < 1]
        for _ in range(500):
            if len(self.told) == n:
                break
            opening = not self.told and not self.story.told and self.rng.random() < 0.6
            pool = openings if opening else list(BEATS)
            beat = self.rng.choices(pool, [beat.weight for beat in pool])[0]
            self._try(beat)
        self.told.sort(key=lambda told: told.beat.stage + self.rng.uniform(-1.1, 1.1) * (told.beat.stage < 4))

    def _try(self, beat: Beat) -> None:
        """Cast the beat and add it, where nothing told so far speaks against it."""
        if sum(told.beat is beat for told in self.told) > 0:
            return
        adults = [person for person in self.people if person.born < self.story.hero.born + 15]
        focus = self.story.hero if self.rng.random() < 0.6 else self.rng.choice(adults)
        personal = "P" in beat.roles
        if personal and not self._may_have(focus, beat):
            return
        if not personal and not any(told.beat.roles[0] == "P" for told in self.told):
            return
        before = len(self.people), len(self.places), len(self.orgs)
        taken = set(self._taken)
        roles = self._cast(beat, focus)
        if roles is None or self._contradicts(beat, roles):
            del self.people[before[0] :], self.places[before[1] :], self.orgs[before[2] :]
            self._taken = taken
            return
        self.told.append(Told(beat, roles))
        for relation, head, tail in beat.facts:
            self._add(relation, roles[head], roles[tail])
        if personal:
            self._beats_of[focus].add(beat.name)
            if focus is self.story.hero and beat.once:
                self.story.told.add(beat.name)

    def _may_have(self, person: Person, beat: Beat) -> bool:
        had = self._beats_of[person]
        apart = {beat.name} | _NOT_BOTH.get(beat.name, set())
        apart |= {name for name, others in _NOT_BOTH.items() if beat.name in others}
        if (beat.once and had & apart) or had & (apart - {beat.name}):
            return False
        if "spouse" in beat.kin.values() and person in self._spouses:
            return False
        # someone who is a child or a parent in another beat has those relatives already
        related = {(relation, person is tail) for relation, head, tail in self.facts if person in (head, tail)}
        has_parents = ("PER-PER_parents", True) in related or ("PER-PER_brother_sister", False) in related
        has_parents |= ("PER-PER_brother_sister", True) in related
        if beat.name in ("parent", "parents", "sibling") and has_parents:
            return False
        return not (beat.name == "children" and ("PER-PER_parents", False) in related)

    def _cast(self, beat: Beat, focus: Person) -> Roles | None:
        """Somebody for each role, old or new; None where the clip would get too full."""
        roles: Roles = {"P": focus} if "P" in beat.roles else {}
        genders = _MOTHER_AND_FATHER if beat.name == "parents" else {}
        for role in beat.roles:
            if role in "QR":
                kin = beat.kin[role]
                known = [p for p in self.people if p not in roles.values() and not self._types[frozenset((p, focus))]]
                if kin == "other" and known and self.rng.random() < 0.3:
                    roles[role] = self.rng.choice(known)
                elif len(self.people) < _MOST_PEOPLE:
                    roles[role] = person = self._person(focus, kin, genders.get(role))
                    if kin == "child" and isinstance(roles["Q"], Person):
                        person.surname = roles["Q"].surname
                else:
                    return None
            elif role in "LM":
                place = self._place(roles, area=beat.area == role)
                if place is None:
                    return None
                roles[role] = place
            elif role in "ON":
                org = self._org(roles)
                if org is None:
                    return None
                roles[role] = org
        # every beat can be told with a time, though not every fact has one
        roles["T"] = self._time((focus if "P" in beat.roles else self.story.hero).born, beat.age)
        return roles

    def _contradicts(self, beat: Beat, roles: Roles) -> bool:
        for relation, head, tail in beat.facts:
            held = self._types[frozenset((roles[head], roles[tail]))]
            if relation in held or any(relation in one and one & held for one in _EXCLUSIVE):
                return True
        return False

    def _add(self, relation: str, head: Entity, tail: Entity) -> None:
        self.facts.append((relation, head, tail))
        self._types[frozenset((head, tail))].add(relation)
        if relation == "PER-PER_couple" and isinstance(head, Person) and isinstance(tail, Person):
            self._spouses |= {head, tail}

    # --- the cast -----------------------------------------------------------------------------------------------------

    def _person(self, focus: Person, kin: str, gender: Gender | None = None) -> Person:
        rng, english = self.rng, self.story.lang == "en"
        sex = rng.choice(GENDERS)
        if kin == "spouse":
            sex = _OTHER[focus.gender]
        elif gender is not None:
            sex = gender
        years, inherits = {
            "spouse": ((-4, 4), 0.5 if english else 0.0),
            "parent": ((-36, -23), 1.0 if english or sex == "m" else 0.0),
            "child": ((23, 34), 1.0 if english or focus.gender == "m" else 0.0),
            "sibling": ((-5, 5), 1.0),
            "relative": ((-50, 8), 0.6),
        }.get(kin, ((-18, 10), 0.12))
        surname = focus.surname
        if rng.random() >= inherits:
            surname = draw(rng, self.story.names.people.surnames, {p.surname for p in self.people})
        given = draw(rng, self.story.names.people.given[sex], self._taken)
        years_apart = rng.choice([n for n in range(*years) if n])
        free = sorted(set(range(_N_TRADES)) - {p.trade for p in self.people})
        trade = rng.choice(free) if kin != "child" and rng.random() < 0.75 else None
        person = Person(sex, given, surname, focus.born + years_apart, trade)
        self.people.append(person)
        return person

    def _place(self, roles: Roles, *, area: bool) -> Place | None:
        known = [place for place in self.places if (place.kind in AREAS) == area and place not in roles.values()]
        settlements = sum(place.kind not in AREAS for place in self.places)
        full = len(self.places) > settlements if area else settlements >= _MOST_SETTLEMENTS
        if known and (full or self.rng.random() < 0.5):
            return self.rng.choice(known)
        if full:
            return None
        kinds = [kind for kind in (AREAS if area else SETTLEMENTS) if all(kind != place.kind for place in self.places)]
        landmarks = [name for name in LANDMARKS if all(name != place.landmark for place in self.places)]
        stem = draw(self.rng, self.story.names.places, self._taken)
        colour = self.rng.choice(COLOURS)
        place = Place(stem, self.rng.choice(kinds), self.rng.choice(landmarks), colour)
        self.places.append(place)
        return place

    def _org(self, roles: Roles) -> Org | None:
        known = [org for org in self.orgs if org not in roles.values()]
        full = len(self.orgs) >= _MOST_ORGS
        if known and (full or self.rng.random() < 0.5):
            return self.rng.choice(known)
        if full:
            return None
        rng = self.rng
        kinds = [kind for kind in range(_N_ORGS) if all(kind != org.kind for org in self.orgs)]
        colours = [colour for colour in COLOURS if all(colour != org.colour for org in self.orgs)]
        shape, colour, letter = rng.choice(SHAPES), rng.choice(colours), rng.choice(LETTERS)
        while True:
            stem = rng.choice(self.story.names.stems)
            org = Org(stem, rng.choice(kinds), rng.randrange(_N_ORG_TRADES), shape, colour, letter)
            short = self.story.abbreviate(org)
            if short not in self._taken and may_use(short, self.story.split, salted=self.story.salted):
                break
        self._taken |= {stem, short}
        self.orgs.append(org)
        return org

    def _time(self, born: int, age: tuple[int, int]) -> Time:
        rng = self.rng
        return Time(born + rng.randint(*age), rng.randrange(_N_DATE_FORMS), rng.randrange(12), rng.randrange(1, 29))

    # --- pictures -----------------------------------------------------------------------------------------------------

    def _choose_seen(self, n: int) -> None:
        """`n` facts that only a frame shows, and sometimes a pair of people who are nothing to each other."""
        kinds = ("pair", "place", "org")
        shown = 0
        for _ in range(40):
            if shown == n:
                break
            kind = self.rng.choices(kinds, (0.42, 0.32, 0.26))[0]
            shown += self._show_pair() if kind == "pair" else self._show_at(kind)
        if n and self.rng.random() < 0.4:
            self._show_pair(related=False)
        for seen in self.seen:
            self.show += [entity for entity in seen.pair if entity not in self.show]
        people = [entity for entity in self.show if isinstance(entity, Person)]
        if self.rng.random() < 0.35 and len(people) < 6:
            others = [person for person in self.people if person not in people]
            people += self.rng.sample(others, min(1, len(others)))
        self.show += [person for person in people if person not in self.show]
        for person, coat in zip(people, self.rng.sample(COLOURS, len(people)), strict=True):
            person.coat = coat

    def _n_shown(self) -> int:
        return len({p for seen in self.seen for p in seen.pair if isinstance(p, Person)})

    def _show_pair(self, *, related: bool = True) -> bool:
        """A woman and a man side by side, so that no relation is more likely than another."""
        if self._n_shown() > 4:
            return False
        rng = self.rng
        pairs = [
            (one, other)
            for one, other in product(self.people, self.people)
            if one.gender == "f" and other.gender == "m" and not self._types[frozenset((one, other))] & _KIN
            if all({one, other} != set(seen.pair) for seen in self.seen)
        ]
        if (not pairs or rng.random() < 0.35) and len(self.people) < _MOST_PEOPLE + 1 and len(self.newcomers) < 2:
            known = rng.choice(self.people)
            newcomer = self._person(known, "newcomer", _OTHER[known.gender])
            self.newcomers.append(newcomer)
            pairs = [(known, newcomer)]
        if not pairs:
            return False
        pair = rng.choice(pairs)
        relation = rng.choice(MARKED_PAIRS) if related else None
        if relation:
            unlikely = self._spouses & set(pair) or abs(pair[0].born - pair[1].born) > 22
            if relation in self._types[frozenset(pair)] or (relation == "PER-PER_couple" and unlikely):
                return False
            self._add(relation, *pair)
        people = list(pair)
        rng.shuffle(people)
        self.seen.append(Seen({"P": people[0], "Q": people[1]}, relation))
        return True

    def _show_at(self, kind: str) -> bool:
        """Somebody before a landmark, or by a sign."""
        rng = self.rng
        role, relations = ("L", MARKED_PLACES) if kind == "place" else ("O", MARKED_ORGS)
        spots: list[Entity] = [*self._settlements()] if kind == "place" else [*self.orgs]
        known = {p for seen in self.seen for p in seen.pair}
        people = [p for p in self.people if p in known or self._n_shown() < 5]
        pairs = [
            (person, spot)
            for person, spot in product(people, spots)
            if all({person, spot} != set(seen.pair) for seen in self.seen)
        ]
        if not pairs:
            return False
        person, spot = rng.choice(pairs)
        relation = rng.choice(relations)
        held = self._types[frozenset((person, spot))]
        if relation in held or any(relation in one and one & held for one in _EXCLUSIVE):
            return False
        self._add(relation, person, spot)
        self.seen.append(Seen({"P": person, role: spot}, relation))
        return True

    def _settlements(self) -> list[Place]:
        return [place for place in self.places if place.kind not in AREAS]

    # --- people without facts -----------------------------------------------------------------------------------------

    def stranger(self) -> Person:
        """Somebody who is named and has nothing to do with anybody."""
        return self._person(self.story.hero, "stranger")

    def namesake(self) -> Person:
        """Somebody with the hero's surname who is no relative."""
        person = self._person(self.story.hero, "stranger")
        person.surname = self.story.hero.surname
        return person
