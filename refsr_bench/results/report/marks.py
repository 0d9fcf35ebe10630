"""Numbers as the pages print them, with what sorting and drawing need of them."""

from __future__ import annotations

from typing import NamedTuple

from refsr_bench.results.leaderboard import Cell, format_value
from refsr_bench.results.statistics import Difference

Span = tuple[float, float]
"""Smallest and largest number of a column, interval ends included."""


class Mark(NamedTuple):
    """A number as it is printed, with what sorting and drawing need of it."""

    text: str
    value: float | None = None
    low: str = ""
    high: str = ""
    whisker: tuple[float, float, float] | None = None
    """Low end, mean and high end of the interval, in percent of the column's range."""
    best: bool = False


def mean_mark(column: str, cell: Cell, best: str | None, span: Span) -> Mark:
    """A mean with its interval; ``best`` is how the column's best mean is printed."""
    if cell.mean is None:
        return Mark("–")
    text = format_value(column, cell.mean)
    if cell.low is None or cell.high is None:
        return Mark(text, cell.mean, best=text == best)
    start, end = span
    scale = 100 / (end - start) if end > start else 0.0
    low, mean, high = (round((value - start) * scale, 1) for value in (cell.low, cell.mean, cell.high))
    return Mark(
        text,
        cell.mean,
        format_value(column, cell.low),
        format_value(column, cell.high),
        (low, mean, high) if scale else None,
        text == best,
    )


def quantity_mark(value: float | None) -> Mark:
    """A count with one digit and its magnitude: 8.9 M."""
    if value is None:
        return Mark("–")
    for limit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return Mark(f"{value / limit:.1f} {letter}", value)
    return Mark(f"{value:g}", value)


def seconds_mark(value: float | None) -> Mark:
    """Seconds with three significant digits or so."""
    if value is None:
        return Mark("–")
    return Mark(f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 100 else f"{value:.0f}", value)


def difference_mark(metric: str, difference: Difference) -> Mark:
    """A signed difference with its interval."""
    mean, low, high = (signed(metric, value) for value in difference)
    return Mark(mean, difference.mean, low, high)


def signed(metric: str, value: float) -> str:
    """A difference with its sign and the digits of its metric."""
    text = format_value(metric, abs(value))
    return ("−" if value < 0 and float(text) else "+" if float(text) else "±") + text
