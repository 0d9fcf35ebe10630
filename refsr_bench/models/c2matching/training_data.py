"""Training examples: item k is a pure function of the seed and k.

So a resumed run, another number of workers, or several processes that share a batch see exactly the same pictures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PilImage
from torch import Tensor
from torch.utils.data import DataLoader

from refsr_bench.errors import ImageError, UsageError
from refsr_bench.geometry import similarity_about_centre, translation
from refsr_bench.images import SUFFIXES, load_image, resize_bicubic
from refsr_bench.models.c2matching.config import ContrastiveConfig, ReferenceConfig, RunConfig
from refsr_bench.models.c2matching.pairs import draw_homography, make_contrastive_pair
from refsr_bench.schema import Image
from refsr_bench.store import Dataset

Item = dict[str, NDArray[Any]]
Batch = dict[str, Tensor]

CACHE_BYTES = 512 << 20
"""Decoded photographs that one worker keeps."""

CORNER_PX = 12
SHIFT_PX = 32
GAIN = 0.15
OFFSET = 12.0
JPEG_QUALITY = (40, 95)


class Source(NamedTuple):
    """A photograph, and its own reference where the data set has one."""

    picture: Path
    ref: Path | None


# --- what there is -------------------------------------------------------------------------------------------------


def find_photographs(folders: Sequence[Path]) -> tuple[Source, ...]:
    """List the photographs below folders, in the order of their paths; UsageError if there is none."""
    paths = [path for folder in folders for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES]
    if not paths:
        raise UsageError(f"there is no photograph in {', '.join(map(str, folders))}")
    return tuple(Source(path, None) for path in paths)


def sources_of(dataset: Dataset) -> tuple[Source, ...]:
    """List the HR pictures of a built data set, each with its first reference."""
    root = dataset.root
    return tuple(
        Source(root / record.hr.path, root / record.refs[0].path if record.refs else None)
        for record in dataset.records
        if record.hr is not None
    )


def fingerprint(sources: Sequence[Source]) -> str:
    """Hash of the names and sizes of all pictures: a run that goes on must find the same ones."""
    digest = hashlib.sha256()
    for path in (path for source in sources for path in source if path is not None):
        digest.update(f"{path.parent.name}/{path.name} {path.stat().st_size}\n".encode())
    return digest.hexdigest()


def check_sources(config: RunConfig, sources: Sequence[Source]) -> None:
    """UsageError if the pictures cannot give what the configuration asks for."""
    if isinstance(config, ReferenceConfig):
        if config.own_share > 0 and any(source.ref is None for source in sources):
            raise UsageError(
                "some pictures have no reference of their own",
                "--set own_share=0 --set same_share=0.6 --set other_share=0.2 --set lr_share=0.1 --set black_share=0.1",
            )
        if config.other_share > 0 and len(sources) < 2:
            raise UsageError("another photograph as reference needs at least two photographs")


# --- one item ------------------------------------------------------------------------------------------------------


class Examples:
    """The examples of a stage, by number; give it to a DataLoader."""

    def __init__(self, config: RunConfig, sources: Sequence[Source]) -> None:
        self.config = config
        self.sources = tuple(sources)
        self._cache: dict[Path, Image] = {}
        self._cached_bytes = 0

    def __len__(self) -> int:
        return self.config.iterations * self.config.accumulate * self.config.batch

    def __getitem__(self, number: int) -> Item | ImageError:
        """Make item ``number``; a picture that cannot be read is returned as its error, to be raised by the reader."""
        try:
            if isinstance(self.config, ReferenceConfig):
                return self._restoration_item(number, self.config)
            assert isinstance(self.config, ContrastiveConfig)
            return self._contrastive_item(number, self.config)
        except ImageError as error:
            return error

    def _source(self, number: int) -> Source:
        epoch, position = divmod(number, len(self.sources))
        order = np.random.default_rng((self.config.seed, 1, epoch)).permutation(len(self.sources))
        return self.sources[int(order[position])]

    def _picture(self, path: Path) -> Image:
        picture = self._cache.get(path)
        if picture is None:
            picture = _fit(load_image(path), self.config)
            if self._cached_bytes + picture.nbytes <= CACHE_BYTES:
                self._cache[path] = picture
                self._cached_bytes += picture.nbytes
        return picture

    def _contrastive_item(self, number: int, config: ContrastiveConfig) -> Item:
        rng = np.random.default_rng((config.seed, 2, number))
        size = config.size_px
        picture = flip(self._picture(self._source(number).picture), rng)
        x, y = corner(picture, size, rng)
        hr = np.ascontiguousarray(picture[y : y + size, x : x + size])
        if config.sampler == "wide":
            h = draw_wide(rng, size, config.angle_deg, config.scale)
            ref = warp(picture, h @ translation(-x, -y), size)
            if rng.random() < config.photometric:
                ref = change_light(ref, rng)
            lr_up = enlarge(shrink(hr))
            return {"hr": hr, "lr_up": lr_up, "ref": ref, "h_hr_to_ref": h, "phase": rng.integers(4, size=())}
        h = draw_homography(np.random.RandomState(rng.integers(1 << 32, dtype=np.uint32)), size, config.sampler)
        pair = make_contrastive_pair(hr, h)
        return {
            "hr": pair.hr,
            "lr_up": pair.lr_up,
            "ref": pair.ref,
            "h_hr_to_ref": h,
            "phase": rng.integers(4, size=()),
        }

    def _restoration_item(self, number: int, config: ReferenceConfig) -> Item:
        rng = np.random.default_rng((config.seed, 3, number))
        size = config.size_px
        source = self._source(number)
        shares = (config.own_share, config.same_share, config.other_share, config.lr_share, config.black_share)
        kind = ("own", "same", "other", "lr", "black")[rng.choice(5, p=shares)]
        code = rng.integers(8)
        picture = flip_by(self._picture(source.picture), code)
        x, y = corner(picture, size, rng)
        hr = np.ascontiguousarray(picture[y : y + size, x : x + size])
        lr = shrink(hr)
        lr_up = enlarge(lr)
        if kind == "own":
            assert source.ref is not None
            own = resize_bicubic(load_image(source.ref), size, size)
            ref = flip_by(own, code)
        elif kind == "same":
            h = draw_wide(rng, size, config.angle_deg, config.scale)
            ref = warp(picture, h @ translation(-x, -y), size)
            if rng.random() < config.photometric:
                ref = change_light(ref, rng)
        elif kind == "other":
            position = self.sources.index(source)
            other = self.sources[(position + 1 + rng.integers(len(self.sources) - 1)) % len(self.sources)]
            another = flip(self._picture(other.picture), rng)
            x, y = corner(another, size, rng)
            ref = another[y : y + size, x : x + size]
        else:
            ref = lr_up if kind == "lr" else np.zeros_like(hr)
        return {"hr": hr, "lr": lr, "lr_up": lr_up, "ref": np.ascontiguousarray(ref)}


def _fit(picture: Image, config: RunConfig) -> Image:
    """Bring a photograph to what crops are taken from: at least ``size_px`` on each side."""
    height, width = picture.shape[:2]
    if config.fit == "resize-as-released":
        if (height, width) == (config.size_px, config.size_px):
            return picture
        resized = cv2.resize(picture, (config.size_px, config.size_px), interpolation=cv2.INTER_CUBIC)
        return np.asarray(resized, np.uint8)
    short = min(height, width)
    wanted = max(config.size_px, min(short, config.short_side_px or short))
    if wanted == short:
        return picture
    new_height, new_width = (max(wanted, round(side * wanted / short)) for side in (height, width))
    resized_picture = PilImage.fromarray(picture).resize((new_width, new_height), PilImage.Resampling.LANCZOS)
    return np.asarray(resized_picture)


def shrink(hr: Image) -> Image:
    """LR picture of an HR picture, as the release makes it."""
    return resize_bicubic(hr, hr.shape[0] // 4, hr.shape[1] // 4)


def enlarge(lr: Image) -> Image:
    """LR picture enlarged to HR size, as the release makes it."""
    return resize_bicubic(lr, lr.shape[0] * 4, lr.shape[1] * 4)


def flip(picture: Image, rng: np.random.Generator) -> Image:
    """Mirror, turn upside down and transpose, each with probability one half."""
    return flip_by(picture, rng.integers(8))


def flip_by(picture: Image, code: int | np.integer[Any]) -> Image:
    """One of the eight orientations of a picture."""
    if code & 1:
        picture = picture[:, ::-1]
    if code & 2:
        picture = picture[::-1]
    return picture.transpose(1, 0, 2) if code & 4 else picture


def corner(picture: Image, size: int, rng: np.random.Generator) -> tuple[int, int]:
    """Draw the (x, y) of a crop's top-left pixel."""
    height, width = picture.shape[:2]
    return int(rng.integers(width - size + 1)), int(rng.integers(height - size + 1))


