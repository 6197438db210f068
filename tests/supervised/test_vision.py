from __future__ import annotations

import pytest
import torch
from PIL import Image

from m3dllm.errors import UserError
from m3dllm.systems.dffm import Config
from m3dllm.systems.supervised.vision import (
    SHADES,
    FrameStore,
    TinyVision,
    colour_shares,
    empty_vision_encoder,
    load_vision_encoder,
)
from m3dllm.types import Frame


def write_vit(folder):
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=8
    )
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def picture(folder, name="a.png", colour=(255, 0, 0)):
    Image.new("RGB", (40, 20), colour).save(folder / name)
    return Frame(24, str(folder / name), 40, 20)


def test_a_frame_is_red_green_and_blue_in_a_square(tmp_path):
    found = FrameStore(8).read([picture(tmp_path)])
    assert found.shape == (1, 3, 8, 8)
    assert found.dtype == torch.uint8
    assert found.flatten(2).unique(dim=2).tolist() == [[[255], [0], [0]]]


def test_no_frames_are_an_empty_row():
    assert FrameStore(8).read([]).shape == (0, 3, 8, 8)


def test_a_frame_is_read_once_while_there_is_room(tmp_path):
    store = FrameStore(8, limit_bytes=2 * 3 * 64)
    frames = [picture(tmp_path, f"{i}.png", (i, 0, 0)) for i in range(3)]
    store.read(frames)
    (tmp_path / "2.png").unlink()
    assert store.read(frames[2:])[0, 0, 0, 0] == 2
    (tmp_path / "0.png").unlink()
    with pytest.raises(UserError, match=r"0\.png: cannot be read as a picture"):
        store.read(frames[:1])


def test_a_grey_picture_with_alpha_is_read(tmp_path):
    Image.new("LA", (5, 5), (100, 0)).save(tmp_path / "grey.png")
    assert FrameStore(4).read([Frame(0, str(tmp_path / "grey.png"), 5, 5)]).unique().tolist() == [100]


def test_a_broken_picture_is_named(tmp_path):
    (tmp_path / "b.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"b\.png: cannot be read as a picture"):
        FrameStore(8).read([Frame(0, str(tmp_path / "b.png"), 4, 4)])


@pytest.mark.parametrize(("asked", "side", "grid"), [(32, 32, 2), (50, 64, 4)])
def test_the_tiny_encoder_gives_three_layers_of_patches_of_sixteen_pixels(asked, side, grid):
    encoder = TinyVision(Config(hidden=16, image_size=asked))
    layers = encoder(torch.zeros(2, 3, encoder.side, encoder.side, dtype=torch.uint8))
    assert (encoder.side, encoder.grid) == (side, grid)
    assert [tuple(layer.shape) for layer in layers] == [(2, grid**2, 16)] * 3


def test_a_vit_gives_its_patches_only(tmp_path):
    encoder = load_vision_encoder(str(write_vit(tmp_path))).eval()
    layers = encoder(torch.zeros(2, 3, 32, 32, dtype=torch.uint8))
    assert [tuple(layer.shape) for layer in layers] == [(2, 16, 16)] * 3
    pixels = torch.full((2, 3, 32, 32), -1.0)
    expected = encoder.model(pixel_values=pixels, output_hidden_states=True)
    torch.testing.assert_close(layers[0], expected.hidden_states[1][:, 1:])
    torch.testing.assert_close(layers[-1], expected.last_hidden_state[:, 1:])  # behind its norm


def test_a_vit_is_made_again_from_its_description(tmp_path):
    encoder = load_vision_encoder(str(write_vit(tmp_path / "hub")))
    encoder.save_description(tmp_path / "kept")
    again = empty_vision_encoder(tmp_path / "kept", name="x")
    again.load_state_dict(encoder.state_dict())
    frames = torch.randint(0, 255, (1, 3, 32, 32), dtype=torch.uint8)
    torch.testing.assert_close(again.eval()(frames)[-1], encoder.eval()(frames)[-1])


def test_an_encoder_that_is_nowhere_is_one_line(tmp_path):
    with pytest.raises(UserError, match="--vision-encoder"):
        load_vision_encoder(str(tmp_path / "nowhere"))


# --- colours ----------------------------------------------------------------------------------------------------------


def test_the_colours_of_a_patch_are_shares_of_its_pixels():
    frames = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    frames[0, 0, :4, 4:] = 255  # red, above on the right
    frames[0, :, 4:, :2] = 255  # white, a half of the patch below on the left
    found = colour_shares(frames, 2)
    assert found.shape == (1, 2, 2, SHADES**3)
    black, red, white = 0, (SHADES - 1) * SHADES**2, SHADES**3 - 1
    assert found[0, 0, 0, black] == 1
    assert found[0, 0, 1, red] == 1
    assert found[0, 1, 0, [black, white]].tolist() == [0.5, 0.5]


def test_a_colour_between_shades_counts_for_those_around_it():
    frames = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = colour_shares(frames, 4)
    torch.testing.assert_close(found.sum(-1), torch.ones(3, 4, 4), rtol=1e-4, atol=0)
    shade = torch.arange(SHADES**3)
    for k, place in enumerate((shade // SHADES**2, shade // SHADES % SHADES, shade % SHADES)):
        mean = (found * place).sum(-1) * 255 / (SHADES - 1)
        pixels = frames[:, k].float().unflatten(1, (4, 4)).unflatten(3, (4, 4))
        torch.testing.assert_close(mean, pixels.mean((2, 4)), rtol=1e-4, atol=1e-3)
