"""Video LLMs: systems that prompt a generative model for annotations, with constrained decoding."""

from typing import Any

from m3dllm.system import SystemSpec
from m3dllm.types import TASKS

_ALIKE: dict[str, Any] = {
    "factory": "m3dllm.systems.videollm.system:VideoLLM",
    "preview": "m3dllm.systems.videollm.preview:preview",
    "tasks": TASKS,
    "modalities": ("text", "video"),
    "languages": ("en", "zh"),
    "proposals": {"strategy": "verify"},
    "takes_given": True,
    "extra": "llm",
    "needs": ("torch", "transformers", "llguidance"),
}

_VIDEO_LLM = SystemSpec(
    name="video-llm",
    config="m3dllm.systems.videollm.config:Config",
    tools={
        "calibrate-boxes": "m3dllm.systems.videollm.calibrate:calibrate",
        "adapters": "m3dllm.systems.videollm.verbs:overview",
        "adapters merge": "m3dllm.systems.videollm.verbs:merge",
        "adapters push": "m3dllm.systems.videollm.verbs:push",
        "prompts copy": "m3dllm.systems.videollm.verbs:copy_prompts",
    },
    summary="a video LLM with grammar-constrained decoding: mentions are substrings of the document",
    trainable=True,
    fits_in_parallel=True,
    fits_first=False,
    **_ALIKE,
)

SPECS = (
    _VIDEO_LLM,
    SystemSpec(
        name="video-chatgpt",
        config="m3dllm.systems.videollm.native:VideoChatGPT",
        summary="Video-ChatGPT (2023): CLIP's patches, averaged over frames and over time, before LLaMA",
        **_ALIKE,
    ),
    SystemSpec(
        name="video-llama-2",
        config="m3dllm.systems.videollm.native:VideoLlama",
        summary="Video-LLaMA (2023) with Llama 2: Q-Formers over each frame and over the clip",
        **_ALIKE,
    ),
)
