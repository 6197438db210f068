"""CPU time of a training step of a supervised system on the demo, alternating between two checkouts.

    OMP_NUM_THREADS=1 python -m benchmarks.training_step OTHER [--system dffm] [--rounds 6]

Two processes take the same four steps of four documents each, alternating, so that other load slows both alike. It
prints the minimum and median time of a step of each, the median of their ratios, and the loss of the last step, which
for the same computation differs only in its last digits.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

DOCUMENTS = 16


def serve(system: str) -> None:
    """Take the four steps for each line of standard input: prints seconds per step, and the last loss."""
    import torch

    from m3dllm.corpora.demo import demo_corpus
    from m3dllm.corpora.native import load_corpus
    from m3dllm.devices import one_thread_each
    from m3dllm.registry import find_system
    from m3dllm.systems.supervised.learner import SupervisedLearner, describe
    from m3dllm.training import Training, batches

    corpus, spec = load_corpus(demo_corpus()), find_system(system)
    kind = spec.config_class()
    assert kind is not None
    train = list(corpus.splits["train"])
    some = train[:: len(train) // DOCUMENTS][:DOCUMENTS]  # of both languages
    made = spec.load()(kind(), labels=corpus.labels)
    model = made.new_model(describe(kind(), corpus.labels, train))
    with tempfile.TemporaryDirectory() as folder, one_thread_each(model.threads(made.device)):
        training = Training(SupervisedLearner(model, corpus.labels, made.device, ""), some, (), Path(folder))
        training.set_rates(0.5, 60)
        for k, _ in enumerate(sys.stdin):
            rng = random.Random(k)
            torch.manual_seed(k)
            model.train()
            steps, started = batches(training.lengths, training.schedule, rng), time.process_time()
            for n, step in enumerate(steps):
                training.draw = f"{k}:{n}"
                loss = training.step([training.learner.vary(training.items[i], rng) for i in step])
            print((time.process_time() - started) / len(steps), loss, flush=True)


def compare(other: Path, system: str, rounds: int) -> None:
    """Let the two alternate, and print their times."""
    from benchmarks.turns import take_turns  # not imported in a turn: a checkout may lack it

    said = take_turns(__file__, ["--serve", "--system", system], other, rounds)
    found = [[(float(seconds), float(loss)) for seconds, loss in turn] for turn in said]
    for name, side in zip(("other", "here"), zip(*found, strict=True), strict=True):
        times = [1e3 * seconds for seconds, _ in side]
        print(f"{name}: {min(times):.0f} ms a step at least, {statistics.median(times):.0f} median, loss {side[-1][1]}")
    print(f"other / here: {statistics.median(one[0][0] / one[1][0] for one in found):.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", nargs="?", type=Path)
    parser.add_argument("--system", default="dffm")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        serve(asked.system)
    else:
        compare(asked.other, asked.system, asked.rounds)
