"""The `video-chatgpt` engine: Video-ChatGPT (Maaz et al. 2023), up to 100 frames as one clip before LLaMA."""

from __future__ import annotations

from typing import ClassVar

from m3dllm.systems.videollm.engines.native.engine import NativeEngine
from m3dllm.systems.videollm.engines.native.video_chatgpt import VideoChatGPTLocal


class VideoChatGPTEngine(NativeEngine):
    """Video-ChatGPT on one device."""

    name: ClassVar = "video-chatgpt"
    kind: ClassVar = VideoChatGPTLocal
    module: ClassVar = "video_chatgpt_model"
