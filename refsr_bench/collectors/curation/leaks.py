"""The HR-leak guard: whether a candidate is the query itself in disguise, with the evidence.

A copy is re-encoded, resized, cropped, mirrored or re-toned, so it is the query under a mirror, two scales and a shift,
down to the finest detail. Another view of the scene, however near, has parallax, other light or other noise. So the
guard finds the best such transform, lays one picture on the other, and asks in how many of the textured tiles the fine
detail agrees.
"""

from __future__ import annotations

from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from refsr_bench.collectors.curation.fingerprints import Features, Fingerprint, Plane, Points, match_features
from refsr_bench.schema import Frozen

MIN_AGREEING = 0.6
"""Share of textured tiles whose detail agrees, above which a candidate is a copy."""
TILE_PX = 24
TILE_AGREES = 0.6
"""Correlation of the fine detail above which a tile agrees."""
MIN_COVER = 0.25
"""Share of the query that a copy has to show."""
MIN_TILES = 6
_THUMB_PX = 96
_MIN_TEMPLATE = 0.85
_RANSAC_DRAWS = 600


class Leak(Frozen):
    """Whether a candidate is the query in disguise, and by what numbers."""

    refused: bool
    agreeing: float = 0.0
    """Share of the textured tiles whose detail agrees."""
    correlation: float = 0.0
    """Median correlation of the detail over those tiles."""
    tiles: int = 0
    cover: float = 0.0
    """Share of the query's area that the candidate shows."""
    mirrored: bool = False
    scale: tuple[float, float] = (1.0, 1.0)
    """Query pixels per candidate pixel in x and y, at the compared size."""
    found_by: Literal["features", "template", "nothing"] = "nothing"

    def explain(self) -> str:
        """The evidence in one sentence."""
        how = f"{'mirrored, ' if self.mirrored else ''}at scale {self.scale[0]:.2f}"
        return (
            f"shows {self.cover:.0%} of the query {how}: fine detail agrees in {self.agreeing:.0%} of {self.tiles} "
            f"textured tiles (limit {MIN_AGREEING:.0%})"
        )


def find_leak(query: Fingerprint, candidate: Fingerprint) -> Leak:
    """Judge whether the candidate is the query re-encoded, resized, cropped, mirrored or re-toned.

    ``query`` must have been made with ``mirrored=True``. A picture under 48 px a side, or without any texture, cannot
    be judged and is not refused here.
    """
    best = Leak(refused=False)
    tried: list[tuple[bool, Plane, Points | None]] = []
    for mirrored in (False, True):
        features = query.mirrored if mirrored else query.features
        if features is None:
            raise ValueError("the query's fingerprint was made without its mirror image")
        plane = np.ascontiguousarray(query.plane[:, ::-1]) if mirrored else query.plane
        tried.append((mirrored, plane, _from_features(features, candidate.features)))
    for mirrored, plane, transform in tried:
        if transform is not None:
            best = _better(best, _compare(plane, candidate.plane, transform, mirrored, "features"))
    for mirrored, plane, _ in tried:
        if not best.refused and (transform := _from_template(plane, candidate.plane)) is not None:
            best = _better(best, _compare(plane, candidate.plane, transform, mirrored, "template"))
    return best


def _better(first: Leak, second: Leak) -> Leak:
    return max(first, second, key=lambda leak: (leak.refused, leak.agreeing * min(leak.tiles, MIN_TILES)))


def _from_features(query: Features, candidate: Features) -> Points | None:
    """Scales and shifts (sx, sy, tx, ty) that take candidate points to query points, by RANSAC over pairs."""
    pairs = match_features(candidate, query)
    if len(pairs) < 6:
        return None
    source, target = candidate.points[pairs[:, 0]], query.points[pairs[:, 1]]
    draws = np.random.default_rng(0).integers(0, len(pairs), (_RANSAC_DRAWS, 2))
    step_source = source[draws[:, 1]] - source[draws[:, 0]]
    step_target = target[draws[:, 1]] - target[draws[:, 0]]
    wide = (np.abs(step_source) > 12).all(axis=1)
    draws, scales = draws[wide], step_target[wide] / step_source[wide]
    plausible = (scales > 0.15).all(axis=1) & (scales < 6).all(axis=1)
    draws, scales = draws[plausible], scales[plausible]
    square = np.abs(np.log(scales[:, 0] / scales[:, 1])) < 0.15
    draws, scales = draws[square], scales[square]
    if not len(scales):
        return None
    shifts = target[draws[:, 0]] - scales * source[draws[:, 0]]
    inside = np.abs(source[None] * scales[:, None] + shifts[:, None] - target[None]).max(axis=2) < 2.0
    best = int(inside.sum(axis=1).argmax())
    solution, inliers = np.concatenate([scales[best], shifts[best]]), inside[best]
    for _ in range(3):
        if inliers.sum() < 5:
            return None
        solution = _least_squares(source[inliers], target[inliers])
        inliers = np.abs(source * solution[:2] + solution[2:] - target).max(axis=1) < 1.5
    return solution if inliers.sum() >= 5 else None


def _least_squares(source: Points, target: Points) -> Points:
    centre_source, centre_target = source.mean(axis=0), target.mean(axis=0)
    spread = ((source - centre_source) ** 2).sum(axis=0) + 1e-9
    scale = ((source - centre_source) * (target - centre_target)).sum(axis=0) / spread
    return np.concatenate([scale, centre_target - scale * centre_source])


