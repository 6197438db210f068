"""The `video-llama-2` engine: Video-LLaMA (Zhang et al. 2023) with Llama 2, 32 vectors of a clip before it."""

from __future__ import annotations

from typing import ClassVar

from m3dllm.systems.videollm.engines.native.engine import NativeEngine
from m3dllm.systems.videollm.engines.native.video_llama import VideoLlamaLocal


class VideoLlamaEngine(NativeEngine):
    """Video-LLaMA on one device."""

    name: ClassVar = "video-llama-2"
    kind: ClassVar = VideoLlamaLocal
    module: ClassVar = "video_llama_model"
