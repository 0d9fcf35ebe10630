"""The built-in matchers: what they see, what they answer, what they refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from refsr_bench.errors import ManualStepNeeded, UsageError
from refsr_bench.geometry import apply_homography, patch_centres, similarity_about_centre, translation, warp_image
from refsr_bench.images import load_image
from refsr_bench.lookup import find, find_card, list_entries
from refsr_bench.models.base import Matcher
from refsr_bench.models.c2matching.extractor import Extractor
from refsr_bench.models.c2matching.inference import C2Matching
from refsr_bench.models.c2matching.restoration import Restoration
from refsr_bench.models.matchers import learned
from refsr_bench.models.matchers.floors import Random
from refsr_bench.models.matchers.sift import build as build_sift
from refsr_bench.models.vgg import VGG19

WITHOUT_WEIGHTS = {"c2-student": {"untrained": "yes"}, "c2-teacher": {"untrained": "yes"}}


@pytest.fixture(scope="module")
def cat(photographs: Path) -> np.ndarray:
    return load_image(photographs / "chelsea.png")[40:200, 100:340]


@pytest.mark.parametrize("name", [name for name in list_entries("matchers") if name not in {"oracle", "vgg19"}])
def test_every_matcher_answers_for_every_patch_of_any_size(name: str, cat: np.ndarray) -> None:
    matcher = find("matchers", name)(**WITHOUT_WEIGHTS.get(name, {}))
    assert isinstance(matcher, Matcher)
    assert find_card("matchers", name) is not None
    picture, ref = cat[:64, :84], cat[:100, 20:80]
    found = matcher.match(picture, ref)
    assert np.array_equal(found.nodes, patch_centres(64, 84))
    assert found.matches.shape == found.nodes.shape
    assert found.score.shape == found.nodes.shape[:1]
    assert np.isfinite(found.matches).all()
    assert np.array_equal(matcher.match(picture, ref).matches, found.matches)


@pytest.mark.parametrize("name", ["c2-student", "c2-teacher"])
def test_random_features_still_find_what_was_only_moved(name: str, cat: np.ndarray) -> None:
    matcher = find("matchers", name)(untrained="yes")
    assert matcher.card.name == f"{name}-untrained"
    found = matcher.match(cat[:96, :96], cat[8:104, 4:100])
    inside = np.all((found.nodes > 24) & (found.nodes < 72), axis=1)
    error = np.linalg.norm(found.matches - (found.nodes - [4, 8]), axis=1)[inside]
    assert np.mean(error < 1) > 0.95


def test_student_and_teacher_ask_for_weights_and_say_how_to_do_without() -> None:
    for build in (learned.build_student, learned.build_teacher):
        with pytest.raises(ManualStepNeeded, match="untrained=yes"):
            build()
    with pytest.raises(UsageError, match="neither yes nor no"):
        learned.build_student(untrained="maybe")
    with pytest.raises(ManualStepNeeded):
        learned.build_vgg19()


def test_the_teacher_sees_the_hr_picture_and_only_the_oracle_the_truth() -> None:
    seen = {name: find_card("matchers", name).sees for name in list_entries("matchers")}
    assert {name for name, what in seen.items() if what == "hr"} == {"c2-teacher"}
    assert {name for name, what in seen.items() if what == "truth"} == {"oracle"}


@pytest.mark.parametrize("transform", [{"angle_deg": 30.0}, {"angle_deg": 180.0}, {"scale": 0.7}, {"scale": 1.4}])
def test_sift_follows_turns_and_scales(cat: np.ndarray, transform: dict[str, float]) -> None:
    height, width = cat.shape[:2]
    h = similarity_about_centre(height, width, **transform)
    ref, _ = warp_image(cat, h, height, width)
    found = build_sift().match(cat, ref)
    true = apply_homography(h, found.nodes)
    inside = np.all((true > 10) & (true < [width - 11, height - 11]), axis=1)
    assert np.median(np.linalg.norm(found.matches - true, axis=1)[inside]) < 2


def test_sift_without_key_points_moves_nothing() -> None:
    flat = np.full((40, 60, 3), 90, np.uint8)
    found = build_sift().match(flat, flat)
    assert np.array_equal(found.matches, found.nodes)
    for ratio in ("0", "1.1", "x", "nan"):
        with pytest.raises(UsageError, match="ratio of sift"):
            build_sift(ratio)


def test_chance_depends_on_pictures_and_seed_alone(cat: np.ndarray) -> None:
    picture, ref = cat[:64, :84], cat[:100, 20:80]
    first = Random(0).match(picture, ref).matches
    assert not np.array_equal(first, Random(1).match(picture, ref).matches)
    assert not np.array_equal(first, Random(0).match(picture, cat[1:101, 20:80]).matches)
    assert {tuple(point) for point in first} <= {tuple(point) for point in patch_centres(100, 60)}


def test_vgg19_matches_a_moved_picture(dev_data: Path, tmp_path: Path, cat: np.ndarray) -> None:
    arrays = np.load(dev_data / "weights" / "vgg19_conv1_1-conv3_1_float32_bgr_caffe.npz")
    torch.save({key: torch.from_numpy(arrays[key]) for key in arrays}, tmp_path / "vgg19-dcbb9e9d.pth")
    sharp = learned.build_vgg19(tmp_path, blur_reference="no")
    assert sharp.card.name == "vgg19-sharp"
    found = sharp.match(cat[:96, :96], cat[8:104, 4:100])
    inside = np.all((found.nodes > 24) & (found.nodes < 72), axis=1)
    true = apply_homography(translation(-4, -8), found.nodes)
    assert np.mean(np.linalg.norm(found.matches - true, axis=1)[inside] < 1) > 0.95
    assert learned.build_vgg19(tmp_path).card.name == "vgg19"


def test_c2matching_matches_as_its_student_does(cat: np.ndarray) -> None:
    torch.manual_seed(0)
    card = find_card("models", "c2matching")
    model = C2Matching(card, Extractor(), VGG19(), Restoration(), torch.device("cpu"))
    assert isinstance(model, Matcher)
    found = model.match(cat[:64, :84], cat[:100, 20:80])
    assert np.array_equal(found.nodes, patch_centres(64, 84))
