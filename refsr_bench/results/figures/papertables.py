"""Tables 1 and 4 of the paper as figures: what was published, and beside it what was measured here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from matplotlib.figure import Figure

from refsr_bench.results.figures.style import COLOURS, FAINT, GREY, INK, LEGEND, SOFT, new_figure, plain, subplots
from refsr_bench.results.leaderboard import ALL, Line, Table
from refsr_bench.results.published import Published, select_published, trained_with_gan

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DATASETS = {"cufed5": "CUFED5", "sun80": "Sun80", "urban100": "Urban100", "manga109": "Manga109", "wr-sr": "WR-SR"}
LINE_IN = 0.155
"""Height of a table's line, inches."""


class PaperLine(NamedTuple):
    """One line of a table: a method, whether a GAN loss trained it, and its cells as (PSNR, SSIM) texts."""

    method: str
    gan: bool
    cells: tuple[tuple[str, str] | None, ...]


def published_lines(numbers: Sequence[Published], datasets: Sequence[str]) -> list[PaperLine]:
    """Printed numbers by method, digits as they were printed."""
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for p in numbers:
        found.setdefault(p.method, {})[p.dataset] = (p.psnr, p.ssim.removeprefix("0"))
    return [
        PaperLine(method, trained_with_gan(method), tuple(cells.get(d) for d in datasets))
        for method, cells in found.items()
    ]


def measured_lines(tables: Sequence[Table], datasets: Sequence[str]) -> list[PaperLine]:
    """Measured means of PSNR-Y and SSIM-Y of complete runs, best first on the first dataset they were run on."""
    found: dict[tuple[str, bool], dict[str, tuple[str, str]]] = {}
    for table in tables:
        name = table.dataset.partition("@")[0]
        columns = {column.partition("|")[0]: column for column in reversed(table.columns)}
        if name not in datasets or not {"psnr_y", "ssim_y"} <= set(columns):
            continue
        for line in table.lines:
            if line.group == ALL and line.complete:
                cell = (_text(line, columns["psnr_y"], 2), _text(line, columns["ssim_y"], 3))
                found.setdefault((line.model, line.kind == "gan"), {}).setdefault(name, cell)
    return [PaperLine(model, gan, tuple(cells.get(d) for d in datasets)) for (model, gan), cells in found.items()]


def _text(line: Line, column: str, digits: int) -> str:
    mean = line.cells[column].mean
    return "" if mean is None else f"{mean:.{digits}f}".removeprefix("0")


def draw_table1(
    measured: Sequence[PaperLine], *, datasets: Mapping[str, str] = DATASETS, width: str = "page"
) -> Figure:
    """Table 1: published methods, then, under a rule, what was measured here; best of each part bold, GAN rows grey."""
    published = published_lines(select_published(table="Table 1"), list(datasets))
    parts = [("published in the paper", published)] + ([("measured here", list(measured))] if measured else [])
    count = sum(len(lines) for _, lines in parts) + len(parts) + 2
    figure = new_figure(width, LINE_IN * count + 0.1)
    (axes,) = subplots(figure)
    _draw_grid(axes, list(datasets.values()), parts, small=width == "column")
    return figure


def _draw_grid(
    axes: Axes, headings: Sequence[str], parts: Sequence[tuple[str, Sequence[PaperLine]]], *, small: bool
) -> None:
    size = 4.6 if small else 7.0
    axes.set_axis_off()
    total = sum(len(lines) for _, lines in parts) + len(parts) + 1
    axes.set(xlim=(0, 1), ylim=(total, 0))
    start = 0.21
    centres = [start + (i + 0.5) * (1 - start) / len(headings) for i in range(len(headings))]
    axes.plot([0, 1], [0, 0], color=INK, linewidth=1.1)
    axes.text(0.005, 0.5, "PSNR / SSIM", va="center", fontsize=size, color=SOFT)
    for x, heading in zip(centres, headings, strict=True):
        axes.text(x, 0.5, plain(heading), ha="center", va="center", fontsize=size, fontweight="bold")
    y = 1.0
    for title, lines in parts:
        axes.plot([0, 1], [y, y], color=INK, linewidth=0.6)
        axes.text(0.005, y + 0.5, title, va="center", fontsize=size - 0.7, color=SOFT, style="italic")
        y += 1
        best = _best(lines, len(headings))
        for line in lines:
            colour = GREY if line.gan else INK
            axes.text(0.015, y + 0.5, plain(line.method), va="center", fontsize=size, color=colour)
            for i, (x, cell) in enumerate(zip(centres, line.cells, strict=True)):
                if cell is None:
                    axes.text(x, y + 0.5, "–", ha="center", va="center", fontsize=size, color=FAINT)
                    continue
                for text, side, bold in (
                    (cell[0], "right", cell[0] == best[i][0]),
                    (cell[1], "left", cell[1] == best[i][1]),
                ):
                    axes.text(
                        x + (-0.008 if side == "right" else 0.008),
                        y + 0.5,
                        text,
                        ha=side,
                        va="center",
                        fontsize=size,
                        color=colour,
                        fontweight="bold" if bold else "normal",
                    )
                axes.text(x, y + 0.5, "/", ha="center", va="center", fontsize=size, color=GREY)
            y += 1
    axes.plot([0, 1], [y, y], color=INK, linewidth=1.1)


