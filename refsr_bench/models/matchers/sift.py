"""SIFT (Lowe 2004) as a dense matcher: the classical method that is invariant to rotation and scale.

How its key points become one match a node: a key point of the input whose nearest descriptor in the reference is
clearly nearer than the second (Lowe's ratio) is an anchor, and carries the rotation and scale between the two key
points. Every node follows the anchor nearest to it, moved by that anchor's own rotation and scale. Without any anchor
nothing moves.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from refsr_bench.errors import UsageError
from refsr_bench.geometry import patch_centres
from refsr_bench.schema import Matches, ModelCard

CARD = ModelCard(
    name="sift",
    title="SIFT key points (OpenCV), every node following its nearest one",
    paper="Lowe, Distinctive image features from scale-invariant keypoints, IJCV 2004",
    uses_reference=True,
)
CARDS = {CARD.name: CARD}


class Sift:
    """Key points of both pictures, matched by descriptor, made dense."""

    card = CARD

    def __init__(self, ratio: float) -> None:
        self.ratio = ratio

    def match(self, lr_up: NDArray[np.uint8], ref: NDArray[np.uint8]) -> Matches:
        """Match the key points of the two pictures and let every node follow its nearest one."""
        nodes = patch_centres(*lr_up.shape[:2])
        points_in, points_ref, distances = _anchors(_detect(lr_up), _detect(ref), self.ratio)
        if not len(points_in):
            return Matches(nodes, nodes.copy(), np.zeros(len(nodes)))
        nearest = _nearest(nodes, points_in[:, :2])
        at, there = points_in[nearest], points_ref[nearest]
        turn = np.radians(there[:, 3] - at[:, 3])
        scale = there[:, 2] / at[:, 2]
        cos, sin = scale * np.cos(turn), scale * np.sin(turn)
        x, y = (nodes - at[:, :2]).T
        moved = np.stack([cos * x - sin * y, sin * x + cos * y], axis=1)
        return Matches(nodes, there[:, :2] + moved, -distances[nearest])


def _detect(image: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Key points ``(K, 4)``: x, y, diameter in px, angle in degrees (clockwise on screen); descriptors ``(K, 128)``."""
    found, descriptors = cv2.SIFT.create().detectAndCompute(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), None)
    points = np.array([(*p.pt, p.size, p.angle) for p in found], np.float64).reshape(-1, 4)
    return points, np.zeros((0, 128), np.float32) if descriptors is None else np.asarray(descriptors, np.float32)


def _anchors(
    found_in: tuple[NDArray[np.float64], NDArray[np.float32]],
    found_ref: tuple[NDArray[np.float64], NDArray[np.float32]],
    ratio: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Key points of both pictures that pass the ratio test, row by row, and their descriptors' distances."""
    (points_in, descriptors_in), (points_ref, descriptors_ref) = found_in, found_ref
    if len(points_ref) < 2 or not len(points_in):
        return np.zeros((0, 4)), np.zeros((0, 4)), np.zeros(0)
    pairs = cv2.BFMatcher(cv2.NORM_L2).knnMatch(descriptors_in, descriptors_ref, k=2)
    good = [first for first, second in pairs if first.distance < ratio * second.distance]
    distances = np.array([m.distance for m in good])
    return points_in[[m.queryIdx for m in good]], points_ref[[m.trainIdx for m in good]], distances


def _nearest(nodes: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.int64]:
    """Index of the nearest point for every node, in pieces that stay below some ten megabytes."""
    rows = max(1, 1_000_000 // len(points))
    pieces = [
        np.square(nodes[i : i + rows, None] - points[None]).sum(axis=2).argmin(axis=1)
        for i in range(0, len(nodes), rows)
    ]
    nearest: NDArray[np.int64] = np.concatenate(pieces)
    return nearest


def build(ratio: str | float = 0.8) -> Sift:
    """Make the matcher. ratio : Lowe's ratio between nearest and second descriptor, above 0, at most 1."""
    try:
        value = float(ratio)
    except ValueError:
        value = math.nan
    if not 0 < value <= 1:
        raise UsageError(f"the ratio of sift lies above 0 and at most at 1, not at {ratio!r}")
    return Sift(value)
