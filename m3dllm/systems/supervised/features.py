"""Hierarchical features of words and patches: eq. 5, 6 and 7.

The layers of an encoder become word or patch vectors, and these the low, mid and high features: the averages of the
layers' lower, middle and upper third. The features of a frozen encoder are computed once and cached on
disk.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from m3dllm.errors import UserError
from m3dllm.files import write_atomic
from m3dllm.systems.supervised.config import LEVELS
from m3dllm.systems.supervised.data import Batch, Inputs, make_batch, to_device
from m3dllm.systems.supervised.shapes import WordShapes
from m3dllm.systems.supervised.vision import FrameStore


@dataclass(frozen=True, slots=True)
class Features:
    """One modality of a batch.

    `last` (batch, n, hidden) is H, `levels` its low, mid and high features, `mask` (batch, n) is False on padding.
    """

    last: Tensor
    levels: dict[str, Tensor]
    mask: Tensor

    def rows(self, index: Tensor) -> Features:
        """The documents at `index`, which must be sorted."""
        if len(index) == len(self.last):
            return self
        levels = {name: level[index] for name, level in self.levels.items()}
        return Features(self.last[index], levels, self.mask[index])

    def mean(self) -> Tensor:
        """The mean without padding: (batch, hidden); 0 if there is none."""
        share = self.mask.to(self.last.dtype) / self.mask.sum(1, keepdim=True).clamp(min=1)
        return torch.einsum("bn,bnh->bh", share, self.last)


def hierarchy(layers: Sequence[Tensor]) -> dict[str, Tensor]:
    """Low, mid and high features: the averages of the layers 1 … n/3, n/3 + 1 … 2n/3, and the rest (eq. 7).

    The equation counts the layers n/3 and 2n/3 twice, yet divides by n/3; here each counts once.
    """
    n = len(layers)
    cuts = (0, round(n / 3), round(2 * n / 3), n)
    return {
        name: torch.stack(tuple(layers[start:end])).mean(0) if end - start > 1 else layers[start]
        for name, start, end in zip(LEVELS, cuts, cuts[1:], strict=False)
    }


def words_from_subwords(states: Tensor, place: Tensor, word: Tensor, n_words: int) -> Tensor:
    """The mean of the subwords that cover a word.

    states: (windows, subwords, width); place, word: (batch, covers), see `Batch` -> (batch, n_words, width).
    """
    width = states.shape[2]
    if not place.numel():
        return states.new_zeros(len(place), n_words, width)
    subwords = states.flatten(0, 1)[place]  # (batch, covers, width)
    words = subwords.new_zeros(len(place), n_words + 1, width)
    total = words.scatter_add(1, word[..., None].expand(-1, -1, width), subwords)[:, :n_words]
    n = torch.zeros_like(words[..., 0]).scatter_add(1, word, torch.ones_like(subwords[..., 0]))[:, :n_words]
    return total / n.clamp(min=1)[..., None]


class TextFeatures(nn.Module):
    """Word features from a text encoder (`text.TinyText` or `text.PretrainedText`).

    With `shapes`, word shapes are added to the last layer.
    """

    def __init__(
        self,
        encoder: Any,
        *,
        window: int,
        overlap: int,
        shapes: bool = False,
        frozen: bool = False,
        cache: FeatureCache | None = None,
    ) -> None:
        super().__init__()
        if window > encoder.limit:
            raise UserError(
                f"window {window} is longer than the {encoder.limit} subwords that {encoder.name} sees at once"
            )
        self.encoder, self.frozen, self.cache = encoder, frozen, cache if frozen else None
        self.window, self.overlap = window or encoder.limit, overlap
        self.width = int(encoder.width)
        self.shapes = WordShapes(self.width) if shapes else None
        self._identity: str | None = None

    def batch(self, inputs: Sequence[Inputs]) -> Batch:
        """The padded batch, in windows of this encoder."""
        return make_batch(inputs, window=self.window, overlap=self.overlap)

    def forward(self, batch: Batch) -> Features:
        if self.cache is not None:
            found = self._cached(batch, self.cache)
        else:
            with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
                found = self._encode(batch)
        if self.shapes is None or not found.mask.numel():
            return found
        return replace(
            found, last=found.last + self.shapes(batch.word_shapes, batch.word_mask) * batch.word_mask[..., None]
        )

    def train(self, mode: bool = True) -> TextFeatures:
        """Keep a frozen encoder in eval mode."""
        super().train(mode)
        self.encoder.train(mode and not self.frozen)
        return self

    def _encode(self, batch: Batch) -> Features:
        n = batch.word_mask.shape[1]
        if not len(batch.windows):
            empty = torch.zeros(len(batch), n, self.width, device=batch.word_mask.device)
            return Features(empty, dict.fromkeys(LEVELS, empty), batch.word_mask)
        layers = self.encoder(batch.windows, batch.window_mask)
        if batch.one_to_one:
            real = batch.word_mask[..., None]
            words = [layer * real for layer in layers]
        else:
            words = [words_from_subwords(layer, batch.cover_place, batch.cover_word, n) for layer in layers]
        return Features(words[-1], hierarchy(words), batch.word_mask)

    def _cached(self, batch: Batch, cache: FeatureCache) -> Features:
        self._identity = self._identity or self.encoder.identity()
        device = batch.word_mask.device
        out = torch.zeros(len(batch), 1 + len(LEVELS), batch.word_mask.shape[1], self.width, device=device)
        for i, one in enumerate(batch.inputs):
            if not one.words:
                continue
            parts = (one.subwords.ids, one.subwords.subword, one.subwords.word)
            key = content_key(
                self._identity, f"{self.window} {self.overlap}", *(part.numpy().tobytes() for part in parts)
            )
            found = cache.get(key)
            if found is None:
                with torch.no_grad():
                    alone = self._encode(to_device(self.batch([one]), device))
                found = cache.put(key, torch.stack([alone.last[0], *(alone.levels[name][0] for name in LEVELS)]))
            out[i, :, : len(one.words)] = found.to(device)
        return Features(out[:, 0], {name: out[:, 1 + k] for k, name in enumerate(LEVELS)}, batch.word_mask)


class FrameFeatures(nn.Module):
    """Patch features of frames from a vision encoder, projected to the width of the text.

    Returns (batch, frames · patches, hidden), the `grid` x `grid` patches of a frame together. `pooled`: one vector per
    frame, the mean of its patches. The frames of a document are encoded in windows; the last frame is repeated to fill
    the last window.
    """

    def __init__(
        self,
        encoder: Any,
        hidden: int,
        *,
        chunk: int,
        pooled: bool = False,
        checkpointing: bool = False,
        frozen: bool = False,
        cache: FeatureCache | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.frozen, self.cache = encoder, frozen, cache if frozen else None
        self.window = int(encoder.window)
        self.chunk = max(chunk // self.window, 1) * self.window
        self.checkpointing = checkpointing and not frozen
        self.store = FrameStore(encoder.side)
        self.pooled, self.grid = pooled, 1 if pooled else int(encoder.grid)
        self.n_patches = self.grid**2
        same = encoder.width == hidden
        self.project: nn.Module = nn.Identity() if same else nn.Linear(encoder.width, hidden)
        self.hidden = hidden
        self._identity: str | None = None

    def forward(self, batch: Batch) -> Features:
        n_frames = batch.frame_mask.shape[1]
        mask = batch.frame_mask.repeat_interleave(self.n_patches, 1)
        device = batch.frame_mask.device
        frames, real = [], []
        for one in batch.inputs:
            fill = -len(one.frames) % self.window
            frames += [*one.frames, *one.frames[-1:] * fill]
            real += [True] * len(one.frames) + [False] * fill
        if not frames:
            empty = torch.zeros(len(batch), n_frames * self.n_patches, self.hidden, device=device)
            return Features(empty, dict.fromkeys(LEVELS, empty), mask)
        parts = [self._chunk(frames[i : i + self.chunk], device) for i in range(0, len(frames), self.chunk)]
        encoded = torch.cat(parts, 1) if len(parts) > 1 else parts[0]
        if not all(real):
            encoded = encoded[:, torch.tensor(real, device=device)]
        encoded = self.project(encoded)  # (1 + levels, frames, patches, hidden)
        if encoded.shape[1] < batch.frame_mask.numel():
            at = batch.frame_mask.flatten().nonzero()[:, 0]
            out = encoded.new_zeros(len(encoded), len(batch) * n_frames, self.n_patches, self.hidden)
            encoded = out.index_copy(1, at, encoded)
        last, *levels = encoded.unflatten(1, (len(batch), n_frames)).flatten(2, 3)  # one gradient for all of them
        return Features(last, dict(zip(LEVELS, levels, strict=True)), mask)

    def _chunk(self, frames: Sequence[Any], device: torch.device) -> Tensor:
        """(1 + levels, frames, patches, width): the last layer and the three levels."""
        if self.cache is not None:
            return self._cached(frames, device, self.cache)
        pictures = self.store.read(frames).to(device)
        if device.type == "cpu" and not self.encoder.pretrained:
            return self._encode(pictures, self.store.derived(frames, pictures, self.encoder.constant))
        if self.checkpointing and self.training:
            found: Tensor = checkpoint(self._encode, pictures, use_reentrant=False)
            return found
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            return self._encode(pictures)

    def train(self, mode: bool = True) -> FrameFeatures:
        """Keep a frozen encoder in eval mode."""
        super().train(mode)
        self.encoder.train(mode and not self.frozen)
        return self

    def _encode(self, pictures: Tensor, *constant: Tensor) -> Tensor:
        layers = self.encoder(pictures, *constant)
        if self.pooled:
            layers = [layer.mean(1, keepdim=True) for layer in layers]
        levels = hierarchy(layers)
        return torch.stack([layers[-1], *(levels[name] for name in LEVELS)])

    def _cached(self, frames: Sequence[Any], device: torch.device, cache: FeatureCache) -> Tensor:
        self._identity = self._identity or f"{self.encoder.identity()} {self.window} {self.pooled}"
        windows = [frames[i : i + self.window] for i in range(0, len(frames), self.window)]
        digests = [[cache.digest(frame.path, frame.sha256) for frame in window] for window in windows]
        keys = [content_key(self._identity, *window) for window in digests]
        found = {key: value for key in keys if (value := cache.get(key)) is not None}
        lacking = {key: window for key, window in zip(keys, windows, strict=True) if key not in found}
        if lacking:
            with torch.no_grad():
                made = self._encode(
                    self.store.read([frame for window in lacking.values() for frame in window]).to(device)
                )
            found |= {key: cache.put(key, part) for key, part in zip(lacking, made.split(self.window, 1), strict=True)}
        return torch.cat([found[key].to(device) for key in keys], 1)


# --- features on disk -------------------------------------------------------------------------------------------------


def content_key(*parts: str | bytes) -> str:
    """A hash of the inputs of features."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def cache_folder() -> Path:
    """The folder of cached features: $M3DLLM_CACHE, else the user's cache folder."""
    named = os.environ.get("M3DLLM_CACHE")
    general = os.environ.get("XDG_CACHE_HOME")
    root = Path(named) if named else (Path(general) if general else Path.home() / ".cache") / "m3dllm"
    return root / "features"


