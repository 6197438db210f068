"""The rules without a model, and the heuristic baselines that they set."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m3dllm.corpora.m3d import read_m3d
from m3dllm.heuristics import (
    CHAIN_RULES,
    BoxRule,
    RelationRule,
    Tally,
    best_cut,
    box_rules,
    box_tallies,
    chain_by,
    iou,
    n_regions,
    n_relations,
    relate,
    relation_rules,
    relation_tallies,
)
from m3dllm.labels import Label, LabelSet, RelationLabel
from m3dllm.score import Settings
from m3dllm.score.grounding import iou as scored_iou
from m3dllm.score.heuristics import heuristic_baselines
from m3dllm.score.relation import relation
from m3dllm.types import Annotation, Box, Chain, Document, Example, Frame, Mention, Region, Relation
from tests.small import LABELS, example
from tests.strategies import examples, grid_boxes

SYMMETRIC = frozenset({"PER-PER_couple"})


def texts(chained: Example, rule: str) -> list[list[str]]:
    document = chained.document
    chains = chain_by(document, chained.gold.mentions, rule)
    return [[document.text[m.start : m.end] for m in chain.mentions] for chain in chains]


# --- chains ---


ADA = example("d", "[PER0 Ada Byron] met [PER1 Lord Byron] and [PER2 ada byron] in [LOC3 Byron] .")
SUSAN = example("d", "[PER0 乔治亚]和[PER1 苏乔治]，[PER2 乔治亚]，[PER3 乔治]", lang="zh")


def test_singletons_join_nothing():
    assert texts(ADA, "singletons") == [["Ada Byron"], ["Lord Byron"], ["ada byron"], ["Byron"]]


def test_same_text_joins_lower_cased_texts():
    assert texts(ADA, "same_text") == [["Ada Byron", "ada byron"], ["Lord Byron"], ["Byron"]]


def test_same_last_word_joins_within_a_type_only():
    assert texts(ADA, "same_last_word") == [["Ada Byron", "Lord Byron", "ada byron"], ["Byron"]]


def test_in_chinese_the_last_word_is_the_last_two_characters():
    assert texts(SUSAN, "same_last_word") == [["乔治亚", "乔治亚"], ["苏乔治", "乔治"]]


def test_a_span_counts_once():
    mentions = [Mention(0, 3, "PER"), Mention(0, 3, "LOC"), Mention(4, 7, "PER")]
    chains = chain_by(Document("d", "en", "Ada ada"), mentions, "same_text")
    assert sorted(m.span for chain in chains for m in chain.mentions) == [(0, 3), (4, 7)]


def test_no_mentions_are_no_chains():
    assert chain_by(Document("d", "en", ""), [], "same_text") == ()


@given(examples())
def test_each_rule_partitions_the_spans(drawn):
    spans = sorted({mention.span for mention in drawn.gold.mentions})
    for rule in CHAIN_RULES:
        chains = chain_by(drawn.document, drawn.gold.mentions, rule)
        assert sorted(mention.span for chain in chains for mention in chain.mentions) == spans


@given(examples())
def test_each_rule_joins_what_the_one_before_it_joins(drawn):
    finer = [chain_by(drawn.document, drawn.gold.mentions, rule) for rule in CHAIN_RULES]
    for fine, coarse in itertools.pairwise(finer):
        assert all(any(chain.spans <= other.spans for other in coarse) for chain in fine)


# --- relations ---


BORN = example(
    "d0", "[PER0 Ada] , [PER1 Bela] , [LOC2 Arles] .", relations=[("c0", "c2", "PER-LOC_birth"), ("c1", "c0", "parent")]
)
WED = example("d1", "[PER0 Cora] , [PER1 Dan] , [LOC2 Basel] .", relations=[("c1", "c0", "PER-PER_couple")])


def test_rules_come_with_the_most_precise_first():
    rules = relation_rules([BORN, WED], SYMMETRIC)
    tallies = relation_tallies(rules, [BORN, WED], SYMMETRIC)
    assert {(r.head, r.tail, r.order, r.type): (tallies[r].tp, tallies[r].predicted) for r in rules} == {
        ("PER", "PER", "first", "PER-PER_couple"): (1, 2),
        ("PER", "PER", "second", "parent"): (1, 2),
        ("PER", "LOC", "any", "PER-LOC_birth"): (1, 4),
    }
    assert rules[-1].type == "PER-LOC_birth"


def test_a_symmetric_relation_written_both_ways_counts_once():
    both = example(
        "d", "[PER0 Cora] , [PER1 Dan]", relations=[("c0", "c1", "PER-PER_couple"), ("c1", "c0", "PER-PER_couple")]
    )
    assert n_relations([both], SYMMETRIC) == 1
    assert n_relations([both], frozenset()) == 2


def test_the_most_frequent_type_of_a_pair_wins_and_a_tie_goes_to_the_first_name():
    def pair(name: str, kind: str) -> Example:
        return example(name, "[PER0 Ada] , [LOC1 Arles]", relations=[("c0", "c1", kind)])

    assert [r.type for r in relation_rules([pair("a", "x"), pair("b", "x"), pair("c", "b")], SYMMETRIC)] == ["x"]
    assert [r.type for r in relation_rules([pair("a", "x"), pair("b", "b")], SYMMETRIC)] == ["b"]


def test_rules_say_their_type_of_every_pair():
    chains = (*BORN.gold.chains, Chain("c9", (Mention(20, 25, "LOC"),)))
    found = relate(chains, [RelationRule("PER", "LOC", "any", "birth"), RelationRule("PER", "PER", "second", "parent")])
    assert [(r.head, r.tail, r.type) for r in found] == [
        ("c0", "c2", "birth"),
        ("c0", "c9", "birth"),
        ("c1", "c2", "birth"),
        ("c1", "c9", "birth"),
        ("c1", "c0", "parent"),
    ]


@st.composite
def related(draw: st.DrawFn) -> list[Example]:
    """Documents of up to five chains of one mention each, with any relations."""
    made = []
    for i in range(draw(st.integers(0, 3))):
        kinds = draw(st.lists(st.sampled_from(("PER", "LOC")), max_size=5))
        marked = " , ".join(f"[{kind}{k} x{k}]" for k, kind in enumerate(kinds))
        pairs = [(f"c{a}", f"c{b}") for a in range(len(kinds)) for b in range(len(kinds)) if a != b]
        names = st.sampled_from(("PER-PER_couple", "r", "s"))
        facts = draw(st.lists(st.tuples(st.sampled_from(pairs), names), max_size=6)) if pairs else []
        made.append(example(f"d{i}", marked, relations=[(*pair, name) for pair, name in facts]))
    return made


@settings(max_examples=60)
@given(related())
def test_the_tally_of_a_rule_is_what_the_scorer_counts(drawn):
    for rule, tally in relation_tallies(relation_rules(drawn, SYMMETRIC), drawn, SYMMETRIC).items():
        predicted = [replace(e.gold, relations=relate(e.gold.chains, [rule])) for e in drawn]
        counts = [relation(e.gold, pred, symmetric=SYMMETRIC) for e, pred in zip(drawn, predicted, strict=True)]
        assert (tally.tp, tally.predicted) == (sum(c.p_num for c in counts), sum(c.p_den for c in counts))


@settings(max_examples=60)
@given(related())
def test_gold_relations_are_counted_as_the_scorer_counts_them(drawn):
    counts = [relation(e.gold, Annotation(), symmetric=SYMMETRIC).r_den for e in drawn]
    assert n_relations(drawn, SYMMETRIC) == sum(counts)


def test_rules_relate_chains_and_miss_the_relations_with_regions():
    base = example("d", "[PER0 Ada] in [LOC1 Rome]", relations=[("c0", "c1", "PER-LOC_birth")], frames=1)
    gold = replace(
        base.gold,
        relations=(*base.gold.relations, Relation("c0", "r0", "PER-LOC_birth")),
        regions=(Region(0, Box(0, 0, 1, 1), "LOC", id="r0"),),
    )
    both = replace(base, gold=gold)
    assert n_relations([both], SYMMETRIC) == 1
    assert relation_rules([both], SYMMETRIC) == relation_rules([base], SYMMETRIC)
    (found,) = (row.counts for row in heuristic_baselines([both], LABELS) if row.task == "relation")
    assert (found.p_num, found.r_den) == (1, 2)


# --- regions ---


LEFT, RIGHT = Box(0.0, 0.0, 0.5, 0.5), Box(0.5, 0.5, 1.0, 1.0)


def framed(*frames: list[tuple[str, Box]], annotated: bool = True) -> Example:
    stills = tuple(Frame(24 * i, f"{i}.png", 64, 48, annotated=annotated) for i in range(len(frames)))
    regions = tuple(Region(24 * i, box, kind) for i, found in enumerate(frames) for kind, box in found)
    return Example(Document("d", "en", "", frames=stills), Annotation(regions=regions))


def test_the_most_frequent_box_comes_first():
    shown = framed([("PER", LEFT)], [("PER", RIGHT), ("LOC", LEFT)], [("PER", RIGHT)])
    assert box_rules([shown], limit=2) == [BoxRule("PER", RIGHT), BoxRule("LOC", LEFT)]


def test_boxes_that_nearly_agree_count_as_one():
    near = Box(0.01, 0.01, 0.51, 0.49)
    assert box_rules([framed([("PER", LEFT)], [("PER", near)], [("PER", RIGHT)])], limit=1) == [BoxRule("PER", LEFT)]


def test_a_box_matches_one_region_of_a_frame_and_leaves_the_other_to_the_next():
    wider = Box(0.0, 0.0, 0.6, 0.5)  # each would match the other: IoU 5/6
    crowd = framed([("PER", LEFT), ("PER", wider)], [("PER", LEFT)])
    rules = box_rules([crowd], limit=3)
    assert rules == [BoxRule("PER", LEFT), BoxRule("PER", wider)]
    assert box_tallies(rules, [crowd]) == {rules[0]: Tally(2, 2), rules[1]: Tally(2, 1)}


def test_no_box_is_a_rule_twice():
    assert box_rules([framed([("PER", LEFT), ("PER", LEFT)])], limit=3) == [BoxRule("PER", LEFT)]


def test_frames_that_nobody_annotated_teach_nothing():
    unseen = framed([("PER", LEFT)], annotated=False)
    assert box_rules([unseen], limit=1) == []
    assert n_regions([unseen]) == 0


def test_no_frames_are_no_boxes():
    assert box_rules([BORN], limit=3) == []


def test_the_tally_of_a_box_counts_empty_annotated_frames():
    rule = BoxRule("PER", LEFT)
    assert box_tallies([rule], [framed([("PER", LEFT)], [])]) == {rule: Tally(2, 1)}


@given(grid_boxes(), grid_boxes())
def test_overlap_is_measured_as_the_scorer_does(a, b):
    assert iou(a, b) == scored_iou(a, b)


# --- how many ---


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=6), st.integers(0, 9))
def test_the_cut_has_the_highest_f1(pairs, more):
    tallies = [Tally(tp + wrong, tp) for tp, wrong in pairs]
    total = sum(tp for tp, _ in pairs) + more
    n, f1 = best_cut(tallies, total)

    def reached(k: int) -> float:
        tp, predicted = sum(t.tp for t in tallies[:k]), sum(t.predicted for t in tallies[:k])
        return 2 * tp / (predicted + total) if tp else 0.0

    assert f1 == reached(n) == max(map(reached, range(len(tallies) + 1)))
    assert all(reached(k) < f1 for k in range(n))


# --- the heuristic baselines of a corpus ---


def named(rows) -> dict[tuple[str, str, str], float]:
    return {(row.lang, row.task, row.name): row.score.f1 for row in rows}


@pytest.mark.parametrize(
    ("lang", "singletons", "same_text", "last"), [("en", "43.3", "79.1", "84.0"), ("zh", "41.4", "86.9", "89.5")]
)
def test_chain_heuristics_over_the_gold_mentions_of_m3d(shared_data, lang, singletons, same_text, last):
    imported = read_m3d(shared_data / "m3d")
    dev = [e for e in imported.splits["dev"] if e.document.lang == lang]
    rows = heuristic_baselines(dev, imported.labels, settings=Settings(tasks=("chain",)))
    assert [f"{100 * row.score.f1:.1f}" for row in rows] == [singletons, same_text, last]


@pytest.mark.parametrize(("lang", "directed", "unordered"), [("en", 0.1373, 0.1389), ("zh", 0.1818, 0.1993)])
def test_relation_heuristics_over_the_gold_chains_of_m3d(shared_data, lang, directed, unordered):
    imported = read_m3d(shared_data / "m3d")
    dev = [e for e in imported.splits["dev"] if e.document.lang == lang]
    rows = {
        row.task: row.score.f1
        for row in heuristic_baselines(dev, imported.labels, settings=Settings(tasks=("relation",)))
    }
    assert rows["relation"] == pytest.approx(directed, abs=5e-5)
    assert rows["relation.undirected"] == pytest.approx(unordered, abs=5e-5)


def test_a_task_without_gold_has_no_heuristic():
    rows = heuristic_baselines([example("d", "nothing to see")], LABELS)
    assert rows == ()


def test_the_languages_stand_apart():
    rows = named(heuristic_baselines([ADA, replace(SUSAN, document=replace(SUSAN.document, id="zh"))], LABELS))
    assert ("en", "chain", "same last word") in rows
    assert ("zh", "chain", "same last two characters") in rows


def test_train_teaches_the_rules_where_it_is_given():
    test = example("t", "[PER0 Edna] , [LOC1 Delft]", relations=[("c0", "c1", "PER-LOC_birth")])
    other = example("o", "[PER0 Edna] , [LOC1 Delft]", relations=[("c0", "c1", "live")])
    labels = replace(LABELS, relations=(*LABELS.relations, RelationLabel("live")))
    key = ("en", "relation", "most frequent type of each type pair")
    assert named(heuristic_baselines([test], labels))[key] == 1
    assert named(heuristic_baselines([test], labels, [other]))[key] == 0


def test_heuristics_over_a_systems_own_mentions_are_lower_where_it_misses_some():
    key = ("en", "chain", "same text")
    gold = example("d", "[PER0 Ada] , [PER0 Ada] , [PER1 Bela]")
    half = Annotation(gold.gold.chains[:1])
    assert named(heuristic_baselines([gold], LABELS))[key] == 1
    assert 0 < named(heuristic_baselines([gold], LABELS, over={"d": half}))[key] < 1
    assert named(heuristic_baselines([gold], LABELS, over={}))[key] == 0


def test_nothing_is_predicted_from_what_was_not_shown():
    shown = example("d", "[PER0 Ada] , [PER0 Ada]", frames=2)
    every = Settings(modality="all")
    hidden = named(heuristic_baselines([shown], LABELS, settings=every, subsets={"d": "no_text"}))
    assert hidden["en", "chain", "same text"] == 0
    assert hidden["en", "grounding", "most frequent box"] == 1
    assert not named(heuristic_baselines([shown], LABELS, subsets={"d": "no_video"})).keys() & {
        ("en", "grounding", "most frequent box")
    }


@settings(max_examples=40)
@given(st.lists(examples(), max_size=3))
def test_heuristics_are_scores_between_0_and_1(drawn):
    golds = [replace(e, document=replace(e.document, id=f"d{i}")) for i, e in enumerate(drawn)]
    labels = LabelSet((Label("PER"),))
    assert all(0 <= row.score.f1 <= 1 for row in heuristic_baselines(golds, labels))
