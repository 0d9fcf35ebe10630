"""Pictures whose correspondences others have measured: homographies (Oxford, HPatches) or disparity (Middlebury).

A folder in one of these layouts, or a folder of such folders, becomes a dataset that matchers are scored on::

    img1.*  img2.* ...  H1to2p ...                   homographies from picture 1 to the others, text, 3x3
    im2.*  im6.*  disp2.*  disp6.*                   Middlebury 2003: disparity times a factor, 0 unknown
    NAME_left.*  NAME_right.*  NAME_disp.npz         disparity of the left picture in px, not finite where unknown

In stereo, left pixel x shows what right pixel x - disparity shows. A left pixel that something nearer hides in the
right picture has no true point: it is marked unknown.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from refsr_bench.disk import sha256_bytes, sha256_file
from refsr_bench.errors import IntegrityError, UsageError
from refsr_bench.geometry import as_matrix3
from refsr_bench.images import SUFFIXES, decode_image, read_bytes
from refsr_bench.schema import DatasetCard, DatasetInfo, Record, StoredReference
from refsr_bench.store import add_file, add_image, building, name_after, seal

VERSION = "1"
BUILDER_VERSION = "2"
LICENCE = "as given by the owner"
HIDDEN_BY_PX = 1.0
"""A left pixel is hidden if another that lands on the same right pixel has this much more disparity: it is nearer."""


CITATION = (
    "Mikolajczyk et al., A comparison of affine region detectors, IJCV 2005 (homographies); "
    "Scharstein and Szeliski, CVPR 2003, and Scharstein et al., GCPR 2014 (disparity)"
)

CARD = DatasetCard(
    name="pairs",
    version=VERSION,
    title="Pictures with measured correspondences",
    licence=LICENCE,
    citation=CITATION,
    builder_version=BUILDER_VERSION,
    references="one: the same scene seen from elsewhere, with a homography or a disparity map",
    description="""\
`refsr-bench build pairs DIR`: real pictures that matchers are scored on. DIR, or every folder in it, is laid out in
one of the ways in which such sets are published:

