"""What generates: one small interface, and the engines behind it. No model library is loaded here.

An engine takes requests whenever it is given some and gives replies as they are ready, so that the documents of a run
proceed independently. Requests of one document name the same `share`: what their prompts have in common is encoded
once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from m3dllm.errors import UserError
from m3dllm.systems.videollm.config import Config
from m3dllm.systems.videollm.families import Family
from m3dllm.systems.videollm.prompts import Message
from m3dllm.types import Failure, Issue

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """What an answer is held to: a grammar where the engine takes one, else the schema. One of them may be missing."""

    grammar: str | None = None
    schema: dict[str, Any] | None = None
    chunks: tuple[str, ...] = ()
    """The document's tokens and the white space between them, for servers whose grammars are written from the schema:
    see `grammar.mention_chunks`."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Request:
    """One question. With `options`, the engine also says how likely each of them is as the answer's beginning."""

    messages: tuple[Message, ...]
    max_tokens: int
    constraint: Constraint | None = None
    options: tuple[str, ...] = ()
    share: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer and what it cost. `finish` is "stop", "length" (cut at the token limit), "error", or why a server held
    an answer back.

    `reasoning` is what the model thought apart from its answer, `refusal` what it said instead of one; `issues` is what
    the engine noted of the request.

    `scores` are the log-probabilities of the request's options, relative to one another; None where the engine gives
    none. Of the prompt's tokens, `tokens_vision` are images and `tokens_reused` were encoded before.
    """

    text: str = ""
    finish: str = "stop"
    scores: tuple[float, ...] | None = None
    tokens_in: int | None = None
    tokens_vision: int | None = None
    tokens_reused: int | None = None
    tokens_out: int | None = None
    seconds: float | None = None
    first_token_s: float | None = None
    grammar_s: float | None = None
    retries: int = 0
    failure: Failure | None = None
    reasoning: str = ""
    refusal: str = ""
    issues: tuple[Issue, ...] = ()


@dataclass(frozen=True, slots=True)
class Count:
    """The tokens of a prompt, and those of them that are images; exact or estimated."""

    tokens: int
    vision: int = 0
    exact: bool = True


@dataclass(frozen=True, slots=True)
class Room:
    """What the documents of a run may need at most: tokens of a prompt with its answer, and images of a prompt."""

    tokens: int
    images: int


class Engine(Protocol):
    """What generates."""

    family: Family
    lanes: int
    """How many documents are worth having under way at once."""
    context: int
    """How many tokens prompt and answer may have together."""
    specials: tuple[str, ...]
    """The special tokens, which no document may speak."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What the model is: its name, revision or hash, and the numbers it computes with."""
        ...

    def prepare(self, image: Image) -> Image:
        """A frame as it must be handed over, so that the engine changes nothing of its geometry any more."""
        ...

    def count(self, messages: Sequence[Message]) -> Count:
        """The tokens of a prompt."""
        ...

    def submit(self, key: int, request: Request) -> None:
        """Take a request; its reply comes with the same key."""
        ...

    def poll(self) -> list[tuple[int, Reply]]:
        """At least one reply, as soon as there is one. Raises ValueError where nothing is under way."""
        ...

    @property
    def memory_mb(self) -> float | None:
        """The most memory that the model has needed so far, in megabytes; None where that is not known."""
        ...

    def release(self, share: str) -> None:
        """No more requests of this document will come."""
        ...

    def close(self) -> None:
        """Let go of the model, or of the connections."""
        ...


@dataclass(slots=True)
class Tally:
    """What a run has cost so far; it adds up over the replies and the passes.

    `seconds` add up over requests that were under way together; `wall_s` is what the user waited for documents to be
    answered, and the rates are over it. `grammar_share` is the share of that time in which grammars were compiled and
    tokens ruled out; None where no engine tells.
    """

    requests: int = 0
    documents: int = 0
    tokens_in: int = 0
    tokens_vision: int = 0
    tokens_reused: int = 0
    tokens_out: int = 0
    seconds: float = 0.0
    grammar_s: float | None = None
    retries: int = 0
    finishes: dict[str, int] = field(default_factory=dict)
    wall_s: float = 0.0
    documents_a_minute: float | None = None
    tokens_a_second: float | None = None
    grammar_share: float | None = None
    memory_mb: float | None = None

    def add(self, reply: Reply) -> None:
        self.requests += 1
        for name in ("tokens_in", "tokens_vision", "tokens_reused", "tokens_out", "seconds", "retries"):
            setattr(self, name, getattr(self, name) + (getattr(reply, name) or 0))
        if reply.grammar_s is not None:
            self.grammar_s = (self.grammar_s or 0.0) + reply.grammar_s
        self.finishes[reply.finish] = self.finishes.get(reply.finish, 0) + 1

    def end_pass(self, documents: int, wall_s: float, *, memory_mb: float | None, processes: int = 1) -> None:
        """So many documents were answered in so many seconds, by `processes` that worked side by side."""
        self.documents += documents
        self.wall_s += wall_s
        if memory_mb is not None:
            self.memory_mb = max(self.memory_mb or 0.0, memory_mb)
        if self.wall_s > 0:
            self.documents_a_minute = 60 * self.documents / self.wall_s
            self.tokens_a_second = self.tokens_out / self.wall_s
            if self.grammar_s is not None:
                self.grammar_share = self.grammar_s / (self.wall_s * processes)

    def __str__(self) -> str:
        """The rates, in one line."""
        said = [f"{self.documents_a_minute or 0:.1f} documents a minute"]
        said.append(f"{self.tokens_a_second or 0:.0f} tokens a second")
        if self.grammar_share is not None:
            said.append(f"{self.grammar_share:.1%} of the time in grammar work")
        if self.memory_mb is not None:
            said.append(f"at most {self.memory_mb:,.0f} MB")
        return ", ".join(said)


def make_engine(config: Config, room: Room | None = None) -> Engine:
    """The engine, with its model loaded; where `room` is known, it keeps no more than that.

    Raises UserError for what the user can mend.
    """
    try:
        if config.engine == "openai":
            from m3dllm.systems.videollm.engines.openai import OpenAIEngine

            return OpenAIEngine(config)
        if config.workers > 1:
            from m3dllm.systems.videollm.engines.workers import WorkersEngine

            return WorkersEngine(config, room)
        if config.engine == "vllm":
            from m3dllm.systems.videollm.engines.vllm import VllmEngine

            return VllmEngine(config, room)
        from m3dllm.systems.videollm.engines.transformers import TransformersEngine

        return TransformersEngine(config)
    except ImportError as error:
        remedy = "install builds of torch, torchvision and the engine that fit each other"
        raise UserError(f"--engine {config.engine} cannot be loaded ({error}): {remedy}") from error
