"""Fig. 6a and b: matching error and PSNR under rotated and scaled references, as bars and as curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from refsr_bench.results.figures.style import COLOURS, FAINT, LEGEND, TITLE, new_figure, plain, subplots
from refsr_bench.results.robustness import LEVELS, Series

SHOWN = ("bars", "curves", "both")
HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "++", "oo", "--")
MARKERS = "osD^vP*X"
_LABELS = {
    "aee": "AEE (HR px)",
    "aee_median": "median error (HR px)",
    "psnr_y": "PSNR-Y (dB)",
    "psnr_y_visible": "PSNR-Y, visible (dB)",
    "pck@4": "PCK@4",
    "pck@8": "PCK@8",
}
_AXES = {"rotation": "rotation (degrees)", "scale": "scale"}


def draw_robustness(series: Sequence[Series], *, show: str = "both", width: str = "column") -> Figure:
    """Panels of every kind of transform (rows) and metric (columns).

    A model has one colour and, for print without colour, one hatching and one marker everywhere. Whiskers and bands are
    95 % intervals of the mean from a bootstrap over images.
    """
    metrics = list(dict.fromkeys(each.metric for each in series))
    kinds = [kind for kind in _AXES if any(kind in each.curves or (kind, "small") in each.levels for each in series)]
    styles = [style for style in ("bars", "curves") if show in (style, "both")]
    models = list(dict.fromkeys(each.model for each in series))
    panels = [(kind, style) for kind in kinds for style in styles]
    figure = new_figure(width, (1.45 if width == "column" else 1.9) * len(panels) + 0.35)
    axes = subplots(figure, len(panels), len(metrics))
    for row, (kind, style) in enumerate(panels):
        for column, metric in enumerate(metrics):
            own = [each for each in series if each.metric == metric]
            panel = axes[row * len(metrics) + column]
            (_draw_bars if style == "bars" else _draw_curves)(panel, own, kind, models)
            panel.set_ylabel(_LABELS.get(metric, plain(metric)), fontsize=6.5)
            if column == 0:
                panel.set_title(f"{kind}, {'groups' if style == 'bars' else 'exact values'}", loc="left", **TITLE)
    handles: dict[str, Any] = {}
    for panel in axes:
        found, labels = panel.get_legend_handles_labels()
        for handle, label in zip(found, labels, strict=True):
            handles.setdefault(label, handle)
    columns = min(4, len(handles))
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=columns, **LEGEND)
    return figure


def _draw_bars(panel: Axes, series: Sequence[Series], kind: str, models: Sequence[str]) -> None:
    share = 0.8 / len(series)
    values = []
    for i, each in enumerate(series):
        found = [(x, each.levels[kind, level]) for x, level in enumerate(LEVELS) if (kind, level) in each.levels]
        if not found:
            continue
        place = models.index(each.model)
        means = [point.mean.mean for _, point in found]
        panel.bar(
            [x + (i - (len(series) - 1) / 2) * share for x, _ in found],
            means,
            share * 0.92,
            yerr=[[p.mean.mean - p.mean.low for _, p in found], [p.mean.high - p.mean.mean for _, p in found]],
            color=COLOURS[place % len(COLOURS)],
            hatch=HATCHES[place % len(HATCHES)],
            edgecolor="white",
            linewidth=0,
            error_kw={"elinewidth": 0.6, "capsize": 1.2, "capthick": 0.6},
            label=plain(each.model),
        )
        values += [bound for _, point in found for bound in (point.mean.low, point.mean.high)]
    panel.set_xticks(range(len(LEVELS)), LEVELS)
    if values and series[0].metric.startswith("psnr"):  # a decibel scale has no zero that bars could stand on
        panel.set_ylim(min(values) - 0.25 * (max(values) - min(values)) - 0.5, None)


def _draw_curves(panel: Axes, series: Sequence[Series], kind: str, models: Sequence[str]) -> None:
    ticks: set[float] = set()
    for each in series:
        points = each.curves.get(kind, [])
        if not points:
            continue
        place = models.index(each.model)
        colour = COLOURS[place % len(COLOURS)]
        x = [value for value, _ in points]
        ticks |= set(x)
        panel.fill_between(
            x, [p.mean.low for _, p in points], [p.mean.high for _, p in points], color=colour, alpha=0.18, linewidth=0
        )
        panel.plot(
            x,
            [point.mean.mean for _, point in points],
            color=colour,
            marker=MARKERS[place % len(MARKERS)],
            markersize=2.4,
            linewidth=0.9,
            label=plain(each.model),
        )
    if kind == "scale":
        panel.set_xscale("log", base=2)
        shown = [0.5, 0.667, 1.0, 1.5, 2.0]
        panel.xaxis.set_major_locator(FixedLocator([t for t in shown if min(ticks) <= t <= max(ticks)]))
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.2g}"))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.xaxis.set_minor_formatter(NullFormatter())
    elif max(ticks, default=0) > 90:
        panel.set_xticks([0, 45, 90, 135, 180])
    panel.set_xlabel(_AXES[kind], fontsize=6.5)
    panel.grid(axis="y", color=FAINT, linewidth=0.4)
