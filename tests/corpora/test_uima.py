"""UIMA CAS JSON and ELAN: what INCEpTION writes of a text, and the times of what is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from m3dllm.corpora.elan import read_elan
from m3dllm.corpora.imported import Imported
from m3dllm.corpora.uima import read_uima
from m3dllm.errors import UserError
from m3dllm.types import TASKS
from tests.corpora.tools import facts, reasons, words

NER = "de.tudarmstadt.ukp.dkpro.core.api.ner.type.NamedEntity"
LINK = "de.tudarmstadt.ukp.dkpro.core.api.coref.type.CoreferenceLink"
CHAIN = "de.tudarmstadt.ukp.dkpro.core.api.coref.type.CoreferenceChain"


def thing(number: int, kind: str, begin: int | None = None, end: int | None = None, **more) -> dict:
    place = {} if begin is None else {"begin": begin, "end": end, "@sofa": 1}
    return {"%ID": number, "%TYPE": kind, **place, **more}


def read(folder: Path, text: str, *things: dict, **options) -> Imported:
    sofa = {"%ID": 1, "%TYPE": "uima.cas.Sofa", "sofaString": text}
    (folder / "a.json").write_text(json.dumps({"%FEATURE_STRUCTURES": [sofa, *things]}), encoding="utf-8")
    return read_uima(folder / "a.json", **options)


TEXT = "Ada met Bo . She ran ."


def test_of_several_annotators_of_a_document_the_curated_annotation_is_taken(tmp_path):
    sofa = {"%ID": 1, "%TYPE": "uima.cas.Sofa", "sofaString": TEXT}
    made = {
        "annotation/a.txt/anna": [thing(2, NER, 0, 3, value="ORG")],
        "annotation/a.txt/bo": [thing(2, NER, 0, 3, value="LOC")],
        "annotation/a.txt/INITIAL_CAS": [],
        "annotation/b.txt/anna": [thing(2, NER, 8, 10, value="PER")],
        "curation/a.txt/CURATION_USER": [thing(2, NER, 0, 3, value="PER")],
    }
    for name, things in made.items():
        file = tmp_path / f"{name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"%FEATURE_STRUCTURES": [sofa, *things]}), encoding="utf-8")
    imported = read_uima(tmp_path)
    found = {example.document.id: words(example) for example in imported.splits["train"]}
    assert found == {"CURATION_USER": [("PER", ["Ada"])], "b.txt/anna": [("PER", ["Bo"])]}
    assert reasons(imported) == [
        ("annotation", "it is the text before it was annotated"),
        ("annotation", "another annotation of its text is used"),
        ("annotation", "another annotation of its text is used"),
    ]


def test_entities_relations_and_chains(tmp_path):
    things = [
        thing(2, NER, 0, 3, value="PER"),
        thing(3, NER, 8, 10, value="PER"),
        thing(4, LINK, 0, 3, **{"@next": 5}),
        thing(5, LINK, 13, 16, referenceType="she"),
        thing(6, CHAIN, **{"@first": 4}),
        {"%ID": 7, "%TYPE": "custom.Relation", "@Governor": 2, "@Dependent": 3, "label": "met", "begin": 8, "end": 10},
        thing(8, "x.Token", 0, 3),
    ]
    imported = read(tmp_path, TEXT, *things)
    (example,) = imported.splits["train"]
    assert words(example) == [("PER", ["Ada", "She"]), ("PER", ["Bo"])]
    assert facts(example) == [("Ada", "met", "Bo")]
    assert example.unannotated == frozenset()
    assert imported.left_out == []


def test_offsets_count_utf16_units(tmp_path):
    imported = read(tmp_path, "🎬 Ada", thing(2, NER, 3, 6, value="PER"))
    assert words(imported.splits["train"][0]) == [("PER", ["Ada"])]
    assert imported.splits["train"][0].unannotated == {"relation", "chain"}


def test_other_layers_are_counted_and_may_be_chosen(tmp_path):
    event = thing(2, "custom.Event", 4, 7, value="MEET")
    assert reasons(read(tmp_path, TEXT, event)) == [("Event", "a corpus cannot represent the layer 'Event'")]
    assert words(read(tmp_path, TEXT, event, layer=("Event",)).splits["train"][0]) == [("MEET", ["met"])]


def test_chains_that_go_round_end(tmp_path):
    things = [
        thing(2, LINK, 0, 3, **{"@next": 3}),
        thing(3, LINK, 13, 16, **{"@next": 2}),
        thing(4, CHAIN, **{"@first": 2}),
    ]
    assert words(read(tmp_path, TEXT, *things).splits["train"][0]) == [("MISC", ["Ada", "She"])]


DEPENDENCY = "de.tudarmstadt.ukp.dkpro.core.api.syntax.type.dependency.Dependency"


def test_dependencies_of_words_are_no_relations_of_mentions_on_the_same_spans(tmp_path):
    names = [thing(n, NER, a, b, value="PER") for n, a, b in ((2, 0, 3), (3, 8, 10))]
    tokens = [thing(n, "x.Token", a, b) for n, a, b in ((4, 0, 3), (5, 8, 10))]
    tree = thing(6, DEPENDENCY, 0, 3, DependencyType="nsubj", **{"@Governor": 4, "@Dependent": 5})
    imported = read(tmp_path, TEXT, *names, *tokens, tree)
    (example,) = imported.splits["train"]
    assert (example.gold.relations, "relation" in example.unannotated) == ((), True)
    assert reasons(imported) == [("Dependency", "a corpus cannot represent the layer 'Dependency'")]


@pytest.mark.parametrize("first", [True, False])
def test_annotations_of_another_view_are_not_of_this_text(tmp_path, first):
    other = {"%ID": 9, "%TYPE": "uima.cas.Sofa", "sofaID": "plain", "sofaString": "Bo is an Ada of another kind"}
    own = [thing(2, NER, 0, 3, value="PER"), thing(3, NER, 8, 10, value="PER")]
    things = [other, thing(4, NER, 0, 2, value="LOC") | {"@sofa": 9}]
    imported = read(tmp_path, TEXT, *(things + own if first else own + things))
    (example,) = imported.splits["train"]
    assert (example.document.text, words(example)) == (TEXT, [("PER", ["Ada"]), ("PER", ["Bo"])])
    assert reasons(imported) == [("NamedEntity", "it is of another view"), ("view", "another one is read")]


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"%FEATURE_STRUCTURES": 3}'])
def test_what_is_no_cas_is_named(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError, match=r"x\.json"):
        read_uima(tmp_path / "x.json")


# --- ELAN -------------------------------------------------------------------------------------------------------------

EAF = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT><HEADER><MEDIA_DESCRIPTOR MEDIA_URL="file:///c:/clips/film.mp4"/></HEADER>
<TIME_ORDER><TIME_SLOT TIME_SLOT_ID="t1" TIME_VALUE="1000"/><TIME_SLOT TIME_SLOT_ID="t2" TIME_VALUE="2500"/>
<TIME_SLOT TIME_SLOT_ID="t3" TIME_VALUE="3000"/><TIME_SLOT TIME_SLOT_ID="t4"/></TIME_ORDER>
<TIER TIER_ID="speech"><ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a2" TIME_SLOT_REF1="t2" TIME_SLOT_REF2="t3">
<ANNOTATION_VALUE>She wrote.</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="t1" TIME_SLOT_REF2="t2">
<ANNOTATION_VALUE>Ada spoke.</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a3" TIME_SLOT_REF1="t3" TIME_SLOT_REF2="t4">
<ANNOTATION_VALUE>lost</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION></TIER>
<TIER TIER_ID="gesture"><ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="g" TIME_SLOT_REF1="t1" TIME_SLOT_REF2="t2">
<ANNOTATION_VALUE>nod</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION></TIER></ANNOTATION_DOCUMENT>"""


