"""A picture is read, measured, shown to a model and drawn upright, by the orientation that stands beside its pixels."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from m3dllm.corpora.images import image_size, image_turn
from m3dllm.pictures import as_png, load_upright, turn_box
from m3dllm.systems.videollm.frames import load_image
from m3dllm.types import Box, Frame
from m3dllm.viewer.thumbnails import thumbnail

TURNS = range(1, 9)
KINDS = ("JPEG", "PNG", "WEBP", "TIFF")


def turned(turn: int, kind: str = "JPEG") -> bytes:
    """A picture that is seen as 32 wide and 64 high, white with a black top left quarter, stored turned."""
    seen = Image.new("RGB", (32, 64), "white")
    seen.paste("black", (0, 0, 16, 32))
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transposition that the orientation undoes
    stored = seen if turn == 1 else seen.transpose(Image.Transpose(back[turn]))
    exif = Image.Exif()
    exif[0x0112] = turn
    data = io.BytesIO()
    options = {"quality": 95} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    stored.save(data, kind, exif=exif, **options)
    return data.getvalue()


def dark(image: Image.Image) -> tuple[float, float, float, float]:
    """The edges of what is black, as fractions."""
    rows, columns = np.nonzero(np.array(image.convert("L")) < 128)
    return (
        columns.min() / image.width,
        rows.min() / image.height,
        (columns.max() + 1) / image.width,
        (rows.max() + 1) / image.height,
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("turn", TURNS)
def test_a_picture_is_measured_upright(turn, kind):
    assert image_size(turned(turn, kind)) == (32, 64)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("turn", TURNS)
def test_a_picture_is_read_upright(turn, kind):
    assert dark(load_upright(turned(turn, kind))) == (0, 0, 0.5, 0.5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("turn", TURNS)
def test_a_thumbnail_is_upright(turn, kind):
    assert dark(Image.open(io.BytesIO(thumbnail(turned(turn, kind))))) == pytest.approx((0, 0, 0.5, 0.5), abs=0.04)


@pytest.mark.parametrize("turn", TURNS)
def test_a_video_llm_is_shown_the_upright_picture(turn, tmp_path):
    (tmp_path / "1.jpg").write_bytes(turned(turn))
    frame = Frame(1, str(tmp_path / "1.jpg"), 32, 64)
    assert dark(load_image(frame, longest_side=64)) == (0, 0, 0.5, 0.5)


@pytest.mark.parametrize("turn", TURNS)
def test_a_supervised_model_is_shown_the_upright_picture(turn, tmp_path):
    pytest.importorskip("torch", reason="needs the extra 'supervised'")
    from m3dllm.systems.supervised.vision import FrameStore

    (tmp_path / "1.jpg").write_bytes(turned(turn))
    pixels = FrameStore(32).read([Frame(1, str(tmp_path / "1.jpg"), 32, 64)])[0]
    assert dark(Image.fromarray(pixels.permute(1, 2, 0).numpy())) == pytest.approx((0, 0, 0.5, 0.5), abs=0.04)


@pytest.mark.parametrize("turn", TURNS)
def test_a_box_of_the_stored_pixels_lies_on_the_same_thing_in_the_upright_picture(turn):
    stored = Box(*dark(Image.open(io.BytesIO(turned(turn, "PNG")))))
    assert turn_box(stored, turn) == pytest.approx((0, 0, 0.5, 0.5))


@pytest.mark.parametrize("turn", [0, 9, 255])
def test_an_orientation_that_does_not_exist_is_none(turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    data = io.BytesIO()
    Image.new("RGB", (4, 2)).save(data, "JPEG", exif=exif)
    assert (image_turn(data.getvalue()), image_size(data.getvalue())) == (1, (4, 2))


def test_broken_metadata_leaves_the_picture_as_it_is_stored():
    data = io.BytesIO()
    Image.new("RGB", (4, 2)).save(data, "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    assert image_size(data.getvalue()) == (4, 2)


def test_an_orientation_behind_the_pixels_of_a_png_is_read():
    data = io.BytesIO()
    Image.new("RGB", (4, 2)).save(data, "PNG")
    exif = Image.Exif()
    exif[0x0112] = 6
    body = b"eXIf" + exif.tobytes().removeprefix(b"Exif\x00\x00")
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    head, end = data.getvalue()[:-12], data.getvalue()[-12:]
    assert image_size(head + chunk + end) == (2, 4)


@pytest.mark.parametrize("turn", TURNS)
def test_a_tiff_becomes_an_upright_png(turn):
    written = Image.open(io.BytesIO(as_png(turned(turn, "TIFF"))))
    assert (written.format, dark(written)) == ("PNG", (0, 0, 0.5, 0.5))
