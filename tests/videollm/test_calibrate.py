"""Which convention a model's boxes are in, told from drawn shapes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from m3dllm.score.grounding import iou
from m3dllm.systems.videollm.calibrate import Answer, Calibration, Shape, calibrate, rank, shapes
from m3dllm.systems.videollm.config import Config
from m3dllm.systems.videollm.families import CONVENTIONS, Convention
from m3dllm.types import Box


def said(shape: Shape, convention: Convention, size: tuple[int, int]) -> tuple[float, ...]:
    """The box of a shape as a model that speaks in `convention` would write it."""
    form = convention.form({0: size})
    (across, down), (x, y) = form.sizes[0], form.offsets.get(0, (0.0, 0.0))
    xs = [round(x + value * across, convention.decimals) for value in shape.box[::2]]
    ys = [round(y + value * down, convention.decimals) for value in shape.box[1::2]]
    return (ys[0], xs[0], ys[1], xs[1]) if convention.order == "yxyx" else (xs[0], ys[0], xs[1], ys[1])


def answers(convention: str, scale: float = 1.0) -> list[Answer]:
    found = []
    for shape in shapes():
        size = tuple(round(side * scale) for side in shape.size)
        found.append(Answer(shape.box, size, said(shape, CONVENTIONS[convention], size)))
    return found


def calibration(found: list[Answer], declared: str) -> Calibration:
    return Calibration("m", "f", declared, tuple(found), tuple(rank(found)))


@pytest.mark.parametrize("name", sorted(CONVENTIONS))
def test_answers_in_a_convention_fit_it_alone(name):
    found = calibration(answers(name, scale=0.7), name)
    assert found.fitting == (name,)
    assert found.fits[0].mean_iou > 0.97
    assert (found.fits[0].read, found.fits[0].tp) == (12, 12)
    assert found.fits[1].mean_iou < 0.9  # 1000 and 1024 are near each other
    assert "fits" in found.verdict
    assert "--box-convention" not in found.verdict


def test_a_declaration_that_does_not_fit_is_put_right():
    assert calibration(answers("permille"), "pixels").verdict == (
        "'permille' fits, and not 'pixels': say --box-convention permille"
    )


def test_noise_that_still_finds_the_shapes_changes_no_verdict():
    noisy = [
        replace(a, numbers=tuple(n + 12 * (-1) ** i for i, n in enumerate(a.numbers))) for a in answers("permille")
    ]
    assert calibration(noisy, "permille").fitting == ("permille",)


def test_no_convention_fits_where_nothing_is_found():
    same = [replace(answer, numbers=(100.0, 100.0, 900.0, 900.0)) for answer in answers("permille")]
    none = [replace(answer, numbers=None) for answer in same]
    for found in (same, none):
        assert calibration(found, "permille").fitting == ()
        assert "no declared convention fits" in calibration(found, "permille").verdict


def test_the_shapes_are_where_they_are_said_to_be_and_far_from_the_diagonal():
    drawn = shapes()
    assert len(drawn) == 12
    assert len({(shape.kind, shape.colour) for shape in drawn}) > 6
    for shape in drawn:
        image = shape.draw()
        ground = image.getpixel((0, 0))
        mask = image.convert("RGB").point(lambda value: value).load()
        inside = [(x, y) for x in range(image.width) for y in range(image.height) if mask[x, y] != ground]
        xs, ys = [x for x, _ in inside], [y for _, y in inside]
        seen = Box(
            min(xs) / image.width, min(ys) / image.height, (max(xs) + 1) / image.width, (max(ys) + 1) / image.height
        )
        assert iou(seen, shape.box) > 0.95
        assert shape.box.is_legal
        assert iou(shape.box, Box(shape.box.y0, shape.box.x0, shape.box.y1, shape.box.x1)) == 0


@pytest.mark.parametrize(("model", "declared"), [("qwen2_5_vl", "pixels"), ("llava", "square")])
def test_a_model_that_knows_nothing_fits_nothing(tiny, model, declared):
    found = calibrate(Config(model=tiny(model), device="cpu", dtype="float32"))
    assert (found.declared, found.fitting) == (declared, ())
    assert all(answer.numbers is not None for answer in found.answers)
    text = str(found)
    assert all(name in text for name in CONVENTIONS)
    assert "no declared convention fits the 12 answers" in text
