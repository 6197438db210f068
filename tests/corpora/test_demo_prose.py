"""The sentences of the demo corpus, and those that the embedded model is pretrained on in their place."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice
from types import ModuleType, SimpleNamespace

import pytest

from benchmarks.embedded import phrasings_en, phrasings_zh
from benchmarks.embedded.examples import KINDS, WRITERS, clips, wide_writer
from benchmarks.embedded.ways import WORDINGS, ways, wordings
from m3dllm.corpora.demo import prose_en, prose_zh
from m3dllm.corpora.demo.beats import BEATS
from m3dllm.corpora.demo.writing import Writer

PROSE = [prose_en, prose_zh, phrasings_en, phrasings_zh, wide_writer("en").prose, wide_writer("zh").prose]
NAMES = ["en", "zh", "other-en", "other-zh", "wide-en", "wide-zh"]
TABLES = (
    "COAT", "LANDMARK", "SIGN", "SEEN_PAIR", "SEEN_PLACE", "SEEN_ORG", "SEEN_NEW", "STRANGERS", "NAMESAKES", "FILLERS",
    "AFTER_TIME", "HEDGES", "TITLES",
)  # fmt: skip
SILENT = ("coat", "mark", "sight", "sign", "letter", "he", "him", "his", "child", "parent", "spouse", "akin")
"""What a slot may ask for without naming anybody."""


def sentences(prose: ModuleType | SimpleNamespace) -> set[str]:
    found = {template for ways_to_tell in prose.BEATS.values() for template in ways_to_tell}
    return found.union(*(getattr(prose, table) for table in TABLES))


@pytest.mark.parametrize("prose", PROSE, ids=NAMES)
def test_every_beat_can_be_told_in_six_ways_or_more(prose):
    assert set(prose.BEATS) == {beat.name for beat in BEATS}
    assert {name for name, told in prose.BEATS.items() if len(set(told)) < 6} == set()


@pytest.mark.parametrize("prose", PROSE, ids=NAMES)
@pytest.mark.parametrize("beat", BEATS, ids=lambda beat: beat.name)
def test_every_way_names_everybody_whom_its_facts_join(beat, prose):
    for template in prose.BEATS[beat.name]:
        slots = re.findall(r"\{([A-Z])(?:\+|:([^}.]*)(\.?)[^}]*)?\}", template)
        named = {role for role, form, owned in slots if form not in SILENT or (owned and form != "akin")}
        assert named >= set(beat.roles), template


@pytest.mark.parametrize("prose", PROSE, ids=NAMES)
def test_a_template_has_only_the_roles_of_its_beat(prose):
    for beat in BEATS:
        for template in prose.BEATS[beat.name]:
            roles = {*beat.roles, "T"} if beat.name == "couple" else set(beat.roles)
            assert set(re.findall(r"\{([A-Z])", template)) <= roles, template


@pytest.mark.parametrize(("lang", "own"), [("en", prose_en), ("zh", prose_zh)])
def test_no_sentence_of_the_demo_is_one_that_the_embedded_model_learned_from(lang, own):
    assert sentences(own).isdisjoint(sentences(wide_writer(lang).prose))


@pytest.mark.parametrize(("lang", "own", "least"), [("en", prose_en, 5), ("zh", prose_zh, 8)])
def test_no_wording_has_as_many_words_in_a_row_from_the_demo(lang, own, least):
    def stretches(templates: Iterable[str]) -> set[tuple[str, ...]]:
        parts = [WRITERS[lang].literals(part) for one in templates for part in re.split(r"\{[^}]*\}", one)]
        return {tuple(part[i : i + least]) for part in parts for i in range(len(part) - least + 1)}

    assert stretches(sentences(own))
    assert stretches(sentences(own)).isdisjoint(stretches(one for said in wordings(lang).values() for one in said))


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_every_kind_of_fact_has_seventy_templates_more(lang):
    counts = {beat.name: len((WORDINGS / lang / f"{beat.name}.txt").read_text().splitlines()) for beat in BEATS}
    assert min(counts.values()) >= 70


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_every_file_of_wordings_is_of_a_kind_of_fact_or_a_table(lang):
    assert set(wordings(lang)) <= {beat.name for beat in BEATS} | set(TABLES)


@pytest.mark.parametrize(("lang", "own", "least"), [("en", prose_en, 5), ("zh", prose_zh, 8)])
def test_no_long_stretch_of_the_demo_stands_in_what_it_learned_from(lang, own, least):
    writer = WRITERS[lang]
    stretches = {
        writer.joiner.join(tokens)
        for template in sentences(own)
        for tokens in (writer.literals(stretch) for stretch in re.split(r"\{[^}]*\}", template))
        if len(tokens) >= least
    }
    learned = "\n".join(example.document.text for example, _ in islice(clips(KINDS["short"], lang, 0), 40))
    assert len(stretches) > 50
    assert {stretch for stretch in stretches if stretch in learned} == set()


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_every_other_sentence_reads_as_tokens_and_slots(writer: type[Writer]):
    for template in sentences(wide_writer("en" if writer is WRITERS["en"] else "zh").prose):
        literal = [piece for piece in writer.pieces(template.replace("{}", "")) if isinstance(piece, str)]
        assert not set("".join(literal)) & set("{}[]|"), template


def test_alternatives_are_resolved_in_all_their_ways():
    assert ways("a [b|c|] [d|e]") == ("a b d", "a b e", "a c d", "a c e", "a  d", "a  e")


def test_a_template_without_alternatives_is_what_it_is():
    assert ways("{P} came .") == ("{P} came .",)