def draw_wide(rng: np.random.Generator, size: int, angle_deg: float, scale: float) -> NDArray[np.float64]:
    """Draw a similarity about the centre, a shift of at most 32 px, a perspective of at most 12 px at the corners."""
    angle = rng.uniform(-angle_deg, angle_deg)
    zoom = float(np.exp(rng.uniform(-np.log(scale), np.log(scale))))
    shift = rng.uniform(-SHIFT_PX, SHIFT_PX, 2)
    square = np.array([[0, 0], [size, 0], [size, size], [0, size]], np.float32)
    moved = square + rng.uniform(-CORNER_PX, CORNER_PX, (4, 2)).astype(np.float32)
    perspective = cv2.getPerspectiveTransform(square, moved).astype(np.float64)
    similarity = similarity_about_centre(size, size, angle_deg=angle, scale=zoom)
    matrix: NDArray[np.float64] = translation(*shift) @ perspective @ similarity
    return matrix


def warp(picture: Image, h: NDArray[np.float64], size: int) -> Image:
    """Resample the whole photograph through ``h`` onto ``(size, size)``: bicubic, black outside, smooth if smaller."""
    # The area scale at the middle of the result.
    inverse = np.linalg.inv(h)
    x, y, w = inverse @ np.array([size / 2, size / 2, 1.0])
    scale = float(np.sqrt(abs(np.linalg.det(h)) / abs(h[2] @ np.array([x / w, y / w, 1.0])) ** 3))
    if scale < 1:
        sigma = (1 / scale - 1) / 2
        picture = np.asarray(cv2.GaussianBlur(np.ascontiguousarray(picture), (0, 0), sigma), np.uint8)
    warped = cv2.warpPerspective(np.ascontiguousarray(picture), h, (size, size), flags=cv2.INTER_CUBIC)
    return np.asarray(warped, np.uint8)


