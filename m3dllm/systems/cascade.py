"""Two systems, one after the other: the second confirms, retypes or drops the proposals of the first.

This is only the declaration: the cascade itself must find systems by name, which is done above `systems`.
"""

from __future__ import annotations

from m3dllm.system import SystemSpec
from m3dllm.types import TASKS

SPEC = SystemSpec(
    name="cascade",
    factory="m3dllm.cascade:Cascade",
    config="m3dllm.cascade:Config",
    summary="one system proposes (--first), another confirms, retypes or drops each part (--second)",
    tasks=TASKS,
    modalities=("text", "video"),
    languages=("en", "zh"),
    takes_given=True,
    trainable=True,
    preview="m3dllm.cascade:preview",
)