| layout | what it is |
|---|---|
| `img1.*`, `img2.*` ..., `H1to2p` ... | homographies from picture 1 to the others (Oxford's affine sets) |
| `im2.*`, `im6.*`, `disp2.*` | Middlebury 2003: disparity times 4 (`--set disparity_factor=N`), 0 unknown |
| `NAME_left.*`, `NAME_right.*`, `NAME_disp.npz` | disparity of the left picture in px, not finite where unknown |

In stereo the left pixel x shows what the right pixel x - disparity shows; a left pixel that something nearer hides in
the right picture has no true point. The files are stored unchanged.""",
)
CARDS = {CARD.name: CARD}


def build(
    source: Path | None,
    target: Path,
    *,
    progress: Callable[[int, int], None],
    note: Callable[[str], None],
    disparity_factor: str = "4",
) -> DatasetInfo:
    """Build a dataset named after ``target`` from ``source``; files are stored unchanged.

    disparity_factor : by what the grey levels of ``disp2`` are multiplied (4 in the quarter-size Middlebury sets).
    """
    if source is None:
        raise UsageError("pairs needs a folder of pictures with known correspondences", "refsr-bench build pairs DIR")
    try:
        factor = float(disparity_factor)
    except ValueError:
        factor = 0.0
    if not factor > 0:
        raise UsageError(f"disparity_factor={disparity_factor!r} is not a number above 0")
    folders = [source] if _layout(source) else [f for f in sorted(source.iterdir()) if f.is_dir() and _layout(f)]
    if not folders:
        raise UsageError(
            f"{source}: neither this folder nor one in it has pictures with known correspondences",
            "img1 + H1to2p, im2 + im6 + disp2, or NAME_left + NAME_right + NAME_disp.npz",
        )
    name = name_after(target)
    with building(target) as root:
        records: list[Record] = []
        for done, folder in enumerate(folders, 1):
            make = _layout(folder)
            assert make is not None
            records += make(root, folder, factor)
            progress(done, len(folders))
        return seal(
            root,
            records,
            name=name,
            version=VERSION,
            title=f"Known correspondences: {', '.join(folder.resolve().name for folder in folders)}",
            licence=LICENCE,
            citation=CITATION,
            builder_version=BUILDER_VERSION,
            options={"disparity_factor": f"{factor:g}"},
            sources=sources_of(source),
        )


def sources_of(source: Path) -> dict[str, str]:
    """What a dataset built from ``source`` says of it: its name, and one hash of all files below it."""
    files = sorted(path for path in source.rglob("*") if path.is_file())
    listing = "".join(f"{path.relative_to(source).as_posix()} {sha256_file(path)}\n" for path in files)
    return {source.resolve().name: f"sha256 {sha256_bytes(listing.encode())}"}


Maker = Callable[[Path, Path, float], Iterator[Record]]


def _layout(folder: Path) -> Maker | None:
    if _find(folder, "img1") and any(folder.glob("H1to*p")):
        return _homographies
    if all(_find(folder, stem) for stem in ("im2", "im6", "disp2")):
        return _middlebury_2003
    if any(folder.glob("*_disp.npz")):
        return _left_right
    return None


def _homographies(root: Path, folder: Path, factor: float) -> Iterator[Record]:
    for path in sorted(folder.glob("H1to*p"), key=lambda path: (len(path.name), path.name)):
        number = path.name.removeprefix("H1to").removesuffix("p")
        if number == "1":  # Oxford's sets have one from the first picture to itself
            continue
        try:
            h = np.loadtxt(path).reshape(3, 3)
        except ValueError:
            raise IntegrityError(f"{path}: is not a 3x3 matrix of numbers") from None
        ref = _stored_reference(root, folder, f"img{number}", h_hr_to_ref=as_matrix3(h))
        yield _record(root, folder, "img1", f"1-{number}", ref, f"{path.name} maps img1 to img{number}")


def _middlebury_2003(root: Path, folder: Path, factor: float) -> Iterator[Record]:
    grey = decode_image(read_bytes(_require(folder, "disp2")), _require(folder, "disp2").name).pixels[..., 0]
    disparity = np.where(grey > 0, grey / factor, np.nan)
    ref = _with_disparity(root, folder, "im6", disparity)
    yield _record(root, folder, "im2", "2-6", ref, f"disparity of im2 from disp2 / {factor:g}")


def _left_right(root: Path, folder: Path, factor: float) -> Iterator[Record]:
    for path in sorted(folder.glob("*_disp.npz")):
        name = path.name.removesuffix("_disp.npz")
        with np.load(path, allow_pickle=False) as archive:
            disparity = archive[archive.files[0]].astype(np.float64)
        ref = _with_disparity(root, folder, f"{name}_right", np.where(np.isfinite(disparity), disparity, np.nan))
        yield _record(
            root, folder, f"{name}_left", "left-right", ref, f"disparity of the left picture from {path.name}"
        )


def _with_disparity(root: Path, folder: Path, stem: str, disparity: NDArray[np.float64]) -> StoredReference:
    visible = np.where(hidden(disparity), np.nan, disparity)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, disparity=(-visible).astype(np.float32))
    stored = add_file(root, f"disparity/{folder.resolve().name}.{stem}.npz", buffer.getvalue())
    return _stored_reference(root, folder, stem, disparity=stored)


def hidden(disparity: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which left pixels something nearer hides in the right picture; ``disparity`` (H, W), NaN where unknown.

    >>> hidden(np.array([[1.0, 1.0, 3.0, 3.0, 1.0]]))
    array([[False,  True, False, False, False]])
    """
    height, width = disparity.shape
    known = np.isfinite(disparity)
    x = np.arange(width)[None]
    landing = np.where(known, np.rint(x - np.nan_to_num(disparity)), -1).astype(np.int64)
    inside = known & (landing >= 0)
    nearest = np.full((height, width), -np.inf)
    rows = np.broadcast_to(np.arange(height)[:, None], disparity.shape)
    np.maximum.at(nearest, (rows[inside], landing[inside]), disparity[inside])
    covered: NDArray[np.bool_] = np.zeros_like(known)
    covered[inside] = nearest[rows[inside], landing[inside]] - disparity[inside] >= HIDDEN_BY_PX
    return covered


def _record(root: Path, folder: Path, stem: str, what: str, ref: StoredReference, how: str) -> Record:
    path, group = _require(folder, stem), folder.resolve().name
    return Record(
        name=f"{group}.{what}",
        hr=add_image(root, f"hr/{group}.{path.name}", read_bytes(path)),
        refs=(ref,),
        group=group,
        source=f"{group}/{path.name}, as given",
        licence=LICENCE,
        made=f"the unchanged pictures; {how}",
    )


def _stored_reference(root: Path, folder: Path, stem: str, **known: object) -> StoredReference:
    path = _require(folder, stem)
    stored = add_image(root, f"ref/{folder.resolve().name}.{path.name}", read_bytes(path))
    return StoredReference.model_validate(stored.model_dump() | known)


def _find(folder: Path, stem: str) -> Path | None:
    return next((path for suffix in SUFFIXES if (path := folder / f"{stem}{suffix}").is_file()), None)


def _require(folder: Path, stem: str) -> Path:
    path = _find(folder, stem)
    if path is None:
        raise IntegrityError(f"{folder}: there is no picture {stem}.*", f"accepted suffixes: {' '.join(SUFFIXES)}")
    return path
