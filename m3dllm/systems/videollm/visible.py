"""What a model is shown, and the bounds of its answer: what grammars, schemas and prompts are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from m3dllm.systems.videollm.families import CONVENTIONS, Convention, Size
from m3dllm.systems.videollm.options import Options


@dataclass(frozen=True, slots=True)
class VisibleFrames:
    """The frames that are shown, in order: index to the size of the image as the model sees it."""

    sizes: Mapping[int, Size] = field(default_factory=dict)
    convention: Convention = CONVENTIONS["fraction"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How long the parts of an answer may be, so that every answer comes to an end."""

    chains: int = 48
    mentions: int = 24
    relations: int = 64
    regions: int = 8
    characters: int = 120

    @classmethod
    def of(cls, options: Options) -> Bounds:
        return cls(
            chains=options.max_chains,
            mentions=options.max_mentions,
            relations=options.max_relations,
            regions=options.max_regions,
            characters=options.max_mention_characters,
        )


@dataclass(frozen=True, slots=True)
class Named:
    """A mention or a chain as it is listed in a prompt: its name there and its type."""

    name: str
    type: str
