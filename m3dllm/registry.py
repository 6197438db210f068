"""Name to SystemSpec: the built-in systems, and those that other packages bring through the group "m3dllm.systems".

No system is imported here. A plugin's entry point names its SPEC; one that fails on import is listed with its error and
raises only when it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points

from m3dllm.errors import UserError
from m3dllm.system import SystemSpec
from m3dllm.types import TASKS

GROUP = "m3dllm.systems"

FOUR_TASKS = frozenset(TASKS)
TEXT_AND_VIDEO = frozenset(("text", "video"))
EN_AND_ZH = frozenset(("en", "zh"))
BUILT_IN = {
    spec.name: spec
    for spec in (
        SystemSpec(
            name="dffm",
            factory="m3dllm.systems.dffm.model:DFFM",
            config="m3dllm.systems.dffm:Config",
            summary="denoised fusion of text and frames, missing modalities constructed (DFFM and MMCM of M3D)",
            tasks=FOUR_TASKS,
            modalities=TEXT_AND_VIDEO,
            languages=EN_AND_ZH,
            takes_given=True,
            trainable=True,
            extra="supervised",
            needs=("torch", "transformers", "safetensors", "tokenizers"),
        ),
        SystemSpec(
            name="majority",
            factory="m3dllm.systems.majority:Majority",
            config="m3dllm.systems.majority:Config",
            summary="the floors as a system: dictionaries, same-text chains, frequent types and boxes",
            tasks=FOUR_TASKS,
            modalities=TEXT_AND_VIDEO,
            languages=EN_AND_ZH,
            takes_given=True,
            trainable=True,
        ),
        SystemSpec(
            name="replay",
            factory="m3dllm.systems.replay:Replay",
            config="m3dllm.systems.replay:Config",
            summary="answers from a file: a run's, or the gold of a corpus",
            tasks=FOUR_TASKS,
            modalities=TEXT_AND_VIDEO,
            languages=EN_AND_ZH,
            takes_given=True,
        ),
        SystemSpec(
            name="video-llm",
            factory="m3dllm.systems.videollm.system:VideoLLM",
            config="m3dllm.systems.videollm.config:Config",
            preview="m3dllm.systems.videollm.preview:preview",
            tools={
                "calibrate-boxes": "m3dllm.systems.videollm.calibrate:calibrate",
                "adapters": "m3dllm.systems.videollm.verbs:overview",
                "adapters merge": "m3dllm.systems.videollm.verbs:merge",
                "adapters push": "m3dllm.systems.videollm.verbs:push",
            },
            summary="a video LLM, asked with prompts and held to what is in the document while it answers",
            tasks=FOUR_TASKS,
            modalities=TEXT_AND_VIDEO,
            languages=EN_AND_ZH,
            takes_given=True,
            trainable=True,
            fits_first=False,
            extra="llm",
            needs=("torch", "transformers", "llguidance"),
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Broken:
    """A plugin whose entry point could not be read, and why."""

    name: str
    source: str
    error: str


def system_names() -> list[str]:
    """Every known name, built in or plugged in, without importing a plugin."""
    return sorted({*BUILT_IN, *(point.name for point in _points())})


def find_system(name: str) -> SystemSpec:
    """The spec of that name. Raises UserError for an unknown name or a plugin that fails on import."""
    if name in BUILT_IN:
        return BUILT_IN[name]
    for point in _points():
        if point.name == name:
            found = _read(point)
            if isinstance(found, Broken):
                raise UserError(f"system '{name}' of {found.source} cannot be loaded: {found.error}")
            return found
    known = system_names()
    close = get_close_matches(name, known, n=1)
    hint = f"; did you mean '{close[0]}'?" if close else ";"
    raise UserError(f"there is no system '{name}'{hint} known: {', '.join(known)}")


def all_systems() -> Iterator[SystemSpec | Broken]:
    """Every system in the order of the names, broken plugins included."""
    points = {point.name: point for point in _points()}
    for name in system_names():
        yield BUILT_IN[name] if name in BUILT_IN else _read(points[name])


def _points() -> list[EntryPoint]:
    return sorted(entry_points(group=GROUP), key=lambda point: point.name)


def _read(point: EntryPoint) -> SystemSpec | Broken:
    source = point.dist.name if point.dist else point.value
    try:
        spec = point.load()
    except Exception as error:  # a plugin may fail in any way while it is imported
        return Broken(point.name, source, f"{type(error).__name__}: {error}")
    if not isinstance(spec, SystemSpec) or spec.name != point.name:
        return Broken(point.name, source, f"{point.value} is no SystemSpec named '{point.name}'")
    return spec
