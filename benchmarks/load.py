"""The growth of time and memory: each verb on 100, 1,000, 10,000, … documents, and one document with as many mentions.

    python -m benchmarks.load WORK [N …] [--only STEP,…]      WORK keeps the corpora and runs; N: 100 1000 10000
    python -m benchmarks.load WORK [N …] --data DATA          importers of N documents of real data, repeated, and every
                                                              verb over Re-DocRED and over tweets, as 'majority' answers
                                                              them; DATA holds re_docred/, gmner/, mnre/ and twitter/
    python -m benchmarks.load WORK [N …] --functions          write_answer and normalize on one document of N mentions

Documents are invented: 60 words, twelve mentions in six chains, three relations, no frames; the answers of two systems
are the gold without every seventh mention or every fifth relation. Every step is a separate process, of which CPU time
and peak memory are measured. To compare two versions of the code, run it in the checkout of each.
"""

from __future__ import annotations

import argparse
import ast
import itertools
import json
import multiprocessing
import os
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

NAMES = ("Ada", "Grace", "Alan", "Edsger", "Barbara", "Donald", "Leslie", "Tony", "Niklaus", "John", "Dennis", "Ken")
WORDS = [
    "met",
    "saw",
    "followed",
    "praised",
    "in",
    "of",
    "the",
    "and",
    "a",
    "town",
    "river",
    "house",
    "letter",
    "paper",
    "year",
    "by",
    "night",
    "later",
    "often",
    "never",
]
SIZES = (100, 1_000, 10_000)


def document(i: int) -> tuple[list[str], list[list[tuple[int, str]]], list[tuple[int, int]]]:
    """(tokens, chains of (token, type), relations between chains) of the i-th document."""
    random_ = random.Random(i)
    tokens = [random_.choice(WORDS) for _ in range(60)]
    chains = []
    for n, name in enumerate(random_.sample(NAMES, 6)):
        places = [n * 10 + random_.randrange(5), n * 10 + 5 + random_.randrange(5)]
        for place in places:
            tokens[place] = name
        chains.append([(place, "PER" if n % 2 else "LOC") for place in places])
    return tokens, chains, [(0, 1), (2, 3), (4, 5)]


def write_redocred(path: Path, n: int) -> None:
    rows = []
    for i in range(n):
        tokens, chains, relations = document(i)
        entities = [
            [{"name": tokens[at], "sent_id": 0, "pos": [at, at + 1], "type": kind} for at, kind in chain]
            for chain in chains
        ]
        labels = [{"h": h, "t": t, "r": "met", "evidence": []} for h, t in relations]
        rows.append({"title": f"document {i}", "sents": [tokens], "vertexSet": entities, "labels": labels})
    path.mkdir(parents=True)
    (path / "dev.json").write_text(json.dumps(rows), encoding="utf-8")


def write_brat(path: Path, n: int) -> None:
    path.mkdir(parents=True)
    for i in range(n):
        tokens, chains, relations = document(i)
        starts = [sum(len(t) + 1 for t in tokens[:at]) for at in range(len(tokens))]
        lines, first = [], []
        for chain in chains:
            first.append(len(lines) + 1)
            for at, kind in chain:
                lines.append(f"T{len(lines) + 1}\t{kind} {starts[at]} {starts[at] + len(tokens[at])}\t{tokens[at]}")
        links = [f"*\tCoreference T{t} T{t + 1}" for t in first]
        links += [f"R{k}\tmet Arg1:T{first[h]} Arg2:T{first[t]}" for k, (h, t) in enumerate(relations, start=1)]
        (path / f"{i}.txt").write_text(" ".join(tokens), encoding="utf-8")
        (path / f"{i}.ann").write_text("\n".join([*lines, *links]) + "\n", encoding="utf-8")


REAL = {"redocred": "redocred", "gmner": "gmner/train.txt", "conll": "twitter", "mnre": "mnre_train.txt"}
"""importer -> its file or folder of real data"""
WALKED = ("redocred", "conll")
"""Those for all verbs; they have the splits train and test."""
TRAINED_ON = 20
"""The number of documents that 'majority' is trained on."""


