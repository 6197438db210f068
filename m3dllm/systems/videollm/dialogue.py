"""Conversations about documents, as many in parallel as the engine supports: from documents to answers."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from m3dllm.guidelines import read_guidelines
from m3dllm.normalize import normalize
from m3dllm.systems.videollm import embedded
from m3dllm.systems.videollm.builder import PromptBuilder, View
from m3dllm.systems.videollm.context import PromptContext
from m3dllm.systems.videollm.engines.base import Engine, Reply, Request
from m3dllm.systems.videollm.messages import Message, prompt_sha256, prompt_text
from m3dllm.systems.videollm.options import Options
from m3dllm.systems.videollm.prompts import Prompts, default_version, unused
from m3dllm.systems.videollm.repetition import REPETITION, collapsed
from m3dllm.systems.videollm.strategies import find_strategy
from m3dllm.systems.videollm.strategies.base import Conversation, Question, Strategy
from m3dllm.systems.videollm.tally import Tally
from m3dllm.systems.videollm.windows import merge
from m3dllm.types import BoxForm, Document, Failure, Issue, RawOutput, Turn

log = logging.getLogger("m3dllm")

AHEAD = 4
"""The number of documents whose frames are read ahead."""

REPEATED = frozenset({"empty_answer", "empty_document", "bad_geometry", "box_outside"})
"""Issues of a window that do not concern the document, or recur in the merged answer."""


class Dialogue:
    """Conversations about documents with one engine, and with others for some roles.

    `tally` is their cost so far.
    """

    def __init__(self, builder: PromptBuilder, roles: Mapping[str, PromptBuilder] | None = None) -> None:
        """`roles`: the prompt builders for other models than the main one."""
        self.builder = builder
        self.roles = dict(roles or {})
        self.engine: Engine = builder.engine
        self.tally = Tally()
        self._engine_of: dict[int, Engine] = {}
        """request key -> the engine that is working on it."""
        self._sent: dict[str, str] = {}

    def take_prompts(self) -> dict[str, str]:
        """The prompts that were sent since the last call: sha256 to text, see `messages.prompt_text`."""
        sent, self._sent = self._sent, {}
        return sent

    def predict(self, documents: Iterable[Document]) -> Iterator[RawOutput]:
        """One answer per document, in order; a failed document has an error, and the others go on."""
        engine, started, answered = self.engine, time.perf_counter(), 0
        try:
            for raw in self._answers(documents):
                answered += 1
                yield raw
        finally:
            wall_s = time.perf_counter() - started
            self.tally.end_pass(answered, wall_s, memory_mb=engine.memory_mb)
            if answered:
                log.info(
                    "%s", ", ".join(filter(None, (str(self.tally), self.builder.strategy.sums_up(self.tally.stages))))
                )

    def _answers(self, documents: Iterable[Document]) -> Iterator[RawOutput]:
        waiting = self._read_ahead(documents)
        order: deque[_Session] = deque()
        in_flight: dict[int, _Session] = {}
        numbers = iter(range(1 << 62))
        exhausted = False
        while True:
            while (
                not exhausted
                and len({id(s) for s in in_flight.values()}) < self.engine.max_concurrency > len(order) // 4
            ):
                document = next(waiting, None)
                if document is None:
                    exhausted = True
                    break
                session = _Session(document, time.perf_counter(), self.builder.strategy)
                order.append(session)
                self._begin(session)
                self._submit(session, in_flight, numbers)
            while order and order[0].raw is not None:
                raw = order.popleft().raw
                if raw is not None:
                    yield raw
            if in_flight:
                for key, reply in self._poll():
                    session = in_flight.pop(key)
                    session.receive(key, reply)
                    self.tally.add(reply)
                    if session.is_answered:
                        self._go_on(session)
                        self._submit(session, in_flight, numbers)
            elif exhausted and not order:
                return

    def _read_ahead(self, documents: Iterable[Document]) -> Iterator[Document]:
        """The documents, with the frames of the next AHEAD being read."""
        near: deque[Document] = deque()
        for document in documents:
            self.builder.read_ahead(document)
            near.append(document)
            if len(near) > AHEAD:
                yield near.popleft()
        yield from near

    def _poll(self) -> list[tuple[int, Reply]]:
        """At least one reply."""
        ready = []
        for engine in {id(engine): engine for engine in self._engine_of.values()}.values():
            ready += engine.poll()
        for key, _ in ready:
            del self._engine_of[key]
        return ready

    # --- one document -------------------------------------------------------------------------------------------------

    def _begin(self, session: _Session) -> None:
        """Build the contexts, and ask the first questions."""
        try:
            session.views = self.builder.of(session.document)
            for view in session.views:
                view.context.roles.update({role: other.beside(view.context) for role, other in self.roles.items()})
        except ValueError as error:
            session.raw = RawOutput(session.document.id, given=session.given, error=Failure(str(error)), frames=())
            return
        session.conversation = converse(session.document, session.views, self.builder.strategy)
        self._go_on(session)

    def _go_on(self, session: _Session) -> None:
        """Send the replies to the conversation; its next questions go into `session.questions`, or it is done."""
        if session.conversation is None:
            return
        failure = next((reply.failure for reply in session.replies if reply.failure is not None), None)
        payload = None
        try:
            if failure is None:
                session.ask(session.conversation.send(session.replies or None))  # type: ignore[arg-type]
                return
        except StopIteration as end:
            payload = end.value
        session.conversation.close()
        for builder in (self.builder, *self.roles.values()):
            builder.engine.release(session.document.id)
        session.finish(payload, failure)

    def _submit(self, session: _Session, in_flight: dict[int, _Session], numbers: Iterator[int]) -> None:
        """Submit the session's questions to the engine."""
        for question in session.questions:
            key = next(numbers)
            in_flight[key] = session
            session.keys.append(key)
            session.prompts.append(self._note(session, question.request))
            self.tally.stages[question.stage.name] = self.tally.stages.get(question.stage.name, 0) + 1
            engine = self.roles.get(question.stage.model, self.builder).engine
            engine.submit(key, question.request)
            self._engine_of[key] = engine
        session.questions = session.questions if session.raw is None else []

    def _note(self, session: _Session, request: Request) -> str:
        """Keep a prompt as sent; of a later one about the same view, what it adds to the first."""
        name = prompt_sha256(request.messages)
        first = session.first
        if first is None or first[1][-1].parts[0] is not request.messages[-1].parts[0]:
            session.first, first = (name, request.messages), None
        self._sent.setdefault(name, prompt_text(request.messages, like=first))
        return name


