"""The weights that come with the package: there, small enough, described, and of use."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from refsr_bench.images import load_image, resize_bicubic
from refsr_bench.models.c2matching import CARD_SMALL, build, build_small
from refsr_bench.models.c2matching.small_model import SHIPPED, SmallC2Matching
from refsr_bench.schema import Image


@pytest.fixture(scope="module")
def model() -> SmallC2Matching:
    made = build_small()
    assert isinstance(made, SmallC2Matching)
    return made


@pytest.fixture(scope="module")
def portrait() -> Image:
    import importlib.resources

    return load_image(Path(str(importlib.resources.files("skimage"))) / "data" / "astronaut.png")


def restore(model: SmallC2Matching, hr: Image, ref: Image) -> Image:
    lr = resize_bicubic(hr, hr.shape[0] // 4, hr.shape[1] // 4)
    return np.rint(np.clip(model.restore(lr, [ref]), 0, 1) * 255).astype(np.uint8)


def psnr(a: Image, b: Image) -> float:
    difference = a[4:-4, 4:-4].astype(np.float64) - b[4:-4, 4:-4]
    return float(10 * np.log10(255**2 / np.mean(difference**2)))


def test_they_are_small_and_described() -> None:
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 12_000_000
    card = (SHIPPED / "MODEL_CARD.md").read_text("utf-8")
    described = json.loads((SHIPPED / "weights.json").read_text("utf-8"))
    assert f"after {described['step']:,} steps" in card
    assert "non-commercial" in (SHIPPED / "LICENSE-weights").read_text("utf-8")


def test_the_card_counts_right(model: SmallC2Matching) -> None:
    assert sum(p.numel() for p in model.restoration.parameters()) == CARD_SMALL.parameters
    assert model.card.name == "c2matching-small"
    assert set(model.card.weights_sha256) == {"extractor", "restoration"}


def test_they_stand_in_for_the_papers() -> None:
    assert build().card.name == "c2matching-small"


def test_they_restore_and_use_the_reference(model: SmallC2Matching, portrait: Image) -> None:
    hr, moved = portrait[60:220, 140:300], portrait[67:227, 153:313]
    lr = resize_bicubic(hr, 40, 40)
    bicubic = psnr(resize_bicubic(lr, 160, 160), hr)
    black = psnr(restore(model, hr, np.zeros_like(hr)), hr)
    assert black > bicubic + 1
    assert psnr(restore(model, hr, moved), hr) > black + 0.3
    unrelated = portrait[300:460, 0:160]
    assert psnr(restore(model, hr, unrelated), hr) > black - 0.2


def test_they_match(model: SmallC2Matching, portrait: Image) -> None:
    hr, moved = portrait[60:220, 140:300], portrait[64:224, 152:312]
    found = model.match(resize_bicubic(resize_bicubic(hr, 40, 40), 160, 160), moved)
    inside = ((found.nodes[:, 0] > 24) & (found.nodes[:, 1] > 16)).nonzero()[0]
    errors = np.linalg.norm(found.matches[inside] - (found.nodes[inside] - [12, 4]), axis=1)
    assert np.median(errors) < 1