def change_light(image: Image, rng: np.random.Generator) -> Image:
    """Change contrast, brightness and, half of the time, JPEG quality."""
    gain, offset = 1 + rng.uniform(-GAIN, GAIN), rng.uniform(-OFFSET, OFFSET)
    changed: Image = np.clip(np.rint(image * gain + offset), 0, 255).astype(np.uint8)
    if rng.random() < 0.5:
        quality = int(rng.integers(*JPEG_QUALITY))
        _, data = cv2.imencode(".jpg", changed, [cv2.IMWRITE_JPEG_QUALITY, quality])
        changed = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return changed


# --- batches -------------------------------------------------------------------------------------------------------


def item_numbers(config: RunConfig, start: int, rank: int = 0, world: int = 1) -> Iterator[list[int]]:
    """Numbers of the items of one backward pass after another, from step ``start`` on, that process ``rank`` takes."""
    share = config.batch // world
    for backward in range(start * config.accumulate, config.iterations * config.accumulate):
        first = backward * config.batch + rank * share
        yield list(range(first, first + share))


def load_batches(examples: Examples, start: int, rank: int = 0, world: int = 1) -> Iterator[Batch]:
    """Batches in order, made in workers; an unreadable picture raises its ImageError here."""
    workers = examples.config.workers
    loader: DataLoader[Any] = DataLoader(
        examples,  # type: ignore[arg-type]
        batch_sampler=list(item_numbers(examples.config, start, rank, world)),
        num_workers=workers,
        collate_fn=collate,
        worker_init_fn=_quiet_worker if workers else None,
        multiprocessing_context="forkserver" if workers else None,
        prefetch_factor=4 if workers else None,
    )
    for batch in loader:
        if isinstance(batch, ImageError):
            raise batch
        yield batch


def collate(items: Sequence[Item | ImageError]) -> Batch | ImageError:
    """Stack items; the first error among them, if there is one."""
    good: list[Item] = []
    for item in items:
        if isinstance(item, ImageError):
            return item
        good.append(item)
    return {key: torch.from_numpy(np.stack([item[key] for item in good])) for key in good[0]}


def as_input(pictures: Tensor, device: torch.device) -> Tensor:
    """Turn pictures of a batch ``(B, H, W, 3)``, grey levels or already in [0, 1], into a network input."""
    moved = pictures.to(device, non_blocking=True).permute(0, 3, 1, 2)
    if moved.dtype == torch.uint8:
        return (moved.to(torch.float32) / 255).contiguous()
    return moved.to(torch.float32).contiguous()


def _quiet_worker(worker: int) -> None:
    """Leave signals to the main process, and the cores to its arithmetic."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
