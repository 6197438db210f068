"""What each grammar lets through and what it stops: walked token by token over bytes, without a model."""

# ruff: noqa: E402

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

llguidance = pytest.importorskip("llguidance", reason="needs the extra 'llm'")

from m3dllm.answers import Occurrences, write_answer
from m3dllm.systems.videollm.families import CONVENTIONS, Convention
from m3dllm.systems.videollm.grammar import (
    box_grammar,
    chains_grammar,
    choice_grammar,
    entities_grammar,
    joint_grammar,
    mention_chunks,
    mentions_grammar,
    regions_grammar,
    relations_grammar,
    spans_grammar,
)
from m3dllm.systems.videollm.visible import Bounds, Named, VisibleFrames
from m3dllm.tokens import tokenize
from m3dllm.types import Document
from tests.small import LABELS, example
from tests.videollm.documents import EN, NASTY, ZH

BYTES = llguidance.LLTokenizer("byte")
SHOWN = VisibleFrames({24: (640, 360), 48: (360, 640)}, CONVENTIONS["permille"])
SMALL = Bounds(chains=4, mentions=3, relations=3, regions=1, characters=40)
CHAINS = [Named("c0", "PER"), Named("c1", "LOC"), Named("c2", "PER")]


def matcher(grammar: str):
    made = llguidance.LLMatcher(BYTES, grammar, log_level=0)
    assert not made.is_error(), made.get_error()
    return made


def takes(grammar: str, answer: object) -> bool:
    """Whether the grammar lets the answer through, as JSON without white space or as the text it is."""
    text = answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False, separators=(",", ":"))
    made, data = matcher(grammar), list(text.encode())
    return made.try_consume_tokens(data) == len(data) and made.is_accepting()


def walk(grammar: str, seed: int, *, longest: int = 20_000) -> str:
    """A random answer that the grammar lets through. It never gets stuck, or this fails."""
    rnd, made, written = random.Random(seed), matcher(grammar), bytearray()
    while not made.is_accepting():
        mask = made.compute_bitmask()
        allowed = [i for i in range(256) if mask[i >> 3] >> (i & 7) & 1]
        assert allowed, f"stuck after {bytes(written[-80:])!r}: {made.get_error()[:200]}"
        quote, bracket = ord('"'), ord("]")
        if quote in allowed and rnd.random() < 0.3:
            token = quote
        elif bracket in allowed and len(allowed) > 1 and rnd.random() < 0.6:
            token = rnd.choice([i for i in allowed if i != bracket])
        else:
            token = rnd.choice(allowed)
        made.consume_token(token)
        written.append(token)
        assert len(written) < longest
    return written.decode()


def joint(chains=(), relations=(), regions=()) -> dict:
    return {"chains": list(chains), "relations": list(relations), "regions": list(regions)}


def chain(*mentions, name="c0", kind="PER"):
    return {"id": name, "type": kind, "mentions": list(mentions)}


def english(**kwargs) -> str:
    return joint_grammar(Document("d", "en", EN), LABELS, kwargs.get("visible", SHOWN), kwargs.get("bounds", SMALL))


# --- joint ------------------------------------------------------------------------------------------------------------


def test_a_right_answer_passes():
    answer = joint(
        [chain("Ada Lovelace", ["Ada", 2]), chain("Arles", name="c1", kind="LOC")],
        [{"head": "c0", "tail": "c1", "type": "PER-LOC_birth"}],
        [{"frame": 48, "type": "PER", "box": [0, 10, 1000, 999]}],
    )
    assert takes(english(), answer)
    assert takes(english(), joint())


WRITTEN = '{"id":"c0","type":"PER","mentions":["Ada"]},{"id":"c1","type":"LOC","mentions":["Arles"]}'
TAIL = '],"relations":[{"head":"c0","tail":"c1","type":"PER-LOC_birth"}'
SEEN = '],"regions":[{"frame":48,"type":"PER","box":[0,10,1000,999]}]}'


