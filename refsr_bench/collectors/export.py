"""LR pictures of a dataset as plain files, for programs that make none themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from refsr_bench.disk import atomic_write_json
from refsr_bench.images import crop_to_multiple, encode_png, resize_bicubic
from refsr_bench.store import Dataset, add_file, building, read_stored_image

SCALE = 4
KERNEL = "pil.bicubic"
MARKER = "export.json"


def export_lr(dataset: Dataset, target: Path, *, progress: Callable[[int, int], None]) -> int:
    """Write ``NAME.png``, the HR picture reduced x4 by Pillow's antialiased bicubic, for every sample with HR.

    HR is cropped at the bottom and right to multiples of 4 and not padded: where a protocol pads it to the reference's
    size first, its LR differs in the last row or column. ``export.json`` says from which dataset and how.
    """
    records = [record for record in dataset.records if record.hr is not None]
    with building(target, marker=MARKER) as root:
        for done, record in enumerate(records, 1):
            assert record.hr is not None
            hr = crop_to_multiple(read_stored_image(dataset.root, record.hr), SCALE)
            height, width = hr.shape[0] // SCALE, hr.shape[1] // SCALE
            add_file(root, f"{record.name}.png", encode_png(resize_bicubic(hr, height, width)))
            progress(done, len(records))
        choices = {"dataset": dataset.info.id, "scale": SCALE, "lr": KERNEL, "mod": "crop4", "pad": "none"}
        atomic_write_json(root / MARKER, choices)
    return len(records)
