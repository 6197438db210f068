"""The demo corpus under the guidelines of a register: the texts and frames of the plain one, annotated otherwise."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from m3dllm.corpora.check import check
from m3dllm.corpora.demo import frame_only_facts, generate_demo
from m3dllm.corpora.demo.register import NOTED, TURNED, register_labels
from m3dllm.corpora.imported import Imported
from m3dllm.corpora.m3d import m3d_guidelines, m3d_labels
from m3dllm.corpora.native import write_corpus
from m3dllm.guidelines import FILES, read_guidelines
from m3dllm.types import Example

LANGS = ("en", "zh")
SMALL = {"train": 30, "dev": 4, "test": 6}


@pytest.fixture(scope="module")
def plain() -> Imported:
    return generate_demo(7, documents=SMALL)


@pytest.fixture(scope="module")
def register() -> Imported:
    return generate_demo(7, documents=SMALL, variant="register")


def pairs(plain: Imported, register: Imported, lang: str) -> list[tuple[Example, Example]]:
    """The examples of both, side by side."""
    both = [(a, b) for split in SMALL for a, b in zip(plain.splits[split], register.splits[split], strict=True)]
    return [(a, b) for a, b in both if a.document.lang == lang]


def test_documents_and_images_are_those_of_the_plain_corpus(plain: Imported, register: Imported):
    for lang in LANGS:
        assert all(a.document == b.document for a, b in pairs(plain, register, lang))
    files = plain.images.keys() - {*FILES.values(), "evidence.json"}
    assert all(plain.images[name] == register.images[name] for name in files)


def test_its_relation_types_stand_in_no_other_corpus_and_its_guidelines_are_its_own(register: Imported):
    assert register.labels.names("relations").isdisjoint(m3d_labels().names("relations"))
    assert {register.images[name] for name in FILES.values()}.isdisjoint(m3d_guidelines().values())


def test_every_relation_of_the_plain_corpus_that_it_notes_has_a_type_there():
    plain, own = m3d_labels(), register_labels()
    assert NOTED.keys() <= plain.names("relations")
    assert set(NOTED.values()) == own.names("relations")
    for before, after in NOTED.items():
        old, new = plain.relation(before), own.relation(after)
        assert old is not None
        assert new is not None
        ends = (old.tail, old.head) if before in TURNED else (old.head, old.tail)
        assert all(new.joins(head, tail) for head, tail in product(*ends))


def test_the_gold_is_legal_and_of_its_types(register: Imported, tmp_path: Path):
    write_corpus(tmp_path / "made", register)
    assert check(tmp_path / "made").problems == []
    assert set(read_guidelines(tmp_path / "made")) == set(LANGS)


DESCRIBED = {
    "en": ("The ", "the ", "his ", "her ", "their ", "His ", "Her ", "Their ", "That ", "that "),
    "zh": ("这", "那", "他", "她"),
}


@pytest.mark.parametrize("lang", LANGS)
def test_of_the_mentions_those_stay_that_are_names_or_dates(plain: Imported, register: Imported, lang: str):
    stayed, went = set(), set()
    for a, b in pairs(plain, register, lang):
        kept = {mention.span for mention in b.gold.mentions}
        assert kept <= {mention.span for mention in a.gold.mentions}
        for mention in a.gold.mentions:
            (stayed if mention.span in kept else went).add(a.document.text[mention.start : mention.end])
    assert {text for text in stayed if text.startswith(DESCRIBED[lang]) and not text[-4:].isdecimal()} == set()
    assert {text for text in went if not text.startswith(DESCRIBED[lang])} == set()
    assert min(len(stayed), len(went)) > 20


@pytest.mark.parametrize("lang", LANGS)
def test_a_relation_is_noted_where_the_plain_corpus_has_one_of_its_kind(plain: Imported, register: Imported, lang: str):
    noted = 0
    for a, b in pairs(plain, register, lang):
        before = {(NOTED[r.type], frozenset((r.head, r.tail))) for r in a.gold.relations if r.type in NOTED}
        after = [(r.type, frozenset((r.head, r.tail))) for r in b.gold.relations]
        kept = {chain.id for chain in b.gold.chains}
        assert set(after) == {fact for fact in before if fact[1] <= kept}
        assert len(set(after)) == len(after)
        noted += len(after)
    assert noted > 100


@pytest.mark.parametrize("lang", LANGS)
def test_a_child_stands_before_its_parent(plain: Imported, register: Imported, lang: str):
    for a, b in pairs(plain, register, lang):
        parents = {(r.head, r.tail) for r in a.gold.relations if r.type == "PER-PER_parents"}
        children = {(r.tail, r.head) for r in b.gold.relations if r.type == "PER-PER_child"}
        assert children <= parents


@pytest.mark.parametrize("lang", LANGS)
def test_only_persons_have_boxes_and_the_frames_stay_annotated(plain: Imported, register: Imported, lang: str):
    for a, b in pairs(plain, register, lang):
        people = [(r.frame, r.box) for r in a.gold.regions if r.type == "PER"]
        assert [(r.frame, r.box) for r in b.gold.regions] == people
        assert {r.chain for r in b.gold.regions if r.chain} <= {chain.id for chain in b.gold.chains}


def test_frames_alone_show_some_of_its_relations_too(register: Imported):
    facts = [
        (e.document.id, i) for split in SMALL for e in register.splits[split] for i in range(len(e.gold.relations))
    ]
    hidden = frame_only_facts(register)
    assert hidden <= set(facts)
    assert len(hidden) > 0.1 * len(facts)
