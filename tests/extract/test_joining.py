from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from m3dllm.extract.joining import Found, by_film, join, names, whole_film
from m3dllm.types import Annotation, Box, Chain, Document, Frame, Mention, Region, Relation, Segment


def said(name: str, text: str, *chains: str, kind: str = "PER", lang: str = "en", group: str = "film") -> Found:
    """A document whose chain `a|b` holds the first place of each text."""
    spans = [
        [(m.start(), m.end()) for part in chain.split("|") if (m := re.search(re.escape(part), text))]
        for chain in chains
    ]
    found = tuple(Chain(f"c{i}", tuple(Mention(*span, kind) for span in its)) for i, its in enumerate(spans))
    return Found(Document(name, lang, text, group=group), Annotation(found))


def joined(*documents: Found) -> list[tuple[str, str, str]]:
    """(first document, second document, rule) of each join."""
    return [(j.first[0], j.second[0], j.rule) for j in join("film", documents)[1] if j.joined]


def test_the_same_name_joins():
    a, b = said("a", "Marie Curie left.", "Marie Curie"), said("b", "Then Marie Curie came.", "Marie Curie")
    assert joined(a, b) == [("a", "b", "same name")]


def test_the_same_chinese_name_joins():
    a, b = said("a", "姚芷蓉走了。", "姚芷蓉", lang="zh"), said("b", "后来姚芷蓉来了。", "姚芷蓉", lang="zh")
    assert joined(a, b) == [("a", "b", "same name")]


def test_another_type_of_the_same_name_does_not():
    a, b = said("a", "Washington left.", "Washington"), said("b", "In Washington.", "Washington", kind="LOC")
    assert joined(a, b) == []


def test_pronouns_and_descriptions_never_join():
    a, b = said("a", "She met the doctor.", "She", "the doctor"), said("b", "She saw the doctor.", "She", "the doctor")
    assert joined(a, b) == []


def test_chinese_pronouns_and_kin_never_join():
    a, b = said("a", "她和父亲走了。", "她", "父亲", lang="zh"), said("b", "她和父亲来了。", "她", "父亲", lang="zh")
    assert joined(a, b) == []


def test_mr_and_mrs_smith_are_two():
    assert joined(said("a", "Mr. Smith left.", "Mr. Smith"), said("b", "Mrs. Smith came.", "Mrs. Smith")) == []


def test_one_word_of_a_name_joins_its_only_bearer():
    a, b = said("a", "Marie Curie left.", "Marie Curie"), said("b", "Then Marie came.", "Marie")
    assert joined(a, b) == [("a", "b", "only bearer")]


def test_a_given_name_joins_its_only_bearer_in_chinese():
    a, b = said("a", "姚芷蓉走了。", "姚芷蓉", lang="zh"), said("b", "芷蓉来了。", "芷蓉", lang="zh")
    assert joined(a, b) == [("a", "b", "only bearer")]


def test_of_two_bearers_neither_is_joined():
    a = said("a", "Marie Curie and Pierre Curie left.", "Marie Curie", "Pierre Curie")
    assert joined(a, said("b", "Then Curie came.", "Curie")) == []


def test_places_are_not_joined_by_a_part_of_their_name():
    a, b = said("a", "In New York.", "New York", kind="LOC"), said("b", "In York.", "York", kind="LOC")
    assert joined(a, b) == []


def test_two_chains_of_one_document_stay_two_and_the_list_says_why():
    a = said("a", "John Smith met another John Smith.", "John Smith", "another John Smith")
    a = Found(a.document, Annotation((a.annotation.chains[0], Chain("c1", (Mention(23, 33, "PER"),)))))
    _, joins = join("film", [a, said("b", "John Smith left.", "John Smith")])
    assert [(j.first, j.second, j.joined) for j in joins] == [
        (("a", "c0"), ("a", "c1"), False),
        (("a", "c1"), ("b", "c0"), True),
    ]
    assert joins[0].why_not == "in document 'a' the system keeps them apart"