def write_real(folder: Path, data: Path, n: int) -> None:
    """Files of n documents of real data, repeated under other names."""
    files = {name: folder / file for name, file in REAL.items()}
    for part in (files["redocred"], files["gmner"].parent, files["conll"]):
        part.mkdir(parents=True)
    rows = json.loads((data / "re_docred/data/dev_revised.json").read_text(encoding="utf-8"))
    (files["redocred"] / "train.json").write_text(json.dumps(rows[:TRAINED_ON]), encoding="utf-8")
    with (files["redocred"] / "test.json").open("w", encoding="utf-8") as out:
        for i in range(n):
            row = rows[i % len(rows)] | {"title": f"{rows[i % len(rows)]['title']} {i}"}
            out.write(("[" if i == 0 else ",") + json.dumps(row))
        out.write("]")
    tweets = data / "gmner/Twitter10000_v2.0"
    shutil.copyfile(tweets / "xml.tar.gz", files["gmner"].parent / "xml.tar.gz")
    write_tweets(files["gmner"], sorted((tweets / "txt").iterdir()), n)
    write_tweets(files["conll"] / "test.txt", [data / "twitter/twitter2015_train.txt"], n)
    write_tweets(files["conll"] / "train.txt", [data / "twitter/twitter2015_train.txt"], TRAINED_ON)
    pairs = [ast.literal_eval(line) for line in (data / "mnre/mnre_train.txt").read_text(encoding="utf-8").splitlines()]
    seen: set[tuple[str, str]] = set()
    with files["mnre"].open("w", encoding="utf-8") as out:
        for i in itertools.count():
            pair = pairs[i % len(pairs)] | {"img_id": f"{i // len(pairs)}-{pairs[i % len(pairs)]['img_id']}"}
            seen.add((pair["img_id"], " ".join(pair["token"])))
            if len(seen) > n:
                return
            out.write(f"{pair!r}\n")


def write_tweets(path: Path, sources: Sequence[Path], n: int) -> None:
    blocks = [block for file in sources for block in file.read_text(encoding="utf-8").split("IMGID:")[1:]]
    with path.open("w", encoding="utf-8") as out:
        for i in range(n):
            again = f"-{i}" if i >= len(blocks) else ""
            image, _, rest = blocks[i % len(blocks)].partition("\n")
            out.write(f"IMGID:{image.strip()}{again}\n{rest.rstrip()}\n\n")


def real_steps(work: Path, data: Path, n: int) -> Iterator[tuple[str, Callable[[], tuple[float, float]]]]:
    """The import of each kind of real data, and every verb on some of them."""
    here = work / f"real-{n}"
    if not here.exists():
        apart(write_real, here, data, n)
    for name, file in REAL.items():
        words = ("import", name, here / file, "--out")
        yield f"import {name}", lambda name=name, words=words: measured(*words, fresh(here / f"corpus-{name}"))
    for name in WALKED:
        corpus, run = here / f"corpus-{name}", here / f"run-{name}"
        words = ("run", "--corpus", corpus, "--system", "majority", "--out")
        walked = [*corpus_steps(corpus, here), ("run", lambda words=words, run=run: measured(*words, fresh(run)))]
        for step, act in (*walked, *run_steps([run], here)):
            yield f"{name}: {step}", act


def write_answers(corpus: Path, folder: Path) -> None:
    """Two systems' answers: lines of the native form without some of the gold."""
    for name in ("a", "b"):
        with (corpus / "dev.jsonl").open(encoding="utf-8") as rows, (folder / f"{name}.jsonl").open("w") as out:
            for i, row in enumerate(map(json.loads, rows)):
                gold = row["gold"]
                if name == "a":
                    for n, chain in enumerate(gold["chains"]):
                        if (i + n) % 7 == 0:
                            chain["mentions"] = chain["mentions"][:1]
                elif i % 5 == 0:
                    gold["relations"] = gold["relations"][1:]
                out.write(json.dumps(row) + "\n")


def prediction_lines(here: Path) -> Path:
    """The answers of a system as prediction lines."""
    file = here / "predictions.jsonl"
    if not file.exists():
        with (here / "a.jsonl").open(encoding="utf-8") as rows, file.open("w", encoding="utf-8") as out:
            for row in map(json.loads, rows):
                out.write(json.dumps({"document": row["id"], "annotation": row["gold"]}) + "\n")
    return file


