"""A dataset on disk: written whole or not at all, hashed, verifiable, read back.

Layout of a dataset folder::

    dataset.json      what it is, and the manifest's hash; written last, so a folder without it is not a dataset
    manifest.jsonl    one `Record` a line, in order
    ...               the files that the records name

A build works in a hidden sibling folder and is published with one rename; a killed build leaves nothing that looks
like a dataset, and the next one clears what it left.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import platformdirs
import pydantic

from refsr_bench.disk import atomic_write_bytes, atomic_write_json, publishing, sha256_bytes
from refsr_bench.errors import IntegrityError, ManualStepNeeded, UsageError, did_you_mean, first_few
from refsr_bench.images import Decoded, decode_image, read_bytes
from refsr_bench.lookup import list_entries
from refsr_bench.schema import (
    SCHEMA_VERSION,
    DatasetInfo,
    Frozen,
    Image,
    Record,
    Sample,
    StoredFile,
    StoredImage,
)
from refsr_bench.signature import fits

INFO_NAME = "dataset.json"
MANIFEST_NAME = "manifest.jsonl"


class Dataset(NamedTuple):
    """An opened dataset: its folder, its ``dataset.json`` and its manifest."""

    root: Path
    info: DatasetInfo
    records: tuple[Record, ...]


# --- folders -----------------------------------------------------------------------------------------------------


def data_dir() -> Path:
    """Folder of built datasets: ``REFSR_DATA_DIR``, else the user's data folder."""
    return _folder("REFSR_DATA_DIR", platformdirs.user_data_path("refsr-bench") / "datasets")


def cache_dir() -> Path:
    """Folder of downloaded and unpacked archives, safe to delete: ``REFSR_CACHE_DIR``, else the user's cache folder."""
    return _folder("REFSR_CACHE_DIR", platformdirs.user_cache_path("refsr-bench"))


def model_dir() -> Path:
    """Folder of imported weights: ``REFSR_MODEL_DIR``, else the user's data folder."""
    return _folder("REFSR_MODEL_DIR", platformdirs.user_data_path("refsr-bench") / "models")


def _folder(variable: str, default: Path) -> Path:
    value = os.environ.get(variable)
    return Path(value).expanduser() if value else default


# --- files -------------------------------------------------------------------------------------------------------


