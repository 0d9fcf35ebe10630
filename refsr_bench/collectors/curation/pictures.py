"""Small copies of pictures for people to look at: thumbnails, views, contact sheets."""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np
from PIL import Image as PilImage
from PIL import ImageDraw, ImageFont

from refsr_bench.schema import Image

THUMBNAIL_PX = 320
VIEW_PX = 1600
_TILE = (240, 190)
_PICTURE = (232, 160)
_COLUMNS = 5


class Tile(NamedTuple):
    """One picture of a contact sheet, what stands under it, and whether it was refused."""

    image: Image
    caption: str
    refused: bool = False


def encode_jpeg(image: Image, quality: int = 88) -> bytes:
    """Encode uint8 RGB ``(H, W, 3)`` as JPEG, without any of the original's metadata."""
    buffer = io.BytesIO()
    PilImage.fromarray(image).save(buffer, format="JPEG", quality=quality)
    return buffer.getvalue()


def shrink(image: Image, longest_px: int) -> Image:
    """The picture with its longer side at most ``longest_px``; never enlarged."""
    picture = PilImage.fromarray(image)
    picture.thumbnail((longest_px, longest_px), PilImage.Resampling.BICUBIC, reducing_gap=2.0)
    return np.asarray(picture)


def draw_sheet(query: Tile, tiles: list[Tile]) -> bytes:
    """A contact sheet as JPEG: the query, then its candidates in order, refused ones framed in red."""
    everything = [query, *tiles]
    rows = -(-len(everything) // _COLUMNS)
    sheet = PilImage.new("RGB", (_COLUMNS * _TILE[0], rows * _TILE[1]), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(12)
    for place, tile in enumerate(everything):
        left, top = place % _COLUMNS * _TILE[0] + 4, place // _COLUMNS * _TILE[1] + 4
        picture = PilImage.fromarray(tile.image)
        picture.thumbnail(_PICTURE, PilImage.Resampling.BICUBIC)
        sheet.paste(picture, (left, top))
        colour = "#1a56c4" if place == 0 else "#c02020" if tile.refused else "#222222"
        if place == 0 or tile.refused:
            draw.rectangle(
                (left - 2, top - 2, left + picture.width + 1, top + picture.height + 1), outline=colour, width=2
            )
        draw.text((left, top + _PICTURE[1] + 4), _plain(tile.caption)[:38], fill=colour, font=font)
    buffer = io.BytesIO()
    sheet.save(buffer, format="JPEG", quality=85)
    return buffer.getvalue()


def _plain(text: str) -> str:
    """Text that any font and Pillow's layout can draw."""
    return "".join(c if c.isprintable() and ord(c) < 0x250 else "?" for c in text)
