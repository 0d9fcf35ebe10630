"""Two runs side by side, image by image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from refsr_bench.errors import SignatureMismatch, UsageError
from refsr_bench.results.leaderboard import format_value, lower_is_better
from refsr_bench.results.noise import ProtocolNoise
from refsr_bench.results.rows import Run
from refsr_bench.results.statistics import Difference, bootstrap_difference, holm_adjust, randomisation_p_value
from refsr_bench.schema import Row
from refsr_bench.signature import parse_signature


class Change(NamedTuple):
    """One metric's change from run A to run B over the samples both scored.

    Means and differences (B - A) are the metric's own, so an error that grew is positive; what is better or worse, and
    the order of the samples, follow the metric's direction.
    """

    metric: str
    signature: str
    mean_a: float
    mean_b: float
    difference: Difference
    p_value: float
    """Holm-corrected over the metrics compared."""
    better: int
    worse: int
    samples: tuple[tuple[str, float], ...]
    """(sample, B - A), worst first."""
    left_out: tuple[str, ...]
    """Samples that failed in one of the runs."""

    @property
    def gain(self) -> float:
        """How much better B is in the mean: the difference, turned round where lower is better."""
        return _direction(self.metric) * self.difference.mean


def compare_runs(a: Run, b: Run) -> list[Change]:
    """Changes from a to b, one a metric.

    `SignatureMismatch` names the first key in which the two runs' rulers differ; `UsageError` if a run holds several
    models or the two share no scored sample.
    """
    rows_a, rows_b = _by_metric(a), _by_metric(b)
    shared = [metric for metric in rows_a if metric in rows_b]
    if not shared:
        raise UsageError(f"{a.folder} and {b.folder} share no metric")
    changes = []
    for metric in shared:
        _require_same_ruler(rows_a[metric], rows_b[metric])
        changes.append(_change(metric, rows_a[metric], rows_b[metric]))
    adjusted = holm_adjust([change.p_value for change in changes])
    return [change._replace(p_value=p) for change, p in zip(changes, adjusted, strict=True)]


def _by_metric(run: Run) -> dict[str, list[Row]]:
    if len({row.model for row in run.rows}) != 1:
        raise UsageError(f"{run.folder}: a run of exactly one model is needed")
    grouped: dict[str, list[Row]] = {}
    for row in run.rows:
        grouped.setdefault(row.metric, []).append(row)
    return grouped


def _require_same_ruler(rows_a: list[Row], rows_b: list[Row]) -> None:
    a, b = (dict(parse_signature(rows[0].signature).fields) for rows in (rows_a, rows_b))
    for key in dict.fromkeys([*a, *b]):
        if a.get(key) != b.get(key):
            raise SignatureMismatch(
                f"the two runs were measured differently: {key} is {a.get(key)} in one and {b.get(key)} in the other",
                "only numbers with equal signatures can be compared",
            )


def _change(metric: str, rows_a: list[Row], rows_b: list[Row]) -> Change:
    a, b = ({row.sample: row.value for row in rows if row.value is not None} for rows in (rows_a, rows_b))
    common = [sample for sample in a if sample in b]
    if not common:
        raise UsageError(f"the two runs share no sample that both scored with {metric}")
    differences = {sample: b[sample] - a[sample] for sample in common}
    values = list(differences.values())
    everything = dict.fromkeys(row.sample for row in [*rows_a, *rows_b])
    better, worse = _count_better_and_worse(metric, values)
    return Change(
        metric=metric,
        signature=rows_a[0].signature,
        mean_a=sum(a[sample] for sample in common) / len(common),
        mean_b=sum(b[sample] for sample in common) / len(common),
        difference=bootstrap_difference(values),
        p_value=randomisation_p_value(values),
        better=better,
        worse=worse,
        samples=tuple(sorted(differences.items(), key=lambda item: _direction(metric) * item[1])),
        left_out=tuple(sample for sample in everything if sample not in differences),
    )


def _direction(metric: str) -> int:
    return -1 if lower_is_better(metric) else 1


def _count_better_and_worse(metric: str, differences: Sequence[float]) -> tuple[int, int]:
    gains = [_direction(metric) * value for value in differences]
    return sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)


def is_certain(difference: Difference) -> bool:
    """Whether a difference's interval leaves out zero."""
    return difference.low > 0 or difference.high < 0


def describe_change(change: Change, name_a: str, name_b: str, noise: ProtocolNoise | None = None) -> str:
    """One plain sentence about a change, with a warning where the protocol alone could have made it."""
    values = [value for _, value in change.samples]
    return describe_difference(change.metric, name_a, name_b, values, change.difference, change.p_value, noise)


def describe_difference(
    metric: str,
    name_a: str,
    name_b: str,
    values: Sequence[float],
    difference: Difference,
    p_value: float,
    noise: ProtocolNoise | None,
) -> str:
    """One plain sentence about paired differences ``values`` = B - A of a metric."""
    unit = " dB" if metric.startswith("psnr") else " px" if metric.startswith("aee") else ""
    mean, low, high = (("-" if v < 0 else "+") + format_value(metric, abs(v)) for v in difference)
    better, worse = _count_better_and_worse(metric, values)
    if not is_certain(difference):
        verdict = "not distinguishable from"
    else:
        verdict = "better than" if _direction(metric) * difference.mean > 0 else "worse than"
    warning = noise.describe(metric, difference.mean) if noise and verdict != "not distinguishable from" else ""
    return (
        f"{metric}: {name_b} is {verdict} {name_a}, {mean}{unit} on {len(values)} images "
        f"(95 % interval {low} to {high}; better on {better}, worse on {worse}; p = {p_value:.2g})"
        + (f"; {warning}" if warning else "")
    )
