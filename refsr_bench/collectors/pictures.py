"""Checking pictures and copying them into a dataset under construction, several at a time."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from refsr_bench.errors import IntegrityError
from refsr_bench.images import decode_image, read_bytes
from refsr_bench.schema import StoredImage
from refsr_bench.store import add_image


def store_pictures(
    root: Path,
    pictures: Mapping[str, Path],
    *,
    jobs: int | None,
    progress: Callable[[int, int], None],
    hashes: Mapping[str, str] | None = None,
) -> dict[str, StoredImage]:
    """Check pictures and copy them unchanged: ``pictures`` maps names inside the dataset to files.

    ``jobs`` at a time (all processors if None); memory grows with it, not with the number of pictures, and the result
    does not depend on it. ``hashes`` are those that some of the files must have. `ImageError` names the first bad one.
    """
    stored: dict[str, StoredImage] = {}
    with _pool(jobs or min(os.cpu_count() or 1, 16)) as pool:
        done = pool.map(lambda name: _store_one(root, name, pictures[name], (hashes or {}).get(name)), pictures)
        for name, image in zip(pictures, done, strict=True):
            stored[name] = image
            progress(len(stored), len(pictures))
    return stored


@contextmanager
def _pool(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that stop at the first fault; Pillow and hashing let go of the interpreter while they work."""
    pool = ThreadPoolExecutor(workers)
    # Decoding silences Pillow's warnings for a moment, which threads would undo for each other.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)


def _store_one(root: Path, name: str, path: Path, sha256: str | None) -> StoredImage:
    data = read_bytes(path)
    stored = add_image(root, name, data, decode_image(data, str(path)))
    if sha256 not in (None, stored.sha256):
        raise IntegrityError(f"{path}: it was changed after it was unpacked", f"delete {path.parent}, then again")
    return stored
