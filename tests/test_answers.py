"""The answer form: what is written for an annotation, and that normalized again it is the same annotation."""

from __future__ import annotations

import json
import time
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3dllm.answers import LONG, Nesting, Occurrences, Search, find_all, write_answer
from m3dllm.corpora.brat import read_brat
from m3dllm.corpora.demo import generate_demo
from m3dllm.corpora.m3d import read_m3d
from m3dllm.corpora.redocred import read_redocred
from m3dllm.normalize import normalize
from m3dllm.types import Annotation, Box, Chain, Document, Example, Frame, Mention, RawOutput, Region, Relation
from tests.small import annotated
from tests.strategies import annotations, grid_boxes, spans


def written(marked: str, **words) -> list[list[object]]:
    """The mentions of each chain as they are written for a text with marked mentions."""
    text, chains = annotated(marked)
    answer = write_answer(Document("d", "en", text, **words), Annotation(chains))
    return [chain["mentions"] for chain in answer["chains"]]


def facts(annotation: Annotation) -> tuple[frozenset, frozenset, Counter]:
    """What an annotation says, without the names of its chains and regions, and without order."""
    chains = {chain.id: frozenset(chain.mentions) for chain in annotation.chains}
    sides = chains | {r.id: (r.frame, r.box, r.type) for r in annotation.regions if r.id is not None}
    return (
        frozenset((chains[chain.id], chain.type) for chain in annotation.chains),
        frozenset((sides[r.head], sides[r.tail], r.type) for r in annotation.relations),
        Counter((r.frame, r.box, r.type, chains.get(r.chain)) for r in annotation.regions),
    )


def again(document: Document, gold: Annotation, *, as_text: bool = False) -> Annotation:
    """The gold written and normalized, which needs no repair."""
    answer = write_answer(document, gold)
    payload = json.dumps(answer, ensure_ascii=False) if as_text else answer
    prediction = normalize(document, RawOutput(document.id, payload=payload), None)
    assert {issue.code for issue in prediction.issues} <= {"empty_answer", "empty_document", "duplicate_relation"}
    return prediction.annotation


# --- what is written --------------------------------------------------------------------------------------------------


def test_a_text_that_always_means_one_chain_is_written_once():
    assert written("[PER0 Ada] met [PER1 Bela] . [PER0 Ada] left .") == [["Ada"], ["Bela"]]


def test_a_text_that_means_two_chains_is_written_with_numbers():
    assert written("[PER0 他]见到[PER1 他]，[PER0 他]走了。") == [[["他", 1, 3]], [["他", 2]]]


def test_a_text_that_sometimes_means_nothing_is_written_with_numbers():
    assert written("[PER0 May] came in May .") == [[["May", 1]]]


def test_a_text_that_also_stands_inside_a_longer_mention_is_written_plainly():
    assert written("[PER0 北京大学]在[PER1 北京]。") == [["北京大学"], ["北京"]]


def test_a_mention_inside_a_longer_one_is_written_with_its_number():
    document = Document("d", "en", "Ada Bela met Ada")
    gold = Annotation((Chain("a", (Mention(0, 8, "PER"),)), Chain("b", (Mention(0, 3, "PER"), Mention(13, 16, "PER")))))
    assert [c["mentions"] for c in write_answer(document, gold)["chains"]] == [["Ada Bela"], [["Ada", 1, 2]]]


def test_a_mention_that_ends_inside_a_token_is_written_as_offsets():
    assert written("[PER0 Ada]s hat") == [[{"start": 0, "end": 3, "type": "PER"}]]


def test_a_mention_of_another_type_than_its_chain_is_written_as_offsets():
    assert written("[PER0 Ada] , [PER0 she] of [LOC0 it]") == [["Ada", "she", {"start": 13, "end": 15, "type": "LOC"}]]


def test_the_tokens_of_the_corpus_say_where_a_text_may_stand():
    assert written("[PER0 Ada]s hat", tokens=((0, 3), (3, 4), (5, 8))) == [["Ada"]]


def test_relations_and_regions_name_the_chains():
    text, chains = annotated("[PER0 Ada] in [LOC1 Rome]")
    box = (0.0, 0.25, 0.5, 1.0)
    gold = Annotation(chains, (Relation("c0", "c1", "in"),), (Region(3, box, "PER", "c0"), Region(3, box, "LOC")))
    answer = write_answer(Document("d", "en", text, frames=(Frame(3, "f", 4, 4),)), gold)
    assert answer["relations"] == [{"head": "c0", "tail": "c1", "type": "in"}]
    assert answer["regions"] == [
        {"frame": 3, "type": "PER", "box": [0.0, 0.25, 0.5, 1.0], "chain": "c0"},
        {"frame": 3, "type": "LOC", "box": [0.0, 0.25, 0.5, 1.0], "chain": None},
    ]


def test_a_region_with_an_id_is_written_with_it():
    gold = Annotation(regions=(Region(3, Box(0, 0, 1, 1), "cup", id="r0"),))
    (region,) = write_answer(Document("d", "en", "", frames=(Frame(3, "f", 4, 4),)), gold)["regions"]
    assert region == {"frame": 3, "type": "cup", "box": [0, 0, 1, 1], "chain": None, "id": "r0"}


def test_an_empty_annotation_is_three_empty_lists():
    assert write_answer(Document("d", "zh", ""), Annotation()) == {"chains": [], "relations": [], "regions": []}


