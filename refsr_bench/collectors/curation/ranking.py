"""How well a candidate serves as a reference: matches that fit one view geometry, where they lie, and colour."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from refsr_bench.collectors.curation.fingerprints import Fingerprint, match_features
from refsr_bench.schema import Frozen

_GRID = 8
_CHANCE_INLIERS = 8
"""Matches that some fundamental matrix always fits."""
_CHANCE_SHARE = 0.25
"""Share of unrelated matches that lie near their epipolar line by chance."""
_COVERAGE_WEIGHT = 10.0
_EPIPOLAR_PX = 1.5


class Score(Frozen):
    """A candidate's similarity to its query, and the parts the number is made of."""

    total: float
    """Inliers beyond chance, plus ten times the coverage, plus the colour: unrelated pictures are ordered by colour."""
    inliers: int
    matches: int
    coverage: float
    """Share of the query's 8x8 cells that hold an inlier."""
    colour: float
    """Intersection of the hue-saturation histograms, 0 to 1."""
    matcher_inliers: int | None = None
    """Geometrically verified matches of another matcher, if one was asked to rank; they then lead the total."""


def score_view(query: Fingerprint, candidate: Fingerprint) -> Score:
    """Similarity of a candidate to its query as a reference; the same pictures always give the same score."""
    pairs = match_features(query.features, candidate.features)
    colour = float(np.minimum(query.histogram, candidate.histogram).sum())
    inliers, coverage = 0, 0.0
    if len(pairs) >= 12:
        source, target = query.features.points[pairs[:, 0]], candidate.features.points[pairs[:, 1]]
        cv2.setRNGSeed(0)
        mask: Any = cv2.findFundamentalMat(source, target, cv2.USAC_MAGSAC, _EPIPOLAR_PX, 0.9999, 5000)[1]
        if mask is not None:
            kept = source[mask.ravel() > 0]
            inliers = len(kept)
            height, width = query.plane.shape
            cells = (kept / (width, height) * _GRID).astype(int).clip(0, _GRID - 1)
            coverage = len(np.unique(cells @ (1, _GRID))) / _GRID**2
    beyond_chance = max(0.0, inliers - _CHANCE_INLIERS - _CHANCE_SHARE * len(pairs))
    total = beyond_chance + _COVERAGE_WEIGHT * coverage * (beyond_chance > 0) + colour
    return Score(
        total=round(total, 4),
        inliers=inliers,
        matches=len(pairs),
        coverage=round(coverage, 4),
        colour=round(colour, 4),
    )
