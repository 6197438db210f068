"""The logistic regression over words: its features against loops, its fit against another optimizer."""

from __future__ import annotations

import itertools
import zlib

import numpy as np
import pytest
import torch
from scipy import sparse

from m3dllm.systems.supervised import relation_words
from m3dllm.systems.supervised.data import Gold, Inputs, LabelIndex, gold_of
from m3dllm.systems.supervised.relation_words import (
    AFTER,
    BEFORE,
    BETWEEN,
    DISTANCE,
    FAR,
    HEAD,
    NEAR,
    PENALTY,
    TAIL,
    TYPES,
    RelationWords,
    features,
    fit_weights,
    hashed,
)
from m3dllm.systems.supervised.text import Subwords
from m3dllm.tokens import tokenize
from m3dllm.types import Annotation, Document, Lang, Relation
from tests.small import annotated
from tests.supervised.documents import CHINESE, ENGLISH, LABELS, NO_FRAMES

TYPES_OF = LabelIndex.of(LABELS)
NO_SUBWORDS = Subwords(*(torch.zeros(0, dtype=torch.long) for _ in range(4)))


def document(marked: str, *relations: tuple[int, str, int], lang: Lang = "en") -> tuple[Inputs, Gold]:
    """The inputs and the gold of a marked text."""
    text, chains = annotated(marked)
    built = Document("d", lang, text)
    inputs = Inputs(built, tokenize(built), NO_SUBWORDS, ())
    gold = Annotation(chains, tuple(Relation(f"c{head}", f"c{tail}", kind) for head, kind, tail in relations))
    return inputs, gold_of(inputs, gold, TYPES_OF)


def learned(*documents: tuple[Inputs, Gold]) -> RelationWords:
    words = RelationWords(len(LABELS.relations))
    words.fit(documents, TYPES_OF, (1.0, 1.0))
    return words


def slots_of(inputs: Inputs, gold: Gold, head: int, tail: int) -> set[int]:
    """The features of one pair, by loops over words and mentions."""
    text = inputs.document.text
    words = [zlib.crc32(text[start:end].lower().encode()) for start, end in inputs.words]
    chain, first, last = (part.tolist() for part in (gold.mentions.chain, gold.mentions.first, gold.mentions.last))
    sides = {
        side: [m for m in range(len(chain)) if chain[m] == number] for side, number in ((HEAD, head), (TAIL, tail))
    }
    found: list[tuple[int, int]] = []
    for side, mentions in sides.items():
        for m in mentions:
            own = words[first[m] : last[m] + 1]
            found += [(side, word) for word in own]
            found += [(side, number(*pair, 0, 2**32)) for pair in itertools.pairwise(own)]
    nearest = [(max(first[a], first[b]) - min(last[a], last[b]), a, b) for a in sides[HEAD] for b in sides[TAIL]]
    _, one, other = min(nearest)
    turned = first[one] > first[other]
    early, late = (other, one) if turned else (one, other)
    gap = first[late] - last[early] - 1
    near = words[last[early] + 1 : first[late]] if 0 < gap <= FAR else []
    found += [(BETWEEN + turned, word) for word in near]
    found += [(BEFORE + turned, word) for word in words[max(first[early] - NEAR, 0) : first[early]]]
    found += [(AFTER + turned, word) for word in words[last[late] + 1 : last[late] + 1 + NEAR]]
    found += [(DISTANCE + turned, int(np.log2(max(gap, 0) + 1))), (TYPES + turned, 0)]
    kinds = gold.mentions.chain_type.tolist()
    both = 1 + kinds[head] * 2**16 + kinds[tail]
    return {number(word, place, types) for place, word in found for types in (0, both)}


def number(one: int, two: int, three: int, size: int = relation_words.SLOTS) -> int:
    return int(hashed(*(np.array([part], np.uint64) for part in (one, two, three)), size)[0])


