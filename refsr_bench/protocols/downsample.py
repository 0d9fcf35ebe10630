"""The kernels that make an LR picture from an HR picture, by the names that signatures give them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
from PIL import Image as PilImage

from refsr_bench.images import resize_bicubic
from refsr_bench.protocols.matlab import imresize
from refsr_bench.schema import Image


def _pil_lanczos(image: Image, height: int, width: int) -> Image:
    return np.asarray(PilImage.fromarray(image).resize((width, height), PilImage.Resampling.LANCZOS))


def _cv2_bicubic(image: Image, height: int, width: int) -> Image:
    """Four taps whatever the factor: detail above the LR picture's resolution turns into false patterns."""
    resized: Image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
    return resized


DOWNSAMPLERS: dict[str, Callable[[Image, int, int], Image]] = {
    "pil.bicubic": resize_bicubic,
    "pil.lanczos": _pil_lanczos,
    "cv2.bicubic": _cv2_bicubic,
    "matlab.bicubic": imresize,
    "matlab.mirror": partial(imresize, border="mirror"),
    "matlab.mirrorfloat": partial(imresize, border="mirror", intermediate="float"),
}
"""``EvalProtocol.downsample`` to (uint8 RGB, height, width) → uint8 RGB."""
