"""Video LLMs: a system that asks a generating model for annotations, and makes malformed answers impossible."""

from m3dllm.system import SystemSpec
from m3dllm.types import TASKS

SPEC = SystemSpec(
    name="video-llm",
    factory="m3dllm.systems.videollm.system:VideoLLM",
    config="m3dllm.systems.videollm.config:Config",
    preview="m3dllm.systems.videollm.preview:preview",
    tools={
        "calibrate-boxes": "m3dllm.systems.videollm.calibrate:calibrate",
        "adapters": "m3dllm.systems.videollm.verbs:overview",
        "adapters merge": "m3dllm.systems.videollm.verbs:merge",
        "adapters push": "m3dllm.systems.videollm.verbs:push",
        "prompts copy": "m3dllm.systems.videollm.verbs:copy_prompts",
    },
    summary="a video LLM with grammar-constrained decoding: mentions are substrings of the document",
    tasks=TASKS,
    modalities=("text", "video"),
    languages=("en", "zh"),
    takes_given=True,
    trainable=True,
    fits_first=False,
    extra="llm",
    needs=("torch", "transformers", "llguidance"),
)
