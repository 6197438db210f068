"""The system: documents in, answers out. It keeps as many conversations going as the engine has lanes."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from m3dllm.errors import UserError
from m3dllm.labels import LabelSet
from m3dllm.systems.videollm import embedded
from m3dllm.systems.videollm.adapters.card import tuned
from m3dllm.systems.videollm.config import Config, at_least
from m3dllm.systems.videollm.engines import Engine, Reply, Request, Room, Tally, make_engine
from m3dllm.systems.videollm.engines.unloaded import Unloaded
from m3dllm.systems.videollm.mqa import check_labels
from m3dllm.systems.videollm.prompts import Message, Prompts, prompt_sha256, prompt_text
from m3dllm.systems.videollm.shots import Shelf
from m3dllm.systems.videollm.strategies import STRATEGIES, TEMPLATES
from m3dllm.systems.videollm.subject import Conversation, Question, Subject
from m3dllm.systems.videollm.views import View, Views, converse, form
from m3dllm.types import Document, Example, Failure, Issue, RawOutput, Turn

log = logging.getLogger("m3dllm")


class VideoLLM:
    """A video LLM that is asked for annotations.

    `provenance` says what was used (model and prompts, with their hashes); `tally` what it has cost so far; and
    `take_prompts` gives the prompts that were sent since it was called last, by hash.
    """

    def __init__(
        self,
        config: Config | None,
        *,
        labels: LabelSet,
        examples: Sequence[Example] = (),
        checkpoint: Path | None = None,
        engine: Engine | None = None,
    ) -> None:
        """`engine`: one that is loaded already; else it is loaded when it is needed. `checkpoint`: what a fit made.

        Raises UserError for options that cannot be, and an adapter that is not there or was tuned for other prompts.
        """
        self.config, self.adapter = tuned(config or Config(), checkpoint)
        self.labels = labels
        check(self.config, labels)
        self.is_embedded = embedded.is_meant(self.config) or bool(self.adapter and not self.adapter.card.base.model)
        folder = self.config.prompts or (embedded.PROMPTS if self.is_embedded else None)
        self.prompts = Prompts(folder and Path(folder), version=self.config.prompt_version)
        self.prompts.check("document", *TEMPLATES[self.config.strategy])
        if self.adapter is not None:
            self.adapter.check_use(self.config, labels, self.prompts)
        self.shelf = Shelf(examples, self.config)
        if engine is not None:
            self.engine = engine
        self.room: Room | None = None
        self.tally = Tally()
        self._sent: dict[str, str] = {}

    @cached_property
    def engine(self) -> Engine:
        """What generates, with its model loaded. Raises UserError for a model that is not there."""
        return make_engine(self.config, self.room)

    def expect(self, documents: Iterable[Document]) -> None:
        """Measure what these documents, all that will be asked about, need at most: vLLM makes room for no more.

        No weights are loaded for it. Raises UserError for a model that is not there.
        """
        if self.config.engine == "vllm" and "engine" not in vars(self):
            unloaded = Unloaded(self.config)
            self.room = Views(self.config, self.labels, unloaded, self.prompts, self.shelf).room(documents)

    @cached_property
    def views(self) -> Views:
        """How documents are shown to the engine."""
        return Views(self.config, self.labels, self.engine, self.prompts, self.shelf)

    def fit(self, train: Sequence[Example], dev: Sequence[Example], out: Path) -> None:
        """Tune the model to the answers of `train`, choose the epoch by `dev`, and write what was learned into `out`.

        Raises UserError, see `tuning.trainer.fit`.
        """
        try:
            from m3dllm.systems.videollm.tuning.trainer import fit
        except ImportError as error:
            raise UserError(f"a fit lacks one of its parts ({error}): pip install 'm3dllm[llm]'") from error
        fit(self.config, self.labels, train, dev, out)

    def fitted(self, out: Path) -> None:
        """Keep what the finished fit in `out` learned under the name that is asked for. Raises UserError."""
        if self.config.save_as:
            from m3dllm.systems.videollm.tuning.saving import keep_as

            keep_as(self.config, out)

    @property
    def notes(self) -> tuple[str, ...]:
        """What whoever reads the scores must know."""
        tuned_as = (self.adapter.note,) if self.adapter is not None else ()
        served = tuple(getattr(vars(self).get("engine"), "notes", ()))
        return ((embedded.NOTE,) if self.is_embedded else ()) + tuned_as + served

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What the answers were made with."""
        held = "none" if self.config.unconstrained else "schema" if self.config.schema_only else "grammar"
        return {
            "constraint": held,
            **self.engine.provenance,
            "box_convention": self.views.convention.name,
            "prompts": self.prompts.hashes(*TEMPLATES[self.config.strategy]),
        }

    def take_prompts(self) -> dict[str, str]:
        """The prompts that were sent since the last call: sha256 to text, see `prompt.prompt_text`."""
        sent, self._sent = self._sent, {}
        return sent

    def predict(self, documents: Iterable[Document]) -> Iterator[RawOutput]:
        """One answer a document, in order; a document that fails says so, and the others go on."""
        engine, started, answered = self.engine, time.perf_counter(), 0
        try:
            for raw in self._answers(documents):
                answered += 1
                yield raw
        finally:
            wall_s = time.perf_counter() - started
            self.tally.end_pass(answered, wall_s, memory_mb=engine.memory_mb, processes=self.config.workers)
            if answered:
                log.info("%s", self.tally)

    def _answers(self, documents: Iterable[Document]) -> Iterator[RawOutput]:
        waiting = iter(documents)
        order: deque[_Session] = deque()
        asked: dict[int, _Session] = {}
        numbers = iter(range(1 << 62))
        exhausted = False
        while True:
            while not exhausted and len({id(s) for s in asked.values()}) < self.engine.lanes > len(order) // 4:
                document = next(waiting, None)
                if document is None:
                    exhausted = True
                    break
                session = _Session(document, time.perf_counter())
                order.append(session)
                self._begin(session)
                self._submit(session, asked, numbers)
            while order and order[0].raw is not None:
                raw = order.popleft().raw
                if raw is not None:
                    yield raw
            if asked:
                for key, reply in self.engine.poll():
                    session = asked.pop(key)
                    session.receive(key, reply)
                    self.tally.add(reply)
                    if session.is_answered:
                        self._go_on(session)
                        self._submit(session, asked, numbers)
            elif exhausted and not order:
                return

    # --- one document -------------------------------------------------------------------------------------------------

    def _begin(self, session: _Session) -> None:
        """Show the document and ask the first questions."""
        try:
            session.views = self.views.of(session.document)
        except ValueError as error:
            session.raw = RawOutput(session.document.id, given=session.given, error=Failure(str(error)), frames=())
            return
        session.conversation = converse(session.document, session.views)
        self._go_on(session)

    def show(self, document: Document) -> Subject:
        """The document as a whole, as it is shown. Raises ValueError for a frame that cannot be read, or a context too
        small."""
        return self.views.show(document)

    def needed(self, subject: Subject) -> int:
        """The tokens that a question about a document may need at most, with its answer."""
        return self.views.needed(subject)

    def _go_on(self, session: _Session) -> None:
        """Give the replies to the conversation; its next questions stand in `session.questions`, or it is done."""
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
        self.engine.release(session.document.id)
        session.finish(payload, failure)

    def _submit(self, session: _Session, asked: dict[int, _Session], numbers: Iterator[int]) -> None:
        """Hand the session's questions to the engine."""
        for question in session.questions:
            key = next(numbers)
            asked[key] = session
            session.keys.append(key)
            session.prompts.append(self._note(session, question.request))
            self.engine.submit(key, question.request)
        session.questions = session.questions if session.raw is None else []

    def _note(self, session: _Session, request: Request) -> str:
        """Keep a prompt as it is sent; of a later one of the same view, what it adds to the first."""
        name = prompt_sha256(request.messages)
        first = session.first
        if first is None or first[1][-1].parts[0] is not request.messages[-1].parts[0]:
            session.first, first = (name, request.messages), None
        self._sent.setdefault(name, prompt_text(request.messages, like=first))
        return name


