"""PSNR-Y + SSIM-Y of a 500x332 picture, against the same through scikit-image; run with ``make bench``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from refsr_bench.images import crop_border, luma_bt601
from refsr_bench.protocols.fidelity import psnr_y, ssim_y
from refsr_bench.schema import Image


def ours(hr: Image, sr: Image) -> tuple[float, float]:
    return psnr_y(hr, sr), ssim_y(hr, sr)


def baseline(hr: Image, sr: Image) -> tuple[float, float]:
    x, y = (crop_border(luma_bt601(image), 4) for image in (hr, sr))
    ssim = structural_similarity(x, y, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    return float(peak_signal_noise_ratio(x, y, data_range=255)), float(ssim)


@pytest.mark.parametrize("score", [baseline, ours], ids=["scikit-image", "refsr-bench"])
@pytest.mark.benchmark(group="psnr_y + ssim_y, 500x332", warmup=True)
def test_metrics(benchmark: BenchmarkFixture, score: Callable[[Image, Image], tuple[float, float]]) -> None:
    rng = np.random.default_rng(0)
    hr, sr = (rng.integers(0, 256, (332, 500, 3), dtype=np.uint8) for _ in range(2))
    assert benchmark(score, hr, sr) == pytest.approx(baseline(hr, sr), abs=1e-10)
