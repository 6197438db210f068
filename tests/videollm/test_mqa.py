"""Multiple choice: which questions are asked, in which order, and what the letters come to."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

pytest.importorskip("jinja2", reason="needs the extra 'llm'")

from m3dllm.errors import UserError
from m3dllm.labels import Label, LabelSet, RelationLabel
from m3dllm.normalize import CODES, normalize
from m3dllm.systems.videollm.config import Config
from m3dllm.systems.videollm.context import PromptContext
from m3dllm.systems.videollm.engines.base import Reply
from m3dllm.systems.videollm.strategies import find_strategy
from m3dllm.systems.videollm.strategies.choices import LETTERS, read_letter
from m3dllm.systems.videollm.strategies.mqa import CANDIDATES, check_labels
from m3dllm.types import Chain, Document, Given, Mention, RawOutput
from tests.small import LABELS, example
from tests.videollm.talking import talk
from tests.videollm.test_strategies import annotation, instruction, subject

TEXT = "Ada Lovelace met Bela in Arles . Ada left Bela ."
TYPES = {"Ada Lovelace": "person", "Ada": "person", "Bela": "person", "Arles": "location", "met": "none"}


class Speaker:
    """A model that knows what is right. It names options by what they say, whatever letter they have.

    With `scored` it says how likely each letter is; with `biased` it adds a liking for the first letter.
    """

    def __init__(
        self,
        spans: list[str],
        picks: dict[tuple[str, str], str],
        *,
        scored: bool = True,
        bias: float = 0.0,
        none: str = "none",
    ):
        self.spans, self.picks, self.scored, self.bias, self.none = spans, picks, scored, bias, none
        self.asked = []

    def __call__(self, question) -> Reply:
        self.asked.append(question)
        text = instruction(question).strip()
        if question.stage.name == "spans":
            return Reply(text=json.dumps({"mentions": self.spans}))
        if question.stage.name == "box":
            return Reply(text='{"box":[0,0,500,500]}')
        lines = [line for line in text.splitlines() if line.startswith("(")]
        asked = text.partition("\n")[0]
        wanted = next(
            (pick for (stage, words), pick in self.picks.items() if stage == question.stage.name and words in asked),
            self.none,
        )
        right = [i for i, line in enumerate(lines) if wanted in line[4:]] or [
            i for i, line in enumerate(lines) if self.none in line[4:]
        ]
        assert len(lines) == len(question.request.options or lines), text
        if not self.scored:
            return Reply(text=f"({LETTERS[right[0]]})")
        scores = [-3.0] * len(lines)
        scores[right[0]] = -1.0
        scores[0] += self.bias
        return Reply(text=LETTERS[max(range(len(lines)), key=scores.__getitem__)], scores=tuple(scores))


RIGHT = {
    **{("type", f"“{text}”"): kind for text, kind in TYPES.items()},
    ("coreference", "“Ada”"): "“Ada Lovelace”",
    ("relation", "“Ada Lovelace / Ada” and “Arles”"): "born in",
    ("seen", "frame 24"): "Bela",
}


def about(text: str = TEXT, **options) -> PromptContext:
    return subject(Document("d", "en", text, frames=subject().document.frames), strategy="mqa", **options)


@pytest.mark.parametrize("scored", [True, False])
def test_spans_become_typed_mentions_chains_relations_and_regions(scored):
    asked, speaker = about(), Speaker([*TYPES], RIGHT, scored=scored)
    found = annotation(asked, talk("mqa", asked, speaker))
    assert [[TEXT[m.start : m.end] for m in chain.mentions] for chain in found.chains] == [
        ["Ada Lovelace", "Ada"],
        ["Bela", "Bela"],
        ["Arles"],
    ]
    assert [chain.type for chain in found.chains] == ["PER", "PER", "LOC"]
    assert [(r.head, r.tail, r.type) for r in found.relations] == [("c0", "c2", "PER-LOC_birth")]
    assert [(r.frame, r.type, r.chain) for r in found.regions] == [(24, "PER", "c1")]
    assert not asked.issues


def test_every_decision_is_prompted_in_two_orders_where_letters_have_probabilities():
    speaker = Speaker([*TYPES], RIGHT)
    talk("mqa", about(), speaker)
    types = [q for q in speaker.asked if q.stage.name == "type"]
    assert len(types) == 2 * len(TYPES)
    forward, backward = instruction(types[0]), instruction(types[len(TYPES)])
    assert "(A) person (PER)\n" in forward
    assert "(C) person (PER)\n" in backward
    assert types[0].request.options == ("A", "B", "C")
    assert types[0].request.constraint.schema["properties"]["choice"]["enum"] == ["A", "B", "C"]
    plain = Speaker([*TYPES], RIGHT, scored=False)
    talk("mqa", about(), plain)
    assert len([q for q in plain.asked if q.stage.name == "type"]) == len(TYPES)


def test_a_liking_for_a_letter_decides_nothing():
    fair, biased = about(), about()
    right = annotation(fair, talk("mqa", fair, Speaker([*TYPES], RIGHT)))
    assert annotation(biased, talk("mqa", biased, Speaker([*TYPES], RIGHT, bias=3.9))) == right


def test_none_of_these_discards_a_span_and_begins_a_chain():
    asked = about("Ada met Bela .")
    found = annotation(asked, talk("mqa", asked, Speaker(["Ada", "met", "Bela"], {("type", "a”"): "person"})))
    assert [len(chain.mentions) for chain in found.chains] == [1, 1]
    assert not found.relations
    assert not found.regions


def test_options_of_coreference_are_bounded_and_those_that_resemble_come_first():
    names = [f"P{i}" for i in range(CANDIDATES + 6)]
    speaker = Speaker([*names, "P0 x"], {("type", "P"): "person"})
    talk("mqa", about(" ".join([*names, "P0 x"]), max_mentions=40), speaker)
    last = [q for q in speaker.asked if q.stage.name == "coreference"][len(names) - 1]
    options = [line for line in instruction(last).splitlines() if line.startswith("(")]
    assert len(options) == CANDIDATES + 1
    assert options[0] == "(A) “P0”"


def test_the_nearest_pairs_are_prompted_about_and_no_more_than_relations_may_be():
    speaker = Speaker(["Ada", "Arles", "Basel"], {("type", "Ada"): "person", ("type", ""): "location"})
    talk("mqa", about("Ada is in Basel , far from Arles .", max_relations=1), speaker)
    (asked,) = {instruction(q).strip().partition("\n")[0] for q in speaker.asked if q.stage.name == "relation"}
    assert "“Ada” and “Basel”" in asked


def test_a_relation_may_go_either_way():
    picks = {**RIGHT, ("relation", "“Bela”"): "couple"}
    asked = about("Bela met Arles and Ada .")
    found = annotation(
        asked,
        talk("mqa", asked, Speaker(["Ada", "Bela", "Arles"], {**picks, ("relation", "“Arles” and “Ada”"): "born in"})),
    )
    names = {chain.id: asked.document.text[chain.mentions[0].start : chain.mentions[0].end] for chain in found.chains}
    assert {(names[r.head], names[r.tail], r.type) for r in found.relations} == {
        ("Bela", "Ada", "PER-PER_couple"),
        ("Ada", "Arles", "PER-LOC_birth"),
    }


def test_without_a_text_only_the_frames_are_prompted_about():
    asked = about("")
    speaker = Speaker([], {("seen", "frame 24"): "person"})
    found = annotation(asked, talk("mqa", asked, speaker))
    assert [q.stage.name for q in speaker.asked] == ["seen", "seen", "box"]
    assert [(r.type, r.chain) for r in found.regions] == [("PER", None)]
    nothing = subject(Document("d", "en", ""), frames=0, strategy="mqa")
    assert talk("mqa", nothing, Speaker([], {})) == {"chains": [], "relations": [], "regions": []}


def test_what_is_given_bounds_the_questions():
    made = example("d", "[PER0 Ada Lovelace] met [PER1 Bela] in [LOC2 Arles] . [PER0 Ada] left .")
    singles = tuple(Chain(f"m{i}", (m,)) for i, m in enumerate(made.gold.mentions))
    for kind, chains, stages in (("mentions", singles, {"coreference"}), ("chains", made.gold.chains, {"relation"})):
        asked = subject(replace(made.document, given=Given(chains=chains, kind=kind)), strategy="mqa")
        speaker = Speaker([], RIGHT)
        found = annotation(asked, talk("mqa", asked, speaker))
        assert {q.stage.name for q in speaker.asked} == stages
        assert {chain.spans for chain in found.chains} == {chain.spans for chain in made.gold.chains}
        assert len(found.relations) == (kind == "chains")


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        (" (B).", "B"),
        ('{"choice":"B"}', "B"),
        ("<think>A or C?</think>\nB", "B"),
        ("A person, so (B)", "B"),
        ("（B）", "B"),
        ("The answer is B.", "B"),
        ("It is option D", None),
        ("", None),
        ("[]", None),
        ("none", None),
        ('{"choice":null}', None),
    ],
)
def test_a_letter_is_read_from_what_was_answered(text, letter):
    assert read_letter(text, "ABC") == letter


def test_an_answer_without_a_letter_is_none_of_them_and_noted():
    asked = about(unconstrained=True)
    conversation = find_strategy("mqa").run(asked)
    (question,) = next(conversation)
    assert question.request.constraint is None
    questions = conversation.send([Reply(text='{"mentions":["Ada"]}')])
    assert questions[0].request.options == ()
    with pytest.raises(StopIteration) as end:
        conversation.send([Reply(text="I cannot say")])
    assert end.value.value["chains"] == []
    assert [(issue.code, issue.where) for issue in asked.issues] == [("bad_shape", "type")]
    assert {issue.code for issue in asked.issues} <= CODES.keys()


def test_a_span_that_stands_nowhere_is_left_for_normalization_to_judge():
    asked = about(schema_only=True)
    payload = talk("mqa", asked, Speaker(["Grace"], {("type", "Grace"): "person"}))
    issues = normalize(asked.document, RawOutput("d", payload=payload), LABELS).issues
    assert "text_not_found" in [issue.code for issue in issues]


def test_a_label_set_with_more_types_than_letters_is_one_line():
    check_labels(LABELS)
    many = LabelSet(mentions=tuple(Label(f"T{i}") for i in range(52)))
    with pytest.raises(UserError, match="52 types of mentions: the strategy mqa supports at most 51 per question"):
        check_labels(many)
    pairs = LabelSet(mentions=(Label("PER"),), relations=tuple(RelationLabel(f"r{i}") for i in range(26)))
    with pytest.raises(UserError, match="52 relations between 'PER' and 'PER'"):
        check_labels(pairs)
    assert Config(strategy="mqa").strategy == "mqa"
    assert Mention(0, 1, "PER").span == (0, 1)
