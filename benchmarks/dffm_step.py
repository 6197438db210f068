"""One training step of the preset `paper` at full size, with random weights: memory and time.

    python -m benchmarks.dffm step [--system vivit-ts] [--words 400] [--frames 60] [--checkpointing both] [--device cpu]

The architectures are those of Longformer-base and ViT-base, ViViT or VideoMAE-base, built here from their published
sizes; nothing is downloaded. Each setting is measured in a separate process: the memory is the peak of that process
beyond its memory before the step.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

WORDS = tuple(f"word{i}" for i in range(400))


def write_text_encoder(folder: Path) -> None:
    """A Longformer-base with random weights and a tokenizer that knows a few words, as files."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LongformerConfig, LongformerModel, PreTrainedTokenizerFast

    special = ["<s>", "<pad>", "</s>", "<unk>"]
    known = {word: i for i, word in enumerate([*special, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=4096,
        bos_token="<s>",
        cls_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        sep_token="</s>",
        unk_token="<unk>",
    ).save_pretrained(folder)
    config = LongformerConfig(
        vocab_size=50265, max_position_embeddings=4098, attention_window=[512] * 12, type_vocab_size=1, pad_token_id=1
    )
    LongformerModel(config, add_pooling_layer=False).save_pretrained(folder)


def write_vision_encoder(folder: Path, name: str) -> None:
    """An encoder of the size of `name` with random weights, as files."""
    import transformers

    if "videomae" in name:
        config = transformers.VideoMAEConfig(use_mean_pooling=False)
        transformers.VideoMAEModel(config).save_pretrained(folder)
    else:
        kind = "Vivit" if "vivit" in name else "ViT"
        config, model = (getattr(transformers, kind + part) for part in ("Config", "Model"))
        model(config(), add_pooling_layer=False).save_pretrained(folder)


def write_example(folder: Path, *, words: int, frames: int) -> Any:
    """A document of that size: a mention every 20 words, two per chain, two regions per frame."""
    import numpy as np
    from PIL import Image

    from m3dllm.types import Annotation, Box, Chain, Document, Example, Frame, Mention, Region, Relation

    text = " ".join(WORDS[i % len(WORDS)] for i in range(words))
    starts = [0, *(i + 1 for i, letter in enumerate(text) if letter == " ")]
    spans = [(starts[i], starts[i] + len(WORDS[i % len(WORDS)])) for i in range(0, words, 20)]
    chains = tuple(
        Chain(f"c{i}", tuple(Mention(*span, "PER") for span in spans[2 * i : 2 * i + 2]))
        for i in range((len(spans) + 1) // 2)
    )
    rng = np.random.default_rng(0)
    stills, regions = [], []
    for i in range(frames):
        path = folder / f"{24 * i}.jpg"
        Image.fromarray(rng.integers(0, 255, (224, 224, 3), dtype=np.uint8)).save(path)
        stills.append(Frame(24 * i, str(path), 224, 224, annotated=True))
        regions += [Region(24 * i, Box(0.1, 0.1, 0.4, 0.9), "PER"), Region(24 * i, Box(0.5, 0.2, 0.9, 0.8), "LOC")]
    relations = tuple(Relation(a.id, b.id, "PER-PER_parents") for a, b in itertools.pairwise(chains))
    return Example(Document("full", "en", text, frames=tuple(stills)), Annotation(chains, relations, tuple(regions)))


def step(folder: Path, system: str, *, words: int, frames: int, checkpointing: bool, device: str) -> None:
    """Build the model, take one step, and print its cost."""
    import torch

    from m3dllm.corpora.m3d import m3d_labels
    from m3dllm.registry import find_system
    from m3dllm.systems.supervised.learner import describe, parameter_groups, training_item
    from m3dllm.training import weighted_sum

    spec, labels = find_system(system), m3d_labels()
    kind = spec.config_class()
    assert kind is not None
    preset = kind.presets["paper"] | {
        "text_encoder": (str(folder / "text"),),
        "vision_encoder": str(folder / "vision"),
        "checkpointing": checkpointing,
    }
    config = kind(**preset)
    where = torch.device(device)
    example = write_example(folder, words=words, frames=frames)
    made: Any = spec.load()(config, labels=labels)
    model = made.new_model(describe(config, labels, [example])).to(where).train()
    optimizer = torch.optim.AdamW(parameter_groups(model))
    one = training_item(model, example)
    batch = model.batch([one.inputs])
    before = memory_gb(where)
    started = time.perf_counter()
    states = model.encode(batch)
    loss = weighted_sum(model.losses(states, [one.gold]), config.loss_weights, {})
    forward = time.perf_counter() - started
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
    optimizer.step()
    took = time.perf_counter() - started
    n = sum(p.numel() for p in model.parameters()) / 1e6
    print(
        f"{system}: {words} words, {frames} frames, checkpointing {'on' if checkpointing else 'off'}, "
        f"{n:.0f} M parameters: {took:.1f} s (forward {forward:.1f}), "
        f"{memory_gb(where):.2f} GB at most, {before:.2f} before the step",
        flush=True,
    )


def memory_gb(device: Any) -> float:
    """The peak memory so far: of the device, or of this process."""
    if device.type == "cuda":
        import torch

        return float(torch.cuda.max_memory_allocated(device)) / 1e9
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def full_steps(system: str, modes: Sequence[str], *, words: int, frames: int, device: str) -> None:
    """A step with checkpointing "on" or "off", each in a separate process."""
    from m3dllm.registry import find_system

    kind = find_system(system).config_class()
    assert kind is not None
    with tempfile.TemporaryDirectory() as folder:
        write_text_encoder(Path(folder) / "text")
        write_vision_encoder(Path(folder) / "vision", kind.presets["paper"]["vision_encoder"])
        for mode in modes:
            told = [folder, system, str(words), str(frames), mode, device]
            done = subprocess.run([sys.executable, "-m", "benchmarks.dffm_step", *told], check=False)
            if done.returncode:
                print(f"checkpointing {mode}: ended with {done.returncode} (-9: killed for memory)", flush=True)


if __name__ == "__main__":
    where, which, n_words, n_frames, on, name = sys.argv[1:]
    step(Path(where), which, words=int(n_words), frames=int(n_frames), checkpointing=on == "on", device=name)
