"""JSON-LD: a knowledge graph in schema.org terms, with W3C Web Annotations as evidence.

Entities and relations are nodes. A mention's target is a text position with its text and time; a region's is
`#t=…&xywh=percent:…` of the video. Each names its document, frame and system, and its `m3dllm:confidence`, if any (of a
mention also `m3dllm:link`: that it corefers with the earlier mentions of its entity).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

from m3dllm.confidence import confidences_of
from m3dllm.export import FPS, PARTS, File, Item, Notes, Source, name_of, shown_at, spoken
from m3dllm.types import Annotation, Document, Mention, Region, Relation
from m3dllm.wire import encode

HOLDS = PARTS - {"tokens", "glosses", "unannotated", "region relations"}

CONTEXT: dict[str, Any] = {
    "@vocab": "https://schema.org/",
    "schema": "https://schema.org/",
    "oa": "http://www.w3.org/ns/oa#",
    "prov": "http://www.w3.org/ns/prov#",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "xsd": "http://www.w3.org/2001/XMLSchema#",
    "type": "urn:m3dllm:type:",
    "relation": "urn:m3dllm:relation:",
    "m3dllm": "urn:m3dllm:",
    "about": {"@type": "@id"},
    "isPartOf": {"@type": "@id"},
    "contentUrl": {"@type": "@id"},
    "prov:wasDerivedFrom": {"@type": "@id"},
    "prov:wasGeneratedBy": {"@type": "@id"},
    "rdf:subject": {"@type": "@id"},
    "rdf:predicate": {"@type": "@id"},
    "rdf:object": {"@type": "@id"},
    "oa:hasBody": {"@type": "@id"},
    "oa:hasSource": {"@type": "@id"},
    "oa:motivatedBy": {"@type": "@id"},
    "dcterms:conformsTo": {"@type": "@id"},
    "dcterms": "http://purl.org/dc/terms/",
}
TYPES = {
    "PER": "Person",
    "PERSON": "Person",
    "LOC": "Place",
    "LOCATION": "Place",
    "GPE": "Place",
    "ORG": "Organization",
    "ORGANIZATION": "Organization",
    "EVENT": "Event",
    "PRODUCT": "Product",
}
"""Entity types that schema.org has a class for; every other is a Thing."""
RELATIONS = {
    "PER-PER_parents": "children",
    "PER-PER_couple": "spouse",
    "PER-PER_brother_sister": "sibling",
    "PER-PER_other_relatives": "relatedTo",
    "PER-PER_colleague": "colleague",
    "PER-PER_peer": "knows",
    "PER-PER_employ": "worksFor",
    "PER-ORG_member": "memberOf",
    "PER-LOC_birth": "birthPlace",
    "PER-LOC_residence": "homeLocation",
    "PER-LOC_work": "workLocation",
    "PER-TIME_birth_time": "birthDate",
    "PER-TIME_death_time": "deathDate",
    "LOC-LOC_contain": "containsPlace",
    "ORG-LOC_located": "location",
    "ORG-ORG_affiliated": "subOrganization",
    "ORG-TIME_establish": "foundingDate",
    "ORG-TIME_disintegrate": "dissolutionDate",
}
"""Relation types of M3D that schema.org has a property for, from the head to the tail."""
_FRAGMENTS = "http://www.w3.org/TR/media-frags/"


def export(source: Source, notes: Notes, *, fps: float = FPS) -> Iterator[File]:
    """One file per split, with its whole graph.

    - `fps`: Frames per second, to compute the times of frames that have none; 0: leave them without.
    """
    for split, items in source.splits().items():
        yield f"{split}.jsonld", _pieces(source, items, fps)


def _pieces(source: Source, items: Sequence[Item], fps: float) -> Iterator[str]:
    yield f'{{"@context": {encode(CONTEXT).decode()},\n"@graph": ['
    first = {"@id": "m3dllm:activity", "@type": "prov:Activity", "name": source.name}
    yield "\n" + _line(first | {f"m3dllm:{name}": value for name, value in source.made_by.items()})
    for item in items:
        for node in _Graph(item, fps).nodes():
            yield ",\n" + _line(node)
    yield "\n]}\n"


def _line(node: dict[str, Any]) -> str:
    return encode(node).decode()


class _Graph:
    """The nodes of one document."""

    def __init__(self, item: Item, fps: float) -> None:
        self._document: Document = item.document
        self._found: Annotation = item.annotation
        self._fps = fps
        self._frames = {frame.index: frame for frame in item.document.frames}
        self._id = f"m3dllm:document/{_name(item.document.id)}"
        self._video = f"{self._id}/video"
        self._provenance = {"prov:wasDerivedFrom": self._id, "prov:wasGeneratedBy": "m3dllm:activity"}

    def nodes(self) -> Iterator[dict[str, Any]]:
        yield from self._sources()
        for chain in self._found.chains:
            texts = [self._document.text[m.start : m.end] for m in chain.mentions]
            name = name_of(self._document, chain)
            yield {
                "@id": self._entity(chain.id),
                "@type": [TYPES.get(chain.type.upper(), "Thing"), f"type:{_name(chain.type)}"],
                "name": name,
                "alternateName": sorted({*texts} - {name}),
                "subjectOf": {"@id": self._id},
                **self._provenance,
            }
            for n, mention in enumerate(chain.mentions):
                selectors: list[dict[str, Any]] = [
                    {"@type": "oa:TextPositionSelector", "oa:start": mention.start, "oa:end": mention.end},
                    {"@type": "oa:TextQuoteSelector", "oa:exact": texts[n]},
                ]
                targets = [self._target(self._id, *selectors)]
                if times := spoken(self._document, *mention.span):
                    targets.append(self._target(self._video, _fragment(f"t={times[0]:g},{times[1]:g}")))
                name = f"{self._entity(chain.id)}/mention/{n}"
                yield self._annotation(name, chain.id, mention.type, targets) | _sure(mention)
        for n, region in enumerate(self._found.regions):
            yield self._region(n, region)
        for n, relation in enumerate(self._found.relations):
            yield from self._relation(n, relation)

    def _sources(self) -> Iterator[dict[str, Any]]:
        """The document and, if it has frames, its video and each frame."""
        document = self._document
        node: dict[str, Any] = {
            "@id": self._id,
            "@type": "CreativeWork",
            "identifier": document.id,
            "inLanguage": document.lang,
            "text": document.text,
        }
        if document.title:
            node["name"] = document.title
        if document.group:
            node["isPartOf"] = f"m3dllm:group/{_name(document.group)}"
        if document.frames or document.segments:
            node["video"] = {"@id": self._video}
        yield node
        if "video" not in node:
            return
        parts = [
            {
                "@type": "Clip",
                "startOffset": segment.start_s,
                "endOffset": segment.end_s,
                "oa:start": segment.start,
                "oa:end": segment.end,
            }
            for segment in document.segments
        ]
        yield {"@id": self._video, "@type": "VideoObject", "transcript": document.text, "hasPart": parts}
        for frame in document.frames:
            yield {
                "@id": self._frame(frame.index),
                "@type": "ImageObject",
                "isPartOf": self._video,
                "position": frame.index,
                "contentUrl": f"file://{quote(frame.path)}" if frame.path.startswith("/") else quote(frame.path),
                "width": frame.width_px,
                "height": frame.height_px,
                "m3dllm:annotated": frame.annotated,
                "sha256": frame.sha256,
            }

    def _region(self, n: int, region: Region) -> dict[str, Any]:
        box = region.box
        place = ",".join(f"{100 * x:.12g}" for x in (box.x0, box.y0, box.x1 - box.x0, box.y1 - box.y0))
        xywh = f"xywh=percent:{place}"
        targets = [self._target(self._frame(region.frame), _fragment(xywh))]
        if (start := shown_at(self._frames[region.frame], self._fps)) is not None:
            end = start + 1 / (self._fps or FPS)
            targets.append(self._target(self._video, _fragment(f"t={start:.3f},{end:.3f}&{xywh}")))
        return self._annotation(f"{self._id}/region/{n}", region.chain, region.type, targets) | _sure(region)

    def _relation(self, n: int, relation: Relation) -> Iterator[dict[str, Any]]:
        """The relation as a node of its own and, where schema.org has the property, on its head too."""
        predicate = RELATIONS.get(relation.type)
        head, tail = self._entity(relation.head), self._entity(relation.tail)
        yield {
            "@id": f"{self._id}/relation/{n}",
            "@type": "rdf:Statement",
            "name": relation.type,
            "rdf:subject": head,
            "rdf:predicate": f"schema:{predicate}" if predicate else f"relation:{_name(relation.type)}",
            "rdf:object": tail,
            **self._provenance,
            **_sure(relation),
        }
        if predicate:
            yield {"@id": head, predicate: {"@id": tail}}

    def _annotation(self, name: str, chain: str | None, kind: str, targets: list[dict[str, Any]]) -> dict[str, Any]:
        body = {} if chain is None else {"oa:hasBody": self._entity(chain)}
        return {
            "@id": name,
            "@type": "oa:Annotation",
            "oa:motivatedBy": "oa:identifying" if body else "oa:classifying",
            "name": kind,
            **body,
            "oa:hasTarget": targets,
            **self._provenance,
        }

    def _target(self, source: str, *selectors: dict[str, Any]) -> dict[str, Any]:
        return {"@type": "oa:SpecificResource", "oa:hasSource": source, "oa:hasSelector": list(selectors)}

    def _entity(self, chain: str) -> str:
        return f"{self._id}/entity/{_name(chain)}"

    def _frame(self, index: int) -> str:
        return f"{self._id}/frame/{index}"


def _fragment(value: str) -> dict[str, Any]:
    return {"@type": "oa:FragmentSelector", "dcterms:conformsTo": _FRAGMENTS, "rdf:value": value}


def _sure(part: Mention | Relation | Region) -> dict[str, float]:
    return {f"m3dllm:{name}": value for name, value in confidences_of(part).items()}


def _name(text: str) -> str:
    """Text as one part of an identifier."""
    return quote(text, safe="")
