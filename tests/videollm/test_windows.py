"""Cutting a long document into windows, and putting together what was said about them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from m3dllm.normalize import normalize
from m3dllm.systems.videollm.windows import OVERLAP, Window, cut, cut_annotation, merge
from m3dllm.tokens import tokenize
from m3dllm.types import (
    Annotation,
    Box,
    Chain,
    Document,
    Frame,
    Given,
    Mention,
    RawOutput,
    Region,
    Relation,
    Segment,
)

WORDS = st.lists(st.sampled_from(["Ada", "met", "Bela", ".", "苏珊", "在", "😀", "Arles"]), min_size=1, max_size=60)


@st.composite
def documents(draw) -> Document:
    """Texts with and without lines, times and frames."""
    text = draw(st.sampled_from(["", " "])).join(draw(WORDS))
    edges = sorted(draw(st.sets(st.integers(0, len(text)), max_size=6)) | {0, len(text)})
    timed = draw(st.booleans())
    lines = tuple(Segment(a, b, float(i) * timed, float(i + 1) * timed) for i, (a, b) in enumerate(pairwise(edges)))
    frames = tuple(Frame(24 * i, f"{i}.png", 64, 48) for i in range(draw(st.integers(0, 5))))
    return Document("d", "en", text, segments=lines if draw(st.booleans()) else (), frames=frames)


@st.composite
def annotated(draw) -> tuple[Document, Annotation]:
    document = draw(documents())
    tokens = tokenize(document)
    mentions = sorted(
        {
            (tokens[i][0], tokens[min(i + draw(st.integers(0, 2)), len(tokens) - 1)][1])
            for i in draw(st.lists(st.integers(0, len(tokens) - 1), max_size=12))
        }
    )
    owner = [draw(st.integers(0, 3)) for _ in mentions]
    chains = tuple(
        Chain(f"x{k}", tuple(Mention(*m, "PER") for m, o in zip(mentions, owner, strict=True) if o == k))
        for k in sorted(set(owner))
    )
    relations = tuple({Relation(a.id, b.id, "r") for a in chains for b in chains if a != b and draw(st.booleans())})
    regions = tuple(
        Region(f.index, Box(0.1, 0.2, 0.3, 0.7), "PER", draw(st.sampled_from([None, *(c.id for c in chains)])))
        for f in document.frames
    )
    return document, Annotation(chains, relations, regions)


def put_together(document: Document, windows: list[Window], annotation: Annotation, **kwargs) -> Annotation:
    """The annotation cut to the windows, merged and normalized."""
    payload = merge([(window, cut_annotation(annotation, window)) for window in windows], **kwargs)
    return normalize(document, RawOutput("d", payload=payload)).annotation


def meaning(annotation: Annotation):
    """What an annotation says, whatever its chains are called."""
    of = {chain.id: chain.spans for chain in annotation.chains}
    return (
        {(chain.spans, chain.type) for chain in annotation.chains},
        {(of[r.head], of[r.tail], r.type) for r in annotation.relations},
        sorted((r.frame, r.box, r.type, sorted(of.get(r.chain, ()))) for r in annotation.regions),
    )


def together(windows: list[Window], *mentions: Mention) -> bool:
    """Whether some window holds them all."""
    return any(all(w.start <= m.start and m.end <= w.end for m in mentions) for w in windows)


def linked(chain: Chain, windows: list[Window]) -> bool:
    """Whether the chain's mentions stand in windows, and hang together through those that hold several of them."""
    if not all(together(windows, m) for m in chain.mentions):
        return False
    reached = {chain.mentions[0]}
    for _ in chain.mentions:
        reached |= {m for m in chain.mentions if any(together(windows, m, r) for r in reached)}
    return len(reached) == len(chain.mentions)


@given(documents(), st.integers(1, 9))
def test_windows_cover_every_token_and_begin_and_end_with_tokens(document, count):
    windows = cut(document, count)
    tokens = tokenize(document)
    assert 1 <= len(windows) <= count
    assert (windows[0].start, windows[-1].end) == (0, len(document.text))
    starts, ends = {0, *(a for a, _ in tokens)}, {len(document.text), *(b for _, b in tokens)}
    for window in windows:
        assert document.text[window.start : window.end] == window.document.text
        assert window.start in starts
        assert window.end in ends
        assert window.document.id == document.id
    assert all(together(windows, Mention(*token, "")) for token in tokens)


@given(documents(), st.integers(2, 6))
def test_what_is_no_longer_than_the_overlap_stands_whole_in_a_window(document, count):
    width = len(document.text) / (count - (count - 1) * OVERLAP)
    tokens = tokenize(document)
    for start, _ in tokens:
        for _, end in tokens:
            if 0 < end - start <= OVERLAP * width:
                assert together(cut(document, count), Mention(start, end, ""))


@given(documents(), st.integers(1, 6))
def test_every_frame_is_shown_with_one_window(document, count):
    shown = [frame for window in cut(document, count) for frame in window.document.frames]
    assert sorted(shown, key=lambda f: f.index) == list(document.frames)


def test_a_frame_is_shown_with_the_lines_spoken_then():
    lines = tuple(Segment(10 * i, 10 * i + 10, 5.0 * i, 5.0 * i + 5) for i in range(8))
    frames = tuple(Frame(24 * s, f"{s}.png", 8, 8) for s in (2, 38))
    windows = cut(Document("d", "en", "abcd efgh " * 8, segments=lines, frames=frames), 2)
    assert [[f.index for f in w.document.frames] for w in windows] == [[48], [24 * 38]]
    assert [line.start_s for line in windows[1].document.segments][-1] == 35.0


