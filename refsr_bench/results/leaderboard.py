"""The leaderboard: group means of any number of runs, one table per protocol, one column per signature."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from refsr_bench.errors import SignatureMismatch
from refsr_bench.results.rows import Run
from refsr_bench.results.statistics import bootstrap_difference
from refsr_bench.schema import Row, RunInfo, TransformGroup
from refsr_bench.signature import parse_signature

METRIC_KEYS = frozenset({"ch", "win", "inf", "def", "mask", "gt", "px", "stride", "centre", "in"})
"""Signature keys that belong to one metric; runs that agree on all others share a table."""

ALL = "all"

Ruler = frozenset[tuple[str, str]]
"""The (key, value) pairs of a signature that are not its metric's own."""


class Cell(NamedTuple):
    """The mean of one column over one group of one run, and how many samples it rests on.

    ``low`` and ``high`` bound the mean's 95 % interval from a bootstrap over images; None below two images.
    """

    mean: float | None
    scored: int
    of: int
    capped: int
    low: float | None = None
    high: float | None = None


class Line(NamedTuple):
    """One run in one group."""

    model: str
    run: str
    group: str
    cells: dict[str, Cell]
    """Signature text to cell."""
    info: RunInfo | None = None

    @property
    def kind(self) -> str:
        """ "gan", "reference", "single-image", or "unknown" without a ``run.json``."""
        return self.info.model.kind if self.info else "unknown"

    @property
    def complete(self) -> bool:
        """Whether every sample of every column was scored; only then may the line be ranked."""
        return all(cell.scored == cell.of for cell in self.cells.values())


class Table(NamedTuple):
    """Lines that were measured under one protocol on the same samples; columns are signature texts."""

    dataset: str
    columns: tuple[str, ...]
    lines: tuple[Line, ...]


def make_tables(runs: Sequence[Run]) -> list[Table]:
    """Arrange runs into tables. Rows with different signatures are never in one column.

    Correspondences stand in the table of the pictures of a model that makes both: their ruler says less, and nothing
    else.
    """
    shared: list[tuple[Run, dict[tuple[str, Ruler], list[Row]]]] = []
    home: dict[tuple[str, Ruler], tuple[str, Ruler]] = {}
    for run in runs:
        by_ruler: dict[tuple[str, Ruler], list[Row]] = {}
        for row in run.rows:
            ruler = frozenset(parse_signature(row.signature).without(METRIC_KEYS))
            by_ruler.setdefault((row.dataset, ruler), []).append(row)
        shared.append((run, by_ruler))
        for dataset, ruler in by_ruler:
            wider = [other for name, other in by_ruler if name == dataset and ruler < other]
            if wider:
                home.setdefault((dataset, ruler), (dataset, max(wider, key=len)))
    grouped: dict[tuple[str, Ruler], dict[Path, tuple[Run, list[Row]]]] = {}
    for run, by_ruler in shared:
        for key, rows in by_ruler.items():
            grouped.setdefault(home.get(key, key), {}).setdefault(run.folder, (run, []))[1].extend(rows)
    tables = []
    for (dataset, ruler), members in sorted(grouped.items(), key=lambda item: (item[0][0], sorted(item[0][1]))):
        columns = list(dict.fromkeys(row.signature for _, rows in members.values() for row in rows))
        columns.sort(key=lambda column: not set(ruler) <= set(parse_signature(column).fields))  # pictures come first
        lines = [line for run, rows in members.values() for line in _lines(run, rows, columns)]
        tables.append(Table(dataset, tuple(columns), tuple(_rank(lines, columns))))
    return tables


