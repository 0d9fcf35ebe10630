"""``build wr-sr --selection``: the dataset that a selection describes, from pictures at hand or fetched again.

Every picture is taken only if it has the hash that the selection names, so everybody gets the same dataset, or is told
which pictures are gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from refsr_bench.collectors.curation.answers import Fault, picture_suffix
from refsr_bench.collectors.curation.reports import write_documents
from refsr_bench.collectors.curation.selection import Picture, Selected, read_selection
from refsr_bench.collectors.curation.web import Web
from refsr_bench.disk import atomic_write_bytes, sha256_bytes, sha256_file
from refsr_bench.errors import IntegrityError, ItemsFailed, UsageError, first_few
from refsr_bench.images import SUFFIXES, decode_image, encode_png, resize_bicubic
from refsr_bench.schema import DatasetCard, DatasetInfo, Image, Record, StoredReference
from refsr_bench.store import add_image, building, cache_dir, name_after, seal

REFERENCE_RULE = "longer-side:at-most-input's|pil.bicubic"
"""The paper says "a size comparable with the input" and no more. Larger references are reduced so that their longer
side is the input's, with Pillow's antialiased bicubic; smaller ones stay as they are."""
_THREADS = 8


class Source(NamedTuple):
    """Where the pictures of a selection may be found: folders first, then the cache, then their addresses."""

    folders: Sequence[Path]
    web: Web | None = None
    """None: nothing is fetched."""


class Lost(NamedTuple):
    """A picture that cannot be had any more, and why."""

    query: str
    role: str
    address: str
    reason: str


def build_selection(
    card: DatasetCard,
    selection: Path,
    target: Path,
    source: Source,
    *,
    progress: Callable[[int, int], None],
    note: Callable[[str], None],
) -> DatasetInfo:
    """Build the dataset of a selection into ``target``.

    Queries without a reference are dropped and counted. `ItemsFailed`, after the dataset is published, lists the pairs
    whose pictures are gone or changed.
    """
    name = name_after(target)
    rows = read_selection(selection)
    wanted = [row for row in rows if row.reference is not None]
    if not wanted:
        raise UsageError(f"{selection}: no query has a reference")
    dropped = [row for row in rows if row.reference is None]
    if dropped:
        note(f"{len(dropped)} queries without a reference are dropped")
    pictures = {p.sha256: p for row in wanted for p in (row.image, row.reference) if p is not None}
    found, reasons = _find_pictures(pictures, source, progress)
    lost = list(_list_lost(wanted, reasons))
    kept = [row for row in wanted if not {row.image.sha256, _reference(row).sha256} & reasons.keys()]
    if not kept:
        raise IntegrityError(f"{selection}: not one pair can be built:{_listing(lost)}")
    options = {
        "selection": sha256_file(selection),
        "reference_size": REFERENCE_RULE,
        "dropped": str(len(dropped)),
        "gone": str(len(wanted) - len(kept)),
    }
    with building(target) as root:
        records = []
        for number, row in enumerate(kept, 1):
            records.append(_build_pair(root, number, row, found))
            progress(len(pictures) + number, len(pictures) + len(kept))
        documents = write_documents(root, records, kept, dropped, [lost_one._asdict() for lost_one in lost], options)
        info = seal(
            root,
            records,
            name=name,
            version=card.version,
            title=f"WR-SR curated anew: {len(records)} pairs",
            licence="each picture's own, see LICENCES.csv",
            citation=card.citation,
            builder_version=card.builder_version,
            options=options,
            sources={selection.name: f"sha256 {options['selection']}"},
            documents=documents,
        )
    if lost:
        raise ItemsFailed(
            f"{target} is built, but {len(wanted) - len(kept)} of {len(wanted)} pairs could not be:{_listing(lost)}",
            "if you have these files, put them into a folder and add --from FOLDER --force",
        )
    return info


def _reference(row: Selected) -> Picture:
    assert row.reference is not None
    return row.reference


def _listing(lost: Sequence[Lost]) -> str:
    lines = [f"{one.query}, {one.role}: {one.address}: {one.reason}" for one in lost]
    return "".join(f"\n  {line}" for line in first_few(lines, 20))


def _list_lost(rows: Sequence[Selected], reasons: Mapping[str, str]) -> Iterator[Lost]:
    for row in rows:
        for role, picture in (("query", row.image), ("reference", _reference(row))):
            if picture.sha256 in reasons:
                address = picture.origin.url or picture.origin.title
                yield Lost(row.query, role, address, reasons[picture.sha256])


# --- finding ---------------------------------------------------------------------------------------------------------


def _find_pictures(
    pictures: Mapping[str, Picture], source: Source, progress: Callable[[int, int], None]
) -> tuple[dict[str, Path], dict[str, str]]:
    """Hash to file of every picture that can be had, and hash to reason of the others."""
    found = _in_folders(pictures, source.folders)
    reasons: dict[str, str] = {}
    missing = [picture for sha256, picture in pictures.items() if sha256 not in found]
    with ThreadPoolExecutor(_THREADS) as pool:
        for picture, result in zip(missing, pool.map(lambda p: _fetch_again(p, source.web), missing), strict=True):
            if isinstance(result, Path):
                found[picture.sha256] = result
            else:
                reasons[picture.sha256] = result
            progress(len(found) + len(reasons), 2 * len(pictures))
    return found, reasons


def _in_folders(pictures: Mapping[str, Picture], folders: Sequence[Path]) -> dict[str, Path]:
    """Files below the folders that have a wanted hash; only files of a wanted length are read."""
    lengths = {picture.bytes for picture in pictures.values()}
    found: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")) if folder.is_dir() else []:
            if path.suffix.lower() in SUFFIXES and path.is_file() and path.stat().st_size in lengths:
                digest = sha256_file(path)
                if digest in pictures:
                    found.setdefault(digest, path)
    return found


def _fetch_again(picture: Picture, web: Web | None) -> Path | str:
    """The picture's file in the cache, fetched if it is not there; or why it cannot be had."""
    folder = cache_dir() / "curated"
    for cached in folder.glob(f"{picture.sha256}.*"):
        if sha256_file(cached) == picture.sha256:
            return cached
    if picture.origin.url is None:
        return "it came from a disk, not from the web"
    if web is None:
        return "not in the given folders, and nothing may be fetched"
    try:
        body = web.get_picture(picture.origin.url).body
        if sha256_bytes(body) != picture.sha256:
            return "there is another picture at this address now (its SHA-256 differs)"
        path = folder / f"{picture.sha256}{picture_suffix(body, picture.origin.url)}"
    except Fault as fault:
        return str(fault)
    atomic_write_bytes(path, body)
    return path


