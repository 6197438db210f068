"""What a small input can ask for is bounded: memory, time, pixels, nesting."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from m3dllm.corpora.brat import read_brat
from m3dllm.corpora.images import image_problem, image_size
from m3dllm.corpora.markup import read_xml
from m3dllm.corpora.native import write_corpus
from m3dllm.errors import UserError
from m3dllm.pictures import FORMATS, MOST_PIXELS, load_upright, open_picture
from m3dllm.types import Frame
from m3dllm.viewer.thumbnails import thumbnail
from m3dllm.wire import (
    NESTING,
    WireError,
    decode,
    decode_prediction,
    decode_raw,
    is_deep,
    read_json,
)

ROOT = Path(__file__).resolve().parents[2]


# --- pictures ---------------------------------------------------------------------------------------------------------


def huge(kind: str, side: int = 9000) -> bytes:
    """A picture of one colour: many pixels in a few kilobytes."""
    data = io.BytesIO()
    Image.new("1", (side, side)).convert("L" if kind in ("JPEG", "BMP") else "1").convert(
        "RGB" if kind == "WEBP" else "L"
    ).save(data, kind)
    return data.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF"])
def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(kind, tmp_path):
    data = huge(kind)
    path = tmp_path / "1.img"
    path.write_bytes(data)
    tracemalloc.start()
    try:
        assert "more than 64 million" in image_problem(data, (9000, 9000))
        assert "more than 64 million" in image_problem(path, (9000, 9000))
        for read in (load_upright, thumbnail):
            with pytest.raises((Image.DecompressionBombError, ValueError)):
                read(data)
        assert tracemalloc.get_traced_memory()[1] < MOST_PIXELS
    finally:
        tracemalloc.stop()


def test_models_read_no_picture_of_too_many_pixels(tmp_path):
    pytest.importorskip("torch", reason="needs the extra 'supervised'")
    from m3dllm.errors import UserError
    from m3dllm.systems.supervised.vision import FrameStore
    from m3dllm.systems.videollm.frames import load_image

    (tmp_path / "0.png").write_bytes(huge("PNG"))
    frame = Frame(0, str(tmp_path / "0.png"), 9000, 9000)
    with pytest.raises(UserError, match="cannot be read as a picture"):
        FrameStore(32).read([frame])
    with pytest.raises(ValueError, match="cannot be read"):
        load_image(frame, longest_side=64)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(%pipe%touch /tmp/ran) (w) file\n%%EOF\n"


@pytest.mark.parametrize("name", ["1.jpg", "1.png", "1.eps"])
@pytest.mark.parametrize("data", [EPS, b"P6 1 1 255 \0\0\0", b"\0\0\1\0\1\0", b"%PDF-1.4\n", b"SIMPLE  =  T"])
def test_only_the_formats_that_are_named_are_opened(name, data, tmp_path):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match="not in a supported image format"):
        image_size(tmp_path / name)
    with pytest.raises(Image.UnidentifiedImageError):
        open_picture(data)


def test_no_other_module_opens_pictures():
    sources = {p: p.read_text() for p in (ROOT / "m3dllm").rglob("*.py") if p.name != "pictures.py"}
    assert not [p for p, text in sources.items() if "Image.open(" in text or "Images.open(" in text]
    assert "EPS" not in FORMATS


# --- imports ----------------------------------------------------------------------------------------------------------


def brat(folder: Path, text: str, ann: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "d.txt").write_text(text, encoding="utf-8")
    (folder / "d.ann").write_text(ann, encoding="utf-8")
    return folder


def peak_mb(function) -> tuple[float, float]:
    """(megabytes at most, seconds) of a call."""
    tracemalloc.start()
    started = time.process_time()
    try:
        function()
        return tracemalloc.get_traced_memory()[1] / 1e6, time.process_time() - started
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("ends", ["T9", "T{i}", "E{i}"])
def test_a_long_line_of_equivalences_costs_what_it_is_long(ends, tmp_path):
    line = "*\tEquiv " + " ".join(ends.format(i=i + 2) for i in range(50_000))
    folder = brat(tmp_path / "b", "Ada wrote .", f"T1\tPER 0 3\tAda\n{line}\n")
    megabytes, seconds = peak_mb(lambda: read_brat(folder, lang="en"))
    assert megabytes < 150
    assert seconds < 20


def test_mentions_that_take_in_the_whole_text_cost_no_copy_of_it_each(tmp_path):
    text = "Ada wrote . " * 20_000
    ann = "".join(f"T{i}\tPER 0 {len(text) - i}\tAda\n" for i in range(2000))
    megabytes, seconds = peak_mb(lambda: read_brat(brat(tmp_path / "b", text, ann), lang="en"))
    assert megabytes < 150
    assert seconds < 60


def bitmap(i: int) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (1200, 1000), (i, 0, 0)).save(data, "BMP")
    return data.getvalue()


@pytest.mark.parametrize("kind", ["images", "LabelMe"])
def test_frames_in_an_archive_are_written_one_after_another(kind, tmp_path):
    import base64

    brat(tmp_path / "b", "Ada wrote .", "T1\tPER 0 3\tAda\n")
    (tmp_path / "frames").mkdir()
    with zipfile.ZipFile(tmp_path / "frames/d.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(30):
            if kind == "images":
                archive.writestr(f"{i}.bmp", bitmap(i))
            else:
                said = {"shapes": [], "imageData": base64.b64encode(bitmap(i)).decode()}
                archive.writestr(f"{i}.json", json.dumps(said))
    assert (tmp_path / "frames/d.zip").stat().st_size < 3_000_000

    def imported() -> None:
        write_corpus(tmp_path / "c", read_brat(tmp_path / "b", lang="en", frames=tmp_path / "frames"))

    megabytes, _ = peak_mb(imported)
    assert megabytes < 60  # one frame is 3.6 MB, all of them 108
    frames = sorted((tmp_path / "c/frames/d").iterdir())
    assert len(frames) == 30
    assert all(path.read_bytes() == bitmap(int(path.stem)) for path in frames)


# --- nesting ----------------------------------------------------------------------------------------------------------

DEEP = [2 * NESTING, 900, 5_000, 200_000]


def nested(depth: int) -> list[str]:
    return ["[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth, '[{"chains":' * depth, "[" * depth]


@pytest.mark.parametrize("depth", DEEP)
def test_nesting_is_limited_wherever_json_is_read(depth):
    for text in nested(depth):
        with pytest.raises(WireError):
            decode(text, dict)
        with pytest.raises(ValueError):  # noqa: PT011
            read_json(text)
        with pytest.raises(WireError):
            decode_raw(f'{{"document":"d","payload":{text}}}')
        with pytest.raises(WireError):
            decode_prediction(f'{{"document":"d","annotation":{{"regions":{text}}}}}')


@pytest.mark.parametrize("depth", DEEP)
def test_an_answer_nested_without_end_is_an_issue(depth):
    from m3dllm.normalize import normalize
    from m3dllm.types import Document, RawOutput

    for text in nested(depth):
        prediction = normalize(Document("d", "en", "Ada"), RawOutput("d", payload=text))
        assert prediction.issues


def test_what_is_nested_as_answers_are_is_not_deep():
    assert not is_deep({"chains": [{"mentions": [["Ada", 1]]}]})
    assert not is_deep("text" * 1000)
    value: list = []
    for _ in range(NESTING + 1):
        value = [value]
    assert is_deep(value)


@pytest.mark.parametrize("depth", DEEP)
def test_files_of_adapters_and_weights_may_be_nested_as_they_like(depth, tmp_path):
    pytest.importorskip("peft", reason="needs the extra 'llm'")
    import struct

    from m3dllm.errors import UserError
    from m3dllm.systems.videollm.adapters.card import CARD, _rank, open_adapter, tensor_shapes

    for text in nested(depth):
        (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", len(text)) + text.encode())
        (tmp_path / "c.json").write_text(text)
        (tmp_path / CARD).write_text("a = " + "[" * depth + "]" * depth)
        for read in (
            lambda: tensor_shapes(tmp_path / "w.safetensors"),
            lambda: _rank(tmp_path / "c.json"),
            lambda: open_adapter(tmp_path),
        ):
            with pytest.raises(UserError):
                read()


@pytest.mark.parametrize("depth", DEEP)
@pytest.mark.parametrize("name", ["labels.json", "dev.jsonl"])
def test_a_deep_corpus_is_one_line(depth, name, tmp_path):
    from tests.small import small_corpus

    corpus = small_corpus(tmp_path / "c")
    for text in nested(depth)[:2]:
        (corpus / name).write_text(text)
        done = subprocess.run(
            [sys.executable, "-m", "m3dllm", "check", str(corpus)], capture_output=True, text=True, cwd=ROOT
        )
        assert done.returncode == 2
        assert "Traceback" not in done.stderr


def test_xml_nested_without_end_is_one_line(tmp_path):
    (tmp_path / "a.xml").write_text("<annotation>" + "<a>" * 20_000 + "</a>" * 20_000 + "</annotation>")
    with pytest.raises(UserError, match="is nested too deeply"):
        read_xml(tmp_path / "a.xml", "annotation")
