"""What all figures share: their widths, their type, and how they are written."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib.figure import Figure

from refsr_bench.disk import atomic_write_bytes
from refsr_bench.errors import UsageError
from refsr_bench.results.formats import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTHS_IN: dict[str, float] = {"column": 3.25, "page": 6.875}
"""Text column and full page of the CVPR template, inches."""

SUFFIXES = (".pdf", ".svg", ".png")
DPI = 300

INK, SOFT, FAINT = "#16191d", "#5b6470", "#c9ced5"
GREY = "#8b8f96"
"""Models trained with a GAN loss."""
COLOURS = ("#0a5fb4", "#d9822b", "#13795b", "#9a3f9d", "#b4321f", "#6b7785", "#3aa0c9", "#a3862c")

_SETTINGS: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 7,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 7.5,
    "axes.titleweight": "bold",
    "legend.frameon": False,
    "legend.fontsize": 6.5,
    "text.color": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.2,
    "pdf.fonttype": 42,  # letters stay letters: journals refuse Type 3 fonts
    "svg.hashsalt": "refsr-bench",
}


def new_figure(width: str, height_in: float) -> Figure:
    """An empty figure of a named width; draw on ``figure.subplots()``. Nothing global is touched."""
    with matplotlib.rc_context(_SETTINGS):
        return Figure(figsize=(WIDTHS_IN[width], height_in), layout="constrained")


def subplots(figure: Figure, rows: int = 1, columns: int = 1, **options: object) -> list[Axes]:
    """Axes of a figure in reading order, in this package's style."""
    with matplotlib.rc_context(_SETTINGS):
        made = figure.subplots(rows, columns, squeeze=False, **options)  # type: ignore[call-overload]
    return list(made.ravel())


LEGEND: dict[str, Any] = {"fontsize": 6.5, "frameon": False, "handletextpad": 0.4}
"""How legends look; matplotlib reads its settings when a legend is made, not when its axes are."""


TITLE: dict[str, Any] = {"fontsize": 7.5, "fontweight": "bold"}
"""How titles look; see `LEGEND`."""


def plain(text: str) -> str:
    """Text that is drawn as it stands: no formula, no control character.

    >>> plain("$x_1$")
    '\\\\$x_1\\\\$'
    """
    return printable(text).replace("$", r"\$")


def encode_figure(figure: Figure, suffix: str) -> bytes:
    """The bytes of a figure as ``.pdf``, ``.svg`` or ``.png``; equal figures give equal bytes."""
    dates: dict[str, dict[str, str | None]] = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}, ".png": {}}
    if suffix not in dates:
        raise UsageError(f"figures are written as {', '.join(SUFFIXES)}, not {suffix or 'without a suffix'}")
    buffer = io.BytesIO()
    with matplotlib.rc_context(_SETTINGS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # foreign letters become boxes, not errors
        figure.savefig(buffer, format=suffix[1:], dpi=DPI, metadata=dates[suffix])
    return buffer.getvalue()


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure; the file's suffix says how."""
    atomic_write_bytes(path, encode_figure(figure, path.suffix.lower()))
