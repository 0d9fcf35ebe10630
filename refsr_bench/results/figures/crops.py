"""Qualitative strips (Fig. 4, 7 to 9): a picture with a marked box, and the box as every method restored it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.textpath import TextPath
from numpy.typing import NDArray

from refsr_bench.errors import UsageError
from refsr_bench.images import luma_bt601
from refsr_bench.results.figures.style import INK, SOFT, WIDTHS_IN, new_figure, plain
from refsr_bench.schema import Image

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BOX_COLOUR = "#e5322d"
LABEL_PT = 6.0


class Box(NamedTuple):
    """A rectangle of the HR picture, px; (x, y) is its top left pixel."""

    x: int
    y: int
    width: int
    height: int


class Tile(NamedTuple):
    """One restored picture of a strip, with its name and a line about it."""

    name: str
    note: str
    image: Image


class Strip(NamedTuple):
    """One sample: HR with the box, the reference, LR enlarged without smoothing, and what methods made of it."""

    title: str
    hr: Image
    lr: Image
    ref: Image | None
    tiles: tuple[Tile, ...]
    box: Box


def choose_box(hr: Image, restored: Sequence[Image], share: float = 0.25) -> Box:
    """The box on which methods differ most (with one method: on which its error is largest), by mean luma difference.

    Its sides are a ``share`` of the picture's shorter side in height, and 4/3 of that in width.
    """
    height = max(8, round(min(hr.shape[:2]) * share))
    width = min(hr.shape[1], round(height * 4 / 3))
    planes = np.stack([luma_bt601(image) for image in restored])
    spread = planes.max(0) - planes.min(0) if len(planes) > 1 else np.abs(planes[0] - luma_bt601(hr))
    sums = _window_sums(spread, height, width)
    y, x = (int(i) for i in np.unravel_index(int(sums.argmax()), sums.shape))
    return Box(x, y, width, height)


def _window_sums(plane: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    total = np.pad(plane, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    sums: NDArray[np.float64] = (
        total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]
    )
    return sums


def check_box(box: Box, hr: Image) -> None:
    """`UsageError` unless the box lies inside the picture."""
    inside = box.x >= 0 and box.y >= 0 and box.x + box.width <= hr.shape[1] and box.y + box.height <= hr.shape[0]
    if not inside or box.width < 1 or box.height < 1:
        raise UsageError(f"the box {tuple(box)} is not inside the picture of {hr.shape[1]}x{hr.shape[0]} px")


def draw_crops(strips: Sequence[Strip], *, width: str = "page", rows: int = 2) -> Figure:
    """One band a sample: the whole picture with its box at the left, crops beside it in ``rows`` rows, HR last."""
    label_in = 0.17
    total = WIDTHS_IN[width]
    layouts = [_layout(strip, total, rows, label_in) for strip in strips]
    gap = 0.08
    height = sum(band for _, _, band in layouts) + gap * (len(strips) - 1)
    figure = new_figure(width, height)
    figure.set_layout_engine("none")
    top = height
    for strip, (whole, tile, band) in zip(strips, layouts, strict=True):
        _draw_band(figure, strip, (total, height), top, whole, tile, rows, label_in)
        top -= band + gap
    return figure


def _tiles(strip: Strip) -> list[Tile]:
    crop = [Tile(t.name, t.note, _cut(t.image, strip.box)) for t in strip.tiles]
    reference = [Tile("Reference", "", strip.ref)] if strip.ref is not None else []
    return [Tile("LR", "", _cut_lr(strip)), *reference, *crop, Tile("HR", "", _cut(strip.hr, strip.box))]


def _layout(strip: Strip, total_in: float, rows: int, label_in: float) -> tuple[float, tuple[float, float], float]:
    """Width of the whole picture, (width, height) of a crop, height of the band; inches."""
    columns = -(-len(_tiles(strip)) // rows)
    gap = 0.05
    picture = strip.hr.shape[1] / strip.hr.shape[0]
    crop = strip.box.width / strip.box.height
    # whole + columns * (gap + crop width) = total, and whole / picture + label = rows * (crop height + label)
    crop_height = (total_in - columns * gap - picture * (rows - 1) * label_in) / (picture * rows + columns * crop)
    band = rows * (crop_height + label_in)
    return picture * (band - label_in), (crop_height * crop, crop_height), band


def _draw_band(
    figure: Figure,
    strip: Strip,
    size: tuple[float, float],
    top: float,
    whole: float,
    tile: tuple[float, float],
    rows: int,
    label_in: float,
) -> None:
    whole_height = whole * strip.hr.shape[0] / strip.hr.shape[1]
    axes = _place(figure, size, 0, top, whole, whole_height)
    axes.imshow(strip.hr)
    axes.add_patch(
        Rectangle(
            (strip.box.x - 0.5, strip.box.y - 0.5),
            strip.box.width,
            strip.box.height,
            fill=False,
            edgecolor=BOX_COLOUR,
            linewidth=1.2,
        )
    )
    _label(axes, strip.title, "", whole)
    tiles = _tiles(strip)
    columns = -(-len(tiles) // rows)
    gap = (size[0] - whole - columns * tile[0]) / columns
    for i, each in enumerate(tiles):
        row, column = divmod(i, columns)
        left = whole + gap + column * (tile[0] + gap)
        axes = _place(figure, size, left, top - row * (tile[1] + label_in), *tile)
        axes.set_facecolor("#eef0f3")
        axes.imshow(each.image, interpolation="nearest" if each.name == "LR" else "antialiased", aspect="equal")
        axes.set_anchor("C")
        _label(axes, each.name, each.note, tile[0], bold=each.name not in {"LR", "Reference", "HR"})


def _place(figure: Figure, size: tuple[float, float], left: float, top: float, width: float, height: float) -> Axes:
    axes = figure.add_axes((left / size[0], (top - height) / size[1], width / size[0], height / size[1]))
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def _label(axes: Axes, name: str, note: str, width_in: float, *, bold: bool = False) -> None:
    """Write below a picture, smaller where the text would run into its neighbour's."""
    text = plain(f"{name}  {note}".strip())
    if not text.strip():
        return
    wide = TextPath((0, 0), text, size=LABEL_PT).get_extents().width
    axes.annotate(
        text,
        (0.5, 0),
        xycoords="axes fraction",
        xytext=(0, -2.5),
        textcoords="offset points",
        ha="center",
        va="top",
        fontsize=LABEL_PT * min(1.0, 72 * width_in / max(wide, 1.0)),
        color=INK if bold or not note else SOFT,
        annotation_clip=False,
    )


def _cut(image: Image, box: Box) -> Image:
    return image[box.y : box.y + box.height, box.x : box.x + box.width]


def _cut_lr(strip: Strip) -> Image:
    """The box in the LR picture, each of its pixels enlarged to the HR pixels it stands for."""
    scale = strip.hr.shape[0] / strip.lr.shape[0]
    rows = ((np.arange(strip.box.y, strip.box.y + strip.box.height)) / scale).astype(int)
    columns = ((np.arange(strip.box.x, strip.box.x + strip.box.width)) / scale).astype(int)
    cut: Image = strip.lr[rows.clip(0, strip.lr.shape[0] - 1)][:, columns.clip(0, strip.lr.shape[1] - 1)]
    return cut