def test_a_tier_is_a_text_with_times(tmp_path):
    (tmp_path / "clip.eaf").write_text(EAF)
    imported = read_elan(tmp_path / "clip.eaf")
    (example,) = imported.splits["train"]
    assert (example.document.text, example.document.group) == ("Ada spoke.\nShe wrote.", "film")
    assert [(s.start, s.end, s.start_s, s.end_s) for s in example.document.segments] == [
        (0, 10, 1.0, 2.5),
        (11, 21, 2.5, 3.0),
    ]
    assert example.unannotated == set(TASKS)
    assert reasons(imported) == [
        ("annotation", "it has no time"),
        ("annotation", "the tier 'gesture' is not the text"),
    ]


def test_tiers_may_be_chosen_and_one_that_is_not_there_is_named(tmp_path):
    (tmp_path / "clip.eaf").write_text(EAF)
    (example,) = read_elan(tmp_path, tier=("gesture",)).splits["train"]
    assert example.document.text == "nod"
    with pytest.raises(UserError, match="has no tier 'gaze'; it has 'speech', 'gesture'"):
        read_elan(tmp_path, tier=("gaze",))


SUBDIVIDED = """<ANNOTATION_DOCUMENT><TIME_ORDER><TIME_SLOT TIME_SLOT_ID="t1" TIME_VALUE="1000"/>
<TIME_SLOT TIME_SLOT_ID="t2"/><TIME_SLOT TIME_SLOT_ID="t3"/>
<TIME_SLOT TIME_SLOT_ID="t4" TIME_VALUE="4000"/></TIME_ORDER>
<TIER TIER_ID="speech"><ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a" TIME_SLOT_REF1="t1" TIME_SLOT_REF2="t4">
<ANNOTATION_VALUE>all</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION></TIER>
<TIER TIER_ID="words">{words}</TIER><TIER TIER_ID="translation">{parts}</TIER></ANNOTATION_DOCUMENT>"""


