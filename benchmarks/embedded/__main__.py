"""Make the embedded video LLM: each step keeps its results in WORK, and skips what exists.

    python -m benchmarks.embedded tokenizer WORK                  from generated texts
    python -m benchmarks.embedded shelves WORK [--scale 1]        generated documents as arrays
    python -m benchmarks.embedded train WORK [--ordinary] [--tokens 65e6] [--until 1e6]
    python -m benchmarks.embedded train WORK --start FOLDER       from the weights in FOLDER, with few-shot examples
    python -m benchmarks.embedded export WORK [FOLDER] [--examples]   in half precision; else into the package
    python -m benchmarks.embedded curve WORK                      the log of each training as a table
    python -m benchmarks.embedded measure OUT                     on the demo corpus: alone, few-shot, tuned

`train` saves its state every few minutes and resumes; the same command gives the same model on the same machine.
`--ordinary` is the control: the library's own initialization, everything else the same. `--until` stops early, so that
the control can be compared after as many tokens. `--processes`: the number of processes for `shelves` and `train`. With
`--start` documents follow 0 to 4 few-shot examples, which makes the weights of the package from those of the first
training; `export --examples` writes these.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import shutil
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.embedded.examples import KINDS, clips
from m3dllm.corpora.m3d import m3d_labels
from m3dllm.types import Lang

PACKAGE = Path(__file__).resolve().parents[2] / "m3dllm" / "systems" / "videollm" / "embedded"
LANGUAGES: tuple[Lang, ...] = ("en", "zh")
MERGES = 1800
SHELVES: tuple[tuple[str, int, int], ...] = (
    ("tiny", 3000, 0),
    ("short", 6000, 0),
    ("single", 10000, 0),
    ("frames", 300, 0),
    ("marks", 6000, 0),
    ("medium", 3000, 0),
    *(("full", 1200, 100 * part) for part in range(1, 14)),
    *(("shown", 1200, 100 * part) for part in range(1, 3)),
    ("told", 8000, 0),
    ("paired", 6000, 0),
    ("marked", 6000, 0),
    *(("wide", 1200, 100 * part) for part in range(1, 13)),
)
"""(kind of document, number per language, seed)."""
_BEHIND_EXAMPLES = "shelves-with-examples"
SHELVES_BEHIND_EXAMPLES: tuple[tuple[str, int, int], ...] = (
    ("told", 2500, 1000),
    ("single", 400, 1000),
    ("paired", 2000, 1000),
    ("marked", 2500, 1000),
    ("sights", 1500, 0),
    ("texts", 3500, 0),
    ("unshown", 6500, 0),
    *(("wide", 1200, 100 * part) for part in range(13, 19)),
)
"""The same for the training with few-shot examples."""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.embedded", description=__doc__.partition("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    steps = {
        "tokenizer": tokenizer,
        "shelves": shelves,
        "train": train,
        "export": export,
        "curve": curve,
        "measure": measured,
    }
    found = {name: verbs.add_parser(name) for name in steps}
    for verb in found.values():
        verb.add_argument("work", type=Path)
    found["shelves"].add_argument("--scale", type=float, default=1.0)
    found["train"].add_argument("--tokens", type=float)
    found["train"].add_argument("--until", type=float, default=math.inf)
    found["train"].add_argument("--ordinary", action="store_true")
    found["train"].add_argument("--start", type=Path)
    found["export"].add_argument("--examples", action="store_true")
    for name in ("shelves", "train"):
        found[name].add_argument("--processes", type=int, default=2)
    found["export"].add_argument("folder", type=Path, nargs="?", default=PACKAGE)
    args = parser.parse_args(argv)
    steps[args.verb](args)


def tokenizer(args: argparse.Namespace) -> None:
    """Train the tokenizer on 1000 generated texts of each of two kinds and each language."""
    from benchmarks.embedded.tokens import make_tokenizer
    from m3dllm.corpora.demo import chinese, names, prose_zh

    folder = args.work / "tokenizer"
    if (folder / "tokenizer.json").exists():
        return
    drawn = (islice(clips(KINDS[kind], lang, 0), 1000) for kind in ("short", "marks") for lang in LANGUAGES)
    texts = [example.document.text for examples in drawn for example, _ in examples]
    sources = [Path(str(module.__file__)).read_text(encoding="utf-8") for module in (prose_zh, names, chinese)]
    characters = sorted({c for text in [*texts, *sources] for c in text if ord(c) > 127 and c.isprintable()})
    made = make_tokenizer(texts, m3d_labels(), merges=MERGES, characters=characters, syllables=names.SYLLABLES)
    made.save_pretrained(folder)


def shelves(args: argparse.Namespace) -> None:
    rooms = ((args.work / "shelves", SHELVES), (args.work / _BEHIND_EXAMPLES, SHELVES_BEHIND_EXAMPLES))
    asked = [(args, room, *shelf, lang) for room, made in rooms for shelf in made for lang in LANGUAGES]
    with multiprocessing.Pool(args.processes) as pool:
        for name in pool.imap_unordered(_shelf, asked):
            print(name, flush=True)


def _shelf(asked: tuple[argparse.Namespace, Path, str, int, int, Lang]) -> str:
    from benchmarks.embedded.shelves import fill

    args, room, name, n, seed, lang = asked
    folder = room / f"{name}-{lang}-{seed // 100}"
    fill(folder, name, lang, max(1, round(n * args.scale)), _tokenizer(args.work), seed=seed)
    return folder.name


def train(args: argparse.Namespace) -> None:
    from benchmarks.embedded.train import WITH_EXAMPLES, Recipe
    from benchmarks.embedded.train import train as learn

    recipe = WITH_EXAMPLES if args.start else Recipe(ordinary=args.ordinary)
    recipe = replace(recipe, tokens=args.tokens or recipe.tokens)
    shelves = args.work / (_BEHIND_EXAMPLES if args.start else "shelves")
    how = {"until": args.until, "processes": args.processes, "start": args.start}
    learn(shelves, args.work / _training(args), args.work / "tokenizer", recipe, **how)


def export(args: argparse.Namespace) -> None:
    """Write the current model as a folder of the transformers library."""
    import torch

    from benchmarks.embedded.architecture import make_model, save

    learned = _tokenizer(args.work)
    model = make_model(learned)
    model.load_state_dict(torch.load(args.work / _training(args) / "state.pt", weights_only=True)["model"])
    save(model, learned, args.folder)
    shutil.copyfile(args.work / _training(args) / "log.jsonl", args.folder / "training_log.jsonl")


def _training(args: argparse.Namespace) -> str:
    """The folder of the selected training."""
    asked = vars(args)
    if asked.get("start") or asked.get("examples"):
        return "with-examples"
    return "ordinary" if asked.get("ordinary") else "model"


def curve(args: argparse.Namespace) -> None:
    print("| training | tokens | seconds | loss | right |\n| --- | ---: | ---: | ---: | ---: |")
    for folder in ("model", "ordinary", "with-examples"):
        if (path := args.work / folder / "log.jsonl").exists():
            for row in map(json.loads, path.read_text().splitlines()):
                said = f"{row['tokens']:,} | {row['seconds']:,.0f} | {row['loss']:.3f} | {row['right']:.3f}"
                print(f"| {folder} | {said} |")


def measured(args: argparse.Namespace) -> None:
    from benchmarks.embedded.measure import measure

    measure(args.work)


def _tokenizer(work: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(work / "tokenizer")


if __name__ == "__main__":
    main()
