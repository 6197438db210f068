"""`scanner`: as `mqa`, but before deciding the type of a text, the model writes what it knows of it.

After SCANNER (see docs/systems/scanner.md): candidates first, without types; then the type of each is decided with
knowledge about it and its context. The knowledge is the model's own: one question for each text, in parallel, whose
answer is included in the question for the type.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from m3dllm.systems.videollm.context import PromptContext
from m3dllm.systems.videollm.strategies.base import Question, Stage
from m3dllm.systems.videollm.strategies.choices import Choice, Decisions, decide, question
from m3dllm.systems.videollm.strategies.mqa import BOX, COREFERENCE, RELATION, SEEN, SPANS, TYPE, Mqa, type_choice
from m3dllm.systems.videollm.strategies.riveg import CHARACTERS, read_sentence, sentence_constraint

KNOWN = Stage(template="scanner/known", constraint=sentence_constraint, parse=read_sentence)
"""The model's knowledge of a text, and what the clip shows of it."""
TYPE_OF_KNOWN = replace(TYPE, template="scanner/type")
"""The type of a text, with the knowledge about it."""


class Scanner(Mqa):
    """Multiple choice, with knowledge about each candidate."""

    name: ClassVar = "scanner"
    stages: ClassVar = (KNOWN, SPANS, TYPE_OF_KNOWN, COREFERENCE, RELATION, SEEN, BOX)

    def decide(self, context: PromptContext, stage: Stage, choices: Sequence[Choice]) -> Decisions:
        if stage is not TYPE or not choices:
            return (yield from decide(context, stage, choices))
        replies = yield [KNOWN.ask(context, text=choice.values["text"]) for choice in choices]
        known = [context.say(read_sentence(context, reply, ())) for reply in replies]
        told = [_told(choice, text) for choice, text in zip(choices, known, strict=True)]
        return (yield from decide(context, TYPE_OF_KNOWN, told))

    def later(self, context: PromptContext) -> list[Question]:
        """Also the longest question for a type."""
        longest = _told(type_choice(context, "…"), "…" * CHARACTERS)
        return [*super().later(context), question(context, TYPE_OF_KNOWN, longest)]


def _told(choice: Choice, known: str) -> Choice:
    return replace(choice, values={**choice.values, "known": known})
