from __future__ import annotations

from m3dllm.score.entity import entity
from m3dllm.types import PRF, Annotation, Chain, Mention
from tests.small import annotated


def of(*mentions: Mention) -> Annotation:
    return Annotation(tuple(Chain(f"c{i}", (mention,)) for i, mention in enumerate(mentions)))


def marked(text: str) -> Annotation:
    return Annotation(annotated(text)[1])


def test_a_mention_that_ends_a_word_early_is_wrong():
    gold, pred = marked("[PER0 Ada Lovelace] wrote ."), marked("[PER0 Ada] Lovelace wrote .")
    assert entity(gold, pred) == PRF(0, 1, 0, 1)


def test_a_mention_of_another_type_is_wrong():
    assert entity(marked("[PER0 Paris] laughed ."), marked("[LOC0 Paris] laughed .")) == PRF(0, 1, 0, 1)


def test_chinese_mentions_are_counted_in_characters():
    gold, pred = marked("[PER0 苏珊]和[PER1 她的丈夫]"), marked("[PER0 苏珊]和[PER1 她]的丈夫")
    assert entity(gold, pred) == PRF(1, 2, 1, 2)


def test_a_mention_that_stands_twice_counts_once():
    once, twice = of(Mention(0, 3, "PER")), of(Mention(0, 3, "PER"), Mention(0, 3, "PER"))
    assert entity(once, twice) == PRF(1, 1, 1, 1)


def test_a_span_may_have_two_types():
    both = of(Mention(0, 3, "PER"), Mention(0, 3, "LOC"))
    assert entity(both, of(Mention(0, 3, "PER"))) == PRF(1, 1, 1, 2)


def test_nested_and_overlapping_mentions_count_each():
    gold = of(Mention(0, 8, "PER"), Mention(0, 3, "PER"), Mention(2, 5, "LOC"))
    assert entity(gold, gold) == PRF(3, 3, 3, 3)


def test_chains_do_not_matter():
    a, b = Mention(0, 1, "PER"), Mention(2, 3, "PER")
    assert entity(of(a, b), Annotation((Chain("c", (b, a)),))) == PRF(2, 2, 2, 2)


def test_nothing_on_either_side_is_absent():
    assert entity(Annotation(), Annotation()).f1 is None


def test_nothing_on_one_side_is_zero():
    one = of(Mention(0, 3, "PER"))
    assert entity(one, Annotation()) == PRF(0, 0, 0, 1)
    assert (entity(one, Annotation()).f1, entity(Annotation(), one).f1) == (0, 0)
