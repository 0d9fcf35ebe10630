"""The embedded demo set: reproducible to the byte, with ground truth that is true."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from refsr_bench.collectors import demo
from refsr_bench.errors import IntegrityError, UsageError
from refsr_bench.geometry import apply_homography
from refsr_bench.images import load_image
from refsr_bench.store import Dataset, load_sample, open_dataset
from refsr_bench.verification import verify_dataset


def build(target: Path) -> tuple[Dataset, list[str]]:
    notes: list[str] = []
    demo.build(None, target, progress=lambda done, total: None, note=notes.append)
    return open_dataset(target), notes


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return build(tmp_path_factory.mktemp("demo") / "demo")[0]


def test_it_is_the_published_set_every_time(built: Dataset, tmp_path: Path) -> None:
    again, notes = build(tmp_path / "demo")
    assert built.info.manifest_sha256 == again.info.manifest_sha256 == demo.EXPECTED_MANIFEST
    assert notes == []
    assert verify_dataset(again) == []


def test_three_groups_and_every_line_says_how_it_was_made(built: Dataset) -> None:
    assert built.info.groups == {"two-view": 7, "upper-bound": 7, "unrelated": 7}
    for record in built.records:
        assert record.tags == (record.group,)
        assert record.licence
        assert record.source
        assert " px at (" in record.made
        assert "reference: " in record.made


def test_crops_lie_inside_their_photographs(built: Dataset) -> None:
    for record in built.records:
        sample = load_sample(built, record)
        assert sample.hr is not None
        width, height = (int(n) for n in record.made.split(" ")[1].split("x"))
        assert sample.hr.shape == (height, width, 3)
        assert sample.refs[0].shape == sample.hr.shape


def test_disparity_leads_to_the_same_point_and_no_other(built: Dataset) -> None:
    for record in (r for r in built.records if r.group == "two-view"):
        sample = load_sample(built, record)
        assert sample.hr is not None
        stored = record.refs[0].disparity
        assert stored is not None
        disparity = np.load(built.root / stored.path)["disparity"]
        assert disparity.shape == sample.hr.shape[:2]

        def difference(sign: int, disparity=disparity, hr=sample.hr, ref=sample.refs[0]) -> float:  # type: ignore[no-untyped-def]
            y, x = np.nonzero(np.isfinite(disparity))
            x_ref = np.rint(x + sign * disparity[y, x]).astype(int)
            inside = (x_ref >= 0) & (x_ref < ref.shape[1])
            return float(np.abs(hr[y, x][inside].astype(int) - ref[y[inside], x_ref[inside]]).mean())

        assert difference(1) < 0.6 * difference(-1)
        assert difference(1) < 20  # whole pixels only, occluded ones included


def test_the_matrix_leads_to_the_same_point(built: Dataset) -> None:
    for record in (r for r in built.records if r.group == "upper-bound"):
        sample = load_sample(built, record)
        reference = record.refs[0]
        assert sample.hr is not None
        assert reference.h_hr_to_ref is not None
        assert reference.valid_mask is not None
        valid = load_image(built.root / reference.valid_mask.path)[..., 0] > 0
        y, x = np.mgrid[4 : sample.hr.shape[0] - 4 : 3, 4 : sample.hr.shape[1] - 4 : 3]
        there = np.rint(apply_homography(np.array(reference.h_hr_to_ref), np.stack([x, y], -1).astype(float)))
        x_ref, y_ref = there.astype(int).reshape(-1, 2).T
        ref = sample.refs[0]
        inside = (x_ref >= 0) & (x_ref < ref.shape[1]) & (y_ref >= 0) & (y_ref < ref.shape[0])
        inside[inside] &= valid[y_ref[inside], x_ref[inside]]
        hr = sample.hr[y.ravel(), x.ravel()].astype(int)
        assert inside.mean() > 0.4
        there_and_here = float(np.abs(hr[inside] - ref[y_ref[inside], x_ref[inside]]).mean())
        same_place = float(np.abs(hr - ref[y.ravel(), x.ravel()].astype(int)).mean())
        assert there_and_here < 8
        assert there_and_here < 0.5 * same_place


def test_it_takes_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="takes no folder"):
        demo.build(tmp_path, tmp_path / "d", progress=lambda done, total: None, note=print)


def test_other_photographs_are_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.find_spec("skimage")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "astronaut.png").write_bytes(b"other")
    assert spec is not None
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(IntegrityError, match=r"astronaut\.png.*differs"):
        build(tmp_path / "demo")