def measured(*arguments: object) -> tuple[float, float]:
    """(CPU seconds, peak megabytes) of the program, in a separate process."""
    command = [sys.executable, "-m", "m3dllm", *map(str, arguments)]
    quiet = os.open(os.devnull, os.O_WRONLY)
    pid = os.posix_spawn(command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, quiet, 1)])
    _, status, usage = os.wait4(pid, 0)
    os.close(quiet)
    if status:
        raise SystemExit(f"failed: {' '.join(command)}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000


def apart(function: Callable[..., None], *arguments: object) -> None:
    """Call it in a separate process, since a process' peak memory counts for those that it starts later."""
    process = multiprocessing.get_context("fork").Process(target=function, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"failed: {function.__name__}")


def fresh(folder: Path) -> Path:
    """`folder`, without the files of an earlier measurement."""
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def steps(work: Path, n: int) -> Iterator[tuple[str, Callable[[], tuple[float, float]]]]:
    """(step, function that measures it), in the order of dependencies."""
    here = work / str(n)
    corpus = here / "corpus"
    for kind, write in (("redocred", write_redocred), ("brat", write_brat)):
        if not (here / kind).exists():
            apart(write, here / kind, n)
        out = corpus if kind == "redocred" else here / f"corpus-{kind}"
        yield f"import {kind}", lambda kind=kind, out=out: measured("import", kind, here / kind, "--out", fresh(out))
    if not (here / "b.jsonl").exists():
        apart(write_answers, corpus, here)
    yield from corpus_steps(corpus, here)
    gold = corpus / "dev.jsonl"
    yield "score, two files", lambda: measured("score", "--gold", gold, "--pred", prediction_lines(here))
    run = ("run", "--corpus", corpus, "--split", "dev", "--system", "replay")
    for name in ("a", "b"):
        yield (
            f"run {name}",
            lambda name=name: measured(*run, "--answers", here / f"{name}.jsonl", "--out", fresh(here / f"run-{name}")),
        )
    yield from run_steps([here / "run-a", here / "run-b"], here)


def corpus_steps(corpus: Path, here: Path) -> Iterator[tuple[str, Callable[[], tuple[float, float]]]]:
    """The steps on a corpus."""
    yield "check", lambda: measured("check", corpus)
    yield "split", lambda: measured("split", corpus, "--out", fresh(here / "split"))
    for form in ("csv", "jsonld"):
        yield f"export {form}", lambda form=form: measured("export", form, corpus, "--out", fresh(here / form))


def run_steps(runs: Sequence[Path], here: Path) -> Iterator[tuple[str, Callable[[], tuple[float, float]]]]:
    """The steps on finished runs."""
    yield "normalize", lambda: measured("normalize", runs[0])
    yield "score", lambda: measured("score", runs[0])
    yield "report", lambda: measured("report", *runs, "--out", fresh(here / "report"))
    yield "view", lambda: measured("view", *runs, "--out", fresh(here / "view"))


def functions(n: int) -> Iterator[tuple[str, float]]:
    """(name, seconds) of the functions on one document with n mentions: of one text, of long texts, each once."""
    from m3dllm.answers import write_answer
    from m3dllm.normalize import normalize
    from m3dllm.types import Annotation, Chain, Document, Mention, RawOutput

    def seconds(function: Callable[[], Any]) -> float:
        started = time.process_time()
        function()
        return time.process_time() - started

    text = "Ada " * n
    document_ = Document("d", "en", text)
    chains = tuple(Chain(f"c{i}", (Mention(4 * i, 4 * i + 3, "PER"),)) for i in range(n))
    yield "write_answer, one text", seconds(lambda: write_answer(document_, Annotation(chains)))
    one = {"chains": [{"id": f"c{i}", "type": "PER", "mentions": [["Ada", i + 1]]} for i in range(n)]}
    yield "normalize, one text by number", seconds(lambda: normalize(document_, RawOutput("d", payload=one)))
    same = {"chains": [{"id": f"c{i}", "type": "PER", "mentions": ["Ada"]} for i in range(n)]}
    yield "normalize, one text again and again", seconds(lambda: normalize(document_, RawOutput("d", payload=same)))
    long = {"chains": [{"id": f"c{i}", "type": "PER", "mentions": [text[:400]]} for i in range(n)]}
    yield "normalize, long texts repeated", seconds(lambda: normalize(document_, RawOutput("d", payload=long)))
    words = [f"w{i}" for i in range(n)]
    many = Document("d", "en", " ".join(words))
    each = {"chains": [{"id": f"c{i}", "type": "PER", "mentions": [word]} for i, word in enumerate(words)]}
    yield "normalize, every word once", seconds(lambda: normalize(many, RawOutput("d", payload=each)))
    none = {"chains": [{"id": f"c{i}", "type": "PER", "mentions": [f"x{i}"]} for i in range(n)]}
    yield "normalize, words that are not there", seconds(lambda: normalize(many, RawOutput("d", payload=none)))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path)
    parser.add_argument("sizes", type=int, nargs="*", default=SIZES)
    parser.add_argument("--only", default="")
    parser.add_argument("--data", type=Path, help="importers of the real data that lies there")
    parser.add_argument("--functions", action="store_true", help="the functions on one document, not the verbs")
    given = parser.parse_args()
    for n in given.sizes:
        if given.functions:
            for name, seconds in functions(n):
                print(f"{name:36s} {n:8,d} {seconds:9.3f} s", flush=True)
            continue
        for name, step in real_steps(given.work, given.data, n) if given.data else steps(given.work, n):
            if not given.only or any(name.startswith(part) for part in given.only.split(",")):
                seconds, megabytes = step()
                rate = n / seconds
                print(f"{name:22s} {n:8,d} {seconds:9.2f} s {rate:9,.0f}/s {megabytes:8.0f} MB", flush=True)


if __name__ == "__main__":
    main()
