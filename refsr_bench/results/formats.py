"""The leaderboard as text: JSON, Markdown, CSV and LaTeX, with names that cannot act in any of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Sequence
from typing import Any

from refsr_bench.results.leaderboard import (
    ALL,
    UPPER_BOUND,
    Line,
    Table,
    best_means,
    format_value,
    is_ambiguous,
    is_upper_bound,
)
from refsr_bench.signature import parse_signature


def to_json(tables: Sequence[Table]) -> list[dict[str, Any]]:
    """The tables as plain JSON values."""
    return [
        {
            "dataset": table.dataset,
            "lines": [
                {
                    "model": line.model,
                    "kind": line.kind,
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


def printable(text: str) -> str:
    """Text whose control characters, terminal escapes and direction marks are replaced by question marks.

    >>> printable("a\\x1b[31m\\u202eb")
    'a?[31m?b'
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it stands."""
    return "".join("\\" + c if c in r"\|`*<>[]#" else c for c in printable(text))


def escape_csv(text: str) -> str:
    """Text that no spreadsheet takes for a formula: a leading = + - @ is preceded by an apostrophe.

    >>> escape_csv("=1+1")
    "'=1+1"
    """
    shown = printable(text)
    return "'" + shown if shown.lstrip()[:1] in tuple("=+-@|%＝＋－＠") else shown


_LATEX = {c: "\\" + c for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    **{c: f"{{{c}}}" for c in "[]*"},  # after a line break they would be its arguments
}


def escape_latex(text: str) -> str:
    """Text without a single active character.

    >>> escape_latex(r"50% \\input{x}")
    '50\\\\% \\\\textbackslash{}input\\\\{x\\\\}'
    """
    return "".join(_LATEX.get(c, c) for c in printable(text))


def aligned_rows(header: Sequence[str], body: Sequence[Sequence[str]], *, left: Collection[int]) -> list[str]:
    """Lines of a Markdown table whose columns are as wide as they must be; those in ``left`` are set to the left."""
    widths = [max(len(row[i]) for row in [header, *body]) for i in range(len(header))]
    rules = ["-" * width if i in left else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
    return [
        "| "
        + " | ".join(
            cell.ljust(w) if i in left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        + " |"
        for row in [header, rules, *body]
    ]


def to_markdown(tables: Sequence[Table]) -> str:
    """The tables as Markdown, every column's signature written out below its table."""
    return "\n".join(_table_markdown(table) for table in tables)


def _table_markdown(table: Table) -> str:
    names = [parse_signature(column).metric for column in table.columns]
    header = ["model", "group", "images", *(f"{name} [{i}]" for i, name in enumerate(names, 1))]
    body = [_line_markdown(line, table.columns, is_ambiguous(table)) for line in table.lines]
    text = [f"### {escape_markdown(table.dataset)}", "", *aligned_rows(header, body, left=(0, 1))]
    text += ["", "In brackets: the 95 % interval of the mean, from a bootstrap over images.  "]
    text += [*(f"[{i}] `{printable(column).replace('`', '?')}`" + "  " for i, column in enumerate(table.columns, 1))]
    if not all(line.complete for line in table.lines):
        text.append("\\* some samples failed: the mean covers only the scored ones and is not ranked.  ")
    capped = max((cell.capped for line in table.lines for cell in line.cells.values()), default=0)
    if is_upper_bound(table):
        text.append(f"{UPPER_BOUND}  ")
    if capped:
        text.append(f"Identical pictures occur (up to {capped} in a cell) and count as their signature's cap.  ")
    return "\n".join(text) + "\n"


