"""The choice of boxes by the decoder's states, against plain twins."""

from __future__ import annotations

import math

import pytest
import torch

from m3dllm.systems.generative.boxes import Candidate, overlaps
from m3dllm.systems.generative.choice import Seen, best, choice_count, choice_loss, log_shares, targets
from m3dllm.systems.generative.codec import Slots
from m3dllm.systems.generative.queries import Encoded, Query, QueryBatch
from m3dllm.systems.generative.rows import rows_of
from m3dllm.types import Box, Document, Frame, Region

WIDTH = 8
LEFT, RIGHT, MIDDLE = Box(0, 0, 0.5, 1), Box(0.5, 0, 1, 1), Box(0.2, 0, 0.6, 1)
FOUR = (Candidate(0, LEFT), Candidate(0, RIGHT), Candidate(1, LEFT))


def encoded(frames, candidates, *shown):
    return Encoded(Query("entity", "", frames, candidates, overlaps=shown), (1,), (1,), Slots())


def seen_of(items):
    """Rows with random vectors."""
    torch.manual_seed(0)
    none = torch.zeros(len(items), 1, dtype=torch.long)
    rows = rows_of(QueryBatch(items, torch.arange(len(items)), none, none.bool(), none), torch.randn(2, 2, 4, WIDTH))
    return Seen(rows, torch.randn(*rows.mask.shape, WIDTH))


def of_frames(seen, query):
    """The rows of each frame of a query, by its number."""
    rows, frames = seen.rows, {}
    for row in range(rows.mask.shape[1]):
        if rows.mask[query, row]:
            frames.setdefault(int(rows.frame[query, row]), []).append(row)
    return frames


def shares_twin(state, seen, query):
    """The softmax of h · v over the rows of each frame, by row."""
    shares = {}
    for rows in of_frames(seen, query).values():
        scores = [sum(h * v for h, v in zip(state, seen.vectors[query, row].tolist(), strict=True)) for row in rows]
        powers = [math.exp(score) for score in scores]
        shares |= {row: power / sum(powers) for row, power in zip(rows, powers, strict=True)}
    return shares


def target_twin(shown, seen, query):
    """Overlaps by the sum of those of their frame; 1 of the frame where there are none."""
    wanted = {}
    for rows in of_frames(seen, query).values():
        weights = [shown[n] if (n := int(seen.rows.candidate[query, row])) >= 0 else 0.0 for row in rows]
        none = [float(int(seen.rows.candidate[query, row]) < 0) for row in rows]
        total = sum(weights)
        wanted |= dict(zip(rows, [w / total for w in weights] if total else none, strict=True))
    return wanted


ITEMS = (encoded((0, 1), FOUR, (0.9, 0.6, 0.0), None, (0.0, 0.0, 0.8)), encoded((1,), (Candidate(1, RIGHT),), (0.7,)))
QUERY = torch.tensor([0, 0, 1])
SHOWN = ((0.9, 0.6, 0.0), (0.0, 0.0, 0.8), (0.7,))


def test_shares_are_a_softmax_over_the_rows_of_each_frame():
    seen, states = seen_of(ITEMS), torch.randn(3, WIDTH)
    found = log_shares(states, QUERY, seen)
    for record, query in enumerate(QUERY.tolist()):
        for row, share in shares_twin(states[record].tolist(), seen, query).items():
            assert float(found[record, row].exp()) == pytest.approx(share, rel=1e-4)


def test_the_loss_is_the_divergence_from_the_overlaps_of_each_frame():
    seen, states = seen_of(ITEMS), torch.randn(3, WIDTH)
    loss, expected = choice_loss(log_shares(states, QUERY, seen), targets(ITEMS, QUERY, seen.rows)), 0.0
    for record, query in enumerate(QUERY.tolist()):
        shares = shares_twin(states[record].tolist(), seen, query)
        for row, wanted in target_twin(SHOWN[record], seen, query).items():
            expected += wanted * math.log(wanted / shares[row]) if wanted else 0.0
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    assert choice_count(ITEMS) == 2 + 2 + 1


def test_of_each_frame_the_greatest_share_is_chosen_and_that_of_the_frame_is_none():
    seen, states = seen_of(ITEMS), torch.randn(3, WIDTH)
    chosen = best(log_shares(states, QUERY, seen), ITEMS, QUERY, seen.rows)
    for record, query in enumerate(QUERY.tolist()):
        shares = shares_twin(states[record].tolist(), seen, query)
        tops = [max(rows, key=lambda row: shares[row]) for rows in of_frames(seen, query).values()]
        named = [int(seen.rows.candidate[query, row]) for row in tops]
        assert chosen[record] == tuple(ITEMS[query].query.candidates[n] for n in named if n >= 0)


def test_the_choice_has_a_gradient_where_a_query_is_shorter_than_another():
    seen, states = seen_of(ITEMS), torch.randn(3, WIDTH, requires_grad=True)
    choice_loss(log_shares(states, QUERY, seen), targets(ITEMS, QUERY, seen.rows)).backward()
    assert torch.isfinite(states.grad).all()
    assert states.grad.abs().sum(1).all()


def test_a_candidate_counts_as_far_as_it_overlaps_the_region_of_its_frame_that_is_nearest():
    document = Document("d", "en", "", frames=(Frame(7, "a.png", 4, 4), Frame(9, "b.png", 4, 4)))
    found = (Candidate(0, LEFT), Candidate(0, MIDDLE), Candidate(1, LEFT))
    regions = [Region(7, LEFT, "PER"), Region(7, Box(0.2, 0, 0.6, 0.9), "PER")]
    assert overlaps(document, found, regions) == (1.0, pytest.approx(0.9), 0.0)
    assert overlaps(document, found, [Region(9, RIGHT, "PER")]) is None
