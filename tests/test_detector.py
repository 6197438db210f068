"""The detector as a system: published weights where they are, and models that are none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from m3dllm.errors import UserError
from m3dllm.labels import Label, LabelSet
from m3dllm.normalize import normalize
from m3dllm.types import Document, Frame

onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra 'detector'")

from m3dllm.systems.detector import Config  # noqa: E402
from m3dllm.systems.detector.system import Detector, _read_fastestdet  # noqa: E402

LABELS = LabelSet(mentions=(Label("PER"),), relations=(), regions=(Label("PER"), Label("LOC")))
ULTRAFACE, FASTESTDET = "weights/ultraface", "weights/fastestdet"


@pytest.fixture
def faces(shared_data):
    return Detector(Config(model=str(shared_data / ULTRAFACE / "models/onnx/version-RFB-320.onnx")), labels=LABELS)


def document(*paths: Path) -> Document:
    return Document("d", "zh", "", frames=tuple(Frame(24 * i, str(path), 64, 48) for i, path in enumerate(paths)))


def test_faces_are_regions_in_the_frames_that_show_them(faces, shared_data, tmp_path):
    Image.new("RGB", (64, 48), "navy").save(tmp_path / "blue.png")
    asked = document(tmp_path / "blue.png", shared_data / ULTRAFACE / "imgs/2.jpg")
    (raw,) = faces.predict([asked])
    prediction = normalize(asked, raw, LABELS)
    regions = sorted(prediction.annotation.regions, key=lambda region: region.box.x0)
    assert [(region.frame, region.type, round(region.box.x0, 1)) for region in regions] == [
        (24, "PER", 0.1),
        (24, "PER", 0.3),
        (24, "PER", 0.5),
        (24, "PER", 0.7),
    ]
    assert all(region.box.is_legal and region.confidence > 0.9 for region in regions)


def test_persons_are_regions_of_the_requested_type(shared_data):
    model = shared_data / FASTESTDET / "example/onnx-runtime/FastestDet.onnx"
    system = Detector(Config(model=str(model), type="LOC"), labels=LABELS)
    (raw,) = system.predict([document(shared_data / FASTESTDET / "data/2.jpg")])
    boxes = sorted(region["box"] for region in raw.payload["regions"])
    assert {region["type"] for region in raw.payload["regions"]} == {"LOC"}
    assert [round(box[0], 1) for box in boxes] == [0.1, 0.4, 0.6]
    assert all(box[3] > 0.7 for box in boxes)


def test_a_document_without_frames_has_no_regions_and_a_broken_frame_is_its_error(faces, tmp_path):
    (tmp_path / "torn.png").write_bytes(b"torn")
    broken = Document("b", "en", "Ada", frames=(Frame(0, str(tmp_path / "torn.png"), 4, 4),))
    empty, failed = faces.predict([Document("a", "en", "Ada"), broken])
    assert empty.payload == {"chains": [], "relations": [], "regions": []}
    assert "torn.png: cannot be read as a picture" in failed.failure.message


def test_a_type_that_no_region_has_is_one_line(shared_data):
    model = shared_data / ULTRAFACE / "models/onnx/version-RFB-320.onnx"
    with pytest.raises(UserError, match="--type ORG: is not a region type here: PER, LOC"):
        Detector(Config(model=str(model), type="ORG"), labels=LABELS)


def test_an_export_without_the_step_that_makes_boxes_is_refused(shared_data):
    model = shared_data / ULTRAFACE / "models/onnx/version-RFB-320_without_postprocessing.onnx"
    with pytest.raises(UserError, match="returns numbers that are not boxes: export it with its postprocessing"):
        Detector(Config(model=str(model)), labels=LABELS)


@pytest.mark.parametrize(
    ("content", "told"), [(b"no model", "cannot be loaded as an ONNX model"), (b"PK\x03\x04", "is a pickle")]
)
def test_what_is_no_model_is_one_line(tmp_path, content, told):
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(UserError, match=told) as error:
        Detector(Config(model=str(tmp_path / "m.onnx")), labels=LABELS)
    assert "\n" not in str(error.value)


def test_a_cell_of_fastestdet_is_a_box_around_its_place():
    out = np.zeros((1, 85, 2, 4), dtype=np.float32)
    out[0, 0, 1, 2], out[0, 5, 1, 2] = 0.5, 0.25
    out[0, 1:5, 1, 2] = np.arctanh(0.5), 0.0, 0.0, np.log(3)
    scores, corners = _read_fastestdet([out])
    cell = 1 * 4 + 2
    assert scores[cell] == pytest.approx(0.5**0.6 * 0.25**0.4)
    np.testing.assert_allclose(corners[cell], [0.625 - 0.25, 0.5 - 0.375, 0.625 + 0.25, 0.5 + 0.375], atol=1e-6)
    assert scores.argmax() == cell


def test_it_needs_no_torch():
    code = "import sys, m3dllm.systems.detector.system; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
