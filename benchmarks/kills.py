"""Kill a command at random moments, repeat it, and compare its files with those of an undisturbed one.

    python -m benchmarks.kills [KILLS]                    a run of `majority`, and one of a replay of the gold
    python -m benchmarks.kills [KILLS] bench              an experiment of three runs, one of the embedded video LLM
    python -m benchmarks.kills [KILLS] bench --ray        the same, answered by workers of Ray

Of `bench`, the files of every run are compared.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from m3dllm.corpora.demo import demo_corpus
from tests.timeless import files_of

EXPERIMENT = """
title = "To be killed"
pairs = "both"
baseline = "majority"

[[systems]]
system = "majority"

[[systems]]
name = "singletons"
system = "majority"
options = { chain_rule = "singletons" }

[[systems]]
system = "video-llm"
options = { frames = 0, max_tokens = 16 }
"""


def run(*system: str) -> Callable[[Path], list[str]]:
    return lambda out: ["run", *system, "--pairs", "both", "--out", str(out)]


def bench(file: Path, *words: str) -> Callable[[Path], list[str]]:
    return lambda out: ["bench", str(file), "--seeds", "1", "--limit", "1", "--out", str(out), *words]


def files(folder: Path) -> dict[str, bytes]:
    """path -> content of the files of all runs in the folder, without times."""
    runs = [path.parent for path in sorted(folder.rglob("run.json"))]
    return {f"{run.relative_to(folder)}/{name}": data for run in runs for name, data in files_of(run).items()}


def kill(name: str, words: Callable[[Path], list[str]], folder: Path, kills: int, chance: random.Random) -> None:
    """Raises SystemExit if the files differ."""
    start = [sys.executable, "-m", "m3dllm"]
    whole, killed = folder / name / "whole", folder / name / "killed"
    started = time.perf_counter()
    subprocess.run([*start, *words(whole)], check=True, capture_output=True)
    seconds = time.perf_counter() - started
    landed = finished = 0
    while landed < kills:
        started = time.perf_counter()
        process = subprocess.Popen(
            [*start, *words(killed)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            process.wait(chance.uniform(0.05, seconds))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            landed += 1
        else:
            finished += 1
            seconds = min(seconds, time.perf_counter() - started)
            if files(whole) != files(killed):
                raise SystemExit(f"{name}: other files after {landed} kills")
            print(f"{name}: same files after {landed} kills", flush=True)
            shutil.rmtree(killed)
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
            file.write_text(EXPERIMENT)
            executor = ("--executor", "ray", "--workers", "1") if "--ray" in words else ()
            kill("bench-ray" if executor else "bench", bench(file, *executor), folder, kills, chance)
        else:
            kill("majority", run("--system", "majority"), folder, kills // 2, chance)
            kill("replay", run("--system", "replay", "--answers", str(gold)), folder, kills - kills // 2, chance)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50, *sys.argv[2:])
