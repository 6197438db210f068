"""DFFM and MMCM: ablations on the demo corpus, folds of M3D beside the floors, and what batching and caching are worth.

    python -m benchmarks.dffm demo OUT [--seeds 0,1,2] [--epochs N]            ablations, whole and with thirds missing
    python -m benchmarks.dffm m3d DATA OUT --lang en [--fold 0] [--epochs N]   folds by source video, or one of them
    python -m benchmarks.dffm ratios                                           pairs at once, batches, the cache

Runs are kept in OUT: the same command again takes up where it stopped.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from m3dllm import Experiment, load_corpus, run
from m3dllm.corpora.demo import demo_corpus
from m3dllm.corpora.imported import Imported
from m3dllm.corpora.m3d import read_m3d
from m3dllm.corpora.native import write_corpus
from m3dllm.corpora.split import hold_out, k_folds
from m3dllm.report.terminal import run_table
from m3dllm.runs import Run
from m3dllm.score import Scores
from m3dllm.types import TASKS, Example

ABLATIONS: dict[str, dict[str, Any]] = {
    "full": {},
    "without mmcm": {"without": ("mmcm",)},
    "without dffm": {"without": ("dffm",)},
    "without alignment": {"aligned": False},
}
FOLDS = 5
PRESETS = {"en": "minilm", "zh": "tiny"}
Row = dict[tuple[str, str, str], float]
"""F1 by language, protocol and task."""


def demo(out: Path, *, seeds: Sequence[int], epochs: int | None) -> None:
    """Every ablation with whole documents and with thirds missing: mean over the seeds, least and greatest."""
    for missing in (None, "thirds"):
        for name, options in ABLATIONS.items():
            rows = []
            for seed in seeds:
                folder = out / f"{name.replace(' ', '-')}-{missing or 'whole'}-{seed}"
                wanted = options if epochs is None else {**options, "epochs": epochs}
                started = time.perf_counter()
                rows.append(
                    f1s(
                        run(
                            Experiment(
                                system="dffm", pairs="both", seed=seed, missing=missing, options=wanted, out=folder
                            )
                        )
                    )
                )
                print(f"{folder.name}: {time.perf_counter() - started:.0f} s", flush=True)
            tell(f"{name}, {'thirds missing' if missing else 'whole documents'}, {len(rows)} seeds", rows)


def m3d(data: Path, out: Path, *, lang: str, folds: Sequence[int], epochs: int | None) -> None:
    """The released dev documents of a language in folds; the epoch is chosen on a part of the rest of them."""
    imported = read_m3d(data)
    examples = [e for split in imported.splits.values() for e in split if e.document.lang == lang]
    rows: dict[str, list[Row]] = {"majority": [], "dffm": []}
    for number in folds:
        rest, fold = k_folds(examples, FOLDS)[number]
        corpus = out / f"{lang}-{number}"
        if not corpus.exists():
            train, dev = hold_out(rest)
            write_corpus(corpus, Imported(imported.labels, {"train": list(train), "dev": list(dev), "test": fold}))
        for system in rows:
            preset = PRESETS[lang] if system == "dffm" else None
            options = {"epochs": epochs} if system == "dffm" and epochs is not None else {}
            started = time.perf_counter()
            done = run(
                Experiment(
                    system=system,
                    corpus=corpus,
                    preset=preset,
                    pairs="both",
                    options=options,
                    out=out / f"{system}-{lang}-{number}",
                )
            )
            print(f"fold {number}, {system}: {time.perf_counter() - started:.0f} s\n{run_table(done)}\n", flush=True)
            rows[system].append(f1s(done))
    for system, found in rows.items():
        tell(f"{system}, M3D {lang}, folds {', '.join(map(str, folds))}", found)


def f1s(done: Run) -> Row:
    """The F1 of each task in a scored run."""
    found: Row = {}
    for lang, part in Scores.from_wire(done.scores()).languages.items():
        for pairs, tasks in (("end to end", part.end_to_end), ("gold pairs", part.gold_pairs)):
            for task in TASKS if tasks is not None else ():
                f1 = tasks.tasks[task].f1 if task in tasks.tasks else None
                if f1 is not None:
                    found[lang, pairs, task] = f1
    return found


def tell(title: str, rows: Sequence[Row]) -> None:
    """Mean, least and greatest F1 in percent."""
    print(title)
    for key in sorted({key for row in rows for key in row}):
        values = [100 * row[key] for row in rows if key in row]
        print(f"  {' · '.join(key):32} {statistics.mean(values):6.2f}  ({min(values):.2f} to {max(values):.2f})")


# --- ratios -----------------------------------------------------------------------------------------------------------


def ratios() -> None:
    """Each time is the least of three, on the same weights and the same documents of the demo's train split."""
    import torch

    from m3dllm.systems.supervised.batch import Types
    from m3dllm.systems.supervised.checkpoint import new_model
    from m3dllm.systems.supervised.config import Config
    from m3dllm.systems.supervised.losses import Balance
    from m3dllm.systems.supervised.train import describe, lesson, make_optimizer, one_epoch

    corpus = load_corpus(demo_corpus())
    types, device = Types.of(corpus.labels), torch.device("cpu")

    def model_of(config: Config, examples: Sequence[Example]) -> Any:
        return new_model(describe(config, corpus.labels, examples)).eval()

    whole = [e for e in corpus["train"] if e.document.text and e.document.frames][:32]
    model = model_of(Config(), whole)
    lessons = [lesson(model, example, types) for example in whole]

    with torch.no_grad():
        batch = model.text.batch([one.inputs for one in lessons[:8]])
        states, mentions = model.encode(batch), [one.gold.mentions for one in lessons[:8]]
        pairs_at_once(model, states, mentions)

        def encode(size: int) -> None:
            for i in range(0, len(lessons), size):
                model.encode(model.text.batch([one.inputs for one in lessons[i : i + size]]))

        compare("32 documents encoded: batch 1 / batch 8", lambda: encode(1), lambda: encode(8))

    def epoch(config: Config, learner: Any, own: Sequence[Any]) -> None:
        one_epoch(learner, own, types, Balance(), make_optimizer(learner, config), 0, device)

    small, large = Config(batch_size=1), Config(batch_size=8)
    learners = [(config, model_of(config, whole)) for config in (small, large)]
    compare(
        "an epoch over them: batch 1 / batch 8",
        *(lambda config=config, learner=learner: epoch(config, learner, lessons) for config, learner in learners),
    )
    english = [e for e in whole if e.document.lang == "en"]
    times = []
    with tempfile.TemporaryDirectory() as folder:
        for cache_gb in (0.0, 1.0):
            os.environ["M3DLLM_CACHE"] = folder
            config = Config(text_encoder=("minilm",), freeze=("text",), vision_encoder="none", cache_gb=cache_gb)
            learner = model_of(config, english)
            own = [lesson(learner, example, types) for example in english]
            epoch(config, learner, own)
            times.append((config, learner, own))
        compare(
            f"an epoch over {len(english)} with MiniLM frozen: uncached / cached",
            *(lambda row=row: epoch(*row) for row in times),
        )


