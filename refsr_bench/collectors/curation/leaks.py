"""The HR-leak guard: whether a candidate is the query itself in disguise, with the evidence.

A copy is re-encoded, resized, stretched, cropped, mirrored, turned, re-toned or inverted, so it is the query under an
affine map, or its negative, down to the finest detail. Another view of the scene, however near, has parallax, other
light or other noise. So the guard finds the best such map, lays one picture on the other, and asks in how many of the
textured tiles the fine detail agrees.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from refsr_bench.collectors.curation.fingerprints import (
    Features,
    Fingerprint,
    Plane,
    Points,
    describe_as,
    match_features,
)
from refsr_bench.schema import Frozen

MIN_AGREEING = 0.6
"""Share of textured tiles whose detail agrees, above which a candidate is a copy."""
TILE_PX = 24
TILE_AGREES = 0.6
"""Correlation of the fine detail above which a tile agrees."""
MIN_COVER = 0.2
"""Share of the query that a copy has to show: a crop to half of each side, and something for its blurred rim."""
MIN_TILES = 6
MAX_STRETCH = 2.3
"""Ratio of the scales in two directions beyond which a map is taken for a chance one; copies are found up to 2."""
_TEMPLATES = ((48, 0.7), (96, 0.85))
"""Longer sides of the thumbnails that are laid on each other, px, with the correlation needed; the first only sifts."""
_RANSAC_DRAWS = 2000
_MIN_INLIERS = 6

Found = Literal["features", "template", "nothing"]


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
    """Whether it shows the query's mirror image (left and right exchanged, then turned)."""
    turned_deg: float = 0.0
    """By how much it is turned, counter-clockwise."""
    inverted: bool = False
    scale: tuple[float, float] = (1.0, 1.0)
    """Query pixels per candidate pixel along the candidate's x and y, at the compared sizes."""
    found_by: Found = "nothing"

    def explain(self) -> str:
        """The evidence in one sentence."""
        sx, sy = self.scale
        how = [
            *(["inverted"] if self.inverted else []),
            *(["mirrored"] if self.mirrored else []),
            *([f"turned by {self.turned_deg:.0f}°"] if abs(self.turned_deg) >= 0.5 else []),
            f"at scale {sx:.2f}" + (f" by {sy:.2f}" if abs(np.log(sx / sy)) > 0.02 else ""),
        ]
        return (
            f"shows {self.cover:.0%} of the query {', '.join(how)}: fine detail agrees in {self.agreeing:.0%} of "
            f"{self.tiles} textured tiles (limit {MIN_AGREEING:.0%})"
        )


def find_leak(query: Fingerprint, candidate: Fingerprint) -> Leak:
    """Judge whether the candidate is the query in one of those disguises.

    A picture under 48 px a side, or without any texture, cannot be judged and is not refused here.
    """
    best = Leak(refused=False)
    for mirrored, inverted in product((False, True), repeat=2):
        features = describe_as(query.features, mirrored=mirrored, inverted=inverted)
        if (transform := _from_features(features, candidate.features)) is not None:
            best = _better(best, _compare(query.plane, candidate.plane, transform, inverted, "features"))
        if best.refused:
            return best
    for transform, inverted in _from_templates(query.plane, candidate.plane):
        best = _better(best, _compare(query.plane, candidate.plane, transform, inverted, "template"))
    return best


def _better(first: Leak, second: Leak) -> Leak:
    return max(first, second, key=lambda leak: (leak.refused, leak.agreeing * min(leak.tiles, MIN_TILES)))


