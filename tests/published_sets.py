"""Archives as they were published, in names and folders, of small pictures made here."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image as PilImage

from refsr_bench.collectors.layout import read_names
from refsr_bench.images import encode_png

Files = dict[str, bytes]


def picture(seed: int, width: int = 28, height: int = 24) -> np.ndarray:
    """Smooth noise, another for each seed."""
    noise = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return np.asarray(PilImage.fromarray(noise).resize((width, height), PilImage.Resampling.BICUBIC))


def png(seed: int, width: int = 28, height: int = 24) -> bytes:
    return encode_png(picture(seed, width, height))


def jpg(seed: int) -> bytes:
    file = io.BytesIO()
    PilImage.fromarray(picture(seed)).save(file, "JPEG", quality=95)
    return file.getvalue()


def numbered(names: Iterator[str] | list[str], make: Callable[[int], bytes] = png) -> Files:
    return {name: make(seed) for seed, name in enumerate(names)}


def self_ex_sr(folder: str, count: int) -> Files:
    """HR and LR of factor 4, another factor and another method's result beside them."""
    names = [f"{folder}/image_SRF_4/img_{i:03d}_SRF_4" for i in range(1, count + 1)]
    pairs = numbered([f"{name}_HR.png" for name in names]) | numbered(
        [f"{name}_LR.png" for name in names], lambda seed: png(seed, 7, 6)
    )
    return pairs | {f"{names[0]}_SRCNN.png": png(0), f"{folder}/image_SRF_2/img_001_SRF_2_HR.png": png(1)}


def sun80() -> dict[str, Files]:
    names = read_names("sun80.txt")
    matches = [f"Sun_Hays_SR_scenematches/{n}.jpg/match_{k:02d}.jpg" for n in names for k in range(1, 3)]
    return {
        "Sun_Hays_SR_groundtruth.zip": numbered([f"Sun_Hays_SR_groundtruth/{name}.jpg" for name in names], jpg),
        "Sun_Hays_SR_scenematches.zip": numbered(matches, lambda seed: jpg(seed + 1000)),
    }


def cufed(count: int) -> dict[str, Files]:
    names = [f"{i:06d}_{i % 7}.png" for i in range(count)]
    return {
        "CUFED_input.zip": numbered([f"input/{name}" for name in names]),
        "CUFED_ref.zip": numbered([f"ref/{name}" for name in names], lambda seed: png(seed + 10**6, 30, 26)),
    }


PUBLISHED: dict[str, Callable[[], dict[str, Files]]] = {
    "cufed5": lambda: {"CUFED5.zip": numbered([f"CUFED5/{i:03d}_{k}.png" for i in range(126) for k in range(6)])},
    "sun80": sun80,
    "urban100": lambda: {"Urban100_SR.zip": self_ex_sr("Urban100", 100)},
    "manga109": lambda: {"Manga109.zip": numbered([f"Manga109/{title}.png" for title in read_names("manga109.txt")])},
    "manga109-third-party": lambda: PUBLISHED["manga109"](),
    "wr-sr": lambda: {
        "WR-SR.zip": numbered(
            [f"WR-SR/{name}" for i in range(1, 81) for name in (f"input/{i:03d}.png", f"ref/{i:03d}_ref.png")]
        )
    },
    "set5": lambda: {"Set5_SR.zip": self_ex_sr("Set5", 5)},
    "set14": lambda: {"Set14_SR.zip": self_ex_sr("Set14", 14)},
    "bsd100": lambda: {"BSD100_SR.zip": self_ex_sr("BSD100", 100)},
}
"""Dataset to archive name to files."""


def write_zip(path: Path, files: Files) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def write_archives(folder: Path, name: str) -> Path:
    """The archives of a set; the path for ``--from``: the archive, or the folder where there are several."""
    paths = [write_zip(folder / file, files) for file, files in PUBLISHED[name]().items()]
    return paths[0] if len(paths) == 1 else folder


def write_folder(folder: Path, files: Files) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder
