"""Figures of shares: categories of datasets (Fig. 3b, c) and preferences of a user study (Fig. 6c)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Wedge

from refsr_bench.results.figures.style import COLOURS, FAINT, INK, LEGEND, SOFT, TITLE, new_figure, plain, subplots
from refsr_bench.results.study.analysis import Preference


def draw_categories(sets: Mapping[str, Mapping[str, int]], *, width: str = "column") -> Figure:
    """One ring a dataset, from category counts; the same category has the same colour in every ring (Fig. 3b, c).

    Categories stand in order of first appearance; at most eight have a colour of their own, the rest is grey.
    """
    categories = list(dict.fromkeys(name for counts in sets.values() for name in counts))
    colours = {name: COLOURS[i] if i < len(COLOURS) else FAINT for i, name in enumerate(categories)}
    figure = new_figure(width, 1.95 if width == "column" else 2.6)
    for axes, (title, counts) in zip(subplots(figure, 1, len(sets)), sets.items(), strict=True):
        present = [name for name in categories if counts.get(name)]
        total = sum(counts.values())
        values = [counts[name] for name in present]
        wedges, _ = axes.pie(
            values,
            colors=[colours[name] for name in present],
            startangle=90,
            counterclock=False,
            wedgeprops={"width": 0.42, "edgecolor": "white", "linewidth": 0.8},
        )[:2]
        for wedge, value in zip(wedges, values, strict=True):
            if value / total >= 0.06:
                _write_inside(axes, wedge, f"{100 * value / total:.0f}%")
        axes.text(0, 0, f"{total}\nimages", ha="center", va="center", fontsize=6.5, color=SOFT)
        axes.set_title(plain(title), **TITLE)
    handles = [Patch(color=colours[name], label=plain(name)) for name in categories]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(3, len(handles)),
        handlelength=0.9,
        handleheight=0.9,
        **LEGEND,
    )
    return figure


def _write_inside(axes: Axes, wedge: Wedge, text: str) -> None:
    middle = math.radians((wedge.theta1 + wedge.theta2) / 2)
    axes.text(
        0.79 * math.cos(middle), 0.79 * math.sin(middle), text, ha="center", va="center", fontsize=5.5, color="white"
    )


def draw_preferences(preferences: Sequence[Preference], *, width: str = "column") -> Figure:
    """A user study: how often the target was preferred to each other method, with Wilson intervals (Fig. 6c)."""
    figure = new_figure(width, 0.75 + 0.36 * len(preferences))
    (axes,) = subplots(figure)
    for i, p in enumerate(preferences):
        share = 100 * p.preferred / p.of
        axes.barh(i, share, height=0.58, color=COLOURS[0])
        axes.barh(i, 100 - share, left=share, height=0.58, color=FAINT)
        axes.plot([100 * p.low, 100 * p.high], [i, i], color=INK, linewidth=1.1)
        axes.text(2, i, f"{share:.0f} %", va="center", color="white", fontsize=6.5, fontweight="bold")
        axes.text(98, i, f"{100 - share:.0f} %", va="center", ha="right", color=INK, fontsize=6.5)
    axes.axvline(50, color="white", linewidth=0.8, linestyle=(0, (3, 2)))
    names = [f"{plain(p.first)} : {plain(p.second)}" for p in preferences]
    if len({p.first for p in preferences}) == 1:
        names = [plain(p.second) for p in preferences]
        axes.set_title(f"Preferred: {plain(preferences[0].first)} (blue) against", loc="left", **TITLE)
    axes.set_yticks(range(len(preferences)), names)
    axes.invert_yaxis()
    axes.set(xlim=(0, 100), xlabel="share of comparisons, %; line: 95 % interval")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    return figure
