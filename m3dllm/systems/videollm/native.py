"""The options of `video-chatgpt` and `video-llama-2`: those of `video-llm` that apply to them. Light to import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from m3dllm.config import FIT, AtLeast0, named
from m3dllm.systems.videollm.config import Config

_OF_SERVERS = (
    *("base_url", "api_key_env", "header", "query", "extra_body", "omit", "reasoning_effort", "rpm", "tpm", "max_wait"),
    *("batch_file", "batch_answers", "retries", "timeout"),
)
_OF_OTHER_MODELS = (
    *("engine", "entailment_model", "grounding_model", "thinking", "shot_frames", "longest_side", "video", "family"),
    *("schema_only", "prompt_version", "revision", "trust_remote_code", "tensor_parallel", "adapter"),
    "engine_args",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Native(Config):
    """The common options of the two."""

    withheld: ClassVar[frozenset[str]] = frozenset((*named(Config, FIT), *_OF_SERVERS, *_OF_OTHER_MODELS))
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        "tiny": {"model": "tiny", "max_tokens": 256, "prompt_form": "compact"},
    }

    model: str | None = "published"
    """published: the authors' weights, on the hub; a folder with the parts that the card lists; or tiny: random
    weights, to try it out."""
    strategy: str = "framewise"
    """The prompting strategy: framewise (entities, chains, relations, then the regions of each frame separately);
    joint, staged or mqa, which then predict no regions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoChatGPT(Native):
    """The options of `video-chatgpt`."""

    engine: str = "video-chatgpt"
    frames: AtLeast0 = 100
    """The maximum number of frames shown per document, up to 100; they always take 356 vectors."""
    prompt_form: Literal["full", "compact"] = "compact"
    """How detailed the prompts are: compact (labels only, since the context has 2048 tokens), or full: most documents
    are then read in several windows."""
    max_tokens: Annotated[int, Meta(ge=16)] = 512
    """The maximum length of an answer, in tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoLlama(Native):
    """The options of `video-llama-2`."""

    engine: str = "video-llama-2"
    frames: AtLeast0 = 8
    """The maximum number of frames shown per document, up to 32; they always take 32 vectors."""
    max_tokens: Annotated[int, Meta(ge=16)] = 1024
    """The maximum length of an answer, in tokens."""
