from dataclasses import dataclass

from m3dllm.system import SystemSpec
from m3dllm.systems.supervised import config as supervised

SPEC = SystemSpec(
    name="mean-frames",
    factory="mean_frames.model:MeanFrames",
    config="mean_frames:Config",
    summary="the mean of all frames, added to every word",
    **supervised.CAPABILITIES,
)


@dataclass(frozen=True, kw_only=True)
class Config(supervised.Config):
    frame_weight: float = 1.0
    """How much the mean of the frames counts beside a word."""
