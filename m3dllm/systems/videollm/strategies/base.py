"""What a strategy is: stages, each of them everything about one question, and the order in which they are asked.

A strategy is a conversation about one document, written as a generator: it yields questions and is sent the replies to
them, and returns the payload. Many conversations go on at once; none knows of another. A strategy of another package
is a class with `name`, `stages` and `run`, named by an entry point; its templates may lie in its own package.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from m3dllm.labels import LabelSet
from m3dllm.systems.videollm.context import PromptContext
from m3dllm.systems.videollm.engines.base import Constraint, Reply, Request
from m3dllm.systems.videollm.gold import Gold
from m3dllm.systems.videollm.shown import Shown
from m3dllm.types import Example, Task

About = Sequence[Any]
"""The mentions or the chains that a question lists by name; () where it lists none."""


def _no_values(context: PromptContext, about: About) -> Mapping[str, Any]:
    return {}


def _nothing(gold: Gold) -> tuple[About, str]:
    return (), ""


def _text(context: PromptContext, reply: Reply, about: About) -> Any:
    return reply.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Everything about one question: its template, what constrains the answer, the gold answer, and how it is read."""

    template: str
    """ "<folder>/<stage>": see `prompts`."""
    constraint: Callable[[PromptContext, About], Constraint]
    values: Callable[[PromptContext, About], Mapping[str, Any]] = _no_values
    """What the template is filled with, besides what all are (`PromptContext.render`)."""
    target: Callable[[Gold, About], str] | None = None
    """The gold answer: of few-shot examples, and of tuning. None: the question has none."""
    listed: Callable[[Gold], tuple[About, str]] = _nothing
    """Of an example with this gold: the mentions or chains that its question would list, and the list as text."""
    parse: Callable[[PromptContext, Reply, About], Any] = _text
    """What an answer says; what is wrong with it becomes an Issue of the context."""
    tasks: frozenset[Task] = frozenset()
    """What must be annotated in a document for the gold answer to be known."""
    model: str = "main"
    """Which model is asked: "main", or a role such as "entailment" or "grounding"."""

    @property
    def name(self) -> str:
        return self.template.rpartition("/")[2]

    def ask(self, context: PromptContext, about: About = (), **values: Any) -> Question:
        """The question about what `context` shows. `values` come before the stage's own."""
        context = context.of(self.model)
        constraint = None if context.options.unconstrained else self.constraint(context, about)
        return Question(self, context.request(self._instruction(context, about, values), constraint), about)

    def blank(self, context: PromptContext, **values: Any) -> Question:
        """The question with nothing listed and the answer free: by it the length of the instruction is measured."""
        context = context.of(self.model)
        return Question(self, context.request(self._instruction(context, (), values), None))

    def _instruction(self, context: PromptContext, about: About, values: Mapping[str, Any]) -> str:
        filled = {**self.values(context, about), **values}
        return context.render(self.template, shots=self.shots(context), **filled)

    def put(self, context: PromptContext, about: About = ()) -> Generator[list[Question], list[Reply], Any]:
        """Ask this one question, and give what the answer says."""
        (reply,) = yield [self.ask(context, about)]
        return self.parse(context.of(self.model), reply, about)

    def shots(self, context: PromptContext) -> list[dict[str, str]]:
        """The few-shot examples as the template wants them. What is asked of frames alone has none: they are not
        shown."""
        if self.target is None or self.tasks <= {"grounding"}:
            return []
        return [self._shot(example, context) for example in context.examples if self.tasks <= example.annotated]

    def _shot(self, example: Example, context: PromptContext) -> dict[str, str]:
        shown = Shown(convention=context.shown.convention)
        gold = Gold(replace(context, document=example.document, shown=shown, examples=(), issues=[]), example.gold)
        about, question = self.listed(gold)
        answer = "" if self.target is None else self.target(gold, about)
        return {"text": context.say(example.document.text), "question": question, "answer": context.say(answer)}


@dataclass(frozen=True, slots=True)
class Question:
    """A request, the stage that asks it, and the mentions or the chains that it lists by name."""

    asked: Stage
    request: Request
    about: About = ()

    @property
    def stage(self) -> str:
        return self.asked.name


Conversation = Generator[list[Question], list[Reply], Any]


class Strategy(ABC):
    """A way of asking about a document."""

    name: ClassVar[str]
    stages: ClassVar[tuple[Stage, ...]]
    """All that it may ask; the folder of the first one's template holds its own prompts."""
    system: ClassVar[str] = "document/system"
    """The template of the system message."""
    templates: ClassVar[Path | None] = None
    """A folder with its templates, where they are not those of this package: laid out as prompts/."""
    example_tasks: ClassVar[frozenset[Task]] = frozenset()
    """What must be annotated in a train document for it to be an example at all."""

    @abstractmethod
    def run(self, context: PromptContext) -> Conversation:
        """The conversation about a document; it returns the payload."""

    def check(self, labels: LabelSet) -> None:  # noqa: B027  any label set will do
        """Raises UserError for a label set that cannot be asked about in this way."""

    def later(self, context: PromptContext) -> list[Question]:
        """Questions of later stages with nothing of the document in them: their instructions are measured."""
        return []

    def growth(self, context: PromptContext) -> int:
        """How many tokens of the document, besides the instruction, later prompts hold more than the first."""
        return 0

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders of templates that it uses, beside `document`; its own first."""
        return tuple(dict.fromkeys(stage.template.partition("/")[0] for stage in self.stages))

    @property
    def has_targets(self) -> bool:
        """Whether all of its questions have gold answers, so that a model can be tuned to them."""
        return all(stage.target is not None for stage in self.stages)
