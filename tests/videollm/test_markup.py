"""Answers as tags in the text: what they say, what their grammar lets through, and what the gold comes back as."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("jinja2", reason="needs the extra 'llm'")
pytest.importorskip("llguidance", reason="needs the extra 'llm'")

from m3dllm.errors import UserError
from m3dllm.normalize import normalize
from m3dllm.systems.videollm.config import Config
from m3dllm.systems.videollm.engines.base import Reply
from m3dllm.systems.videollm.families import CONVENTIONS
from m3dllm.systems.videollm.gold import Gold
from m3dllm.systems.videollm.grammar import PIECE, markup_pieces
from m3dllm.systems.videollm.strategies import find_strategy
from m3dllm.systems.videollm.strategies.markup import MARKUP
from m3dllm.systems.videollm.system import VideoLLM
from m3dllm.systems.videollm.visible import VisibleFrames
from m3dllm.types import Annotation, Chain, Document, Mention, RawOutput
from tests.small import LABELS, example
from tests.videollm.documents import NASTY
from tests.videollm.test_strategies import annotation, instruction, subject, talk
from tests.videollm.tiny import tokenizer

EN = example(
    "d",
    "[PER0 Ada Lovelace] was born in [LOC1 Arles] . [PER0 Ada] met [PER2 Bela] .",
    relations=[("c0", "c1", "PER-LOC_birth"), ("c0", "c2", "PER-PER_couple")],
    frames=1,
)
ZH = example("d", "[PER0 苏珊]出生在[LOC1 北京]。", lang="zh", relations=[("c0", "c1", "PER-LOC_birth")])


def about(made=EN, **options):
    context = subject(made.document, **options)
    sizes = {frame.index: (640, 360) for frame in made.document.frames}
    return replace(context, visible=VisibleFrames(sizes, CONVENTIONS["permille"]))


def gold_answer(made) -> str:
    context = about(made)
    return MARKUP.target(Gold(context, made.gold), ())


def read(context, text: str, **more) -> Annotation:
    payload = MARKUP.parse(context, Reply(text=text, **more), ())
    raw = RawOutput("d", payload=payload, boxes=context.visible.convention.form(context.visible.sizes))
    return normalize(context.document, raw, LABELS).annotation


def test_the_answer_is_the_text_with_tags_and_a_line_for_each_relation_and_region():
    assert gold_answer(EN).splitlines() == [
        "<PER 0>Ada Lovelace</> was born in <LOC 1>Arles</> . <PER 0>Ada</> met <PER 2>Bela</> .",
        "<0 PER-LOC_birth 1>",
        "<0 PER-PER_couple 2>",
        "<0 PER [250,250,500,750]>",
    ]


@pytest.mark.parametrize("made", [EN, ZH, example("d", "", frames=1), example("d", "Nobody is here .")])
def test_gold_comes_back_as_it_was(made):
    found = read(about(made), gold_answer(made))
    gold = Gold(about(made), made.gold).annotation
    assert [chain.mentions for chain in found.chains] == [chain.mentions for chain in gold.chains]
    assert found.relations == gold.relations
    assert [(r.frame, r.type, tuple(r.box)) for r in found.regions] == [
        (r.frame, r.type, tuple(r.box)) for r in gold.regions
    ]


def test_of_mentions_that_overlap_the_longest_is_tagged():
    text = "Ada Lovelace left ."
    nested = Annotation((Chain("a", (Mention(0, 3, "PER"),)), Chain("b", (Mention(0, 12, "PER"),))))
    made = replace(EN, document=Document("d", "en", text), gold=nested)
    assert "\n" not in gold_answer(made)
    assert gold_answer(made).endswith("Ada Lovelace</> left .")


def accepts(context, text: str) -> bool:
    """Whether the grammar lets the whole text through, byte by byte."""
    import llguidance
    import llguidance.hf

    tokens = tokenizer(["<|end|>"], "", eos="<|end|>", pad="<|end|>")
    grammar = MARKUP.constraint(context, ()).grammar
    matcher = llguidance.LLMatcher(llguidance.hf.from_tokenizer(tokens), grammar, log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    return matcher.consume_tokens(tokens.encode(text, add_special_tokens=False)) and matcher.is_accepting()


def test_the_grammar_lets_the_gold_through_and_nothing_that_is_wrong():
    for made in (EN, ZH, example("d", "", frames=1)):
        assert accepts(about(made), gold_answer(made))
    right = gold_answer(EN)
    for wrong in (
        right.replace("born", "torn"),
        right.replace("<LOC 1>Arles", "<ORG 1>Arles"),
        right.replace("<PER 0>Ada</>", "<PER 0>Ad</>a"),
        right.replace("</> was", " </>was"),
        right.replace("<PER 2>Bela</>", "<PER 2>Bela"),
        right.replace("<0 PER [", "<48 PER ["),
        right.replace("[250,250,500,750]", "[500,250,250,750]"),
        right.replace("PER-LOC_birth", "PER-LOC_death"),
    ):
        assert wrong != right
        assert not accepts(about(EN), wrong)


@pytest.mark.parametrize("text", NASTY)
def test_a_text_that_says_nothing_may_be_any(text):
    made = replace(EN, document=Document("d", "en", text), gold=Annotation())
    context = about(made)
    assert read(context, gold_answer(made)) == Annotation()
    assert not context.issues


def test_a_long_text_is_a_row_of_pieces_that_end_with_sentences():
    chunks = ["word", " "] * 40 + [".", " "] + ["word", " "] * 200
    pieces = markup_pieces(chunks)
    assert [start for start, _ in pieces[1:]] == [end for _, end in pieces[:-1]]
    assert pieces[-1][1] == len(chunks)
    assert chunks[pieces[0][1] - 1] == "."
    assert max(end - start for start, end in pieces) == 2 * PIECE


def test_what_is_not_copied_is_noted_and_its_tags_are_found_as_texts():
    context = about(EN, unconstrained=True)
    found = read(context, "Here it is: <PER 0>Ada Lovelace</> and <LOC 1>Arles</>\n<0 PER-LOC_birth 1>")
    assert [m.span for m in found.mentions] == [(0, 12), (25, 30)]
    assert [r.type for r in found.relations] == ["PER-LOC_birth"]
    assert [issue.code for issue in context.issues] == ["bad_shape"]


@pytest.mark.parametrize("text", ["", "no", "<PER 0>", "</>", "<PER 0></>", "<0 x 1>", "<24 PER [1,,]>", "<PER 0>Ada"])
def test_a_garbled_answer_never_stops_a_conversation(text):
    context = about(EN, unconstrained=True)
    assert len(list(read(context, text).mentions)) == 0


def test_an_answer_that_was_cut_off_keeps_what_is_complete():
    context = about(EN)
    half = gold_answer(EN)[:60]
    found = read(context, half, finish="length")
    assert [m.span for m in found.mentions] == [(0, 12), (25, 30)]
    assert not context.issues


def test_tags_have_the_probabilities_of_their_tokens():
    text = gold_answer(ZH)
    logprobs = tuple((i + 1, -0.1 if i == text.index("0") else 0.0) for i in range(len(text)))
    (first, second) = read(about(ZH), text, logprobs=logprobs).mentions
    assert (first.confidence, second.confidence) == (0.9048, 1.0)


def test_one_question_is_asked_and_none_about_an_empty_document():
    payload, asked = talk(find_strategy("markup"), about(EN), gold_answer(EN))
    assert [question.stage.name for question in asked] == ["markup"]
    assert "Write the subtitles once more" in instruction(asked[0])
    assert len(annotation(about(EN), payload).chains) == 3
    empty = subject(Document("d", "en", ""), frames=0)
    assert talk(find_strategy("markup"), empty) == ({"chains": [], "relations": [], "regions": []}, [])


def test_a_model_can_be_tuned_to_it_and_no_schema_holds_it():
    assert find_strategy("markup").has_targets
    with pytest.raises(UserError, match="--schema-only: the answers of --strategy markup are not JSON"):
        VideoLLM(Config(strategy="markup", schema_only=True), labels=LABELS)
