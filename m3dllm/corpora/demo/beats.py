"""The events of a story: each beat lists the roles that it needs and the relations that it states.

Their sentences are in `prose_en` and `prose_zh`, under the same names. Roles are one letter: P is the person in focus,
Q and R are others (`kin` says what they are to P), L and M places, O and N organizations, T a time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Kin = Literal["spouse", "parent", "child", "sibling", "relative", "other"]
KIN_OF: dict[str, Kin] = {
    "PER-PER_couple": "spouse",
    "PER-PER_parents": "parent",
    "PER-PER_brother_sister": "sibling",
    "PER-PER_other_relatives": "relative",
}
"""What the relation makes the head to the tail ("relative": the tail to the head)."""


@dataclass(frozen=True, slots=True)
class Beat:
    """`facts` are (relation type, head role, tail role).

    `kin` says what Q and R are to P, `stage` when it happens in a life (0 birth to 4 death), `weight` how often it is
    told, `once` that a person has it at most once, `age` how old P is at T, `area` which role is a valley, county or
    island.
    """

    name: str
    facts: tuple[tuple[str, str, str], ...]
    stage: float = 2
    weight: float = 1
    kin: dict[str, Kin] = field(default_factory=dict)
    once: bool = False
    age: tuple[int, int] = (20, 34)
    area: str = ""

    @property
    def roles(self) -> tuple[str, ...]:
        """Every role of the facts, in order."""
        return tuple(dict.fromkeys(role for _, head, tail in self.facts for role in (head, tail)))


BEATS = (
    Beat(
        "birth",
        (("PER-LOC_birth", "P", "L"), ("PER-TIME_birth_time", "P", "T")),
        stage=0,
        weight=2,
        once=True,
        age=(0, 0),
    ),
    Beat("birth_home", (("PER-LOC_birth", "P", "L"), ("PER-LOC_residence", "P", "L")), stage=0, weight=1.4, once=True),
    Beat("parent", (("PER-PER_parents", "Q", "P"),), stage=0.3, kin={"Q": "parent"}, once=True),
    Beat(
        "parents",
        (("PER-PER_parents", "Q", "P"), ("PER-PER_parents", "R", "P"), ("PER-PER_couple", "Q", "R")),
        stage=0.2,
        kin={"Q": "parent", "R": "parent"},
        once=True,
    ),
    Beat("sibling", (("PER-PER_brother_sister", "P", "Q"),), stage=0.5, kin={"Q": "sibling"}),
    Beat("relative", (("PER-PER_other_relatives", "P", "Q"),), stage=0.8, kin={"Q": "relative"}),
    Beat("peer", (("PER-PER_peer", "P", "Q"),), stage=1, kin={"Q": "other"}),
    Beat("couple", (("PER-PER_couple", "P", "Q"),), stage=2.2, kin={"Q": "spouse"}, once=True),
    Beat(
        "couple_colleague",
        (
            ("PER-PER_couple", "P", "Q"),
            ("PER-PER_colleague", "P", "Q"),
            ("PER-ORG_member", "P", "O"),
            ("PER-ORG_member", "Q", "O"),
        ),
        weight=0.8,
        kin={"Q": "spouse"},
        once=True,
    ),
    Beat(
        "children",
        (("PER-PER_parents", "P", "Q"), ("PER-PER_parents", "P", "R"), ("PER-PER_brother_sister", "Q", "R")),
        stage=2.8,
        kin={"Q": "child", "R": "child"},
        once=True,
    ),
    Beat("colleague", (("PER-PER_colleague", "P", "Q"),), kin={"Q": "other"}),
    Beat(
        "desk",
        (("PER-PER_colleague", "P", "Q"), ("PER-ORG_member", "P", "O"), ("PER-ORG_member", "Q", "O")),
        weight=0.7,
        kin={"Q": "other"},
    ),
    Beat("neighbor", (("PER-PER_neighbor", "P", "Q"),), stage=2.5, kin={"Q": "other"}),
    Beat("employ", (("PER-PER_employ", "P", "Q"),), stage=1.8, weight=1.2, kin={"Q": "other"}),
    Beat("member", (("PER-ORG_member", "P", "O"), ("PER-TIME_entry", "P", "T")), stage=1.6),
    Beat("depart", (("PER-ORG_depart", "P", "O"), ("PER-TIME_depart", "P", "T")), stage=3, weight=1.8, age=(36, 55)),
    Beat("org_visit", (("PER-ORG_go_to", "P", "O"),), weight=1.3),
    Beat("seat", (("ORG-LOC_located", "O", "L"),)),
    Beat("org_nearby", (("ORG-LOC_nearby", "O", "L"),)),
    Beat("founded", (("ORG-TIME_establish", "O", "T"),), stage=1.5, weight=0.8, age=(-45, -18)),
    Beat("affiliated", (("ORG-ORG_affiliated", "N", "O"),), weight=0.7),
    Beat("residence", (("PER-LOC_residence", "P", "L"),), stage=2.6),
    Beat("work", (("PER-LOC_work", "P", "L"),), stage=2),
    Beat("journey", (("PER-LOC_leave_for", "P", "L"), ("PER-LOC_go_to", "P", "M")), stage=1.9),
    Beat("visit", (("PER-LOC_go_to", "P", "L"),), stage=2.3, weight=0.6),
    Beat("stay", (("PER-LOC_located", "P", "L"),), stage=2.4, weight=0.8),
    Beat("contain", (("LOC-LOC_contain", "M", "L"),), stage=1.5, weight=0.8, area="M"),
    Beat("near", (("LOC-LOC_nearby", "L", "M"),), stage=1.5, weight=0.8),
    Beat("town_founded", (("LOC-TIME_establish", "L", "T"),), stage=1.2, weight=0.7, age=(-90, -20)),
    Beat("death", (("PER-TIME_death_time", "P", "T"),), stage=4, weight=0.9, once=True, age=(58, 80)),
)
BEAT = {beat.name: beat for beat in BEATS}