def _from_features(query: Features, candidate: Features) -> Points | None:
    """The affine map ``(2, 3)`` that takes candidate points to query points, by RANSAC over triples."""
    pairs = match_features(candidate, query)
    if len(pairs) < _MIN_INLIERS:
        return None
    source, target = candidate.points[pairs[:, 0]], query.points[pairs[:, 1]]
    draws = np.random.default_rng(0).integers(0, len(pairs), (_RANSAC_DRAWS, 3))
    sides_source, sides_target = (
        np.stack([points[draws[:, 1]] - points[draws[:, 0]], points[draws[:, 2]] - points[draws[:, 0]]], axis=2)
        for points in (source, target)
    )
    wide = np.abs(np.linalg.det(sides_source)) > 12**2
    draws, linear = draws[wide], sides_target[wide] @ np.linalg.inv(sides_source[wide])
    plausible = _is_plausible(linear)
    draws, linear = draws[plausible], linear[plausible]
    if not len(linear):
        return None
    shifts = target[draws[:, 0]] - (linear @ source[draws[:, 0], :, None])[..., 0]
    away = source @ linear.swapaxes(1, 2) + shifts[:, None] - target
    inside = np.abs(away).max(axis=2) < 2.0
    inliers = inside[inside.sum(axis=1).argmax()]
    homogeneous = np.column_stack([source, np.ones(len(source))])
    for _ in range(3):
        if inliers.sum() < _MIN_INLIERS:
            return None
        solution = np.linalg.lstsq(homogeneous[inliers], target[inliers], rcond=None)[0]
        inliers = np.abs(homogeneous @ solution - target).max(axis=1) < 1.5
    found = np.asarray(solution.T)
    return found if inliers.sum() >= _MIN_INLIERS and _is_plausible(found[:, :2]) else None


def _is_plausible(linear: Points) -> NDArray[np.bool_]:
    """Whether maps ``(..., 2, 2)`` scale as disguises do: not to nothing, nor one direction far more than another."""
    # The singular values, from their squares' sum and product.
    squares, determinant = (linear**2).sum(axis=(-2, -1)), np.abs(np.linalg.det(linear))
    spread = np.sqrt(np.maximum(squares**2 - 4 * determinant**2, 0))
    largest, smallest = np.sqrt((squares + spread) / 2), np.sqrt(np.maximum(squares - spread, 0) / 2)
    return np.asarray((smallest > 0.1) & (largest < 9) & (largest < MAX_STRETCH * smallest))


def _from_templates(query: Plane, candidate: Plane) -> Iterator[tuple[Points, bool]]:
    """Such maps, and whether they lead to the negative, found by laying thumbnails on each other at every size.

    For pictures without features, or with many that look alike; the query is held in all eight ways.
    """
    thumbs = []
    for thumb_px, least in _TEMPLATES:
        to_query, to_candidate = thumb_px / max(query.shape), min(1.0, 1.5 * thumb_px / max(candidate.shape))
        thumbs.append((_resize(query, (to_query,) * 2), _resize(candidate, (to_candidate,) * 2), least))
    for mirrored, quarters in product((False, True), range(4)):
        found = None
        for query_thumb, candidate_thumb, least in thumbs:
            held = np.ascontiguousarray(np.rot90(query_thumb[:, ::-1] if mirrored else query_thumb, quarters))
            if (found := _lay_thumbnails(held, candidate_thumb, least)) is None:
                break
        if found is not None:
            between_thumbs = _followed_by(_held_to_query(query_thumb.shape, mirrored, quarters), found[0])
            yield between_thumbs * (to_candidate, to_candidate, 1) / to_query, found[1]


def _lay_thumbnails(query: Plane, candidate: Plane, least: float) -> tuple[Points, bool] | None:
    """The best place for the candidate on the query, whole or cropped to half, if it fits better than ``least``."""
    if candidate.std() < 1.0:
        return None
    height, width = candidate.shape
    fits = min(query.shape[0] / height, query.shape[1] / width)
    sizes = [(round(width * fits * part), round(height * fits * part)) for part in np.linspace(0.5, 1.0, 26)]
    sizes.append((query.shape[1], query.shape[0]))  # all of the query, stretched
    best, found = least, None
    for size in sizes:
        if min(size) < max(query.shape) / 8:
            continue
        small: Any = cv2.resize(candidate, size, interpolation=cv2.INTER_AREA)
        lowest, highest, low, high = cv2.minMaxLoc(cv2.matchTemplate(query, small, cv2.TM_CCOEFF_NORMED))
        if max(highest, -lowest) > best:
            best, inverted = max(highest, -lowest), -lowest > highest
            x, y = low if inverted else high
            found = np.array([[size[0] / width, 0, x], [0, size[1] / height, y]]), inverted
    return found


def _held_to_query(shape: tuple[int, ...], mirrored: bool, quarters: int) -> Points:
    """The map from the points of ``np.rot90(query[:, ::-1] if mirrored else query, quarters)`` back to the query's."""
    height, width = shape
    back = np.array([[-1.0, 0, width - 1], [0, 1, 0]]) if mirrored else np.eye(2, 3)
    for _ in range(quarters):
        back = _followed_by(back, np.array([[0.0, -1, width - 1], [1, 0, 0]]))
        height, width = width, height
    return back


