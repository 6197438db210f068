"""The interface of strategies: stages, each defining one question, and the order of the questions.

A strategy is a conversation about one document, written as a generator: it yields questions, is sent their replies, and
returns the payload. Many independent conversations run in parallel. A strategy of another package is a class with
`name`, `stages` and `run`, named by an entry point; its templates may lie in its own package.
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
"""The mentions or chains that a question lists by name; () if it lists none."""


def _no_values(context: PromptContext, about: About) -> Mapping[str, Any]:
    return {}


def _nothing(gold: Gold) -> tuple[About, str]:
    return (), ""


def _text(context: PromptContext, reply: Reply, about: About) -> Any:
    return reply.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Everything about one question: its template, the constraint of the answer, the gold answer, and its parser."""

    template: str
    """ "<folder>/<stage>": see `prompts`."""
    constraint: Callable[[PromptContext, About], Constraint]
    values: Callable[[PromptContext, About], Mapping[str, Any]] = _no_values
    """The values of the template, besides the common ones (`PromptContext.render`)."""
    target: Callable[[Gold, About], str] | None = None
    """The gold answer, for few-shot examples and tuning. None: the question has none."""
    listed: Callable[[Gold], tuple[About, str]] = _nothing
    """(the mentions or chains that the question about an example with this gold lists, the list as text)."""
    parse: Callable[[PromptContext, Reply, About], Any] = _text
    """Parses an answer; problems become Issues of the context."""
    tasks: frozenset[Task] = frozenset()
    """The tasks that must be annotated for a gold answer."""
    is_worked: bool = False
    """Whether a worked example shows its format if there is no few-shot example."""
    model: str = "main"
    """The model that gets the question: "main", or a role such as "entailment" or "grounding"."""

    @property
    def name(self) -> str:
        return self.template.rpartition("/")[2]

    def ask(self, context: PromptContext, about: About = (), **values: Any) -> Question:
        """The question about `context`. `values` override the stage's own."""
        context = context.of(self.model)
        constraint = None if context.options.unconstrained else self.constraint(context, about)
        return self._question(context, about, values, constraint)

    def blank(self, context: PromptContext, **values: Any) -> Question:
        """The question without a list and without a constraint, to measure the length of the instruction."""
        return self._question(context.of(self.model), (), values, None)

    def _question(
        self, context: PromptContext, about: About, values: Mapping[str, Any], constraint: Constraint | None
    ) -> Question:
        inline, turns = self.shots(context), self.turns(context)
        filled = {**self.values(context, about), **values}
        text = context.render(self.template, shots=inline, **filled)
        return Question(self, context.request(text, constraint, turns), about)

    def put(self, context: PromptContext, about: About = ()) -> Generator[list[Question], list[Reply], Any]:
        """Ask this one question; returns the parsed answer."""
        (reply,) = yield [self.ask(context, about)]
        return self.parse(context.of(self.model), reply, about)

    def turns(self, context: PromptContext) -> list[Message]:
        """The few-shot examples as turns of the conversation: question and gold answer; none before version 2.

        Without few-shot examples, a stage that `is_worked` has the worked example.
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
        """The few-shot examples for templates of version 1, without frames."""
        if context.prompts.has_turns or self.target is None:
            return []
        found = []
        for shot in self._shots(context):
            _, question, answer = self._gold(shot)
            text = context.say(shot.example.document.text)
            found.append({"text": text, "question": question, "answer": answer})
        return found

    def _shots(self, context: PromptContext) -> list[Shot]:
        """The examples with a gold answer; for a question about frames only, those with frames."""
        known = [shot for shot in context.examples if self.tasks <= shot.example.annotated]
        return [shot for shot in known if shot.context.visible.sizes] if self.tasks <= {"grounding"} else known

    def _gold(self, shot: Shot) -> tuple[About, str, str]:
        """(the listed mentions or chains, the list as text, the gold answer)."""
        gold = Gold(shot.context, shot.example.gold)
        about, question = self.listed(gold)
        return about, question, shot.context.say("" if self.target is None else self.target(gold, about))


def _worked(context: PromptContext) -> Shot:
    """The worked example, rendered for `context`."""
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
    """A request, its stage, and the mentions or chains that it lists by name."""

    stage: Stage
    request: Request
    about: About = ()


Conversation = Generator[list[Question], list[Reply], Any]


class Strategy(ABC):
    """A way of prompting about a document."""

    name: ClassVar[str]
    stages: ClassVar[tuple[Stage, ...]]
    """All its stages; the folder of the first one's template holds its prompts."""
    system: ClassVar[str] = "document/system"
    """The template of the system message."""
    templates: ClassVar[Path | None] = None
    """A folder with its templates, in the layout of prompts/; None: those of this package."""
    is_framewise: ClassVar[bool] = False
    """Whether regions have one question per frame, with only that frame."""
    example_tasks: ClassVar[frozenset[Task]] = frozenset()
    """The tasks that must be annotated in a train document for it to be an example."""
    lists_types: ClassVar[bool] = False
    """Whether an answer lists the texts of each mention type, at most `max_mentions` of them."""
    checks: ClassVar[bool] = False
    """Whether it only checks the proposals of another system (`Document.proposed`)."""
    fractions: ClassVar[bool] = False
    """Whether the boxes of its payload are fractions in xyxy order, whatever the model's convention."""
    has_schema: ClassVar[bool] = True
    """Whether a JSON schema can constrain its answers."""
    wants: ClassVar[frozenset[str]] = frozenset()
    """The capabilities of an engine that it relies on (`engines.base.CAPABILITIES`); a note tells if one is missing."""

    @abstractmethod
    def run(self, context: PromptContext) -> Conversation:
        """The conversation about a document; it returns the payload."""

    def check(self, labels: LabelSet) -> None:  # noqa: B027  any label set will do
        """Raises UserError for a label set that it does not support."""

    def later(self, context: PromptContext) -> list[Question]:
        """Questions of later stages without the document, to measure their instructions."""
        return []

    def growth(self, context: PromptContext) -> int:
        """How many more tokens about the document, besides the instruction, later prompts have than the first."""
        return 0

    def sums_up(self, stages: Mapping[str, int]) -> str:
        """A note on the number of questions of each stage; "" for none."""
        return ""

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders of templates that it uses, besides `document`; its own first."""
        return tuple(dict.fromkeys(stage.template.partition("/")[0] for stage in self.stages))

    @property
    def has_targets(self) -> bool:
        """Whether all of its questions have gold answers, so that a model can be tuned to them."""
        return all(stage.target is not None for stage in self.stages)