def pairs_at_once(model: Any, states: Any, mentions: Sequence[Any]) -> None:
    """The bilinear forms of eq. 16 and 17 over all pairs of eight documents, against a loop over pairs."""
    from m3dllm.systems.supervised.batch import make_mention_batch
    from m3dllm.systems.supervised.heads import chain_means, span_means

    together = make_mention_batch(mentions)
    vectors = span_means(states.words, together.first, together.last)
    chains = chain_means(vectors, together)

    def at_once() -> None:
        for head, x in ((model.chains, vectors), (model.relations, chains)):
            left, right = (part(x) for part in head.shrink)
            head.bilinear(left, right)

    def in_a_loop() -> None:
        for i, one in enumerate(mentions):
            for head, x, n in ((model.chains, vectors, len(one)), (model.relations, chains, one.n_chains)):
                for row in range(n):
                    for column in range(n):
                        left, right = (
                            head.shrink[0](x[i : i + 1, row : row + 1]),
                            head.shrink[1](x[i : i + 1, column : column + 1]),
                        )
                        head.bilinear(left, right)

    compare("pairs of 8 documents (eq. 16, 17): loop over pairs / all at once", in_a_loop, at_once)


def compare(what: str, slow: Callable[[], None], fast: Callable[[], None]) -> None:
    """Print how many times longer `slow` takes."""
    slower, faster = (min(timed(work) for _ in range(3)) for work in (slow, fast))
    print(f"{what}: {slower:.3f} s / {faster:.3f} s = {slower / faster:.1f}", flush=True)


def timed(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("demo")
    one.add_argument("out", type=Path)
    one.add_argument("--seeds", default="0,1,2")
    two = verbs.add_parser("m3d")
    two.add_argument("data", type=Path)
    two.add_argument("out", type=Path)
    two.add_argument("--lang", choices=sorted(PRESETS), required=True)
    two.add_argument("--fold", type=int, choices=range(FOLDS))
    for verb in (one, two):
        verb.add_argument("--epochs", type=int)
    verbs.add_parser("ratios")
    asked = parser.parse_args()
    if asked.verb == "demo":
        demo(asked.out, seeds=[int(seed) for seed in asked.seeds.split(",")], epochs=asked.epochs)
    elif asked.verb == "m3d":
        folds = range(FOLDS) if asked.fold is None else [asked.fold]
        m3d(asked.data, asked.out, lang=asked.lang, folds=folds, epochs=asked.epochs)
    else:
        ratios()


if __name__ == "__main__":
    main()
