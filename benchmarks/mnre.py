"""MNRE as a corpus without mention types: `import mnre` takes types from the relations, which would leak them.

    python -m benchmarks.mnre MNRE OUT [--train N]
    m3dllm bench attn-mixup --corpus OUT --text-encoder minilm

Its train is ours, or the first N tweets of it, and its val our test: no selection uses that, since a run sets a part
of train apart as its dev.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from itertools import islice
from pathlib import Path

from m3dllm.corpora.imported import Imported
from m3dllm.corpora.mnre import read_mnre
from m3dllm.corpora.native import write_corpus
from m3dllm.labels import Label, LabelSet
from m3dllm.types import Annotation, Chain, Example

ENTITY = "ENTITY"
"""The only mention type."""


def untyped(example: Example) -> Example:
    """The example with every mention of one type."""
    chains = tuple(
        Chain(chain.id, tuple(replace(mention, type=ENTITY) for mention in chain.mentions))
        for chain in example.gold.chains
    )
    return replace(example, gold=Annotation(chains, example.gold.relations))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--train", type=int, help="the first so many tweets of train")
    asked = parser.parse_args()
    found = read_mnre(asked.data)
    corpus = Imported(LabelSet(mentions=(Label(ENTITY),), relations=found.labels.relations))
    for name, ours, most in (("train", "train", asked.train), ("dev", "test", None)):
        for example in islice(found.splits[name], most):
            corpus.add(ours, untyped(example))
    write_corpus(asked.out, corpus)


if __name__ == "__main__":
    main()
