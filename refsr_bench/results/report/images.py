"""The pictures of a report: copies in one folder, each error map beside its picture."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage
from PIL import ImageDraw

from refsr_bench.errors import ImageError, RefsrError
from refsr_bench.images import encode_png, load_image, luma_bt601
from refsr_bench.schema import Image, Record, RunInfo, Sample
from refsr_bench.store import Dataset, load_sample

ERROR_LIMIT = 32
"""Luma error, in grey levels, at which an error map's colours end."""

THUMB_PX = 240


class Prepared(NamedTuple):
    """What a protocol made of a sample: the HR picture that was scored, the LR picture of the same part, and where HR
    and reference pictures lie on the canvases that matches are counted on, (x, y) px."""

    hr: Image
    lr: Image
    hr_origin: tuple[int, int]
    ref_origins: tuple[tuple[int, int], ...]


Prepare = Callable[[RunInfo, Sample], Prepared]
"""(run, sample with the references used) → what the run's protocol makes of it."""


class Pane(NamedTuple):
    """One picture of a page: where it lies, and the size it is shown at (that of the HR picture)."""

    key: str
    title: str
    role: str
    """lr, ref, sr, hr or matches."""
    src: str
    error_src: str | None
    width: int
    height: int


class Wanted(NamedTuple):
    """One restored picture to show: its key, the method's label, its run, and where it lies."""

    key: str
    title: str
    info: RunInfo
    path: Path
    matches: Path
    """Where the run keeps what it matched, if it did."""


def sr_path(folder: Path, info: RunInfo, sample: str) -> Path:
    """Where a run's restored picture of a sample lies."""
    return folder / info.images / info.file_pattern.replace("{name}", sample)


def write_panes(
    out: Path,
    folder: str,
    dataset: Dataset,
    record: Record,
    ref_paths: Sequence[str],
    wanted: Sequence[Wanted],
    prepare: Prepare,
) -> tuple[list[Pane], list[str]]:
    """Write the pictures of one sample below ``out/folder``; returns the panes and what is missing, in words."""
    positions = [i for i, ref in enumerate(record.refs) if ref.path in ref_paths]
    sample = load_sample(dataset, record, positions)
    if sample.hr is None:
        raise ImageError(f"{record.name}: there is no HR picture")
    hr, lr, hr_origin, ref_origins = prepare(wanted[0].info, sample)
    height, width = hr.shape[:2]
    target = out / folder
    target.mkdir(parents=True, exist_ok=True)

    def pane(key: str, title: str, role: str, image: Image, error_src: str | None = None) -> Pane:
        (target / f"{key}.png").write_bytes(encode_png(image))
        return Pane(key, title, role, f"{folder}/{key}.png", error_src, width, height)

    panes = [pane("lr", "LR input", "lr", lr)]
    panes += [pane(f"ref{i}", "Reference", "ref", ref) for i, ref in enumerate(sample.refs, 1)]
    missing, overlays = [], []
    for item in wanted:
        if "pictures" in item.info.scored:  # a matcher alone restores nothing
            try:
                sr = load_image(item.path)
                if sr.shape != hr.shape:
                    raise ImageError(f"{item.path}: its size is not the HR picture's")
                (target / f"{item.key}-error.png").write_bytes(encode_error_map(hr, sr))
                panes.append(pane(item.key, item.title, "sr", sr, f"{folder}/{item.key}-error.png"))
            except RefsrError as error:
                missing.append(f"{item.title}: {error.problem}")
        if item.matches.is_file() and sample.refs:
            overlay = draw_matches(hr, sample.refs[0], item.matches, hr_origin, ref_origins[0])
            overlays.append(pane(f"{item.key}-matches", f"Matches of {item.title}", "matches", overlay))
    panes.append(pane("hr", "HR (ground truth)", "hr", hr))
    panes += overlays
    (target / "thumb.jpg").write_bytes(_encode_thumb(hr))
    return panes, missing


def luma_error(hr: Image, sr: Image) -> NDArray[np.float64]:
    """Absolute difference of the studio luma of two pictures, grey levels ``(H, W)``."""
    difference: NDArray[np.float64] = np.abs(luma_bt601(sr) - luma_bt601(hr))
    return difference


def encode_error_map(hr: Image, sr: Image) -> bytes:
    """PNG of the luma error: black at 0, then violet, orange, and pale yellow at `ERROR_LIMIT` grey levels or more."""
    levels = np.clip(luma_error(hr, sr) * (255 / ERROR_LIMIT), 0, 255).round().astype(np.uint8)
    picture = PilImage.fromarray(levels).convert("P")
    picture.putpalette(_palette())
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def draw_matches(
    hr: Image, ref: Image, path: Path, hr_origin: tuple[int, int], ref_origin: tuple[int, int], lines: int = 60
) -> Image:
    """The HR picture beside the reference, with evenly chosen nodes joined to what they were matched with.

    Colours go by a node's place, so that lines of one colour should stay together.
    """
    with np.load(path, allow_pickle=False) as stored:
        nodes, matches = stored["nodes"] - hr_origin, stored["matches"] - ref_origin
    height, width = max(hr.shape[0], ref.shape[0]), hr.shape[1] + ref.shape[1]
    canvas = np.zeros((height, width, 3), np.uint8)
    canvas[: hr.shape[0], : hr.shape[1]] = hr // 2 + 64
    canvas[: ref.shape[0], hr.shape[1] :] = ref // 2 + 64
    inside = np.flatnonzero(((nodes >= 0) & (nodes < hr.shape[1::-1])).all(1))
    chosen = inside[np.linspace(0, len(inside) - 1, min(lines, len(inside))).round().astype(int)] if len(inside) else []
    picture = PilImage.fromarray(canvas).resize((2 * width, 2 * height))
    brush = ImageDraw.Draw(picture)
    for i in chosen:
        (x, y), (u, v) = nodes[i], matches[i] + (hr.shape[1], 0)
        colour = f"hsl({round(360 * float(x) / hr.shape[1])}, 90%, {round(45 + 30 * float(y) / hr.shape[0])}%)"
        brush.line([2 * x, 2 * y, 2 * u, 2 * v], fill=colour, width=2)
        for a, b in ((x, y), (u, v)):
            brush.ellipse([2 * a - 3, 2 * b - 3, 2 * a + 3, 2 * b + 3], fill=colour)
    return np.asarray(picture.resize((width, height), PilImage.Resampling.LANCZOS))


def _palette() -> bytes:
    from matplotlib import colormaps

    return (colormaps["inferno"](np.arange(256), bytes=True)[:, :3]).astype(np.uint8).tobytes()


def _encode_thumb(image: Image) -> bytes:
    picture = PilImage.fromarray(image)
    picture.thumbnail((THUMB_PX, THUMB_PX), PilImage.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=85)
    return buffer.getvalue()


def choose_samples(values: Mapping[str, Mapping[str, float]], limit: int, *, falling: bool = False) -> list[str]:
    """Samples worth looking at, by the values each run gave them: those on which the runs differ most.

    With one run: those with the worst values, which are the lowest unless ``falling`` (lower is better). ``values``
    maps a run to its samples' values; at most ``limit`` names return.
    """
    samples = list(dict.fromkeys(sample for own in values.values() for sample in own))

    def spread(sample: str) -> float:
        known = [own[sample] for own in values.values() if sample in own]
        return max(known) - min(known) if len(values) > 1 else known[0] if falling else -known[0]

    return sorted(samples, key=spread, reverse=True)[:limit]
