"""Ranking of candidates: true views before everything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from refsr_bench.collectors.curation.fingerprints import fingerprint
from refsr_bench.collectors.curation.ranking import score_view
from refsr_bench.images import load_image


def test_the_other_view_comes_first(photographs: Path) -> None:
    query = fingerprint(load_image(photographs / "motorcycle_left.png"))
    names = ("chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_right.png", "astronaut.png")
    scores = {name: score_view(query, fingerprint(load_image(photographs / name))) for name in names}
    assert max(scores, key=lambda name: scores[name].total) == "motorcycle_right.png"
    best = scores.pop("motorcycle_right.png")
    assert best.inliers > 100
    assert best.coverage > 0.5
    assert all(score.total < 0.1 * best.total for score in scores.values())


def test_pictures_without_features_get_a_score_too(photographs: Path) -> None:
    flat = fingerprint(np.zeros((1, 1, 3), np.uint8))
    assert score_view(flat, fingerprint(load_image(photographs / "coffee.png"))).inliers == 0


def independent_features(image: np.ndarray) -> Any:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return cv2.SIFT_create(nfeatures=2000).detectAndCompute(grey, None)


def independent_inliers(first: Any, second: Any) -> int:
    """Fundamental-matrix inliers by OpenCV's own matcher and classical RANSAC, at the pictures' full size."""
    matches = [m for m, n in cv2.BFMatcher().knnMatch(first[1], second[1], k=2) if m.distance < 0.75 * n.distance]
    if len(matches) < 16:
        return 0
    points = [
        np.float32([f[0][getattr(m, k)].pt for m in matches]) for f, k in ((first, "queryIdx"), (second, "trainIdx"))
    ]
    cv2.setRNGSeed(1)
    mask = cv2.findFundamentalMat(*points, cv2.FM_RANSAC, 2.0, 0.999, 2000)[1]
    return 0 if mask is None else int(mask.sum())


@pytest.mark.slow
def test_the_best_view_is_in_the_top_3_of_50(dev_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    distractors = sorted((dev_data / "train/bsds500_train").glob("*.jpg"))
    places = {}
    prints: dict[Path, Any] = {}
    features: dict[Path, Any] = {}
    for scene in ("sacre_coeur", "lund"):
        views = sorted((dev_data / "refsr_pairs" / scene).glob("*.jpg"))
        for query in views:
            pool = [path for path in views if path != query]
            pool += distractors[: 50 - len(pool)]
            assert len(pool) == 50
            for path in [query, *pool]:
                if path not in prints:
                    image = load_image(path)
                    prints[path], features[path] = fingerprint(image), independent_features(image)
            truth = max(pool, key=lambda path: independent_inliers(features[query], features[path]))
            ranked = sorted(pool, key=lambda path: -score_view(prints[query], prints[path]).total)
            places[f"{scene}/{query.name}"] = ranked.index(truth) + 1
    with capsys.disabled():
        print(f"\nplace of the best view, by how many queries: {np.bincount(list(places.values()))[1:].tolist()}")
    assert max(places.values()) <= 3, {name: place for name, place in places.items() if place > 3}
