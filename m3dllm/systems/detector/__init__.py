"""Every face or person that an ONNX detector finds is a region: the trivial baseline of grounding.

Its options and declaration; nothing here imports a model library. Card: `docs/systems/detector.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from m3dllm.config import Options, Share
from m3dllm.files import sha256_file
from m3dllm.system import SystemSpec

SPEC = SystemSpec(
    name="detector",
    factory="m3dllm.systems.detector.system:Detector",
    config="m3dllm.systems.detector:Config",
    summary="every face or person found by an ONNX detector (UltraFace, FastestDet) is a region",
    tasks={"grounding"},
    modalities={"video"},
    languages={"en", "zh"},
    extra="detector",
    needs=("onnxruntime",),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Options):
    """The options of `detector`."""

    model: str
    """The ONNX file of an UltraFace (faces) or a FastestDet (persons)."""
    type: str = "PER"
    """The type of the regions."""
    score: Share = 0.5
    """The minimum confidence of a detection."""
    merge_iou: Share = 0.3
    """Boxes with a higher IoU than this are merged."""

    def sources(self) -> dict[str, str]:
        """The hash of the model file. Raises UserError if it is missing."""
        return {"model": sha256_file(Path(self.model))}
