"""Equations 5 to 7 by hand; windows; features on disk."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from m3dllm.errors import UserError
from m3dllm.systems.supervised.data import Inputs
from m3dllm.systems.supervised.features import (
    FeatureCache,
    FrameFeatures,
    TextFeatures,
    cache_folder,
    hierarchy,
    words_from_subwords,
)
from m3dllm.types import Document
from tests.supervised.documents import four, subwords_of


class Numbers(nn.Module):
    """An encoder whose layer k says k times the piece's number: 3 layers, width 2, frozen as if pretrained."""

    pretrained = True
    name = "numbers"

    def __init__(self, *, limit=100):
        super().__init__()
        self.limit, self.width, self.calls = limit, 2, 0
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, ids, mask):
        self.calls += 1
        number = ids[..., :1].float() * self.scale
        return [k * torch.cat([number, -number], -1) for k in (1, 2, 6)]

    def identity(self):
        return "numbers"


def document(*pieces_of_words):
    """Words that consist of the given numbers."""
    words = tuple((2 * i, 2 * i + 1) for i in range(len(pieces_of_words)))
    numbers = [number for word in pieces_of_words for number in word]
    subwords = subwords_of(numbers, [i for i, own in enumerate(pieces_of_words) for _ in own])
    return Inputs(Document(f"d{len(words)}", "en", " ".join("x" for _ in words)), words, subwords, ())


def test_levels_are_the_averages_of_thirds():
    layers = [torch.full((1,), float(i)) for i in range(1, 13)]
    levels = hierarchy(layers)
    assert {name: value.item() for name, value in levels.items()} == {"low": 2.5, "mid": 6.5, "high": 10.5}


def test_six_and_seven_layers_are_cut_in_thirds():
    assert [float(v) for v in hierarchy([torch.tensor(float(i)) for i in range(6)]).values()] == [0.5, 2.5, 4.5]
    assert [float(v) for v in hierarchy([torch.tensor(float(i)) for i in range(7)]).values()] == [0.5, 3.0, 5.5]


def test_a_word_is_the_mean_of_the_subwords_that_cover_it():
    states = torch.tensor([[[1.0, -5.0], [3.0, -7.0], [2.0, 2.0]]])
    words = words_from_subwords(states, torch.tensor([[0, 1, 2, 2]]), torch.tensor([[0, 0, 1, 2]]), 3)
    assert words.tolist() == [[[2.0, -6.0], [2.0, 2.0], [2.0, 2.0]]]


def test_words_of_several_documents():
    features = TextFeatures(Numbers(), window=0, overlap=2)
    found = features(features.batch([document([1, 4], [2]), document(), document([5])]))
    assert found.last[..., 0].tolist() == [[15.0, 12.0], [0.0, 0.0], [30.0, 0.0]]
    assert found.levels["low"][..., 1].tolist() == [[-2.5, -2.0], [0.0, 0.0], [-5.0, 0.0]]
    assert found.mask.tolist() == [[True, True], [False, False], [True, False]]


def test_a_long_document_is_read_in_windows_and_nothing_is_lost():
    encoder = Numbers(limit=8)
    long = document(*([i, i + 1] for i in range(40)))
    features = TextFeatures(encoder, window=0, overlap=3)
    batch = features.batch([long])
    assert batch.windows.shape[1] == 8
    assert features(batch).levels["low"][0, :, 0].tolist() == [i + 0.5 for i in range(40)]


def test_a_window_longer_than_the_encoder_sees_is_refused():
    with pytest.raises(UserError, match="window 9 is longer than the 8 subwords that numbers sees"):
        TextFeatures(Numbers(limit=8), window=9, overlap=1)


def test_a_document_without_words_has_none():
    features = TextFeatures(Numbers(), window=0, overlap=2)
    found = features(features.batch([document()]))
    assert found.last.shape == (1, 0, 2)


def test_a_word_also_carries_how_it_is_written():
    one = document([1], [2])
    one = replace(one, subwords=replace(one.subwords, shapes=torch.tensor([[2, 0, 0], [1, 1, 0]])))
    plain, shaped = (TextFeatures(Numbers(), window=0, overlap=2, shapes=shapes) for shapes in (False, True))
    before, after = plain(plain.batch([one])), shaped(shaped.batch([one]))
    assert torch.equal(after.last, before.last)  # nothing is learned yet
    torch.nn.init.ones_(shaped.shapes.near.weight)
    told = shaped(shaped.batch([one]))
    assert not torch.equal(told.last, before.last)
    assert torch.equal(told.levels["high"], before.levels["high"])


# --- features on disk -------------------------------------------------------------------------------------------------


