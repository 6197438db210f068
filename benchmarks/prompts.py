"""Prompting a real model: strategies, few-shot examples, with and without grammar; invalid answers, and F1.

    python -m benchmarks.prompts MODEL CORPUS OUT [--documents 8] [--max-tokens 256] [--split dev] [--train train]
        [--strategies joint,staged] [--shots 0,1,2,4] [--versions 2] [--held both] [--lang en] [--set name=value …]

MODEL is a model's folder or hub id, `embedded`, the address of a server, or a GGUF file, served by llama.cpp. The
first documents of the split in each language are used; few-shot examples are of the train split, the same for all
documents. Runs are kept in OUT: the same command resumes.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from m3dllm import Experiment, load_corpus, run
from m3dllm.columns import columns
from m3dllm.corpora.native import to_imported, write_corpus
from m3dllm.files import sha256
from m3dllm.report.numbers import percent
from m3dllm.score import paired_bootstrap, score
from m3dllm.scored import ScoredRun, read_run
from m3dllm.types import TASKS, Annotation, Prediction

INVALID = frozenset(("not_json", "no_answer", "repaired", "bad_shape", "truncated"))
"""Issues of an answer that is not, or only partly, in the requested format."""
HEADS = ("", "empty", "copied", "repeats", "invalid", "unaligned", "tokens", *TASKS)


@dataclass(frozen=True)
class Cell:
    """One prompting configuration."""

    version: int
    strategy: str
    shots: int
    held: bool

    def __str__(self) -> str:
        return f"v{self.version}-{self.strategy}-{self.shots}-{'held' if self.held else 'free'}"

    @property
    def options(self) -> dict[str, Any]:
        asked = {"prompt_version": self.version, "strategy": self.strategy, "shots": self.shots}
        return asked | {"shot_choice": "fixed", "unconstrained": not self.held}


def few(corpus: Path, out: Path, *, split: str, train: str, documents: int) -> Path:
    """A corpus with the first documents of the split in each language, as its test split, and the whole train split."""
    source = sha256(repr((str(corpus.resolve()), split, train)).encode())[:8]
    folder = out / f"corpus-{documents}-{source}"
    if not folder.exists():
        whole = load_corpus(corpus)
        by_lang = [[e for e in whole[split] if e.document.lang == lang][:documents] for lang in ("en", "zh")]
        asked = [example for part in by_lang for example in part]
        write_corpus(folder, to_imported(whole, {"train": whole[train], "test": asked}))
    return folder


def row(found: ScoredRun, lang: str) -> tuple[str, ...]:
    """Percentages of the documents with gold; output tokens per document; F1 of the tasks with 95 % intervals."""
    here = {example.document.id: example.gold for example in found.examples if example.document.lang == lang}
    gold = {name for name, annotation in here.items() if annotation.chains or annotation.regions}
    predictions = [p for p in found.predictions if p.document in gold]
    codes = [{issue.code for issue in prediction.issues} for prediction in predictions]
    empty = [not p.annotation.chains and not p.annotation.regions for p in predictions]
    shares = [empty, *([code in of for of in codes] for code in ("copied_template", "repetition"))]
    shares += [[bool(of & INVALID) for of in codes], ["unaligned" in of for of in codes]]
    tokens = [raw.tokens_out or 0 for raw in found.raws.values() if raw.document in here]
    return (
        *(percent(sum(share) / max(1, len(share))) for share in shares),
        f"{sum(tokens) / max(1, len(tokens)):.0f}",
        *intervals(found, lang),
    )


def intervals(found: ScoredRun, lang: str) -> list[str]:
    """F1 of each task, with 95 % confidence intervals over source videos: those of the difference to empty answers."""
    examples = [example for example in found.examples if example.document.lang == lang]
    silent = [Prediction(example.document.id, Annotation()) for example in examples]
    nothing = score(examples, silent, labels=found.record.labels, settings=found.scores.settings)
    said = paired_bootstrap([nothing.documents(lang)], [found.scores.documents(lang)])
    return [
        "–"
        if task not in said
        else f"{percent(said[task].other)} ({percent(said[task].low)} to {percent(said[task].high)})"
        for task in TASKS
    ]


@contextmanager
def engine_of(model: str, out: Path, context: int) -> Iterator[dict[str, Any]]:
    """The options for the model."""
    if model == "embedded":
        yield {}
    elif model.startswith("http"):
        yield {"engine": "openai", "base_url": model, "timeout": 3600}
    elif model.endswith(".gguf"):
        from tests.videollm.serving import llama_serving

        with llama_serving(Path(model), out / "server.txt", context=context) as url:
            yield {"engine": "openai", "base_url": url, "batch": 1, "context": context, "timeout": 3600}
    else:
        yield {"model": model, "context": context}


def measure(cells: Sequence[Cell], corpus: Path, out: Path, options: dict[str, Any], lang: str | None) -> None:
    """Run each cell and print its rows when it is done."""
    rows: dict[str, list[tuple[str, ...]]] = {}
    for cell in cells:
        wanted = options | cell.options
        run(Experiment(system="video-llm", corpus=corpus, lang=lang, options=wanted, out=out / str(cell)))  # type: ignore[arg-type]
        found = read_run(out / str(cell))
        for name in found.scores.languages:
            rows.setdefault(name, []).append((f"{cell} ({name})", *row(found, name)))
            print(*rows[name][-1], sep="  ", flush=True)
    for of in rows.values():
        print("", *columns([HEADS, *of], left=1), sep="\n", flush=True)


def main() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("corpus", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--documents", type=int, default=8)
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--context", type=int, default=8192)
    parser.add_argument("--split", default="dev")
    parser.add_argument("--train", default="train")
    parser.add_argument("--strategies", default="joint,staged")
    parser.add_argument("--shots", default="0,1,2,4")
    parser.add_argument("--versions", default="2")
    parser.add_argument("--held", choices=("both", "held", "free"), default="both")
    parser.add_argument("--lang", choices=("en", "zh"))
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="more options of video-llm")
    words = parser.parse_args()
    words.out.mkdir(parents=True, exist_ok=True)
    held = {"both": (True, False), "held": (True,), "free": (False,)}[words.held]
    versions, shots = map(int, words.versions.split(",")), map(int, words.shots.split(","))
    cells = [Cell(*cell) for cell in product(versions, words.strategies.split(","), shots, held)]
    corpus = few(words.corpus, words.out, split=words.split, train=words.train, documents=words.documents)
    more = dict(word.split("=", 1) for word in words.set)
    with engine_of(words.model, words.out, words.context) as options:
        measure(cells, corpus, words.out, {"max_tokens": words.max_tokens} | options | more, words.lang)


if __name__ == "__main__":
    main()
