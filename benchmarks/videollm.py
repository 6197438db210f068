"""Video LLMs: three engines on real documents, the cost of grammars, and the gain of batching.

    python -m benchmarks.videollm engines OUT --data DATA [--model M] [--documents 20] [--max-tokens 96]
    python -m benchmarks.videollm grammar OUT --data DATA [--vocabulary 131072]
    python -m benchmarks.videollm batch OUT [--model M] [--device cuda] [--documents 24] [--max-tokens 128]

M is a model's folder or hub id, a tiny model by its name (qwen2_5_vl, qwen3_vl, llava, internvl), or qwen2.5-vl-3b: a
model of that shape with random weights, for a GPU. Runs are kept in OUT: the same command resumes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from m3dllm import Experiment, load_corpus, run
from m3dllm.corpora.brat import COREFERENCE, read_brat
from m3dllm.corpora.demo import demo_corpus
from m3dllm.corpora.imported import Imported
from m3dllm.corpora.m3d import read_m3d
from m3dllm.corpora.native import write_corpus
from m3dllm.report.terminal import run_table
from m3dllm.runs import Run
from m3dllm.tokens import tokenize
from m3dllm.types import Annotation, Chain, Document, Example

TINY = ("qwen2_5_vl", "qwen3_vl", "llava", "internvl")
CONTEXT = 32_768
LEFT_OPEN = {  # errors that the joint grammar allows, or that do not concern the format
    "occurrence_out_of_range",
    "covered",
    "duplicate_mention",
    "empty_chain",
    "dangling",
    "duplicate_relation",
    "empty_answer",
    "empty_document",
    "truncated",
    "shortened",
    "windows",
}
BANDWIDTH = {"H100": 3.35e12, "H200": 4.8e12, "A100": 2.04e12, "L4": 3.0e11}
"""Memory bandwidth of some GPUs in bytes per second, by a part of their name."""


def model_folder(name: str, out: Path) -> str:
    """The folder of a model that is built here, in `out`; any other name unchanged."""

    folder = out / "models" / name
    if name in TINY and not folder.exists():
        from tests.videollm import tiny

        getattr(tiny, name)(folder)
        config = json.loads((folder / "config.json").read_text())
        config["text_config"]["max_position_embeddings"] = CONTEXT
        (folder / "config.json").write_text(json.dumps(config))
    elif name == "qwen2.5-vl-3b" and not folder.exists():
        _shaped_as_3b(folder)
    return str(folder) if folder.exists() else name


def _shaped_as_3b(folder: Path) -> None:
    """Random weights in the shape of Qwen2.5-VL-3B, with the small tokenizer of the tiny models."""
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    from tests.videollm import tiny

    tiny.qwen2_5_vl(folder)
    config = Qwen2_5_VLConfig.from_pretrained(folder)
    text = {"hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36, "num_attention_heads": 16}
    text |= {"num_key_value_heads": 2, "vocab_size": 151_936, "max_position_embeddings": CONTEXT}
    text |= {"layer_types": ["full_attention"] * 36, "tie_word_embeddings": True}
    text |= {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}}
    vision = {"depth": 32, "hidden_size": 1280, "num_heads": 16, "intermediate_size": 3420, "out_hidden_size": 2048}
    vision |= {"fullatt_block_indexes": [7, 15, 23, 31], "window_size": 112}
    for part, values in ((config.text_config, text), (config.vision_config, vision)):
        for name, value in values.items():
            setattr(part, name, value)
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    model = Qwen2_5_VLForConditionalGeneration(config)
    torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder)


# --- engines ----------------------------------------------------------------------------------------------------------


def engines(out: Path, data: Path, *, model: str, documents: int, max_tokens: int, strategies: Sequence[str]) -> None:
    """The same tiny model in each engine on the demo, the MDocRE samples and M3D: tables, errors, differences."""
    from tests.videollm.serving import vllm_serving

    folder = model_folder(model, out)
    family = {"qwen2_5_vl": "qwen2.5-vl", "qwen3_vl": "qwen3-vl"}.get(model, model)
    shared = {"max_tokens": max_tokens, "context": CONTEXT, "batch": 4, "max_chains": 16, "max_relations": 8}
    with vllm_serving(folder, out / "server.txt", context=CONTEXT) as url:
        engines = {
            "transformers": {"model": folder, "dtype": "float32"},
            "vllm": {"model": folder, "dtype": "float32", "engine": "vllm"},
            "openai": {"model": "tiny", "engine": "openai", "base_url": url, "family": family},
        }
        for corpus in _corpora(out, data, documents):
            for strategy in strategies:
                done = {}
                for engine, options in engines.items():
                    path = out / f"{corpus.name}-{strategy}-{engine}"
                    wanted = shared | options | {"strategy": strategy}
                    done[engine] = run(Experiment(system="video-llm", corpus=corpus, options=wanted, out=path))
                    print(f"\n{path.name}\n{run_table(done[engine])}\n{_faults(done[engine])}", flush=True)
                _compare(done["transformers"], done["vllm"], "vllm")
                _compare(done["transformers"], done["openai"], "openai")


def _corpora(out: Path, data: Path, documents: int) -> Iterator[Path]:
    """Corpora with the documents as their test split."""
    folder = out / "corpora"
    if not (folder / "demo").exists():
        demo = load_corpus(demo_corpus())
        _write(folder / "demo", _few(demo["test"], documents), demo.labels, demo.root)
    yield folder / "demo"
    if not (folder / "mdocre").exists():
        samples = data / "mdocre_samples" / "samples"
        imported = read_brat(
            samples / "text_label",
            text=samples / "text",
            split_languages=True,
            coreference=COREFERENCE,
            frames=samples / "video",
            boxes=samples / "video_label",
            split="test",
        )
        write_corpus(folder / "mdocre", imported)
    yield folder / "mdocre"
    if not (folder / "m3d").exists():
        imported = read_m3d(data / "m3d")
        examples = [example for split in imported.splits.values() for example in split]
        write_corpus(folder / "m3d", Imported(imported.labels, {"test": _few(examples, documents)}))
    yield folder / "m3d"


def _few(examples: Sequence[Example], count: int) -> list[Example]:
    """The first `count` of each language."""
    return [e for lang in ("en", "zh") for e in [e for e in examples if e.document.lang == lang][:count]]


def _write(folder: Path, examples: list[Example], labels: Any, root: Path) -> None:
    """Write some examples of a corpus, whose frames are in `root`, as a new corpus."""
    imported = Imported(labels)
    relative = []
    for example in examples:
        frames = []
        for frame in example.document.frames:
            name = Path(frame.path).resolve().relative_to(root.resolve()).as_posix()
            imported.images[name] = Path(frame.path).read_bytes()
            frames.append(replace(frame, path=name))
        relative.append(replace(example, document=replace(example.document, frames=tuple(frames))))
    imported.splits["test"] = relative
    write_corpus(folder, imported)


def _faults(done: Run) -> str:
    """How many answers are finished, and how many of these have errors that the grammar excludes."""
    raws, record = done.raws(), done.record()
    finished = {
        key for key, raw in raws.items() if all(turn.finish == "stop" for turn in raw.turns) and not raw.failure
    }
    faults: Counter[str] = Counter()
    open_: Counter[str] = Counter()
    at_fault = set()
    for prediction in done.predictions():
        key = (prediction.document, prediction.given)
        for issue in prediction.issues if key in finished else ():
            (open_ if issue.code in LEFT_OPEN else faults)[issue.code] += 1
            if issue.code not in LEFT_OPEN:
                at_fault.add(key)
    failed = [raw.failure.message for raw in raws.values() if raw.failure]
    rates = ", ".join(
        f"{name} {record.tally[name]:.3g}"
        for name in ("documents_a_minute", "tokens_a_second", "grammar_share", "memory_mb")
        if record.tally.get(name) is not None
    )
    return (
        f"{len(raws)} answers, {len(finished)} finished, {len(at_fault)} of these invalid {dict(faults)}; left open by"
        f" the grammar: {dict(open_)}; failed: {len(failed)} {failed[:1]}; {rates}"
    )


def _compare(ours: Run, theirs: Run, name: str) -> None:
    """How many answers are the same, and which are not."""
    one, other = ours.raws(), theirs.raws()
    differ = [key[0] for key in one if one[key].payload != other[key].payload]
    texts = {e.document.id: len(e.document.frames) for e in ours.examples()}
    framed = sum(texts[name] > 0 for name in differ)
    print(f"{ours.path.name} and {name}: {len(one) - len(differ)} of {len(one)} payloads equal", end="")
    print(f"; of those that differ {framed} have frames: {differ}" if differ else "", flush=True)


# --- grammars ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cost:
    """Milliseconds to compile a grammar, and microseconds per token to advance and mask."""

    compile_ms: float
    mask_us: float


def grammars(out: Path, data: Path, *, vocabulary: int) -> None:
    """Compiling and masking along gold answers, with documents of 100, 500 and 4,000 words, for a large vocabulary.

    The bounds are those of a run: at most 48 chains and 64 relations; gold beyond them is dropped.
    """
    import llguidance.hf

    from m3dllm.systems.videollm.config import Config
    from m3dllm.systems.videollm.engines.local.tokenizer_only import TokenizerOnlyEngine
    from m3dllm.systems.videollm.system import VideoLLM
    from m3dllm.systems.videollm.tuning.conversations import items_of

    imported = read_m3d(data / "m3d")
    examples = [example for split in imported.splits.values() for example in split]
    tokenizer = _tokenizer([example.document.text for example in examples], vocabulary)
    tokens = llguidance.hf.from_tokenizer(tokenizer)
    print(f"vocabulary {len(tokenizer):,}; joint answers; medians of 5; free: the likeliest token, nothing ruled out")
    print(f"{'':14}{'tokens of answer':>18}{'grammar':>22}{'schema':>22}{'free':>10}")
    free_us = _free_us(len(tokenizer))
    for lang in ("en", "zh"):
        for words in (100, 500, 4000):
            made = joined([e for e in examples if e.document.lang == lang], words)
            config = Config(model=model_folder("qwen2_5_vl", out), frames=0, context=CONTEXT)
            unloaded = TokenizerOnlyEngine(config)
            unloaded.context = 10 * CONTEXT  # no windows here
            system = VideoLLM(config, labels=imported.labels, engine=unloaded)
            (item,) = items_of([*system.builder.of(made.document)], made.gold)
            held = item.request.constraint
            assert held is not None
            ids = tokenizer.encode(item.answer, add_special_tokens=False)
            costs = [_cost(constraint, ids, tokens) for constraint in (held.grammar, held.schema)]
            shown = "".join(f"{c.compile_ms:9.1f} ms {c.mask_us:7.0f} us" for c in costs)
            print(f"{lang}, {words:5} words{len(ids):18}{shown}{free_us:7.0f} us", flush=True)


def _cost(constraint: Any, ids: Sequence[int], tokens: Any) -> Cost:
    """Along the answer `ids`, which must be allowed."""
    from m3dllm.systems.videollm.engines.local.masks import compile_grammar

    compiled, masked = [], []
    for _ in range(5):
        started = time.perf_counter()
        matcher = compile_grammar(constraint, tokens)
        matcher.compute_bitmask()
        compiled.append(time.perf_counter() - started)
        started = time.perf_counter()
        for token in ids:
            matcher.consume_token(token)
            matcher.compute_bitmask()
        masked.append((time.perf_counter() - started) / len(ids))
        if matcher.is_error():
            raise RuntimeError(matcher.get_error())
    return Cost(1e3 * statistics.median(compiled), 1e6 * statistics.median(masked))


def _free_us(vocabulary: int) -> float:
    """Microseconds of the argmax over all tokens: the cost of an unconstrained token."""
    import torch

    logits = torch.randn(vocabulary)
    seconds = []
    for _ in range(500):
        started = time.perf_counter()
        logits.argmax()
        seconds.append(time.perf_counter() - started)
    return 1e6 * statistics.median(seconds)


def joined(examples: Sequence[Example], words: int) -> Example:
    """Concatenated documents, cut to exactly `words` words (Chinese: characters)."""
    text, chains, relations = "", [], []
    for n, example in enumerate(examples):
        at = len(text)
        for chain in example.gold.chains:
            mentions = tuple(replace(m, start=m.start + at, end=m.end + at) for m in chain.mentions)
            chains.append(Chain(f"{n}-{chain.id}", mentions))
        relations += [replace(r, head=f"{n}-{r.head}", tail=f"{n}-{r.tail}") for r in example.gold.relations]
        text += example.document.text + ("\n" if example.document.lang == "zh" else " \n ")
        if len(tokenize(Document("d", example.document.lang, text))) >= words:
            break
    lang = examples[0].document.lang
    end = tokenize(Document("d", lang, text))[words - 1][1]
    kept = [
        replace(c, mentions=tuple(m for m in c.mentions if m.end <= end)) for c in chains if c.mentions[0].end <= end
    ]
    names = {chain.id for chain in kept}
    gold = Annotation(tuple(kept), tuple(r for r in relations if {r.head, r.tail} <= names))
    return Example(Document(f"{lang}-{words}", lang, text[:end]), gold)


def _tokenizer(texts: Sequence[str], size: int) -> Any:
    """A byte-level BPE of `size` tokens: 8,000 from the texts, and pairs of these for the rest."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=8000, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(texts, trainer)
    state = json.loads(made.to_str())
    known = state["model"]["vocab"]
    pieces = [token for token in list(known)[300:] if 2 <= len(token) <= 6]
    for i in range(size * 4):
        if len(known) >= size:
            break
        one, other = pieces[i % len(pieces)], pieces[(i // len(pieces) * 7919 + i) % len(pieces)]
        if one + other not in known:
            known[one + other] = len(known)
            state["model"]["merges"].append([one, other])
    made = Tokenizer.from_str(json.dumps(state))
    made.add_special_tokens([AddedToken("<|end|>", special=True)])
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|end|>")


# --- batches ----------------------------------------------------------------------------------------------------------


def batches(out: Path, *, model: str, device: str, documents: int, max_tokens: int) -> None:
    """Documents per minute: transformers one by one, transformers and vLLM batched; the same model and documents."""
    from m3dllm.systems.videollm.config import Config
    from m3dllm.systems.videollm.system import VideoLLM

    corpus = load_corpus(demo_corpus())
    asked = [example.document for example in _few(corpus["test"], documents // 2)]
    dtype = "float32" if device == "cpu" else "bfloat16"
    fixed = {"model": model_folder(model, out), "device": device, "dtype": dtype, "context": 16_384}
    fixed |= {"max_tokens": max_tokens, "unconstrained": False}
    rates = {}
    for name, options in {
        "transformers, one by one": {"batch": 1},
        "transformers, 8 together": {"batch": 8},
        "vllm, 32 together": {"engine": "vllm", "batch": 32},
    }.items():
        system = VideoLLM(Config(**fixed | options), labels=corpus.labels)
        list(system.predict(asked[:2]))  # warm-up
        system.tally = type(system.tally)()
        list(system.predict(asked))
        rates[name] = system.tally.documents_a_minute or 0.0
        print(f"{name}: {system.tally}", flush=True)
        _bandwidth(system, system.tally)
        system.engine.close()
        del system
    first = next(iter(rates))
    for name, rate in list(rates.items())[1:]:
        print(f"{name}: {rate / rates[first]:.1f} times the documents a minute of '{first}'")


def _bandwidth(system: Any, tally: Any) -> None:
    """Decoding speed relative to reading all weights once per token of one document, on a GPU of known bandwidth."""
    import torch

    if not torch.cuda.is_available() or not hasattr(system.engine, "model"):
        return
    name = torch.cuda.get_device_name()
    bandwidth = next((value for part, value in BANDWIDTH.items() if part in name), None)
    weights = sum(p.numel() * p.element_size() for p in system.engine.model.parameters())
    if bandwidth is not None:
        best = bandwidth / weights * system.engine.max_concurrency
        share = (tally.tokens_a_second or 0.0) / best
        print(f"  {name}: {weights / 1e9:.1f} GB of weights, at most {best:.0f} tokens a second; reached {share:.0%}")


def main() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb: Callable[..., Any] = verbs.add_parser
    one = verb("engines")
    one.add_argument("--strategies", default="joint,staged")
    for parts in (one, verb("grammar")):
        parts.add_argument("--data", type=Path, required=True)
    verbs.choices["grammar"].add_argument("--vocabulary", type=int, default=131_072)
    verb("batch").add_argument("--device", default="cpu")
    for name, parts in verbs.choices.items():
        parts.add_argument("out", type=Path)
        if name != "grammar":
            parts.add_argument("--model", default="qwen2_5_vl")
            parts.add_argument("--documents", type=int, default=20 if name == "engines" else 24)
            parts.add_argument("--max-tokens", type=int, default=96 if name == "engines" else 128)
    words = parser.parse_args()
    words.out.mkdir(parents=True, exist_ok=True)
    if words.verb == "engines":
        limits = {"documents": words.documents, "max_tokens": words.max_tokens}
        engines(words.out, words.data, model=words.model, strategies=words.strategies.split(","), **limits)
    elif words.verb == "grammar":
        grammars(words.out, words.data, vocabulary=words.vocabulary)
    else:
        limits = {"documents": words.documents, "max_tokens": words.max_tokens}
        batches(words.out, model=words.model, device=words.device, **limits)


if __name__ == "__main__":
    main()
