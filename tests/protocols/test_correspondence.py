"""Matching errors: the floors of a 480x320 picture, conventions, masks, what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from refsr_bench.errors import RefsrError
from refsr_bench.geometry import apply_homography, patch_centres, similarity_about_centre, translation
from refsr_bench.models.matchers.floors import Identity, Oracle, Random
from refsr_bench.protocols.correspondence import (
    AEE,
    AEE_MEDIAN,
    PCK_4,
    PCK_8,
    VALID_FRACTION,
    MatchErrors,
    check_matches,
    match_errors,
)
from refsr_bench.protocols.inputs import Frame, prepare_inputs
from refsr_bench.protocols.spec import EvalProtocol
from refsr_bench.schema import Matches

HEIGHT, WIDTH = 320, 480
CANVAS = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
FRAME = Frame(0, 0, WIDTH, HEIGHT)

# transform: floor (half-cell centres), the same matches scored with (4i, 4j), no motion, valid nodes in percent
FLOORS = [
    (("angle_deg", 5), 1.51, 1.52, 12.7, 92),
    (("angle_deg", 10), 1.53, 1.56, 24.8, 88),
    (("angle_deg", 20), 1.53, 1.65, 47.8, 83),
    (("angle_deg", 30), 1.53, 1.79, 69.6, 79),
    (("angle_deg", 45), 1.53, 2.09, 100.6, 75),
    (("scale", 1.1), 1.49, 1.50, 13.3, 77),
    (("scale", 1.2), 1.57, 1.50, 24.5, 65),
    (("scale", 1.5), 1.41, 1.59, 48.8, 41),
    (("scale", 2.0), 2.83, 0.71, 74.4, 24),
    (("scale", 1 / 1.2), 1.52, 1.55, 25.3, 100),
    (("scale", 1 / 1.5), 1.68, 2.04, 50.6, 100),
    (("scale", 1 / 2), 1.41, 1.59, 75.9, 100),
]


def errors(matches: Matches, h: np.ndarray, centre: str = "half") -> MatchErrors:
    return match_errors(matches, lambda points: apply_homography(h, points), FRAME, FRAME, centre)


def oracle(h: np.ndarray) -> Matches:
    return Oracle().match(CANVAS, CANVAS, true_points=apply_homography(h, patch_centres(HEIGHT, WIDTH)))


@pytest.mark.parametrize(("transform", "floor", "by_corner", "still", "valid"), FLOORS, ids=lambda v: str(v))
def test_floors(transform: tuple[str, float], floor: float, by_corner: float, still: float, valid: int) -> None:
    h = similarity_about_centre(HEIGHT, WIDTH, **dict([transform]))
    perfect = errors(oracle(h), h)
    assert AEE.compute(perfect) == pytest.approx(floor, abs=0.03)
    assert AEE.compute(errors(oracle(h), h, "4i")) == pytest.approx(by_corner, abs=0.03)
    assert AEE.compute(errors(Identity().match(CANVAS, CANVAS), h)) == pytest.approx(still, abs=0.06)
    assert 100 * VALID_FRACTION.compute(perfect) == pytest.approx(valid, abs=0.6)
    assert PCK_4.compute(perfect) == 1


@pytest.mark.parametrize(
    ("transform", "expected"), [({}, 204.0), ({"angle_deg": 30.0}, 197.2), ({"scale": 0.5}, 167.6)], ids=str
)
def test_chance(transform: dict[str, float], expected: float) -> None:
    h = similarity_about_centre(HEIGHT, WIDTH, **transform)
    assert len(patch_centres(HEIGHT, WIDTH)) == 118 * 78
    assert AEE.compute(errors(Random(0).match(CANVAS, CANVAS), h)) == pytest.approx(expected, rel=0.02)


def test_no_transform_gives_the_oracle_no_error() -> None:
    perfect = errors(oracle(np.eye(3)), np.eye(3))
    assert AEE.compute(perfect) == 0
    assert AEE_MEDIAN.compute(perfect) == 0


@pytest.mark.parametrize("shift", [(3.0, 4.0), (-17.5, 0.25)])
def test_no_motion_is_wrong_by_the_length_of_a_translation(shift: tuple[float, float]) -> None:
    found = errors(Identity().match(CANVAS, CANVAS), translation(*shift))
    assert AEE.compute(found) == pytest.approx(np.hypot(*shift))
    assert PCK_8.compute(found) == float(np.hypot(*shift) <= 8)


def test_a_node_counts_ten_pixels_inside_the_reference() -> None:
    found = errors(Identity().match(CANVAS, CANVAS), np.eye(3))
    counted = patch_centres(HEIGHT, WIDTH)[found.counted]
    assert counted.min(axis=0).tolist() == [13.5, 13.5]
    assert counted.max(axis=0).tolist() == [WIDTH - 1 - 13.5, HEIGHT - 1 - 13.5]


def test_nodes_on_padding_and_unknown_points_do_not_count() -> None:
    matches = Identity().match(CANVAS, CANVAS)
    photograph = Frame(0, 0, 200, 100)

    def truth(points: np.ndarray) -> np.ndarray:
        return np.where(points[..., :1] < 50, np.nan, points)

    found = match_errors(matches, truth, photograph, FRAME)
    counted = patch_centres(HEIGHT, WIDTH)[found.counted]
    # The patch reaches 5.5 px around its centre, and lies wholly on the 200 x 100 px of the photograph.
    assert counted.min(axis=0).tolist() == [53.5, 13.5]
    assert counted.max(axis=0).tolist() == [193.5, 93.5]


def test_wrong_answers_are_refused() -> None:
    inputs = prepare_inputs(CANVAS[:40, :48], [CANVAS[:40, :48]], EvalProtocol())
    good = Identity().match(CANVAS[:40, :48], CANVAS[:40, :48])
    check_matches(good, inputs)
    for change, message in (
        ({"nodes": good.nodes + 0.5}, "patch centres"),
        ({"matches": good.matches[:-1]}, "for 80 nodes"),
        ({"matches": good.matches * np.nan}, "NaN"),
    ):
        with pytest.raises(RefsrError, match=message):
            check_matches(good._replace(**change), inputs)
