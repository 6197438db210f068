"""The families of models: their box conventions, and their image preprocessing.

A family is found by the model's type or name, never guessed from its answers. Each row of the table cites the
documentation of its box convention. Without a documented convention, or for a model of unknown family, no regions are
predicted, unless --box-convention names a convention. Nothing here loads a model.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from m3dllm.errors import UserError
from m3dllm.types import BoxForm

Size = tuple[int, int]
"""Width and height in pixels."""


@dataclass(frozen=True, slots=True)
class Convention:
    """The meaning of the four numbers of a box.

    `edge` is the coordinate of the right and the bottom edge of the image; None: its width and height in pixels, as the
    model gets it. `decimals`: the number of decimals. `square`: whether coordinates refer to the square that the image
    is padded to.
    """

    name: str
    edge: int | None
    decimals: int = 0
    order: Literal["xyxy", "yxyx"] = "xyxy"
    square: bool = False

    def limits(self, size: Size) -> Size:
        """The largest legal coordinates of an image of this size: across and down, in units of the last decimal."""
        across, down = size if self.edge is None else (self.edge, self.edge)
        return across * 10**self.decimals, down * 10**self.decimals

    def form(self, sizes: Mapping[int, Size]) -> BoxForm:
        """The box form for frames of these sizes in pixels, as the model gets them (before padding)."""
        units: dict[int, tuple[float, float]] = {}
        offsets: dict[int, tuple[float, float]] = {}
        for frame, (width, height) in sizes.items():
            across, down = (width, height) if self.edge is None else (self.edge, self.edge)
            if self.square:
                side = max(width, height)
                units[frame] = across * width / side, down * height / side
                offsets[frame] = across * (side - width) / 2 / side, down * (side - height) / 2 / side
            else:
                units[frame] = float(across), float(down)
        return BoxForm(self.order, units, offsets)


CONVENTIONS: Mapping[str, Convention] = {
    convention.name: convention
    for convention in (
        Convention("fraction", 1, decimals=3),
        Convention("permille", 1000),
        Convention("pixels", None),
        Convention("square", 1, decimals=3, square=True),
        Convention("permille-yx", 1000, order="yxyx"),
        Convention("1024-yx", 1024, order="yxyx"),
    )
}


@dataclass(frozen=True, slots=True)
class SmartResize:
    """Sides made multiples of `factor`, with an area between `min_pixels` and `max_pixels` (the Qwen-VL processors)."""

    factor: int
    min_pixels: int
    max_pixels: int

    def __call__(self, size: Size) -> Size:
        """The size of the image that the model gets. Raises ValueError for an aspect ratio above 200."""
        width, height = size
        if max(size) > 200 * min(size):
            raise ValueError(f"an image of {width} x {height} pixels is too long for its width")
        across, down = (round(side / self.factor) * self.factor for side in size)
        if across * down > self.max_pixels:
            scale = math.sqrt(width * height / self.max_pixels)
            across, down = (max(self.factor, math.floor(s / scale / self.factor) * self.factor) for s in size)
        elif across * down < self.min_pixels:
            scale = math.sqrt(self.min_pixels / (width * height))
            across, down = (math.ceil(s * scale / self.factor) * self.factor for s in size)
        return across, down


@dataclass(frozen=True, slots=True)
class Family:
    """One family: how it is recognized, its box convention, its image preprocessing."""

    name: str
    pattern: str
    """A regular expression for the model's name in lower case; "" if only --family selects it."""
    types: tuple[str, ...]
    """The `model_type` of its configurations."""
    convention: str | None
    """None: not documented."""
    source: str
    """Where the convention is documented, or where its authors were asked without an answer."""
    resize: SmartResize | None = None
    """Its processor's resizing, if it matters and the processor may not be available."""
    pads: bool = False
    """Whether images are padded to a square."""
    interleaves: bool = True
    """Whether its chat format keeps the positions of images among texts."""


_QWEN2 = SmartResize(28, 56 * 56, 28 * 28 * 16384)
_QWEN3 = SmartResize(32, 256 * 256, 4096 * 4096)
_ISSUE = "https://github.com/{}/issues/{}".format