@pytest.mark.parametrize(
    ("behind", "rest", "right"),
    [
        ({"chains": 2}, TAIL + SEEN, True),
        ({"chains": 1}, TAIL + SEEN, False),  # there is no c1 yet
        ({"chains": 2}, WRITTEN + TAIL + SEEN, False),
        ({"chains": 0}, '],"relations":[' + SEEN, True),
        (
            {"chains": 2, "refused": ["Ada"]},
            ',{"id":"c2","type":"PER","mentions":["Ada Lovelace"]}' + TAIL + SEEN,
            True,
        ),
        ({"chains": 2, "refused": ["Ada"]}, ',{"id":"c2","type":"PER","mentions":["Ada"]}' + TAIL + SEEN, False),
        ({"chains": 2, "refused": ["Ada"]}, TAIL + SEEN, True),
        ({"chains": 2, "related": True}, SEEN, True),
        ({"chains": 2, "related": True}, TAIL + SEEN, False),
    ],
)
def test_the_rest_of_an_answer_passes_behind_what_is_written(behind, rest, right):
    grammar = joint_grammar(Document("d", "en", EN), LABELS, SHOWN, SMALL, **behind)
    assert takes(grammar, rest) is right


@pytest.mark.parametrize("mention", ["Grace", "Lovelac", "da", "Ada ", " Ada", "", "Ada  Lovelace", "ada", "Ada Arles"])
def test_a_mention_that_is_not_in_the_document_on_its_tokens_is_stopped(mention):
    assert not takes(english(), joint([chain(mention)]))
    assert not takes(english(), joint([chain([mention, 1])]))


def test_chinese_characters_are_tokens():
    grammar = joint_grammar(Document("d", "zh", ZH), LABELS, VisibleFrames(), SMALL)
    assert takes(grammar, joint([chain("苏珊", "她的丈夫乔治")]))
    assert not takes(grammar, joint([chain("苏乔")]))


def test_an_occurrence_beyond_those_of_any_token_is_stopped():
    assert takes(english(), joint([chain(["in", 3])]))
    assert not takes(english(), joint([chain(["in", 4])]))
    assert not takes(english(), joint([chain(["in", 0])]))
    assert not takes(english(), joint([chain(["in"])]))


@pytest.mark.parametrize(
    "answer",
    [
        joint([chain("Ada", kind="ORG")]),
        joint([chain("Ada", name="c1")]),
        joint([chain("Ada"), chain("Bela", name="c0")]),
        joint([chain()]),
        joint([chain("Ada", "Ada", "Ada", "Ada")]),
        joint([chain(name, name=f"c{i}") for i, name in enumerate(["Ada", "Bela", "Basel", "Arles", "1976"])]),
        {"chains": [], "relations": []},
        {"relations": [], "chains": [], "regions": []},
        joint() | {"more": []},
    ],
)
def test_a_wrong_type_name_length_or_shape_is_stopped(answer):
    assert not takes(english(), answer)


@pytest.mark.parametrize(
    ("relation", "passes"),
    [
        ({"head": "c0", "tail": "c1", "type": "PER-LOC_birth"}, True),
        ({"head": "c1", "tail": "c0", "type": "PER-PER_couple"}, True),
        ({"head": "c0", "tail": "c2", "type": "PER-LOC_birth"}, False),
        ({"head": "c1", "tail": "c1", "type": "PER-LOC_birth"}, False),
        ({"head": "c0", "tail": "c1", "type": "mystery"}, False),
    ],
)
def test_a_relation_joins_two_different_chains_that_were_written(relation, passes):
    assert takes(english(), joint([chain("Ada"), chain("Arles", name="c1", kind="LOC")], [relation])) is passes


def test_a_single_chain_has_no_relations():
    assert not takes(english(), joint([chain("Ada")], [{"head": "c0", "tail": "c0", "type": "PER-PER_couple"}]))


def test_white_space_is_stopped():
    assert not takes(english(), json.dumps(joint()))
    assert not takes(english(), '{"chains":[],"relations":[],"regions":[]}\n')


def test_a_document_without_text_has_no_chains_and_one_without_frames_no_regions():
    region = {"frame": 24, "type": "PER", "box": [0, 0, 50, 50]}
    silent = joint_grammar(Document("d", "en", " \n"), LABELS, SHOWN, SMALL)
    assert takes(silent, joint(regions=[region]))
    assert not takes(silent, joint([chain("Ada")]))
    assert not takes(english(visible=VisibleFrames()), joint(regions=[region]))
    assert takes(joint_grammar(Document("d", "en", ""), LABELS, VisibleFrames(), SMALL), joint())


