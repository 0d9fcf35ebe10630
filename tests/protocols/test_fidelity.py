"""PSNR and SSIM against the released code, scikit-image, published outputs and their own algebra."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from refsr_bench.errors import ImageError
from refsr_bench.images import crop_border, load_image, luma_bt601, resize_bicubic
from refsr_bench.protocols.fidelity import psnr_rgb, psnr_y, ssim_rgb, ssim_y
from refsr_bench.protocols.inputs import prepare_hr
from refsr_bench.protocols.spec import EvalProtocol
from refsr_bench.schema import Image

PUBLISHED = {  # (ground truth, output) → PSNR-Y, SSIM-Y as the released code computes them
    "SUN80_canal/gt/canal_urban_sun_bioizsmryxlratmt.jpg": (
        "SUN80_canal/author_outputs/canal_urban_sun_bioizsmryxlratmt_C2_matching_mse.png",
        "32.47",
        "0.9038",
    ),
    "WR-SR/gt/24004.jpg": ("WR-SR/author_outputs/031_C2_matching_mse.png", "24.91", "0.7663"),
    "WR-SR/gt/56028.jpg": ("WR-SR/author_outputs/058_C2_matching_mse.png", "25.37", "0.6701"),
}


def noisy_pair(seed: int, height: int = 40, width: int = 33) -> tuple[Image, Image]:
    rng = np.random.default_rng(seed)
    hr = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    sr = np.clip(hr.astype(int) + rng.integers(-30, 31, hr.shape), 0, 255).astype(np.uint8)
    return hr, sr


@pytest.mark.parametrize("crop_px", [4, 0])
def test_released_metrics(golden: Path, crop_px: int) -> None:
    fixture = np.load(golden / "metrics.npz")
    for i in range(len(fixture["names"])):
        hr, sr = fixture[f"p{i}_gt"], fixture[f"p{i}_sr"]
        for metric, key, tolerance in (
            (psnr_y, "psnr_y", 1e-4),
            (psnr_rgb, "psnr_rgb", 1e-4),
            (ssim_y, "ssim_y", 1e-6),
        ):
            expected = fixture[f"{key}_crop{crop_px}_f64"][i]
            assert metric(hr, sr, crop_px) == pytest.approx(expected, abs=tolerance), (key, i)
        if crop_px == 4:
            assert psnr_y(hr, sr) == pytest.approx(fixture["psnr_y_crop4_exact_f64"][i], abs=1e-9)
            assert ssim_y(hr, sr) == pytest.approx(fixture["ssim_y_crop4_exact_f64"][i], abs=1e-9)
    assert np.abs(luma_bt601(fixture["p2_sr"]) - fixture["p2_sr_y_plane"]).max() < 1e-4


@pytest.mark.parametrize("truth", PUBLISHED)
def test_published_outputs_score_to_the_last_digit(dev_data: Path, truth: str) -> None:
    output, psnr, ssim = PUBLISHED[truth]
    hr = prepare_hr(load_image(dev_data / "published_c2" / truth), EvalProtocol())
    sr = load_image(dev_data / "published_c2" / output)
    assert (f"{psnr_y(hr, sr):.2f}", f"{ssim_y(hr, sr):.4f}") == (psnr, ssim)


def assert_agrees_with_scikit_image(hr: Image, sr: Image) -> None:
    x, y = (crop_border(luma_bt601(image), 4) for image in (hr, sr))
    expected = structural_similarity(
        x, y, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ssim_y(hr, sr) == pytest.approx(expected, abs=1e-10)
    assert psnr_y(hr, sr) == pytest.approx(peak_signal_noise_ratio(x, y, data_range=255), abs=1e-10)


@pytest.mark.parametrize("height", [19, 72, 73, 82, 83, 146, 147, 300])
def test_pictures_are_scored_in_strips_without_a_seam(height: int) -> None:
    hr, sr = noisy_pair(height, height, 31)
    assert_agrees_with_scikit_image(hr, sr)
    x, y = (crop_border(image, 4).astype(np.float64) for image in (hr, sr))
    expected = structural_similarity(
        x, y, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, channel_axis=-1
    )
    assert ssim_rgb(hr, sr) == pytest.approx(expected, abs=1e-10)


@given(st.integers(0, 2**32 - 1), st.integers(19, 60), st.integers(19, 60))
@settings(max_examples=25, deadline=None)
def test_agrees_with_scikit_image_on_noise(seed: int, height: int, width: int) -> None:
    assert_agrees_with_scikit_image(*noisy_pair(seed, height, width))


@pytest.mark.parametrize("name", ["astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png"])
def test_agrees_with_scikit_image_on_photographs(photographs: Path, name: str) -> None:
    hr = prepare_hr(load_image(photographs / name), EvalProtocol())
    height, width = hr.shape[:2]
    assert_agrees_with_scikit_image(hr, resize_bicubic(resize_bicubic(hr, height // 4, width // 4), height, width))


def test_full_range_luma_is_exactly_lower() -> None:
    hr, sr = noisy_pair(1)
    full = [crop_border(luma_bt601(image, studio=False), 4) for image in (hr, sr)]
    difference = peak_signal_noise_ratio(*full, data_range=255) - psnr_y(hr, sr)
    assert difference == pytest.approx(20 * math.log10(219 / 255), abs=1e-10)
    assert f"{difference:.4f}" == "-1.3219"


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_metrics_are_symmetric(seed: int) -> None:
    hr, sr = noisy_pair(seed)
    for metric in (psnr_y, psnr_rgb, ssim_y):
        assert metric(hr, sr) == pytest.approx(metric(sr, hr), abs=1e-12)


def test_more_noise_scores_lower() -> None:
    hr = np.full((40, 40, 3), 128, np.uint8)
    noise = np.random.default_rng(0).normal(size=hr.shape)
    scores = [psnr_y(hr, np.clip(128 + s * noise, 0, 255).astype(np.uint8)) for s in (2, 4, 8, 16)]
    assert scores == sorted(scores, reverse=True)


def test_identical_and_constant_pictures() -> None:
    flat = np.full((30, 30, 3), 7, np.uint8)
    assert math.isinf(psnr_y(flat, flat))
    assert ssim_y(flat, flat) == 1.0
    assert 0 < ssim_y(flat, flat + np.uint8(100)) < 1


@pytest.mark.parametrize(
    ("metric", "shape", "message"),
    [
        (psnr_y, (8, 40, 3), "leaves nothing"),
        (psnr_rgb, (1, 1, 3), "leaves nothing"),
        (ssim_y, (18, 40, 3), "11-px window"),
    ],
)
def test_too_small_pictures_are_refused(metric, shape, message) -> None:  # type: ignore[no-untyped-def]
    picture = np.zeros(shape, np.uint8)
    with pytest.raises(ImageError, match=message):
        metric(picture, picture)


def test_sizes_must_agree() -> None:
    with pytest.raises(ImageError, match="SR is 40x39 px but HR is 40x40 px"):
        psnr_y(np.zeros((40, 40, 3), np.uint8), np.zeros((39, 40, 3), np.uint8))
