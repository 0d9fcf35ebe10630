"""Correspondence metrics: how far a matcher's points are from the true ones.

One definition: every 3x3-cell patch of the input's stride-4 feature map is a node at its centre, cell (i, j) standing
for HR pixel (4i + 1.5, 4j + 1.5). A node counts if its patch lies on the input's picture, its true point is known, and
that point lies at least 10 px inside the reference's picture. Errors are Euclidean distances in HR pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from refsr_bench.errors import RefsrError
from refsr_bench.geometry import CELL_PX, PATCH_CELLS, patch_centres
from refsr_bench.protocols.inputs import Frame, Inputs
from refsr_bench.protocols.spec import PROTOCOL_LR, EvalProtocol, Metric
from refsr_bench.protocols.truth import TrueMap
from refsr_bench.schema import Matches
from refsr_bench.signature import Signature, make_signature

IN_FRAME_PX = 10.0
"""How far inside the reference a true point must lie; the released training code asks the same."""


class MatchErrors(NamedTuple):
    """Distances of the nodes that count, HR px, and which of all nodes those are."""

    distances_px: NDArray[np.float64]
    counted: NDArray[np.bool_]


def check_matches(matches: Matches, inputs: Inputs) -> None:
    """Refuse, with what it looks like, anything that is not one finite match for every node of the input."""
    expected = patch_centres(*inputs.hr_canvas.shape[:2])
    if matches.nodes.shape != expected.shape or not np.array_equal(matches.nodes, expected):
        raise RefsrError(
            f"the matcher's nodes {matches.nodes.shape} are not the {len(expected)} patch centres of the input",
            "return refsr_bench.geometry.patch_centres(height, width) of the picture it was given",
        )
    if matches.matches.shape != expected.shape or matches.score.shape != expected.shape[:1]:
        raise RefsrError(
            f"the matcher returned matches {matches.matches.shape} and scores {matches.score.shape} "
            f"for {len(expected)} nodes"
        )
    if not np.isfinite(matches.matches).all():
        raise RefsrError("the matcher returned NaN or infinite positions")


def match_errors(
    matches: Matches, truth: TrueMap, hr_frame: Frame, ref_frame: Frame, centre: str = "half"
) -> MatchErrors:
    """End-point errors of the nodes that count; everything in pixels of the canvases.

    centre : ``4i`` scores the same matched cells as the released training code reads them, each as the pixel at its
    top-left corner instead of the one at its centre.
    """
    shift = (CELL_PX - 1) / 2 if centre == "4i" else 0.0
    nodes, found = matches.nodes - shift, matches.matches - shift
    true = truth(nodes)
    reach = (CELL_PX * PATCH_CELLS - 1) / 2
    with np.errstate(invalid="ignore"):
        counted = _inside(matches.nodes, hr_frame, reach) & _inside(true, ref_frame, IN_FRAME_PX)
    return MatchErrors(np.linalg.norm(found[counted] - true[counted], axis=1), counted)


def _inside(points: NDArray[np.float64], frame: Frame, margin_px: float) -> NDArray[np.bool_]:
    first = np.array([frame.x, frame.y]) + margin_px
    last = np.array([frame.x + frame.width - 1, frame.y + frame.height - 1]) - margin_px
    inside: NDArray[np.bool_] = np.all((points >= first) & (points <= last), axis=1)
    return inside


def match_signature(
    metric: Metric,
    protocol: EvalProtocol,
    *,
    dataset_id: str,
    samples: int,
    refs_rule: str,
    with_truth: int,
    sees: str,
    lr: str = PROTOCOL_LR,
    subset: str | None = None,
) -> Signature:
    """Signature of a correspondence number; of a protocol it holds what decides the pictures that are matched.

    sees : the card's word for what the matcher is shown (`refsr_bench.schema.ModelCard.sees`).
    lr, subset : as in `refsr_bench.protocols.spec.signature_of`.
    """
    return make_signature(
        metric.name,
        {
            "px": "hr",
            "stride": str(CELL_PX),
            "centre": metric.keys["centre"],
            "mask": f"inframe{IN_FRAME_PX:g}",
            "in": "hr" if sees == "hr" else "lrup",
            "data": dataset_id,
            **({} if subset is None else {"sub": subset}),
            "n": str(samples),
            "gt": str(with_truth),
            "ref": refs_rule,
            "x": str(protocol.scale),
            "lr": protocol.downsample if lr == PROTOCOL_LR else lr,
            "mod": protocol.mod,
            "pad": protocol.pad,
            "agg": "mean",
            "def": metric.keys["def"],
        },
    )


def _mean(errors: MatchErrors) -> float:
    return float(errors.distances_px.mean())


def _share_within(limit_px: float) -> Callable[[MatchErrors], float]:
    return lambda errors: float((errors.distances_px <= limit_px).mean())


_HALF = {"centre": "half", "def": "1"}

AEE = Metric("aee", "AEE", "px", _mean, _HALF, on="matches")
AEE_MEDIAN = Metric("aee_median", "median", "px", lambda e: float(np.median(e.distances_px)), _HALF, on="matches")
PCK_4 = Metric("pck@4", "PCK@4", "", _share_within(4), _HALF, on="matches")
PCK_8 = Metric("pck@8", "PCK@8", "", _share_within(8), _HALF, on="matches")
VALID_FRACTION = Metric("valid_fraction", "valid nodes", "", lambda e: float(e.counted.mean()), _HALF, on="matches")
AEE_4I = Metric("aee_4i", "AEE, training convention", "px", _mean, {"centre": "4i", "def": "1"}, on="matches")
