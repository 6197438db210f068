from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from m3dllm.systems.supervised.data import (
    Inputs,
    LabelIndex,
    Mentions,
    bio,
    cut_windows,
    gold_of,
    make_batch,
    make_mention_batch,
    mentions_of,
    spans_of_tags,
    word_ranges,
    words_of,
)
from m3dllm.systems.supervised.pairs import N_FEATURES
from m3dllm.types import Annotation, Box, Chain, Document, Frame, Mention, Region, Relation
from tests.small import annotated
from tests.supervised.documents import ENGLISH, LABELS, four, subwords_of

TYPES = LabelIndex.of(LABELS)


def inputs_of(document, *, pieces_a_word=1):
    spans, words = words_of(document)
    numbers = [i for i in range(len(words)) for _ in range(pieces_a_word)]
    return Inputs(document, spans, subwords_of([number + 1 for number in numbers], numbers), document.frames)


def mentions(spans, *, n_chains=None):
    """Mentions of (first word, last word, type), each its own chain."""
    first, last, kind = (torch.tensor([span[k] for span in spans], dtype=torch.long) for k in range(3))
    n = len(spans)
    return Mentions(tuple((0, 1) for _ in spans), first, last, kind, torch.arange(n), kind, torch.zeros(n, n, 1))


def test_relations_join_the_types_that_the_labels_say():
    birth, couple = TYPES.relations["PER-LOC_birth"], TYPES.relations["PER-PER_couple"]
    per, loc = TYPES.mentions["PER"], TYPES.mentions["LOC"]
    assert TYPES.joins[per, loc, birth]
    assert not TYPES.joins[loc, per, birth]
    assert TYPES.joins[per, per, couple]
    assert TYPES.symmetric.tolist() == [False, False, True, False]


def test_mentions_come_in_text_order_with_their_words_types_and_chains():
    text, chains = annotated(ENGLISH)
    inputs = inputs_of(Document("d", "en", text))
    found = mentions_of(inputs, chains, TYPES)
    assert [text[start:end] for start, end in found.spans][:3] == ["Ada Byron", "London", "Annabella"]
    assert found.first.tolist()[:3] == [0, 5, 7]
    assert found.last.tolist()[:3] == [1, 5, 7]
    assert found.chain.tolist() == [0, 1, 2, 0, 0, 3, 4]
    assert found.chain_type.tolist() == [0, 1, 0, 0, 2]
    assert found.pairs.shape == (7, 7, N_FEATURES)


def test_a_type_that_the_model_does_not_know_is_said():
    inputs = inputs_of(Document("d", "en", "Ada came"))
    with pytest.raises(ValueError, match="'TIME'"):
        mentions_of(inputs, [Chain("c", (Mention(0, 3, "TIME"),))], TYPES)


def test_a_span_off_the_word_boundaries_takes_the_words_that_it_touches():
    words = [(0, 3), (4, 9), (12, 15)]
    first, last = word_ranges(words, [(1, 2), (2, 6), (3, 4), (10, 11), (13, 15), (0, 15)])
    assert list(zip(first.tolist(), last.tolist(), strict=True)) == [(0, 0), (0, 1), (1, 1), (2, 2), (2, 2), (0, 2)]


def test_tags_begin_and_continue_a_mention():
    assert bio(mentions([(1, 3, 0), (4, 4, 1)]), 6).tolist() == [0, 1, 2, 2, 3, 0]


def test_of_overlapping_mentions_the_longer_is_tagged():
    assert bio(mentions([(0, 1, 0), (1, 4, 1)]), 5).tolist() == [0, 3, 4, 4, 4]


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 2), st.integers(0, 2)), max_size=6))
def test_tags_read_back_are_the_mentions(parts):
    spans, at = [], 0
    for length, kind, gap in parts:
        spans.append((at, at + length - 1, kind))
        at += length + gap
    assert spans_of_tags(bio(mentions(spans), at).numpy()) == spans


def test_no_tags_are_no_mentions():
    assert spans_of_tags(np.zeros(0, dtype=np.int64)) == []


def test_a_symmetric_relation_stands_both_ways_and_others_one_way():
    text, chains = annotated("[PER0 Ada] [PER1 Bob]")
    relations = (Relation("c0", "c1", "PER-PER_couple"), Relation("c1", "c0", "PER-PER_parents"))
    gold = gold_of(inputs_of(Document("d", "en", text)), Annotation(chains, relations), TYPES)
    assert gold.relations.tolist() == [[0, 1, 2], [1, 0, 1], [1, 0, 2]]


def test_regions_come_by_the_place_of_their_frame_as_centre_and_size():
    frames = (Frame(48, "a", 10, 10, annotated=True), Frame(24, "b", 10, 10))
    document = Document("d", "en", "", frames=frames)
    gold = gold_of(inputs_of(document), Annotation(regions=(Region(24, Box(0.1, 0.2, 0.5, 0.4), "LOC"),)), TYPES)
    assert gold.region_frame.tolist() == [1]
    assert gold.region_type.tolist() == [1]
    torch.testing.assert_close(gold.region_box, torch.tensor([[0.3, 0.3, 0.4, 0.2]]))
    assert gold.annotated.tolist() == [True, False]


def test_what_is_hidden_is_not_asked_for(tmp_path):
    example = four(tmp_path)[0]
    gold = gold_of(inputs_of(example.document), example.gold, TYPES)
    blind, deaf = gold.without_frames(), gold.without_text()
    assert (len(blind.region_frame), len(blind.annotated), len(blind.mentions)) == (0, 0, 7)
    assert (len(deaf.tags), len(deaf.mentions), len(deaf.relations), len(deaf.region_frame)) == (0, 0, 0, 3)


@settings(max_examples=60)
@given(st.integers(0, 80), st.integers(2, 20), st.integers(0, 30))
def test_windows_hold_every_piece_where_it_is_most_central(n, window, overlap):
    starts, size, owner = cut_windows(n, window=window, overlap=overlap)
    assert size <= window
    assert len(owner) == n
    for piece, own in enumerate(owner.tolist()):
        margins = [min(piece - s, s + size - 1 - piece) for s in starts.tolist()]
        assert margins[own] == max(margins) >= 0


def test_a_short_text_is_one_window():
    starts, size, owner = cut_windows(7, window=10, overlap=4)
    assert (starts.tolist(), size, owner.tolist()) == ([0], 7, [0] * 7)


def test_a_batch_finds_each_piece_in_the_windows_again():
    documents = [
        Document("a", "en", "one two three four five six seven"),
        Document("b", "en", ""),
        Document("c", "zh", "三个字"),
    ]
    inputs = [inputs_of(document, pieces_a_word=2) for document in documents]
    batch = make_batch(inputs, window=5, overlap=2)
    flat = batch.windows.flatten(0, 1)[:, 0]
    for i, one in enumerate(inputs):
        n = len(one.subwords.word)
        assert flat[batch.cover_place[i, :n]].tolist() == one.subwords.ids[:, 0].tolist()
        assert batch.cover_word[i, :n].tolist() == one.subwords.word.tolist()
        assert (batch.cover_word[i, n:] == 7).all()
    assert batch.word_mask.sum(1).tolist() == [7, 0, 3]


def test_mentions_side_by_side_are_padded_with_chains_of_nobody():
    batch = make_mention_batch([mentions([(0, 0, 0), (2, 2, 1)]), mentions([])])
    assert batch.mask.tolist() == [[True, True], [False, False]]
    assert batch.chain.tolist() == [[0, 1], [2, 2]]
    assert batch.chain_mask.tolist() == [[True, True], [False, False]]
