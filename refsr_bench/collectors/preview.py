"""A sheet of small pictures that shows at a glance what a dataset pairs with what."""

from __future__ import annotations

from pathlib import Path

from PIL import Image as PilImage
from PIL import ImageDraw, ImageFont

from refsr_bench.disk import atomic_write_bytes
from refsr_bench.images import encode_png
from refsr_bench.schema import Image, Record, StoredImage
from refsr_bench.store import Dataset, read_stored_image

MAX_ROWS = 40
MAX_REFS = 5
_TILE, _GAP, _TEXT = 140, 8, 18
_INK, _PAPER, _FAINT = (20, 20, 20), (255, 255, 255), (110, 110, 110)


def write_preview(dataset: Dataset, path: Path) -> int:
    """Draw the first samples, one a row (HR or LR, then references), to a PNG; returns how many are shown."""
    import numpy as np

    records = dataset.records[:MAX_ROWS]
    most = min(max((len(record.refs) for record in records), default=0), MAX_REFS)
    width = _GAP + (1 + most) * (_TILE + _GAP)
    row_height = _TILE + _TEXT + _GAP
    sheet = PilImage.new("RGB", (max(width, 420), _GAP + _TEXT + len(records) * row_height), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    shown = "" if len(records) == len(dataset.records) else f", the first {len(records)} shown"
    draw.text((_GAP, 4), _plain(f"{dataset.info.id}: {dataset.info.samples} samples{shown}"), fill=_INK, font=font)
    for row, record in enumerate(records):
        _draw_row(sheet, draw, font, dataset, record, _GAP + _TEXT + row * row_height)
    pixels: Image = np.asarray(sheet)
    atomic_write_bytes(path, encode_png(pixels))
    return len(records)


def _draw_row(
    sheet: PilImage.Image,
    draw: ImageDraw.ImageDraw,
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
    dataset: Dataset,
    record: Record,
    top: int,
) -> None:
    head = record.hr or record.lr
    tiles: list[tuple[str, StoredImage | None]] = [(f"{record.name}{'' if record.hr else ' (LR only)'}", head)]
    for number, ref in enumerate(record.refs[:MAX_REFS], 1):
        more = len(record.refs) - MAX_REFS if number == MAX_REFS else 0
        label = f"level {ref.level}" if ref.level is not None else f"ref {number}"
        tiles.append((label + (f" (+{more} more)" if more > 0 else ""), ref))
    for column, (label, stored) in enumerate(tiles):
        left = _GAP + column * (_TILE + _GAP)
        size = "" if stored is None else f" {stored.width}x{stored.height}"
        text = _plain(label)
        while font.getlength(text + size) > _TILE and len(text) > 4:
            text = text[:-3] + ".."
        draw.text((left, top), text + size, fill=_INK if column == 0 else _FAINT, font=font)
        if stored is not None:
            tile = PilImage.fromarray(read_stored_image(dataset.root, stored))
            tile.thumbnail((_TILE, _TILE), PilImage.Resampling.LANCZOS)
            sheet.paste(tile, (left, top + _TEXT))


def _plain(text: str) -> str:
    return "".join(c if 32 <= ord(c) < 127 else "?" for c in text)
