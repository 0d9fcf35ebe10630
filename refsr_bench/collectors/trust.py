"""What the first verified build saw, enforced from there on: hashes of archives and lists of names.

Nobody recorded the hashes of some published archives, nor all of their file names. The first archive that builds is
trusted; after that another one under the same name is refused until the user says that it is right.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import filelock

from refsr_bench.disk import atomic_write_bytes, atomic_write_json
from refsr_bench.errors import IntegrityError
from refsr_bench.store import data_dir


def _folder() -> Path:
    return data_dir() / ".trusted"


def recorded_hashes(dataset: str) -> dict[str, str]:
    """File name to SHA-256 of the archives that a dataset was first built from on this machine."""
    path = _folder() / f"{dataset}.json"
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_bytes())
        return {str(file): str(digest) for file, digest in value.items()}
    except (ValueError, AttributeError):
        raise IntegrityError(f"{path}: cannot be read", "delete it to trust the next archive anew") from None


def record_hashes(dataset: str, hashes: Mapping[str, str]) -> None:
    """Remember the archives of a build that verified; what is not among them stays as it was."""
    if not hashes:
        return
    path = _folder() / f"{dataset}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(path.with_name(f".{path.name}.lock")):
        atomic_write_json(path, recorded_hashes(dataset) | dict(hashes))


def freeze_names(dataset: str, names: Iterable[str]) -> None:
    """Remember the file names of the first verified build; a later list does not replace it."""
    path = names_path(dataset)
    path.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(path.with_name(f".{path.name}.lock")):
        if not path.is_file():
            atomic_write_bytes(path, "".join(f"{name}\n" for name in sorted(names)).encode())


def frozen_names(dataset: str) -> frozenset[str] | None:
    """File names of the first verified build; None before it."""
    path = names_path(dataset)
    return frozenset(path.read_text("utf-8").split("\n")[:-1]) if path.is_file() else None


def names_path(dataset: str) -> Path:
    """Where the frozen list of a dataset's file names lies."""
    return _folder() / f"{dataset}.names.txt"
