"""What rotation and scale do to a matcher or model: group means and curves of runs on a transformed set (Fig. 6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from refsr_bench.errors import SignatureMismatch, UsageError
from refsr_bench.results.leaderboard import UPPER_BOUND, format_value
from refsr_bench.results.rows import Run
from refsr_bench.results.statistics import Difference, bootstrap_difference
from refsr_bench.schema import Row, TransformGroup

LEVELS = ("small", "medium", "large")
CONTROLS = ("identity", "unrelated", "black")


class Point(NamedTuple):
    """Mean of a metric over the samples of one group, with its 95 % interval, and on how many it rests."""

    mean: Difference
    scored: int
    of: int


class Series(NamedTuple):
    """One model's or matcher's values of one metric on a transformed set."""

    model: str
    metric: str
    signature: str
    levels: dict[tuple[str, str], Point]
    """(kind, small | medium | large) to its mean."""
    curves: dict[str, list[tuple[float, Point]]]
    """Kind to (exact degrees or factor, mean), ascending."""
    controls: dict[str, Point]
    """identity, unrelated, black."""


def robustness_series(runs: Sequence[Run], metrics: Sequence[str]) -> list[Series]:
    """Series of the given metrics, as far as the runs have them, in the runs' order.

    `UsageError` if no run is on a transformed set; `SignatureMismatch` if a metric was measured in two ways.
    """
    series = []
    for metric in metrics:
        for run in runs:
            for model in dict.fromkeys(row.model for row in run.rows):
                rows = [row for row in run.rows if (row.model, row.metric) == (model, metric)]
                if any(TransformGroup.parse(row.group) for row in rows):
                    series.append(_series(model, metric, rows))
        rulers = list(dict.fromkeys(each.signature for each in series if each.metric == metric))
        if len(rulers) > 1:
            raise SignatureMismatch(
                f"{metric} was measured in different ways:\n  " + "\n  ".join(rulers),
                "only numbers with equal signatures can be drawn together",
            )
    if not series:
        raise UsageError(
            f"no run has {' or '.join(metrics)} on a transformed set",
            "make one with: refsr-bench build transformed --of NAME, then: refsr-bench robustness MODEL --dataset SET",
        )
    return series


def _series(model: str, metric: str, rows: Sequence[Row]) -> Series:
    levels: dict[tuple[str, str], Point] = {}
    curves: dict[str, list[tuple[float, Point]]] = {}
    controls: dict[str, Point] = {}
    for name in dict.fromkeys(row.group for row in rows):
        point = _point([row for row in rows if row.group == name])
        group = TransformGroup.parse(name)
        if point is None:
            continue
        if group is None:
            if name.removeprefix("control-") in CONTROLS:
                controls[name.removeprefix("control-")] = point
        elif group.level is not None:
            levels[group.kind, group.level] = point
        else:
            assert group.value is not None
            curves.setdefault(group.kind, []).append((group.value, point))
    ordered = {kind: sorted(points) for kind, points in curves.items()}
    return Series(model, metric, rows[0].signature, levels, ordered, controls)


def _point(rows: Sequence[Row]) -> Point | None:
    values = [row.value for row in rows if row.value is not None]
    return Point(bootstrap_difference(values, draws=2000), len(values), len(rows)) if values else None


def to_markdown(series: Sequence[Series]) -> str:
    """A table a kind of transform: a line a model and metric, small, medium, large, and the controls."""
    kinds = list(dict.fromkeys(kind for each in series for kind, _ in each.levels))
    controls = [name for name in CONTROLS if any(name in each.controls for each in series)]
    text = []
    for kind in kinds:
        header = ["model", "metric", *LEVELS, *(f"control: {name}" for name in controls)]
        body = []
        for each in series:
            points = [each.levels.get((kind, level)) for level in LEVELS] + [each.controls.get(c) for c in controls]
            body.append([each.model, each.metric, *(_cell(each.signature, point) for point in points)])
        widths = [max(len(row[i]) for row in [header, *body]) for i in range(len(header))]
        rules = ["-" * w if i < 2 else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
        text += [f"### {kind}", ""]
        for row in [header, rules, *body]:
            cells = (c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
            text.append(f"| {' | '.join(cells)} |")
        text.append("")
    text += [f"[{each.metric}] `{each.signature}`  " for each in {each.metric: each for each in series}.values()]
    return "\n".join([*text, "", UPPER_BOUND, ""])


def _cell(signature: str, point: Point | None) -> str:
    if point is None:
        return "-"
    missing = f" ({point.scored} of {point.of})" if point.scored < point.of else ""
    return format_value(signature, point.mean.mean) + missing
