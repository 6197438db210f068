"""The interface of engines: they take requests at any time, and return replies as they are ready.

So the documents of a run proceed independently. Requests of one document have the same `share`: what their prompts have
in common is encoded once. No model library is loaded here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from m3dllm.systems.videollm.families import Family
from m3dllm.systems.videollm.messages import Message, prompt_text
from m3dllm.systems.videollm.options import Options
from m3dllm.types import Failure, Issue

if TYPE_CHECKING:
    from PIL.Image import Image

CAPABILITIES = {
    "grammar": "answers are constrained by a grammar",
    "schema": "answers are constrained by a JSON schema",
    "chunks": "grammars are written by the engine, from the schema and the document's tokens",
    "option_scores": "says how likely each option of a request is as the answer's beginning",
    "logprobs": "says how likely each token of an answer was",
    "begun": "goes on with an answer of which a request says how it begins",
    "images": "prompts may hold images",
    "video": "prompts may hold a video",
    "clip": "all frames of a prompt are one clip, of a fixed number of tokens, in which none can be told from another",
    "lora": "answers with a LoRA adapter",
    "fit": "its models can be tuned here",
    "local": "the model is on this machine: its processor and its adapters can be read without its weights",
    "tensor_parallel": "a model may be spread over GPUs",
    "budget": "is made for the longest of the documents to come: they are measured before it is loaded",
}
"""The capabilities of engines; code checks these, never an engine's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """The constraint of an answer: a grammar if the engine supports it, else the schema. One may be missing."""

    grammar: str | None = None
    schema: dict[str, Any] | None = None
    chunks: tuple[str, ...] = ()
    """The document's tokens and the white space between them, for engines whose grammars are made from the schema:
    see `grammar.mention_chunks`."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Request:
    """One question. With `options`, the engine also scores each of them as the beginning of the answer.

    `begun` is a prefilled beginning of the answer, for engines that support it: the reply, its constraint and
    `max_tokens` concern what follows.
    """

    messages: tuple[Message, ...]
    max_tokens: int
    constraint: Constraint | None = None
    begun: str = ""
    options: tuple[str, ...] = ()
    share: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer and its cost. `finish` is "stop", "length" (truncated at the token limit), "repetition" (ended because
    it repeated itself), "error", or why a server withheld an answer.

    `reasoning` is the chain of thought, separate from the answer, `refusal` a text in place of an answer; `issues` are
    those that the engine noted for the request.

    Of `tokens_out` and `seconds`, `tokens_thinking` and `thinking_s` belong to `reasoning`; None if unknown.

    `scores` are the log-probabilities of the request's options, relative to one another; None if the engine has none.
    `logprobs` are (end offset in `text`, log-probability) of each token of the answer. Of the prompt's tokens,
    `tokens_vision` are images and `tokens_reused` were in the cache.
    """

    text: str = ""
    finish: str = "stop"
    scores: tuple[float, ...] | None = None
    logprobs: tuple[tuple[int, float], ...] | None = None
    tokens_in: int | None = None
    tokens_vision: int | None = None
    tokens_reused: int | None = None
    tokens_out: int | None = None
    seconds: float | None = None
    first_token_s: float | None = None
    grammar_s: float | None = None
    tokens_thinking: int | None = None
    thinking_s: float | None = None
    retries: int = 0
    failure: Failure | None = None
    reasoning: str = ""
    refusal: str = ""
    issues: tuple[Issue, ...] = ()


@dataclass(frozen=True, slots=True)
class Count:
    """The tokens of a prompt, and how many of them are images; exact or estimated."""

    tokens: int
    vision: int = 0
    exact: bool = True


@dataclass(frozen=True, slots=True)
class ContextBudget:
    """The most that the documents of a run may need: tokens of a prompt with its answer, and images of a prompt."""

    tokens: int
    images: int


class Engine(ABC):
    """A backend that generates text. It is made from the options: `Kind(options, budget=None)`, with its model loaded.

    An engine is one module of `engines/`, named as the engine is and light to import (model libraries are loaded when
    an engine is made), with one class. `submit`, `poll`, `count` and `provenance` are its own; the rest has defaults.
    """

    name: ClassVar[str] = ""
    """Its name for --engine: its module's name."""
    extra: ClassVar[str] = "llm"
    """The extra of this package with its dependencies."""
    needs: ClassVar[tuple[str, ...]] = ()
    """The modules that must be installed."""
    supports: frozenset[str] = frozenset()
    """Its CAPABILITIES; an engine may set them when it is made."""

    family: Family
    max_concurrency: int = 1
    """The number of documents that it can process in parallel."""
    context: int
    """The maximum number of tokens of prompt and answer together."""
    thinking: int = 0
    """The maximum number of these for thinking, before the answer."""
    specials: tuple[str, ...] = ()
    """The special tokens, which no document may contain in a prompt."""

    def __init__(self, options: Options, budget: ContextBudget | None = None) -> None:
        """Load the model; with a `budget`, reserve memory for no more. Raises UserError."""
        self.options = options

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if odd := cls.supports - CAPABILITIES.keys():
            raise TypeError(f"{cls.__name__} supports {', '.join(sorted(odd))}: known are {', '.join(CAPABILITIES)}")

    @property
    @abstractmethod
    def provenance(self) -> Mapping[str, Any]:
        """The model's name, revision or hash, and precision."""

    @abstractmethod
    def count(self, messages: Sequence[Message]) -> Count:
        """The tokens of a prompt."""

    @abstractmethod
    def submit(self, key: int, request: Request) -> None:
        """Take a request; its reply comes with the same key."""

    @abstractmethod
    def poll(self) -> list[tuple[int, Reply]]:
        """At least one reply, as soon as there is one. Raises ValueError if no request is pending."""

    def prepare(self, image: Image) -> Image:
        """A frame resized or padded so that the engine does not change its geometry any more."""
        return image

    def prepare_clip(self, images: Sequence[Image]) -> list[Image]:
        """The frames of a clip, likewise, all of one size."""
        return [self.prepare(image.resize(images[0].size)) for image in images]

    def chat(self, messages: Sequence[Message]) -> str:
        """The prompt as text: in the model's chat format, if known."""
        return prompt_text(messages)

    @property
    def sees(self) -> bool:
        """Whether its model reads images; if not, it gets only texts."""
        return "images" in self.supports

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes about it for readers of scores."""
        return ()

    @property
    def memory_mb(self) -> float | None:
        """The peak memory of the model so far, in megabytes; None if unknown."""
        return None

    def release(self, share: str) -> None:  # noqa: B027  nothing is kept
        """Called when no more requests of this document will come."""

    def close(self) -> None:  # noqa: B027  nothing is held
        """Free the model, or close the connections."""
