"""How well a candidate serves as a reference: matches that fit one view geometry, where they lie, and colour."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from refsr_bench.collectors.curation.fingerprints import Fingerprint, Points, match_features
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


def count_consistent(
    nodes: Points, matches: Points, back_nodes: Points, back_matches: Points, within_px: float = 8.0
) -> int:
    """How many dense matches ``(N, 2)`` lead back to where they began and fit one view geometry.

    For matchers that give every node a match, right or wrong: ``nodes`` of the query with their ``matches`` in the
    candidate, and ``back_nodes`` of the candidate (a regular grid) with theirs in the query.
    """
    if not len(nodes) or not len(back_nodes) or np.array_equal(nodes, matches):
        return 0  # a field in which nothing at all moves is what matchers give that found nothing
    columns, rows = (np.unique(back_nodes[:, axis]) for axis in (0, 1))
    x = np.abs(columns[None] - matches[:, :1]).argmin(axis=1)
    y = np.abs(rows[None] - matches[:, 1:]).argmin(axis=1)
    grid = np.full((len(rows), len(columns), 2), np.inf)
    grid[np.searchsorted(rows, back_nodes[:, 1]), np.searchsorted(columns, back_nodes[:, 0])] = back_matches
    returned = np.linalg.norm(grid[y, x] - nodes, axis=1) < within_px
    if returned.sum() < 4 * _CHANCE_INLIERS:
        return 0
    cv2.setRNGSeed(0)
    pairs = nodes[returned], matches[returned]
    mask: Any = cv2.findFundamentalMat(*pairs, cv2.USAC_MAGSAC, within_px / 2, 0.999, 2000)[1]
    return 0 if mask is None else int(mask.sum())


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