@given(annotated())
def test_a_document_in_one_window_is_read_as_without_windows(case):
    document, annotation = case
    assert meaning(put_together(document, cut(document, 1), annotation)) == meaning(annotation)


@effort(max_examples=300)
@given(annotated(), st.integers(2, 6))
def test_gold_cut_to_windows_comes_back_where_overlaps_link_it(case, count):
    document, gold = case
    windows = cut(document, count)
    chains = tuple(chain for chain in gold.chains if linked(chain, windows))
    kept = {chain.id: chain for chain in chains}
    told = tuple(
        r
        for r in gold.relations
        if {r.head, r.tail} <= kept.keys()
        and any(together(windows, a, b) for a in kept[r.head].mentions for b in kept[r.tail].mentions)
    )
    seen = tuple(
        replace(r, chain=r.chain if r.chain in kept and is_spoken_of(kept[r.chain], r.frame, windows) else None)
        for r in gold.regions
    )
    linked_gold = Annotation(chains, told, seen)
    assert meaning(put_together(document, windows, linked_gold)) == meaning(linked_gold)


def is_spoken_of(chain: Chain, frame: int, windows: list[Window]) -> bool:
    """Whether the chain has a mention in the window that shows the frame."""
    (shown,) = [w for w in windows if any(f.index == frame for f in w.document.frames)]
    return any(together([shown], mention) for mention in chain.mentions)


@given(annotated(), st.integers(2, 6))
def test_what_no_overlap_links_stays_apart_and_no_mention_is_lost(case, count):
    document, gold = case
    windows = cut(document, count)
    found = put_together(document, windows, gold)
    whole = {m.span for m in gold.mentions if together(windows, m)}
    assert {m.span for m in found.mentions} == whole
    of = {m.span: chain.id for chain in gold.chains for m in chain.mentions}
    assert all(len({of[span] for span in chain.spans}) == 1 for chain in found.chains)


@given(annotated(), st.integers(2, 6))
def test_given_chains_stand_in_the_answer_as_they_were_given(case, count):
    document, gold = case
    asked = replace(document, given=Given(chains=gold.chains, kind="chains"))
    windows = cut(asked, count)
    for window in windows:
        assert window.document.given.kind == "chains"
        assert {m.span for m in window.document.given.mentions} == {
            m.span for m in cut_annotation(gold, window).mentions
        }
    found = put_together(document, windows, gold, known=gold.chains)
    assert {(c.spans, c.type) for c in found.chains} == {(c.spans, c.type) for c in gold.chains}


def test_two_windows_that_differ_about_a_type_leave_it_to_the_first():
    document = Document("d", "en", "Ada met Bela in Arles and Ada left .")
    windows = [
        Window(0, replace(document, text=document.text[:21])),
        Window(8, replace(document, text=document.text[8:])),
    ]
    first = Annotation((Chain("a", (Mention(8, 12, "PER"),)), Chain("b", (Mention(16, 21, "LOC"),))))
    second = Annotation((Chain("a", (Mention(0, 4, "LOC"), Mention(18, 21, "PER"))),))
    payload = merge([(windows[0], first), (windows[1], second)])
    assert [[(m["start"], m["type"]) for m in chain["mentions"]] for chain in payload["chains"]] == [
        [(8, "PER"), (26, "PER")],
        [(16, "LOC")],
    ]


def test_a_relation_whose_sides_another_window_makes_one_is_left_for_normalization_to_name():
    text = "Ada Lovelace , Ada"
    whole = Window(0, Document("d", "en", text))
    apart = Annotation(
        (Chain("a", (Mention(0, 12, "PER"),)), Chain("b", (Mention(15, 18, "PER"),))), (Relation("a", "b", "r"),)
    )
    one = Annotation((Chain("c", (Mention(0, 12, "PER"), Mention(15, 18, "PER"))),))
    found = normalize(whole.document, RawOutput("d", payload=merge([(whole, apart), (whole, one)])))
    assert [issue.code for issue in found.issues] == ["self_relation"]


@pytest.mark.parametrize("text", ["", " ", "word", "字"])
def test_what_cannot_be_cut_is_one_window(text):
    assert [w.document.text for w in cut(Document("d", "zh", text), 4)] == [text]


def test_regions_that_relations_name_are_named_anew_where_windows_are_put_together():
    document = Document("d", "en", "Ada Bela", frames=(Frame(0, "0.png", 64, 48), Frame(24, "1.png", 64, 48)))
    readings = []
    for at, frame in ((0, 0), (4, 24)):
        part = replace(document, text=document.text[at : at + 3], frames=document.frames[frame // 24 :][:1])
        cup = Region(frame, Box(0, 0, 1, 1), "cup", id="r0")
        found = Annotation((Chain("c0", (Mention(0, 3, "PER"),)),), (Relation("c0", "r0", "holds"),), (cup,))
        readings.append((Window(at, part), found))
    answer = normalize(document, RawOutput("d", payload=merge(readings))).annotation
    assert [(r.head, r.tail) for r in answer.relations] == [("c0", "r0"), ("c1", "r1")]
    assert [(r.frame, r.id) for r in answer.regions] == [(0, "r0"), (24, "r1")]
