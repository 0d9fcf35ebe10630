"""How a candidate relates to its query: a copy in disguise (refused), another view (ranked), or another scene.

A copy is re-encoded, resized, cropped, mirrored or re-toned, so it is the query under a mirror, two scales and a shift,
down to the finest detail. Another view of the scene, however near, has parallax, other light or other noise. So the
guard finds the best such transform, lays one picture on the other, and asks in how many of the textured tiles the fine
detail agrees. The ranker counts SIFT matches that fit one epipolar geometry.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from refsr_bench.schema import Image

Grey = NDArray[np.float32]
Points = NDArray[np.float64]

WORK_SIDE = 640
"""Longer side of the pictures that are compared, px."""
MAX_FEATURES = 1500
RATIO = 0.8
INLIER_PX = 3.0
_SEED = 0

MIN_AGREEING = 0.6
"""Share of textured tiles whose detail agrees, above which a candidate is a copy."""
TILE = 24
TILE_AGREES = 0.6
"""Correlation of the fine detail above which a tile agrees."""
MIN_COVER = 0.25
"""Share of the query that a copy has to show."""
MIN_TILES = 6
_THUMB = 96
_MIN_TEMPLATE = 0.85


class Fingerprint(NamedTuple):
    """What is kept of a picture to compare it: a small grey version and its SIFT features."""

    grey: Grey
    points: Points
    descriptors: Grey
    mirrored_points: Points
    mirrored_descriptors: Grey
    histogram: Grey


class LeakEvidence(NamedTuple):
    """Whether a candidate is the query in disguise, and by what numbers."""

    refused: bool
    agreeing: float
    """Share of the textured tiles whose detail agrees."""
    correlation: float
    """Median correlation of the detail over those tiles."""
    tiles: int
    cover: float
    """Share of the query's area that the candidate shows."""
    mirrored: bool
    scale: tuple[float, float]
    """Query pixels per candidate pixel, in x and y, at the compared size."""
    found_by: str
    """"features", "template" or "nothing"."""


class Score(NamedTuple):
    """How well a candidate serves as a reference, and the parts the number is made of."""

    total: float
    inliers: int
    matches: int
    coverage: float
    """Share of the query's 8x8 cells that hold an inlier."""
    colour: float
    """Intersection of the colour histograms, 0 to 1."""


def fingerprint(image: Image, *, mirrored: bool = True) -> Fingerprint:
    """Features of a picture; ``mirrored`` also those of its mirror image, which a query needs."""
    small = _shrink(image, WORK_SIDE)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    points, descriptors = _detect(grey)
    if mirrored:
        mirrored_points, mirrored_descriptors = _detect(np.ascontiguousarray(grey[:, ::-1]))
    else:
        mirrored_points, mirrored_descriptors = points[:0], descriptors[:0]
    histogram = cv2.calcHist([cv2.cvtColor(small, cv2.COLOR_RGB2HSV)], [0, 1], None, [16, 8], [0, 180, 0, 256])
    total = float(histogram.sum()) or 1.0
    return Fingerprint(
        grey.astype(np.float32), points, descriptors, mirrored_points, mirrored_descriptors, histogram / total
    )


def _shrink(image: Image, side: int) -> Image:
    scale = side / max(image.shape[:2])
    if scale >= 1:
        return np.ascontiguousarray(image)
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def _detect(grey: NDArray[np.uint8]) -> tuple[Points, Grey]:
    """Points (x, y) and RootSIFT descriptors; flat pictures are searched again with a lower threshold."""
    for contrast in (0.03, 0.008):
        sift = cv2.SIFT_create(nfeatures=MAX_FEATURES, contrastThreshold=contrast)
        keypoints, found = sift.detectAndCompute(grey, None)
        if len(keypoints) >= 300:
            break
    if not keypoints:
        return np.zeros((0, 2)), np.zeros((0, 128), np.float32)
    descriptors = np.sqrt(found / (np.abs(found).sum(axis=1, keepdims=True) + 1e-7)).astype(np.float32)
    return np.array([k.pt for k in keypoints]), descriptors


# --- copies --------------------------------------------------------------------------------------------------------


def leak_evidence(query: Fingerprint, candidate: Fingerprint) -> LeakEvidence:
    """Judge whether the candidate is the query re-encoded, resized, cropped, mirrored or re-toned."""
    best = LeakEvidence(False, 0.0, 0.0, 0, 0.0, False, (1.0, 1.0), "nothing")
    for mirrored in (False, True):
        grey = np.ascontiguousarray(query.grey[:, ::-1]) if mirrored else query.grey
        points = query.mirrored_points if mirrored else query.points
        descriptors = query.mirrored_descriptors if mirrored else query.descriptors
        for found_by in ("features", "template"):
            if found_by == "features":
                transform = _from_features(points, descriptors, candidate)
            else:
                transform = _from_template(grey, candidate.grey)
            if transform is None:
                continue
            evidence = _compare(grey, candidate.grey, transform, mirrored, found_by)
            if evidence.agreeing * min(evidence.tiles, MIN_TILES) > best.agreeing * min(best.tiles, MIN_TILES):
                best = evidence
            if best.refused:
                return best
    return best


