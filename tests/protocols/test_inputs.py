"""Inputs bit-exactly as the released test code makes them; outputs checked before they are rounded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from refsr_bench.errors import ImageError, RefsrError
from refsr_bench.images import resize_bicubic
from refsr_bench.protocols.inputs import Inputs, finish_output, prepare_inputs
from refsr_bench.protocols.spec import PRESETS, EvalProtocol
from refsr_bench.schema import Image

PROTOCOL = EvalProtocol()


def as_released(image: Image) -> np.ndarray:
    return np.moveaxis(image, -1, 0).astype(np.float32) / np.float32(255)


@pytest.mark.parametrize("case", range(4))
def test_released_preprocessing_is_bit_exact(golden: Path, case: int) -> None:
    fixture = np.load(golden / "preprocess.npz")
    get = lambda name: fixture[f"c{case}_{name}"]  # noqa: E731
    inputs = prepare_inputs(get("input_u8"), [get("reference_u8")], PROTOCOL)
    assert np.array_equal(as_released(inputs.hr), get("gt"))
    assert np.array_equal(as_released(inputs.lr), get("lr"))
    assert np.array_equal(as_released(inputs.refs[0]), get("ref"))
    lr_up = resize_bicubic(inputs.lr, inputs.lr.shape[0] * 4, inputs.lr.shape[1] * 4)
    assert np.array_equal(as_released(lr_up), get("lr_up"))
    assert inputs.hr.shape[:2] == tuple(get("original_size"))


def test_without_a_reference_nothing_is_padded() -> None:
    inputs = prepare_inputs(np.full((23, 42, 3), 200, np.uint8), [], PROTOCOL)
    assert inputs.hr.shape == (20, 40, 3)
    assert inputs.lr.shape == (5, 10, 3)
    assert (inputs.lr == 200).all()


def test_several_references_share_one_canvas() -> None:
    hr = np.zeros((20, 40, 3), np.uint8)
    refs = [np.zeros(shape, np.uint8) for shape in ((33, 8, 3), (9, 51, 3))]
    inputs = prepare_inputs(hr, refs, PROTOCOL)
    assert [ref.shape for ref in inputs.refs] == [(32, 48, 3)] * 2
    assert inputs.lr.shape == (8, 12, 3)


def test_smaller_than_one_lr_pixel() -> None:
    with pytest.raises(ImageError, match="1x1 px is smaller than one LR pixel"):
        prepare_inputs(np.zeros((1, 1, 3), np.uint8), [], PROTOCOL)


def noise(height: int, width: int, seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("name", "hr", "canvas", "refs"),
    [  # of an input of 70 x 101 and a reference of 90 x 50 px
        ("c2-2021", (68, 100), (88, 100), (88, 100)),
        ("ttsr-2020", (68, 100), (68, 100), (88, 48)),
        ("masa-2021", (70, 101), (96, 128), (96, 64)),
        ("amsa-2022", (64, 96), (64, 96), (64, 96)),
        ("mmagic-rgb", (68, 100), (68, 100), (68, 100)),
        ("matlab-sisr", (68, 100), (68, 100), (88, 48)),
    ],
)
def test_what_each_preset_makes_of_unequal_sizes(
    name: str, hr: tuple[int, int], canvas: tuple[int, int], refs: tuple[int, int]
) -> None:
    protocol = PRESETS[name]
    original, reference = noise(70, 101), noise(90, 50, 1)
    inputs = prepare_inputs(original, [reference], protocol)
    assert inputs.hr.shape[:2] == hr
    assert inputs.lr.shape[:2] == (canvas[0] // 4, canvas[1] // 4)
    assert inputs.refs[0].shape[:2] == refs
    for picture, frame, whole in (
        (inputs.hr_canvas, inputs.hr_frame, original),
        (inputs.refs[0], inputs.ref_frames[0], reference),
    ):
        x, y, width, height = frame
        assert np.array_equal(picture[y : y + height, x : x + width], whole[:height, :width])
    perfect = inputs.hr_canvas.astype(np.float32) / 255
    assert np.array_equal(finish_output(perfect, inputs, protocol), inputs.hr)


def test_masa_pads_the_input_on_all_sides_with_its_edges() -> None:
    inputs = prepare_inputs(noise(70, 101), [], PRESETS["masa-2021"])
    assert inputs.hr_frame == (13, 13, 101, 70)
    assert np.array_equal(inputs.hr_canvas[:13, 13:114], np.repeat(inputs.hr[:1], 13, axis=0))


@pytest.fixture
def inputs() -> Inputs:
    return prepare_inputs(np.zeros((20, 24, 3), np.uint8), [np.zeros((28, 24, 3), np.uint8)], PROTOCOL)


def test_output_is_clamped_rounded_once_and_cropped(inputs: Inputs) -> None:
    sr = np.full((28, 24, 3), 100.5 / 255, np.float32)
    sr[0, 0], sr[0, 1] = -0.2, 1.3
    out = finish_output(sr, inputs, PROTOCOL)
    assert out.shape == (20, 24, 3)
    assert out.dtype == np.uint8
    assert out[0, 0, 0] == 0
    assert out[0, 1, 0] == 255
    assert (out[1:] == 100).all()  # halves go to the even neighbour, as the released rounding does


@pytest.mark.parametrize(
    ("sr", "message"),
    [
        (np.zeros((28, 20, 3), np.float32), "returned float32"),
        (np.zeros((28, 24, 3), np.uint8), "returned uint8"),
        (np.full((28, 24, 3), np.nan, np.float32), "NaN"),
        (np.full((28, 24, 3), np.inf, np.float32), "NaN or infinite"),
        (np.full((28, 24, 3), 200, np.float32), "divide by 255"),
        (np.full((28, 24, 3), -200, np.float32), "from -200"),
    ],
)
def test_wrong_output_is_refused(inputs: Inputs, sr: np.ndarray, message: str) -> None:
    with pytest.raises(RefsrError) as caught:
        finish_output(sr, inputs, PROTOCOL)
    assert message in str(caught.value)
