"""The work of the host besides the model: documents per second and core, with an engine that answers immediately.

    python -m benchmarks.host [--frames 0,8,32] [--documents 24] [--model M] [--profile]
    OMP_NUM_THREADS=1 python -m benchmarks.host --frames 8 --documents 8 --against OTHER [--rounds 6]

Everything except the model's computation is real: frames of 720p are decoded, resized and hashed, prompts rendered,
counted and encoded, grammars compiled, answers read, and raw.jsonl and prompts.jsonl written. M is a model's folder or
hub id, of which only the tokenizer and the processor are loaded; default: a tiny Qwen2.5-VL with a byte-level
vocabulary, whose prompts have about three times as many tokens as real ones.

With --against, this checkout and OTHER alternate, so that other load slows both alike; it also reports whether both
pass the same tokens and pixels to the model.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from m3dllm import load_corpus
from m3dllm.corpora.demo import demo_corpus
from m3dllm.files import sha256_file
from m3dllm.systems.videollm.config import Config
from m3dllm.systems.videollm.engines.base import Reply, Request
from m3dllm.systems.videollm.engines.local.masks import compile_grammar
from m3dllm.systems.videollm.engines.local.tokenizer_only import TokenizerOnlyEngine
from m3dllm.systems.videollm.system import VideoLLM
from m3dllm.types import Document, Frame

WORDS = 300
SIZE = (1280, 720)
ANSWER = '{"chains":[],"relations":[],"regions":[]}'


class InstantEngine(TokenizerOnlyEngine):
    """Encodes the prompt, compiles the grammar, and returns a fixed answer."""

    max_concurrency = 16

    def __init__(self, options: Config) -> None:
        super().__init__(options)
        self._ready: deque[tuple[int, Reply]] = deque()
        self.seen: Any = None
        """A hash of all model inputs, if requested."""

    def submit(self, key: int, request: Request) -> None:
        inputs = self.local.encode(request.messages)
        if request.constraint is not None and request.constraint.grammar is not None:
            compile_grammar(request.constraint.grammar, self.local.grammar_tokenizer)
        if self.seen is not None:
            for name in sorted(inputs):
                self.seen.update(inputs[name].numpy().tobytes())
        self._ready.append((key, Reply(text=ANSWER, tokens_in=inputs["input_ids"].shape[1])))

    def poll(self) -> list[tuple[int, Reply]]:
        done, self._ready = list(self._ready), deque()
        return done


def documents(folder: Path, count: int, frames: int) -> Iterator[Document]:
    """Texts of WORDS words from the demo's, each with its own pictures."""
    rng = np.random.default_rng(0)
    texts = [example.document.text for example in load_corpus(demo_corpus())["train"] if example.document.lang == "en"]
    words = " ".join(texts).split()
    for i in range(count):
        text = " ".join(words[(i * WORDS) % (len(words) - WORDS) :][:WORDS])
        stills = []
        for j in range(frames):
            path = folder / f"{i}-{j}.jpg"
            coarse = Image.fromarray(rng.integers(0, 256, (9, 16, 3), dtype=np.uint8))
            coarse.resize(SIZE, Image.Resampling.BICUBIC).save(path, quality=90)
            stills.append(Frame(24 * (j + 1), str(path), *SIZE, sha256=sha256_file(path)))
        yield Document(f"d{i}", "en", text, frames=tuple(stills))


def system_of(folder: Path, model: str | None, frames: int) -> tuple[VideoLLM, InstantEngine]:
    """The system and its engine; `folder` holds the tiny model if none is given."""
    if model is None:
        from tests.videollm import tiny

        made = folder / "model"
        model = str(made if made.exists() else tiny.qwen2_5_vl(made))
    config = Config(model=model, frames=frames, context=1 << 17, prompt_version=2, max_tokens=512)
    engine = InstantEngine(config)
    return VideoLLM(config, labels=load_corpus(demo_corpus()).labels, engine=engine), engine


def serve(model: str | None, frames: int, count: int) -> None:
    """Process the documents for each line of standard input: prints CPU seconds, and the hash of the model's first
    inputs."""
    with tempfile.TemporaryDirectory() as folder:
        here = list(documents(Path(folder), count, frames))
        system, engine = system_of(Path(folder), model, frames)
        engine.seen, handed = sha256(), ""
        for _ in sys.stdin:
            started = time.process_time()
            list(system.predict(here))
            seconds = time.process_time() - started
            handed = handed or engine.seen.hexdigest()
            engine.seen = None
            print(seconds, handed, flush=True)


def compare(other: Path, words: list[str], rounds: int, count: int) -> None:
    """Let the two alternate, and print the results."""
    from benchmarks.turns import take_turns  # not imported in a turn: a checkout may lack it

    turns = take_turns(__file__, [*words, "--serve"], other, rounds)
    for name, side in zip(("other", "here"), zip(*turns, strict=True), strict=True):
        each = [count / float(seconds) for seconds, _ in side]
        median = statistics.median(each)
        print(f"{name}: {median:.1f} documents a second and core, {min(each):.1f} to {max(each):.1f}")
    print(f"here / other: {statistics.median(float(one[0][0]) / float(one[1][0]) for one in turns):.3f}")
    print(f"handed to the model: {'the same' if turns[0][0][1] == turns[0][1][1] else 'not the same'}")


def main() -> None:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", default="0,8,32")
    parser.add_argument("--documents", type=int, default=24)
    parser.add_argument("--model")
    parser.add_argument("--profile", action="store_true", help="the twenty functions that take the most time")
    parser.add_argument("--against", type=Path, metavar="OTHER", help="another checkout; of the first of --frames")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.model, int(given.frames.split(",")[0]), given.documents)
        return
    if given.against is not None:
        words = [f"--frames={given.frames}", f"--documents={given.documents}"]
        words += [f"--model={given.model}"] if given.model else []
        compare(given.against, words, given.rounds, given.documents)
        return
    with tempfile.TemporaryDirectory() as folder:
        for frames in map(int, given.frames.split(",")):
            here = list(documents(Path(folder), given.documents, frames))
            system, _ = system_of(Path(folder), given.model, frames)
            list(system.predict(here[:2]))  # warm-up
            profile = cProfile.Profile()
            started, core = time.perf_counter(), time.process_time()
            if given.profile:
                profile.enable()
            answers = list(system.predict(here))
            profile.disable()
            wall, core = time.perf_counter() - started, time.process_time() - core
            tokens = sum(raw.tokens_in or 0 for raw in answers) / len(answers)
            print(
                f"{frames} frames: {len(answers) / core:.1f} documents a second and core"
                f" ({len(answers) / wall:.1f} a second), {tokens:.0f} tokens a prompt",
                flush=True,
            )
            if given.profile:
                pstats.Stats(profile).sort_stats("tottime").print_stats(24)


if __name__ == "__main__":
    main()
