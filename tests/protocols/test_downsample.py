"""The kernels behind the LR pictures; MATLAB's proved on files that MATLAB made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from refsr_bench.images import load_image
from refsr_bench.protocols.downsample import DOWNSAMPLERS
from refsr_bench.protocols.matlab import imresize

SETS = [("Set5", 5), ("Set14", 14)]


def pairs(dev_data: Path, name: str) -> list[tuple[str, np.ndarray, np.ndarray]]:
    files = sorted((dev_data / "sisr" / f"{name}_x4").glob("*_HR.png"))
    return [(f.name, load_image(f), load_image(f.with_name(f.name.replace("_HR", "_LR")))) for f in files]


@pytest.mark.parametrize(("name", "count"), SETS)
def test_every_sample_of_the_distributed_lr_files_is_reproduced(dev_data: Path, name: str, count: int) -> None:
    found = pairs(dev_data, name)
    assert len(found) == count
    for file, hr, lr in found:
        made = imresize(hr, *lr.shape[:2])
        assert np.array_equal(made, lr), f"{file}: {np.mean(made != lr):.4%} of the samples differ"


@pytest.mark.parametrize(("name", "count"), SETS)
@pytest.mark.parametrize(("kernel", "least", "most"), [("mirror", 0.98, 0.995), ("mirrorfloat", 0.87, 0.90)])
def test_the_named_variants_miss_by_the_known_share(
    dev_data: Path, name: str, count: int, kernel: str, least: float, most: float
) -> None:
    equal = [
        DOWNSAMPLERS[f"matlab.{kernel}"](hr, *lr.shape[:2]).ravel() == lr.ravel() for _, hr, lr in pairs(dev_data, name)
    ]
    assert least < np.concatenate(equal).mean() < most


@pytest.mark.parametrize("kernel", DOWNSAMPLERS)
def test_a_flat_picture_stays_flat(kernel: str) -> None:
    lr = DOWNSAMPLERS[kernel](np.full((20, 32, 3), 77, np.uint8), 5, 8)
    assert lr.shape == (5, 8, 3)
    assert lr.dtype == np.uint8
    assert (lr == 77).all()


def test_imresize_enlarges_too() -> None:
    ramp = np.repeat(np.arange(0, 80, 8, dtype=np.uint8)[None, :, None], 3, axis=2).repeat(4, axis=0)
    large = imresize(ramp, 8, 20)
    assert large.shape == (8, 20, 3)
    assert (np.diff(large[0, 3:-3, 0].astype(int)) == 4).all()
