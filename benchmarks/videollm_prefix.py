"""Prompt tokens of the strategies joint and staged, and how many are computed with and without the prefix cache.

    python -m benchmarks.videollm_prefix [--model MODEL] [--documents N] [--frames N] [--longest-side N] [--device cpu]

Without --model a tiny one of the real Qwen2.5-VL architecture is built, with random weights and a byte-level
tokenizer. The documents are those of the demo corpus; gold answers replace the model's, so that the prompts of later
stages are as long as in a run with correct answers. Each prompt is encoded and one token is generated. It counts the
prompt tokens, those computed and those from the cache, the images encoded by the vision encoder, and seconds (CPU time
on a CPU, which other load does not change); all figures are from the same run.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two threads are far slower than one for models this small

from m3dllm import load_corpus
from m3dllm.corpora.demo import demo_corpus
from m3dllm.systems.videollm.config import Config
from m3dllm.systems.videollm.engines import make_engine
from m3dllm.systems.videollm.engines.base import Request
from m3dllm.systems.videollm.system import VideoLLM
from m3dllm.systems.videollm.tuning.conversations import items_of
from m3dllm.types import Example

STRATEGIES = ("joint", "staged")


@dataclass(slots=True)
class Cost:
    """The cost of the prompts of some documents."""

    prompts: int = 0
    tokens: int = 0
    reused: int = 0
    vision: int = 0
    images: int = 0
    seconds: float = 0.0


def main() -> None:
    asked = options()
    model = asked.model or tiny(Path(tempfile.mkdtemp()) / "qwen2_5_vl")
    config = Config(
        model=str(model),
        device=asked.device,
        dtype="auto" if asked.model else "float32",
        frames=asked.frames,
        longest_side=asked.longest_side,
        max_tokens=1024,
        batch=1,
    )
    corpus = load_corpus(demo_corpus())
    examples = corpus["test"]
    engine: Any = make_engine(config)
    counter = Images(engine.model)
    print("lang  strategy  reuse  prompts    tokens  computed  reused  of them images  images encoded  s/document")
    for lang in ("en", "zh"):
        chosen = [e for e in examples if e.document.lang == lang and e.document.text][: asked.documents]
        for strategy in STRATEGIES:
            system = VideoLLM(replace(config, strategy=strategy), labels=corpus.labels, engine=engine)
            found = [list(requests(system, example)) for example in chosen]
            for shared in (False, True):
                cost = spend(engine, counter, found, shared=shared)
                share = f"{100 * cost.reused / cost.tokens:.1f} %"
                print(
                    f"{lang:4}  {strategy:8}  {'yes' if shared else 'no':5}  {cost.prompts:7}  {cost.tokens:8}"
                    f"  {cost.tokens - cost.reused:8}  {share:>6}  {cost.vision:14}  {cost.images:14}"
                    f"  {cost.seconds / len(chosen):10.2f}"
                )
    engine.close()


def requests(system: VideoLLM, example: Example) -> Iterator[Request]:
    """The prompts about a document, in order, each for one unconstrained token."""
    for item in items_of(system.builder.of(example.document), example.gold):
        yield replace(item.request, constraint=None, max_tokens=1)


def spend(engine: Any, counter: Images, found: Sequence[Sequence[Request]], *, shared: bool) -> Cost:
    """Send all prompts, document by document; without `shared` each is encoded from its beginning."""
    cost = Cost()
    counter.count = 0
    clock = time.process_time if engine.device.type == "cpu" else time.perf_counter
    started = clock()
    for i, asked in enumerate(found):
        for request in asked:
            engine.submit(0, request if shared else replace(request, share=""))
            ((_, reply),) = engine.poll()
            if reply.failure is not None:
                raise SystemExit(reply.failure.message)
            cost.prompts += 1
            cost.tokens += reply.tokens_in or 0
            cost.reused += reply.tokens_reused or 0
            cost.vision += reply.tokens_vision or 0
        engine.release(asked[0].share if asked else str(i))
    cost.seconds = clock() - started
    cost.images = counter.count
    return cost


class Images:
    """Counts the images that go through a model's vision encoder."""

    def __init__(self, model: Any) -> None:
        self.count = 0
        for name, part in model.named_modules():
            if name.rpartition(".")[2] in ("visual", "vision_tower", "vision_model"):
                part.register_forward_pre_hook(self._see, with_kwargs=True)
                return
        raise SystemExit("the model has no vision encoder that is known here")

    def _see(self, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        grid = kwargs.get("grid_thw", args[1] if len(args) > 1 else None)
        self.count += len(grid) if grid is not None else len(args[0])


def tiny(folder: Path) -> Path:
    from tests.videollm.tiny import qwen2_5_vl

    return qwen2_5_vl(folder)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--documents", type=int, default=12)
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--longest-side", type=int, default=320)
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


if __name__ == "__main__":
    main()