@dataclass(slots=True)
class _Session:
    """A document while it is asked about."""

    document: Document
    started: float
    views: list[View] = field(default_factory=list)
    conversation: Conversation | None = None
    questions: list[Question] = field(default_factory=list)
    keys: list[int] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)
    first: tuple[str, tuple[Message, ...]] | None = None
    """The first prompt of the view that is asked about, and its hash."""
    received: dict[int, Reply] = field(default_factory=dict)
    replies: list[Reply] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)
    """What the engine noted of the requests."""
    raw: RawOutput | None = None

    @property
    def given(self) -> Any:
        return self.document.given.kind if self.document.given else None

    @property
    def is_answered(self) -> bool:
        """Whether all questions have their replies."""
        return len(self.received) == len(self.keys)

    def ask(self, questions: list[Question]) -> None:
        self.questions, self.keys, self.prompts = questions, [], []
        self.received, self.replies = {}, []

    def receive(self, key: int, reply: Reply) -> None:
        """Take a reply; when it is the last, all stand in `replies` and among the turns, in the questions' order."""
        self.received[key] = reply
        if not self.is_answered:
            return
        self.replies = [self.received[k] for k in self.keys]
        for question, prompt, said in zip(self.questions, self.prompts, self.replies, strict=True):
            self.issues += [replace(issue, where=f"turns[{len(self.turns)}].{issue.where}") for issue in said.issues]
            self.turns.append(
                Turn(
                    stage=question.stage,
                    prompt_sha256=prompt,
                    text=said.text,
                    finish=said.finish,
                    tokens_in=said.tokens_in,
                    tokens_vision=said.tokens_vision,
                    tokens_reused=said.tokens_reused,
                    tokens_out=said.tokens_out,
                    seconds=said.seconds,
                    first_token_s=said.first_token_s,
                    grammar_s=said.grammar_s,
                    retries=said.retries,
                    reasoning=said.reasoning,
                    refusal=said.refusal,
                )
            )
        self.questions = []

    def finish(self, payload: Any, failure: Failure | None) -> None:
        """Make the answer."""
        subjects = [view.subject for view in self.views]
        self.raw = RawOutput(
            document=self.document.id,
            given=self.given,
            payload=None if failure else payload,
            turns=tuple(self.turns),
            boxes=form(self.views),
            seconds=time.perf_counter() - self.started,
            tokens_in=sum(turn.tokens_in or 0 for turn in self.turns),
            tokens_out=sum(turn.tokens_out or 0 for turn in self.turns),
            error=failure,
            frames=tuple(sorted(frame for subject in subjects for frame in subject.frames)),
            issues=(*self.issues, *(issue for subject in subjects for issue in subject.issues)),
        )
        self.views, self.conversation = [], None


