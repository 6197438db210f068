"""Kill a run at random moments, give the same command again, and compare its files with an undisturbed run's.

    python benchmarks/kills.py [KILLS]

Two commands are killed: `majority` (while it fits, predicts, normalizes and scores) and a slow replay of the gold.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from m3dllm.corpora.demo import demo_corpus

FILES = ("documents.jsonl", "raw.jsonl", "predictions.jsonl", "scores.json", "per_document.jsonl")


def command(system: list[str], out: Path) -> list[str]:
    return [sys.executable, "-m", "m3dllm", "run", *system, "--pairs", "both", "--out", str(out)]


def files(run: Path) -> dict[str, bytes]:
    return {name: (run / name).read_bytes() for name in FILES}


def main(kills: int) -> None:
    chance = random.Random(0)
    gold = demo_corpus() / "test.jsonl"
    with tempfile.TemporaryDirectory() as folder:
        for name, system in (
            ("majority", ["--system", "majority"]),
            ("replay", ["--system", "replay", "--answers", str(gold)]),
        ):
            whole, killed = Path(folder, name, "whole"), Path(folder, name, "killed")
            started = time.perf_counter()
            subprocess.run(command(system, whole), check=True, capture_output=True)
            seconds = time.perf_counter() - started
            landed = 0
            while landed < kills // 2:
                run = subprocess.Popen(command(system, killed), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                time.sleep(chance.uniform(0.05, seconds))
                if run.poll() is None:
                    run.send_signal(signal.SIGKILL)
                    landed += 1
                elif killed.exists():  # it finished: begin again
                    subprocess.run(["rm", "-rf", str(killed)], check=True)
                run.wait()
            subprocess.run(command(system, killed), check=True, capture_output=True)
            same = files(whole) == files(killed)
            print(f"{name}: killed {landed} times in a run of {seconds:.1f} s; same files: {same}")
            if not same:
                raise SystemExit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50)
