"""Answers that are held to a document: every one can be read, and every gold answer may be written."""

from __future__ import annotations

import random

import pytest
import torch

from m3dllm.systems.generative.boxes import candidates, read_boxes
from m3dllm.systems.generative.grammar import GrammarConstraint
from m3dllm.systems.generative.model import Reply
from m3dllm.systems.generative.places import windows
from m3dllm.systems.umie import tasks
from m3dllm.systems.umie.draft import Draft
from m3dllm.tokens import tokenize
from m3dllm.types import Turn
from tests.generative.documents import four_with_candidates
from tests.generative.writing import CODECS, codec_of, walk, write_any, write_gold
from tests.supervised.documents import LABELS


def queries_of(example, boxes):
    """Every query about a document with its gold answer, and the words of the window of those about mentions."""
    document, gold = example.document, example.gold
    found = []
    for words in windows(tokenize(document), document.text, 12):
        found.append((tasks.mention_query(document, words, LABELS, 6, gold.mentions), words))
    if gold.chains:
        found.append((tasks.chain_query(document, sorted(gold.mentions), LABELS, gold.chains), None))
        found.append((tasks.relation_query(document, gold.chains, LABELS, gold.relations), None))
    shown = candidates(document, boxes, 3)
    return found + [(query, None) for query in tasks.region_queries(document, shown, LABELS, gold.regions)]


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    examples, path = four_with_candidates(tmp_path_factory.mktemp("four"))
    return examples, read_boxes([path])


@pytest.fixture(scope="module", params=CODECS)
def codec(request, documents, tmp_path_factory):
    return codec_of(request.param, documents[0], tmp_path_factory.mktemp("t5"))


def test_every_gold_answer_may_be_written(codec, documents):
    examples, boxes = documents
    for example in examples:
        for query, _ in queries_of(example, boxes):
            write_gold(query, codec)


def read_into(draft, query, words, reply):
    if query.task == "entity":
        draft.read_mentions(reply, words)
    else:
        {"chain": draft.read_chains, "relation": draft.read_relations, "grounding": draft.read_regions}[query.task](
            reply
        )


def test_whatever_may_be_written_ends_and_is_read_without_an_issue(codec, documents):
    examples, boxes = documents
    rng = random.Random(0)
    for example in examples:
        for query, words in queries_of(example, boxes) * 3:
            written = write_any(query, codec, rng)
            draft = Draft(example.document, LABELS)
            draft.mentions, draft.chains = sorted(example.gold.mentions), list(example.gold.chains)
            if query.task == "chain":
                draft.chains = []
            read_into(draft, query, words, Reply(query, written, Turn(query.task)))
            assert draft.answer().issues == ()


def test_the_numbers_of_a_held_partition_stand_once_each(codec, documents):
    example = documents[0][0]
    query = tasks.chain_query(example.document, sorted(example.gold.mentions), LABELS)
    one, _ = walk(query, codec)
    pieces = []
    while not one.over:  # as long as may be
        allowed = one.allowed()
        pieces.append(next((piece for piece in allowed if piece != codec.end), codec.end))
        one.take(pieces[-1])
    numbers = sorted(int(part[1:-1]) for record in [*one.readings[0].records, one.readings[0].begun] for part in record)
    assert numbers == sorted(set(numbers))


def test_a_relation_that_types_do_not_allow_or_that_stands_already_may_not_follow(codec, documents):
    example = documents[0][0]  # PER, LOC, PER, PER, ORG
    one, _ = walk(tasks.relation_query(example.document, example.gold.chains, LABELS), codec)
    grammar = one.grammar

    def may(records, begun):
        return set(parts_of(grammar.parts(records, begun)))

    assert may([], ("[1]",)) == set()
    assert may([], ("[0]",)) == {"PER-LOC_birth", "PER-PER_parents", "PER-PER_couple", "PER-ORG_member"}
    assert may([], ("[0]", "PER-ORG_member")) == {"[4]"}
    assert may([("[0]", "PER-PER_couple", "[2]")], ("[2]", "PER-PER_couple")) == {"[3]"}


def parts_of(trie):
    yield from [trie.part] if trie.part is not None else []
    for child in trie.children.values():
        yield from parts_of(child)


def test_held_rows_allow_only_what_their_own_grammar_allows(codec, documents):
    examples, boxes = documents
    queries = [query for query, _ in queries_of(examples[0], boxes)][-2:]
    walks = [walk(query, codec)[0] for query in queries]
    expected = [set(one.allowed()) for one in walks]
    scores = GrammarConstraint(walks)(torch.zeros(2, 1, dtype=torch.long), torch.zeros(2, codec.size))
    assert [set(row.isfinite().nonzero()[:, 0].tolist()) for row in scores] == expected
