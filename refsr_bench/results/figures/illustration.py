"""Fig. 3a: what a dataset pairs with what, an input above its reference, category by category."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from PIL import Image as PilImage

from refsr_bench.results.figures.style import INK, WIDTHS_IN, new_figure, plain, subplots
from refsr_bench.schema import Image

_TILE_PX = 360


class Pair(NamedTuple):
    """One sample to show: its category, the input and the reference (None if it has none)."""

    category: str
    hr: Image
    ref: Image | None


def draw_pairs(pairs: Sequence[Pair], *, width: str = "page", columns: int = 6) -> Figure:
    """Inputs, each above its reference, ``columns`` pairs a row, every picture cut to a square about its centre."""
    rows = -(-len(pairs) // columns)
    side_in = WIDTHS_IN[width] / columns
    figure = new_figure(width, rows * (2 * side_in + 0.16))
    axes = subplots(figure, 2 * rows, columns)
    for panel in axes:
        panel.axis("off")
    for place, pair in enumerate(pairs):
        row, column = divmod(place, columns)
        upper, lower = axes[2 * row * columns + column], axes[(2 * row + 1) * columns + column]
        upper.imshow(_square(pair.hr))
        upper.set_title(plain(pair.category), fontsize=6.5, color=INK, pad=2)
        if pair.ref is not None:
            lower.imshow(_square(pair.ref))
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, hspace=0.02, wspace=0.02)  # type: ignore[union-attr,call-arg]
    return figure


def _square(image: Image) -> Image:
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    cut = PilImage.fromarray(image[top : top + side, left : left + side])
    cut.thumbnail((_TILE_PX, _TILE_PX), PilImage.Resampling.BICUBIC)
    return np.asarray(cut)


def choose_examples(categories: Sequence[str], each: int = 2) -> list[int]:
    """Positions of the first ``each`` samples of every category, categories in order of first appearance.

    >>> choose_examples(["a", "b", "a", "a"], each=2)
    [0, 2, 1]
    """
    order = list(dict.fromkeys(categories))
    return [i for name in order for i in [i for i, own in enumerate(categories) if own == name][:each]]
