"""The system: documents in, answers out. It keeps as many conversations going as the engine has lanes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from m3dllm.errors import UserError
from m3dllm.files import sha256_file
from m3dllm.labels import LabelSet
from m3dllm.systems.videollm.config import Config
from m3dllm.systems.videollm.engines import Engine, Reply, Request, Tally, make_engine
from m3dllm.systems.videollm.families import find_convention
from m3dllm.systems.videollm.frames import choose_frames, load_image
from m3dllm.systems.videollm.prompt import Prompts, Still, prompt_sha256, prompt_text, show_document
from m3dllm.systems.videollm.shots import Shelf, shot
from m3dllm.systems.videollm.shown import Shown
from m3dllm.systems.videollm.strategies import STRATEGIES, Conversation, Question, Subject
from m3dllm.types import Document, Example, Failure, Frame, Issue, RawOutput, Turn


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
        """`engine`: one that is loaded already. Raises UserError for options that cannot be, or a model that is not."""
        self.config = config or Config()
        self.labels = labels
        check(self.config, labels)
        self.prompts = Prompts(
            Path(self.config.prompts) if self.config.prompts else None, version=self.config.prompt_version
        )
        self.shelf = Shelf(examples, self.config)
        self.engine = engine or make_engine(self.config)
        self.convention = find_convention(self.engine.family, self.config.box_convention)
        self.tally = Tally()
        self._sent: dict[str, str] = {}

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What the answers were made with."""
        held = "none" if self.config.unconstrained else "schema" if self.config.schema_only else "grammar"
        return {
            **self.engine.provenance,
            "box_convention": self.convention.name,
            "constraint": held,
            "prompts": self.prompts.hashes(self.config.strategy, "staged"),
        }

    def take_prompts(self) -> dict[str, str]:
        """The prompts that were sent since the last call: sha256 to text."""
        sent, self._sent = self._sent, {}
        return sent

    def predict(self, documents: Iterable[Document]) -> Iterator[RawOutput]:
        """One answer a document, in order; a document that fails says so, and the others go on."""
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
            subject = self.show(session.document)
        except ValueError as error:
            session.raw = RawOutput(session.document.id, given=session.given, error=Failure(str(error)))
            return
        session.subject = subject
        session.conversation = STRATEGIES[self.config.strategy](subject)
        self._go_on(session)

    def show(self, document: Document) -> Subject:
        """The document as it is shown. Raises ValueError for a frame that cannot be read, or a context too small."""
        frames = choose_frames(document, self.config.frames, how=self.config.frame_choice, fps=self.config.fps or 24.0)
        pictures = [(frame, load_image(frame, longest_side=self.config.longest_side)) for frame in frames]
        if self.config.video:  # its frames must be of one size
            pictures = [(frame, image.resize(pictures[0][1].size)) for frame, image in pictures]
        examples = self.shelf.choose(document)
        while True:
            subject = self._subject(document, pictures, examples)
            needed = self.needed(subject)
            if needed <= self.engine.context:
                wanted = self.config.shots
                if len(examples) < wanted:
                    subject.issues.append(Issue("shortened", "prompt", f"{len(examples)} of {wanted} shots are shown"))
                if len(pictures) < len(frames):
                    detail = f"{len(pictures)} of {len(frames)} frames are shown"
                    subject.issues.append(Issue("shortened", "prompt", detail))
                return subject
            if examples:
                examples = examples[1:]
                continue
            if len(pictures) <= 1:
                what = "one frame" if pictures else "its text"
                raise ValueError(
                    f"the context of {self.engine.context} tokens is too small: the document with {what} and an answer"
                    f" of {self.config.max_tokens} needs {needed}: raise --context, or lower --max-tokens"
                )
            fewer = len(pictures) // 2
            pictures = [pictures[(2 * i + 1) * len(pictures) // (2 * fewer)] for i in range(fewer)]

    def needed(self, subject: Subject) -> int:
        """The tokens that the first question about a document needs, with its answer."""
        conversation = STRATEGIES[self.config.strategy](subject)
        try:
            first = next(conversation)
        except StopIteration:
            return 0
        finally:
            conversation.close()
        # Later stages show the text again, with its mentions marked, and the chains.
        again = 0
        if self.config.strategy == "staged" and not subject.document.given:
            shown = sum(len(one["text"].encode("utf-8", "replace")) // 3 for one in subject.shots("entities"))
            again = 3 * self._text_tokens(subject) + 2 * shown
        return (
            max(self.engine.count(question.request.messages).tokens for question in first)
            + again
            + self.config.max_tokens
        )

    def _text_tokens(self, subject: Subject) -> int:
        """About how many tokens the document's text has: one for three bytes."""
        return len(subject.document.text.encode()) // 3

    def _subject(
        self, document: Document, pictures: Sequence[tuple[Frame, Any]], examples: Sequence[Example] = ()
    ) -> Subject:
        sizes = {}
        stills = []
        for frame, image in pictures:
            prepared = self.engine.prepare(image)
            sizes[frame.index] = image.size if self.engine.family.pads else prepared.size
            stills.append(Still(frame.index, prepared, frame.sha256 or sha256_file(Path(frame.path))))
        shown = {} if self.config.video else sizes  # of a video nobody can say where in which frame something is
        view = show_document(
            self.prompts,
            document,
            stills,
            fps=self.config.fps,
            as_video=self.config.video,
            specials=self.engine.specials,
        )
        subject = Subject(
            document=document,
            labels=self.labels,
            config=self.config,
            prompts=self.prompts,
            shown=Shown(shown, self.convention),
            frames=tuple(sizes),
            system=self.prompts.render("document/system", document.lang),
            view=view,
            specials=self.engine.specials,
            share=document.id,
        )
        subject.shots = lambda stage: [
            made for example in examples if (made := shot(stage, example, subject)) is not None
        ]
        return subject

    def _go_on(self, session: _Session) -> None:
        """Give the replies to the conversation; its next questions stand in `session.questions`, or it is done."""
        if session.conversation is None or session.subject is None:
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
        self.engine.release(session.subject.share)
        session.finish(payload, failure, self.convention.form(session.subject.shown.sizes))

    def _submit(self, session: _Session, asked: dict[int, _Session], numbers: Iterator[int]) -> None:
        """Hand the session's questions to the engine."""
        for question in session.questions:
            key = next(numbers)
            asked[key] = session
            session.keys.append(key)
            session.prompts.append(self._note(question.request))
            self.engine.submit(key, question.request)
        session.questions = session.questions if session.raw is None else []

    def _note(self, request: Request) -> str:
        name = prompt_sha256(request.messages)
        self._sent[name] = prompt_text(request.messages)
        return name


@dataclass(slots=True)
class _Session:
    """A document while it is asked about."""

    document: Document
    started: float
    subject: Subject | None = None
    conversation: Conversation | None = None
    questions: list[Question] = field(default_factory=list)
    keys: list[int] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)
    received: dict[int, Reply] = field(default_factory=dict)
    replies: list[Reply] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
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
                )
            )
        self.questions = []

    def finish(self, payload: Any, failure: Failure | None, boxes: Any) -> None:
        """Make the answer."""
        subject = self.subject
        self.raw = RawOutput(
            document=self.document.id,
            given=self.given,
            payload=None if failure else payload,
            turns=tuple(self.turns),
            boxes=boxes,
            seconds=time.perf_counter() - self.started,
            tokens_in=sum(turn.tokens_in or 0 for turn in self.turns),
            tokens_out=sum(turn.tokens_out or 0 for turn in self.turns),
            error=failure,
            frames=subject.frames if subject else None,
            issues=tuple(subject.issues) if subject else (),
        )
        self.subject = self.conversation = None


def check(config: Config, labels: LabelSet) -> None:
    """Raises UserError for options that cannot be, before a model is loaded."""
    if config.strategy not in STRATEGIES:
        raise UserError(f"--strategy {config.strategy}: expected {', '.join(STRATEGIES)}")
    if config.unconstrained and config.schema_only:
        raise UserError("--unconstrained and --schema-only exclude each other: give one of them")
    least = {
        "max_tokens": 16,
        "max_chains": 1,
        "max_mentions": 1,
        "max_mention_characters": 2,
        "longest_side": 28,
        "tensor_parallel": 1,
    }
    for name, value in least.items():
        if getattr(config, name) < value:
            raise UserError(f"--{name.replace('_', '-')} {getattr(config, name)}: expected at least {value}")
    if config.timeout <= 0:
        raise UserError(f"--timeout {config.timeout}: expected more than 0 seconds")
    for name in ("frames", "max_relations", "max_regions", "temperature", "fps", "retries", "shots"):
        if getattr(config, name) < 0:
            raise UserError(f"--{name.replace('_', '-')} {getattr(config, name)}: expected 0 or more")
    if not labels.mentions and not labels.regions:
        raise UserError("the label set has no types of mentions or regions: there is nothing to ask for")
