"""What is left of a prediction above a threshold."""

from __future__ import annotations

from m3dllm.confidence import at_least, confidences, without_confidences
from m3dllm.types import Annotation, Box, Chain, Mention, Region, Relation

WHOLE = Box(0, 0, 1, 1)


def ada(at: int, sure: float | None = None, link: float | None = None) -> Mention:
    return Mention(at, at + 3, "PER", sure, link)


def spans(annotation: Annotation) -> dict[str, list[int]]:
    return {chain.id: [m.start for m in chain.mentions] for chain in annotation.chains}


def test_a_mention_below_the_threshold_goes_and_its_chain_with_the_last():
    found = Annotation((Chain("c0", (ada(0, 0.9), ada(9, 0.2))), Chain("c1", (ada(20, 0.4),))))
    assert spans(at_least(found, 0.5)) == {"c0": [0]}


def test_a_mention_whose_link_is_below_becomes_a_chain_of_one():
    found = Annotation((Chain("c0", (ada(0), ada(9, 1, 0.4), ada(18, 1, 0.9))), Chain("c0.1", (ada(30),))))
    assert spans(at_least(found, 0.5)) == {"c0": [0, 18], "c0.2": [9], "c0.1": [30]}


def test_what_hangs_on_a_chain_that_went_goes_with_it():
    chains = Chain("c0", (ada(0, 0.2),)), Chain("c1", (ada(9, 0.9),)), Chain("c2", (ada(18, 0.9),))
    relations = (
        Relation("c0", "c1", "couple", 0.9),
        Relation("c1", "c2", "couple", 0.9),
        Relation("c2", "c1", "couple", 0.1),
    )
    regions = Region(0, WHOLE, "PER", "c0", 0.9), Region(1, WHOLE, "PER", None, 0.1)
    left = at_least(Annotation(chains, relations, regions), 0.5)
    assert left.relations == (relations[1],)
    assert left.regions == (Region(0, WHOLE, "PER", None),)


def test_what_hangs_on_a_region_that_went_goes_with_it():
    regions = Region(0, WHOLE, "cup", None, 0.9, "r0"), Region(0, WHOLE, "hat", None, 0.1, "r1")
    relations = Relation("c0", "r0", "holds"), Relation("c0", "r1", "wears")
    left = at_least(Annotation((Chain("c0", (ada(0),)),), relations, regions), 0.5)
    assert (left.relations, left.regions) == (relations[:1], regions[:1])


def test_a_chain_that_a_link_leaves_gets_no_name_of_a_region():
    found = Annotation((Chain("c0", (ada(0), ada(9, 1, 0.4))),), (), (Region(0, WHOLE, "cup", id="c0.1"),))
    assert spans(at_least(found, 0.5)) == {"c0": [0], "c0.2": [9]}


def test_a_part_without_a_confidence_is_always_kept():
    found = Annotation((Chain("c0", (ada(0), ada(9))),), (), (Region(0, WHOLE, "PER", "c0"),))
    assert at_least(found, 1) is found


def test_gold_made_of_a_prediction_has_no_confidence():
    found = Annotation((Chain("c0", (ada(0, 0.9), ada(9, 0.2, 0.1))),), (), (Region(0, WHOLE, "PER", "c0", 0.3),))
    assert list(confidences(found)) == [0.9, 0.2, 0.1, 0.3]
    assert list(confidences(without_confidences(found))) == []
    assert without_confidences(found) == found
