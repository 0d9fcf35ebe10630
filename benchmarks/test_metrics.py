"""PSNR-Y + SSIM-Y of a picture, as a ratio to the same through scikit-image; run with ``make bench``.

Both must give the same to 1e-10, on photographs and on noise. Scikit-image works on whole planes, which the system
clears at first use: it is nearly twice as fast in the memory of a program that has freed large blocks before
(``used``) as in that of one which begins by scoring (``fresh``), for which the limit below is meant.
"""

from __future__ import annotations

import functools
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import skimage
from pytest_benchmark.fixture import BenchmarkFixture
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from refsr_bench.images import crop_border, load_image, resize_bicubic
from refsr_bench.models.memory import reused_memory
from refsr_bench.protocols.fidelity import psnr_y, ssim_y
from refsr_bench.schema import Image

MIN_RATIO = 3.0


def ours(hr: Image, sr: Image) -> tuple[float, float]:
    return psnr_y(hr, sr), ssim_y(hr, sr)


def baseline(hr: Image, sr: Image) -> tuple[float, float]:
    x, y = (crop_border(rgb2ycbcr(image)[..., 0], 4) for image in (hr, sr))
    ssim = structural_similarity(x, y, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    return float(peak_signal_noise_ratio(x, y, data_range=255)), float(ssim)


def pictures(kind: str, width: int, height: int) -> list[Image]:
    if kind == "noise":
        rng = np.random.default_rng(0)
        return [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(2)]
    folder = Path(skimage.__file__).parent / "data"
    return [resize_bicubic(load_image(folder / f"motorcycle_{side}.png"), height, width) for side in ("left", "right")]


def ratios(kind: str, size: str, memory: str) -> list[float]:
    """Scikit-image's processor time over ours, in turn, of 15 repetitions."""
    if memory == "used":
        with reused_memory():
            bytearray(100 << 20)
    hr, sr = pictures(kind, *(int(n) for n in size.split("x")))
    assert ours(hr, sr) == pytest.approx(baseline(hr, sr), abs=1e-10)
    taken: dict[str, list[float]] = {"baseline": [], "ours": []}
    for _ in range(15):
        for name, score in (("baseline", baseline), ("ours", ours)):
            started = time.process_time()
            score(hr, sr)
            taken[name].append(time.process_time() - started)
    return [b / o for b, o in zip(taken["baseline"], taken["ours"], strict=True)]


@pytest.mark.parametrize("memory", ["fresh", "used"])
@pytest.mark.parametrize("size", ["160x160", "500x332", "1024x768"])
@pytest.mark.parametrize("kind", ["photographs", "noise"])
def test_metrics(benchmark: BenchmarkFixture, kind: str, size: str, memory: str) -> None:
    command = [sys.executable, __file__, kind, size, memory]
    run = functools.partial(subprocess.run, command, check=True, capture_output=True, text=True)
    found = [float(value) for value in benchmark.pedantic(run, rounds=1).stdout.split()]
    benchmark.extra_info["scikit-image / ours"] = found
    low, middle, high = statistics.quantiles(found, n=4)
    print(f"\n{kind}, {size}, {memory} memory: {middle:.2f} [{low:.2f}, {high:.2f}] times as fast as scikit-image")
    assert (size, memory) != ("500x332", "fresh") or middle >= MIN_RATIO


if __name__ == "__main__":
    print(*ratios(*sys.argv[1:]))
