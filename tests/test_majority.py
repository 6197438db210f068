"""The heuristic baselines as a system: what it learns, what it answers, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m3dllm.corpora.m3d import read_m3d
from m3dllm.corpora.split import hold_out
from m3dllm.errors import UserError
from m3dllm.heuristics import BoxRule, RelationRule
from m3dllm.labels import Label, RelationLabel
from m3dllm.normalize import normalize
from m3dllm.score import score
from m3dllm.system import System
from m3dllm.systems.majority import Config, Majority
from m3dllm.types import Box, Chain, Document, Frame, Given, Mention
from tests import strategies
from tests.small import LABELS, example
from tests.small import examples as small_examples

BIRTH = [("c0", "c1", "PER-LOC_birth")]


def fitted(folder, train, dev=(), *, config=None, labels=LABELS) -> Majority:
    Majority(config, labels=labels).fit(train, dev, folder)
    return Majority(config, labels=labels, checkpoint=folder)


def answer(system: Majority, document: Document):
    (raw,) = system.predict([document])
    assert raw.document == document.id
    return raw.payload


def spans(payload, document: Document) -> list[tuple[str, list[str]]]:
    return [
        (chain["type"], [document.text[m["start"] : m["end"]] for m in chain["mentions"]])
        for chain in payload["chains"]
    ]


def test_it_is_a_trainable_system():
    assert isinstance(Majority(None, labels=LABELS), System)


# --- mentions ---


def test_it_finds_the_texts_of_train_in_other_documents(tmp_path):
    system = fitted(tmp_path, [example("a", "[PER0 Ada Byron] was born in [LOC1 Arles] .")])
    document = Document("b", "en", "In Arles , Ada Byron met Ada .")
    assert spans(answer(system, document), document) == [("LOC", ["Arles"]), ("PER", ["Ada Byron"])]


def test_in_chinese_texts_are_found_by_characters(tmp_path):
    system = fitted(tmp_path, [example("a", "[PER0 苏珊]在[LOC1 北京]", lang="zh")])
    document = Document("b", "zh", "北京的苏珊")
    assert spans(answer(system, document), document) == [("LOC", ["北京"]), ("PER", ["苏珊"])]


def test_the_longest_text_wins(tmp_path):
    system = fitted(tmp_path, [example("a", "[PER0 Ada] , [PER1 Ada Byron]")])
    document = Document("b", "en", "Ada Byron , Ada")
    assert spans(answer(system, document), document) == [("PER", ["Ada Byron"]), ("PER", ["Ada"])]


def test_a_text_at_the_end_of_a_document_is_counted_once(tmp_path):
    # "Ada Byron" must not be seen a second time as "Ada" with nothing after it.
    system = fitted(tmp_path, [example("a", "[PER0 Ada Byron] , [PER1 Ada]"), example("b", "[PER0 Ada]")])
    shares = {entry.tokens: entry.share for entry in system.model.languages["en"].mentions}
    assert shares == {("Ada", "Byron"): 1.0, ("Ada",): 2 / 3}


def test_the_most_frequent_type_of_a_text_wins(tmp_path):
    system = fitted(tmp_path, [example("a", "[PER0 Paris] , [LOC1 Paris] , [LOC1 Paris]")])
    document = Document("b", "en", "Paris")
    assert spans(answer(system, document), document) == [("LOC", ["Paris"])]


def test_a_text_that_is_seldom_a_mention_is_left_out_where_that_does_better_on_dev(tmp_path):
    train = [example("a", "[PER0 May] , May May May May May , [PER1 Ada] , [PER1 Ada]")]
    document = Document("b", "en", "May Ada")
    wanted = [example("c", "[PER0 May] , [PER1 Ada]")]
    unwanted = [example("d", "May May May , [PER1 Ada]")]
    assert spans(answer(fitted(tmp_path / "1", train, wanted), document), document) == [
        ("PER", ["May"]),
        ("PER", ["Ada"]),
    ]
    assert spans(answer(fitted(tmp_path / "2", train, unwanted), document), document) == [("PER", ["Ada"])]


def test_what_one_language_teaches_is_not_asked_of_the_other(tmp_path):
    system = fitted(tmp_path, [example("a", "[PER0 Ada]"), example("b", "[LOC0 Ada]", lang="zh")])
    for lang, kind in (("en", "PER"), ("zh", "LOC")):
        document = Document("c", lang, "Ada")
        assert spans(answer(system, document), document) == [(kind, ["Ada"])]


def test_a_language_that_train_lacks_is_an_error_of_the_document(tmp_path):
    system = fitted(tmp_path, [example("a", "[PER0 Ada]")])
    first, second = system.predict([Document("b", "zh", "苏珊"), Document("c", "en", "Ada")])
    assert first.failure.message == "train had no document in 'zh', only in en"
    assert second.payload["chains"]


# --- chains ---


def test_dev_chooses_how_mentions_are_joined(tmp_path):
    train = [example("a", "[PER0 Ada Byron] , [PER1 Lord Byron]")]
    joined = [example("b", "[PER0 Ada Byron] , [PER0 Byron]")]
    apart = [example("c", "[PER0 Byron] , [PER0 Byron] , [PER1 Ada Byron]")]
    assert fitted(tmp_path / "1", train, joined).model.languages["en"].chain_rule == "same_last_word"
    assert fitted(tmp_path / "2", train, apart).model.languages["en"].chain_rule == "same_text"


def test_without_coreference_nothing_is_joined(tmp_path):
    system = fitted(tmp_path, [example("a", "[PER0 Ada] , [PER1 Ada]")])
    assert system.model.languages["en"].chain_rule == "singletons"


def test_the_rule_can_be_named(tmp_path):
    config = Config(chain_rule="same_last_word")
    system = fitted(tmp_path, [example("a", "[PER0 Ada] , [PER1 Ada]")], config=config)
    assert system.model.languages["en"].chain_rule == "same_last_word"


def test_given_mentions_are_joined_and_no_others_added(tmp_path):
    system = fitted(tmp_path, [example("a", "[PER0 Ada] , [PER0 Ada] , [PER1 Bela]")])
    alone = tuple(Chain(f"m{i}", (Mention(*span, "PER"),)) for i, span in enumerate([(0, 3), (11, 14)]))
    document = Document("b", "en", "Ada , Bela Ada", given=Given(alone, kind="mentions"))
    (raw,) = system.predict([document])
    assert raw.given == "mentions"
    assert spans(raw.payload, document) == [("PER", ["Ada", "Ada"])]


def test_given_chains_are_kept_and_related(tmp_path):
    system = fitted(tmp_path, [example("a", "[PER0 Ada] , [LOC1 Arles]", relations=BIRTH)])
    chains = (Chain("p", (Mention(0, 3, "PER"), Mention(4, 8, "PER"))), Chain("q", (Mention(9, 11, "LOC"),)))
    document = Document("b", "en", "Who else ??", given=Given(chains, kind="chains"))
    payload = answer(system, document)
    assert [chain["id"] for chain in payload["chains"]] == ["p", "q"]
    assert payload["relations"] == [{"head": "p", "tail": "q", "type": "PER-LOC_birth"}]


# --- relations, regions ---


def test_relations_are_cut_where_dev_is_best(tmp_path):
    couple = [("c0", "c1", "PER-PER_couple"), ("c0", "c2", "PER-LOC_birth")]
    train = [example("a", "[PER0 Ada] , [PER1 Dan] , [LOC2 Arles]", relations=couple)]
    dev = [example("b", "[PER0 Ada] , [PER1 Dan] , [LOC2 Arles] , [LOC3 Basel]", relations=couple[:1])]
    rules = fitted(tmp_path, train, dev).model.languages["en"].relations
    assert rules == (RelationRule("PER", "PER", "first", "PER-PER_couple"),)


def test_every_frame_gets_the_frequent_boxes(tmp_path):
    system = fitted(tmp_path, [example("a", "[PER0 Ada]", frames=3)])
    frames = (Frame(5, "5.png", 10, 10), Frame(7, "7.png", 10, 10, annotated=True))
    payload = answer(system, Document("b", "en", "", frames=frames))
    box = [0.25, 0.25, 0.5, 0.75]
    assert payload["regions"] == [{"frame": n, "type": "PER", "box": box} for n in (5, 7)]


def test_the_number_of_boxes_is_an_option(tmp_path):
    train = [example("a", "[PER0 Ada]", frames=1)]
    assert fitted(tmp_path / "1", train).model.languages["en"].regions == (BoxRule("PER", Box(0.25, 0.25, 0.5, 0.75)),)
    assert fitted(tmp_path / "0", train, config=Config(boxes=0)).model.languages["en"].regions == ()


# --- edges ---


def test_an_empty_document_gets_an_empty_answer(tmp_path):
    system = fitted(tmp_path, small_examples("a", 6))
    assert answer(system, Document("b", "zh", "")) == {"chains": [], "relations": [], "regions": []}


def test_the_same_train_gives_the_same_checkpoint(tmp_path):
    train = small_examples("a", 20)
    fitted(tmp_path / "1", train, small_examples("b", 8))
    fitted(tmp_path / "2", train[::-1], small_examples("b", 8)[::-1])
    assert (tmp_path / "1/model.json").read_bytes() == (tmp_path / "2/model.json").read_bytes()


def test_an_empty_train_is_refused(tmp_path):
    with pytest.raises(UserError, match="train has no document"):
        Majority(None, labels=LABELS).fit([], [], tmp_path)
    assert not list(tmp_path.iterdir())


def test_train_without_text_and_frames_teaches_nothing(tmp_path):
    system = fitted(tmp_path, [example("a", "")])
    assert answer(system, Document("b", "en", "Ada")) == {"chains": [], "relations": [], "regions": []}


def test_a_checkpoint_of_other_labels_is_refused(tmp_path):
    fitted(tmp_path, [example("a", "[PER0 Ada]")])
    for labels, what in (
        (replace(LABELS, mentions=(*LABELS.mentions, Label("ORG"))), r"lacks 'ORG' among its mentions"),
        (replace(LABELS, relations=(RelationLabel("PER-LOC_birth"),)), r"has 'PER-PER_couple' among its relations"),
        (replace(LABELS, regions=()), r"has 'PER' among its regions"),
    ):
        with pytest.raises(UserError, match=what):
            Majority(None, labels=labels, checkpoint=tmp_path)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("{", "not valid JSON"),
        ("[]", "Expected 'object'"),
        ('{"languages": {}}', "lacks the field 'labels'"),
        ('{"labels": {}, "languages": {}, "format": 2}', "is format 2; this version reads format 1"),
        ('{"labels": {}, "languages": {"en": {"mentions": [], "chain_rule": "?"}}}', "chain_rule"),
    ],
)
def test_a_broken_checkpoint_is_named(tmp_path, content, what):
    (tmp_path / "model.json").write_text(content)
    with pytest.raises(UserError, match=r"model\.json") as error:
        Majority(None, labels=LABELS, checkpoint=tmp_path)
    assert what in str(error.value)


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(UserError, match=r"model\.json: cannot be read"):
        Majority(None, labels=LABELS, checkpoint=tmp_path)


def test_it_predicts_nothing_before_it_is_fitted():
    with pytest.raises(UserError, match="has no checkpoint"):
        next(Majority(None, labels=LABELS).predict([Document("a", "en", "Ada")]))


def test_a_negative_number_of_boxes_is_refused():
    with pytest.raises(UserError, match=r"--boxes -1: expected 0 or more"):
        Majority(Config(boxes=-1), labels=LABELS)


@settings(max_examples=30, deadline=None)
@given(drawn=st.lists(strategies.examples(), min_size=1, max_size=4))
def test_whatever_it_learned_from_it_answers_without_issues(tmp_path_factory, drawn):
    folder = tmp_path_factory.mktemp("fitted")
    system = fitted(folder, drawn[:2], drawn[2:], labels=strategies.LABELS)
    assert json.loads((folder / "model.json").read_text())["format"] == 1
    known = system.model.languages
    for made, raw in zip(drawn, system.predict(e.document for e in drawn), strict=True):
        assert (raw.error is None) == (made.document.lang in known)
        if raw.error is None:
            issues = normalize(made.document, raw, strategies.LABELS).issues
            assert {issue.code for issue in issues} <= {"empty_answer", "empty_document"}


def test_on_m3d_it_learns_more_than_nothing_and_reads_given_gold(shared_data, tmp_path):
    imported = read_m3d(shared_data / "m3d")
    train, test = hold_out(imported.splits["dev"], seed=0)
    system = fitted(tmp_path, train, test[:20], labels=imported.labels)
    predictions = []
    for made in test:
        alone = Given(tuple(Chain(f"m{i}", (m,)) for i, m in enumerate(made.gold.mentions)), kind="mentions")
        for kind in (None, alone, Given(made.gold.chains, kind="chains")):
            document = replace(made.document, given=kind)
            (raw,) = system.predict([document])
            predictions.append(normalize(document, raw, imported.labels))
    for lang, scores in score(test, predictions, labels=imported.labels).languages.items():
        found = scores.gold_pairs.tasks
        assert found["entity"].f1 > 0.3, lang
        assert found["chain"].f1 > 0.75, lang
        assert found["relation"].f1 > 0.05, lang


def test_what_nobody_annotated_teaches_nothing(tmp_path):
    known = example("a", "[PER0 Ada] was born in [LOC1 Arles] .", relations=BIRTH)
    lacks = frozenset(("relation",))
    silent = [replace(example(f"s{i}", f"[PER0 Bo{i}] saw [LOC1 Basel] ."), unannotated=lacks) for i in range(9)]
    alone, beside = fitted(tmp_path / "1", [known]), fitted(tmp_path / "2", [known, *silent])
    assert beside.model.languages["en"].relations == alone.model.languages["en"].relations != ()
