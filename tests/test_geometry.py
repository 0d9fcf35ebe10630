"""Points, matrices and warps in the one pixel-centre convention."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refsr_bench.geometry import apply_homography, as_matrix3, similarity_about_centre, translation, warp_image
from refsr_bench.images import load_image


@pytest.fixture
def picture(photographs: Path) -> np.ndarray:
    return cv2.GaussianBlur(load_image(photographs / "coffee.png")[100:220, 100:260], (0, 0), 2)


@given(st.floats(-180, 180), st.floats(0.3, 3), st.floats(-50, 50), st.floats(-50, 50))
def test_the_inverse_leads_back(angle_deg: float, scale: float, x: float, y: float) -> None:
    h = similarity_about_centre(40, 60, angle_deg=angle_deg, scale=scale)
    there = apply_homography(h, np.array([x, y]))
    assert apply_homography(np.linalg.inv(h), there) == pytest.approx([x, y], abs=1e-9)


def test_the_centre_stays_and_distances_scale() -> None:
    h = similarity_about_centre(41, 61, angle_deg=33, scale=1.7)
    centre = np.array([30.0, 20.0])
    assert apply_homography(h, centre) == pytest.approx(centre)
    assert np.linalg.norm(apply_homography(h, centre + np.array([3, 4])) - centre) == pytest.approx(1.7 * 5)


def test_identity_changes_nothing(picture: np.ndarray) -> None:
    warped, valid = warp_image(picture, np.eye(3), *picture.shape[:2])
    assert np.array_equal(warped, picture)
    assert valid.all()


def test_whole_pixel_translation_is_exact(picture: np.ndarray) -> None:
    warped, valid = warp_image(picture, translation(7, -5), *picture.shape[:2])
    assert np.array_equal(warped[:-5, 7:], picture[5:, :-7])
    assert np.array_equal(valid, np.pad(np.ones((115, 153), bool), ((0, 5), (7, 0))))
    assert not warped[~valid].any()


@pytest.mark.parametrize(
    "h",
    [
        similarity_about_centre(120, 160, angle_deg=20),
        similarity_about_centre(120, 160, angle_deg=-45, scale=1.3),
        similarity_about_centre(120, 160, angle_deg=10, scale=2.0),
        np.array([[1.2, 0.1, -10.0], [0.05, 1.3, -20.0], [4e-4, -3e-4, 1.0]]),
    ],
    ids=["rotation", "both", "scale", "perspective"],
)
def test_agrees_with_opencv(picture: np.ndarray, h: np.ndarray) -> None:
    warped, valid = warp_image(picture, h, 120, 160)
    expected = cv2.warpPerspective(picture, h, (160, 120), flags=cv2.INTER_CUBIC)
    # Near the source's edge OpenCV mixes in black.
    inner = cv2.erode(valid.astype(np.uint8), np.ones((9, 9)), borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0
    assert inner.mean() > 0.4
    assert np.abs(warped.astype(int) - expected)[inner].max() <= 3


def test_a_source_point_lands_where_the_matrix_says() -> None:
    dot = np.zeros((41, 61, 3), np.uint8)
    dot[12, 40] = 255
    h = similarity_about_centre(41, 61, angle_deg=25, scale=1.5)
    warped, _ = warp_image(dot, h, 41, 61)
    y, x = np.mgrid[:41, :61]
    weight = warped[..., 0] / warped[..., 0].sum(dtype=float)
    landed = [(x * weight).sum(), (y * weight).sum()]
    assert landed == pytest.approx(apply_homography(h, np.array([40.0, 12.0])), abs=0.1)


def test_shrinking_is_antialiased() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    warped, valid = warp_image(stripes, similarity_about_centre(64, 64, scale=0.4), 64, 64)
    assert np.ptp(warped[28:36, 24:40]) < 60
    assert valid.mean() < 0.2


def test_matrix_as_tuples() -> None:
    assert as_matrix3(np.eye(3)) == ((1, 0, 0), (0, 1, 0), (0, 0, 1))
