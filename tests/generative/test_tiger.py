"""TIGER's sentences: what is asked, what may be written, and how it is read."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from m3dllm.systems.generative.boxes import candidates, read_boxes
from m3dllm.systems.generative.grounding import mention_query, region_query
from m3dllm.systems.generative.places import windows
from m3dllm.systems.tiger import sentences
from m3dllm.tokens import tokenize
from m3dllm.types import Annotation
from tests.generative.documents import four_short
from tests.generative.writing import CODECS, codec_of, write_any, write_gold
from tests.supervised.documents import LABELS


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    examples, boxes = four_short(tmp_path_factory.mktemp("four"))
    return examples, (boxes,)


def queries_of(example, boxes, most=3):
    document, frames = example.document, range(len(example.document.frames))
    seen = frames, candidates(document, read_boxes(boxes), most)
    found = [
        (mention_query(sentences, document, words, LABELS, 6, *seen, example.gold), words)
        for words in windows(tokenize(document), document.text, 12)
    ]
    return [*found, (region_query(sentences, document, LABELS, most, *seen, example.gold), ())] if frames else found


@pytest.fixture(scope="module", params=CODECS)
def codec(request, documents, tmp_path_factory):
    return codec_of(request.param, documents[0], tmp_path_factory.mktemp("t5"), sentences.WORDS)


def test_every_gold_sentence_may_be_written_also_where_the_text_goes_on_as_it_does(codec, documents):
    examples, boxes = documents
    for example in examples:
        for query, _ in queries_of(example, boxes):
            write_gold(query, codec)


def test_whatever_may_be_written_ends_and_is_sentences_about_what_is_there(codec, documents):
    rng = random.Random(0)
    examples, boxes = documents
    for example in examples:
        for query, _ in queries_of(example, boxes) * 4:
            written = write_any(query, codec, rng)
            read = [sentences.read(part) for part in (written.split("<spot>") if written.strip() else ())]
            assert all(sentence is not None and sentence.type in LABELS.names("mentions") for sentence in read)
            if not query.frames:
                assert not any(sentence.shown for sentence in read)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("Ada is a PER, which is in the image", ("Ada", "PER", True)),
        (" Acme , Inc. is a ORG , which is not  in the image ", ("Acme , Inc.", "ORG", False)),
        ("This is a test is a LOC, which is in the image", ("This is a test", "LOC", True)),
        ("苏珊 is a PER, which is in the image", ("苏珊", "PER", True)),
        ("Ada is a PER", None),
        ("is a PER, which is in the image", None),
        ("", None),
    ],
)
def test_a_sentence_is_read_whole_or_not_at_all(written, expected):
    assert sentences.read(written) == expected


def test_what_has_no_name_is_said_by_turns_in_the_order_of_the_candidates(documents):
    examples, boxes = documents
    chinese = examples[1]
    (query, _) = queries_of(chinese, boxes)[-1]
    assert query.target[0:2] == ("something", "is a PER,")
    assert len(query.overlaps) == 2
    assert queries_of(replace(chinese, gold=Annotation()), boxes)[-1][0].overlaps == ()


def test_a_region_without_a_candidate_is_not_in_the_image(documents):
    examples, _ = documents
    document = examples[0].document
    words = windows(tokenize(document), document.text, 99)[0]
    query = mention_query(sentences, document, words, LABELS, 6, (0,), (), examples[0].gold)
    assert query.overlaps == (None,) * 4
    assert query.target.count("which is not") == 4
