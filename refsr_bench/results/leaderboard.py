"""The leaderboard: group means of any number of runs, one table per protocol, one column per signature."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from refsr_bench.errors import SignatureMismatch
from refsr_bench.results.rows import Run
from refsr_bench.schema import Row, TransformGroup
from refsr_bench.signature import parse_signature

METRIC_KEYS = frozenset({"ch", "win", "inf", "def", "mask", "gt", "px", "stride", "centre", "in"})
"""Signature keys that belong to one metric; runs that agree on all others share a table."""

DIGITS = {"ssim_y": 4, "ssim_rgb": 4, "pck@4": 3, "pck@8": 3, "valid_fraction": 3}
"""Decimals a metric is printed with; two if it is not named."""

ALL = "all"

Ruler = tuple[tuple[str, str], ...]


class Cell(NamedTuple):
    """The mean of one column over one group of one run, and how many samples it rests on."""

    mean: float | None
    scored: int
    of: int
    capped: int


class Line(NamedTuple):
    """One run in one group."""

    model: str
    run: str
    group: str
    cells: dict[str, Cell]
    """Signature text to cell."""

    @property
    def complete(self) -> bool:
        """Whether every sample of every column was scored; only then may the line be ranked."""
        return all(cell.scored == cell.of for cell in self.cells.values())


class Table(NamedTuple):
    """Lines that were measured under one protocol on the same samples; columns are signature texts."""

    dataset: str
    columns: tuple[str, ...]
    lines: tuple[Line, ...]


def make_tables(runs: Sequence[Run], lower_is_better: frozenset[str] = frozenset()) -> list[Table]:
    """Arrange runs into tables. Rows with different signatures are never in one column.

    A run's correspondences stand in the table of its pictures: their ruler says less, and nothing else.
    """
    grouped: dict[tuple[str, Ruler], list[tuple[Run, list[Row]]]] = {}
    for run in runs:
        shared: dict[tuple[str, Ruler], list[Row]] = {}
        for row in run.rows:
            ruler = parse_signature(row.signature).without(METRIC_KEYS)
            shared.setdefault((row.dataset, tuple(sorted(ruler))), []).append(row)
        for (dataset, ruler), rows in shared.items():
            wider = [r for d, r in shared if d == dataset and set(ruler) < set(r)]
            grouped.setdefault((dataset, max(wider, key=len, default=ruler)), []).append((run, rows))
    tables = []
    for (dataset, _), members in sorted(grouped.items(), key=lambda item: str(item[0])):
        columns = tuple(dict.fromkeys(row.signature for _, rows in members for row in rows))
        whole = {run.folder: run for run, _ in members}
        rows_of = {folder: [row for run, rows in members if run.folder == folder for row in rows] for folder in whole}
        lines = [line for folder, run in whole.items() for line in _lines(run, rows_of[folder], columns)]
        tables.append(Table(dataset, columns, tuple(_rank(lines, columns, lower_is_better))))
    return tables


def require_one_ranking(tables: Sequence[Table]) -> None:
    """`SignatureMismatch`, naming the choices that differ, unless all runs share one table and one ruler a metric."""
    if not tables:
        return
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
        groups = list(dict.fromkeys(row.group for row in own))
        for group in [ALL, *groups] if len(groups) > 1 else [ALL]:
            members = [row for row in own if group in (ALL, row.group)]
            cells = {column: _cell([row for row in members if row.signature == column]) for column in columns}
            lines.append(Line(model, run.folder.as_posix(), group, cells))
    return lines


def _cell(rows: Sequence[Row]) -> Cell:
    values = [row.value for row in rows if row.value is not None]
    mean = math.fsum(values) / len(values) if values else None
    return Cell(mean, len(values), len(rows), sum(row.status == "capped" for row in rows))


def _rank(lines: Sequence[Line], columns: Sequence[str], lower_is_better: frozenset[str]) -> list[Line]:
    """Best first by the first column's overall mean; runs with failed samples come last, unranked."""
    sign = 1 if parse_signature(columns[0]).metric in lower_is_better else -1
    overall = {(line.run, line.model): line for line in lines if line.group == ALL}

    def key(line: Line) -> tuple[bool, float]:
        total = overall[line.run, line.model]
        mean = total.cells[columns[0]].mean
        return (not total.complete, math.inf if mean is None else sign * mean)

    return sorted(lines, key=key)


def to_json(tables: Sequence[Table]) -> list[dict[str, Any]]:
    """The tables as plain JSON values."""
    return [
        {
            "dataset": table.dataset,
            "lines": [
                {
                    "model": line.model,
                    "run": line.run,
                    "group": line.group,
                    "complete": line.complete,
                    "cells": [{"signature": s, **cell._asdict()} for s, cell in line.cells.items() if cell.of],
                }
                for line in table.lines
            ],
        }
        for table in tables
    ]


def to_markdown(tables: Sequence[Table]) -> str:
    """The tables as Markdown, every column's signature written out below its table."""
    return "\n".join(_table_markdown(table) for table in tables)


def _table_markdown(table: Table) -> str:
    names = [parse_signature(column).metric for column in table.columns]
    header = ["model", "group", "images", *(f"{name} [{i}]" for i, name in enumerate(names, 1))]
    ambiguous = len({line.run for line in table.lines}) > len({line.model for line in table.lines})
    body = [_line_markdown(line, table.columns, ambiguous) for line in table.lines]
    widths = [max(len(row[i]) for row in [header, *body]) for i in range(len(header))]
    rules = ["-" * width if i < 2 else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
    text = [f"### {_escape(table.dataset)}", ""]
    for row in [header, rules, *body]:
        cells = (cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True)))
        text.append(f"| {' | '.join(cells)} |")
    text += ["", *(f"[{i}] `{column}`" + "  " for i, column in enumerate(table.columns, 1))]
    if not all(line.complete for line in table.lines):
        text.append("\\* some samples failed: the mean covers only the scored ones and is not ranked.  ")
    capped = max((cell.capped for line in table.lines for cell in line.cells.values()), default=0)
    if any(TransformGroup.parse(line.group) for line in table.lines):
        text.append("The references are made from the HR pictures themselves: upper bounds, not realistic scores.  ")
    if capped:
        text.append(f"Identical pictures occur (up to {capped} in a cell) and count as their signature's cap.  ")
    return "\n".join(text) + "\n"


def _line_markdown(line: Line, columns: Sequence[str], with_run: bool) -> list[str]:
    label = _escape(f"{line.model} ({line.run})" if with_run else line.model)
    of = max(cell.of for cell in line.cells.values())
    scored = min((cell.scored for cell in line.cells.values() if cell.of == of), default=0)
    cells = []
    for column in columns:
        mean = line.cells[column].mean
        digits = DIGITS.get(parse_signature(column).metric, 2)
        cells.append("-" if mean is None else f"{mean:.{digits}f}" + ("" if line.complete else "*"))
    return [label, _escape(line.group), str(of) if scored == of else f"{scored} of {of}", *cells]


def _escape(text: str) -> str:
    printable = "".join(c if c.isprintable() else "?" for c in text)
    return "".join("\\" + c if c in r"\|`*_<>[]#" else c for c in printable)
