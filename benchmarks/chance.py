"""The error rates of the paired bootstrap: how often it declares equal systems different, and finds a real difference.

    python -m benchmarks.chance [PAIRS]      1,000 pairs of systems on 205 documents

Two systems predict each gold item with the same probability (equal pairs), or one with a slightly higher one. At 5 %
between 35 and 65 of 1,000 equal pairs should be declared different.
"""

from __future__ import annotations

import sys
import time

from tests.report.test_comparison import declared


def main() -> None:
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    for gap in (0.0, 0.01, 0.02, 0.05):
        started = time.perf_counter()
        found = declared(pairs, gap=gap, resamples=2000)
        took = time.perf_counter() - started
        print(f"skill 0.70 and {0.7 + gap:.2f}: {found} of {pairs} declared different ({took:.0f} s)")


if __name__ == "__main__":
    main()