def _followed_by(second: Points, first: Points) -> Points:
    """The affine map that is ``first`` and then ``second``."""
    return np.column_stack([second[:, :2] @ first[:, :2], second[:, :2] @ first[:, 2] + second[:, 2]])


def _resize(plane: Plane, factors: tuple[float, float]) -> Plane:
    size = (max(1, round(plane.shape[1] * factors[0])), max(1, round(plane.shape[0] * factors[1])))
    return np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA), np.float32)


def _compare(query: Plane, candidate: Plane, transform: Points, inverted: bool, found_by: Found) -> Leak:
    """Lay the query on the candidate, refine, and compare fine detail tile by tile at the coarser one's resolution."""
    factors = np.clip(np.linalg.norm(transform[:, :2], axis=0), 0.1, 1.0)
    if factors.min() < 1:  # where the candidate is the finer one, bring it down to the query's resolution
        candidate = _resize(candidate, (factors[0], factors[1]))
        transform = np.column_stack([transform[:, :2] / factors, transform[:, 2]])
    if min(candidate.shape) < 2 * TILE_PX:
        return Leak(refused=False)
    if inverted:
        candidate = 255 - candidate
    transform = _refine(query, candidate, transform)
    laid, inside = _lay(query, transform, candidate.shape)
    cover = min(1.0, float(inside.sum()) * abs(float(np.linalg.det(transform[:, :2]))) / query.size)
    agreements = _tile_correlations(laid, candidate, inside)
    if not len(agreements):
        return Leak(refused=False)
    agreeing = float((agreements > TILE_AGREES).mean())
    mirrored, turned_deg = _pose(transform)
    sx, sy = np.linalg.norm(transform[:, :2], axis=0) * factors
    return Leak(
        refused=agreeing >= MIN_AGREEING and cover >= MIN_COVER and len(agreements) >= MIN_TILES,
        agreeing=round(agreeing, 4),
        correlation=round(float(np.median(agreements)), 4),
        tiles=len(agreements),
        cover=round(cover, 4),
        mirrored=mirrored,
        turned_deg=turned_deg,
        inverted=inverted,
        scale=(round(float(sx), 4), round(float(sy), 4)),
        found_by=found_by,
    )


def _pose(transform: Points) -> tuple[bool, float]:
    """Whether a candidate with this map to the query is mirrored, and by how many degrees it is then turned."""
    (a, b), (c, d) = transform[:, :2]
    mirrored = bool(a * d < b * c)
    if mirrored:
        a, b = -a, -b
    return mirrored, round(float(np.degrees(np.arctan2(c - b, a + d))), 1) + 0.0  # no -0.0


def _lay(query: Plane, transform: Points, shape: tuple[int, ...]) -> tuple[Plane, NDArray[np.bool_]]:
    """The query as it looks on the candidate's pixels, averaged where those are coarser; and where it shows at all."""
    finer = np.maximum(np.linalg.norm(transform[:, :2], axis=0), 1.0)
    fine = (round(shape[1] * finer[0]), round(shape[0] * finer[1]))
    step = shape[1] / fine[0], shape[0] / fine[1]
    to_coarse = np.array([[step[0], 0, step[0] / 2 - 0.5], [0, step[1], step[1] / 2 - 0.5]])
    matrix = _followed_by(transform, to_coarse)

    def laid(plane: Plane) -> Plane:
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        warped: Any = cv2.warpAffine(plane, matrix, fine, flags=flags)
        return np.asarray(cv2.resize(warped, (shape[1], shape[0]), interpolation=cv2.INTER_AREA), np.float32)

    return laid(query), laid(np.ones_like(query)) > 0.999


def _refine(query: Plane, candidate: Plane, transform: Points) -> Points:
    """Sub-pixel alignment by ECC, blind to brightness and contrast; unchanged if it strays from where it began."""
    laid, inside = _lay(query, transform, candidate.shape)
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 1e-4)
    try:
        found: Any = cv2.findTransformECC(
            candidate, laid, np.eye(2, 3, dtype=np.float32), cv2.MOTION_AFFINE, criteria, inside.astype(np.uint8), 5
        )[1]
    except cv2.error:
        return transform
    change = np.asarray(found, np.float64)
    return transform if np.abs(change[:, :2] - np.eye(2)).max() > 0.06 else _followed_by(transform, change)


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