class FeatureCache:
    """Features of frozen encoders by content hash, in half precision; the least recently used are evicted."""

    def __init__(self, folder: Path, *, limit_bytes: int) -> None:
        self.folder, self.limit = folder, limit_bytes
        self._size = sum(size for _, size, _ in self._files())
        self._digests: dict[str, str] = {}

    def digest(self, path: str, sha256: str) -> str:
        """The hash of a frame's file, read once."""
        from m3dllm.files import sha256_file

        if sha256:
            return sha256
        if path not in self._digests:
            self._digests[path] = sha256_file(Path(path))
        return self._digests[path]

    def get(self, key: str) -> Tensor | None:
        """The features of `key` in full precision; None if missing or damaged."""
        file = self._file(key)
        try:
            found = load(file.read_bytes())["features"]
            os.utime(file)
        except (OSError, SafetensorError, KeyError):
            return None
        return found.float()

    def put(self, key: str, features: Tensor) -> Tensor:
        """Store `features`; returns them as `get` will, in the precision of the file."""
        kept = features.detach().half().cpu().contiguous()
        data = save({"features": kept})
        if len(data) <= self.limit:
            write_atomic(self._file(key), data)
            self._size += len(data)
            if self._size > self.limit:
                self._make_room()
        return kept.float()

    def _file(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        """(when it was last used, its bytes, the file) of what is there."""
        for file in self.folder.glob("*/*.safetensors"):
            with suppress(FileNotFoundError):  # another process made room
                stat = file.stat()
                yield stat.st_mtime, stat.st_size, file

    def _make_room(self) -> None:
        """Evict down to 90 % of the limit, so that not every new file evicts."""
        files = sorted(self._files())
        self._size = sum(size for _, size, _ in files)
        for _, size, file in files:
            if self._size <= 0.9 * self.limit:
                return
            file.unlink(missing_ok=True)
            self._size -= size