def _from_template(query: Plane, candidate: Plane) -> Points | None:
    """The same transform found by laying thumbnails on each other at every size; for pictures without features."""
    shrink = _THUMB_PX / max(query.shape)
    thumb = _resize(query, shrink)
    fits = min(thumb.shape[0] / candidate.shape[0], thumb.shape[1] / candidate.shape[1])
    source = _resize(candidate, min(1.0, 1.5 * fits))  # once to about the right size, then in cheap small steps
    best, found = _MIN_TEMPLATE, None
    for part in np.linspace(0.66, 1.0, 18):
        size = (round(candidate.shape[1] * fits * part), round(candidate.shape[0] * fits * part))
        if min(size) < 12:
            continue
        small: Any = cv2.resize(source, size, interpolation=cv2.INTER_AREA)
        if small.std() < 1.0:
            return None
        _, peak, _, (x, y) = cv2.minMaxLoc(cv2.matchTemplate(thumb, small, cv2.TM_CCOEFF_NORMED))
        if peak > best:
            best = peak
            sx, sy = size[0] / candidate.shape[1] / shrink, size[1] / candidate.shape[0] / shrink
            found = np.array([sx, sy, x / shrink, y / shrink])
    return found


def _resize(plane: Plane, factor: float) -> Plane:
    size = (max(1, round(plane.shape[1] * factor)), max(1, round(plane.shape[0] * factor)))
    return np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA), np.float32)


def _compare(
    query: Plane, candidate: Plane, transform: Points, mirrored: bool, found_by: Literal["features", "template"]
) -> Leak:
    """Lay the query on the candidate, refine, and compare fine detail tile by tile at the coarser one's resolution."""
    nothing = Leak(refused=False, mirrored=mirrored, found_by=found_by)
    scale = float(np.sqrt(abs(transform[0] * transform[1])))
    if scale < 1:  # the candidate is the finer one: bring it down to the query's resolution
        factor = max(scale, 0.1)
        candidate = _resize(candidate, factor)
        transform = np.concatenate([transform[:2] / factor, transform[2:]])
        scale = 1.0
    if min(candidate.shape) < 2 * TILE_PX:
        return nothing
    sigma = 0.5 * np.sqrt(max(scale**2 - 1, 0)) + 0.3
    blurred = np.asarray(cv2.GaussianBlur(query, (0, 0), sigma), np.float32) if scale > 1.05 else query
    start = np.array([[transform[0], 0, transform[2]], [0, transform[1], transform[3]]], np.float32)
    matrix = _refine(blurred, candidate, start)
    size = (candidate.shape[1], candidate.shape[0])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    laid = np.asarray(cv2.warpAffine(blurred, matrix, size, flags=flags), np.float32)
    inside = np.asarray(cv2.warpAffine(np.ones_like(query), matrix, size, flags=flags)) > 0.999
    cover = min(1.0, float(inside.sum()) * abs(float(np.linalg.det(matrix[:, :2]))) / query.size)
    agreements = _tile_correlations(laid, candidate, inside)
    if not len(agreements):
        return nothing
    agreeing = float((agreements > TILE_AGREES).mean())
    return Leak(
        refused=agreeing >= MIN_AGREEING and cover >= MIN_COVER and len(agreements) >= MIN_TILES,
        agreeing=round(agreeing, 4),
        correlation=round(float(np.median(agreements)), 4),
        tiles=len(agreements),
        cover=round(cover, 4),
        mirrored=mirrored,
        scale=(round(float(matrix[0, 0]), 4), round(float(matrix[1, 1]), 4)),
        found_by=found_by,
    )


def _refine(query: Plane, candidate: Plane, matrix: Plane) -> Plane:
    """Sub-pixel alignment by ECC, blind to brightness and contrast; unchanged if it strays from a copy's form."""
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 1e-4)
    try:
        found: Any = cv2.findTransformECC(  # type: ignore[call-overload]
            candidate, query, matrix.copy(), cv2.MOTION_AFFINE, criteria, None, 5
        )[1]
    except cv2.error:
        return matrix
    sx, sy = float(found[0, 0]), float(found[1, 1])
    skew = max(abs(float(found[0, 1])), abs(float(found[1, 0])))
    if min(sx, sy) <= 0.05 or skew > 0.02 * max(sx, sy) or abs(sx / sy - 1) > 0.06:
        return matrix
    return np.asarray(found, np.float32)


def _tile_correlations(first: Plane, second: Plane, inside: NDArray[np.bool_]) -> Plane:
    """Correlation of the high-passed pictures in every tile that lies inside both and has texture."""
    rows, columns = first.shape[0] // TILE_PX, first.shape[1] // TILE_PX

    def tiles(plane: NDArray[np.float32] | NDArray[np.bool_]) -> Plane:
        cut = np.asarray(plane[: rows * TILE_PX, : columns * TILE_PX], np.float32)
        return cut.reshape(rows, TILE_PX, columns, TILE_PX).swapaxes(1, 2).reshape(rows * columns, TILE_PX**2)

    whole = tiles(inside).min(axis=1) > 0
    if not whole.any():
        return np.zeros(0, np.float32)
    a, b = (tiles(plane - np.asarray(cv2.GaussianBlur(plane, (0, 0), 2.0), np.float32)) for plane in (first, second))
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    energy = np.sqrt((a**2).mean(axis=1)), np.sqrt((b**2).mean(axis=1))
    strongest = np.maximum(*energy)
    # The tiles with most texture: the others hold what JPEG left of nothing.
    textured = whole & (strongest >= max(1.5, float(np.quantile(strongest[whole], 0.4))))
    product = (a * b).mean(axis=1) / (energy[0] * energy[1] + 1e-6)
    return np.asarray(product[textured], np.float32)
