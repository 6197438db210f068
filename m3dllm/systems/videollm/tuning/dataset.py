"""The training data: the gold answers of a train split, encoded when needed."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from m3dllm.columns import counted
from m3dllm.errors import UserError
from m3dllm.systems.videollm.builder import DoesNotFit
from m3dllm.systems.videollm.options import TuningOptions
from m3dllm.systems.videollm.tuning.conversations import answered, ceiling, items_of
from m3dllm.systems.videollm.tuning.encoding import Encoded, encode
from m3dllm.systems.videollm.tuning.jitter import jittered
from m3dllm.types import Example, RawOutput

if TYPE_CHECKING:
    from m3dllm.systems.videollm.builder import PromptBuilder
    from m3dllm.systems.videollm.engines.transformers import TransformersEngine

log = logging.getLogger("m3dllm")

KEPT_BYTES = 1 << 30
"""Bytes of encoded items that are cached; the rest are encoded again when needed."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An item by its indices: document and question; and its length with the true boxes, in tokens."""

    document: int
    item: int
    tokens: int
    target_tokens: int
    draw: int | None = None
    """The seed of its jittered boxes; None: the true ones."""


class SFTDataset:
    """The training items of a train split, with the prompts of `builder`."""

    def __init__(
        self, builder: PromptBuilder, engine: TransformersEngine, train: Sequence[Example], options: TuningOptions
    ) -> None:
        """Reads every document once.

        Raises UserError, with their number and names, if documents or their answers do not fit into the context and
        are not to be skipped; and if nothing is left.
        """
        self.builder, self.engine, self.options = builder, engine, options
        self.entries: list[Entry] = []
        self.examples: list[Example] = []
        self.unfit: list[tuple[str, str]] = []
        """(document, reason) of skipped documents."""
        self.unknown = 0
        """The number of questions skipped because their answers are not annotated."""
        self._kept: dict[tuple[int, int], Encoded] = {}
        self._bytes = 0
        raws: list[RawOutput] = []
        for example in train:
            if (raw := self._enter(_annotated(example) if self._asks_for_regions else example)) is not None:
                raws.append(raw)
        if self._asks_for_regions and (hidden := sum(not f.annotated for e in train for f in e.document.frames)):
            log.info("%s without annotation not shown: the gold answer is unknown", counted(hidden, "frame"))
        if self.unknown:
            log.info("%s not trained on: the answer is not annotated", counted(self.unknown, "question"))
        self._judge_unfit(len(train))
        self.ceiling = ceiling(self.examples, raws, builder.labels)
        if not self.entries:
            raise UserError("there is nothing to train on: no train document has annotations for these prompts")

    def encoded(self, entry: Entry) -> Encoded:
        """The item of an entry."""
        key = entry.document, entry.item
        if entry.draw is None and key in self._kept:
            return self._kept[key]
        example = self.examples[entry.document]
        gold = example.gold
        if entry.draw is not None:
            gold = jittered(gold, self.options.box_jitter, random.Random(entry.draw))
        items = items_of(self.builder.of(example.document), gold, box_step=self.options.box_step)
        return encode(self.engine, items[entry.item])

    def varied(self, entry: Entry, rng: random.Random) -> Entry:
        """The entry for this epoch: with jittered boxes, if that is on and it has boxes."""
        if not self.options.box_jitter or not self.examples[entry.document].gold.regions:
            return entry
        return replace(entry, draw=rng.getrandbits(32))

    @property
    def _asks_for_regions(self) -> bool:
        return bool(self.builder.labels.regions) and not self.builder.options.video

    @property
    def tokens(self) -> int:
        return sum(entry.tokens for entry in self.entries)

    def _enter(self, example: Example) -> RawOutput | None:
        """Add a document's items; None, noted in `unfit`, if it does not fit. Raises UserError."""
        document = example.document
        try:
            views = self.builder.of(document)
            items = items_of(views, example.gold, box_step=self.options.box_step)
            known = [i for i, item in enumerate(items) if item.tasks <= example.annotated]
            rows = {i: encode(self.engine, items[i]) for i in known}
            for row in rows.values():
                if row.target_tokens > (most := self.builder.options.max_tokens):
                    raise DoesNotFit(f"the answer of {row.target_tokens} tokens is longer than --max-tokens {most}")
                if row.tokens > self.engine.context:
                    raise DoesNotFit(f"{row.tokens} tokens do not fit into the context of {self.engine.context}")
        except DoesNotFit as error:
            self.unfit.append((document.id, str(error)))
            return None
        except ValueError as error:
            raise UserError(f"train document '{document.id}' cannot be shown: {error}") from error
        self.unknown += len(items) - len(known)
        number = len(self.examples)
        self.examples.append(example)
        for i, row in rows.items():
            self.entries.append(Entry(number, i, row.tokens, row.target_tokens))
            if self._bytes + row.bytes <= KEPT_BYTES:
                self._kept[number, i] = row
                self._bytes += row.bytes
        return answered(document, views, items)

    def _judge_unfit(self, total: int) -> None:
        if not self.unfit:
            return
        (name, why), count = self.unfit[0], len(self.unfit)
        named = ", ".join(f"'{name}'" for name, _ in self.unfit[:5]) + (", …" if count > 5 else "")
        message = f"{count} of {total} train documents cannot be trained on ({named}); of '{name}' {why}"
        if not self.options.exclude_unfit:
            raise UserError(f"{message}: skip them by --exclude-unfit, or raise the limits")
        log.warning("%s: skipped", message)


def _annotated(example: Example) -> Example:
    """The example with only its annotated frames: the others have no gold."""
    frames = tuple(frame for frame in example.document.frames if frame.annotated)
    kept = {frame.index for frame in frames}
    regions = tuple(region for region in example.gold.regions if region.frame in kept)
    gold = replace(example.gold, regions=regions)
    return Example(replace(example.document, frames=frames), gold, example.unannotated)
