"""Encoders of videos: a vector for every frame, windows of a document's frames, whole weights or none."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from m3dllm.errors import UserError
from m3dllm.systems.dffm import Config
from m3dllm.systems.supervised.features import FeatureCache, FrameFeatures
from m3dllm.systems.supervised.vision import TINY, empty_vision_encoder, load_vision_encoder
from tests.supervised.documents import four
from tests.supervised.test_features import batch_of

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "num_frames": 4,
}


def write_vivit(folder):
    """The files of a classifier, as the published weights are."""
    from transformers import VivitConfig, VivitForVideoClassification

    torch.manual_seed(0)
    VivitForVideoClassification(VivitConfig(tubelet_size=[2, 8, 8], **SIZES)).save_pretrained(folder)
    return folder


def write_videomae(folder):
    """The files of self-supervised training, as the published weights are: with a decoder."""
    from transformers import VideoMAEConfig, VideoMAEForPreTraining

    torch.manual_seed(0)
    decoder = {"decoder_hidden_size": 16, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2}
    config = VideoMAEConfig(patch_size=8, use_mean_pooling=False, decoder_intermediate_size=16, **decoder, **SIZES)
    VideoMAEForPreTraining(config).save_pretrained(folder)
    return folder


published = pytest.mark.parametrize("write", [write_vivit, write_videomae])


def pictures(n):
    return torch.randint(0, 256, (n, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@published
def test_every_frame_is_one_step_in_time(tmp_path, write):
    encoder = load_vision_encoder(str(write(tmp_path))).eval()
    frames = pictures(4)
    layers = encoder(frames)
    assert (encoder.window, encoder.grid) == (2, 4)
    assert [tuple(layer.shape) for layer in layers] == [(4, 16, 16)] * 3
    for start in (0, 2):
        shown_twice = frames[[start, start, start + 1, start + 1]][None].float() / 127.5 - 1
        out = encoder.model(pixel_values=shown_twice).last_hidden_state[0, -32:]
        torch.testing.assert_close(layers[-1][start : start + 2].flatten(0, 1), out, atol=1e-4, rtol=1e-4)


@published
def test_a_patch_of_the_first_layer_is_where_it_stands(tmp_path, write):
    encoder = load_vision_encoder(str(write(tmp_path))).eval()
    embed = encoder.model.embeddings
    frames = pictures(2)
    other = frames.clone()
    other[1, :, 8:16, 24:] = 0  # second frame, second row, fourth column
    made = []
    for some in (frames, other):
        clip = encoder.pixels(some).repeat_interleave(2, 0)[None]
        made.append(embed(clip, None) if "videomae" in encoder.model.config.model_type else embed(clip))
    changed = (made[0] != made[1]).any(-1)[0, -32:].nonzero()[:, 0].tolist()
    assert changed == [16 + 4 + 3]


@published
def test_weights_that_lack_any_are_refused_by_name(tmp_path, write):
    file = write(tmp_path) / "model.safetensors"
    weights = load_file(file)
    gone = [
        name for name in weights if "layernorm_before.weight" in name and ("layer.1." in name or "layers.1." in name)
    ]
    save_file({name: value for name, value in weights.items() if name not in gone}, file, {"format": "pt"})
    with pytest.raises(UserError, match=r"its files lack 1 weights: .*\.1\.layernorm_before\.weight") as error:
        load_vision_encoder(str(tmp_path))
    assert len(gone) == 1
    assert "\n" not in str(error.value)


@published
def test_it_is_made_again_from_its_description(tmp_path, write):
    encoder = load_vision_encoder(str(write(tmp_path / "hub")))
    encoder.save_description(tmp_path / "kept")
    again = empty_vision_encoder(tmp_path / "kept", name="x")
    again.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(again.eval()(pictures(2))[-1], encoder.eval()(pictures(2))[-1])


@pytest.mark.parametrize("name", ["tiny-vivit", "tiny-videomae"])
def test_frames_of_a_window_see_each_other_and_no_others(name):
    torch.manual_seed(0)
    encoder = TINY[name](Config(hidden=16, image_size=32)).eval()
    n = encoder.window
    frames = pictures(2 * n)
    other = frames.clone()
    other[n - 1] = 0
    with torch.no_grad():
        seen = [(a != b).flatten(1).any(1).tolist() for a, b in zip(encoder(frames), encoder(other), strict=True)]
    assert seen == [[True] * n + [False] * n] * 3


class Position(nn.Module):
    """An encoder of videos of one patch that says what stands where in the window."""

    pretrained, width, side, grid, window = True, 1, 4, 1, 2

    def forward(self, frames):
        red = frames[:, :1].float().mean((2, 3))[..., None]
        self.windows = frames[:, 0, 0, 0].view(-1, 2).tolist()
        return [red] * 3

    def identity(self):
        return "position"


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_frames_stand_by_document_whatever_the_chunk(tmp_path, chunk):
    examples = four(tmp_path)
    features = FrameFeatures(Position(), 1, chunk=chunk)
    found = features(batch_of(examples)).last[..., 0]
    for i, example in enumerate(examples):
        own = features.store.read(example.document.frames)[:, 0].float().mean((1, 2))
        torch.testing.assert_close(found[i, : len(own)], own)


def test_a_window_is_of_one_document_and_filled_up_with_its_last_frame(tmp_path):
    encoder = Position()
    FrameFeatures(encoder, 1, chunk=100)(batch_of(four(tmp_path)))  # of three frames, two, two and none
    assert [first == second for first, second in encoder.windows] == [False, True, False, False]


def test_windows_of_a_frozen_encoder_are_kept_one_by_one(tmp_path):
    cache = FeatureCache(tmp_path / "cache", limit_bytes=10**6)
    batch = batch_of(four(tmp_path))
    first, again = Position(), Position()
    found = [FrameFeatures(e, 1, chunk=8, frozen=True, cache=cache)(batch).last for e in (first, again)]
    assert torch.equal(*found)
    assert not hasattr(again, "windows")


def test_pooled_frames_are_the_means_of_their_patches(tmp_path):
    torch.manual_seed(0)
    encoder = TINY["tiny-videomae"](Config(hidden=16, image_size=32)).eval()
    batch = batch_of(four(tmp_path))
    with torch.no_grad():
        patches, frames = (FrameFeatures(encoder, 16, chunk=8, pooled=pooled)(batch).last for pooled in (False, True))
    torch.testing.assert_close(frames, patches.unflatten(1, (-1, 4)).mean(2))