def test_a_film_is_one_document_in_which_everything_stands_where_it_stood():
    frames = (Frame(0, "/f/0.jpg", 8, 8), Frame(24, "/f/24.jpg", 8, 8))
    one = Document("f-1", "en", "Ada met Bo.", group="f", segments=(Segment(0, 11, 0, 3),), frames=frames[:1])
    two = Document("f-2", "en", "Ada left.", group="f", segments=(Segment(0, 9, 60, 63),), frames=frames[1:])
    met = Annotation(
        (Chain("x", (Mention(0, 3, "PER"),)), Chain("y", (Mention(8, 10, "PER"),))), (Relation("x", "y", "peer"),)
    )
    left = Annotation((Chain("y", (Mention(0, 3, "PER"),)),), (), (Region(24, Box(0, 0, 1, 1), "PER", "y"),))
    documents = [Found(one, met), Found(two, left)]
    document, annotation = whole_film("f", documents, join("f", documents)[0])
    texts = [[document.text[m.start : m.end] for m in chain.mentions] for chain in annotation.chains]
    assert texts == [["Ada", "Ada"], ["Bo"]]
    assert [(s.start, s.end, s.start_s) for s in document.segments] == [(0, 11, 0), (12, 21, 60)]
    assert annotation.relations == (Relation("e0", "e1", "peer"),)
    assert annotation.regions == (Region(24, Box(0, 0, 1, 1), "PER", "e0"),)
    assert [frame.index for frame in document.frames] == [0, 24]


def test_regions_that_relations_name_are_named_anew_in_a_film():
    documents = []
    for name in ("a", "b"):
        found = said(name, "Marie Curie left.", "Marie Curie")
        cup = Region(0, Box(0, 0, 1, 1), "cup", id="r0")
        holding = Annotation(found.annotation.chains, (Relation("c0", "r0", "holds"),), (cup,))
        documents.append(Found(found.document, holding))
    _, annotation = whole_film("film", documents, join("film", documents)[0])
    assert [(r.head, r.tail) for r in annotation.relations] == [("e0", "r0"), ("e0", "r1")]
    assert [region.id for region in annotation.regions] == ["r0", "r1"]


def test_documents_without_a_group_are_films_of_their_own():
    found = [said("a", "x", group=""), said("b", "x", group="g"), said("c", "x", group="g")]
    assert [(film, len(its)) for film, its in by_film(found)] == [("a", 1), ("g", 2)]


def test_an_empty_film_has_no_joins():
    assert join("film", [said("a", "")]) == ({}, [])


NAMES = ("Ada", "Ada Lovelace", "Mr. King", "King", "she", "姚芷蓉", "芷蓉", "她")


@given(st.lists(st.lists(st.sampled_from(NAMES), max_size=5), max_size=5))
def test_no_entity_has_two_chains_of_one_document(texts):
    """Each inner list is a document whose chains are called so, one mention each."""
    documents = []
    for i, called in enumerate(texts):
        text, chains = "", []
        for n, name in enumerate(called):
            chains.append(Chain(f"c{n}", (Mention(len(text), len(text) + len(name), "PER"),)))
            text += name + "\n"
        documents.append(Found(Document(f"d{i}", "en", text, group="film"), Annotation(tuple(chains))))
    firsts, joins = join("film", documents)
    groups: dict[tuple[str, str], list[str]] = {}
    for (document, _), first in firsts.items():
        groups.setdefault(first, []).append(document)
    assert all(len(set(own)) == len(own) for own in groups.values())
    assert len(firsts) - len(groups) == sum(one.joined for one in joins)
    if documents:
        _, annotation = whole_film("film", documents, firsts)
        assert len(annotation.chains) == len(groups)


def test_names_are_written_in_one_way():
    found = said("a", "Ada  Lovelace, she, the Countess", "Ada  Lovelace|she|the Countess")
    assert names(found.document, found.annotation.chains[0]) == ["Ada Lovelace"]
