"""Two runs side by side, image by image."""

from __future__ import annotations

from typing import NamedTuple

from refsr_bench.errors import SignatureMismatch, UsageError
from refsr_bench.results.rows import Run
from refsr_bench.results.statistics import Difference, bootstrap_difference, holm_adjust, randomisation_p_value
from refsr_bench.schema import Row
from refsr_bench.signature import parse_signature


class Change(NamedTuple):
    """One metric's change from run A to run B over the samples both scored."""

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
    return Change(
        metric=metric,
        signature=rows_a[0].signature,
        mean_a=sum(a[sample] for sample in common) / len(common),
        mean_b=sum(b[sample] for sample in common) / len(common),
        difference=bootstrap_difference(values),
        p_value=randomisation_p_value(values),
        better=sum(value > 0 for value in values),
        worse=sum(value < 0 for value in values),
        samples=tuple(sorted(differences.items(), key=lambda item: item[1])),
        left_out=tuple(sample for sample in everything if sample not in differences),
    )


def describe_change(change: Change, name_a: str, name_b: str) -> str:
    """One plain sentence about a change."""
    unit = " dB" if change.metric.startswith("psnr") else ""
    digits = 2 if unit else 4
    mean, low, high = (f"{value:+.{digits}f}" for value in change.difference)
    size = len(change.samples)
    certain = change.difference.low > 0 or change.difference.high < 0
    verdict = ("better" if change.difference.mean > 0 else "worse") if certain else "not distinguishable"
    relation = "from" if verdict == "not distinguishable" else "than"
    return (
        f"{change.metric}: {name_b} is {verdict} {relation} {name_a}, {mean}{unit} on {size} images "
        f"(95 % interval {low} to {high}; better on {change.better}, worse on {change.worse}; p = {change.p_value:.2g})"
    )
