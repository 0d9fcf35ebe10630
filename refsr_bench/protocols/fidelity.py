"""Fidelity metrics: PSNR and SSIM exactly as the Ref-SR papers compute them, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from refsr_bench.errors import ImageError
from refsr_bench.images import crop_border, luma_bt601
from refsr_bench.protocols.spec import Metric
from refsr_bench.schema import Image

_WINDOW = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
_WINDOW /= _WINDOW.sum()
_PEAK = 255.0
_STRIP_ROWS = 64


def luma_ttsr(image: Image) -> NDArray[np.float64]:
    """Luma of uint8 RGB with the weights of TTSR's test code, in 256ths; black at 16, white at 235.

    >>> round(float(luma_ttsr(np.full((1, 1, 3), 255, np.uint8))[0, 0]), 3)
    235.0
    """
    return image.astype(np.float64) @ (np.array([65.738, 129.057, 25.064]) / 256.0) + 16.0


LUMA_PLANES: dict[str, Callable[[Image], NDArray[np.float64]]] = {
    "y601studio": luma_bt601,
    "y601full": lambda image: luma_bt601(image, studio=False),
    "y601ttsr": luma_ttsr,
}
"""A protocol's ``luma`` to the plane it names."""


def _as_float(image: Image) -> NDArray[np.float64]:
    return image.astype(np.float64)


def psnr_y(hr: Image, sr: Image, crop_px: int = 4, *, luma: str = "y601studio") -> float:
    """PSNR of the luma plane, dB, peak 255; infinite for equal planes (paper, section 5.1).

    hr, sr : uint8 RGB ``(H, W, 3)`` of equal size, else `ImageError`. luma : one of `LUMA_PLANES`, not rounded.

    >>> hr = np.zeros((24, 24, 3), np.uint8)
    >>> round(psnr_y(hr, hr + np.uint8(10)), 4)
    29.4527
    """
    return _psnr(*_cropped(hr, sr, crop_px), LUMA_PLANES[luma])


def psnr_y_visible(hr: Image, sr: Image, visible: NDArray[np.bool_], crop_px: int = 4, *, luma: str) -> float:
    """PSNR of the luma plane over the pixels that the reference shows too, dB; NaN where it shows none.

    visible : ``(H, W)``, true where the pixel's true point lies on the reference's picture.
    """
    convert, inside = LUMA_PLANES[luma], crop_border(visible, crop_px)
    x, y = (convert(image)[inside] for image in _cropped(hr, sr, crop_px))
    return _decibels(float(np.mean((x - y) ** 2))) if inside.any() else math.nan


def psnr_rgb(hr: Image, sr: Image, crop_px: int = 4) -> float:
    """PSNR over the three channels together, dB, peak 255; infinite for equal pictures.

    >>> hr = np.zeros((24, 24, 3), np.uint8)
    >>> round(psnr_rgb(hr, hr + np.uint8(10)), 4)
    28.1308
    """
    return _psnr(*_cropped(hr, sr, crop_px), _as_float)


def ssim_rgb(hr: Image, sr: Image, crop_px: int = 4) -> float:
    """Mean of the three channels' SSIM, window and constants as in `ssim_y`; what some frameworks report.

    >>> hr = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    >>> ssim_rgb(hr, hr)
    1.0
    """
    hr, sr = _cropped(hr, sr, crop_px)
    return float(np.mean([_ssim(hr[..., channel], sr[..., channel], _as_float) for channel in range(3)]))


def ssim_y(hr: Image, sr: Image, crop_px: int = 4, *, luma: str = "y601studio") -> float:
    """SSIM of the luma plane: 11x11 Gaussian, sigma 1.5, valid region, population moments.

    hr, sr : uint8 RGB ``(H, W, 3)`` of equal size, at least 11 px a side after the crop, else `ImageError`.

    >>> hr = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    >>> ssim_y(hr, hr)
    1.0
    """
    return _ssim(*_cropped(hr, sr, crop_px), LUMA_PLANES[luma])