FAMILIES: Mapping[str, Family] = {
    family.name: family
    for family in (
        Family("qwen2-vl", r"qwen2-?vl", ("qwen2_vl",), "permille", _ISSUE("QwenLM/Qwen3-VL", 105), _QWEN2),
        Family("qwen2.5-vl", r"qwen2\.5-?vl", ("qwen2_5_vl",), "pixels", _ISSUE("QwenLM/Qwen3-VL", 940), _QWEN2),
        Family(
            "qwen3-vl",
            r"qwen3-?vl",
            ("qwen3_vl", "qwen3_vl_moe"),
            "permille",
            _ISSUE("QwenLM/Qwen3-VL", 1427),
            _QWEN3,
        ),
        Family(  # also 3.6 and later, which keep the configuration
            "qwen3.5",
            r"qwen3\.[5-9]",
            ("qwen3_5", "qwen3_5_moe"),
            "permille",
            _ISSUE("QwenLM/Qwen3.8-Flash-Next", 4),
            _QWEN3,
        ),
        Family(
            "qwen2.5-omni",
            r"qwen2\.5-?omni",
            ("qwen2_5_omni", "qwen2_5_omni_thinker"),
            None,
            f"{_ISSUE('QwenLM/Qwen2.5-Omni', 392)} and 236, unanswered",
        ),
        Family(
            "qwen3-omni",
            r"qwen3-?omni",
            ("qwen3_omni_moe", "qwen3_omni_moe_thinker"),
            None,
            "nothing found",
        ),
        Family(
            "internvl",
            r"internvl",
            ("internvl", "internvl_chat"),
            "permille",
            f"{_ISSUE('OpenGVLab/InternVL', 285)}; https://internvl.readthedocs.io, chat data format",
        ),
        Family(
            "llava",
            r"llava",
            ("llava", "llava_next", "llava_onevision"),
            "square",
            _ISSUE("haotian-liu/LLaVA", 606),
            pads=True,
            interleaves=False,
        ),
        Family(
            "glm-v",
            r"glm-?4(\.\d+)?v",
            ("glm4v", "glm4v_moe", "glm46v"),
            "permille",
            "https://www.skills.sh/zai-org/glm-skills/glmv-grounding",
        ),
        Family(
            "gemini",
            r"gemini",
            (),
            "permille-yx",
            "https://docs.cloud.google.com/vertex-ai/generative-ai/docs/bounding-box-detection",
        ),
        Family(
            "gemma",
            r"(?<!pali)gemma-?[34](?!.*((?<!\d)1b|270m))",
            ("gemma3", "gemma3n", "gemma4", "gemma4_unified"),
            None,
            "https://huggingface.co/google/gemma-3-4b-it/discussions/38: perhaps as gemini's",
        ),
        Family(
            "paligemma",
            r"paligemma",
            ("paligemma",),
            "1024-yx",
            "big_vision, configs/proj/paligemma/README.md; as it was declared here, not looked up again",
        ),
        Family(
            "minicpm-v",
            r"minicpm-?[vo]",
            ("minicpmv", "minicpmo", "minicpmv4_6", "minicpmv4_7"),
            "permille",
            _ISSUE("OpenBMB/MiniCPM-V", 982),
        ),
        Family(
            "kimi-vl",
            r"kimi-?(vl|k2\.5)",
            ("kimi_vl", "kimi_k25"),
            None,
            f"{_ISSUE('MoonshotAI/Kimi-VL', 52)} and 56, unanswered: perhaps fractions",
        ),
        Family(
            "mistral",
            r"pixtral|mistral-(small-3\.[1-9]|medium-3|large-3)",
            ("pixtral", "mistral3", "mistral4"),
            None,
            "nothing found",
        ),
        Family(
            "llama-vision",
            r"llama-?(3\.2-?\d+b-vision|4-(scout|maverick))",
            ("mllama", "llama4"),
            None,
            "nothing found",
        ),
        Family(
            "smolvlm",
            r"smolvlm|idefics-?3",
            ("smolvlm", "idefics3"),
            None,
            f"{_ISSUE('huggingface/smollm', 128)}, unanswered",
        ),
        Family("generic", r"", (), "fraction", "what --family generic asks for"),
    )
}
UNKNOWN = Family("unknown", "", (), None, "")
"""The family of unknown models."""
TEXT_ONLY = Family("text only", "", (), None, "")
"""The family of models that read no images."""


def find_family(model: str, *, model_type: str | None = None, family: str | None = None) -> Family:
    """The family named by `family`, or with `model_type`, or whose pattern matches the model's name, or UNKNOWN.

    Raises UserError, with the known names, for an unknown `family`.
    """
    if family is not None:
        if family not in FAMILIES:
            raise UserError(f"--family {family}: no such family; known: {', '.join(FAMILIES)}")
        return FAMILIES[family]
    for candidate in FAMILIES.values():
        if model_type is not None and model_type in candidate.types:
            return candidate
    name = model.rstrip("/").rpartition("/")[2].lower()
    for candidate in FAMILIES.values():
        if candidate.pattern and re.search(candidate.pattern, name):
            return candidate
    return UNKNOWN


def find_convention(family: Family, name: str | None = None) -> Convention | None:
    """The convention named `name`, or the family's; None if unknown.

    Raises UserError for an unknown name.
    """
    if name is not None and name not in CONVENTIONS:
        raise UserError(f"--box-convention {name}: no such convention; known: {', '.join(CONVENTIONS)}")
    name = name or family.convention
    return None if name is None else CONVENTIONS[name]
