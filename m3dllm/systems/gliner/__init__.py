"""GLiNER2: a zero-shot encoder that extracts spans of given types, and relations between them; nothing is trained.

Its options and declaration; nothing here imports a model library. Card: `docs/systems/gliner.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from m3dllm.config import ADVANCED, INCIDENTAL, AtLeast0, AtLeast1, Options, Share
from m3dllm.errors import UserError
from m3dllm.system import SystemSpec

SPEC = SystemSpec(
    name="gliner",
    factory="m3dllm.systems.gliner.system:Gliner",
    config="m3dllm.systems.gliner:Config",
    summary="GLiNER2, a small encoder: zero-shot entities and relations, same-text chains",
    tasks={"entity", "chain", "relation"},
    modalities={"text"},
    languages={"en", "zh"},
    extra="gliner",
    needs=("torch", "transformers", "gliner2"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Options):
    """The options of `gliner`."""

    model: str = "fastino/gliner2.5-multi-v1"
    """A GLiNER2 model's folder or hub id."""
    threshold: Share = 0.5
    """The minimum confidence of a mention."""
    relation_threshold: Share = 0.5
    """The minimum confidence of both sides of a relation."""
    chain_rule: Literal["singletons", "same_text", "same_last_word"] = "same_text"
    """How mentions of one type become chains, which the model does not predict."""
    window: Annotated[int, Meta(ge=16), ADVANCED] = 384
    """The number of words (characters in Chinese) per window; longer texts are read in windows."""
    overlap: Annotated[AtLeast0, ADVANCED] = 64
    """The overlap of neighbouring windows, in words."""
    batch: Annotated[AtLeast1, INCIDENTAL] = 8
    """The number of documents processed at once."""
    revision: Annotated[str | None, ADVANCED] = None
    """The revision of a model on the hub."""
    device: Annotated[str, INCIDENTAL] = "auto"
    """The device: cuda, cuda:1, cpu, mps; auto: a GPU if there is one."""

    def check(self) -> None:
        if self.overlap >= self.window:
            raise UserError(f"--overlap {self.overlap}: expected less than --window {self.window}")
