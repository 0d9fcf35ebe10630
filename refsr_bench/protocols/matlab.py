"""MATLAB-compatible bicubic reduction: how the LR pictures of the single-image test sets were made.

The LR files of Set5 and Set14 as they are passed around are equal, sample for sample, to `imresize` with its defaults:
antialiased bicubic (a = -0.5), edge pixels repeated, the vertical direction first, and 8-bit rounding after *each*
direction. A mirrored border, and an intermediate picture kept in floating point, as re-implementations have them, are
the named alternatives (``docs/protocols.md`` has the measured differences).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from refsr_bench.schema import Image

Border = Literal["clamp", "mirror"]
Intermediate = Literal["uint8", "float"]


def imresize(
    image: Image, height: int, width: int, *, border: Border = "clamp", intermediate: Intermediate = "uint8"
) -> Image:
    """Resize uint8 RGB ``(H, W, 3)`` to ``height`` x ``width``.

    >>> imresize(np.full((8, 8, 3), 7, np.uint8), 2, 2)[0, 0]
    array([7, 7, 7], dtype=uint8)
    """
    vertical = _weights(image.shape[0], height, border)
    horizontal = _weights(image.shape[1], width, border)
    tall = np.einsum("oi,iwc->owc", vertical, image.astype(np.float64), optimize=True)
    if intermediate == "uint8":
        tall = _round(tall)
    return _round(np.einsum("oi,hic->hoc", horizontal, tall, optimize=True)).astype(np.uint8)


def _weights(size_in: int, size_out: int, border: Border) -> NDArray[np.float64]:
    """Matrix ``(out, in)`` that resizes one direction; the kernel is stretched where the picture shrinks."""
    scale = size_out / size_in
    stretch = min(scale, 1.0)
    reach = 2 / stretch
    centres = (np.arange(size_out) + 0.5) / scale - 0.5
    taps = np.floor(centres - reach)[:, None] + np.arange(int(np.ceil(2 * reach)) + 2)
    values = _cubic((taps - centres[:, None]) * stretch)
    values /= values.sum(axis=1, keepdims=True)
    if border == "clamp":
        sources = np.clip(taps, 0, size_in - 1)
    else:
        folded = np.mod(taps, 2 * size_in)
        sources = np.where(folded < size_in, folded, 2 * size_in - 1 - folded)
    matrix = np.zeros((size_out, size_in))
    np.add.at(matrix, (np.arange(size_out)[:, None], sources.astype(np.int64)), values)
    return matrix


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic convolution kernel with a = -0.5."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


def _round(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Clamp to 8 bits and round halves up, as MATLAB does for positive numbers."""
    return np.floor(np.clip(values, 0, 255) + 0.5)
