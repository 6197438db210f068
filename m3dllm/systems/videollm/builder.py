"""Build prompts about a document, whole, shortened, or in windows, so that each prompt fits the context.

A prompt that does not fit is shortened in this order: few-shot examples are dropped one by one, the least similar
first; then every other frame, down to one; then the text is split into overlapping windows, each with the frames of its
time. Text is never dropped. Each step is an Issue of the document.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

from m3dllm.errors import UserError
from m3dllm.files import sha256_file
from m3dllm.labels import LabelSet
from m3dllm.systems.videollm.context import PromptContext, Shot
from m3dllm.systems.videollm.engines.base import ContextBudget, Engine
from m3dllm.systems.videollm.families import find_convention
from m3dllm.systems.videollm.fewshot import FewShotSelector
from m3dllm.systems.videollm.frames import blank, choose_frames, load_image
from m3dllm.systems.videollm.messages import Message, Still
from m3dllm.systems.videollm.options import Options
from m3dllm.systems.videollm.prompts import Prompts, show_document
from m3dllm.systems.videollm.strategies import find_strategy
from m3dllm.systems.videollm.strategies.base import Question, Strategy
from m3dllm.systems.videollm.visible import VisibleFrames
from m3dllm.systems.videollm.windows import OVERLAP, Window, cut
from m3dllm.types import Document, Example, Frame, Issue, Lang

SHORTEST = 40
"""The minimum length of a window, in characters."""
SPARE = 1.25
"""The factor on counted tokens: joined parts are tokenized differently from separate ones,
and later questions are only estimated."""
KNOWN_SHOTS = 32
"""The number of few-shot examples whose rendering is cached."""
READERS = 2
"""The number of threads that read frames ahead."""
LATE = 9_000_000
"""A frame number with the most digits."""

Picture = tuple[Frame, Any]
"""(frame, its image read from the file)."""


class DoesNotFit(ValueError):  # noqa: N818  it says what is the matter
    """The document does not fit into the context."""


@dataclass(frozen=True, slots=True)
class View:
    """The prompt context of a document, or of a window of it."""

    window: Window
    context: PromptContext


class PromptBuilder:
    """Builds the prompt contexts of documents for one engine."""

    def __init__(
        self,
        options: Options,
        labels: LabelSet,
        engine: Engine,
        prompts: Prompts,
        selector: FewShotSelector,
        strategy: Strategy | None = None,
    ) -> None:
        """`strategy`: default, the one in the options. Raises UserError for an unknown box convention."""
        self.options = options
        self.labels = labels
        self.engine = engine
        self.prompts = prompts
        self.selector = selector
        self.strategy = strategy or find_strategy(options.strategy)
        self.convention = find_convention(engine.family, options.box_convention)
        self.most_frames = options.frames if engine.sees else 0
        self._reading: dict[str, Future[Any]] = {}
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="frames")
        self._lengths: dict[str, int] = {}
        self._known_shots: dict[tuple[str, bool], Shot] = {}
        self._least: dict[Lang, int] = {}
        self._seen: dict[tuple[Lang, tuple[tuple[int, int], ...]], int] = {}

    @property
    def grounds(self) -> bool:
        """Whether regions are predicted: the model gets frames, and its box convention is known.

        A video has no frame numbers, so that regions are possible only with a question per frame.
        """
        told_apart = not self.options.video and ("clip" not in self.engine.supports or self.strategy.is_framewise)
        return self.most_frames > 0 and told_apart and self.convention is not None

    def read_ahead(self, document: Document) -> None:
        """Start reading the frames of a document that will be needed soon."""
        for frame in self._chosen(document):
            if frame.path not in self._reading:
                read = self._readers.submit(load_image, frame, longest_side=self.options.longest_side)
                self._reading[frame.path] = read

    def of(self, document: Document) -> list[View]:
        """The contexts of the document: one for all of it, or one per window.

        Raises ValueError for a frame that cannot be read, or a context too small for any window, and UserError if it is
        too small for the question alone.
        """
        try:
            return [View(Window(0, document), self.show(document))]
        except DoesNotFit as error:
            self._check_budget(document)
            views = self._in_windows(document)
            if views is None:
                raise
            if not views:
                raise DoesNotFit(f"{error}; its text cannot be cut any smaller") from error
            return views

    def show(self, document: Document) -> PromptContext:
        """The context of the whole document. Raises ValueError for an unreadable frame, or a context too small."""
        pictures = self._pictures(self._chosen(document))
        context, shots = self._fit(document, pictures, self._shots(document))
        if shots < self.options.shots:
            context.issues.insert(0, _shortened(f"{shots} of {self.options.shots} shots are shown"))
        return context

    def beside(self, context: PromptContext) -> PromptContext:
        """The same document, frames and few-shot examples for the engine of this builder; Issues are shared.

        Raises ValueError if they do not fit into its context.
        """
        frames = [frame for frame in context.document.frames if frame.index in context.frames]
        shots = [self._shot(shot.example) for shot in context.examples]
        made = self._context(context.document, self._pictures(frames), shots, is_worked=context.is_worked)
        return replace(made, issues=context.issues)

    def needed(self, context: PromptContext) -> int:
        """The most tokens that a question about a document, with its answer, may need; 0 if there is no question.

        The first question is counted. Later stages repeat the text with marked mentions and list chains: their tokens
        are estimated.
        """
        conversation = self.strategy.run(context)
        try:
            first = next(conversation)
        except StopIteration:
            return 0
        context.begun = conversation, first
        asked = max(self.engine.count(question.request.messages).tokens for question in first)
        more = self.strategy.growth(context)
        lengths = [self._instruction(question) for question in self.strategy.later(context)]
        more += max(0, max(lengths, default=0) - max(map(self._instruction, first)))
        longest = max(question.request.max_tokens for question in first)
        return asked + more + self.engine.thinking + longest

    def budget(self, documents: Iterable[Document]) -> ContextBudget:
        """The most that these documents need, whole, with all frames and examples, and SPARE; reads no frame."""
        tokens = images = 0
        for document in documents:
            sizes = tuple((frame.width_px, frame.height_px) for frame in self._chosen(document))
            shots = [self._shot(example, read=blank) for example in self.selector.choose(document)]
            bare = self._context(replace(document, frames=()), (), shots, is_worked=True)
            text = max(self.needed(bare), self._needed_at_least(document.lang))
            tokens = max(tokens, text + self._sights(document.lang, sizes))
            images = max(images, len(sizes) + sum(len(shot.context.frames) for shot in shots))
        return ContextBudget(256 * ceil(SPARE * tokens / 256), images)

    # --- fitting ------------------------------------------------------------------------------------------------------

    def _fit(
        self, document: Document, pictures: Sequence[Picture], examples: Sequence[Shot] = ()
    ) -> tuple[PromptContext, int]:
        """(the document with as many examples, then frames, as fit; the number of examples).

        Without few-shot examples, the worked example is dropped before frames. Raises DoesNotFit.
        """
        frames, is_worked = len(pictures), True
        while True:
            context = self._context(document, pictures, examples, is_worked=is_worked)
            needed = self.needed(context)
            if needed <= self.engine.context:
                if len(pictures) < frames:
                    context.issues.append(_shortened(f"{len(pictures)} of {frames} frames are shown"))
                return context, len(examples)
            if examples:
                examples = examples[1:]
                continue
            if is_worked:
                is_worked = False
                continue
            if len(pictures) <= 1 or "clip" in self.engine.supports:  # a clip of fewer frames would be no shorter
                what = "its frames" if len(pictures) > 1 else "one frame" if pictures else "its text"
                raise DoesNotFit(
                    f"the context of {self.engine.context} tokens is too small: the document with {what} and an answer"
                    f" of {self.options.max_tokens} needs {needed}: raise --context, or lower --max-tokens"
                )
            fewer = len(pictures) // 2
            pictures = [pictures[(2 * i + 1) * len(pictures) // (2 * fewer)] for i in range(fewer)]

    def _in_windows(self, document: Document) -> list[View] | None:
        """The document in the fewest windows that fit; [] if none do, None if there is no text to cut."""
        text = document.text
        if not text.strip() or len(text) < 2 * SHORTEST:
            return None
        chosen = self._chosen(document)
        shown = replace(document, frames=chosen)
        pictures = {frame.index: (frame, image) for frame, image in self._pictures(chosen)}
        count = self._fewest(document)
        while len(text) >= SHORTEST * (count - (count - 1) * OVERLAP):
            windows = cut(shown, count, fps=self.options.fps)
            try:
                contexts = [self._fit(w.document, [pictures[f.index] for f in w.document.frames])[0] for w in windows]
            except DoesNotFit:
                count += 1 + count // 8
                continue
            noted = [Issue("windows", "prompt", f"the text is read in {len(windows)} overlapping windows")]
            if self.options.shots:
                noted.append(_shortened(f"0 of {self.options.shots} shots are shown"))
            contexts[0].issues[:0] = noted
            return [View(window, context) for window, context in zip(windows, contexts, strict=True)]
        return []

    def _fewest(self, document: Document) -> int:
        """The minimum number of windows, if tokens were spread evenly over the text."""
        bare, whole = (
            self.needed(self._context(shown, ())) for shown in (_of_one_letter(document), replace(document, frames=()))
        )
        free = max(self.engine.context - bare, 1)
        return max(2, int(((whole - bare) / free - OVERLAP) / (1 - OVERLAP)))

    def _check_budget(self, document: Document) -> None:
        """Raises UserError if not even a document of one letter fits."""
        needed = self.needed(self._context(_of_one_letter(document), ()))
        if needed > self.engine.context:
            sizes = [
                f"{len(getattr(self.labels, kind))} types of {kind}" for kind in ("mentions", "relations", "regions")
            ]
            raise UserError(
                f"the context of {self.engine.context} tokens is too small for any document: the question with the"
                f" label set ({', '.join(sizes)}) and an answer of {self.options.max_tokens} take {needed}: raise"
                " --context, lower --max-tokens, or take a label set with fewer types"
            )

    def _needed_at_least(self, lang: Lang) -> int:
        """The tokens that a question about a text of one letter needs, with its answer."""
        if lang not in self._least:
            self._least[lang] = self.needed(self._context(Document("a", lang, "a"), ()))
        return self._least[lang]

    def _sights(self, lang: Lang, sizes: tuple[tuple[int, int], ...]) -> int:
        """The tokens that frames of these sizes add to a prompt."""
        if (lang, sizes) not in self._seen:
            frames = tuple(Frame(LATE + i, "", *size, sha256="blank") for i, size in enumerate(sizes))
            document = Document("a", lang, "a", frames=frames)
            needed = self.needed(self._context(document, self._pictures(frames, read=blank)))
            self._seen[lang, sizes] = needed - self._needed_at_least(lang)
        return self._seen[lang, sizes]

    def _instruction(self, question: Question) -> int:
        """The tokens of a question's instruction, its last part, and of the longest answer to it."""
        text = question.request.messages[-1].parts[-1]
        if not isinstance(text, str):
            return 0
        if text not in self._lengths:
            self._lengths[text] = self.engine.count((Message("user", (text,)),)).tokens
        return self._lengths[text] + question.request.max_tokens

    # --- examples -----------------------------------------------------------------------------------------------------

    def _shots(self, document: Document) -> list[Shot]:
        return [self._shot(example) for example in self.selector.choose(document)]

    def _shot(self, example: Example, *, read: Callable[..., Any] = load_image) -> Shot:
        """A few-shot example as rendered, with annotated frames if examples have frames.

        Raises ValueError for a frame that cannot be read.
        """
        key = example.document.id, read is blank
        if key not in self._known_shots:
            while len(self._known_shots) >= KNOWN_SHOTS:
                del self._known_shots[next(iter(self._known_shots))]
            frames = tuple(frame for frame in example.document.frames if frame.annotated)
            most = self.options.shot_frames if self.engine.sees and "grounding" in example.annotated else 0
            document = replace(example.document, frames=frames)
            document = replace(document, frames=choose_frames(document, most))
            context = self._context(document, self._pictures(document.frames, read=read))
            self._known_shots[key] = Shot(context, example)
        return self._known_shots[key]

    # --- one view -----------------------------------------------------------------------------------------------------

    def _chosen(self, document: Document) -> tuple[Frame, ...]:
        return choose_frames(document, self.most_frames, how=self.options.frame_choice, fps=self.options.fps or 24.0)

    def _pictures(self, frames: Sequence[Frame], *, read: Callable[..., Any] = load_image) -> list[Picture]:
        """The images of these frames. Raises ValueError."""
        begun = [self._reading.pop(frame.path, None) if read is load_image else None for frame in frames]
        side = self.options.longest_side
        return [
            (frame, read(frame, longest_side=side) if future is None else future.result())
            for frame, future in zip(frames, begun, strict=True)
        ]

    def _context(
        self, document: Document, pictures: Sequence[Picture], examples: Sequence[Shot] = (), *, is_worked: bool = False
    ) -> PromptContext:
        sizes = {}
        stills = []
        images = [image for _, image in pictures]
        as_clip = self.options.video and images
        ready = self.engine.prepare_clip(images) if as_clip else [self.engine.prepare(image) for image in images]
        for (frame, image), prepared in zip(pictures, ready, strict=True):
            sizes[frame.index] = image.size if self.engine.family.pads else prepared.size
            stills.append(Still(frame.index, prepared, frame.sha256 or sha256_file(Path(frame.path))))
        shown = sizes if self.grounds else {}
        view = show_document(
            self.prompts,
            document,
            stills,
            fps=self.options.fps,
            as_video=self.options.video,
            specials=self.engine.specials,
            unlisted="clip" in self.engine.supports,
        )
        context = PromptContext(
            document=document,
            labels=self.labels,
            options=self.options,
            prompts=self.prompts,
            visible=VisibleFrames(shown, self.convention) if self.convention else VisibleFrames(),
            frames=tuple(sizes),
            system="",
            view=view,
            specials=self.engine.specials,
            supports=self.engine.supports,
            examples=examples,
            is_worked=is_worked,
            share=document.id,
        )
        context.system = context.render(self.strategy.system)
        return context


def _of_one_letter(document: Document) -> Document:
    """The shortest document with the same questions."""
    return Document(document.id, document.lang, "a" if document.text.strip() else "")


def _shortened(detail: str) -> Issue:
    return Issue("shortened", "prompt", detail)