def to_json_line(value: Frozen) -> str:
    """One canonical JSON line (keys sorted, no spaces, defaults left out), so that equal values hash equally."""
    dumped = value.model_dump(mode="json", exclude_defaults=True)
    return json.dumps(dumped, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"


def add_file(root: Path, path: str, data: bytes) -> StoredFile:
    """Write a file of a dataset under construction and describe it."""
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    return StoredFile(path=path, sha256=sha256_bytes(data), bytes=len(data))


def add_image(root: Path, path: str, data: bytes, decoded: Decoded | None = None) -> StoredImage:
    """Check that the bytes are a picture, write them unchanged into a dataset under construction, describe them.

    ``decoded`` is the picture where the caller has already decoded ``data``.
    """
    pixels, conversions = decoded or decode_image(data, path)
    stored = add_file(root, path, data)
    height, width = pixels.shape[:2]
    return StoredImage(**stored.model_dump(), height=height, width=width, conversions=conversions)


# --- writing -----------------------------------------------------------------------------------------------------


def name_after(target: Path) -> str:
    """Name of a dataset that is called after its folder; `UsageError` if it could not stand in a signature."""
    if not fits(target.name) or "@" in target.name:
        raise UsageError(
            f"{target}: cannot name a dataset: no blanks, |, : or @, as the name is part of every signature",
            "choose another --out",
        )
    return target.name


@contextmanager
def building(target: Path, *, marker: str = INFO_NAME, needed: int | None = None) -> Iterator[Path]:
    """Give an empty folder to build a dataset in; on success it becomes ``target`` as `publishing` does it.

    ``marker`` is the file that makes a folder one that may be replaced.
    """
    with publishing(target, lambda folder: (folder / marker).is_file(), "dataset", needed=needed) as work:
        yield work


def _is_dataset(folder: Path) -> bool:
    return (folder / INFO_NAME).is_file()


def seal(
    root: Path,
    records: Sequence[Record],
    *,
    name: str,
    version: str,
    title: str,
    licence: str,
    citation: str,
    builder_version: str,
    options: Mapping[str, str] | None = None,
    sources: Mapping[str, str] | None = None,
    documents: Sequence[StoredFile] = (),
) -> DatasetInfo:
    """Write the manifest and, last, ``dataset.json``: from here on the folder is a dataset.

    ``sources`` says what it was built from; it is kept beside the manifest, not in it, so the same pictures have the
    same identity wherever they came from.
    """
    _refuse_duplicates(record.name for record in records)
    manifest = "".join(to_json_line(record) for record in records).encode()
    atomic_write_bytes(root / MANIFEST_NAME, manifest)
    info = DatasetInfo(
        name=name,
        version=version,
        title=title,
        licence=licence,
        citation=citation,
        builder_version=builder_version,
        samples=len(records),
        groups=dict(Counter(record.group for record in records)),
        manifest_sha256=sha256_bytes(manifest),
        bytes=sum({stored.path: stored.bytes for record in records for stored in stored_files(record)}.values()),
        options=dict(options or {}),
        sources=dict(sources or {}),
        documents=tuple(documents),
    )
    atomic_write_json(root / INFO_NAME, info.model_dump(mode="json"))
    return info


def _refuse_duplicates(names: Iterable[str]) -> None:
    # Compared without case: results are files named after samples, and some file systems ignore case.
    repeated = [name for name, count in Counter(n.casefold() for n in names).items() if count > 1]
    if repeated:
        raise IntegrityError(f"sample names are used twice: {', '.join(first_few(sorted(repeated), 5))}")


# --- reading -----------------------------------------------------------------------------------------------------


def resolve_dataset(name_or_dir: str) -> Path:
    """Folder of a dataset given by the name it was built under or by its path.

    `ManualStepNeeded` if it can be built under that name but is not, `UsageError` if there is no such one,
    `IntegrityError` if the folder is not one.
    """
    as_path = Path(name_or_dir)
    if _is_dataset(as_path):
        return as_path
    built = data_dir() / name_or_dir
    if "/" not in name_or_dir and _is_dataset(built):
        return built
    if as_path.is_dir():
        raise IntegrityError(
            f"{as_path}: there is no {INFO_NAME} in this folder, so it is not a built dataset",
            f"make one from photographs with: refsr-bench build custom {as_path}",
        )
    if "/" in name_or_dir:
        raise UsageError(f"{as_path}: there is no such folder", "name a built dataset or its folder")
    known = list_entries("datasets")
    if name_or_dir in known:
        raise ManualStepNeeded(
            f"the dataset {name_or_dir!r} is not built (looked in {data_dir()})",
            f"build it with: refsr-bench build {name_or_dir}",
        )
    names = [folder.name for folder in built_folders()]
    raise UsageError(
        f"there is no dataset {name_or_dir!r} (built in {data_dir()}: {', '.join(names) or 'none'})",
        did_you_mean(name_or_dir, {*names, *known}),
    )


def built_folders() -> list[Path]:
    """Every dataset in the data folder, by name; what is being built or replaced is not one."""
    found = (path.parent for path in data_dir().glob(f"*/{INFO_NAME}"))
    return sorted(folder for folder in found if not folder.name.startswith("."))


def open_dataset(root: Path) -> Dataset:
    """Read ``dataset.json`` and the manifest; `IntegrityError` if the manifest is not the one that was built."""
    info = read_info(root)
    manifest_path = root / MANIFEST_NAME
    manifest = manifest_path.read_bytes() if manifest_path.is_file() else b""
    if sha256_bytes(manifest) != info.manifest_sha256:
        raise IntegrityError(
            f"{manifest_path}: it is not the manifest that was built (its SHA-256 differs from {INFO_NAME})",
            "build the dataset again with --force, or restore the file",
        )
    try:
        records = tuple(Record.model_validate_json(line) for line in manifest.splitlines())
    except pydantic.ValidationError as error:
        raise IntegrityError(f"{manifest_path}: {_first_error(error)}") from None
    return Dataset(root, info, records)


def read_info(root: Path) -> DatasetInfo:
    """Read ``dataset.json`` alone; `IntegrityError` if it is broken or from a newer version."""
    path = root / INFO_NAME
    try:
        value = json.loads(path.read_bytes())
        if value.get("schema_version", 0) > SCHEMA_VERSION:
            raise IntegrityError(f"{path}: written by a newer version of refsr-bench", "upgrade refsr-bench")
        return DatasetInfo.model_validate(value)
    except pydantic.ValidationError as error:
        raise IntegrityError(f"{path}: {_first_error(error)}") from None
    except (ValueError, AttributeError, TypeError, OSError) as error:
        raise IntegrityError(f"{path}: cannot be read ({error})", "build the dataset again with --force") from None


def _first_error(error: pydantic.ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"


def read_stored(root: Path, stored: StoredFile) -> bytes:
    """Bytes of a dataset's file; `IntegrityError` if they are not the ones that were built."""
    path = root / stored.path
    data = read_bytes(path)
    if sha256_bytes(data) != stored.sha256:
        raise IntegrityError(f"{path}: it was changed after the dataset was built (its SHA-256 differs)")
    return data


def read_stored_image(root: Path, stored: StoredImage) -> Image:
    """Pixels of a dataset's picture, its hash checked on the way."""
    return decode_image(read_stored(root, stored), str(root / stored.path)).pixels


def load_sample(dataset: Dataset, record: Record, refs: Sequence[int] | None = None) -> Sample:
    """Read a record's pictures, every hash checked; ``refs`` picks references by position (all if None)."""
    chosen = record.refs if refs is None else tuple(record.refs[i] for i in refs)
    return Sample(
        record=record,
        hr=None if record.hr is None else read_stored_image(dataset.root, record.hr),
        lr=None if record.lr is None else read_stored_image(dataset.root, record.lr),
        refs=tuple(read_stored_image(dataset.root, ref) for ref in chosen),
    )


def stored_files(record: Record) -> Iterator[StoredFile]:
    """Every file that a record names."""
    yield from (image for image in (record.hr, record.lr) if image is not None)
    for ref in record.refs:
        yield ref
        yield from (file for file in (ref.disparity, ref.valid_mask) if file is not None)