def _from_features(points: Points, descriptors: Grey, candidate: Fingerprint) -> Points | None:
    """Scales and shifts (sx, sy, tx, ty) that take candidate points to query points, by RANSAC over pairs."""
    pairs = _match(candidate.descriptors, descriptors)
    if len(pairs) < 6:
        return None
    source, target = candidate.points[pairs[:, 0]], points[pairs[:, 1]]
    draws = np.random.default_rng(_SEED).integers(0, len(pairs), (600, 2))
    step_source = source[draws[:, 1]] - source[draws[:, 0]]
    step_target = target[draws[:, 1]] - target[draws[:, 0]]
    wide = (np.abs(step_source) > 12).all(axis=1)
    if not wide.any():
        return None
    scales = step_target[wide] / step_source[wide]
    plausible = (scales > 0.15).all(axis=1) & (scales < 6).all(axis=1)
    plausible &= np.abs(np.log(np.abs(scales[:, 0] / scales[:, 1]))) < 0.15
    if not plausible.any():
        return None
    scales = scales[plausible]
    shifts = target[draws[wide][plausible, 0]] - scales * source[draws[wide][plausible, 0]]
    distance = np.abs(source[None] * scales[:, None] + shifts[:, None] - target[None]).max(axis=2)
    inside = distance < 2.0
    best = int(inside.sum(axis=1).argmax())
    inliers = inside[best]
    if inliers.sum() < 5:
        return None
    solution = np.concatenate([scales[best], shifts[best]])
    for _ in range(3):
        solution = _least_squares(source[inliers], target[inliers])
        distance_px = np.abs(source * solution[:2] + solution[2:] - target).max(axis=1)
        inliers = distance_px < 1.5
        if inliers.sum() < 5:
            return None
    return solution


def _least_squares(source: Points, target: Points) -> Points:
    centre_source, centre_target = source.mean(axis=0), target.mean(axis=0)
    spread = ((source - centre_source) ** 2).sum(axis=0) + 1e-9
    scale = ((source - centre_source) * (target - centre_target)).sum(axis=0) / spread
    return np.concatenate([scale, centre_target - scale * centre_source])