# --- where texts stand ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "within", "expected"),
    [
        ("Ada", "Ada , Adam and Ada", [(0, 3), (15, 18)]),
        ("他", "他和他们", [(0, 1), (2, 3)]),
        ("爸爸", "爸爸爸", [(0, 2), (1, 3)]),
        ("🎬", "a 🎬 b", [(2, 3)]),
        ("Bela", "Ada", []),
        ("", "Ada", []),
        ("Ada", "", []),
    ],
)
def test_occurrences_are_token_aligned_and_in_order(text, within, expected):
    assert list(Occurrences(Document("d", "en", within)).of(text)) == expected


@given(st.text("ab ", max_size=12), st.text("ab ", max_size=3))
def test_find_all_finds_every_place(within, text):
    slow = [(i, i + len(text)) for i in range(len(within)) if text and within.startswith(text, i)]
    assert find_all(text, within) == slow


@given(st.lists(spans(8)), spans(8))
def test_nesting_agrees_with_looking_at_every_span(others, span):
    start, end = span
    slow = any(s <= start and end <= e and e - s > end - start for s, e in others)
    assert Nesting(others).inside_longer(span) == slow


# --- written and normalized again -------------------------------------------------------------------------------------


@st.composite
def crowded(draw: st.DrawFn) -> Example:
    """A document of few different characters, maybe with its own tokens, in which mentions repeat, nest and overlap."""
    text = draw(st.text("ab甲🎬 .", max_size=14))
    cuts = sorted(draw(st.sets(st.integers(0, len(text)), max_size=6))) if text else []
    tokens = tuple(pairwise(cuts)) if draw(st.booleans()) else ()
    frames = tuple(Frame(i, f"{i}.jpg", 8, 8) for i in draw(st.sampled_from([(), (0, 24)])))
    document = Document("d", draw(st.sampled_from(("en", "zh"))), text, tokens=tokens, frames=frames)
    numbers = [frame.index for frame in frames]
    return Example(
        document, draw(annotations(length=len(text), frames=numbers, box=grid_boxes(), disjoint=True, named=True))
    )


@given(crowded(), st.booleans())
def test_gold_written_and_normalized_is_the_gold(example, as_text):
    assert facts(again(example.document, example.gold, as_text=as_text)) == facts(example.gold)


CORPORA = {
    "m3d": lambda data: read_m3d(data / "m3d"),
    "re_docred": lambda data: read_redocred(data / "re_docred"),
    "mdocre": lambda data: read_brat(
        data / "mdocre_samples/samples/text_label", text=data / "mdocre_samples/samples/text", split_languages=True
    ),
    "litbank": lambda data: read_brat(data / "litbank"),
    "chinese_literature": lambda data: read_brat(data / "chinese_literature"),
}


@pytest.mark.parametrize("name", CORPORA)
def test_gold_of_real_corpora_comes_back_whole(shared_data, name):
    imported = CORPORA[name](shared_data)
    examples = [example for split in imported.splits.values() for example in split]
    lost = [e.document.id for e in examples if facts(again(e.document, e.gold)) != facts(e.gold)]
    assert examples
    assert lost == []


def test_gold_of_the_demo_corpus_comes_back_whole():
    imported = generate_demo(documents={"train": 10, "dev": 5, "test": 5})
    examples = [example for split in imported.splits.values() for example in split]
    assert {e.document.lang for e in examples} == {"en", "zh"}
    assert any(e.gold.regions for e in examples)
    assert [e.document.id for e in examples if facts(again(e.document, e.gold)) != facts(e.gold)] == []


# --- many and long texts ----------------------------------------------------------------------------------------------


@given(st.text("ab ", max_size=30), st.lists(st.text("ab ", max_size=4), max_size=8), st.sets(st.integers(0, 29)))
def test_an_index_finds_what_reading_finds(within, texts, places):
    places = {at for at in places if at < len(within)}
    indexed, read = Search(within, places, scans=0), Search(within, places, scans=len(texts))
    assert [indexed.spans(text) for text in texts] == [read.spans(text) for text in texts]


@given(st.text("ab", min_size=1, max_size=5), st.integers(1, 60), st.integers(1, 60), st.text("ab", max_size=3))
def test_long_texts_that_overlap_themselves_are_found_at_every_place(part, often, less, end):
    within, text = part * (often + less) + end, part * (LONG // len(part) + 1 + less)
    slow = [(i, i + len(text)) for i in range(len(within)) if within.startswith(text, i)]
    assert find_all(text, within) == slow


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_thousands_of_mentions_of_one_text_are_written_and_read_in_a_moment(lang):
    word, gap, n = ("Ada", " ", 20_000) if lang == "en" else ("艾达", "，", 20_000)
    step = len(word) + len(gap)
    document = Document("d", lang, (word + gap) * n)
    gold = Annotation(tuple(Chain(f"c{i}", (Mention(step * i, step * i + len(word), "PER"),)) for i in range(n)))
    started = time.process_time()
    assert again(document, gold) == gold
    assert time.process_time() - started < 15


def test_a_text_predicted_thousands_of_times_costs_no_more_than_its_places():
    n = 20_000
    payload = {"chains": [{"id": f"c{i}", "type": "PER", "mentions": ["Ada"]} for i in range(n)]}
    started = time.process_time()
    prediction = normalize(Document("d", "en", "Ada " * n), RawOutput("d", payload=payload))
    assert time.process_time() - started < 15
    assert [len(chain.mentions) for chain in prediction.annotation.chains] == [n]
    assert Counter(issue.code for issue in prediction.issues) == {"duplicate_mention": n - 1, "repeated_chain": n - 1}


def test_chains_of_one_id_are_numbered_in_a_moment():
    n = 20_000
    rows = [{"id": "c"} for _ in range(n)] + [{"id": f"c_{i}"} for i in range(2 * n)]
    started = time.process_time()
    normalize(Document("d", "en", "Ada"), RawOutput("d", payload={"chains": rows}))
    assert time.process_time() - started < 15