@dataclass(slots=True)
class _Session:
    """The state of one document's conversation."""

    document: Document
    started: float
    strategy: Strategy
    views: list[View] = field(default_factory=list)
    conversation: Conversation | None = None
    questions: list[Question] = field(default_factory=list)
    keys: list[int] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)
    first: tuple[str, tuple[Message, ...]] | None = None
    """(hash, first prompt) of the current view."""
    received: dict[int, Reply] = field(default_factory=dict)
    replies: list[Reply] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)
    """Issues that the engine noted for the requests."""
    raw: RawOutput | None = None

    @property
    def given(self) -> Any:
        return self.document.given.kind if self.document.given else None

    @property
    def is_answered(self) -> bool:
        """Whether all questions have replies."""
        return len(self.received) == len(self.keys)

    def ask(self, questions: list[Question]) -> None:
        self.questions, self.keys, self.prompts = questions, [], []
        self.received, self.replies = {}, []

    def receive(self, key: int, reply: Reply) -> None:
        """Take a reply; after the last, all are in `replies` and in the turns, in the order of the questions."""
        self.received[key] = reply
        if not self.is_answered:
            return
        answers = [self.received[k] for k in self.keys]
        self.replies = [_read_once(reply) for reply in answers]
        for question, prompt, reply, read in zip(self.questions, self.prompts, answers, self.replies, strict=True):
            self.issues += [replace(issue, where=f"turns[{len(self.turns)}].{issue.where}") for issue in read.issues]
            self.turns.append(
                Turn(
                    stage=question.stage.name,
                    prompt_sha256=prompt,
                    text=reply.text,
                    finish=reply.finish,
                    tokens_in=reply.tokens_in,
                    tokens_vision=reply.tokens_vision,
                    tokens_reused=reply.tokens_reused,
                    tokens_out=reply.tokens_out,
                    seconds=reply.seconds,
                    first_token_s=reply.first_token_s,
                    grammar_s=reply.grammar_s,
                    tokens_thinking=reply.tokens_thinking,
                    thinking_s=reply.thinking_s,
                    retries=reply.retries,
                    reasoning=reply.reasoning,
                    refusal=reply.refusal,
                )
            )
        self.questions = []

    def finish(self, payload: Any, failure: Failure | None) -> None:
        """Make the answer."""
        contexts = [view.context for view in self.views]
        self.raw = RawOutput(
            document=self.document.id,
            given=self.given,
            payload=None if failure else payload,
            turns=tuple(self.turns),
            boxes=form(self.views, self.strategy),
            seconds=time.perf_counter() - self.started,
            tokens_in=sum(turn.tokens_in or 0 for turn in self.turns),
            tokens_out=sum(turn.tokens_out or 0 for turn in self.turns),
            error=failure,
            frames=tuple(sorted(frame for context in contexts for frame in context.frames)),
            issues=(*self.issues, *(issue for context in contexts for issue in context.issues)),
        )
        self.views, self.conversation = [], None


