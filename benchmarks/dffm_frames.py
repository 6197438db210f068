"""Whether DFFM predicts the relations that only frames show from the frames: control with frames of other documents.

python -m benchmarks.dffm frames RUN OUT     RUN is a finished `m3dllm run --system dffm --pairs both` on the demo

F1 over gold chains, for the pairs of chains whose relation a frame shows, without the relations in the text. The
heuristic baseline predicts for each pair the relation that frames most often show for its types in train.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from m3dllm import Experiment, load_corpus, run
from m3dllm.corpora.demo import demo_corpus, frame_only_facts
from m3dllm.corpora.native import Corpus, to_imported, write_corpus
from m3dllm.runs import Run
from m3dllm.types import PRF, Example, Lang, Relation

Pair = frozenset[str]
Facts = frozenset[tuple[str, int]]


def frames(fitted: Path, out: Path) -> None:
    """Print the results of `measured`."""
    for (name, lang), counts in measured(fitted, out, demo_corpus()).items():
        print(f"{name:10} {lang}  F1 {100 * (counts.f1 or 0):6.2f}  found {counts.r_num:.0f} of {counts.r_den:.0f}")


def measured(fitted: Path, out: Path, folder: Path) -> dict[tuple[str, Lang], PRF]:
    """(input (own frames, others', none; or the baseline), language) -> counts of relations that only frames show.

    `fitted` is a run on the generated corpus in `folder`, or the name of a checkpoint that comes with the package.
    """
    corpus, only = load_corpus(folder), frame_only_facts(folder)
    test = [e for e in corpus["test"] if e.document.text and e.document.frames]
    shown = {"own": test, "exchanged": list(exchanged(test)), "none": [without_frames(e) for e in test]}
    rows = {"floor": floor(corpus["train"], test, only)}
    for name, examples in shown.items():
        rows[name] = said(asked(corpus, examples, fitted, out / name))
    return {
        (name, lang): PRF.sum(agreement(e, found.get(e.document.id, ()), only) for e in test if e.document.lang == lang)
        for name, found in rows.items()
        for lang in sorted({e.document.lang for e in test})
    }


def exchanged(examples: Sequence[Example]) -> Iterator[Example]:
    """Each document with the frames of the next one in its language, without regions, which would be elsewhere."""
    for lang in sorted({e.document.lang for e in examples}):
        own = [e for e in examples if e.document.lang == lang]
        for example, other in zip(own, own[1:] + own[:1], strict=True):
            document = replace(example.document, frames=other.document.frames)
            yield Example(document, replace(example.gold, regions=()))


def without_frames(example: Example) -> Example:
    return Example(replace(example.document, frames=()), replace(example.gold, regions=()))


def asked(corpus: Corpus, examples: Sequence[Example], fitted: Path, out: Path) -> Run:
    """A run of the trained model on `examples` in place of the test split."""
    folder = out / "corpus"
    if not folder.exists():
        write_corpus(folder, to_imported(corpus, {"test": examples}))
    config = Run(fitted).record().config if fitted.is_dir() else {"seed": 0}  # that of a checkpoint is the default
    return run(
        Experiment(
            system="dffm",
            corpus=folder,
            checkpoint=fitted,
            pairs="both",
            seed=config["seed"],
            options={name: value for name, value in config.items() if name != "seed"},
            out=out / "run",
        )
    )


def said(done: Run) -> dict[str, Sequence[Relation]]:
    """The predicted relations of each document over gold chains."""
    return {p.document: p.annotation.relations for p in done.predictions() if p.given == "chains"}


def floor(train: Iterable[Example], test: Iterable[Example], only: Facts) -> Mapping[str, Sequence[Relation]]:
    """The most frequent train relation for the types of every pair whose relation a test frame shows."""
    seen: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for example in train:
        for relation in facts(example, only):
            seen[types(example, relation)][relation.type] += 1
    return {
        e.document.id: [replace(r, type=seen[types(e, r)].most_common(1)[0][0]) for r in facts(e, only)] for e in test
    }


def facts(example: Example, only: Facts) -> list[Relation]:
    """The relations that only frames show."""
    return [r for i, r in enumerate(example.gold.relations) if (example.document.id, i) in only]


def types(example: Example, relation: Relation) -> tuple[str, str]:
    kinds = {chain.id: chain.type for chain in example.gold.chains}
    return kinds[relation.head], kinds[relation.tail]


def agreement(example: Example, found: Iterable[Relation], only: Facts) -> PRF:
    """Counts over the pairs of chains whose relation a frame shows, without the relations in the text."""
    gold = {fact(r) for r in facts(example, only)}
    pairs = {pair for pair, _ in gold}
    told = {fact(r) for r in example.gold.relations} - gold
    pred = {fact(r) for r in found} - told
    pred = {one for one in pred if one[0] in pairs}
    right = len(gold & pred)
    return PRF(right, len(pred), right, len(gold))


def fact(relation: Relation) -> tuple[Pair, str]:
    """A relation without its direction, which follows from its types if frames show it."""
    return frozenset((relation.head, relation.tail)), relation.type
