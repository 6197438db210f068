"""How conversations go: what is asked next, given what was said."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from PIL import Image

pytest.importorskip("jinja2", reason="needs the extra 'llm'")

from m3dllm.normalize import normalize
from m3dllm.systems.videollm.config import Config
from m3dllm.systems.videollm.context import PromptContext
from m3dllm.systems.videollm.engines.base import Reply
from m3dllm.systems.videollm.families import CONVENTIONS
from m3dllm.systems.videollm.groups import marked
from m3dllm.systems.videollm.messages import Still
from m3dllm.systems.videollm.prompts import Prompts
from m3dllm.systems.videollm.strategies import find_strategy
from m3dllm.systems.videollm.visible import VisibleFrames
from m3dllm.types import Chain, Document, Frame, Given, Mention, RawOutput
from tests.small import LABELS, example
from tests.videollm.test_likelihood import reply

joint, staged, framewise = map(find_strategy, ("joint", "staged", "framewise"))

TEXT = "Ada met Bela in Arles . Ada left Bela ."


def subject(document: Document | None = None, *, frames: int = 1, **options) -> PromptContext:
    return PromptContext(
        document=document or Document("d", "en", TEXT, frames=(Frame(24, "24.png", 640, 360),)),
        labels=LABELS,
        options=Config(**options),
        prompts=Prompts(),
        visible=VisibleFrames({24 * i: (640, 360) for i in range(1, frames + 1)}, CONVENTIONS["permille"]),
        system="System.",
        view=("The document.",),
    )


def talk(strategy, about: PromptContext, *said: object) -> tuple[object, list]:
    """(the payload, the questions) of a conversation in which the model says this."""
    conversation, asked = strategy.run(about), []
    words = [word if isinstance(word, str | Reply) else json.dumps(word) for word in said]
    try:
        questions = next(conversation)
        while True:
            asked += questions
            assert words, f"nothing is left to say to {questions[0].stage.name}"
            questions = conversation.send([_reply(words.pop(0)) for _ in questions])
    except StopIteration as end:
        assert not words, f"{words} was not asked for"
        return end.value, asked


def _reply(said: str | Reply) -> Reply:
    return Reply(text=said) if isinstance(said, str) else said


def annotation(about: PromptContext, payload: object):
    return normalize(about.document, RawOutput("d", payload=payload, issues=tuple(about.issues)), LABELS).annotation


def instruction(question) -> str:
    return question.request.messages[-1].parts[-1]


# --- joint ------------------------------------------------------------------------------------------------------------


def test_joint_asks_once_and_hands_on_what_was_said():
    payload, asked = talk(joint, subject(), "whatever")
    assert payload == "whatever"
    assert [question.stage.name for question in asked] == ["joint"]
    assert "PER-LOC_birth (PER to LOC): born in" in instruction(asked[0])


ADA = '{"chains":[{"id":"c0","type":"PER","mentions":["Ada"]},{"id":"c1","type":"PER","mentions":["Bela"'
COUPLE = '{"head":"c0","tail":"c1","type":"PER-PER_couple"}'


@pytest.mark.parametrize(
    ("ended", "begun"),
    [
        (f'{ADA}]}},{{"id":"c2","type":"PER","mentions":["Bela"]}},{{"id":"c3"', f"{ADA}]}}"),
        (f"{ADA},", f"{ADA}]}}"),
        (f'{ADA}]}}],"relations":[{COUPLE},', f'{ADA}]}}],"relations":[{COUPLE}'),
    ],
)
def test_behind_what_went_round_the_answer_goes_on(ended, begun):
    about = subject()
    about.supports = frozenset({"begun", "grammar"})
    related = "relations" in ended
    rest = '],"regions":[]}' if related else f'],"relations":[{COUPLE}],"regions":[]}}'
    payload, asked = talk(joint, about, Reply(text=ended, finish="repetition", tokens_out=100), rest)
    assert [question.request.begun for question in asked] == ["", begun]
    assert asked[1].request.max_tokens < asked[0].request.max_tokens - 100
    assert ('REFUSED: "Bela"' in asked[1].request.constraint.grammar) is not related
    assert payload == begun + rest
    gold = annotation(about, payload)
    assert (len(gold.chains), len(gold.relations)) == (2, 1)


def test_where_every_text_is_refused_the_list_of_chains_ends():
    about = subject(Document("d", "en", "Ada"))
    about.supports = frozenset({"begun", "grammar"})
    ended = '{"chains":[{"id":"c0","type":"PER","mentions":["Ada"]},{"id":"c1"'
    _, asked = talk(joint, about, Reply(text=ended, finish="repetition"), '],"relations":[],"regions":[]}')
    assert "REFUSED" not in asked[1].request.constraint.grammar
    assert "start: rest_1" in asked[1].request.constraint.grammar


def test_an_answer_that_went_round_among_regions_is_at_its_end():
    about = subject()
    about.supports = frozenset({"begun", "grammar"})
    ended = f'{ADA}]}}],"relations":[],"regions":[{{"frame":24,"type":"PER","box":[0,0,9,9]}},'
    payload, (_,) = talk(joint, about, Reply(text=ended, finish="repetition"))
    assert payload == ended


@pytest.mark.parametrize(("supports", "options"), [((), {}), (("begun", "grammar"), {"unconstrained": True})])
def test_without_a_grammar_or_an_engine_that_goes_on_it_ends_there(supports, options):
    about = subject(**options)
    about.supports = frozenset(supports)
    payload, (_,) = talk(joint, about, Reply(text=ADA + ",", finish="repetition"))
    assert payload == ADA + ","


def test_the_document_comes_first_and_the_task_last():
    _, (question,) = talk(joint, subject(), "")
    system, user = question.request.messages
    assert (system.role, system.parts) == ("system", ("System.",))
    assert user.parts[0] == "The document."


def test_an_empty_document_is_not_prompted_about():
    payload, asked = talk(joint, subject(Document("d", "en", ""), frames=0))
    assert (payload, asked) == ({"chains": [], "relations": [], "regions": []}, [])
    payload, asked = talk(staged, subject(Document("d", "en", ""), frames=0))
    assert (payload, asked) == ({"chains": [], "relations": [], "regions": []}, [])


def test_a_constraint_is_a_grammar_with_a_schema_beside_it_or_only_the_schema_or_none():
    held = [talk(joint, subject(**options), "")[1][0].request.constraint for options in ({}, {"schema_only": True})]
    assert held[0].grammar
    assert held[0].schema == held[1].schema
    assert held[1].grammar is None
    assert talk(joint, subject(unconstrained=True), "")[1][0].request.constraint is None


# --- staged -----------------------------------------------------------------------------------------------------------


def test_each_stage_is_made_from_the_one_before():
    about = subject()
    payload, asked = talk(
        staged,
        about,
        {"PER": ["Ada", "Bela"], "LOC": ["Arles"]},
        {"chains": [["m0", "m3"], ["m1", "m4"]]},
        {"relations": [{"head": "c0", "tail": "c2", "type": "PER-LOC_birth"}]},
        {"regions": [{"frame": 24, "type": "PER", "chain": "c1", "box": [0, 0, 500, 500]}]},
    )
    assert [question.stage.name for question in asked] == ["entities", "chains", "relations", "grounding"]
    assert "[m0 Ada] met [m1 Bela] in [m2 Arles] . [m3 Ada] left [m4 Bela] ." in instruction(asked[1])
    assert "- c2 (LOC): Arles" in instruction(asked[2])
    found = annotation(about, payload)
    assert [[m.span for m in chain.mentions] for chain in found.chains] == [
        [(0, 3), (24, 27)],
        [(8, 12), (33, 37)],
        [(16, 21)],
    ]
    assert [(r.head, r.tail) for r in found.relations] == [("c0", "c2")]
    assert [region.chain for region in found.regions] == ["c1"]


def test_a_mention_that_is_in_no_list_is_a_chain_of_its_own():
    about = subject(frames=0)
    payload, _ = talk(staged, about, {"PER": ["Ada"], "LOC": []}, {"chains": []}, {"relations": []})
    assert [len(chain.mentions) for chain in annotation(about, payload).chains] == [1, 1]


def test_a_text_means_none_of_its_places_inside_a_longer_mention():
    about = subject(Document("d", "en", "Ada met Ada Lovelace ."), frames=0)
    payload, _ = talk(staged, about, {"PER": ["Ada", "Ada Lovelace"], "LOC": []}, {"chains": []}, {"relations": []})
    assert [m.span for m in annotation(about, payload).mentions] == [(0, 3), (8, 20)]


def test_what_stands_nowhere_is_left_for_normalization_to_judge():
    about = subject(frames=0)
    payload, _ = talk(staged, about, {"PER": ["Grace"], "LOC": ["Arles"]}, {"relations": []})
    issues = normalize(about.document, RawOutput("d", payload=payload), LABELS).issues
    assert "text_not_found" in [issue.code for issue in issues]
    assert [chain.type for chain in annotation(about, payload).chains] == ["LOC"]


def test_stages_without_anything_to_ask_are_left_out():
    _, asked = talk(staged, subject(frames=0), {"PER": [], "LOC": ["Arles"]})
    assert [question.stage.name for question in asked] == ["entities"]
    _, asked = talk(staged, subject(Document("d", "en", "")), {"regions": []})
    assert [question.stage.name for question in asked] == ["grounding"]


def test_a_mention_that_is_predicted_twice_stays_in_its_first_chain():
    about = subject(frames=0)
    lists = {"chains": [["m0", "m1"], ["m1", "m9"]]}
    payload, _ = talk(staged, about, {"PER": ["Ada"], "LOC": []}, lists)
    assert [len(chain["mentions"]) for chain in payload["chains"]] == [2]
    assert [issue.code for issue in about.issues] == ["duplicate_mention", "dangling"]


def second(text: str = TEXT, lang="en", **options) -> PromptContext:
    """A document without frames, for prompts of version 2."""
    return replace(subject(Document("d", lang, text), frames=0, **options), prompts=Prompts(version=2))


@pytest.mark.parametrize(
    ("text", "lang", "ada", "bela"),
    [
        ("Ada met Bela . Bela left Ada .", "en", "Ada", "Bela"),
        ("苏珊与乔治是夫妻。乔治走了，苏珊没走。", "zh", "苏珊", "乔治"),
    ],
)
def test_answers_of_version_two_list_objects(text, lang, ada, bela):
    about = second(text, lang)
    mentions = [{"text": ada, "type": "PER"}, {"text": bela, "type": "PER"}]
    payload, asked = talk(
        staged, about, {"mentions": mentions}, {"chains": [{"mentions": ["m0", "m3"]}]}, {"relations": []}
    )
    assert [question.stage.name for question in asked] == ["entities", "chains", "relations"]
    first = annotation(about, payload).chains[0]
    assert [mention.start for mention in first.mentions] == [0, text.rindex(ada)]
    assert about.issues == []


def test_a_mention_without_a_known_type_or_a_text_is_an_issue():
    about = second(unconstrained=True)
    said = [{"text": "Ada", "type": "GOD"}, "Bela", 7, {"type": "PER"}, {"text": "Arles", "type": "LOC"}]
    payload, _ = talk(staged, about, {"mentions": said})
    assert [(issue.code, issue.where) for issue in about.issues] == [
        ("unknown_type", "mentions[0]"),
        ("unknown_type", "mentions[1]"),
        ("bad_shape", "mentions[2]"),
        ("bad_shape", "mentions[3]"),
    ]
    assert [chain["type"] for chain in payload["chains"]] == ["LOC"]


def test_mentions_by_type_or_with_another_key_are_read_where_a_free_answer_has_them():
    for said in ({"PER": ["Ada"]}, {"mentions": [{"mention": "Ada", "type": "PER"}]}):
        payload, _ = talk(staged, second(unconstrained=True), said, {"chains": [["m0", "m1"]]})
        assert [len(chain["mentions"]) for chain in payload["chains"]] == [2]


def test_the_confidence_of_a_mention_is_that_of_its_text_and_type():
    said = reply('{"mentions":[{"text":"Arles","type":"LOC"}]}', {'Arles"': 0.5, 'LOC"': 0.5})
    payload, _ = talk(staged, second(), said)
    assert payload["chains"][0]["mentions"][0]["confidence"] == 0.25


@pytest.mark.parametrize("words", ["", "no", "[]", '{"PER": 7}', '{"LOC": [[1], null, {"a": 2}]}', '{"PER"'])
def test_garbled_stages_never_stop_a_conversation(words):
    payload, asked = talk(staged, subject(unconstrained=True), words, words)
    assert [question.stage.name for question in asked] == ["entities", "grounding"]
    assert payload["chains"] == []


def test_garbled_lists_never_stop_a_conversation():
    about = subject(unconstrained=True)
    odd = {"chains": [7, ["m0", 3, None], "m1", {"a": 1}], "relations": ["x", {"head": 3}], "regions": {"frame": 1}}
    payload, _ = talk(staged, about, {"PER": ["Ada"], "LOC": []}, odd, odd, odd)
    assert annotation(about, payload).chains


def test_mentions_inside_others_are_marked_inside_them():
    text = "Ada Lovelace wrote ."
    about = subject(Document("d", "en", text))
    assert marked(about, [Mention(0, 3, "PER"), Mention(0, 12, "PER"), Mention(4, 12, "PER")]) == (
        "[m1 [m0 Ada] [m2 Lovelace]] wrote ."
    )


# --- what is given ----------------------------------------------------------------------------------------------------


def given(kind: str) -> PromptContext:
    made = example("d", "[PER0 Ada] met [PER1 Bela] . [PER0 Ada] left [LOC2 Arles] .")
    chains = made.gold.chains
    if kind == "mentions":
        chains = tuple(Chain(f"x{i}", (m,)) for i, m in enumerate(made.gold.mentions))
    return subject(replace(made.document, given=Given(chains=chains, kind=kind)))


@pytest.mark.parametrize("strategy", [joint, staged])
def test_given_mentions_are_only_made_chains_of(strategy):
    about = given("mentions")
    payload, asked = talk(strategy, about, {"chains": [["m0", "m2"]]})
    assert [question.stage.name for question in asked] == ["chains"]
    spans = {frozenset(chain.spans) for chain in annotation(about, payload).chains}
    assert spans == {frozenset({(0, 3), (15, 18)}), frozenset({(8, 12)}), frozenset({(24, 29)})}


@pytest.mark.parametrize("strategy", [joint, staged])
def test_among_given_chains_only_relations_are_prompted_for(strategy):
    about = given("chains")
    related = {"relations": [{"head": "c0", "tail": "c2", "type": "PER-LOC_birth"}]}
    payload, asked = talk(strategy, about, related)
    assert [question.stage.name for question in asked] == ["relations"]
    found = annotation(about, payload)
    assert {chain.spans for chain in found.chains} == {chain.spans for chain in about.document.given.chains}
    assert len(found.relations) == 1


def test_nothing_given_is_nothing_asked():
    for kind in ("mentions", "chains"):
        about = subject(Document("d", "en", TEXT, given=Given(kind=kind)))
        assert talk(staged, about) == ({"chains": [], "relations": [], "regions": []}, [])


# --- framewise --------------------------------------------------------------------------------------------------------


def test_framewise_asks_as_staged_then_about_each_frame_alone_all_at_once():
    pictures = [Still(24 * i, Image.new("RGB", (64, 36)), "x") for i in (1, 2)]
    view = ("Frame 24:", pictures[0], "Frame 48:", pictures[1], "The document.")
    about = replace(subject(frames=2), view=view)
    box = [0, 0, 500, 500]
    regions = [{"regions": [{"frame": frame, "type": "PER", "chain": "c0", "box": box}]} for frame in (24, 48)]
    payload, asked = talk(framewise, about, {"LOC": ["Arles"]}, *regions)
    assert [question.stage.name for question in asked] == ["entities", "frame", "frame"]
    shown = [[part.frame for part in q.request.messages[-1].parts if isinstance(part, Still)] for q in asked]
    assert shown == [[24, 48], [24], [48]]
    assert "number 24" in instruction(asked[1])
    assert TEXT in "".join(part for part in asked[2].request.messages[-1].parts if isinstance(part, str))
    assert [(region["frame"], region["chain"]) for region in payload["regions"]] == [(24, "c0"), (48, "c0")]


def test_framewise_holds_an_answer_to_the_frame_that_is_shown():
    about = replace(subject(frames=2), view=tuple(Still(24 * i, Image.new("RGB", (64, 36)), "x") for i in (1, 2)))
    _, asked = talk(framewise, about, {"PER": []}, {"regions": []}, {"regions": []})
    grammars = [question.request.constraint.grammar for question in asked[1:]]
    assert ["24" in grammars[0], "48" in grammars[0]] == [True, False]
    assert ["24" in grammars[1], "48" in grammars[1]] == [False, True]
