"""Training pairs for the contrastive stages: an image, its warp by a random homography, and the true positions."""

from __future__ import annotations

from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from refsr_bench.geometry import apply_homography
from refsr_bench.images import resize_bicubic
from refsr_bench.schema import Image

Sampler = Literal["as-released", "centred"]

JITTER_PX = 10
"""Each corner coordinate moves by less than this; magnitude and sign are drawn apart, so zero comes twice as often."""


class ContrastivePair(NamedTuple):
    """One pair of a contrastive stage; float32 RGB ``(S, S, 3)`` in [0, 1]."""

    hr: NDArray[np.float32]
    lr_up: NDArray[np.float32]
    ref: NDArray[np.float32]
    h_hr_to_ref: NDArray[np.float64]


def draw_homography(
    rng: np.random.RandomState, size_px: int = 160, sampler: Sampler = "as-released"
) -> NDArray[np.float64]:
    """Draw the matrix that maps an original pixel to its place in the warped picture.

    A square of ``size_px`` is jittered at its corners. As released its corner is drawn from [10, 160), so that it
    hangs mostly outside the picture and acts on it by extrapolation (a slip: the formula suits larger pictures);
    ``centred`` puts the square on the picture itself. The draws, their order (top-left, top-right, *bottom-left,
    bottom-right*) and the legacy generator are the release's, so equal seeds give equal matrices.
    """
    if sampler == "as-released":
        high = max(160, size_px - 160 - JITTER_PX)
        x, y = float(rng.randint(JITTER_PX, high)), float(rng.randint(JITTER_PX, high))
    else:
        x = y = 0.0
    side = size_px if sampler == "centred" else 160
    corners = {"tl": (x, y), "tr": (x + side, y), "bl": (x, y + side), "br": (x + side, y + side)}
    moved = {
        name: tuple(value + rng.randint(0, JITTER_PX) * rng.choice([-1, 1]) for value in corner)
        for name, corner in corners.items()
    }
    order = ("tl", "tr", "br", "bl")
    square, perturbed = (np.array([points[name] for name in order], np.float32) for points in (corners, moved))
    return np.linalg.inv(cv2.getPerspectiveTransform(square, perturbed)).astype(np.float64)


def true_positions(
    h_hr_to_ref: NDArray[np.float64], height_px: int, width_px: int, step_px: int = 4
) -> NDArray[np.float64]:
    """Where HR pixels (step·j, step·i) lie in the reference: ``(h, w, 2)``, (x, y) px, float64."""
    y, x = np.mgrid[0:height_px:step_px, 0:width_px:step_px].astype(np.float64)
    return apply_homography(h_hr_to_ref, np.stack([x, y], -1))


def make_contrastive_pair(hr: Image, h_hr_to_ref: NDArray[np.float64]) -> ContrastivePair:
    """Make a pair from uint8 RGB ``(S, S, 3)``: the warp is not rounded to 8 bits, the enlarged LR is, as released.

    OpenCV 5 interpolates exactly; 4.x, which the authors used, rounds source positions to 1/32 px (up to 4 levels).
    """
    height, width = hr.shape[:2]
    image = hr.astype(np.float32) / np.float32(255)
    ref = np.asarray(cv2.warpPerspective(image, h_hr_to_ref, (width, height)), np.float32)
    lr = resize_bicubic(hr, height // 4, width // 4)
    lr_up = resize_bicubic(lr, height, width).astype(np.float32) / np.float32(255)
    return ContrastivePair(image, lr_up, ref, h_hr_to_ref)