def check(config: Config, labels: LabelSet) -> None:
    """Raises UserError for options that cannot be, before a model is loaded."""
    if config.strategy not in STRATEGIES:
        raise UserError(f"--strategy {config.strategy}: expected {', '.join(STRATEGIES)}")
    if config.unconstrained and config.schema_only:
        raise UserError("--unconstrained and --schema-only exclude each other: give one of them")
    if config.workers > 1 and config.engine == "openai":
        raise UserError("--workers: a server has its own; leave it out, and raise --batch to ask more at once")
    if config.tensor_parallel > 1 and config.engine != "vllm":
        raise UserError("--tensor-parallel: only --engine vllm spreads a model over GPUs")
    at_least(
        config,
        max_tokens=16,
        max_chains=1,
        max_mentions=1,
        max_mention_characters=2,
        longest_side=28,
        tensor_parallel=1,
        workers=1,
    )
    if config.timeout <= 0:
        raise UserError(f"--timeout {config.timeout}: expected more than 0 seconds")
    for name in ("frames", "max_relations", "max_regions", "temperature", "fps", "retries", "shots"):
        if getattr(config, name) < 0:
            raise UserError(f"--{name.replace('_', '-')} {getattr(config, name)}: expected 0 or more")
    if not labels.mentions and not labels.regions:
        raise UserError("the label set has no types of mentions or regions: there is nothing to ask for")
    if config.strategy == "mqa":
        check_labels(labels)
