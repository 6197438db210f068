"""Thinking before the answer: its marks, and the prompts before and after it.

A thinking model generates twice: without constraint, until its thinking ends or reaches the limit; then, with the
thinking appended to the prompt, the answer, which alone is constrained and parsed. So nothing depends on how an engine
separates the two, and the common prompt is encoded once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from m3dllm.systems.videollm.engines.base import Reply

ROOM = 16
"""The maximum number of tokens of the marks themselves."""


@dataclass(frozen=True, slots=True)
class Marks:
    """The texts before and after the thoughts, and between them and the answer.

    `answers` stands before an answer without thoughts. `sign` identifies the marks in a chat template; "": `closes`.
    """

    opens: str
    closes: str
    gap: str = "\n\n"
    answers: str = ""
    sign: str = ""

    def start(self, prompt: str, *, thinks: bool) -> str:
        """The prompt with thinking opened; without thinking, closed again if the prompt opens it."""
        is_open = prompt.rstrip().endswith(self.opens.rstrip())
        if thinks:
            return prompt if is_open else f"{prompt}{self.opens}"
        return f"{prompt.rstrip()}\n\n{self.closes}{self.gap}" if is_open else f"{prompt}{self.answers}"

    def thoughts(self, text: str) -> str:
        """The thoughts in a text, which may continue beyond them."""
        return text.partition(self.closes)[0].strip()

    def end(self, thoughts: str) -> str:
        """The text between `start` and the answer."""
        return f"{thoughts}\n{self.closes}{self.gap}"


MARKS = (
    Marks("<think>\n", "</think>"),  # Qwen3, DeepSeek, GLM, MiniMax, SmolLM3, … : vllm.reasoning.basic_parsers
    Marks("<seed:think>\n", "</seed:think>"),  # Seed-OSS: vllm.reasoning.abs_reasoning_parsers
    Marks("[THINK]", "[/THINK]", gap=""),  # Magistral: vllm.reasoning.mistral_reasoning_parser
    Marks("<|channel>thought\n", "<channel|>", gap=""),  # Gemma 4: vllm.reasoning.gemma4_utils
    Marks(  # GPT-OSS: https://cookbook.openai.com/articles/openai-harmony
        "<|channel|>analysis<|message|>",
        "<|end|>",
        gap="<|start|>assistant<|channel|>final<|message|>",
        answers="<|channel|>final<|message|>",
        sign="<|channel|>analysis<|message|>",
    ),
)


def find_marks(template: str, tokens: Iterable[str]) -> Marks | None:
    """The marks that the chat template writes, or for which the tokenizer has tokens; None for a model without."""
    known = frozenset(tokens)
    signs = ((marks, marks.sign or marks.closes) for marks in MARKS)
    return next((marks for marks, sign in signs if sign in template or sign in known), None)


def with_thoughts(answer: Reply, thinking: Reply, thoughts: str) -> Reply:
    """The answer and its thinking as one reply: all generated tokens count, and the prompt once."""
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
