"""The cost of a run so far, in tokens and time."""

from __future__ import annotations

from dataclasses import dataclass, field

from m3dllm.systems.videollm.engines.base import Reply


@dataclass(slots=True)
class Tally:
    """The cost of a run so far, added up over replies and passes.

    `seconds` add up over parallel requests; `wall_s` is the wall time, which the rates refer to. `grammar_share` is the
    share of that time spent on compiling grammars and masking tokens; None if no engine reports it.
    """

    requests: int = 0
    documents: int = 0
    tokens_in: int = 0
    tokens_vision: int = 0
    tokens_reused: int = 0
    tokens_out: int = 0
    tokens_thinking: int = 0
    seconds: float = 0.0
    thinking_s: float = 0.0
    grammar_s: float | None = None
    retries: int = 0
    finishes: dict[str, int] = field(default_factory=dict)
    stages: dict[str, int] = field(default_factory=dict)
    """stage -> the number of its questions."""
    wall_s: float = 0.0
    documents_a_minute: float | None = None
    tokens_a_second: float | None = None
    grammar_share: float | None = None
    memory_mb: float | None = None

    def add(self, reply: Reply) -> None:
        self.requests += 1
        tokens = ("tokens_in", "tokens_vision", "tokens_reused", "tokens_out", "tokens_thinking")
        for name in (*tokens, "seconds", "thinking_s", "retries"):
            setattr(self, name, getattr(self, name) + (getattr(reply, name) or 0))
        if reply.grammar_s is not None:
            self.grammar_s = (self.grammar_s or 0.0) + reply.grammar_s
        self.finishes[reply.finish] = self.finishes.get(reply.finish, 0) + 1

    def end_pass(self, documents: int, wall_s: float, *, memory_mb: float | None) -> None:
        """Add a pass: its number of documents and wall time."""
        self.documents += documents
        self.wall_s += wall_s
        if memory_mb is not None:
            self.memory_mb = max(self.memory_mb or 0.0, memory_mb)
        if self.wall_s > 0:
            self.documents_a_minute = 60 * self.documents / self.wall_s
            self.tokens_a_second = self.tokens_out / self.wall_s
            if self.grammar_s is not None:
                self.grammar_share = self.grammar_s / self.wall_s

    def __str__(self) -> str:
        """The rates, in one line."""
        parts = [f"{self.documents_a_minute or 0:.1f} documents a minute"]
        parts.append(f"{self.tokens_a_second or 0:.0f} tokens a second")
        if self.grammar_share is not None:
            parts.append(f"{self.grammar_share:.1%} of the time in grammar work")
        if self.memory_mb is not None:
            parts.append(f"at most {self.memory_mb:,.0f} MB")
        return ", ".join(parts)
