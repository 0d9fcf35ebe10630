"""Fig. 1: an input and its reference side by side, with lines between what a matcher took for the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from refsr_bench.results.figures.style import COLOURS, LEGEND, SOFT, WIDTHS_IN, new_figure, plain, subplots
from refsr_bench.schema import Image

GAP_PX = 12
COLOUR_MAP = "viridis"
WORST_PX = 20.0
"""Errors of this and more have the last colour."""
WRONG_PX = 8.0
"""With two matchers: matches that are further off are drawn dashed."""


class Drawn(NamedTuple):
    """A matcher's name, its matches ``(N, 2)`` (x, y) px, and their errors ``(N,)`` px, for the nodes of a picture."""

    name: str
    matches: NDArray[np.float64]
    errors_px: NDArray[np.float64]


def choose_nodes(nodes: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """Positions of about ``count`` of the nodes ``(N, 2)``, evenly over the picture: the nearest to each grid point."""
    low, high = nodes.min(axis=0), nodes.max(axis=0)
    across, down = high - low + 1
    columns = max(1, round(float(np.sqrt(count * across / down))))
    rows = max(1, round(count / columns))
    x = low[0] + (np.arange(columns) + 0.5) / columns * across
    y = low[1] + (np.arange(rows) + 0.5) / rows * down
    points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    return np.unique([np.square(nodes - point).sum(axis=1).argmin() for point in points])


def draw_matches(
    picture: Image, ref: Image, nodes: NDArray[np.float64], drawn: Sequence[Drawn], *, width: str = "page"
) -> Figure:
    """Lines from ``nodes`` ``(N, 2)`` of the picture to one matcher's points, coloured by error; or to two matchers'.

    Of two matchers each has its colour, and matches that are more than `WRONG_PX` off are dashed.
    """
    height = max(picture.shape[0], ref.shape[0])
    offset = np.array([picture.shape[1] + GAP_PX, 0.0])
    canvas = np.full((height, picture.shape[1] + GAP_PX + ref.shape[1], 3), 255, np.uint8)
    canvas[: picture.shape[0], : picture.shape[1]] = picture
    canvas[: ref.shape[0], picture.shape[1] + GAP_PX :] = ref
    figure = new_figure(width, WIDTHS_IN[width] * height / canvas.shape[1] + 0.45)
    (axes,) = subplots(figure)
    axes.imshow(canvas)
    axes.axis("off")
    one = len(drawn) == 1
    scale = Normalize(0, WORST_PX)
    for i, each in enumerate(drawn):
        segments = np.stack([nodes, each.matches + offset], axis=1)
        colours = ScalarMappable(scale, COLOUR_MAP).to_rgba(each.errors_px) if one else COLOURS[i]
        styles = ["-" if one or error <= WRONG_PX else (0, (2, 2)) for error in each.errors_px]
        lines = LineCollection(list(segments), colors=colours, linestyles=styles, linewidths=0.8)
        axes.add_collection(lines)
        x, y = (each.matches + offset).T
        axes.scatter(x, y, s=4, c=colours, linewidths=0, zorder=3)
    axes.scatter(
        nodes[:, 0], nodes[:, 1], s=4, c=SOFT if not one else "white", edgecolors=SOFT, linewidths=0.3, zorder=3
    )
    if one:
        bar = figure.colorbar(ScalarMappable(scale, COLOUR_MAP), ax=axes, shrink=0.8, pad=0.01, extend="max")
        bar.set_label("error (HR px)", fontsize=6.5)
        bar.ax.tick_params(labelsize=6)
        axes.set_title(_summary(drawn[0]), fontsize=7, loc="left")
    else:
        handles = [Line2D([], [], color=COLOURS[i], label=_summary(each)) for i, each in enumerate(drawn)]
        handles.append(Line2D([], [], color=SOFT, linestyle=(0, (2, 2)), label=f"more than {WRONG_PX:g} px off"))
        figure.legend(handles=handles, loc="outside lower center", ncols=3, **LEGEND)
    return figure


def _summary(drawn: Drawn) -> str:
    right = float(np.mean(drawn.errors_px <= WRONG_PX))
    return f"{plain(drawn.name)}: {right:.0%} of these within {WRONG_PX:g} px"