def require_one_ranking(tables: Sequence[Table]) -> None:
    """`SignatureMismatch`, naming the choices that differ, unless all runs share one table and one ruler a metric."""
    seen: dict[str, set[str]] = {}
    for column in dict.fromkeys(column for table in tables for column in table.columns):
        signature = parse_signature(column)
        for key, value in signature.fields:
            # A key of one metric alone is compared with that metric's other columns only.
            name = f"{signature.metric} {key}" if key in METRIC_KEYS else key
            seen.setdefault(name, set()).add(value)
    different = [f"{key}: {', '.join(sorted(values))}" for key, values in seen.items() if len(values) > 1]
    if different:
        raise SignatureMismatch(
            "these runs were measured differently and cannot be ranked together:\n  " + "\n  ".join(different),
            "score them again under one protocol, or leave out --one-table",
        )


def _lines(run: Run, rows: Sequence[Row], columns: Sequence[str]) -> list[Line]:
    lines = []
    for model in dict.fromkeys(row.model for row in rows):
        own = [row for row in rows if row.model == model]
        groups = dict.fromkeys(row.group for row in own)
        # Samples of no group of their own are called "all" in a manifest: they count in the overall line alone.
        for group in dict.fromkeys([ALL, *groups]) if len(groups) > 1 else [ALL]:
            members = [row for row in own if group in (ALL, row.group)]
            cells = {column: _cell([row for row in members if row.signature == column]) for column in columns}
            lines.append(Line(model, run.folder.as_posix(), group, cells, run.info))
    return lines


def _cell(rows: Sequence[Row]) -> Cell:
    values = [row.value for row in rows if row.value is not None]
    mean = math.fsum(values) / len(values) if values else None
    capped = sum(row.status == "capped" for row in rows)
    low = high = None
    if len(values) > 1:
        _, low, high = bootstrap_difference(values, draws=2000)
    return Cell(mean, len(values), len(rows), capped, low, high)


def _rank(lines: Sequence[Line], columns: Sequence[str]) -> list[Line]:
    """Best first by the first column's overall mean, the next column's where there is none or it is equal.

    Runs with failed samples come last, unranked.
    """
    overall = {(line.run, line.model): line for line in lines if line.group == ALL}

    def key(line: Line) -> tuple[bool, list[float]]:
        total = overall[line.run, line.model]
        means = [(total.cells[column].mean, 1 if lower_is_better(column) else -1) for column in columns]
        return (not total.complete, [math.inf if mean is None else sign * mean for mean, sign in means])

    return sorted(lines, key=key)


def lower_is_better(column: str) -> bool:
    """Whether a smaller mean is the better one in a column, told from its metric's name."""
    return parse_signature(column).metric.startswith(("aee", "lpips", "dists", "niqe"))


def is_outdated(column: str, definitions: Mapping[str, str]) -> bool:
    """Whether a column's metric has another definition today; ``definitions`` are the present versions by name."""
    signature = parse_signature(column)
    version = dict(signature.fields).get("def")
    return version is not None and definitions.get(signature.metric, version) != version


_IN_UNIT_RANGE = ("ssim", "lpips", "dists", "pck", "valid_fraction")


def format_value(column: str, value: float) -> str:
    """A value with the digits its metric deserves: four for similarities in [0, 1], two for dB and px."""
    return f"{value:.{4 if parse_signature(column).metric.startswith(_IN_UNIT_RANGE) else 2}f}"


def best_means(table: Table) -> dict[str, str]:
    """The best mean of every column over all groups' lines that are complete, as it is printed."""
    best = {}
    for column in table.columns:
        means = [
            cell.mean
            for line in table.lines
            if line.group == ALL and line.complete and (cell := line.cells[column]).mean is not None
        ]
        if means:
            best[column] = format_value(column, (min if lower_is_better(column) else max)(means))
    return best


UPPER_BOUND = "The references are made from the HR pictures themselves: upper bounds, never realistic scores."


def is_upper_bound(table: Table) -> bool:
    """Whether the references are the HR pictures, rotated or scaled."""
    return any(TransformGroup.parse(line.group) for line in table.lines)


def is_ambiguous(table: Table) -> bool:
    """Whether a model's name alone does not tell its lines apart."""
    return len({line.run for line in table.lines}) > len({line.model for line in table.lines})