@pytest.mark.parametrize("frame", [0, 25, 2, "24"])
def test_a_frame_that_was_not_shown_is_stopped(frame):
    assert not takes(english(), joint(regions=[{"frame": frame, "type": "PER", "box": [0, 0, 50, 50]}]))


# --- boxes ------------------------------------------------------------------------------------------------------------


def written(convention: Convention, numbers: list[int]) -> str:
    if not convention.decimals:
        return json.dumps(numbers, separators=(",", ":"))
    return f"[{','.join(f'{n / 10**convention.decimals:.{convention.decimals}f}' for n in numbers)}]"


@pytest.mark.parametrize("name", sorted(CONVENTIONS))
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_box_passes_when_it_lies_inside_the_frame_and_has_an_area(name, data):
    convention, size = CONVENTIONS[name], (640, 360)
    limits = convention.limits(size)
    across, down = limits if convention.order == "xyxy" else limits[::-1]
    numbers = [data.draw(st.integers(0, limit + limit // 8)) for limit in (across, down, across, down)]
    grammar = regions_grammar([], LABELS, VisibleFrames({24: size}, convention), SMALL)
    box = written(convention, numbers)
    passes = takes(grammar, f'{{"regions":[{{"frame":24,"type":"PER","chain":null,"box":{box}}}]}}')
    legal = numbers[0] < numbers[2] <= across and numbers[1] < numbers[3] <= down
    # On large frames two sides must differ in the tens: only boxes thinner than that may be stopped.
    thin = any(
        high - low < 10 and limit >= 500 for low, high, limit in ((*numbers[::2], across), (*numbers[1::2], down))
    )
    assert passes <= legal
    assert passes or thin or not legal


@pytest.mark.parametrize("name", sorted(CONVENTIONS))
def test_the_whole_frame_is_a_box(name):
    convention = CONVENTIONS[name]
    across, down = convention.limits((640, 360))
    numbers = [0, 0, across, down] if convention.order == "xyxy" else [0, 0, down, across]
    grammar = regions_grammar([], LABELS, VisibleFrames({24: (640, 360)}, convention), SMALL)
    row = f'{{"regions":[{{"frame":24,"type":"PER","chain":null,"box":{written(convention, numbers)}}}]}}'
    assert takes(grammar, row)


# --- stages -----------------------------------------------------------------------------------------------------------


def test_entities_are_lists_of_texts_by_type():
    grammar = entities_grammar(Document("d", "en", EN), LABELS, SMALL)
    assert takes(grammar, {"PER": ["Ada Lovelace", "Bela"], "LOC": []})
    assert not takes(grammar, {"PER": ["Grace"], "LOC": []})
    assert not takes(grammar, {"PER": []})
    assert takes(entities_grammar(Document("d", "en", ""), LABELS, SMALL), {"PER": [], "LOC": []})


def test_mentions_are_objects_of_text_and_type():
    grammar = mentions_grammar(Document("d", "en", EN), LABELS, SMALL)
    ada, bela = {"text": "Ada Lovelace", "type": "PER"}, {"text": "Bela", "type": "LOC"}
    assert takes(grammar, {"mentions": [ada, bela]})
    assert takes(grammar, {"mentions": []})
    for wrong in ({"text": "Grace", "type": "PER"}, {"text": "Ada", "type": "GOD"}, {"text": "Ada"}, "Ada"):
        assert not takes(grammar, {"mentions": [wrong]})
    assert takes(grammar, {"mentions": [ada] * 6})
    assert not takes(grammar, {"mentions": [ada] * 7})
    assert takes(mentions_grammar(Document("d", "en", ""), LABELS, SMALL), {"mentions": []})


def test_chains_may_be_objects():
    named = [Named("m0", "PER"), Named("m1", "LOC"), Named("m2", "PER")]
    grammar = chains_grammar(named, SMALL, objects=True)
    assert takes(grammar, {"chains": [{"mentions": ["m0", "m2"]}, {"mentions": ["m1"]}]})
    assert takes(grammar, {"chains": []})
    for wrong in (["m0", "m2"], {"mentions": []}, {"mentions": ["m0", "m1"]}, {"mentions": ["m3"]}):
        assert not takes(grammar, {"chains": [wrong]})
    many = [Named(f"m{i}", "PER") for i in range(100)]
    assert takes(chains_grammar(many, SMALL, objects=True), {"chains": [{"mentions": ["m0", "m99"]}]})


def test_chains_are_lists_of_names_of_one_type():
    grammar = chains_grammar([Named("m0", "PER"), Named("m1", "LOC"), Named("m2", "PER")], SMALL)
    assert takes(grammar, {"chains": [["m0", "m2"], ["m1"]]})
    assert takes(grammar, {"chains": []})
    for wrong in ([["m0", "m1"]], [["m3"]], [[]], [["m0", "m0"]], [["m0"], ["m0"]], [["m2", "m0"], ["m0"]]):
        assert not takes(grammar, {"chains": wrong})


def test_many_mentions_can_still_be_made_chains_of():
    named = [Named(f"m{i}", "PER") for i in range(100)]
    grammar = chains_grammar(named, Bounds())
    assert takes(grammar, {"chains": [["m0", "m99"]]})
    assert not takes(grammar, {"chains": [["m100"]]})


def test_relations_have_a_type_that_fits_head_and_tail():
    grammar = relations_grammar(CHAINS, LABELS, SMALL)

    def passes(head, tail, kind):
        return takes(grammar, {"relations": [{"head": head, "tail": tail, "type": kind}]})

    assert passes("c0", "c1", "PER-LOC_birth")
    assert passes("c2", "c0", "PER-PER_couple")
    assert not passes("c1", "c0", "PER-LOC_birth")
    assert not passes("c0", "c1", "PER-PER_couple")
    assert not passes("c0", "c0", "PER-PER_couple")
    assert not passes("c0", "c3", "PER-PER_couple")


def test_without_a_pair_that_fits_the_list_of_relations_is_empty():
    assert takes(relations_grammar([Named("c0", "LOC")], LABELS, SMALL), {"relations": []})
    assert takes(relations_grammar([], LABELS, SMALL), {"relations": []})


def test_a_region_names_a_chain_of_its_type_or_none():
    grammar = regions_grammar(CHAINS, LABELS, SHOWN, SMALL)

    def passes(name):
        return takes(grammar, {"regions": [{"frame": 24, "type": "PER", "chain": name, "box": [0, 0, 50, 50]}]})

    assert [passes(name) for name in ("c0", "c2", None, "c1", "c3")] == [True, True, True, False, False]


def test_a_choice_is_one_of_its_options():
    assert takes(choice_grammar(["A", "B"]), "B")
    assert not takes(choice_grammar(["A", "B"]), "C")


# --- anything ---------------------------------------------------------------------------------------------------------


def texts():
    words = st.sampled_from([*EN.split(), *ZH[:12], *NASTY])
    return st.lists(words, min_size=1, max_size=12).map(" ".join) | st.text(min_size=1, max_size=30)


def is_whole(text: str) -> bool:
    return "\ud800" <= max(text, default="") <= "\udfff" or text.encode("utf-8", "ignore").decode() == text


@settings(max_examples=60, deadline=None)
@given(text=texts().filter(is_whole), seed=st.integers(0, 10**6), name=st.sampled_from(sorted(CONVENTIONS)))
def test_whatever_the_document_a_finished_answer_is_right(text, seed, name):
    document = Document("d", "en", text)
    shown = VisibleFrames({24: (160, 90), 345: (90, 160)}, CONVENTIONS[name])
    answer = json.loads(walk(joint_grammar(document, LABELS, shown, SMALL), seed))
    occurrences = Occurrences(document)
    names = [row["id"] for row in answer["chains"]]
    assert names == [f"c{i}" for i in range(len(names))]
    for row in answer["chains"]:
        assert row["type"] in LABELS.names("mentions")
        for mention in row["mentions"]:
            assert occurrences.of(mention if isinstance(mention, str) else mention[0])
    for row in answer["relations"]:
        assert {row["head"], row["tail"]} <= set(names)
        assert row["head"] != row["tail"]
        assert row["type"] in LABELS.names("relations")
    for row in answer["regions"]:
        assert row["frame"] in shown.sizes
        assert row["box"][0] < row["box"][2]
        assert row["box"][1] < row["box"][3]


@settings(max_examples=40, deadline=None)
@given(text=texts().filter(is_whole))
def test_the_chunks_of_a_document_are_its_text_from_the_first_token_to_the_last(text):
    tokens = tokenize(Document("d", "en", text))
    whole = text[tokens[0][0] : tokens[-1][1]] if tokens else ""
    assert "".join(mention_chunks(Document("d", "en", text))) == whole


@given(cuts=st.lists(st.tuples(st.integers(0, 9), st.integers(1, 10)).filter(lambda c: c[0] < c[1]), max_size=4))
@settings(max_examples=40, deadline=None)
def test_a_mention_keeps_to_the_corpus_own_tokens(cuts):
    document = Document("d", "en", "abc de fghi", tokens=tuple(cuts))
    grammar = entities_grammar(document, LABELS, SMALL)
    for start in range(11):
        for end in range(start + 1, 12):
            if takes(grammar, {"PER": [document.text[start:end]], "LOC": []}):
                assert Occurrences(document).of(document.text[start:end])


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_gold_in_the_answer_form_passes(lang):
    marked = {
        "en": '[PER0 Ada] met [PER1 Bela] in [LOC2 Arles] . [PER0 Ada] "wed" [PER1 him \\ Bela] .',
        "zh": "[PER0 苏珊]在[LOC2 北京]遇见[PER1 乔治]，[PER0 苏珊]的丈夫。",
    }[lang]
    made = example("d", marked, lang=lang, relations=[("c0", "c1", "PER-PER_couple"), ("c0", "c2", "PER-LOC_birth")])
    answer = write_answer(made.document, made.gold)
    names = {row["id"]: f"c{i}" for i, row in enumerate(answer["chains"])}
    for row in answer["chains"]:
        row["id"] = names[row["id"]]
    for row in answer["relations"]:
        row["head"], row["tail"] = names[row["head"]], names[row["tail"]]
    assert takes(joint_grammar(made.document, LABELS, SHOWN, Bounds()), answer)


def test_four_thousand_words_are_no_problem():
    rnd = random.Random(0)
    text = " ".join(rnd.choice(EN.split()) + str(rnd.randrange(500)) for _ in range(4000))
    answer = walk(joint_grammar(Document("d", "en", text), LABELS, SHOWN, SMALL), 3)
    assert json.loads(answer).keys() == joint().keys()


# --- spans and boxes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "lang"), [(EN, "en"), (ZH, "zh"), *((nasty, "en") for nasty in NASTY)])
def test_spans_are_texts_of_the_document(text, lang):
    document = Document("d", lang, text)
    grammar = spans_grammar(document, SMALL, 3)
    for seed in range(5):
        texts = json.loads(walk(grammar, seed))["mentions"]
        assert len(texts) <= 3
        assert all(Occurrences(document).of(text) for text in texts)
    assert takes(spans_grammar(Document("d", "en", ""), SMALL, 3), {"mentions": []})


def test_spans_may_be_objects():
    grammar = spans_grammar(Document("d", "en", EN), SMALL, 2, objects=True)
    assert takes(grammar, {"mentions": [{"text": "Ada"}, {"text": "Arles"}]})
    for wrong in (["Ada"], [{"text": "Grace"}], [{"text": "Ada"}] * 3):
        assert not takes(grammar, {"mentions": wrong})


def test_a_box_is_of_its_frame():
    grammar = box_grammar(48, VisibleFrames({24: (640, 360), 48: (360, 640)}, CONVENTIONS["pixels"]))
    assert takes(grammar, {"box": [10, 20, 350, 630]})
    assert not takes(grammar, {"box": [10, 20, 370, 630]})
    assert not takes(grammar, {"box": [10, 20, 350, 630], "frame": 48})
