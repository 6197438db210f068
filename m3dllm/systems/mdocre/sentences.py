"""Documents split into sentences, and the frames shown during each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from m3dllm.systems.supervised.data import Batch, Inputs
from m3dllm.systems.supervised.shapes import SENTENCE_ENDS
from m3dllm.types import Document

Array = np.ndarray[Any, Any]

LONGEST = 128
"""The most words of a sentence; a longer one is cut."""
WIDER = 0.1
"""The time of a sentence is extended by this share of the clip on both sides."""
FEWEST = 4
"""The minimum number of frames, the nearest ones, that a sentence sees, if there are as many."""
ENDS = np.array(sorted(map(ord, SENTENCE_ENDS)))


@dataclass(frozen=True, slots=True)
class Sentences:
    """The sentences of a batch, concatenated; a document without text has one, of the placeholder after the words."""

    document: Tensor
    """(sentences,): the index of its document in the batch."""
    place: Tensor
    """(sentences,): its index in the document."""
    words: Tensor
    """(sentences, longest): the indices of its words; padding repeats the first word."""
    mask: Tensor
    """(sentences, longest)."""
    frames: Tensor
    """(sentences, frames), booleans: the frames that it sees, those during it and the `FEWEST` nearest."""
    matching: Tensor
    """(sentences, frames), booleans: those during it, or else the nearest; none without text."""


def sentences_of(batch: Batch) -> Sentences:
    """The sentences of the documents of a batch."""
    n_words, n_frames = batch.word_mask.shape[1], batch.frame_mask.shape[1]
    cuts = [cut(one) if one.words else (np.array([n_words]), np.array([1])) for one in batch.inputs]
    numbers = [len(first) for first, _ in cuts]
    first, length = (np.concatenate(part) for part in zip(*cuts, strict=True))
    column = np.arange(length.max())
    mask = column < length[:, None]
    frames, matching = np.zeros((2, len(first), n_frames), dtype=bool)
    ends = np.cumsum(numbers)
    for one, own, end in zip(batch.inputs, cuts, ends, strict=True):
        rows = slice(end - len(own[0]), end)
        if one.words and one.frames:
            apart = far(one, *own)
            nearest = np.argsort(np.argsort(apart, axis=1, kind="stable"), axis=1)
            frames[rows, : len(one.frames)] = (apart <= WIDER) | (nearest < FEWEST)
            matching[rows, : len(one.frames)] = (apart <= WIDER) | (nearest < 1)
        else:
            frames[rows, : len(one.frames)] = True
    document = np.repeat(np.arange(len(cuts)), numbers)
    place = np.arange(len(first)) - np.repeat(ends - numbers, numbers)
    parts = (document, place, first[:, None] + column * mask, mask, frames, matching)
    return Sentences(*(torch.from_numpy(part).to(batch.word_mask.device) for part in parts))


def cut(one: Inputs) -> tuple[Array, Array]:
    """(first word, number of words) of each sentence; split after sentence-final punctuation and `LONGEST` words."""
    edges = np.array(one.words)
    letters = np.frombuffer(one.document.text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    ends = (edges[:, 1] - edges[:, 0] == 1) & np.isin(letters[edges[:, 0]], ENDS)
    number = np.cumsum(ends) - ends
    begins = np.flatnonzero(np.diff(number, prepend=-1))
    inside = np.arange(len(edges)) - begins[number]
    first = np.flatnonzero(inside % LONGEST == 0)
    return first, np.diff(first, append=len(edges))


def far(one: Inputs, first: Array, length: Array) -> Array:
    """(sentences, frames): the time between each sentence and each frame, 0 within it.

    Times are fractions of the clip: for words from the segments of the document, else from their positions; for frames
    from their numbers.
    """
    starts, stops = (times_of(one.document, one.words, places) for places in (first, first + length))
    index = np.array([frame.index for frame in one.frames])
    times = index / max(index.max(), 1)
    apart: Array = np.maximum(starts[:, None] - times, times - stops[:, None]).clip(min=0)
    return apart


def times_of(document: Document, words: tuple[tuple[int, int], ...], places: Array) -> Array:
    """The start times of the words at `places`, as fractions of the clip; the place after the last word is the end."""
    if not document.segments:
        return places / len(words)
    offsets = np.array([start for start, _ in words] + [words[-1][1]])[places]
    ends = sorted({(s.start, s.start_s) for s in document.segments} | {(s.end, s.end_s) for s in document.segments})
    spoken, clock = (np.array(part) for part in zip(*ends, strict=True))
    return np.interp(offsets, spoken, clock) / max(clock.max(), 1e-9)