def _best(lines: Sequence[PaperLine], columns: int) -> list[tuple[str, str]]:
    best = []
    for i in range(columns):
        cells = [cell for line in lines if (cell := line.cells[i]) is not None]
        best.append(tuple(max((cell[k] for cell in cells), key=_number, default="") for k in (0, 1)))
    return best  # type: ignore[return-value]


def _number(text: str) -> float:
    return float(text) if text else float("-inf")


class Sized(NamedTuple):
    """A method with its parameters and its scores on CUFED5."""

    method: str
    parameters: float
    psnr: str
    ssim: str


def published_sizes() -> list[Sized]:
    """Table 4 as printed: parameters in millions become numbers."""
    found = []
    for p in select_published(table="Table 4"):
        millions = re.search(r"([\d.]+) M parameters", p.note)
        assert millions is not None, p
        found.append(Sized(p.method, float(millions[1]) * 1e6, p.psnr, p.ssim.removeprefix("0")))
    return found


def measured_sizes(tables: Sequence[Table], dataset: str) -> list[Sized]:
    """Complete runs on a dataset whose models say how many parameters they have."""
    found = []
    for table in tables:
        columns = {column.partition("|")[0]: column for column in reversed(table.columns)}
        if table.dataset.partition("@")[0] != dataset or not {"psnr_y", "ssim_y"} <= set(columns):
            continue
        for line in table.lines:
            parameters = line.info.model.parameters if line.info else None
            if line.group == ALL and line.complete and parameters:
                found.append(
                    Sized(line.model, parameters, _text(line, columns["psnr_y"], 2), _text(line, columns["ssim_y"], 3))
                )
    return found


def draw_table4(measured: Sequence[Sized], *, width: str = "page") -> Figure:
    """Table 4: PSNR over parameters, published and measured, and the table itself."""
    published = published_sizes()
    lines = len(published) + len(measured) + 3 + bool(measured)
    if width == "page":
        figure = new_figure(width, max(2.3, LINE_IN * lines))
        chart, table = subplots(figure, 1, 2, width_ratios=[1.35, 1])
    else:
        figure = new_figure(width, 2.3 + LINE_IN * lines)
        chart, table = subplots(figure, 2, 1, height_ratios=[2.3, LINE_IN * lines])
    _draw_sizes(chart, published, measured)
    parts = [("published in the paper", published)] + ([("measured here", list(measured))] if measured else [])
    _draw_size_table(table, parts)
    return figure


def _draw_sizes(axes: Axes, published: Sequence[Sized], measured: Sequence[Sized]) -> None:
    for points, colour, marker, label in (
        (published, COLOURS[0], "o", "published"),
        (measured, COLOURS[1], "D", "measured here"),
    ):
        if points:
            axes.scatter(
                [p.parameters / 1e6 for p in points],
                [float(p.psnr) for p in points],
                s=16,
                color=colour,
                marker=marker,
                label=label,
                zorder=3,
            )
        for p in points:
            crowded = any(_is_right_of(other, p) for other in (*published, *measured))
            axes.annotate(
                plain(p.method),
                (p.parameters / 1e6, float(p.psnr)),
                xytext=(-4 if crowded else 4, 3),
                textcoords="offset points",
                ha="right" if crowded else "left",
                fontsize=6,
                color=INK,
            )
    axes.set(xlabel="parameters, millions", ylabel="PSNR on CUFED5, dB", xscale="log")
    axes.margins(x=0.16, y=0.12)
    axes.grid(color=FAINT, linewidth=0.4, alpha=0.6)
    from matplotlib.ticker import NullFormatter, ScalarFormatter

    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xticks([1, 2, 5, 10, 20, 50])
    axes.set_xlim(1, 70)
    if measured:
        axes.legend(loc="lower right", **LEGEND)


def _is_right_of(other: Sized, point: Sized) -> bool:
    """Whether another point would lie under a label to the right of this one."""
    return 1 < other.parameters / point.parameters < 2.4 and -0.1 < float(other.psnr) - float(point.psnr) < 0.35


def _draw_size_table(axes: Axes, parts: Sequence[tuple[str, Sequence[Sized]]]) -> None:
    axes.set_axis_off()
    total = sum(len(lines) for _, lines in parts) + len(parts) + 1
    axes.set(xlim=(0, 1), ylim=(total, 0))
    axes.plot([0, 1], [0, 0], color=INK, linewidth=1.1)
    for x, text, side in ((0.01, "method", "left"), (0.68, "params", "right"), (0.99, "PSNR / SSIM", "right")):
        axes.text(x, 0.5, text, ha=side, va="center", fontweight="bold", fontsize=6.5)
    y = 1.0
    for title, lines in parts:
        axes.plot([0, 1], [y, y], color=INK, linewidth=0.6)
        axes.text(0.01, y + 0.5, title, va="center", fontsize=6, color=SOFT, style="italic")
        y += 1
        best = max((_number(line.psnr) for line in lines), default=0)
        for line in lines:
            bold = "bold" if _number(line.psnr) == best else "normal"
            axes.text(0.025, y + 0.5, plain(line.method), va="center", fontsize=6.5)
            axes.text(
                0.68,
                y + 0.5,
                f"{round(line.parameters / 1e6, 1):g} M",
                ha="right",
                va="center",
                fontsize=6.5,
            )
            axes.text(
                0.99, y + 0.5, f"{line.psnr} / {line.ssim}", ha="right", va="center", fontsize=6.5, fontweight=bold
            )
            y += 1
    axes.plot([0, 1], [y, y], color=INK, linewidth=1.1)
