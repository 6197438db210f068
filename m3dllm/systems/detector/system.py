"""The detector: from frames to boxes of faces or persons."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from m3dllm.errors import UserError
from m3dllm.files import is_pickle, read_bytes, sha256_file
from m3dllm.labels import LabelSet
from m3dllm.pictures import load_upright
from m3dllm.system import System, versions_of
from m3dllm.systems.detector import Config
from m3dllm.systems.supervised.boxes import merged
from m3dllm.types import Document, Example, Failure, Frame, RawOutput

Array = np.ndarray[Any, Any]
Found = tuple[Array, Array]
"""Scores (boxes,), and corners x0 y0 x1 y1 as fractions of the picture (boxes, 4)."""
PERSON = 0
"""The index of persons among the COCO classes."""


class Detector(System):
    """Regions of one type: the faces or persons of each frame. Raises UserError for an unknown model."""

    def __init__(
        self, config: Config, *, labels: LabelSet, examples: Sequence[Example] = (), checkpoint: Path | None = None
    ) -> None:
        super().__init__(config, labels=labels, examples=examples, checkpoint=checkpoint)
        known = [label.name for label in labels.regions]
        if config.type not in known:
            raise UserError(f"--type {config.type}: is not a region type here: {', '.join(known) or 'there is none'}")
        self._path = Path(config.model)
        self._session = _session(self._path)
        self._input = self._session.get_inputs()[0].name
        self._form = _form_of(self._session, self._path)
        _, corners = self.boxes(np.full((*self._form.size[::-1], 3), 127, dtype=np.uint8))
        if not (corners[:, 2:] > corners[:, :2]).all(1).mean() > 0.5:
            raise UserError.at(self._path, "returns numbers that are not boxes: export it with its postprocessing")

    @property
    def provenance(self) -> dict[str, str]:
        """The hash of the model, and the version of the runtime."""
        return {"sha256": sha256_file(self._path), **versions_of("onnxruntime")}

    def predict(self, documents: Sequence[Document]) -> Iterator[RawOutput]:
        """The boxes of all frames of a document, after non-maximum suppression."""
        for document in documents:
            started = time.perf_counter()
            try:
                regions = [region for frame in document.frames for region in self._regions(frame)]
            except UserError as error:
                yield RawOutput(document.id, error=Failure(str(error)))
                continue
            payload = {"chains": [], "relations": [], "regions": regions}
            yield RawOutput(document.id, payload=payload, seconds=time.perf_counter() - started)

    def _regions(self, frame: Frame) -> list[dict[str, Any]]:
        scores, corners = self.boxes(_picture(frame, self._form.size))
        corners = corners.clip(0, 1)
        order = np.argsort(-scores, kind="stable")
        order = order[scores[order] > self.config.score]
        kept = order[merged(corners[order], np.zeros(len(order)), self.config.merge_iou)]
        return [
            {
                "frame": frame.index,
                "type": self.config.type,
                "box": [float(edge) for edge in corners[i]],
                "confidence": round(float(scores[i]), 4),
            }
            for i in kept
        ]

    def boxes(self, picture: Array) -> Found:
        """The detections in a picture (height, width, 3), RGB bytes."""
        pixels = self._form.pixels(picture).transpose(2, 0, 1)[None]
        return self._form.read(self._session.run(None, {self._input: pixels}))


# --- the supported models ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Form:
    """The input and output format of a detector."""

    size: tuple[int, int]
    """Width and height."""
    pixels: Callable[[Array], Array]
    """From RGB bytes (height, width, 3) to the input."""
    read: Callable[[Sequence[Array]], Found]
    """From the outputs of the session to detections."""


def _form_of(session: Any, path: Path) -> Form:
    shapes = [output.shape for output in session.get_outputs()]
    given = session.get_inputs()[0].shape
    if len(given) == 4 and all(isinstance(n, int) for n in given) and given[1] == 3:
        size = (given[3], given[2])
        if len(shapes) == 2 and [shape[2:] for shape in shapes] == [[2], [4]]:
            return Form(size, _ultraface_pixels, _read_ultraface)
        if len(shapes) == 1 and len(shapes[0]) == 4 and shapes[0][1] == 85:
            return Form(size, _fastestdet_pixels, _read_fastestdet)
    has = f"takes {given} and returns {', '.join(map(str, shapes))}"
    raise UserError.at(path, f"{has}: expected an UltraFace (scores and boxes) or a FastestDet (85 numbers a cell)")


def _ultraface_pixels(picture: Array) -> Array:
    pixels: Array = (picture.astype(np.float32) - 127) / 128
    return pixels


def _read_ultraface(outputs: Sequence[Array]) -> Found:
    """Scores (1, boxes, 2) of background and face, corners (1, boxes, 4)."""
    return outputs[0][0, :, 1], outputs[1][0]


def _fastestdet_pixels(picture: Array) -> Array:
    """The input in BGR order, as in its training."""
    pixels: Array = picture[:, :, ::-1].astype(np.float32) / 255
    return pixels


def _read_fastestdet(outputs: Sequence[Array]) -> Found:
    """(1, 85, rows, columns): objectness, position and size, and 80 classes of each cell."""
    something, right, down, width, height = outputs[0][0, :5]
    rows, columns = something.shape
    scores = something**0.6 * outputs[0][0, 5 + PERSON] ** 0.4
    x = (np.arange(columns) + np.tanh(right)) / columns
    y = (np.arange(rows)[:, None] + np.tanh(down)) / rows
    half_width, half_height = (0.5 / (1 + np.exp(-size)) for size in (width, height))
    corners = np.stack([x - half_width, y - half_height, x + half_width, y + half_height], -1)
    return scores.ravel(), corners.reshape(-1, 4)


def _session(path: Path) -> Any:
    """The model in the runtime, on one thread, so that results are the same on every machine."""
    import onnxruntime

    data = read_bytes(path)
    if is_pickle(data[:2]):
        raise UserError.at(path, "is a pickle, which is never loaded: expected an ONNX file")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime has its own exceptions
        why = " ".join(str(error).split())[:160]
        raise UserError.at(path, f"cannot be loaded as an ONNX model: {why}") from error


def _picture(frame: Frame, size: tuple[int, int]) -> Array:
    """The frame upright, resized: (height, width, 3), bytes. Raises UserError if it cannot be read."""
    from PIL import Image

    try:
        return np.array(load_upright(Path(frame.path)).resize(size, Image.Resampling.BILINEAR))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError.at(frame.path, f"cannot be read as a picture: {error}") from error
