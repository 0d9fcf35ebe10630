"""Whether a dataset's files still are the ones that were built, and what to make of it if they are not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from refsr_bench.disk import sha256_bytes
from refsr_bench.errors import ImageError, IntegrityError, first_few
from refsr_bench.images import decode_image, read_bytes
from refsr_bench.schema import Record, StoredFile, StoredImage
from refsr_bench.store import (
    INFO_NAME,
    MANIFEST_NAME,
    Dataset,
    read_stored,
    stored_files,
    to_json_line,
)

LEFT_BY_DESKTOPS = frozenset({".ds_store", "thumbs.db", "ehthumbs.db", "desktop.ini", ".directory"})
"""Files, in small letters, that file managers put unasked into every folder somebody looks at."""


class Problem(NamedTuple):
    """One thing that is wrong with a dataset: which file, and what."""

    path: str
    problem: str


def list_problems(problems: Sequence[Problem]) -> str:
    """The first problems for a message, each on a line of its own."""
    return "".join(f"\n  {line}" for line in first_few([f"{p.path}: {p.problem}" for p in problems], 20))


def _ignore(done: int, total: int) -> None:
    pass


def verify_dataset(
    dataset: Dataset, *, deep: bool = False, progress: Callable[[int, int], None] = _ignore
) -> list[Problem]:
    """Re-hash every file of a dataset and, if ``deep``, decode every picture; returns what is wrong, if anything.

    A file that is not part of the dataset is wrong too, unless a file manager left it.
    """
    problems = check_files(dataset.root, dataset.records, deep=deep, progress=progress)
    for document in dataset.info.documents:
        if (problem := _problem_of(dataset.root, document, deep=False)) is not None:
            problems.append(Problem(document.path, problem))
    known = {INFO_NAME, MANIFEST_NAME, *(document.path for document in dataset.info.documents)}
    known |= {stored.path for record in dataset.records for stored in stored_files(record)}
    present = {file.relative_to(dataset.root).as_posix() for file in dataset.root.rglob("*") if file.is_file()}
    strange = sorted(path for path in present - known if not _is_left_by_desktops(path.rpartition("/")[2]))
    return problems + [Problem(path, "this file is not part of the dataset") for path in strange]


def _is_left_by_desktops(name: str) -> bool:
    # macOS keeps a file's other half in "._NAME" on disks that know no such thing.
    return name.lower() in LEFT_BY_DESKTOPS or name.startswith("._")


def check_files(
    root: Path, records: Iterable[Record], *, deep: bool = False, progress: Callable[[int, int], None] = _ignore
) -> list[Problem]:
    """What is wrong with the files of some records: missing, changed or, if ``deep``, not decoding as declared."""
    files = {stored.path: stored for record in records for stored in stored_files(record)}
    problems = []
    for done, stored in enumerate(files.values(), 1):
        if (problem := _problem_of(root, stored, deep)) is not None:
            problems.append(Problem(stored.path, problem))
        progress(done, len(files))
    return problems


def _problem_of(root: Path, stored: StoredFile, deep: bool) -> str | None:
    try:
        data = read_stored(root, stored)
        if deep and isinstance(stored, StoredImage):
            shape = decode_image(data, stored.path).pixels.shape[:2]
            if shape != (stored.height, stored.width):
                return f"decodes to {shape}, the manifest says {(stored.height, stored.width)}"
    except ImageError as error:
        return error.problem.removeprefix(f"{root / stored.path}: ").removeprefix(f"{stored.path}: ")
    except IntegrityError:
        return "it was changed after the dataset was built (its SHA-256 differs)"
    return None


def accept_modified(dataset: Dataset) -> Dataset:
    """The dataset as its files are now: changed files described anew, under an identity of its own that says so.

    Files that are missing or no pictures stay described as they were, so that their samples fail.
    """
    described = (_describe_anew(dataset.root, record.model_dump(mode="json")) for record in dataset.records)
    records = tuple(Record.model_validate(value) for value in described)
    manifest = "".join(to_json_line(record) for record in records).encode()
    info = dataset.info.model_copy(update={"manifest_sha256": sha256_bytes(manifest), "modified": True})
    return Dataset(dataset.root, info, records)


def _describe_anew(root: Path, value: Any) -> Any:
    """A dumped record in which every file stands as it is on disk."""
    if isinstance(value, list):
        return [_describe_anew(root, each) for each in value]
    if not isinstance(value, dict):
        return value
    value = {key: _describe_anew(root, each) for key, each in value.items()}
    if "sha256" in value:
        try:
            data = read_bytes(root / value["path"])
            if sha256_bytes(data) != value["sha256"]:
                value |= {"sha256": sha256_bytes(data), "bytes": len(data)}
                if "height" in value:
                    pixels, conversions = decode_image(data, value["path"])
                    value |= {"height": pixels.shape[0], "width": pixels.shape[1], "conversions": conversions}
        except ImageError:
            pass
    return value
