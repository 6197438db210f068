"""Start-up times compared with a bare interpreter: medians of alternating runs, and their ratio.

python benchmarks/start_up.py [RUNS]
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import numpy": ["-c", "import numpy"],
    "import typer": ["-c", "import typer"],
    "m3dllm --help": ["-m", "m3dllm", "--help"],
    "m3dllm systems": ["-m", "m3dllm", "systems"],
    "import m3dllm.types": ["-c", "import m3dllm.types"],
    "import m3dllm.score": ["-c", "import m3dllm.score"],
}


def main(runs: int) -> None:
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(runs + 1):
        for name, words in COMMANDS.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, *words], check=True, capture_output=True)
            times[name].append(time.perf_counter() - started)
    bare = statistics.median(times["python -c pass"][1:])
    for name, found in times.items():
        median = statistics.median(found[1:])
        print(f"{name:22s} {1000 * median:7.0f} ms   {median / bare:5.1f} x a bare interpreter")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
