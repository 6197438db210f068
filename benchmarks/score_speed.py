"""The scorer compared with the slow reference implementations of the tests, and its time on whole corpora.

    python -m benchmarks.score_speed [DATA]      DATA holds m3d/; without it the documents are generated

The references search exhaustively, which is only feasible for small documents; the two are also checked to agree.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from m3dllm.corpora.m3d import read_m3d
from m3dllm.score import DocumentScore, Settings, paired_bootstrap, score, variants
from m3dllm.score.chain import b3, ceaf_e, ceaf_m, muc, partition
from m3dllm.score.entity import entity
from m3dllm.score.grounding import grounding
from m3dllm.score.relation import relation
from m3dllm.types import PRF, Annotation, Box, Chain, Document, Example, Frame, Mention, Prediction, Region, Relation
from tests.reference import bootstrap as slow_bootstrap
from tests.reference import metrics as slow

TYPES = ("PER", "LOC", "ORG")
SMALL, FRAMES = 300, range(0, 96, 24)


def drawn(rng: random.Random, *, n_mentions: int, n_chains: int, n_relations: int, n_boxes: int) -> Annotation:
    """A random annotation of the given size; two of them share many mentions."""
    names = [f"c{i}" for i in range(n_chains)]
    words: dict[str, list[Mention]] = {name: [] for name in names}
    for at in rng.sample(range(n_mentions + n_mentions // 4), n_mentions):
        words[rng.choice(names)].append(Mention(10 * at, 10 * at + 5, rng.choice(TYPES)))
    chains = [Chain(name, tuple(found)) for name, found in words.items() if found]
    ids = [chain.id for chain in chains]
    relations = [Relation(*rng.sample(ids, 2), rng.choice("rs")) for _ in range(n_relations) if len(ids) > 1]
    regions = []
    for _ in range(n_boxes):
        x, y = rng.randint(0, 4) / 8, rng.randint(0, 4) / 8
        box = Box(x, y, x + rng.choice((0.25, 0.5)), y + rng.choice((0.25, 0.5)))
        regions.append(Region(rng.choice(FRAMES), box, rng.choice(TYPES)))
    return Annotation(tuple(chains), tuple(relations), tuple(regions))


def disturbed(rng: random.Random, gold: Annotation) -> Annotation:
    """Gold with the errors of a mediocre system: mentions lost or put into another chain, relations lost."""
    words = {chain.id: [m for m in chain.mentions if rng.random() > 0.15] for chain in gold.chains}
    for name, found in words.items():
        if found and rng.random() < 0.3:
            words[rng.choice([other for other in words if other != name] or [name])].append(found.pop())
    chains = tuple(Chain(name, tuple(found)) for name, found in words.items() if found)
    ids = {chain.id for chain in chains}
    kept = (r for r in gold.relations if {r.head, r.tail} <= ids and rng.random() > 0.3)
    return Annotation(chains, tuple(kept), tuple(r for r in gold.regions if rng.random() > 0.3))


def generated(rng: random.Random, n: int) -> list[Example]:
    """Documents of the size of the M3D development sets, with frames."""
    frames = tuple(Frame(i, f"frames/{i}.jpg", 64, 48, annotated=True) for i in FRAMES)
    return [
        Example(
            Document(f"d{i}", "en" if i % 2 else "zh", "x" * 400, frames=frames, group=f"g{i // 3}"),
            drawn(rng, n_mentions=15, n_chains=8, n_relations=6, n_boxes=8),
        )
        for i in range(n)
    ]


def seconds(work: Callable[[], Any], *, repeat: int = 1) -> float:
    """The best of `repeat` runs."""
    found = []
    for _ in range(repeat):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return min(found)


def beside_the_twins(rng: random.Random) -> None:
    pairs = []
    for _ in range(SMALL):
        size = {"n_mentions": 12, "n_chains": rng.randint(1, 6), "n_relations": 5, "n_boxes": 8}
        pairs.append((drawn(rng, **size), drawn(rng, **size)))
    parts = [(partition(gold), partition(pred)) for gold, pred in pairs]
    sets = [(slow.chains_of(gold), slow.chains_of(pred)) for gold, pred in pairs]
    metrics: dict[str, tuple[Callable[..., PRF], Sequence[Any], Callable[..., Any], Sequence[Any]]] = {
        "entity": (entity, pairs, slow.entity, pairs),
        "MUC": (muc, parts, slow.muc, sets),
        "B3": (b3, parts, slow.b3, sets),
        "CEAF-e": (ceaf_e, parts, slow.ceaf_e, sets),
        "CEAF-m": (ceaf_m, parts, slow.ceaf_m, sets),
        "relation": (relation, pairs, slow.relation, pairs),
        "grounding": (grounding, pairs, lambda gold, pred: slow.grounding(gold, pred, FRAMES), pairs),
    }
    print(f"{SMALL} small documents          slow twin      scorer    ratio")
    for name, (fast, ours, plain, theirs) in metrics.items():
        for a, b in zip(ours, theirs, strict=True):
            found = fast(*a)
            counts = (found.p_num, found.p_den, found.r_num, found.r_den)
            if any(abs(x - float(y)) > 1e-9 for x, y in zip(counts, plain(*b), strict=True)):
                raise SystemExit(f"{name}: the scorer and its twin disagree: {counts} on {a}")
        slowly = seconds(lambda f=plain, rows=theirs: [f(*row) for row in rows])
        quickly = seconds(lambda f=fast, rows=ours: [f(*row) for row in rows], repeat=3)
        print(f"  {name:22s} {1000 * slowly:10.1f} ms {1000 * quickly:8.1f} ms {slowly / quickly:8.1f}")


def whole_corpora(rng: random.Random, data: Path | None) -> None:
    if data is None:
        golds = generated(rng, 408)
        what = "generated"
    else:
        golds = [example for split in read_m3d(data / "m3d").splits.values() for example in split]
        what = "M3D development"
    runs = [[Prediction(gold.document.id, disturbed(rng, gold.gold)) for gold in golds] for _ in range(2)]
    every = Settings(variants=(*variants(), "iou=0.3"))
    passes = [Prediction(p.document, p.annotation, kind) for p in runs[0] for kind in (None, "mentions", "chains")]
    print(f"\n{len(golds)} {what} documents")
    print(f"  headline metrics              {1000 * seconds(lambda: score(golds, runs[0]), repeat=5):7.0f} ms")
    took = seconds(lambda: score(golds, runs[0], settings=every), repeat=5)
    print(f"  with every variant            {1000 * took:7.0f} ms")
    print(f"  with both pair protocols      {1000 * seconds(lambda: score(golds, passes), repeat=5):7.0f} ms")
    one, other = (score(golds, run).documents("en") for run in runs)
    beside_the_loop(one, other)


def beside_the_loop(one: Sequence[DocumentScore], other: Sequence[DocumentScore]) -> None:
    n, few = 10_000, 50
    quickly = seconds(lambda: paired_bootstrap([one], [other], resamples=n), repeat=3)
    slowly = seconds(lambda: slow_bootstrap.differences(one, other, name="average", resamples=few, seed=0)) * (n / few)
    groups = len({row.group or row.document for row in one})
    print(f"\npaired bootstrap, {n} resamples of {len(one)} documents in {groups} groups, every task")
    print(f"  scorer {quickly:.2f} s; a loop over the resamples, measured on {few} of them: {slowly:.0f} s;", end=" ")
    print(f"ratio {slowly / quickly:.0f}")


if __name__ == "__main__":
    beside_the_twins(random.Random(0))
    whole_corpora(random.Random(1), Path(sys.argv[1]) if len(sys.argv) > 1 else None)
