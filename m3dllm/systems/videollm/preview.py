"""The first prompt of a run for a document, its tokens, and the constraint of the answer. No weights are loaded.

The prompts of later stages depend on the answers before them, so only the first can be shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from m3dllm.labels import LabelSet
from m3dllm.systems.videollm.config import Config
from m3dllm.systems.videollm.dialogue import converse
from m3dllm.systems.videollm.engines import find_engine, make_engine
from m3dllm.systems.videollm.engines.base import Count, Engine
from m3dllm.systems.videollm.engines.local.engine import LocalEngine
from m3dllm.systems.videollm.engines.local.tokenizer_only import TokenizerOnlyEngine
from m3dllm.systems.videollm.system import VideoLLM
from m3dllm.types import Document, Example, Issue


@dataclass(frozen=True, slots=True)
class Preview:
    """The first question about a document. `prompt` is in the model's chat format if known.

    `constraint` is the grammar, or the schema if the engine has no grammars; None for unconstrained decoding.
    """

    document: str
    stage: str
    prompt: str
    count: Count
    max_tokens: int
    context: int
    constraint: str | None
    issues: tuple[Issue, ...] = ()

    def __str__(self) -> str:
        about = "" if self.count.exact else "about "
        counted = f"{about}{self.count.tokens} tokens, {self.count.vision} of them images"
        limits = f"answer: at most {self.max_tokens}; context: {self.context}"
        noted = [f"{issue.code}: {issue.detail}" for issue in self.issues]
        head = "\n".join([f"{self.document}, {self.stage}: {counted}; {limits}", *noted])
        held = "the answer is free" if self.constraint is None else "the answer is constrained"
        return f"{head}\n\n{self.prompt}\n\n{held}"


def preview(
    config: Config, document: Document, *, labels: LabelSet, examples: Sequence[Example] = ()
) -> Preview | None:
    """The first prompt about `document`; None if there is none.

    Raises UserError for impossible options or a missing model, and ValueError for a document that cannot be put into a
    prompt. From a server only the list of models is read.
    """
    kind = find_engine(config.engine)
    engine: Engine
    engine = TokenizerOnlyEngine(config, kind=kind) if issubclass(kind, LocalEngine) else make_engine(config)
    try:
        system = VideoLLM(config, labels=labels, examples=examples, engine=engine)
        views = system.builder.of(document)
        conversation = converse(document, views)
        question = next(conversation, [None])[0]
        conversation.close()
    finally:
        engine.close()
    if question is None:
        return None
    request = question.request
    constrained = None
    if request.constraint is not None:
        constrained = request.constraint.grammar or str(request.constraint.schema)
    return Preview(
        document=document.id,
        stage=question.stage.name,
        prompt=engine.chat(request.messages),
        count=engine.count(request.messages),
        max_tokens=request.max_tokens,
        context=engine.context,
        constraint=constrained,
        issues=tuple(issue for view in views for issue in view.context.issues),
    )
