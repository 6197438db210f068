"""From gold to training items: the questions of prediction, each with its gold answer.

The strategy itself runs the conversation, with gold answers in place of the model's. So a prompt in training is the
prompt in prediction, also in later stages, which are made from earlier answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from m3dllm.labels import LabelSet
from m3dllm.normalize import normalize
from m3dllm.score import score
from m3dllm.systems.videollm.builder import View
from m3dllm.systems.videollm.context import PromptContext
from m3dllm.systems.videollm.dialogue import converse, form
from m3dllm.systems.videollm.engines.base import Reply, Request
from m3dllm.systems.videollm.gold import Gold
from m3dllm.systems.videollm.strategies import find_strategy
from m3dllm.systems.videollm.strategies.base import Question
from m3dllm.systems.videollm.windows import cut_annotation
from m3dllm.training import averages
from m3dllm.types import Annotation, Document, Example, RawOutput, Task


@dataclass(frozen=True, slots=True)
class TrainingItem:
    """One question about a document, as in prediction, and its gold answer."""

    document: str
    stage: str
    request: Request
    answer: str
    tasks: frozenset[Task]
    """The tasks that must be annotated for a gold answer."""


def items_of(views: Sequence[View], gold: Annotation, *, box_step: int = 1) -> list[TrainingItem]:
    """The questions about a document, window by window, with their gold answers.

    [] for a document without questions. Raises ValueError for a question without a gold answer.
    """
    return [item for view in views for item in _about(view.context, cut_annotation(gold, view.window), box_step)]


def _about(context: PromptContext, gold: Annotation, box_step: int) -> Iterator[TrainingItem]:
    speaker = Gold(context, gold, box_step=box_step)
    conversation = find_strategy(context.options.strategy).run(context)
    replies: list[Reply] | None = None
    while True:
        try:
            questions = next(conversation) if replies is None else conversation.send(replies)
        except StopIteration:
            return
        replies = []
        for question in questions:
            answer = target_of(question, speaker)
            yield TrainingItem(context.document.id, question.stage.name, question.request, answer, question.stage.tasks)
            replies.append(Reply(text=answer))


def target_of(question: Question, gold: Gold) -> str:
    """The gold answer to a question. Raises ValueError if it has none."""
    if question.stage.target is None:
        raise ValueError(f"there is no gold answer for the stage '{question.stage.name}'")
    return question.stage.target(gold, question.about)


def answered(document: Document, views: Sequence[View], items: Iterable[TrainingItem]) -> RawOutput:
    """The raw output if the model gave the gold answers."""
    conversation, words = converse(document, views), iter(items)
    try:
        questions = next(conversation)
        while True:
            questions = conversation.send([Reply(text=next(words).answer) for _ in questions])
    except StopIteration as end:
        frames = sorted(frame for view in views for frame in view.context.frames)
        boxes = form(views, find_strategy(views[0].context.options.strategy))
        return RawOutput(document.id, payload=end.value, boxes=boxes, frames=tuple(frames))


def ceiling(examples: Sequence[Example], raws: Iterable[RawOutput], labels: LabelSet) -> dict[str, float]:
    """The scores of the gold answers themselves: the upper bound of what answers can express."""
    predictions = [normalize(e.document, raw, labels) for e, raw in zip(examples, raws, strict=True)]
    return averages(score(examples, predictions, labels=labels))
