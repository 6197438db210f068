"""Make the embedded video LLM: each step keeps what it made in WORK, and does nothing that is there already.

    python -m benchmarks.embedded tokenizer WORK                  from generated texts
    python -m benchmarks.embedded shelves WORK [--scale 1]        generated documents as arrays
    python -m benchmarks.embedded train WORK [--ordinary] [--tokens 17e6] [--until 1e6]
    python -m benchmarks.embedded export WORK [FOLDER]            in half precision; else into the package
    python -m benchmarks.embedded curve WORK                      the log of each training as a table
    python -m benchmarks.embedded measure OUT                     on the demo corpus: alone, few-shot, tuned

`train` saves itself every few minutes and goes on where it stopped; the same command gives the same model on the same
machine. `--ordinary` is the control: the library's own initialization, everything else the same. `--until` stops early,
so that the control can be compared after as many tokens. In Chinese clips the characters that are surnames are
exchanged for one another while they are read, so that each is learned; wherever else they stand they change too, which
can make a few names of the demo corpus.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.embedded.examples import KINDS, clips
from m3dllm.corpora.m3d import m3d_labels
from m3dllm.systems.torchvision import make_importable
from m3dllm.types import Lang

PACKAGE = Path(__file__).resolve().parents[2] / "m3dllm" / "systems" / "videollm" / "embedded"
LANGUAGES: tuple[Lang, ...] = ("en", "zh")
MERGES = 1800
SHELVES: tuple[tuple[str, int, int], ...] = (
    ("tiny", 3000, 0),
    ("short", 4000, 0),
    ("single", 10000, 0),
    ("frames", 300, 0),
    ("medium", 3000, 0),
    ("full", 400, 0),
    *(("full", 1200, 100 * part) for part in range(1, 9)),
)
"""Kind of document, how many in each language, and the seed."""


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
    found["train"].add_argument("--threads", type=int, default=1)
    found["export"].add_argument("folder", type=Path, nargs="?", default=PACKAGE)
    args = parser.parse_args(argv)
    make_importable()
    steps[args.verb](args)


def tokenizer(args: argparse.Namespace) -> None:
    """Learn the tokenizer from 1500 generated texts of each language."""
    from benchmarks.embedded.tokens import make_tokenizer
    from m3dllm.corpora.demo import chinese, names, prose_zh

    folder = args.work / "tokenizer"
    if (folder / "tokenizer.json").exists():
        return
    texts = [example.document.text for lang in LANGUAGES for example, _ in islice(clips(KINDS["short"], lang, 0), 1500)]
    sources = [Path(str(module.__file__)).read_text(encoding="utf-8") for module in (prose_zh, names, chinese)]
    characters = sorted({c for text in [*texts, *sources] for c in text if ord(c) > 127 and c.isprintable()})
    known = names.names_of("en", "train", salted=True)
    of_people = (known.people.surnames, *known.people.given.values())
    syllables = (names._EN_ONSETS, *names._EN_GIVEN.values(), *names._EN_SURNAMES, *names._EN_PLACES, *names._EN_STEMS)
    make_tokenizer(
        texts,
        m3d_labels(),
        merges=MERGES,
        characters=characters,
        names={name for part in (*of_people, known.places, known.stems) for name in part},
        syllables=[syllable for part in syllables for syllable in part],
    ).save_pretrained(folder)


def shelves(args: argparse.Namespace) -> None:
    from benchmarks.embedded.shelves import fill

    learned = _tokenizer(args.work)
    for name, n, seed in SHELVES:
        for lang in LANGUAGES:
            part = f"-{seed // 100}" if seed else ""
            folder = args.work / "shelves" / f"{name}-{lang}{part}"
            fill(folder, name, lang, max(1, round(n * args.scale)), learned, seed=seed)
            print(folder.name, flush=True)


def train(args: argparse.Namespace) -> None:
    import torch

    from benchmarks.embedded.train import Recipe
    from benchmarks.embedded.train import train as learn

    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    recipe = Recipe(ordinary=args.ordinary, **({"tokens": args.tokens} if args.tokens else {}))
    folder = args.work / ("ordinary" if args.ordinary else "model")
    learned = _tokenizer(args.work)
    learn(args.work / "shelves", folder, learned, recipe, until=args.until, surnames=_surnames(learned))


def _surnames(learned: Any) -> Any:
    """The tokens of all Chinese surnames of one character, whoever bears them."""
    import numpy as np

    from m3dllm.corpora.demo.names import SHARES, names_of

    known = {
        s for half in (False, True) for split in SHARES for s in names_of("zh", split, salted=half).people.surnames
    }
    cut = [learned("，" + surname, add_special_tokens=False).input_ids[1:] for surname in sorted(known)]
    return np.array(sorted(ids[0] for ids in cut if len(ids) == 1))


def export(args: argparse.Namespace) -> None:
    """The model as it is now, as a folder of the transformers library."""
    import torch

    from benchmarks.embedded.architecture import make_model, save

    learned = _tokenizer(args.work)
    model = make_model(learned)
    model.load_state_dict(torch.load(args.work / "model" / "state.pt", weights_only=True)["model"])
    save(model, learned, args.folder)
    for name in ("log.jsonl",):
        shutil.copyfile(args.work / "model" / name, args.folder / f"training_{name}")


def curve(args: argparse.Namespace) -> None:
    print("| training | tokens | seconds | loss | right |\n| --- | ---: | ---: | ---: | ---: |")
    for folder in ("model", "ordinary"):
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
