"""Generated clips as arrays on disk, made once: tokens, pictures, and the starts of answers.

A shelf is a folder with the documents of one kind and language: `ids.npy` (all tokens, one document after the other),
`rows.npy` (n, 6: first token, tokens, tokens of the prompt, tokens up to the end of the loss, first picture, pictures)
and `pictures.npy` (n, height, width, 3). The frames of a kind are also a separate shelf, of kind "single": one frame
per document, without text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.embedded.examples import KINDS, answer, clips, pixels
from m3dllm.types import Annotation, Document, Example, Lang

SIZE = (80, 64)
"""Width and height of the demo's frames as the model gets them."""
SIGHTS = 20
"""The number of tokens of a frame."""
_AFTER_CHAINS = '],"relations":['


def prompt(document: Document) -> str:
    """The prompt as the model reads it, with all image tokens."""
    from m3dllm.systems.videollm.prompts import text_lines

    image = "<|vision_start|>" + SIGHTS * "<|image_pad|>" + "<|vision_end|>"
    frames = "".join(f"{frame.index}{image}" for frame in sorted(document.frames, key=lambda f: f.index))
    lines = "\n".join(line.text for line in text_lines(document))
    return "\n\n".join(part for part in (frames, lines) if part) + "\n\n<|im_end|><|im_start|>"


def singles(examples: Iterator[tuple[Example, dict[str, bytes]]]) -> Iterator[tuple[Example, dict[str, bytes]]]:
    """Each frame of the examples as a document without text."""
    for example, images in examples:
        for frame in example.document.frames:
            regions = tuple(replace(r, chain=None) for r in example.gold.regions if r.frame == frame.index)
            document = Document(f"{example.document.id}-{frame.index}", example.document.lang, "", frames=(frame,))
            yield Example(document, Annotation(regions=regions)), images


def fill(folder: Path, name: str, lang: Lang, n: int, tokenizer: Any, *, seed: int) -> None:
    """Make the shelf of `n` documents, unless it exists."""
    if (folder / "rows.npy").exists():
        return
    source = singles(clips(KINDS["full"], lang, seed + 1)) if name == "single" else clips(KINDS[name], lang, seed)
    tokens: list[np.ndarray] = []
    rows: list[tuple[int, ...]] = []
    pictures: list[np.ndarray] = []
    at = 0
    for example, images in islice(source, n):
        document = example.document
        asked = tokenizer(prompt(document), add_special_tokens=False).input_ids
        text = answer(document, example.gold) + "<|im_end|>"
        said = tokenizer(text, add_special_tokens=False).input_ids
        told = text[: text.index(_AFTER_CHAINS) + len(_AFTER_CHAINS)] if name in KINDS and KINDS[name].unshown else text
        learned = len(tokenizer(told, add_special_tokens=False).input_ids)
        sizes = len(asked) + len(said), len(asked), len(asked) + learned
        rows.append((at, *sizes, len(pictures), len(document.frames)))
        at += len(asked) + len(said)
        tokens.append(np.array(asked + said, dtype=np.uint16))
        pictures += [pixels(images[f.path], SIZE) for f in sorted(document.frames, key=lambda f: f.index)]
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "ids.npy", np.concatenate(tokens))
    np.save(folder / "pictures.npy", np.array(pictures, dtype=np.uint8).reshape(-1, SIZE[1], SIZE[0], 3))
    np.save(folder / "rows.npy", np.array(rows, dtype=np.int64))


@dataclass(frozen=True, slots=True)
class Item:
    """One document: its tokens, the number of prompt tokens, the number of tokens up to the end of the loss, and its
    pictures (n, height, width, 3)."""

    ids: np.ndarray
    asked: int
    learned: int
    pictures: np.ndarray


class Shelf:
    """A filled shelf. Relations of answers with relations that are not in the prompt are not trained on."""

    def __init__(self, folder: Path) -> None:
        self.kind, self.lang, _ = folder.name.split("-")
        self.ids = np.load(folder / "ids.npy", mmap_mode="r")
        self.rows = np.load(folder / "rows.npy")
        self.pictures = np.load(folder / "pictures.npy", mmap_mode="r")

    def __len__(self) -> int:
        return len(self.rows)

    def length(self, i: int) -> int:
        return int(self.rows[i, 1])

    def __getitem__(self, i: int) -> Item:
        start, length, asked, learned, picture, n = map(int, self.rows[i])
        pictures = self.pictures[picture : picture + n]
        return Item(self.ids[start : start + length].astype(np.int64), asked, learned, pictures)


def patches(pictures: np.ndarray, patch: int, merge: int) -> np.ndarray:
    """(n, height, width, 3) bytes as the image processor cuts them: (n * patches, 3 * 2 * patch * patch), in -1..1."""
    n, height, width, _ = pictures.shape
    down, across = height // patch // merge, width // patch // merge
    cut = (pictures.astype(np.float32) / 127.5 - 1).transpose(0, 3, 1, 2)
    cut = cut.reshape(n, 3, down, merge, patch, across, merge, patch).transpose(0, 2, 5, 3, 6, 1, 4, 7)
    cut = np.repeat(cut[:, :, :, :, :, :, None], 2, axis=6)
    return np.ascontiguousarray(cut).reshape(n * down * across * merge * merge, -1)


def positions(ids: np.ndarray, image: int) -> np.ndarray:
    """(3, tokens): time, row and column of each token, as Qwen3-VL counts them."""
    across, down = SIZE[0] // 16, SIZE[1] // 16
    where = np.zeros((3, len(ids)), dtype=np.int64)
    seen = ids == image
    steps = np.ones(len(ids), dtype=np.int64)
    steps[seen] = 0
    first = seen & ~np.concatenate([[False], seen[:-1]])
    starts = np.flatnonzero(first)
    last = starts + across * down
    before = np.concatenate([[0], np.cumsum(steps)[:-1]])
    jumps = np.zeros(len(ids) + 1, dtype=np.int64)
    np.add.at(jumps, last, max(across, down))
    base = before + np.cumsum(jumps)[:-1]
    where[:] = base
    for start in starts:
        block = slice(start, start + across * down)
        where[1, block] += np.repeat(np.arange(down), across)
        where[2, block] += np.tile(np.arange(across), down)
    return where


def collate(conversations: Sequence[Sequence[Item]], *, image: int, pad: int) -> dict[str, np.ndarray]:
    """A batch, each row the turns of a conversation one after the other: `ids` (rows, longest), `positions` (3, rows,
    longest), `pixels`, and `wanted`, true where the next token is a target."""
    lengths = [sum(len(item.ids) for item in items) for items in conversations]
    ids = np.full((len(lengths), max(lengths)), pad, dtype=np.int64)
    where = np.zeros((3, *ids.shape), dtype=np.int64)
    wanted = np.zeros(ids.shape, dtype=bool)
    for i, (items, n) in enumerate(zip(conversations, lengths, strict=True)):
        ids[i, :n] = np.concatenate([item.ids for item in items])
        where[:, i, :n] = positions(ids[i, :n], image)
        end = 0
        for item in items:
            begin, end = end, end + len(item.ids)
            wanted[i, begin + item.asked - 1 : begin + item.learned - 1] = True
    pictures = np.concatenate([item.pictures for items in conversations for item in items])
    return {"ids": ids, "positions": where, "wanted": wanted, "pixels": pictures}
