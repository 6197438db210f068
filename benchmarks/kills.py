"""Kill a command at random moments, give it again, and compare its files with those of an undisturbed one.

    python benchmarks/kills.py [KILLS]                    a run of `majority`, and one of a replay of the gold
    python benchmarks/kills.py [KILLS] bench              an experiment of four runs, each answering in its own process
    python benchmarks/kills.py [KILLS] bench --ray        the same, answered by two workers of Ray

Of `bench`, every file of every run and the scores of its report are compared.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from m3dllm.corpora.demo import demo_corpus

FILES = ("documents.jsonl", "raw.jsonl", "predictions.jsonl", "scores.json", "per_document.jsonl")
EXPERIMENT = """
title = "To be killed"
pairs = "both"
baseline = "majority"

[[systems]]
system = "majority"

[[systems]]
name = "singletons"
system = "majority"
options = {{ chain_rule = "singletons" }}

[[systems]]
system = "replay"
options = {{ answers = "{gold}" }}

[[systems]]
name = "again"
system = "replay"
options = {{ answers = "{gold}" }}
"""


def run(*system: str) -> Callable[[Path], list[str]]:
    return lambda out: ["run", *system, "--pairs", "both", "--out", str(out)]


def bench(file: Path, *words: str) -> Callable[[Path], list[str]]:
    return lambda out: ["bench", str(file), "--seeds", "1", "--limit", "12", "--out", str(out), *words]


def files(folder: Path) -> dict[str, bytes]:
    """Those of all runs in the folder that do not tell the time, by path."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*.json*")) if p.name in FILES}


def kill(name: str, words: Callable[[Path], list[str]], folder: Path, kills: int, chance: random.Random) -> None:
    """Raises SystemExit where the files differ."""
    start = [sys.executable, "-m", "m3dllm"]
    whole, killed = folder / name / "whole", folder / name / "killed"
    started = time.perf_counter()
    subprocess.run([*start, *words(whole)], check=True, capture_output=True)
    seconds = time.perf_counter() - started
    landed = finished = 0
    while landed < kills:
        process = subprocess.Popen(
            [*start, *words(killed)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        time.sleep(chance.uniform(0.05, seconds))
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            landed += 1
        elif killed.exists():
            finished += 1
            if files(whole) != files(killed):
                raise SystemExit(f"{name}: other files after {landed} kills")
            shutil.rmtree(killed)
        process.wait()
    subprocess.run([*start, *words(killed)], check=True, capture_output=True)
    same = bool(files(whole)) and files(whole) == files(killed)
    print(f"{name}: killed {landed} times, finished {finished + 1}, undisturbed {seconds:.1f} s; same files: {same}")
    if not same:
        raise SystemExit(1)


def main(kills: int, *words: str) -> None:
    chance = random.Random(0)
    gold = demo_corpus() / "test.jsonl"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "bench" in words:
            file = folder / "kills.toml"
            file.write_text(EXPERIMENT.format(gold=gold))
            executor = ("--executor", "ray", "--workers", "2") if "--ray" in words else ()
            kill("bench-ray" if executor else "bench", bench(file, *executor), folder, kills, chance)
        else:
            kill("majority", run("--system", "majority"), folder, kills // 2, chance)
            kill("replay", run("--system", "replay", "--answers", str(gold)), folder, kills - kills // 2, chance)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50, *sys.argv[2:])