def annotation(kind: str, words: str, **said: str) -> str:
    attributes = " ".join(f'{name}="{value}"' for name, value in said.items())
    inside = f"<ANNOTATION_VALUE>{words}</ANNOTATION_VALUE>"
    return f"<ANNOTATION><{kind}_ANNOTATION {attributes}>{inside}</{kind}_ANNOTATION></ANNOTATION>"


def aligned(name: str, start: str, end: str) -> str:
    return annotation("ALIGNABLE", f"the word {name}", ANNOTATION_ID=name, TIME_SLOT_REF1=start, TIME_SLOT_REF2=end)


def referring(name: str, of: str, before: str = "") -> str:
    previous = {"PREVIOUS_ANNOTATION": before} if before else {}
    return annotation("REF", name, ANNOTATION_ID=name, ANNOTATION_REF=of, **previous)


def said(folder: Path, tier: str, *, words: str = "", parts: str = "") -> list[tuple[str, float, float]]:
    (folder / "a.eaf").write_text(SUBDIVIDED.format(words=words, parts=parts))
    (example,) = read_elan(folder, tier=(tier,)).splits["train"]
    lines = example.document.text.split("\n")
    return [(line, s.start_s, s.end_s) for line, s in zip(lines, example.document.segments, strict=True)]


def test_slots_without_a_time_lie_evenly_between_those_around_them(tmp_path):
    words = aligned("x", "t1", "t2") + aligned("y", "t2", "t3") + aligned("z", "t3", "t4")
    assert said(tmp_path, "words", words=words) == [("the word x", 1, 2), ("the word y", 2, 3), ("the word z", 3, 4)]


def test_slots_of_other_tiers_part_no_time(tmp_path):
    words = aligned("x", "t1", "t2") + aligned("z", "t2", "t4")
    assert said(tmp_path, "words", words=words) == [("the word x", 1, 2.5), ("the word z", 2.5, 4)]


@pytest.mark.parametrize("order", [1, -1])
def test_annotations_that_refer_to_one_share_its_time_in_their_order(tmp_path, order):
    parts = "".join([referring("first", "a"), referring("second", "a", "first")][::order])
    found = said(tmp_path, "translation", parts=parts)
    assert found == [("first", 1, 2.5), ("second", 2.5, 4)]


def test_annotations_that_refer_to_one_another_end(tmp_path):
    parts = referring("p", "q") + referring("q", "p") + referring("r", "a")
    assert said(tmp_path, "translation", parts=parts) == [("r", 1, 4)]
