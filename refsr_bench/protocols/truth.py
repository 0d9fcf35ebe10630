"""True correspondences: where a point of the HR picture lies in a reference, as far as the dataset knows."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from refsr_bench.errors import IntegrityError
from refsr_bench.geometry import apply_homography
from refsr_bench.images import decode_image
from refsr_bench.protocols.inputs import Frame
from refsr_bench.schema import Record, StoredReference
from refsr_bench.store import Dataset, read_stored

Points = NDArray[np.float64]

TrueMap = Callable[[Points], Points]
"""HR points ``(..., 2)``, (x, y) px, to reference points; NaN where the true point is not known."""

MAX_DISPARITY_STEP_PX = 1.0
"""Between pixels: where the neighbours' disparities differ by more, a point lies on an edge and has no true match."""


def has_truth(record: Record, index: int | None) -> bool:
    """Whether the dataset knows how a record's reference relates to its HR picture; ``index`` None: no reference."""
    if record.hr is None or index is None:
        return False
    ref = record.refs[index]
    return ref.h_hr_to_ref is not None or ref.disparity is not None


def load_truth(dataset: Dataset, ref: StoredReference) -> TrueMap:
    """The true map from HR to reference, in pixels of the stored pictures, from a matrix or a disparity map.

    Between pixels a disparity is interpolated from its neighbours, unknown where any of them is unknown or where
    they differ by more than `MAX_DISPARITY_STEP_PX`.
    """
    if ref.h_hr_to_ref is not None:
        h = np.array(ref.h_hr_to_ref)
        return lambda points: apply_homography(h, points)
    if ref.disparity is None:
        raise IntegrityError(f"{ref.path}: the dataset does not know how this reference relates to its HR picture")
    data = read_stored(dataset.root, ref.disparity)
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        disparity = archive["disparity"].astype(np.float64)
    return lambda points: _follow_disparity(disparity, points)


def _follow_disparity(disparity: NDArray[np.float64], points: Points) -> Points:
    height, width = disparity.shape
    x, y = points[..., 0], points[..., 1]
    inside = (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)
    left = np.clip(np.floor(x).astype(np.int64), 0, width - 2)
    top = np.clip(np.floor(y).astype(np.int64), 0, height - 2)
    across, down = x - left, y - top
    corners = np.stack([disparity[top + j, left + i] for j in (0, 1) for i in (0, 1)])
    weights = np.stack([(down if j else 1 - down) * (across if i else 1 - across) for j in (0, 1) for i in (0, 1)])
    nearest = np.take_along_axis(corners, weights.argmax(axis=0)[None], axis=0)
    used = np.where(weights > 0, corners, nearest)  # on a pixel its neighbours say nothing
    known = inside & (np.ptp(used, axis=0) <= MAX_DISPARITY_STEP_PX)  # false where any is NaN
    shift = np.where(known, (weights * used).sum(axis=0), np.nan)
    return np.stack([x + shift, np.where(known, y, np.nan)], axis=-1)


def on_canvas(truth: TrueMap, hr_frame: Frame, ref_frame: Frame) -> TrueMap:
    """The same map between the canvases that a protocol lays the two pictures on."""
    from_hr, to_ref = (np.array([frame.x, frame.y], np.float64) for frame in (hr_frame, ref_frame))
    return lambda points: truth(points - from_hr) + to_ref


def visible_mask(
    dataset: Dataset, ref: StoredReference, hr_shape: tuple[int, ...], ref_frame: Frame
) -> NDArray[np.bool_]:
    """``(H, W)``: which HR pixels' true points lie on the reference's picture.

    Where the dataset stores which pixels of the reference show anything, the nearest one has to.
    """
    truth = load_truth(dataset, ref)
    x, y = np.meshgrid(np.arange(hr_shape[1], dtype=np.float64), np.arange(hr_shape[0], dtype=np.float64))
    points = truth(np.stack([x, y], axis=-1))
    limit = np.array([ref_frame.width - 1, ref_frame.height - 1])
    with np.errstate(invalid="ignore"):
        visible: NDArray[np.bool_] = np.all((points >= 0) & (points <= limit), axis=-1)
    if ref.valid_mask is not None:
        shown = decode_image(read_stored(dataset.root, ref.valid_mask), ref.valid_mask.path).pixels[..., 0] > 0
        column, row = np.rint(points[visible]).astype(np.int64).T
        visible[visible] = shown[row, column]
    return visible
