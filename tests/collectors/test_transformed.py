"""Transformed sets: exact matrices, masks that tell the truth, determinism, options that cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refsr_bench.collectors.transformed import build, dataset_name, draw
from refsr_bench.errors import UsageError
from refsr_bench.geometry import apply_homography, similarity_about_centre
from refsr_bench.images import load_image
from refsr_bench.schema import Record, TransformGroup
from refsr_bench.store import Dataset, open_dataset
from refsr_bench.verification import verify_dataset


def make(source: Path, target: Path, **options: Any) -> Dataset:
    build(None, target, progress=lambda done, total: None, note=lambda text: None, **{"of": str(source), **options})
    return open_dataset(target)


def by_group(dataset: Dataset, group: str) -> list[Record]:
    return [record for record in dataset.records if record.group == group]


@pytest.fixture
def both(small_dataset: Path, tmp_path: Path) -> Dataset:
    return make(small_dataset, tmp_path / "both")


def test_every_sample_has_every_group_and_the_set_verifies(both: Dataset) -> None:
    groups = both.info.groups
    levels = [f"{kind}-{level}" for kind in ("rotation", "scale") for level in ("small", "medium", "large")]
    points = [f"rotation-at-{a}" for a in (0, 5, 10, 15, 20, 30, 45, 60, 90, 180)]
    points += [f"scale-at-{s}" for s in (0.5, 0.667, 0.833, 0.909, 1, 1.1, 1.2, 1.5, 2)]
    # The three pictures are cuts of one photograph but have sources of their own only where `source` differs.
    assert set(groups) >= {*levels, *points, "control-identity", "control-black"}
    assert all(count == 3 for group, count in groups.items() if group != "control-unrelated")
    assert not verify_dataset(both, deep=True)
    assert both.info.options["rotation"] == "0-10,10-25,25-45"
    assert both.info.options["of"].startswith("small@")


def test_the_stored_matrix_is_the_similarity_about_the_centre(both: Dataset) -> None:
    for record in by_group(both, "rotation-at-30") + by_group(both, "scale-at-0.5"):
        height, width = record.refs[0].height, record.refs[0].width
        wanted = {"angle_deg": 30.0} if record.group == "rotation-at-30" else {"scale": 0.5}
        assert record.refs[0].h_hr_to_ref is not None
        np.testing.assert_allclose(record.refs[0].h_hr_to_ref, similarity_about_centre(height, width, **wanted))


def test_the_mask_is_black_exactly_where_the_picture_is_not_shown(both: Dataset) -> None:
    for record in by_group(both, "rotation-at-45") + by_group(both, "scale-at-0.5"):
        ref = record.refs[0]
        assert ref.valid_mask is not None
        picture, mask = load_image(both.root / ref.path), load_image(both.root / ref.valid_mask.path)[..., 0]
        assert set(np.unique(mask)) == {0, 255}
        assert not picture[mask == 0].any()
        x, y = np.meshgrid(np.arange(ref.width), np.arange(ref.height))
        back = apply_homography(np.linalg.inv(np.array(ref.h_hr_to_ref)), np.stack([x, y], -1).astype(float))
        inside = np.all((back >= 0) & (back <= [ref.width - 1, ref.height - 1]), axis=-1)
        assert np.mean(inside == (mask == 255)) > 0.998  # all but exact ties on the edge


def test_half_a_turn_is_the_picture_turned(both: Dataset) -> None:
    record = by_group(both, "rotation-at-180")[0]
    assert record.hr is not None
    hr, ref = load_image(both.root / record.hr.path), load_image(both.root / record.refs[0].path)
    assert np.abs(ref.astype(int) - hr[::-1, ::-1]).max() <= 1  # Pillow cuts fractions of a grey level off
    mask = record.refs[0].valid_mask
    assert mask is not None
    assert (load_image(both.root / mask.path) == 255).all()


def test_no_transform_gives_the_picture_itself(both: Dataset) -> None:
    for group in ("rotation-at-0", "scale-at-1", "control-identity"):
        for record in by_group(both, group):
            assert record.hr is not None
            assert np.array_equal(load_image(both.root / record.hr.path), load_image(both.root / record.refs[0].path))
    assert not load_image(both.root / by_group(both, "control-black")[0].refs[0].path).any()


def test_the_same_seed_gives_the_same_bytes_and_another_gives_others(small_dataset: Path, tmp_path: Path) -> None:
    few = {"kind": "rotation", "angles": "none"}
    a, b = (make(small_dataset, tmp_path / name, **few) for name in ("a", "b"))
    other = make(small_dataset, tmp_path / "c", seed="1", **few)
    assert a.info.manifest_sha256 == b.info.manifest_sha256 != other.info.manifest_sha256
    fewer = make(small_dataset, tmp_path / "d", limit="1", **few)
    assert fewer.records[0] == a.records[0]  # a draw depends on seed, sample and group alone


@pytest.mark.parametrize("kind", ["rotation", "scale"])
def test_draws_fill_their_range_evenly(kind: str) -> None:
    low, high = (10.0, 25.0) if kind == "rotation" else (1.2, 1.5)
    drawn = [draw(TransformGroup(kind, "medium"), (low, high), 0, f"s{i}") for i in range(2000)]
    values = np.array([t.angle_deg if kind == "rotation" else np.log(t.scale) for t in drawn])
    bounds = (low, high) if kind == "rotation" else (np.log(low), np.log(high))
    size = np.abs(values)
    assert size.min() >= bounds[0]
    assert size.max() <= bounds[1] + 1e-6
    assert abs(np.mean(values > 0) - 0.5) < 0.04
    share = (size - bounds[0]) / (bounds[1] - bounds[0])
    assert np.abs(np.sort(share) - np.linspace(0, 1, 2000)).max() < 0.04  # Kolmogorov-Smirnov, p about 0.003


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"of": ""}, "--of NAME"),
        ({"kind": "shear"}, "no kind of transform called 'shear'"),
        ({"rotation": "0-10,10-25"}, "not three ranges"),
        ({"scale": "2-1,1-2,2-3"}, "not three ranges"),
        ({"angles": "5,x"}, "not a list of numbers"),
        ({"factors": "1/0"}, "not a list of numbers"),
        ({"angles": "5,5.0001"}, "twice"),
        ({"seed": "one"}, "whole number"),
        ({"limit": "0"}, "whole number"),
    ],
)
def test_options_that_cannot_be(small_dataset: Path, options: dict[str, str], message: str) -> None:
    target = small_dataset.parent / "x"
    with pytest.raises(UsageError) as caught:
        make(small_dataset, target, **options)
    assert message in str(caught.value)
    assert not target.exists()


def test_the_name_says_source_and_kind() -> None:
    assert dataset_name({"of": "cufed5", "kind": "rotation"}) == "cufed5-rotation"
    assert dataset_name({"of": "/data/my set", "kind": "both"}) == "my set-both"