def _read_once(reply: Reply) -> Reply:
    """The reply as it is read: text repeated three times in a row is kept once, with an Issue."""
    text, count = collapsed(reply.text)
    if not count and reply.finish != REPETITION:
        return reply
    ended = ", and it was ended there" if reply.finish == REPETITION else ""
    noted = Issue(REPETITION, "text", f"the answer repeats the same elements three times in a row{ended}")
    return replace(reply, text=text, issues=(*reply.issues, noted))


# --- a document whole, or in windows --------------------------------------------------------------------------------


def converse(document: Document, views: Sequence[View], strategy: Strategy | None = None) -> Conversation:
    """The conversation about a document: the strategy's, or one for each window with merged answers."""
    first = views[0].context
    strategy = strategy or find_strategy(first.options.strategy)
    if len(views) == 1:
        return (yield from _begun(strategy, first))
    payloads, readings, unread = [], [], []
    for i, view in enumerate(views):
        context = view.context
        finishes: set[str] = set()
        payload = yield from _watched(_begun(strategy, context), finishes)
        raw = RawOutput(context.document.id, payload=payload, boxes=form([view], strategy))
        found = normalize(context.document, raw, context.labels)
        payloads.append(payload)
        readings.append((view.window, found.annotation))
        unread.append(any(issue.code in ("not_json", "no_answer") for issue in found.issues))
        passed_over = REPEATED | ({"truncated"} if {"length", REPETITION} & finishes else set())
        context.issues += [issue for issue in found.issues if issue.code not in passed_over]
        context.issues[:] = [_placed(issue, i) for issue in context.issues]
    if all(unread):  # then there is nothing to merge; each answer has an Issue
        return payloads[0]
    return merge(readings, known=document.given.chains if document.given else ())


def form(views: Sequence[View], strategy: Strategy) -> BoxForm | None:
    """The box form of an answer; that of merged windows is fractions."""
    if len(views) > 1 or strategy.fractions:
        return None
    shown = views[0].context.visible
    return shown.convention.form(shown.sizes)


def _begun(strategy: Strategy, context: PromptContext) -> Conversation:
    """The strategy's conversation; with a single model, its first questions are those made for counting."""
    begun, context.begun = context.begun, None
    if begun is None or context.roles:
        return (yield from strategy.run(context))
    conversation, questions = begun
    try:
        while True:
            questions = conversation.send((yield questions))
    except StopIteration as end:
        return end.value
    finally:
        conversation.close()


def _watched(conversation: Conversation, finishes: set[str]) -> Generator[list[Question], list[Reply], Any]:
    """The conversation; the finish reasons of its replies are added to `finishes`."""
    try:
        questions = next(conversation)
        while True:
            replies = yield questions
            finishes.update(reply.finish for reply in replies)
            questions = conversation.send(replies)
    except StopIteration as end:
        return end.value
    finally:
        conversation.close()


def _placed(issue: Issue, window: int) -> Issue:
    """An Issue of a window as one of the document."""
    return (
        issue
        if issue.code == "windows" or issue.where.startswith("windows[")
        else replace(issue, where=f"windows[{window}].{issue.where}")
    )


def prompts_of(options: Options, *, embedded_model: bool) -> Prompts:
    """The prompts for these options; the embedded model has its own. Raises UserError."""
    strategy = find_strategy(options.strategy)
    base = [folder for folder in (embedded.PROMPTS if embedded_model else None, strategy.templates) if folder]
    own = [Path(options.prompts)] if options.prompts else []
    folders = [*own, *base]
    version = options.prompt_version or default_version(options, embedded_model=embedded_model)
    compact = options.prompt_form == "compact"
    shown = read_guidelines(Path(options.guidelines)) if options.guidelines and version > 1 and not compact else {}
    prompts = Prompts(*folders, version=version, guidelines=shown, compact=compact)
    prompts.check("document", *strategy.folders)
    for folder in own:
        for file in unused(folder, *base):
            log.warning("--prompts: no strategy uses %s/%s: see 'm3dllm prompts copy' for the names", folder, file)
    return prompts