def test_features_of_a_frozen_encoder_are_computed_once(tmp_path):
    encoder = Numbers()
    features = TextFeatures(encoder, window=0, overlap=2, frozen=True, cache=FeatureCache(tmp_path, limit_bytes=10**6))
    batch = features.batch([document([1, 4], [2]), document([5])])
    first, calls = features(batch), encoder.calls
    again = features(batch)
    assert encoder.calls == calls == 2
    assert torch.equal(first.last, again.last)
    assert first.last[..., 0].tolist() == [[15.0, 12.0], [30.0, 0.0]]


def test_cached_features_outlive_the_process_and_damage_is_computed_again(tmp_path):
    cache = FeatureCache(tmp_path, limit_bytes=10**6)
    cache.put("ab1", torch.ones(3))
    assert FeatureCache(tmp_path, limit_bytes=10**6).get("ab1").tolist() == [1, 1, 1]
    (tmp_path / "ab" / "ab1.safetensors").write_bytes(b"torn")
    assert cache.get("ab1") is None
    assert cache.get("unknown") is None


def test_the_cache_keeps_its_limit_and_what_was_used_last(tmp_path):
    import os

    cache = FeatureCache(tmp_path, limit_bytes=6_000)
    for i in range(5):
        cache.put(f"key{i}", torch.full((500,), float(i)))  # a little more than 1,000 bytes each
        os.utime(tmp_path / "ke" / f"key{i}.safetensors", (i, i))
    assert cache.get("key0") is not None  # used again: now the youngest
    cache.put("key5", torch.zeros(500))
    assert sum(file.stat().st_size for file in tmp_path.glob("*/*")) <= 6_000
    assert cache.get("key1") is None
    assert cache.get("key0") is not None


def test_a_file_that_another_process_removed_meanwhile_is_no_error(tmp_path):
    (tmp_path / "ab").mkdir()
    (tmp_path / "ab" / "gone.safetensors").symlink_to(tmp_path / "nowhere")
    cache = FeatureCache(tmp_path, limit_bytes=1_000)
    for key in ("cd1", "cd2"):
        cache.put(key, torch.ones(300))
    assert [cache.get(key) is None for key in ("cd1", "cd2")] == [True, False]


def test_what_does_not_fit_is_not_kept(tmp_path):
    cache = FeatureCache(tmp_path, limit_bytes=100)
    assert cache.put("key", torch.full((500,), 1 / 3)).tolist() == torch.full((500,), 1 / 3).half().float().tolist()
    assert cache.get("key") is None


def test_the_cache_lies_where_the_user_says(monkeypatch, tmp_path):
    monkeypatch.setenv("M3DLLM_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path / "features"


class Colours(nn.Module):
    """A vision encoder of four patches that says each patch's average red, in three layers."""

    pretrained, width, side, grid, window = True, 1, 4, 2, 1

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, frames):
        self.calls += len(frames)
        red = nn.functional.avg_pool2d(frames[:, :1].float(), 2).flatten(2).transpose(1, 2)
        return [red, red + 1, red + 2]

    def identity(self):
        return "colours"


def frame_inputs(example):
    return Inputs(example.document, (), subwords_of([], []), example.document.frames)


def batch_of(examples):
    return TextFeatures(Numbers(), window=0, overlap=0).batch([frame_inputs(example) for example in examples])


@pytest.mark.parametrize("chunk", [1, 2, 100])
def test_frames_stand_by_document_whatever_the_chunk(tmp_path, chunk):
    examples = four(tmp_path)
    found = FrameFeatures(Colours(), 1, chunk=chunk)(batch_of(examples))
    assert found.last.shape == (4, 3 * 4, 1)
    assert found.mask.sum(1).tolist() == [12, 8, 8, 0]
    alone = FrameFeatures(Colours(), 1, chunk=100)(batch_of(examples[1:2]))
    torch.testing.assert_close(found.last[1, :8], alone.last[0])
    torch.testing.assert_close(found.levels["low"][0, :12], found.last[0] - 2)
    assert (found.last[3] == 0).all()


def test_frames_of_a_frozen_encoder_are_seen_once(tmp_path):
    encoder = Colours()
    cache = FeatureCache(tmp_path / "cache", limit_bytes=10**6)
    features = FrameFeatures(encoder, 1, chunk=2, frozen=True, cache=cache)
    batch = batch_of(four(tmp_path)[:2])
    first = features(batch)
    seen = encoder.calls
    assert torch.equal(first.last, features(batch).last)
    assert encoder.calls == seen


def test_no_frames_at_all(tmp_path):
    found = FrameFeatures(Colours(), 1, chunk=2)(batch_of(four(tmp_path)[3:]))
    assert found.last.shape == (1, 0, 1)
