"""What a strategy is: stages, each of them everything about one question, and the order in which they are asked.

A strategy is a conversation about one document, written as a generator: it yields questions and is sent the replies to
them, and returns the payload. Many conversations go on at once; none knows of another. A strategy of another package
is a class with `name`, `stages` and `run`, named by an entry point; its templates may lie in its own package.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from m3dllm.labels import LabelSet
from m3dllm.systems.videollm.context import PromptContext, Shot
from m3dllm.systems.videollm.engines.base import Constraint, Reply, Request
from m3dllm.systems.videollm.gold import Gold
from m3dllm.systems.videollm.messages import Message
from m3dllm.systems.videollm.prompts import show_document
from m3dllm.systems.videollm.visible import VisibleFrames
from m3dllm.systems.videollm.worked import LABELS, WORKED
from m3dllm.types import Task

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
    is_worked: bool = False
    """Whether its form is shown on a worked example where no few-shot example shows it."""
    model: str = "main"
    """Which model is asked: "main", or a role such as "entailment" or "grounding"."""

    @property
    def name(self) -> str:
        return self.template.rpartition("/")[2]

    def ask(self, context: PromptContext, about: About = (), **values: Any) -> Question:
        """The question about what `context` shows. `values` come before the stage's own."""
        context = context.of(self.model)
        constraint = None if context.options.unconstrained else self.constraint(context, about)
        return self._question(context, about, values, constraint)

    def blank(self, context: PromptContext, **values: Any) -> Question:
        """The question with nothing listed and the answer free: by it the length of the instruction is measured."""
        return self._question(context.of(self.model), (), values, None)

    def _question(
        self, context: PromptContext, about: About, values: Mapping[str, Any], constraint: Constraint | None
    ) -> Question:
        inline, turns = self.shots(context), self.turns(context)
        filled = {**self.values(context, about), **values}
        text = context.render(self.template, shots=inline, **filled)
        return Question(self, context.request(text, constraint, turns), about)

    def put(self, context: PromptContext, about: About = ()) -> Generator[list[Question], list[Reply], Any]:
        """Ask this one question, and give what the answer says."""
        (reply,) = yield [self.ask(context, about)]
        return self.parse(context.of(self.model), reply, about)

    def turns(self, context: PromptContext) -> list[Message]:
        """The few-shot examples as turns of the conversation: question and gold answer; none before version 2.

        Where there is none, a stage that `is_worked` shows the worked example.
        """
        if not context.prompts.has_turns or self.target is None:
            return []
        shots = self._shots(context)
        if not shots and self.is_worked and context.is_worked and not context.prompts.compact:
            shots = [_worked(context)]
        return [message for shot in shots for message in self._turn(shot)]

    def _turn(self, shot: Shot) -> Iterator[Message]:
        about, _, answer = self._gold(shot)
        values = self.values(shot.context, about)
        yield shot.context.user_turn(shot.context.render(self.template, shots=[], **values))
        yield Message("assistant", (answer,))

    def shots(self, context: PromptContext) -> list[dict[str, str]]:
        """The few-shot examples as the templates of version 1 want them, without frames."""
        if context.prompts.has_turns or self.target is None:
            return []
        found = []
        for shot in self._shots(context):
            _, question, answer = self._gold(shot)
            text = context.say(shot.example.document.text)
            found.append({"text": text, "question": question, "answer": answer})
        return found

    def _shots(self, context: PromptContext) -> list[Shot]:
        """The examples of which the gold answer is known. What is asked of frames alone has those that show some."""
        known = [shot for shot in context.examples if self.tasks <= shot.example.annotated]
        return [shot for shot in known if shot.context.visible.sizes] if self.tasks <= {"grounding"} else known

    def _gold(self, shot: Shot) -> tuple[About, str, str]:
        """(what its question lists, the list as text, its gold answer)."""
        gold = Gold(shot.context, shot.example.gold)
        about, question = self.listed(gold)
        return about, question, shot.context.say("" if self.target is None else self.target(gold, about))


def _worked(context: PromptContext) -> Shot:
    """The worked example as it is shown beside the document of `context`."""
    example = WORKED[context.lang]
    alone = replace(
        context,
        document=example.document,
        labels=LABELS,
        visible=VisibleFrames(convention=context.visible.convention),
        frames=(),
        examples=(),
        roles={},
        issues=[],
    )
    document = show_document(context.prompts, example.document, (), fps=context.options.fps)
    return Shot(replace(alone, view=(alone.render("document/worked") + "\n\n", *document)), example)


@dataclass(frozen=True, slots=True)
class Question:
    """A request, the stage that asks it, and the mentions or the chains that it lists by name."""

    stage: Stage
    request: Request
    about: About = ()


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
    is_framewise: ClassVar[bool] = False
    """Whether regions are asked for a frame at a time, which is then all that is shown of the frames."""
    example_tasks: ClassVar[frozenset[Task]] = frozenset()
    """What must be annotated in a train document for it to be an example at all."""
    checks: ClassVar[bool] = False
    """Whether it is about what another system proposes (`Document.proposed`): it asks for nothing else."""
    fractions: ClassVar[bool] = False
    """Whether the boxes of its payload are fractions in xyxy order, whatever numbers the model writes."""
    has_schema: ClassVar[bool] = True
    """Whether a JSON schema can hold its answers."""
    wants: ClassVar[frozenset[str]] = frozenset()
    """What an engine must support for it to be what it is called (`engines.base.CAPABILITIES`): where one does not, a
    note says so."""

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

    def sums_up(self, stages: Mapping[str, int]) -> str:
        """What is worth knowing of how many questions of each stage were asked; "" for nothing."""
        return ""

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders of templates that it uses, beside `document`; its own first."""
        return tuple(dict.fromkeys(stage.template.partition("/")[0] for stage in self.stages))

    @property
    def has_targets(self) -> bool:
        """Whether all of its questions have gold answers, so that a model can be tuned to them."""
        return all(stage.target is not None for stage in self.stages)
