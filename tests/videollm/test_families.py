"""What is declared of each family, and that boxes come back from its numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3dllm.errors import UserError
from m3dllm.labels import Label, LabelSet
from m3dllm.normalize import normalize
from m3dllm.systems.videollm.families import CONVENTIONS, FAMILIES, UNKNOWN, SmartResize, find_convention, find_family
from m3dllm.types import Document, Frame, RawOutput

SIZES = st.tuples(st.integers(1, 2000), st.integers(1, 2000)).filter(lambda size: max(size) <= 200 * min(size))


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("Qwen/Qwen2-VL-7B-Instruct", "qwen2-vl"),
        ("Qwen/Qwen2.5-VL-3B-Instruct", "qwen2.5-vl"),
        ("Qwen/Qwen3-VL-4B-Instruct", "qwen3-vl"),
        ("Qwen/Qwen3-VL-30B-A3B-Instruct", "qwen3-vl"),
        ("OpenGVLab/InternVL3-8B-hf", "internvl"),
        ("llava-hf/llava-1.5-7b-hf", "llava"),
        ("zai-org/GLM-4.5V", "glm-v"),
        ("gemini-2.5-flash", "gemini"),
        ("Qwen/Qwen3.5-9B", "qwen3.5"),
        ("Qwen/Qwen3.6-35B-A3B", "qwen3.5"),
        ("Qwen/Qwen3-Omni-30B-A3B-Instruct", "qwen3-omni"),
        ("OpenGVLab/InternVL3_5-8B-HF", "internvl"),
        ("google/gemma-4-E4B-it", "gemma"),
        ("google/gemma-3-1b-it", "unknown"),
        ("google/gemma-4-31b-it", "gemma"),
        ("google/paligemma-3b-mix-448", "paligemma"),
        ("meta-llama/Llama-4-Scout-17B-16E-Instruct", "llama-vision"),
        ("openbmb/MiniCPM-V-4_5", "minicpm-v"),
        ("moonshotai/Kimi-VL-A3B-Instruct", "kimi-vl"),
        ("mistralai/Pixtral-12B-2409", "mistral"),
        ("meta-llama/Llama-3.2-11B-Vision-Instruct", "llama-vision"),
        ("meta-llama/Llama-3.2-3B-Instruct", "unknown"),
        ("HuggingFaceTB/SmolVLM2-2.2B-Instruct", "smolvlm"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "unknown"),
        ("google/paligemma2-3b-mix-448", "paligemma"),
        ("/models/my Qwen3-VL-4B-Instruct/", "qwen3-vl"),
    ],
)
def test_a_family_is_known_by_its_name(name, family):
    assert find_family(name).name == family


def test_the_type_of_a_model_counts_more_than_its_name():
    assert find_family("/models/qwen3-vl-copy", model_type="qwen2_5_vl").name == "qwen2.5-vl"


def test_a_model_of_no_known_family_has_no_convention_but_the_one_that_is_named():
    assert find_family("acme/mystery-7b") is UNKNOWN
    assert find_convention(UNKNOWN) is None
    assert find_convention(UNKNOWN, "permille") is CONVENTIONS["permille"]


def test_an_unknown_family_or_convention_is_an_error_that_lists_the_known():
    with pytest.raises(UserError, match=r"--family qwen9.*qwen3-vl"):
        find_family("x", family="qwen9")
    with pytest.raises(UserError, match=r"--box-convention miles.*permille"):
        find_convention(FAMILIES["llava"], "miles")


def test_every_family_says_where_its_convention_is_from_and_no_two_share_a_type():
    types = [name for family in FAMILIES.values() for name in family.types]
    assert len(types) == len(set(types))
    assert {family.convention for family in FAMILIES.values()} - {None} <= CONVENTIONS.keys()
    assert all(family.source for family in FAMILIES.values())


@given(size=SIZES)
def test_our_resizing_is_the_processors(size):
    module = pytest.importorskip(
        "transformers.models.qwen2_vl.image_processing_qwen2_vl", reason="needs the extra 'llm'"
    )
    width, height = size
    for ours in (SmartResize(28, 3136, 28 * 28 * 1280), SmartResize(32, 65536, 4096 * 64)):
        theirs = module.smart_resize(height, width, ours.factor, ours.min_pixels, ours.max_pixels)
        assert ours(size) == (theirs[1], theirs[0])


@given(size=SIZES)
def test_resizing_again_changes_nothing(size):
    resize = SmartResize(28, 3136, 28 * 28 * 1280)
    assert resize(resize(size)) == resize(size)


@given(
    name=st.sampled_from(sorted(CONVENTIONS)),
    size=st.tuples(st.integers(28, 1400), st.integers(28, 1400)),
    box=st.tuples(*[st.integers(0, 99)] * 4).filter(lambda b: b[0] < b[2] and b[1] < b[3]),
)
def test_a_box_in_the_numbers_of_a_convention_is_read_as_the_fractions_it_is(name, size, box):
    convention, fractions = CONVENTIONS[name], [x / 99 for x in box]
    edge = convention.edge
    units = (edge, edge) if edge else size
    pad = [0.0, 0.0]
    if convention.square:  # what is drawn is in the middle of a square
        side = max(size)
        units = tuple(edge * s / side for s in size)
        pad = [edge * (side - s) / 2 / side for s in size]
    x0, x1 = (round(pad[0] + f * units[0], 3) for f in fractions[::2])
    y0, y1 = (round(pad[1] + f * units[1], 3) for f in fractions[1::2])
    numbers = [y0, x0, y1, x1] if convention.order == "yxyx" else [x0, y0, x1, y1]
    document = Document("d", "en", "", frames=(Frame(24, "f.png", *size, annotated=True),))
    payload = {"regions": [{"frame": 24, "type": "PER", "box": numbers}]}
    raw = RawOutput("d", payload=payload, boxes=convention.form({24: size}))
    (region,) = normalize(document, raw, LabelSet(regions=(Label("PER"),))).annotation.regions
    assert list(region.box) == pytest.approx(fractions, abs=0.03)