@pytest.mark.parametrize(("marked", "lang"), [(ENGLISH, "en"), (CHINESE, "zh"), (NO_FRAMES, "en")])
def test_the_features_of_all_pairs_are_those_of_loops(marked, lang):
    inputs, gold = document(marked, lang=lang)
    n = gold.mentions.n_chains
    pairs = np.array([(i, j) for i in range(n) for j in range(n) if i != j])
    (rows,) = features(inputs, gold.mentions, pairs)
    for row, (head, tail) in zip(rows.toarray(), pairs, strict=True):
        assert set(np.flatnonzero(row)) == slots_of(inputs, gold, head, tail)
        assert set(row) <= {0.0, 1.0}


def test_pairs_in_parts_give_the_same_logits(monkeypatch):
    inputs, gold = document(ENGLISH)
    words = learned((inputs, gold), document(NO_FRAMES))
    whole = words(inputs, gold.mentions)
    monkeypatch.setattr(relation_words, "AT_ONCE", 3)
    torch.testing.assert_close(words(inputs, gold.mentions), whole)


def test_a_word_between_two_mentions_is_learned_from_two_documents():
    born = document("[PER0 Ada] was born in [LOC1 London] .", (0, "PER-LOC_birth", 1))
    also = document("[PER0 Karl] was born in [LOC1 Rome] .", (0, "PER-LOC_birth", 1))
    left = document("[PER0 Ada] went far away from [LOC1 London] .")
    words = learned(born, also, left, left)
    inputs, gold = document("[PER0 Mary] was born in [LOC1 Paris] .")
    other, of_other = document("[PER0 Mary] went far away from [LOC1 Paris] .")
    assert words(inputs, gold.mentions)[0, 1, 0] > words(other, of_other.mentions)[0, 1, 0]


def test_what_stands_in_one_document_alone_has_no_weight():
    words = learned(document("[PER0 Ada] was born in [LOC1 London] .", (0, "PER-LOC_birth", 1)))
    assert not words.weight.any()


def test_the_fit_is_where_the_gradient_of_the_loss_ends():
    rng = np.random.default_rng(0)
    rows = sparse.csr_matrix((rng.random((60, 12)) < 0.4).astype(float))
    wanted, counts = rng.random((60, 3)) < 0.3, rng.random((60, 3)) * 3
    used, found = fit_weights(rows, wanted, counts, np.arange(60) // 2)
    weight = torch.from_numpy(found).requires_grad_()
    logits = torch.from_numpy(rows[:, used].toarray()) @ weight[:-1] + weight[-1]
    target = torch.from_numpy(wanted).double()
    each = torch.nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    loss = (each * torch.from_numpy(counts)).sum() + PENALTY / 2 * (weight[:-1] ** 2).sum()
    loss.backward()
    assert float(weight.grad.abs().max()) < 0.2


def test_of_many_pairs_those_without_a_relation_are_sampled(monkeypatch):
    documents = [document(f"{ENGLISH} {i} .", (0, "PER-LOC_birth", 1)) for i in range(12)]
    whole = learned(*documents)
    monkeypatch.setattr(relation_words, "MOST", 60)
    inputs, gold = document(ENGLISH)
    found, of_all = learned(*documents)(inputs, gold.mentions).sigmoid(), whole(inputs, gold.mentions).sigmoid()
    assert not torch.equal(found, of_all)
    torch.testing.assert_close(found, of_all, atol=0.15, rtol=0)


def test_a_document_without_text_has_no_pairs():
    built = Document("d", "en", "")
    inputs = Inputs(built, (), NO_SUBWORDS, ())
    gold = gold_of(inputs, Annotation(), TYPES_OF)
    assert RelationWords(4)(inputs, gold.mentions).shape == (0, 0, 4)
    assert not learned((inputs, gold)).weight.any()


def test_without_relation_types_nothing_is_fitted():
    words = RelationWords(0)
    inputs, gold = document(ENGLISH)
    none = LabelIndex.of(type(LABELS)(mentions=LABELS.mentions))
    words.fit([(inputs, gold_of(inputs, Annotation(annotated(ENGLISH)[1]), none))], none, (1.0, 1.0))
    assert words(inputs, gold.mentions).shape == (gold.mentions.n_chains, gold.mentions.n_chains, 0)
