"""The knowledge graph as a reader of linked data sees it."""

from __future__ import annotations

import json

import pytest

from m3dllm.types import Annotation, Chain, Document, Example, Mention
from tests.exporters.sources import ADA, exported

PREFIXES = """
PREFIX oa: <http://www.w3.org/ns/oa#>
PREFIX prov: <http://www.w3.org/ns/prov#>
PREFIX rdf: <http://www.w3.org/1999/02/22-rdf-syntax-ns#>
PREFIX s: <https://schema.org/>
"""


@pytest.fixture(scope="module")
def graph():
    rdflib = pytest.importorskip("rdflib", reason="needs rdflib")
    return rdflib.Graph().parse(data=exported("jsonld")["train.jsonld"], format="json-ld")


def asked(graph, query: str) -> list[tuple[str, ...]]:
    return sorted(tuple(str(value) for value in row) for row in graph.query(PREFIXES + query))


def test_entities_have_schema_org_classes_and_names(graph):
    assert asked(graph, "SELECT ?name { ?e a s:Person; s:name ?name }") == [("Ada",), ("苏珊",)]
    assert asked(graph, "SELECT ?name { ?e a s:Place; s:name ?name }") == [("Arles",), ("北京",)]
    assert asked(graph, "SELECT ?name { ?e a s:Person; s:alternateName ?name }") == [("She",)]


def test_a_relation_is_a_node_of_its_own_and_a_property_of_its_head(graph):
    query = "SELECT ?name ?h ?t { ?r a rdf:Statement; s:name ?name; rdf:subject/s:name ?h; rdf:object/s:name ?t }"
    assert asked(graph, query) == [("PER-LOC_birth", "Ada", "Arles")]
    assert asked(graph, "SELECT ?t { ?e s:name 'Ada'; s:birthPlace/s:name ?t }") == [("Arles",)]


def test_a_mention_is_an_annotation_of_a_text_position_with_its_words(graph):
    query = """SELECT ?start ?end ?words { ?m oa:hasBody/s:name 'Ada'; oa:hasTarget ?t .
        ?t oa:hasSelector ?p, ?q . ?p a oa:TextPositionSelector; oa:start ?start; oa:end ?end . ?q oa:exact ?words }"""
    assert asked(graph, query) == [("0", "3", "Ada"), ("24", "27", "She")]


def test_times_and_boxes_are_media_fragments(graph):
    query = "SELECT ?value { ?m oa:hasBody/s:name 'Ada'; oa:hasTarget/oa:hasSelector/rdf:value ?value }"
    assert asked(graph, query) == [
        ("t=1,3.5",),
        ("t=1.000,1.042&xywh=percent:25,25,25,50",),
        ("t=4,5",),
        ("xywh=percent:25,25,25,50",),
    ]


def test_everything_says_its_document_and_what_made_it(graph):
    query = "SELECT (COUNT(?x) AS ?n) { ?x prov:wasDerivedFrom ?d; prov:wasGeneratedBy <urn:m3dllm:activity> }"
    assert asked(graph, query) == [("12",)]  # 4 entities, 5 mentions, 2 regions, 1 relation


def test_without_frames_a_second_frames_have_no_time():
    values = [line for line in exported("jsonld", ADA, fps=0)["train.jsonld"].splitlines() if "/region/" in line]
    assert len(values) == 2
    assert "t=" not in "".join(values)


def test_types_that_schema_org_does_not_know_are_things_and_odd_names_are_escaped():
    odd = Example(Document("a/b c", "zh", "西湖"), Annotation((Chain("c 0", (Mention(0, 2, "地 点"),)),)))
    nodes = json.loads(exported("jsonld", odd)["train.jsonld"])["@graph"]
    entity = next(node for node in nodes if node["@id"].endswith("/entity/c%200"))
    assert entity["@type"] == ["Thing", "type:%E5%9C%B0%20%E7%82%B9"]
    assert entity["prov:wasDerivedFrom"] == "m3dllm:document/a%2Fb%20c"
