"""Streams and spools hold places of lines, never the values: what they give is what a list would."""

from __future__ import annotations

import gc
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3dllm.corpora.imported import Counts, Examples, Tally
from m3dllm.corpora.native import labels_of
from m3dllm.errors import UserError
from m3dllm.stream import Spool, Stream
from m3dllm.types import Annotation, Document, Example
from m3dllm.wire import decode_example, encode_example, lines
from tests import strategies

DOCUMENT = Document("d", "zh", "苏珊去北京。" * 100)


def numbers(values=()) -> Spool[int]:
    return Spool(lambda value: str(value).encode(), int, values)


@given(examples=st.lists(strategies.examples(), max_size=4))
def test_a_spool_gives_the_documents_that_were_put_in(examples):
    assert list(Examples(examples)) == examples


@given(examples=st.lists(strategies.examples(), max_size=4))
def test_documents_counted_as_they_come_hold_what_they_hold_together(examples):
    spooled = Examples(examples)
    assert Counts.of(spooled) == Counts.of(examples)
    assert spooled.tally.labels() == labels_of(example.gold for example in examples)
    assert spooled.tally.languages == Tally.of(examples).languages


@given(
    values=st.lists(st.integers(), min_size=1, max_size=9), cut=st.slices(9), i=st.integers(-9, 8), more=st.integers()
)
def test_a_spool_is_a_list(values, cut, i, more):
    spool, of = numbers(values), list(values)
    assert spool[cut] == of[cut]
    assert spool[i % len(of)] == of[i % len(of)]
    spool.append(more)
    assert (list(spool), len(spool), spool[-1]) == ([*of, more], len(of) + 1, more)


@pytest.mark.parametrize("together", [1, 9, 30, 2**16])
def test_how_many_lines_are_read_together_makes_no_difference(monkeypatch, together):
    monkeypatch.setattr("m3dllm.stream.TOGETHER", together)
    of = [10**n for n in (0, 3, 20, 1, 0, 7, 2)]
    spool = numbers(of)
    assert list(spool) == of
    assert [(one, spool[-1]) for one in spool] == [(one, of[-1]) for one in of]
    assert list(spool.pick((5, 0, 1, 2, 6, 6))) == [of[i] for i in (5, 0, 1, 2, 6, 6)]


def test_a_stream_reads_the_lines_of_a_file_past_blank_ones(tmp_path):
    examples = [Example(Document(name, "en", "Ada"), Annotation()) for name in "abc"]
    file = tmp_path / "dev.jsonl"
    file.write_bytes(b"\xef\xbb\xbf\n" + lines(map(encode_example, examples)) + b" \n")
    stream = Stream(file, decode_example)
    assert list(stream) == examples
    assert (len(stream), stream[-1], stream[1:]) == (3, examples[2], examples[1:])
    assert stream.pick((2, 0)) == [examples[2], examples[0]]


@pytest.mark.parametrize("at", ["iteration", "place"])
def test_what_is_no_value_is_named_by_file_and_line(tmp_path, at):
    file = tmp_path / "dev.jsonl"
    file.write_bytes(b"\n\n{}\n")
    stream = Stream(file, decode_example)
    with pytest.raises(UserError, match=r"dev.jsonl:3: lacks the field 'id'|dev.jsonl:3.*required"):
        _ = list(stream) if at == "iteration" else stream[0]


def test_the_memory_of_a_spool_does_not_grow_with_its_documents():
    spool = Examples()
    example = Example(DOCUMENT, Annotation())
    spool.extend([example] * 2_000)
    gc.collect()
    tracemalloc.start()
    spool.extend([example] * 2_000)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 200_000  # the documents have 4 MB
