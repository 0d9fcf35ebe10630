"""What is kept of a picture to compare it with others: a small grey version, SIFT features, colours."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from refsr_bench.schema import Image

Plane = NDArray[np.float32]
"""float32 grey ``(H, W)``, 0-255."""
Points = NDArray[np.float64]
"""``(N, 2)`` as (x, y), px of the compared size."""

WORK_SIDE = 640
"""Longer side of the pictures that are compared, px."""
MAX_FEATURES = 1500
ENOUGH_FEATURES = 300
RATIO = 0.8


class Features(NamedTuple):
    """Where a picture has SIFT features, and their RootSIFT descriptors ``(N, 128)``."""

    points: Points
    descriptors: Plane


class Fingerprint(NamedTuple):
    """A picture made comparable."""

    plane: Plane
    features: Features
    histogram: Plane


def fingerprint(image: Image) -> Fingerprint:
    """Make a picture comparable.

    >>> fingerprint(np.full((20, 30, 3), 90, np.uint8)).features.points.shape
    (0, 2)
    """
    small = _shrink(image)
    grey: Any = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    hsv: Any = cv2.cvtColor(small, cv2.COLOR_RGB2HSV)
    histogram: Any = cv2.calcHist([hsv], [0, 1], None, [16, 8], [0, 180, 0, 256])
    return Fingerprint(
        plane=grey.astype(np.float32),
        features=_detect(grey),
        histogram=histogram / max(float(histogram.sum()), 1.0),
    )


def _shrink(image: Image) -> Image:
    scale = WORK_SIDE / max(image.shape[:2])
    if scale >= 1:
        return np.ascontiguousarray(image)
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _detect(grey: NDArray[np.uint8]) -> Features:
    """Features of a grey picture; one with few is searched again with a lower threshold."""
    found: Any = None
    keypoints: Any = ()
    for contrast in (0.03, 0.008):
        sift: Any = cv2.SIFT.create(nfeatures=MAX_FEATURES, contrastThreshold=contrast)
        keypoints, found = sift.detectAndCompute(grey, None)
        if len(keypoints) >= ENOUGH_FEATURES:
            break
    if not keypoints:
        return Features(np.zeros((0, 2)), np.zeros((0, 128), np.float32))
    descriptors = np.sqrt(found / (np.abs(found).sum(axis=1, keepdims=True) + 1e-7)).astype(np.float32)
    return Features(np.array([k.pt for k in keypoints]), descriptors)


def describe_as(features: Features, *, mirrored: bool, inverted: bool) -> Features:
    """The features as they are described in the picture's mirror image, in its negative, or in both.

    A SIFT descriptor is 4x4 cells of 8 directions, all relative to the feature's own direction; so neither disguise
    changes its numbers, only their places.
    """
    cells = features.descriptors.reshape(-1, 4, 4, 8)
    if mirrored:
        cells = cells[:, ::-1, :, -np.arange(8) % 8]
    if inverted:  # every gradient turns about, and with them the feature's own direction
        cells = cells[:, ::-1, ::-1]
    return features._replace(descriptors=np.ascontiguousarray(cells).reshape(-1, 128))


def match_features(first: Features, second: Features) -> NDArray[np.int64]:
    """Index pairs ``(M, 2)`` of features that are each other's nearest and clearly nearer than the runner-up."""
    if len(first.points) < 2 or len(second.points) < 2:
        return np.zeros((0, 2), np.int64)
    similarity = first.descriptors @ second.descriptors.T
    nearest = similarity.argmax(axis=1)
    rows = np.arange(len(nearest))
    mutual = rows[similarity.argmax(axis=0)[nearest] == rows]
    chosen = similarity[mutual]
    best = chosen[np.arange(len(mutual)), nearest[mutual]]
    chosen[np.arange(len(mutual)), nearest[mutual]] = -2.0
    near, next_near = (np.sqrt(np.maximum(2 - 2 * s, 0)) for s in (best, chosen.max(axis=1, initial=-2.0)))
    kept = mutual[near < RATIO * next_near]
    return np.stack([kept, nearest[kept]], axis=1)