# --- building --------------------------------------------------------------------------------------------------------


def _build_pair(root: Path, number: int, row: Selected, found: Mapping[str, Path]) -> Record:
    reference = _reference(row)
    hr, hr_did = _decode(found[row.image.sha256])
    ref, ref_did = _decode(found[reference.sha256])
    resized = fit_reference(ref, max(hr.shape[:2]))
    name = f"{number:03d}"
    size = f"{ref.shape[1]}x{ref.shape[0]}"
    how = f"reduced from {size} to {resized.shape[1]}x{resized.shape[0]} px ({REFERENCE_RULE})"
    marks = sorted({*row.image.origin.marks, *reference.origin.marks})
    did = ", ".join(sorted({*hr_did, *ref_did}))
    return Record(
        name=name,
        hr=add_image(root, f"input/{name}.png", encode_png(hr)),
        refs=(StoredReference(**add_image(root, f"ref/{name}_ref.png", encode_png(resized)).model_dump(), level=1),),
        tags=(*((row.category,) if row.category else ()), *marks),
        source=f"query {row.query}: {row.image.origin.url or row.image.origin.title}; reference: "
        f"{reference.origin.url or reference.origin.title}",
        licence=f"input {row.image.origin.licence}, reference {reference.origin.licence}",
        made=f"input {hr.shape[1]}x{hr.shape[0]} px unchanged; reference "
        + (how if resized is not ref else f"{size} px unchanged")
        + f"; chosen by {row.reviewer}, {row.time}"
        + (f"; {did}" if did else ""),
    )


def _decode(path: Path) -> tuple[Image, tuple[str, ...]]:
    data = path.read_bytes()
    try:
        suffix = picture_suffix(data)  # a user's own copy may be called anything
    except Fault:
        suffix = path.suffix
    return decode_image(data, f"{path.stem}{suffix}")


def fit_reference(ref: Image, longest_px: int) -> Image:
    """The reference, reduced to ``longest_px`` on its longer side if it is larger; the same object if it is not.

    >>> import numpy as np
    >>> fit_reference(np.zeros((600, 900, 3), np.uint8), 480).shape
    (320, 480, 3)
    """
    height, width = ref.shape[:2]
    if max(height, width) <= longest_px:
        return ref
    factor = longest_px / max(height, width)
    return resize_bicubic(ref, max(1, round(height * factor)), max(1, round(width * factor)))
