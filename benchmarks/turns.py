"""Two checkouts that alternate, so that other load slows both alike."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def take_turns(script: str, words: Sequence[str], other: Path, rounds: int) -> list[tuple[list[str], list[str]]]:
    """(output of `script` with the code of `other`, output with this checkout) of each turn, in words.

    It prints one line for each line of its standard input. A first warm-up turn is dropped.
    """
    both = [
        subprocess.Popen(
            [sys.executable, str(Path(script).resolve()), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=checkout,
            env=os.environ | {"PYTHONPATH": str(checkout)},
        )
        for checkout in (other.resolve(), Path(__file__).parents[1])
    ]
    turns = [(_turn(both[0]), _turn(both[1])) for _ in range(rounds + 1)]
    for process in both:
        process.communicate()
    return turns[1:]


def _turn(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return process.stdout.readline().split()
