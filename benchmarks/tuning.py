"""LoRA tuning: real documents, options that save memory or time, and several processes compared with one.

    python -m benchmarks.tuning m3d OUT --data DATA [--model M] [--documents 24] [--epochs 3]
    python -m benchmarks.tuning speed OUT [--model M] [--documents 24] [--device cuda]
    python -m benchmarks.tuning processes OUT [--model M] [--documents 12]

m3d: the English M3D dev text, split by source video; the loss and the dev score of each epoch, and the adapter in both
engines. speed: tokens per second and peak memory, each setting in a separate process. processes: the loss curve of one
process and of two on the CPU. M as in `benchmarks.videollm`. Runs are kept in OUT.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.videollm import model_folder
from m3dllm import Experiment, load_corpus, run
from m3dllm.corpora.demo import demo_corpus
from m3dllm.corpora.m3d import read_m3d
from m3dllm.corpora.native import write_corpus
from m3dllm.corpora.split import split_corpus, write_split
from m3dllm.pipeline import fit
from m3dllm.runs import Run
from m3dllm.systems.videollm.adapters.card import open_adapter

SMALL = {
    "max_chains": 12,
    "max_mentions": 4,
    "max_relations": 8,
    "max_regions": 2,
    "max_tokens": 800,
    "exclude_unfit": True,
}
"""Bounds that let a tiny model with a tokenizer of 600 pieces finish its answers."""
LEARNING = {"rank": 8, "lr": 5e-3, "dropout": 0.0, "step_size": 8, "micro_batch": 4}


def m3d(out: Path, data: Path, *, model: str, documents: int, epochs: int) -> None:
    """LoRA on real text. A tiny random model learns little more than the format of answers: see the loss."""
    corpus = out / "m3d"
    if not corpus.exists():
        write_corpus(out / "whole", read_m3d(data / "m3d"))
        whole = load_corpus(out / "whole")
        splits = split_corpus(whole, ratios=(8, 1, 1), seed=0)
        some = {name: _english(examples, documents if name == "train" else 6) for name, examples in splits.items()}
        write_split(corpus, whole, some)
    learning = SMALL | LEARNING | {"epochs": epochs, "dev_limit": 2, "frames": 0, "micro_batch": 2}
    base = Experiment(
        system="video-llm", corpus=corpus, options={"model": model_folder(model, out)} | learning, out=out / "m3d-fit"
    )
    folder = fit(base).checkpoint
    card = open_adapter(folder).card
    print("| epoch | loss | dev entity | chain | relation | tokens/s |\n| ---: | ---: | ---: | ---: | ---: | ---: |")
    for i, epoch in enumerate(card.epochs, start=1):
        f1 = " | ".join(f"{100 * epoch.get(name, 0):.2f}" for name in ("entity", "chain", "relation"))
        print(f"| {i} | {epoch['loss']:.4f} | {f1} | {epoch['tokens_per_s']:.0f} |")
    print(f"ceiling of the answers: {card.data.ceiling}; left out: {card.data.excluded}; effect: {card.effect}")
    said = {}
    for engine in ("transformers", "vllm"):
        if engine == "vllm" and importlib.util.find_spec("vllm") is None:
            continue
        options = dict(base.options) | {"adapter": str(folder), "engine": engine, "dtype": "float32", "context": 16_384}
        made = run(replace(base, options=options, limit=2, out=out / f"m3d-{engine}"))
        said[engine] = [raw.payload for raw in made.raws().values()]
        print(f"{engine}: loaded, {len(said[engine])} documents answered")
    if len(said) == 2:
        print(f"same greedy answers: {sum(a == b for a, b in zip(*said.values(), strict=True))} of {len(said['vllm'])}")


def _english(examples: Sequence, count: int) -> list:
    return [example for example in examples if example.document.lang == "en"][:count]


# --- speed ------------------------------------------------------------------------------------------------------------

SETTINGS = {
    "as it is": {},
    "without checkpointing": {"checkpointing": False},
    "without grouping by length": {"group_by_length": False},
    "without both": {"checkpointing": False, "group_by_length": False},
}


def speed(out: Path, *, model: str, documents: int, device: str) -> None:
    """Each setting in a separate process, for separate peak memory."""
    print("| setting | tokens/s | peak memory, MB | loss |\n| --- | ---: | ---: | ---: |")
    for name, options in SETTINGS.items():
        told = json.dumps({"model": model_folder(model, out), "device": device} | options)
        command = [sys.executable, "-m", "benchmarks.tuning", "one", str(out), "--options", told]
        done = subprocess.run([*command, "--documents", str(documents)], capture_output=True, text=True, check=True)
        row = json.loads(done.stdout.splitlines()[-1])
        print(f"| {name} | {row['tokens_per_s']:.0f} | {row['memory_mb']:.0f} | {row['loss']:.4f} |", flush=True)


def one(out: Path, options: dict, documents: int) -> None:
    """One epoch on demo documents with these options; prints its cost as a line of JSON."""
    from m3dllm.systems.videollm.config import Config
    from m3dllm.systems.videollm.engines.local.model import peak_memory_mb
    from m3dllm.systems.videollm.tuning.trainer import Trainer
    from m3dllm.training import batches

    corpus = load_corpus(demo_corpus())
    folder = out / "speed"
    folder.mkdir(parents=True, exist_ok=True)
    config = Config(**SMALL | LEARNING | {"frames": 2, "longest_side": 128, "max_tokens": 3000} | options)
    trainer = Trainer(config, corpus.labels, corpus["train"][:documents], (), folder)
    trainer.model.train()
    entries, rng = trainer.dataset.entries, random.Random(0)
    steps = batches([entry.tokens for entry in entries], trainer.schedule, rng)
    steps = [[entries[i] for i in step] for step in steps]
    trainer.training.step(steps[0])  # warm-up
    started, loss, learned, tokens = time.perf_counter(), 0.0, 0, 0
    for step in steps:
        loss += trainer.training.step(step)
        learned += sum(entry.target_tokens for entry in step)
        tokens += sum(entry.tokens for entry in step)
    seconds = time.perf_counter() - started
    print(json.dumps({"tokens_per_s": tokens / seconds, "memory_mb": peak_memory_mb(), "loss": loss / learned}))


# --- processes --------------------------------------------------------------------------------------------------------


def processes(out: Path, *, model: str, documents: int) -> None:
    """The loss of each epoch, with one process and with two."""
    demo = load_corpus(demo_corpus())
    corpus = out / "demo"
    if not corpus.exists():
        write_split(
            corpus, demo, {"train": demo["train"][:documents], "dev": demo["dev"][:2], "test": demo["test"][:1]}
        )
    options = SMALL | LEARNING | {"model": model_folder(model, out), "frames": 2, "longest_side": 128, "dev_limit": 1}
    words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    curves = {}
    for count in (1, 2):
        folder = out / f"processes-{count}"
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
        command += [
            "-m",
            "m3dllm",
            "fit",
            "--system",
            "video-llm",
            "--corpus",
            str(corpus),
            "--out",
            str(folder),
            *words,
        ]
        subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        curves[count] = [epoch["loss"] for epoch in open_adapter(Run(folder).checkpoint).card.epochs]
        print(f"{count} processes: losses {curves[count]}")
    print(f"largest difference: {max(abs(a - b) for a, b in zip(*curves.values(), strict=True)):.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("m3d", "speed", "processes", "one"))
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--model", default="qwen2_5_vl")
    parser.add_argument("--documents", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--options", type=json.loads, default={})
    asked = parser.parse_args()
    if asked.verb == "m3d":
        m3d(asked.out, asked.data, model=asked.model, documents=asked.documents, epochs=asked.epochs)
    elif asked.verb == "speed":
        speed(asked.out, model=asked.model, documents=asked.documents, device=asked.device)
    elif asked.verb == "processes":
        processes(asked.out, model=asked.model, documents=asked.documents)
    else:
        one(asked.out, asked.options, asked.documents)


if __name__ == "__main__":
    main()