def _line_markdown(line: Line, columns: Sequence[str], with_run: bool) -> list[str]:
    label = escape_markdown(f"{line.model} ({line.run})" if with_run else line.model)
    of = max((cell.of for cell in line.cells.values()), default=0)  # fewer where not every sample has such a number
    scored = min((cell.scored for cell in line.cells.values() if cell.of == of), default=0)
    cells = []
    for column in columns:
        cell = line.cells[column]
        if cell.mean is None:
            cells.append("-")
            continue
        interval = ""
        if cell.low is not None and cell.high is not None:
            interval = f" [{format_value(column, cell.low)}, {format_value(column, cell.high)}]"
        cells.append(format_value(column, cell.mean) + ("" if line.complete else "*") + interval)
    return [label, escape_markdown(line.group), str(of) if scored == of else f"{scored} of {of}", *cells]


CSV_FIELDS = (
    *("dataset", "model", "kind", "run", "group", "metric", "mean", "low", "high", "scored", "of", "capped"),
    *("complete", "parameters", "seconds_per_image", "peak_memory_bytes", "signature"),
)


def to_csv(tables: Sequence[Table]) -> str:
    """The tables as CSV, one line a number, full precision; ``low`` and ``high`` bound the 95 % interval."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_FIELDS)
    for table in tables:
        for line in table.lines:
            for column, cell in line.cells.items():
                if cell.of:
                    writer.writerow(_csv_values(table, line, column))
    return out.getvalue()


def _csv_values(table: Table, line: Line, column: str) -> list[Any]:
    cell, info = line.cells[column], line.info
    texts = (table.dataset, line.model, line.kind, line.run, line.group, parse_signature(column).metric)
    measured = (info.model.parameters, info.restore_seconds_median, info.peak_memory_bytes) if info else (None,) * 3
    numbers = (cell.mean, cell.low, cell.high, cell.scored, cell.of, cell.capped, line.complete, *measured)
    return [*map(escape_csv, texts), *numbers, escape_csv(column)]


def to_latex(tables: Sequence[Table]) -> str:
    """The tables as LaTeX (booktabs, xcolor): best means bold, rows of models trained with a GAN loss grey."""
    needed = "% needs \\usepackage{booktabs} and \\usepackage{xcolor}"
    return "\n".join([needed, *(_table_latex(table) for table in tables)]) + "\n"


def _table_latex(table: Table) -> str:
    best = best_means(table)
    heads = [f"{escape_latex(parse_signature(c).metric)} [{i}]" for i, c in enumerate(table.columns, 1)]
    notes = [f"[{i}] \\texttt{{{escape_latex(column)}}}" for i, column in enumerate(table.columns, 1)]
    caption = f"{escape_latex(table.dataset)}; means with 95\\,\\% bootstrap intervals over images. {' '.join(notes)}"
    if not all(line.complete for line in table.lines):
        caption += " *: some samples failed; not ranked."
    if is_upper_bound(table):
        caption += f" {escape_latex(UPPER_BOUND)}"
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            f"\\begin{{tabular}}{{ll{'r' * len(table.columns)}}}",
            r"\toprule",
            " & ".join(["Method", "Group", *heads]) + r" \\",
            r"\midrule",
            *(_line_latex(line, table.columns, best, is_ambiguous(table)) for line in table.lines),
            r"\bottomrule",
            r"\end{tabular}",
            f"\\caption{{{caption}}}",
            r"\end{table}",
        ]
    )


def _line_latex(line: Line, columns: Sequence[str], best: dict[str, str], with_run: bool) -> str:
    parts = [f"{line.model} ({line.run})" if with_run else line.model, line.group]
    cells = [escape_latex(part) for part in parts]
    for column in columns:
        cell = line.cells[column]
        if cell.mean is None:
            cells.append("--")
            continue
        text = format_value(column, cell.mean)
        if line.group == ALL and line.complete and text == best.get(column):
            text = f"\\textbf{{{text}}}"
        if cell.low is not None and cell.high is not None:
            text += f" {{\\tiny [{format_value(column, cell.low)}, {format_value(column, cell.high)}]}}"
        cells.append(text + ("" if line.complete else "*"))
    if line.kind == "gan":
        cells = [f"\\textcolor{{gray}}{{{cell}}}" for cell in cells]
    return " & ".join(cells) + r" \\"
