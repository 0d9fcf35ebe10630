"""Sets with measured correspondences: layouts, disparity conventions, hidden pixels."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from refsr_bench.collectors.pairs import build, hidden
from refsr_bench.errors import IntegrityError, UsageError
from refsr_bench.images import encode_png, load_image
from refsr_bench.protocols.truth import load_truth
from refsr_bench.store import Dataset, open_dataset


def make(source: Path, target: Path, **options: str) -> Dataset:
    build(source, target, progress=lambda done, total: None, note=lambda text: None, **options)
    return open_dataset(target)


def test_published_layouts_are_recognised(dev_data: Path, tmp_path: Path) -> None:
    dataset = make(dev_data / "matching", tmp_path / "set")
    assert [record.name for record in dataset.records] == [
        *(f"boat.1-{i}" for i in range(2, 7)),
        "middlebury_cones.2-6",
        "middlebury_motorcycle.left-right",
        "middlebury_teddy.2-6",
    ]


@pytest.mark.parametrize("name", ["middlebury_cones", "middlebury_teddy", "middlebury_motorcycle"])
def test_true_points_show_the_same_colour(dev_data: Path, tmp_path: Path, name: str) -> None:
    """The sign of the disparity and the scale of its grey levels: wrong ones give several times the difference."""
    dataset = make(dev_data / "matching" / name, tmp_path / "set")
    (record,) = dataset.records
    assert record.hr is not None
    hr, ref = load_image(dataset.root / record.hr.path), load_image(dataset.root / record.refs[0].path)
    truth = load_truth(dataset, record.refs[0])
    points = np.stack(np.meshgrid(np.arange(0, hr.shape[1], 3.0), np.arange(0, hr.shape[0], 3.0)), axis=-1)

    def difference(true: np.ndarray) -> float:
        at = np.rint(true)
        seen = np.isfinite(at).all(axis=-1) & (at[..., 0] >= 0) & (at[..., 0] <= ref.shape[1] - 1)
        (x, y), (u, v) = points[seen].astype(int).T, at[seen].astype(int).T
        return float(np.abs(hr[y, x].astype(int) - ref[v, u]).mean())

    true = truth(points)
    mirrored = np.stack([2 * points[..., 0] - true[..., 0], true[..., 1]], axis=-1)
    assert difference(true) < 0.45 * difference(points)
    assert difference(true) < 0.45 * difference(mirrored)


def test_homographies_of_boat_show_the_same_grey(dev_data: Path, tmp_path: Path) -> None:
    dataset = make(dev_data / "matching" / "boat", tmp_path / "set")
    for record in dataset.records:
        assert record.hr is not None
        pictures = (load_image(dataset.root / path) for path in (record.hr.path, record.refs[0].path))
        hr, ref = (cv2.GaussianBlur(picture, (0, 0), 3) for picture in pictures)
        points = np.stack(np.meshgrid(np.arange(0, hr.shape[1], 5.0), np.arange(0, hr.shape[0], 5.0)), axis=-1)
        true = np.rint(load_truth(dataset, record.refs[0])(points)).astype(int)
        seen = np.all((true >= 0) & (true < [ref.shape[1], ref.shape[0]]), axis=-1)
        (x, y), (u, v) = points[seen].astype(int).T, true[seen].T
        assert np.corrcoef(hr[y, x, 0], ref[v, u, 0])[0, 1] > 0.65  # of img6, twice as far away


def test_hidden_pixels_have_no_true_point(tmp_path: Path) -> None:
    disparity = np.ones((4, 12), np.float32)
    disparity[:, 6:9] = 4  # something near, over left pixels 6 to 8; it lands on right pixels 2 to 4
    assert np.flatnonzero(hidden(disparity.astype(float))[0]).tolist() == [3, 4, 5]
    source = tmp_path / "scene"
    source.mkdir()
    for side in ("left", "right"):
        (source / f"a_{side}.png").write_bytes(encode_png(np.zeros((4, 12, 3), np.uint8)))
    np.savez(source / "a_disp.npz", disparity)
    dataset = make(source, tmp_path / "set")
    truth = load_truth(dataset, dataset.records[0].refs[0])
    points = np.array([[2.0, 1.0], [4.0, 1.0], [7.0, 1.0], [8.5, 1.0], [10.5, 2.5]])
    assert np.array_equal(
        truth(points), [[1, 1], [np.nan, np.nan], [3, 1], [np.nan, np.nan], [9.5, 2.5]], equal_nan=True
    )


def test_folders_without_correspondences_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="known correspondences"):
        make(tmp_path / "empty", tmp_path / "set")
    with pytest.raises(UsageError, match="disparity_factor"):
        make(tmp_path / "empty", tmp_path / "set", disparity_factor="0")
    scene = tmp_path / "scene"
    scene.mkdir()
    (scene / "img1.png").write_bytes(encode_png(np.zeros((8, 8, 3), np.uint8)))
    (scene / "H1to2p").write_text("1 0 0\n0 1 0\n")
    with pytest.raises(IntegrityError, match="not a 3x3 matrix"):
        make(scene, tmp_path / "set")
    assert not (tmp_path / "set").exists()
