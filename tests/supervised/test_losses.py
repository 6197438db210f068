"""Equations 19 to 24 by hand, and who answers for which region."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from m3dllm.systems.dffm import Config
from m3dllm.systems.supervised.data import Gold, LabelIndex, Mentions, make_mention_batch, once
from m3dllm.systems.supervised.losses import (
    ClassWeights,
    alignment_loss,
    chain_loss,
    frames_loss,
    generalized_iou,
    joinable,
    match_patches,
    match_slots,
    patch_owners,
    region_losses,
    relation_loss,
    relation_target,
    shows_target,
)
from m3dllm.systems.supervised.scorers import patch_centres
from m3dllm.training import weighted_sum
from tests.supervised.documents import LABELS

TYPES = LabelIndex.of(LABELS)  # mentions PER LOC ORG; relations birth parents couple member; regions PER LOC
BIRTH, PARENTS, COUPLE, MEMBER = range(4)
PER, LOC = 0, 1


def mentions(chain, chain_type):
    """Mentions of one word each in the given chains."""
    n = len(chain)
    place, own = torch.arange(n), torch.tensor(chain, dtype=torch.long)
    kinds = torch.tensor(chain_type, dtype=torch.long)
    return Mentions(((0, 1),) * n, place, place, kinds[own], own, kinds, torch.zeros(n, n, 1))


def gold(*, chain=(), chain_type=(), relations=(), regions=(), annotated=()):
    """regions: (frame, type, centre and size)."""
    return Gold(
        tags=torch.zeros(0, dtype=torch.long),
        mentions=mentions(list(chain), list(chain_type)),
        relations=torch.tensor(relations, dtype=torch.long).reshape(-1, 3),
        region_frame=torch.tensor([r[0] for r in regions], dtype=torch.long),
        region_type=torch.tensor([r[1] for r in regions], dtype=torch.long),
        region_box=torch.tensor([r[2] for r in regions], dtype=torch.float).reshape(-1, 4),
        region_chain=torch.full((len(regions),), -1),
        annotated=torch.tensor(annotated, dtype=torch.bool),
    )


def log_softmax(scores, k):
    return scores[k] - math.log(sum(math.exp(score) for score in scores))


# --- chains -----------------------------------------------------------------------------------------------------------


def test_chains_cost_the_mean_over_pairs_of_a_document_then_over_documents():
    torch.manual_seed(0)
    batch = make_mention_batch([mentions([0, 1, 0], [PER, PER]), mentions([0, 0], [PER]), mentions([0], [PER])])
    logits = torch.randn(3, 3, 3, 2)
    documents = []
    for b, chain in enumerate(([0, 1, 0], [0, 0])):
        pairs = [(i, j) for i in range(len(chain)) for j in range(i + 1, len(chain))]
        costs = []
        for i, j in pairs:
            same = int(chain[i] == chain[j])
            costs.append(-(1.0, 3.0)[same] * log_softmax(logits[b, i, j].tolist(), same))
        documents.append(sum(costs) / len(pairs))
    found = chain_loss(logits, batch, (1.0, 3.0))
    assert found.item() == pytest.approx(sum(documents) / 2, rel=1e-5)


def test_a_document_whose_chains_nobody_annotated_has_no_chain_loss():
    torch.manual_seed(0)
    batch = make_mention_batch([mentions([0, 0], [PER]), mentions([0, 1], [PER, PER])])
    logits = torch.randn(2, 2, 2, 2)
    alone = chain_loss(logits[:1], make_mention_batch([mentions([0, 0], [PER])]), (1.0, 3.0))
    assert torch.equal(chain_loss(logits, batch, (1.0, 3.0), torch.tensor([True, False])), alone)


def test_the_weights_count_only_what_is_annotated():
    known = gold(chain=[0, 0, 1], chain_type=[PER, LOC], relations=[[0, 1, BIRTH]])
    silent = replace(gold(chain=[0, 1, 2], chain_type=[PER, PER, LOC]), unannotated=frozenset(("chain", "relation")))
    assert ClassWeights.of([known, silent], TYPES, Config()) == ClassWeights.of([known], TYPES, Config())


# --- relations --------------------------------------------------------------------------------------------------------

TWO = gold(chain=[0, 1, 2], chain_type=[PER, LOC, PER], relations=[[0, 1, BIRTH], [0, 2, PARENTS], [0, 2, COUPLE]])


def target_of(one):
    return relation_target(one, one.mentions.n_chains, 4)[None]


def test_only_relations_of_their_types_may_stand_between_two_chains():
    found = joinable(make_mention_batch([TWO.mentions]), TYPES.joins)[0]
    assert found[0, 1].tolist() == [True, False, False, False]
    assert found[1, 0].tolist() == [False] * 4
    assert found[0, 2].tolist() == [False, True, True, False]
    assert not found[0, 0].any()


def test_relations_by_argmax_are_a_cross_entropy_over_types_and_none():
    torch.manual_seed(0)
    logits = torch.randn(1, 3, 3, 5)
    allowed = joinable(make_mention_batch([TWO.mentions]), TYPES.joins)[0]
    told = {(0, 1): [BIRTH], (0, 2): [PARENTS, COUPLE]}
    costs = []
    for i in range(3):
        for j in range(3):
            if i != j:
                scores = [s if k == 4 or allowed[i, j, k] else -1e4 for k, s in enumerate(logits[0, i, j].tolist())]
                wanted = told.get((i, j), [4])
                cost = -sum(log_softmax(scores, k) for k in wanted) / len(wanted)
                costs.append(cost * (2.0 if (i, j) in told else 0.5))
    found = relation_loss(
        logits, target_of(TWO), make_mention_batch([TWO.mentions]), TYPES.joins, (0.5, 2.0), decision="argmax"
    )
    assert found.item() == pytest.approx(sum(costs) / 6, rel=1e-4)


def test_relations_by_threshold_are_a_yes_or_no_for_every_possible_type():
    torch.manual_seed(0)
    logits = torch.randn(1, 3, 3, 4)
    target = target_of(TWO)[0]
    allowed = joinable(make_mention_batch([TWO.mentions]), TYPES.joins)[0]
    total = 0.0
    for i, j, k in allowed.nonzero().tolist():
        chance = 1 / (1 + math.exp(-logits[0, i, j, k].item()))
        total += -2.0 * math.log(chance) if target[i, j, k] else -0.5 * math.log(1 - chance)
    found = relation_loss(
        logits, target[None], make_mention_batch([TWO.mentions]), TYPES.joins, (0.5, 2.0), decision="threshold"
    )
    assert found.item() == pytest.approx(total / 6, rel=1e-4)


def test_a_document_with_one_chain_has_no_relation_to_learn():
    one = gold(chain=[0, 0], chain_type=[PER])
    for decision, classes in (("argmax", 5), ("threshold", 4)):
        batch = make_mention_batch([one.mentions])
        found = relation_loss(
            torch.randn(1, 1, 1, classes), target_of(one), batch, TYPES.joins, (1.0, 1.0), decision=decision
        )
        assert found == 0


# --- regions ----------------------------------------------------------------------------------------------------------


def test_slots_are_matched_so_that_it_costs_least():
    boxes = torch.tensor([[[0.2, 0.2, 0.2, 0.2], [0.8, 0.8, 0.2, 0.2]]])
    one = gold(regions=[(0, LOC, (0.75, 0.8, 0.2, 0.2)), (0, PER, (0.2, 0.25, 0.2, 0.2))], annotated=[True])
    wanted, target = match_slots(torch.zeros(1, 2, 3), boxes, one)
    assert wanted.tolist() == [[PER, LOC]]
    torch.testing.assert_close(target[0], one.region_box[[1, 0]])


def test_a_slot_that_has_the_type_is_preferred_where_boxes_are_alike():
    types = torch.tensor([[[0.0, 9.0, 0.0], [9.0, 0.0, 0.0]]])
    boxes = torch.full((1, 2, 4), 0.5)
    wanted, _ = match_slots(types, boxes, gold(regions=[(0, PER, (0.5, 0.5, 0.5, 0.5))], annotated=[True]))
    assert wanted.tolist() == [[2, PER]]


def test_one_slot_takes_one_of_several_regions():
    boxes = torch.full((1, 1, 4), 0.5)
    regions = [(0, PER, (0.1, 0.1, 0.1, 0.1)), (0, LOC, (0.5, 0.5, 0.4, 0.4))]
    assert match_slots(torch.zeros(1, 1, 3), boxes, gold(regions=regions, annotated=[True]))[0].tolist() == [[LOC]]


def test_boxes_that_are_no_numbers_are_matched_so_that_the_loss_says_it():
    one = gold(regions=[(0, PER, (0.5, 0.5, 0.4, 0.4))], annotated=[True])
    lost = torch.full((1, 1, 2, 3), math.nan), torch.full((1, 1, 2, 4), math.nan)
    assert all(loss.isnan() for loss in region_losses(*lost, [one], (1.0, 1.0), slots=2))


def test_patches_near_the_centre_answer_and_of_two_regions_the_smaller_wins():
    regions = [(1, PER, (0.375, 0.375, 0.1, 0.1)), (1, LOC, (0.5, 0.5, 0.9, 0.9))]
    wanted, target = match_patches(gold(regions=regions, annotated=[True, True]), 2, 16, none=2)
    assert (wanted[0] == 2).all()
    grid = wanted[1].reshape(4, 4).tolist()
    assert grid == [[2, 2, 2, 2], [2, PER, LOC, 2], [2, LOC, LOC, 2], [2, 2, 2, 2]]
    torch.testing.assert_close(target[1].reshape(4, 4, 4)[1, 1], torch.tensor([0.375, 0.375, 0.1, 0.1]))


def test_a_region_smaller_than_a_patch_has_one():
    wanted, _ = match_patches(gold(regions=[(0, PER, (0.3, 0.3, 0.01, 0.01))], annotated=[True]), 1, 16, none=2)
    assert (wanted != 2).sum() == 1


def test_regions_with_one_slot_are_equations_22_and_23():
    torch.manual_seed(0)
    types, boxes = torch.randn(1, 3, 1, 3), torch.rand(1, 3, 1, 4)
    one = gold(regions=[(0, LOC, (0.4, 0.5, 0.2, 0.6))], annotated=[True, True, False])
    region, box = region_losses(types, boxes, [one], (1.0, 1.0), slots=1)
    expected = -(log_softmax(types[0, 0, 0].tolist(), LOC) + log_softmax(types[0, 1, 0].tolist(), 2)) / 2
    assert region.item() == pytest.approx(expected, rel=1e-5)
    apart = [abs(a - b) for a, b in zip(boxes[0, 0, 0].tolist(), (0.4, 0.5, 0.2, 0.6), strict=True)]
    assert box.item() == pytest.approx(sum(apart) / 4, rel=1e-4)


@pytest.mark.parametrize("slots", [0, 2])
def test_frames_without_annotation_teach_nothing(slots):
    types = torch.randn(1, 2, slots or 16, 3, requires_grad=True)
    boxes = torch.rand(1, 2, slots or 16, 4)
    one = gold(regions=[(0, PER, (0.5, 0.5, 0.5, 0.5))], annotated=[True, False])
    region_losses(types, boxes, [one], (1.0, 1.0), slots=slots)[0].backward()
    assert types.grad[0, 0].abs().sum() > 0
    assert (types.grad[0, 1] == 0).all()


@pytest.mark.parametrize("slots", [0, 2])
def test_regions_cost_the_mean_over_documents_whatever_stands_beside_them(slots):
    torch.manual_seed(0)
    one = gold(regions=[(0, PER, (0.5, 0.5, 0.5, 0.5))], annotated=[True, False, True])
    two = gold(regions=[(0, LOC, (0.2, 0.2, 0.3, 0.3))], annotated=[True])
    types, boxes = torch.randn(3, 3, slots or 16, 3), torch.rand(3, 3, slots or 16, 4)

    def losses(documents, golds):
        return region_losses(types[documents], boxes[documents], golds, (1.0, 3.0), slots=slots)

    both = losses([0, 1, 2], [one, two, gold(annotated=[False, False, False])])
    for together, first, second in zip(both, losses([0], [one]), losses([1], [two]), strict=True):
        assert together.item() == pytest.approx((first + second).item() / 2, rel=1e-5)


def test_what_is_made_of_a_gold_is_made_once():
    one, asked = gold(annotated=[True]), []
    count = once(lambda gold, n: asked.append(n) or n)
    assert [count(one, 1), count(one, 1), count(one, 2), count(replace(one), 1)] == [1, 1, 2, 1]
    assert asked == [1, 2, 1]


def test_documents_without_annotated_frames_have_no_region_loss():
    found = region_losses(
        torch.randn(1, 2, 1, 3), torch.rand(1, 2, 1, 4), [gold(annotated=[False, False])], (1, 1), slots=1
    )
    assert found == (0, 0)


def test_generalized_iou_by_hand():
    a = torch.tensor([[0.5, 0.5, 1.0, 1.0], [0.25, 0.5, 0.5, 1.0], [0.5, 0.5, 0.4, 0.4]])
    b = torch.tensor([[0.5, 0.5, 0.5, 0.5], [0.75, 0.5, 0.5, 1.0], [0.5, 0.5, 0.4, 0.4]])
    torch.testing.assert_close(generalized_iou(a, b), torch.tensor([0.25, 0.0, 1.0]))


def test_patches_know_where_they_are():
    assert patch_centres(4).reshape(4, 4, 2)[1, 2].tolist() == [0.625, 0.375]


# --- together ---------------------------------------------------------------------------------------------------------


def test_the_total_weighs_the_terms():
    one = torch.ones(())
    config = Config(weight_entity=1, weight_chain=2, weight_relation=4, weight_region=8, weight_box=16, weight_shows=32)
    terms = dict.fromkeys(("entity", "chain", "relation", "region", "box", "alignment", "auxiliary"), one)
    assert weighted_sum(terms, config.loss_weights, {}) == 1 + 2 + 4 + 8 + 16 + 32 + 1


# --- which chains a frame shows ---------------------------------------------------------------------------------------


def shown(*chains, annotated=(True, True, False)):
    """Two chains; the regions of frame 0 name the given chains."""
    made = gold(
        chain=[0, 1],
        chain_type=[PER, PER],
        regions=[(0, PER, (0.5, 0.5, 0.2, 0.2)) for _ in chains],
        annotated=annotated,
    )
    return replace(made, region_chain=torch.tensor(chains, dtype=torch.long))


def test_annotated_frames_show_the_chains_that_their_regions_name():
    truth, known = shows_target([shown(1, -1)], 2, 3)
    assert truth[0].tolist() == [[0, 0, 0], [1, 0, 0]]
    assert known[0].tolist() == [[True, True, False]] * 2


def test_where_no_region_names_a_chain_nothing_is_known_of_what_frames_show():
    truth, known = shows_target([shown(-1), shown()], 2, 3)
    assert not truth.any()
    assert not known.any()


def test_a_patch_shows_the_chain_of_its_region():
    owner = patch_owners([shown(1), shown(-1, 0), shown()], (3, 9), 2)
    assert owner[0, 0].tolist() == [2, 2, 2, 2, 1, 2, 2, 2, 2]  # the region's centre lies in the middle patch
    assert owner[0, 1].tolist() == [2] * 9
    assert owner[0, 2].tolist() == [-1] * 9  # nobody looked
    assert owner[1, 0, 4] == 0  # of two that are as small the later
    assert owner[2].unique().tolist() == [-1]


def test_the_patches_of_chains_weigh_as_much_as_all_the_others():
    owner = patch_owners([shown(1, annotated=(True, False, False)), shown()], (3, 9), 2)
    logits = torch.zeros(2, 3, 9, 3)
    assert float(alignment_loss(logits, owner)) == pytest.approx(2 * math.log(3))
    logits[0, 1:], logits[1] = 7.0, 7.0  # where nobody knows
    logits[0, 0, 4, 1] = 30.0
    assert float(alignment_loss(logits, owner)) == pytest.approx(math.log(3))
    logits[0, 0, :4, 2] = 30.0
    assert float(alignment_loss(logits, owner)) == pytest.approx(math.log(3) / 2)


def test_a_frame_of_two_chains_is_prompted_for_their_relations():
    one = replace(shown(0, 1), relations=torch.tensor([[0, 1, COUPLE], [1, 0, COUPLE]]))
    says = torch.zeros(2, 3, 4)
    asked = 2  # parents and couple may stand between two people, birth and member may not
    assert float(frames_loss(says, [one, shown(0)], TYPES)) == pytest.approx(asked * math.log(2))
    says[0, 0, COUPLE], says[0, 0, PARENTS] = 30.0, -30.0
    says[0, 0, BIRTH], says[0, 1:], says[1] = 9.0, 9.0, 9.0
    assert float(frames_loss(says, [one, shown(0)], TYPES)) == pytest.approx(0, abs=1e-6)


def test_classes_weigh_against_their_number():
    golds = [replace(TWO, annotated=torch.tensor([True, True, True, True])), gold(chain=[0, 0], chain_type=[PER])]
    golds[0] = replace(golds[0], region_frame=torch.tensor([0]))
    found = ClassWeights.of(golds, TYPES, Config(balance=1.0))
    assert found.chain == pytest.approx((4 / (2 * 3), 4 / (2 * 1)))  # 3 pairs of different chains, 1 of the same
    assert found.relation == pytest.approx((6 / (2 * 3), 6 / (2 * 3)))  # 2 births, 2 parents, 2 couples possible
    assert found.region == pytest.approx((4 / (2 * 3), 4 / (2 * 1)))


def test_without_balance_every_class_weighs_one():
    assert ClassWeights.of([TWO], TYPES, Config(balance=0.0)) == ClassWeights()


def test_no_gold_at_all_weighs_one():
    assert ClassWeights.of([gold()], TYPES, Config()) == ClassWeights()
