"""Thinking before the answer: how models mark it, and the prompt on either side of it.

A model that thinks is asked twice with one prompt: freely, until its thinking ends or is as long as may be; then, with
what it thought behind the prompt, for the answer, which alone is constrained and read. So nothing depends on how an
engine tells thoughts from answers, and what the two prompts share is encoded once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from m3dllm.systems.videollm.engines.base import Reply

ROOM = 16
"""The most tokens that the marks themselves take."""


@dataclass(frozen=True, slots=True)
class Marks:
    """What stands before and after the thoughts, and between them and the answer."""

    opens: str
    closes: str
    gap: str = "\n\n"

    def start(self, prompt: str, *, thinks: bool) -> str:
        """The prompt with the thoughts begun; where nothing is to be thought, with those closed that it begins."""
        is_open = prompt.rstrip().endswith(self.opens.rstrip())
        if thinks:
            return prompt if is_open else f"{prompt}{self.opens}"
        return f"{prompt.rstrip()}\n\n{self.closes}{self.gap}" if is_open else prompt

    def thoughts(self, text: str) -> str:
        """What was thought, of a text that may go on beyond it."""
        return text.partition(self.closes)[0].strip()

    def end(self, thoughts: str) -> str:
        """What stands between `start` and the answer."""
        return f"{thoughts}\n{self.closes}{self.gap}"


MARKS = (
    Marks("<think>\n", "</think>"),  # Qwen3, DeepSeek, GLM, MiniMax, SmolLM3, … : vllm.reasoning.basic_parsers
    Marks("<seed:think>\n", "</seed:think>"),  # Seed-OSS: vllm.reasoning.abs_reasoning_parsers
    Marks("[THINK]", "[/THINK]", gap=""),  # Magistral: vllm.reasoning.mistral_reasoning_parser
    Marks("<|channel>thought\n", "<channel|>", gap=""),  # Gemma 4: vllm.reasoning.gemma4_utils
)


def find_marks(template: str, tokens: Iterable[str]) -> Marks | None:
    """The marks that the chat template writes, or for which the tokenizer has tokens; None for a model without."""
    known = frozenset(tokens)
    return next((marks for marks in MARKS if marks.closes in template or marks.closes in known), None)


def with_thoughts(answer: Reply, thinking: Reply, thoughts: str) -> Reply:
    """The answer as one reply with the thinking before it: all that was generated counts, and the prompt once."""
    return replace(
        answer,
        reasoning=thoughts,
        tokens_in=thinking.tokens_in,
        tokens_vision=thinking.tokens_vision,
        tokens_reused=thinking.tokens_reused,
        tokens_out=(thinking.tokens_out or 0) + (answer.tokens_out or 0),
        tokens_thinking=thinking.tokens_out,
        seconds=(thinking.seconds or 0.0) + (answer.seconds or 0.0),
        thinking_s=thinking.seconds,
        first_token_s=thinking.first_token_s,
    )