def _from_template(query: Grey, candidate: Grey) -> Points | None:
    """The same transform found by laying thumbnails on each other at every size; for pictures without features."""
    shrink = _THUMB / max(query.shape)
    thumb = cv2.resize(query, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    fits = min(thumb.shape[0] / candidate.shape[0], thumb.shape[1] / candidate.shape[1])
    best, found = _MIN_TEMPLATE, None
    for part in np.linspace(0.66, 1.0, 18):
        size = (round(candidate.shape[1] * fits * part), round(candidate.shape[0] * fits * part))
        if min(size) < 12:
            continue
        small = cv2.resize(candidate, size, interpolation=cv2.INTER_AREA)
        if small.std() < 1.0:
            return None
        surface = cv2.matchTemplate(thumb, small, cv2.TM_CCOEFF_NORMED)
        _, peak, _, (x, y) = cv2.minMaxLoc(surface)
        if peak > best:
            best = peak
            sx, sy = size[0] / candidate.shape[1] / shrink, size[1] / candidate.shape[0] / shrink
            found = np.array([sx, sy, x / shrink, y / shrink])
    return found


def _compare(query: Grey, candidate: Grey, transform: Points, mirrored: bool, found_by: str) -> LeakEvidence:
    """Lay the query on the candidate, refine, and compare fine detail tile by tile at the coarser one's resolution."""
    nothing = LeakEvidence(False, 0.0, 0.0, 0, 0.0, mirrored, (1.0, 1.0), found_by)
    scale = float(np.sqrt(abs(transform[0] * transform[1])))
    if scale < 1:  # the candidate is the finer one: bring it down to the query's resolution
        factor = max(scale, 0.1)
        candidate = cv2.resize(candidate, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        transform = np.concatenate([transform[:2] / factor, transform[2:]])
        scale = 1.0
    if min(candidate.shape) < 2 * TILE:
        return nothing
    blurred = cv2.GaussianBlur(query, (0, 0), 0.5 * np.sqrt(max(scale**2 - 1, 0)) + 0.3) if scale > 1.05 else query
    matrix = np.array([[transform[0], 0, transform[2]], [0, transform[1], transform[3]]], np.float32)
    matrix = _refine(blurred, candidate, matrix)
    if matrix is None:
        return nothing
    size = (candidate.shape[1], candidate.shape[0])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    laid = cv2.warpAffine(blurred, matrix, size, flags=flags)
    inside = cv2.warpAffine(np.ones_like(query), matrix, size, flags=flags) > 0.999
    cover = float(inside.sum()) * abs(float(np.linalg.det(matrix[:, :2]))) / query.size
    agreements = _tile_correlations(laid, candidate, inside)
    scales = (round(float(matrix[0, 0]), 4), round(float(matrix[1, 1]), 4))
    if not len(agreements):
        return nothing
    agreeing = float((agreements > TILE_AGREES).mean())
    refused = agreeing >= MIN_AGREEING and cover >= MIN_COVER and len(agreements) >= MIN_TILES
    median = float(np.median(agreements))
    return LeakEvidence(refused, agreeing, median, len(agreements), min(cover, 1.0), mirrored, scales, found_by)


def _refine(query: Grey, candidate: Grey, matrix: Grey) -> Grey | None:
    """Sub-pixel alignment by ECC, which brightness and contrast do not move; None if it runs away from a copy's form."""
    try:
        criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 1e-5)
        _, refined = cv2.findTransformECC(candidate, query, matrix.copy(), cv2.MOTION_AFFINE, criteria, None, 5)
    except cv2.error:
        return matrix
    sx, sy = float(refined[0, 0]), float(refined[1, 1])
    skew = max(abs(float(refined[0, 1])), abs(float(refined[1, 0])))
    if min(sx, sy) <= 0.05 or skew > 0.02 * max(sx, sy) or abs(sx / sy - 1) > 0.06:
        return matrix
    return np.asarray(refined, np.float32)


def _tile_correlations(first: Grey, second: Grey, inside: NDArray[np.bool_]) -> Grey:
    """Correlation of the high-passed pictures in every tile that lies inside both and has texture."""
    high = [picture - cv2.GaussianBlur(picture, (0, 0), 2.0) for picture in (first, second)]
    rows, columns = first.shape[0] // TILE, first.shape[1] // TILE

    def tiles(plane: NDArray[np.float32] | NDArray[np.bool_]) -> NDArray[np.float32]:
        cut = np.asarray(plane[: rows * TILE, : columns * TILE], np.float32)
        return cut.reshape(rows, TILE, columns, TILE).swapaxes(1, 2).reshape(rows * columns, TILE * TILE)

    whole = tiles(inside).min(axis=1) > 0
    a, b = (tiles(plane) for plane in high)
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    energy = np.sqrt((a**2).mean(axis=1)), np.sqrt((b**2).mean(axis=1))
    strongest = np.maximum(*energy)
    if not whole.any():
        return np.zeros(0, np.float32)
    # The tiles with most texture: the others hold what JPEG left of nothing.
    threshold = max(1.5, float(np.quantile(strongest[whole], 0.4)))
    textured = whole & (strongest >= threshold)
    product = (a * b).mean(axis=1) / (energy[0] * energy[1] + 1e-6)
    return np.asarray(product[textured], np.float32)


# --- ranking -------------------------------------------------------------------------------------------------------


def score_view(query: Fingerprint, candidate: Fingerprint) -> Score:
    """Similarity of a candidate as a reference: matches on one epipolar geometry, where they lie, and colour."""
    pairs = _match(query.descriptors, candidate.descriptors)
    colour = float(np.minimum(query.histogram, candidate.histogram).sum())
    inliers, coverage = 0, 0.0
    if len(pairs) >= 12:
        source, target = query.points[pairs[:, 0]], candidate.points[pairs[:, 1]]
        cv2.setRNGSeed(_SEED)
        _, mask = cv2.findFundamentalMat(source, target, cv2.USAC_MAGSAC, 1.5, 0.9999, 5000)
        if mask is not None:
            kept = source[mask.ravel() > 0]
            inliers = len(kept)
            height, width = query.grey.shape
            cells = (kept / (width, height) * 8).astype(int).clip(0, 7)
            coverage = len(np.unique(cells @ (1, 8))) / 64
    # Eight matches fit some geometry by chance, and a third of the loose ones do.
    beyond_chance = max(0.0, inliers - 8 - 0.25 * len(pairs))
    return Score(round(beyond_chance + 10 * coverage * (beyond_chance > 0) + colour, 4), inliers, len(pairs), coverage, colour)


def _match(first: Grey, second: Grey) -> NDArray[np.int64]:
    """Index pairs of descriptors that are each other's nearest and pass the ratio test."""
    if len(first) < 2 or len(second) < 2:
        return np.zeros((0, 2), np.int64)
    similarity = first @ second.T
    nearest = similarity.argmax(axis=1)
    rows = np.arange(len(first))
    best = similarity[rows, nearest]
    back = similarity.argmax(axis=0)
    similarity[rows, nearest] = -2.0
    runner_up = similarity.max(axis=1)
    distance = np.sqrt(np.maximum(2 - 2 * best, 0)), np.sqrt(np.maximum(2 - 2 * runner_up, 0))
    good = (back[nearest] == rows) & (distance[0] < RATIO * distance[1])
    return np.stack([rows[good], nearest[good]], axis=1)