def _strips(
    hr: Image, sr: Image, convert: Callable[[Image], NDArray[np.float64]], overlap: int = 0
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Both pictures converted a few rows at a time, each strip ``overlap`` rows into the next.

    Whole float64 planes would be fetched from memory, and asked of the system, again for every step.
    """
    end = hr.shape[0] - overlap
    for top in range(0, end, _STRIP_ROWS):
        rows = slice(top, min(top + _STRIP_ROWS, end) + overlap)
        yield convert(hr[rows]), convert(sr[rows])


def _psnr(hr: Image, sr: Image, convert: Callable[[Image], NDArray[np.float64]]) -> float:
    total, count = 0.0, 0
    for x, y in _strips(hr, sr, convert):
        total += float(np.square(x - y).sum())
        count += x.size
    return _decibels(total / count)


def _decibels(mean_squared_error: float) -> float:
    return math.inf if mean_squared_error == 0 else 10 * math.log10(_PEAK**2 / mean_squared_error)


def _ssim(hr: Image, sr: Image, convert: Callable[[Image], NDArray[np.float64]]) -> float:
    reach = len(_WINDOW) - 1
    height, width = hr.shape[0] - reach, hr.shape[1] - reach
    if min(height, width) < 1:
        raise ImageError(f"{hr.shape[1]}x{hr.shape[0]} px after the border crop is smaller than SSIM's 11-px window")
    total = sum(_similarity(x, y) for x, y in _strips(hr, sr, convert, reach))
    return float(total / (height * width))


def _similarity(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Sum of the similarity index over the places where the window fits."""
    mean_x, mean_y, xy = _moment(x), _moment(y), _moment(x * y)
    squares = _moment(x * x + y * y)  # the variances are needed only as a sum, which saves a fifth filter
    c1, c2 = (0.01 * _PEAK) ** 2, (0.03 * _PEAK) ** 2
    product, mean_squares = mean_x * mean_y, mean_x**2 + mean_y**2
    covariance, variances = xy - product, squares - mean_squares
    similarity = ((2 * product + c1) * (2 * covariance + c2)) / ((mean_squares + c1) * (variances + c2))
    return float(similarity.sum())


def _moment(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    """The plane's mean under the Gaussian window, where the window fits."""
    return crop_border(np.asarray(cv2.sepFilter2D(plane, cv2.CV_64F, _WINDOW, _WINDOW), np.float64), 5)


def _cropped(hr: Image, sr: Image, crop_px: int) -> tuple[Image, Image]:
    if hr.shape != sr.shape:
        raise ImageError(f"SR is {sr.shape[1]}x{sr.shape[0]} px but HR is {hr.shape[1]}x{hr.shape[0]} px")
    if min(hr.shape[:2]) <= 2 * crop_px:
        raise ImageError(f"{hr.shape[1]}x{hr.shape[0]} px leaves nothing after cutting {crop_px} px from every side")
    return crop_border(hr, crop_px), crop_border(sr, crop_px)


PSNR_Y = Metric("psnr_y", "PSNR-Y", "dB", psnr_y, {"ch": "luma", "def": "1"}, cap=100.0)
SSIM_Y = Metric("ssim_y", "SSIM-Y", "", ssim_y, {"ch": "luma", "win": "gauss11s1.5valid", "def": "1"})
SSIM_RGB = Metric(
    "ssim_rgb", "SSIM-RGB", "", ssim_rgb, {"ch": "rgb", "win": "gauss11s1.5valid", "def": "1"}, only_luma="rgb"
)
PSNR_Y_VISIBLE = Metric(
    "psnr_y_visible",
    "PSNR-Y visible",
    "dB",
    psnr_y_visible,
    {"ch": "luma", "mask": "visible", "def": "1"},
    cap=100.0,
    on="visible",
)
PSNR_RGB = Metric("psnr_rgb", "PSNR-RGB", "dB", psnr_rgb, {"ch": "rgb", "def": "1"}, cap=100.0)
