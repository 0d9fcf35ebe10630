"""How much the choice of the reference moves a model: its scores with one reference after the other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from refsr_bench.results.formats import aligned_rows, escape_markdown
from refsr_bench.results.leaderboard import format_value
from refsr_bench.schema import Row
from refsr_bench.signature import parse_signature


class Sensitivity(NamedTuple):
    """One metric with every reference rule, over the samples that all of them scored.

    ``spread`` is the mean over samples of the best rule's value minus the worst's.
    """

    metric: str
    samples: int
    means: dict[str, float]
    spread: float
    signature: str
    """With ``ref:each``: the rule stands in the row."""


def reference_sensitivity(rows: Mapping[str, Sequence[Row]]) -> list[Sensitivity]:
    """Means by rule and their spread, for every metric; ``rows`` are those of each rule's run."""
    tables = []
    for metric in dict.fromkeys(row.metric for each in rows.values() for row in each):
        values = {
            rule: {row.sample: row.value for row in each if row.metric == metric and row.value is not None}
            for rule, each in rows.items()
        }
        shared = set.intersection(*(set(each) for each in values.values()))
        if not shared:
            continue
        first = next(row for each in rows.values() for row in each if row.metric == metric)
        differences = [_span([each[sample] for each in values.values()]) for sample in sorted(shared)]
        tables.append(
            Sensitivity(
                metric,
                len(shared),
                {rule: _mean([each[sample] for sample in sorted(shared)]) for rule, each in values.items()},
                _mean(differences),
                _for_each(first.signature),
            )
        )
    return tables


def _span(values: Sequence[float]) -> float:
    return max(values) - min(values)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _for_each(signature: str) -> str:
    parsed = parse_signature(signature)
    return str(parsed._replace(fields=tuple((k, "each" if k == "ref" else v) for k, v in parsed.fields)))


def to_markdown(dataset: str, model: str, tables: Sequence[Sensitivity]) -> str:
    """One line a rule, one column a metric, and the spread below."""
    rules = list(tables[0].means) if tables else []
    header = ["reference", "images", *(f"{table.metric} [{i}]" for i, table in enumerate(tables, 1))]
    images = str(max((table.samples for table in tables), default=0))
    body = [[rule, images, *(format_value(t.signature, t.means[rule]) for t in tables)] for rule in rules]
    body.append(["spread", "", *(f"{table.spread:.4f}" for table in tables)])
    lines = [f"### {escape_markdown(dataset)}: {escape_markdown(model)} by reference", ""]
    lines += aligned_rows(header, body, left=(0,))
    lines += ["", "spread: the mean over images of the best reference's score minus the worst's.  "]
    lines += [f"[{i}] `{table.signature}`  " for i, table in enumerate(tables, 1)]
    return "\n".join(lines) + "\n"
