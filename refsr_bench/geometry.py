"""Plane geometry of pictures, in one convention.

Points are (x, y) in pixels, pixel centres lie on integers, so a picture of width W spans x from -0.5 to W - 0.5 and
its centre is ((W - 1) / 2, (H - 1) / 2). A matrix called ``h_a_to_b`` maps homogeneous points of a to points of b.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage
from PIL import ImageFilter

from refsr_bench.schema import Image, Matrix3

Matrix = NDArray[np.float64]


def similarity_about_centre(height: int, width: int, *, angle_deg: float = 0.0, scale: float = 1.0) -> Matrix:
    """3x3 matrix that rotates (counter-clockwise as seen on screen) and scales about the picture's centre.

    >>> h = similarity_about_centre(5, 5, angle_deg=90)
    >>> apply_homography(h, np.array([[4.0, 2.0]])).round(9) + 0.0
    array([[2., 0.]])
    """
    quarters, rest = divmod(angle_deg, 90)
    if rest == 0:  # exact, or the last row and column would fall off the picture by the last bit of a cosine
        cos, sin = (scale * value for value in ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))[int(quarters) % 4])
    else:
        cos, sin = (scale * f(math.radians(angle_deg)) for f in (math.cos, math.sin))
    cx, cy = (width - 1) / 2, (height - 1) / 2
    return np.array(
        [[cos, sin, cx - cos * cx - sin * cy], [-sin, cos, cy + sin * cx - cos * cy], [0.0, 0.0, 1.0]],
    )


def translation(dx: float, dy: float) -> Matrix:
    """3x3 matrix that moves points by (dx, dy) px."""
    return np.array([[1.0, 0.0, dx], [0.0, 1.0, dy], [0.0, 0.0, 1.0]])


def apply_homography(h: Matrix, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Map points ``(..., 2)``, (x, y) px, through a 3x3 matrix; returns the same shape."""
    x, y = points[..., 0], points[..., 1]
    u, v, w = (h[i, 0] * x + h[i, 1] * y + h[i, 2] for i in range(3))
    return np.stack([u / w, v / w], axis=-1)


def warp_image(image: Image, h_src_to_dst: Matrix, height: int, width: int) -> tuple[Image, NDArray[np.bool_]]:
    """Resample a picture so that source point p appears at ``h_src_to_dst``·p on a ``height`` x ``width`` canvas.

    Bicubic, black outside; where the map shrinks the picture a Gaussian of sigma (1/s - 1)/2 px goes before, s being
    the scale at the source's centre. Pillow does the sampling because its scalar arithmetic gives the same bytes on
    every machine, which a dataset's hash needs. Returns the picture and the mask ``(height, width)`` of destination
    pixels whose centre lies on the source.
    """
    h_dst_to_src = np.linalg.inv(h_src_to_dst).astype(np.float64)
    scale = _scale_at_centre(h_src_to_dst, image.shape[0], image.shape[1])
    source = PilImage.fromarray(image)
    if scale < 1:
        source = source.filter(ImageFilter.GaussianBlur((1 / scale - 1) / 2))
    # Pillow counts from the picture's corner: its pixel centres lie on half-integers.
    corner = translation(0.5, 0.5) @ h_dst_to_src @ translation(-0.5, -0.5)
    coefficients = (corner / corner[2, 2]).ravel()[:8]
    warped = source.transform(
        (width, height), PilImage.Transform.PERSPECTIVE, tuple(coefficients), PilImage.Resampling.BICUBIC
    )
    x, y = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64))
    source_points = apply_homography(h_dst_to_src, np.stack([x, y], axis=-1))
    limit = np.array([image.shape[1] - 1, image.shape[0] - 1])
    valid: NDArray[np.bool_] = np.all((source_points >= 0) & (source_points <= limit), axis=-1)
    return np.asarray(warped) * valid[:, :, None].astype(np.uint8), valid


def _scale_at_centre(h: Matrix, height: int, width: int) -> float:
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    corners = centre + np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    origin, right, down = apply_homography(h, corners)
    return math.sqrt(abs(np.linalg.det(np.stack([right - origin, down - origin]))))


CELL_PX = 4
"""HR pixels between the cells of a feature map (two 2x2 pools); cell (i, j) is centred on (4j + 1.5, 4i + 1.5)."""

PATCH_CELLS = 3
"""Cells a side of the patches that matchers compare."""


def patch_centres(height: int, width: int) -> NDArray[np.float64]:
    """Centres ``(N, 2)``, (x, y) HR px, of all 3x3-cell patches of a picture's feature map, row by row.

    A matcher gives one match for each of them, and every cell-based match is one of the reference's.

    >>> patch_centres(12, 20)
    array([[ 5.5,  5.5],
           [ 9.5,  5.5],
           [13.5,  5.5]])
    """
    rows, columns = (max(0, size // CELL_PX - PATCH_CELLS + 1) for size in (height, width))
    first = CELL_PX * (PATCH_CELLS // 2) + (CELL_PX - 1) / 2
    x, y = np.meshgrid(first + CELL_PX * np.arange(columns), first + CELL_PX * np.arange(rows))
    return np.stack([x, y], axis=-1).reshape(-1, 2)


def as_matrix3(h: Matrix) -> Matrix3:
    """A 3x3 matrix as the nested tuples that a manifest stores."""
    a, b, c = (tuple(float(v) for v in row) for row in h)
    return ((a[0], a[1], a[2]), (b[0], b[1], b[2]), (c[0], c[1], c[2]))
