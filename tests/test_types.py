"""Values are checked when they are made."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3dllm.labels import Label, LabelSet, RelationLabel
from m3dllm.tokens import tokenize
from m3dllm.types import (
    PRF,
    Annotation,
    Box,
    Chain,
    Document,
    Example,
    Frame,
    Mention,
    RawOutput,
    Region,
    Relation,
    Segment,
)

ADA = Chain("c0", (Mention(0, 3, "PER"),))
LONDON = Chain("c1", (Mention(4, 7, "LOC"),))
STILL = Frame(24, "frames/a.png", 64, 48, annotated=True)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Mention(3, 3, "PER"),
        lambda: Mention(-1, 3, "PER"),
        lambda: Segment(5, 2, 0, 1),
        lambda: Segment(0, 2, 3, 1),
        lambda: Frame(-24, "a.png", 64, 48),
        lambda: Frame(24, "a.png", 0, 48),
        lambda: Chain("c0", ()),
        lambda: Relation("c0", "c0", "couple"),
        lambda: Annotation((ADA, ADA)),
        lambda: Annotation((ADA,), (Relation("c0", "c9", "couple"),)),
        lambda: Annotation((ADA,), (), (Region(24, Box(0, 0, 1, 1), "PER", "c9"),)),
        lambda: Document("", "en", "text"),
        lambda: Document("a", "en", "text", tokens=((2, 9),)),
        lambda: Document("a", "en", "text", segments=(Segment(0, 9, 0, 1),)),
        lambda: Document("a", "en", "text", frames=(STILL, STILL)),
        lambda: Example(Document("a", "en", "Ad"), Annotation((ADA,))),
        lambda: Example(Document("a", "en", ""), Annotation(regions=(Region(24, Box(0, 0, 1, 1), "PER"),))),
        lambda: Example(
            Document("a", "en", "", frames=(STILL,)), Annotation(regions=(Region(24, Box(0.5, 0, 0.5, 1), "PER"),))
        ),
    ],
)
def test_what_makes_no_sense_cannot_be_made(make):
    with pytest.raises(ValueError, match=r"\w"):
        make()


def test_a_chain_has_the_type_of_most_of_its_mentions():
    mentions = Mention(0, 1, "LOC"), Mention(2, 3, "PER"), Mention(4, 5, "PER")
    assert Chain("c", mentions).type == "PER"


def test_a_tie_between_types_goes_to_the_first_mention():
    assert Chain("c", (Mention(2, 3, "PER"), Mention(0, 1, "LOC"))).type == "PER"


def test_a_prediction_may_hold_an_illegal_box():
    assert not Annotation(regions=(Region(24, Box(math.nan, 0, 1, 1), "PER"),)).regions[0].box.is_legal


def test_yolo_order_is_centre_and_size():
    assert Box.from_cxcywh(0.5, 0.5, 0.2, 0.4) == pytest.approx((0.4, 0.3, 0.6, 0.7))


def test_two_opposite_corners_come_in_any_order():
    assert Box.from_corners(60, 10, 20, 40, size=(100, 50)) == Box(0.2, 0.2, 0.6, 0.8)


def test_an_error_may_be_a_string_and_is_then_final():
    failure = RawOutput("a", error="no answer").failure
    assert failure is not None
    assert (failure.message, failure.retryable) == ("no answer", False)


def test_a_ratio_over_nothing_is_absent_and_over_one_empty_side_zero():
    assert (PRF().precision, PRF().f1) == (None, None)
    assert (PRF(r_den=2).precision, PRF(r_den=2).recall, PRF(r_den=2).f1) == (0, 0, 0)


@given(st.lists(st.builds(PRF, *[st.floats(0, 10)] * 4)), st.randoms())
def test_counts_add_up_alike_in_any_order(counts, random):
    shuffled = random.sample(counts, len(counts))
    assert PRF.sum(counts) == PRF.sum(shuffled)


def test_a_label_falls_back_to_its_other_gloss_and_then_to_its_name():
    assert Label("PER", "person", "人物").gloss("zh") == "人物"
    assert Label("PER", "person").gloss("zh") == "person"
    assert Label("PER").gloss("en") == "PER"


def test_a_relation_type_joins_only_its_types_and_a_symmetric_one_either_way():
    birth = RelationLabel("birth", head=("PER",), tail=("LOC",))
    assert birth.joins("PER", "LOC")
    assert not birth.joins("LOC", "PER")
    assert RelationLabel("near", head=("PER",), tail=("LOC",), symmetric=True).joins("LOC", "PER")
    assert RelationLabel("any").joins("LOC", "LOC")


def test_unknown_types_are_named_with_their_place():
    labels = LabelSet((Label("PER"),), (RelationLabel("couple"),), ())
    annotation = Annotation((ADA, LONDON), (Relation("c0", "c1", "born"),), (Region(24, Box(0, 0, 1, 1), "PER"),))
    places = [place for place, _ in labels.unknown(annotation)]
    assert places == ["chains[1].mentions[0].type", "relations[0].type", "regions[0].type"]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Ada's 2nd house.", ["Ada", "'", "s", "2nd", "house", "."]),
        ("苏珊在London。", ["苏", "珊", "在", "London", "。"]),
        ("día – x_y", ["día", "–", "x", "_", "y"]),
        ("𠮷野家", ["𠮷", "野", "家"]),
        ("", []),
        (" \n\t", []),
    ],
)
def test_tokens_are_words_marks_and_chinese_characters(text, tokens):
    assert [text[a:b] for a, b in tokenize(Document("a", "en", text))] == tokens


def test_the_corpus_own_tokens_go_before_the_rule():
    assert tokenize(Document("a", "en", "ab cd", tokens=((0, 5),))) == ((0, 5),)


CUP = Region(0, Box(0, 0, 1, 1), "cup", id="r0")


def test_a_relation_may_join_chains_and_regions():
    relations = Relation("c0", "r0", "holds"), Relation("r0", "c0", "of")
    found = Annotation((ADA,), relations, (CUP,))
    assert (found.relations, found.between_chains) == (relations, ())


@pytest.mark.parametrize(
    ("chains", "regions", "where"),
    [((ADA,), (replace(CUP, id="c0"),), "regions[0].id 'c0'"), ((), (CUP, CUP), "regions[1].id 'r0'")],
)
def test_chains_and_regions_share_one_set_of_ids(chains, regions, where):
    with pytest.raises(ValueError, match=re.escape(f"{where} is already the id of a chain or of another region")):
        Annotation(chains, (), regions)


def test_a_region_without_an_id_is_no_side_of_a_relation():
    with pytest.raises(ValueError, match=r"relations\[0\]\.tail refers to 'r0', which is neither a chain nor a region"):
        Annotation((ADA,), (Relation("c0", "r0", "holds"),), (replace(CUP, id=None),))


def test_what_is_pruned_refers_to_what_is_left():
    relations = Relation("c0", "r0", "holds"), Relation("r0", "r1", "on")
    regions = replace(CUP, chain="c1"), replace(CUP, id="r1", chain="c0")
    found = Annotation.pruned((ADA,), relations, regions[:1])
    assert found == Annotation((ADA,), relations[:1], (CUP,))


def test_a_relation_type_may_join_types_of_regions():
    labels = LabelSet((Label("PER"),), (RelationLabel("holds", head=("PER",), tail=("cup",)),), (Label("cup"),))
    assert labels.relations[0].joins("PER", "cup")
    with pytest.raises(ValueError, match="joins 'hat', which is neither a mention type nor a region type"):
        replace(labels, relations=(RelationLabel("wears", tail=("hat",)),))
