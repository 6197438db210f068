"""JSON schemas of the answers: the constraint for servers without grammars.

They define the form, types, frames, ranges of coordinates and lengths of lists. Unlike the grammars they
do not check that a mention occurs in the document, that a name exists, and that a box has an area; `normalize`
makes Issues of these errors.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from m3dllm.labels import LabelSet
from m3dllm.systems.videollm.families import Size
from m3dllm.systems.videollm.visible import Bounds, Named, VisibleFrames

Schema = dict[str, Any]


def joint_schema(labels: LabelSet, visible: VisibleFrames, bounds: Bounds) -> Schema:
    """Chains, relations and regions in one object."""
    text = {"type": "string", "minLength": 1, "maxLength": bounds.characters}
    number = {"type": "integer", "minimum": 1, "maximum": 999}
    numbered = _array({"anyOf": [text, number]}, bounds.mentions, least=1)
    chain = _object(
        {
            "id": {"type": "string", "maxLength": 8},
            "type": _one_of(label.name for label in labels.mentions),
            "mentions": _array({"anyOf": [text, numbered]}, bounds.mentions, least=1),
        }
    )
    name = {"type": "string", "maxLength": 8}
    return _object(
        {
            "chains": _array(chain, bounds.chains if labels.mentions else 0),
            "relations": _array(
                _object({"head": name, "tail": name, "type": _one_of(label.name for label in labels.relations)}),
                bounds.relations if labels.relations else 0,
            ),
            "regions": _regions(labels, visible, bounds),
        }
    )


def entities_schema(labels: LabelSet, bounds: Bounds) -> Schema:
    """For each mention type, the list of the texts of its mentions."""
    text = {"type": "string", "minLength": 1, "maxLength": bounds.characters}
    return _object({label.name: _array(text, bounds.mentions) for label in labels.mentions})


def mentions_schema(labels: LabelSet, bounds: Bounds) -> Schema:
    """A list of the mentions, each with its text and type."""
    text = {"type": "string", "minLength": 1, "maxLength": bounds.characters}
    mention = _object({"text": text, "type": _one_of(label.name for label in labels.mentions)})
    return _object({"mentions": _array(mention, bounds.mentions * len(labels.mentions))})


def spans_schema(bounds: Bounds, most: int, *, objects: bool = False) -> Schema:
    """At most `most` texts; with `objects`, each is that of an object."""
    text = {"type": "string", "minLength": 1, "maxLength": bounds.characters}
    return _object({"mentions": _array(_object({"text": text}) if objects else text, most)})


def chains_schema(mentions: Sequence[Named], bounds: Bounds, *, objects: bool = False) -> Schema:
    """Lists of names of `mentions`; with `objects`, each list is that of an object."""
    chain = _array(_one_of(mention.name for mention in mentions), len(mentions), least=1)
    most = min(bounds.chains, len(mentions))
    return _object({"chains": _array(_object({"mentions": chain}) if objects else chain, most)})


def relations_schema(chains: Sequence[Named], labels: LabelSet, bounds: Bounds) -> Schema:
    """Relations among `chains`."""
    name = _one_of(chain.name for chain in chains)
    relation = _object({"head": name, "tail": name, "type": _one_of(label.name for label in labels.relations)})
    some = len(chains) > 1 and bool(labels.relations)
    return _object({"relations": _array(relation, bounds.relations if some else 0)})


def regions_schema(chains: Sequence[Named], labels: LabelSet, visible: VisibleFrames, bounds: Bounds) -> Schema:
    """Regions of the prompt's frames, each of one of `chains` or of none."""
    return _object({"regions": _regions(labels, visible, bounds, chains=chains)})


def box_schema(frame: int, visible: VisibleFrames) -> Schema:
    """One box in a frame of the prompt."""
    return _object({"box": _array(_number([visible.convention.limits(visible.sizes[frame])], visible), 4, least=4)})


def choice_schema(options: Iterable[str]) -> Schema:
    """One of `options`."""
    return _object({"choice": _one_of(options)})


def text_schema(key: str, most: int) -> Schema:
    """One text of at most `most` characters."""
    return _object({key: {"type": "string", "minLength": 1, "maxLength": most}})


def _number(limits: Sequence[Size], visible: VisibleFrames) -> Schema:
    """A coordinate of a box; `limits` are the largest of each frame, in units of the last decimal."""
    scale = 10**visible.convention.decimals
    most = max((max(limit) for limit in limits), default=scale) // scale
    return {"type": "integer" if scale == 1 else "number", "minimum": 0, "maximum": most}


def _regions(
    labels: LabelSet, visible: VisibleFrames, bounds: Bounds, *, chains: Sequence[Named] | None = None
) -> Schema:
    sizes = [visible.convention.limits(size) for size in visible.sizes.values()]
    number = _number(sizes, visible)
    region: Schema = {
        "frame": {"type": "integer", "enum": list(visible.sizes)},
        "type": _one_of(label.name for label in labels.regions),
    }
    if chains is not None:
        names = [chain.name for chain in chains]
        region["chain"] = {"anyOf": [_one_of(names), {"type": "null"}]} if names else {"type": "null"}
    region["box"] = _array(number, 4, least=4)
    some = bool(sizes and labels.regions)
    return _array(_object(region), bounds.regions * len(sizes) if some else 0)


def _object(properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _array(items: Schema, most: int, *, least: int = 0) -> Schema:
    """A list of `least` to `most` items; one that must be empty has no schema of items."""
    if most < 1:
        return {"type": "array", "items": {"type": "null"}, "maxItems": 0}
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}


def _one_of(names: Iterable[str]) -> Schema:
    return {"type": "string", "enum": list(names)}
