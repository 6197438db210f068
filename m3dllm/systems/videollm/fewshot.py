"""The selection of few-shot examples from the train documents."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

from m3dllm.answers import write_answer
from m3dllm.errors import UserError
from m3dllm.systems.videollm.options import Options
from m3dllm.systems.videollm.retrieval import make_retriever
from m3dllm.systems.videollm.strategies import find_strategy
from m3dllm.types import Document, Example


class FewShotSelector:
    """Selects few-shot examples for a document among the train documents that can be examples.

    A document can be an example if its gold answer consists of texts that occur in it, and is within the length limit
    of answers. No example comes from the same video as the document.
    """

    def __init__(self, examples: Sequence[Example], options: Options) -> None:
        """Raises UserError if fewer than `options.shots` documents can be examples."""
        self.options = options
        self.usable: tuple[Example, ...] = ()
        if not options.shots:
            return
        self.usable = tuple(example for example in examples if can_be_shown(example, options))
        if len(self.usable) < options.shots:
            raise UserError(
                f"--shots {options.shots}: {len(self.usable)} of the {len(examples)} documents of the train split can"
                " be examples: ask for fewer, or name another split by --train"
            )
        if options.shot_choice == "similar":
            self._retriever = make_retriever(options.retriever, [example.document for example in self.usable])

    def choose(self, document: Document) -> list[Example]:
        """At most `shots` examples in the document's language, from other videos; if "similar", the most similar last.

        The choice depends only on the seed and the document ("fixed": only on the seed, except for the document's own
        video).
        """
        if not self.options.shots:
            return []
        fixed = self.options.shot_choice == "fixed"
        rnd = random.Random(str(self.options.seed) if fixed else f"{self.options.seed}:{document.id}")
        order = list(range(len(self.usable)))
        if fixed:
            rnd.shuffle(order)
        open_ = [i for i in order if _is_apart(self.usable[i].document, document)]
        if not fixed:
            rnd.shuffle(open_)
        if self.options.shot_choice == "similar":
            near = self._retriever.nearness(document)
            open_.sort(key=lambda i: -near.get(i, 0.0))  # stable: the shuffle breaks ties
        return [self.usable[i] for i in reversed(open_[: self.options.shots])]


def can_be_shown(example: Example, options: Options) -> bool:
    """Whether its gold can be written as an answer, with texts that occur in it, within the bounds of an answer."""
    if not example.document.text.strip() or not example.gold.chains:
        return False
    strategy = find_strategy(options.strategy)
    if not strategy.example_tasks <= example.annotated:
        return False
    if strategy.lists_types and _most_of_a_type(example) > options.max_mentions:
        return False
    written = write_answer(example.document, example.gold)["chains"]
    texts = [text if isinstance(text, str) else text[0] for c in written for text in c["mentions"] if _is_text(text)]
    return (
        all(_is_text(mention) for chain in written for mention in chain["mentions"])
        and all(text in example.document.text and len(text) <= options.max_mention_characters for text in texts)
        and len(written) <= options.max_chains
        and all(len(chain["mentions"]) <= options.max_mentions for chain in written)
        and len(example.gold.relations) <= options.max_relations
    )


def _most_of_a_type(example: Example) -> int:
    """The number of different texts of the mention type that has most."""
    texts = {(mention.type, example.document.text[mention.start : mention.end]) for mention in example.gold.mentions}
    return max(Counter(kind for kind, _ in texts).values(), default=0)


def _is_text(mention: Any) -> bool:
    """Whether a mention in the answer form is a text, as a model writes it, not offsets."""
    return isinstance(mention, str | list)


def _is_apart(one: Document, other: Document) -> bool:
    """Whether a document may be an example for another: same language, another document, another video."""
    same_video = bool(one.group) and one.group == other.group
    return one.lang == other.lang and one.id != other.id and not same_video
