"""A supervised system on the released MDocRE documents, five in two languages: memorized, and leave-one-out.

python -m benchmarks.dffm mdocre DATA OUT [--system NAME] [--epochs N]     DATA holds mdocre_samples/
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from m3dllm import Experiment, run
from m3dllm.corpora.brat import read_brat
from m3dllm.corpora.imported import Imported
from m3dllm.corpora.native import write_corpus
from m3dllm.corpora.split import k_folds
from m3dllm.report.terminal import run_table
from m3dllm.types import Example

CLIPS = 5
EPOCHS = 100
"""The number of epochs for memorizing; a quarter of them for leave-one-out."""
SMALL = {"image_size": 64, "batch_size": 2}
"""Frames of 16 patches: one clip has 138 of them."""
BY_HEART = dict.fromkeys(("dropout", "pair_dropout", "word_dropout", "name_dropout", "weight_decay", "hide"), 0.0)
"""The options that would keep a model from memorizing, turned off."""


def mdocre(data: Path, out: Path, *, system: str, epochs: int | None) -> None:
    """Train and test on all documents; then train without each clip in turn and test on it."""
    samples = data / "mdocre_samples/samples"
    imported = read_brat(
        samples / "text_label",
        text=samples / "text",
        split_languages=True,
        coreference=("same_mention",),
        frames=samples / "video",
        boxes=samples / "video_label",
    )
    examples = [example for split in imported.splits.values() for example in split]
    epochs = epochs or EPOCHS
    same = {split: [named(example, split) for example in examples] for split in ("train", "dev", "test")}
    tell("by heart", fitted(out / "by-heart", system, imported, same, {**SMALL, **BY_HEART, "epochs": epochs}))
    for number, (rest, fold) in enumerate(k_folds(examples, CLIPS)):
        parts = {"train": rest, "test": fold}
        tell(
            f"without {fold[0].document.group}",
            fitted(out / f"fold-{number}", system, imported, parts, {**SMALL, "epochs": -(-epochs // 4)}),
        )


def named(example: Example, split: str) -> Example:
    """The same document with an id for this split."""
    return replace(example, document=replace(example.document, id=f"{example.document.id}-{split}"))


def fitted(
    out: Path, system: str, imported: Imported, splits: Mapping[str, Sequence[Example]], options: Mapping[str, Any]
) -> tuple[str, float]:
    """The table of a run on these splits, and how many seconds it took."""
    corpus = out / "corpus"
    if not corpus.exists():
        parts = {split: list(examples) for split, examples in splits.items()}
        write_corpus(corpus, replace(imported, splits=parts))
    started = time.perf_counter()
    done = run(Experiment(system=system, corpus=corpus, pairs="both", options=options, out=out / "run"))
    return run_table(done), time.perf_counter() - started


def tell(what: str, found: tuple[str, float]) -> None:
    table, seconds = found
    print(f"{what}: {seconds:.0f} s\n{table}\n", flush=True)
