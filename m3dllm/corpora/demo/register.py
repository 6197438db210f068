"""The demo corpus as a register office would annotate it: the same texts and frames under other guidelines.

Only names and dates are mentions, only persons have boxes, and its few relation types have names that stand in no other
corpus. No model was pretrained on them, so that it shows what tuning is for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from m3dllm.corpora.demo.clip import Clip
from m3dllm.files import read_bytes
from m3dllm.guidelines import FILES
from m3dllm.labels import LabelSet
from m3dllm.types import Annotation, Lang, Relation
from m3dllm.wire import read_labels

NOTED: Mapping[str, str] = {
    "PER-PER_parents": "PER-PER_child",
    "PER-PER_couple": "PER-PER_kin",
    "PER-PER_brother_sister": "PER-PER_kin",
    "PER-PER_other_relatives": "PER-PER_kin",
    "PER-PER_colleague": "PER-PER_company",
    "PER-PER_peer": "PER-PER_company",
    "PER-PER_neighbor": "PER-PER_company",
    "PER-PER_employ": "PER-PER_company",
    "PER-ORG_member": "PER-ORG_roll",
    "PER-ORG_depart": "PER-ORG_roll",
    "PER-LOC_birth": "PER-LOC_home",
    "PER-LOC_residence": "PER-LOC_home",
    "PER-LOC_work": "PER-LOC_stay",
    "PER-LOC_located": "PER-LOC_stay",
    "PER-LOC_go_to": "PER-LOC_stay",
    "PER-LOC_leave_for": "PER-LOC_stay",
    "PER-TIME_birth_time": "PER-TIME_life",
    "PER-TIME_death_time": "PER-TIME_life",
    "PER-TIME_entry": "PER-TIME_service",
    "PER-TIME_depart": "PER-TIME_service",
    "ORG-LOC_located": "ORG-LOC_seat",
    "ORG-LOC_nearby": "ORG-LOC_seat",
    "LOC-LOC_contain": "LOC-LOC_part",
}
"""What a relation of the demo corpus is called in the register; the others are not noted there."""
TURNED = frozenset(("PER-PER_parents", "LOC-LOC_contain"))
"""Whose head the register writes as the tail."""
_DESCRIPTION: Mapping[Lang, re.Pattern[str]] = {
    "en": re.compile(r"(the|his|her|their|that) [^0-9]+", re.IGNORECASE),
    "zh": re.compile(r"(这|那|他的|她的|他们的).+"),
}
"""A mention without a name or a year."""


@cache
def register_labels() -> LabelSet:
    """The types of the register, glossed in English and Chinese."""
    return read_labels(Path(__file__).with_name("register_labels.json"))


def register_guidelines() -> dict[str, bytes]:
    """What the register marks, as the files that a corpus has of it."""
    return {name: read_bytes(Path(__file__).with_name(f"register_{name}")) for name in FILES.values()}


def registered(clip: Clip) -> Clip:
    """The clip with the gold of the register."""
    gold, document = clip.example.gold, clip.example.document
    describes = _DESCRIPTION[document.lang].fullmatch
    chains = []
    for chain in gold.chains:
        if names := tuple(m for m in chain.mentions if not describes(document.text[m.start : m.end])):
            chains.append(replace(chain, mentions=names))
    chains.sort(key=lambda chain: min(chain.mentions))
    order = {chain.id: i for i, chain in enumerate(chains)}
    unsaid: dict[Relation, bool] = {}  # whether frames alone show it
    for i, relation in enumerate(gold.relations):
        if relation.type in NOTED and {relation.head, relation.tail} <= order.keys():
            noted = _noted(relation, order)
            unsaid[noted] = unsaid.get(noted, True) and i in clip.frames_only
    relations = tuple(sorted(unsaid, key=lambda r: (order[r.head], order[r.tail], r.type)))
    regions = tuple(
        replace(region, chain=region.chain if region.chain in order else None)
        for region in gold.regions
        if region.type in register_labels().names("regions")
    )
    noted_gold = Annotation(tuple(chains), relations, regions)
    frames_only = tuple(i for i, relation in enumerate(relations) if unsaid[relation])
    return Clip(replace(clip.example, gold=noted_gold), clip.images, frames_only)


def _noted(relation: Relation, order: Mapping[str, int]) -> Relation:
    """The relation as the register has it: of a symmetric one the chain that is named first stands first."""
    head, tail, kind = relation.head, relation.tail, NOTED[relation.type]
    backwards = order[head] > order[tail] if kind in register_labels().symmetric else relation.type in TURNED
    return Relation(tail, head, kind) if backwards else Relation(head, tail, kind)
