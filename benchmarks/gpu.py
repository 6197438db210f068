"""The model for benchmarks/gpu.sh, and the table of its runs.

python -m benchmarks.gpu model NAME OUT
python -m benchmarks.gpu table OUT
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.videollm import BANDWIDTH, model_folder


def table(out: Path) -> str:
    """Speed, memory and parity of the runs in `out`, in Markdown."""
    runs = {path.parent.name: json.loads(path.read_text()) for path in sorted(out.glob("*/run.json"))}
    weights = sum(path.stat().st_size for path in (out / "models").glob("*/*.safetensors"))
    bandwidth = next((value for part, value in BANDWIDTH.items() if part in _device()), None)
    lines = [
        "| run | documents a minute | tokens a second | of the bandwidth | memory, GB | seconds |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, record in runs.items():
        tally, seconds = record["tally"], record["seconds"]
        tokens = tally.get("tokens_a_second")
        batch = name.rpartition("-")[2]
        share = f"{weights * tokens / bandwidth:.0%}" if bandwidth and tokens and batch == "1" else "–"
        memory = tally.get("memory_mb") or max(record["memory_mb"].values(), default=0)
        cells = [_number(tally.get("documents_a_minute")), _number(tokens), share, f"{memory / 1000:.1f}"]
        lines.append(f"| {' | '.join([name, *cells, _number(sum(seconds.values()))])} |")
    return "\n\n".join([_device(), "\n".join(lines), *_parity(out)])


def _parity(out: Path) -> list[str]:
    """How many answers are identical to those on the CPU."""
    said = {name: _texts(out / f"parity-{name}") for name in ("cpu", "transformers", "vllm")}
    return [
        f"{name}: {sum(a == b for a, b in zip(said['cpu'], said[name], strict=True))} of {len(said['cpu'])} answers"
        " are those of the CPU."
        for name in ("transformers", "vllm")
        if said[name]
    ]


def _texts(run: Path) -> list[Any]:
    """The model's text about each document; confidences may differ in their last digits."""
    file = run / "raw.jsonl"
    answers = map(json.loads, file.read_text().splitlines()) if file.exists() else ()
    return [[turn["text"] for turn in answer["turns"]] for answer in answers]


def _device() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.1f}"


def main() -> None:
    match sys.argv[1:]:
        case ["model", name, out]:
            print(model_folder(name, Path(out)))
        case ["table", out]:
            print(table(Path(out)))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
