"""Datasets from a user's own photographs: one scene, input/ and ref/ folders matched by name, or a CSV table."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import TypeAdapter

from refsr_bench.collectors.pictures import store_pictures
from refsr_bench.collectors.preview import write_preview
from refsr_bench.collectors.table import Line, read_table
from refsr_bench.disk import sha256_bytes, sha256_file
from refsr_bench.errors import ImageError, IntegrityError, UsageError, first_few
from refsr_bench.images import SUFFIXES
from refsr_bench.schema import DatasetCard, DatasetInfo, Record, SampleName, StoredImage, StoredLowRes, StoredReference
from refsr_bench.store import building, name_after, open_dataset, seal

VERSION = "1"
BUILDER_VERSION = "3"
LICENCE = "as given by the owner of the photographs"
MIN_SIDE = 32
"""Shortest accepted side of an input, px: what remains after a 4-px border must hold SSIM's 11-px window."""

CARD = DatasetCard(
    name="custom",
    version=VERSION,
    title="Your own photographs",
    licence=LICENCE,
    citation="none",
    builder_version=BUILDER_VERSION,
    references="as laid out by you, none to any number",
    description="""\
`refsr-bench build custom SOURCE` makes a dataset of your own photographs. SOURCE is one of

* a folder of photographs of one scene: each is once the HR input, all others, ordered by name, its references;
* a folder with the sub-folders

  ```text
  input/NAME.png      the HR pictures
  ref/NAME.png        or NAME_ref.png, or NAME_1.png to NAME_9.png with 1 the most similar
  ```

* a CSV table, one sample a line, paths relative to the table:

  ```text
  hr,level1,level2,group,licence
  photos/a.png,near/a.png,far/a.png,outdoor,CC BY 4.0
  ```

  with the columns `hr`, `lr`, `kernel` (what made the LR), `name`, `group`, `licence`, `source`, and references as
  `ref`, `ref1`, `ref2` … in their order, or `level1` to `level9`. A cell may hold several references, separated by
  semicolons. A line with `lr` and without `hr` is kept for restoring true LR pictures; it cannot be scored.

Accepted formats: PNG, JPEG, BMP, PPM/PGM, TIFF, WebP. Without references only single-image models run. Files are
stored unchanged. Anything that is not a picture is skipped and named; a missing or surplus picture, a damaged one, a
picture that is too small or serves as its own reference stops the build with its name. Beside the dataset lies
`NAME-preview.png`, a sheet that shows what is paired with what.

The dataset is named after SOURCE, or choose another with `--out`.""",
)
CARDS = {CARD.name: CARD}

_REF_NAME = re.compile(r"(?P<input>.+?)(?:_ref|_(?P<level>[1-9]))?")


class _Plan(NamedTuple):
    """Samples, and the path inside the dataset of every file they name; ``how`` pictures were paired, in words."""

    lines: list[Line]
    files: dict[Path, str]
    how: str


def build(
    source: Path | None,
    target: Path,
    *,
    progress: Callable[[int, int], None],
    note: Callable[[str], None],
    jobs: int | None = None,
) -> DatasetInfo:
    """Build a dataset named after ``target`` from the photographs in ``source``; files are stored unchanged.

    ``source`` is a folder of one scene (every one once as input, all others as its references, in the order of their
    names), a folder with ``input`` and ``ref`` (``ref/NAME.*``, ``ref/NAME_ref.*`` or ``ref/NAME_1.*`` to
    ``NAME_9.*``, 1 the most similar), or a CSV table (`refsr_bench.collectors.table`). `UsageError` for anything else,
    `ImageError` for a bad picture. A preview sheet is written beside the dataset.
    """
    if source is None:
        raise UsageError("custom needs a folder of photographs or a CSV table", "refsr-bench build custom DIR")
    if not source.exists():
        raise UsageError(f"{source}: there is no such folder or table")
    if source.resolve().is_relative_to(target.resolve()):
        raise UsageError(f"{target}: holds the photographs themselves and would be replaced", "choose another folder")
    _check_name(target, name_after(target))
    plan = _make_plan(source, note)
    with building(target) as root:
        pictures = {name: path for path, name in plan.files.items()}
        stored = store_pictures(root, pictures, jobs=jobs, progress=progress)
        by_path = {path: stored[name] for path, name in plan.files.items()}
        info = seal(
            root,
            [_make_record(line, by_path, plan.how) for line in plan.lines],
            name=target.name,
            version=VERSION,
            title=f"{len(plan.files)} photographs from {source.resolve().name}",
            licence=LICENCE,
            citation="none",
            builder_version=BUILDER_VERSION,
            sources=_describe(source, {name: image.sha256 for name, image in stored.items()}),
        )
    sheet = target.with_name(f"{target.name}-preview.png")
    write_preview(open_dataset(target), sheet)
    note(f"what is paired with what: {sheet}")
    return info


def sources_of(source: Path) -> dict[str, str]:
    """What a dataset built from ``source`` says of it: its name, and one hash of all pictures and what they are."""
    plan = _make_plan(source, lambda text: None)
    return _describe(source, {name: sha256_file(path) for path, name in plan.files.items()})


def _describe(source: Path, hashes: Mapping[str, str]) -> dict[str, str]:
    listing = "".join(f"{name} {sha256}\n" for name, sha256 in sorted(hashes.items()))
    if source.is_file():
        listing += sha256_file(source)
    return {source.resolve().name: f"sha256 {sha256_bytes(listing.encode())}"}


def _make_plan(source: Path, note: Callable[[str], None]) -> _Plan:
    if source.is_file():
        if source.suffix.lower() != ".csv":
            raise UsageError(f"{source}: neither a folder nor a .csv table")
        lines = read_table(source)
        return _Plan(lines, _files_of_table(lines), f"paired by {source.name}")
    if (source / "input").is_dir():
        _report_skipped(source, [p for p in _list_entries(source) if p.name not in ("input", "ref")], note)
        inputs, refs = (_list_pictures(source / kind, note) for kind in ("input", "ref"))
        lines = _plan_pairs(inputs, refs, source, note)
        files = {path: f"{kind}/{path.name}" for kind, paths in (("input", inputs), ("ref", refs)) for path in paths}
        return _Plan(lines, files, "paired with its references by name")
    pictures = _list_pictures(source, note)
    files = {path: f"images/{path.name}" for path in pictures}
    return _Plan(_plan_scene(pictures, source), files, "one photograph of the scene, the others its references")


def _files_of_table(lines: Sequence[Line]) -> dict[Path, str]:
    """Where each file goes; one that several lines name is stored once, as an input if it is one."""
    files: dict[Path, str] = {}
    for line in lines:
        for role, path in (("hr", line.hr), ("lr", line.lr)):
            if path is not None:
                files.setdefault(path, f"{role}/{line.name}{path.suffix}")
    for line in lines:
        for number, (path, _) in enumerate(line.refs, 1):
            files.setdefault(path, f"ref/{line.name}_{number}{path.suffix}")
    return files


def _check_name(path: Path, name: str) -> None:
    try:
        TypeAdapter(SampleName).validate_python(name)
    except ValueError:
        raise UsageError(
            f"{path}: {name!r} cannot name samples and result files", 'rename it without any of / \\ : * ? " < > |'
        ) from None


def _list_entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir(), key=lambda path: path.name)


def _report_skipped(folder: Path, skipped: Sequence[Path], note: Callable[[str], None]) -> None:
    if skipped:
        note(f"passed over in {folder}: {', '.join(path.name for path in skipped)}")


def _list_pictures(folder: Path, note: Callable[[str], None]) -> list[Path]:
    """Pictures directly in a folder, by name; everything else is passed over and named."""
    if not folder.is_dir():
        return []
    entries = _list_entries(folder)
    # Hidden files are never pictures: macOS leaves a "._NAME.jpg" beside every NAME.jpg it copies.
    pictures = [p for p in entries if p.suffix.lower() in SUFFIXES and p.is_file() and not p.name.startswith(".")]
    _report_skipped(folder, [path for path in entries if path not in pictures], note)
    stems: dict[str, Path] = {}
    for path in pictures:
        _check_name(path, path.stem)
        twin = stems.setdefault(path.stem.casefold(), path)
        if twin is not path:
            raise UsageError(f"{path} and {twin.name} have the same name but for suffix or case", "rename one of them")
    return pictures


def _plan_scene(pictures: Sequence[Path], source: Path) -> list[Line]:
    if len(pictures) < 2:
        raise UsageError(
            f"{source}: {len(pictures)} picture(s) found; a scene needs at least two, or the folders input/ and ref/",
            f"accepted suffixes: {' '.join(SUFFIXES)}",
        )
    return [Line(path.stem, path, tuple((other, None) for other in pictures if other is not path)) for path in pictures]


def _plan_pairs(inputs: Sequence[Path], refs: Sequence[Path], source: Path, note: Callable[[str], None]) -> list[Line]:
    if not inputs:
        raise UsageError(f"{source / 'input'}: no pictures found", f"accepted suffixes: {' '.join(SUFFIXES)}")
    if not (source / "ref").is_dir():
        note(f"{source} has no folder ref: the samples have no reference")
        return [Line(path.stem, path) for path in inputs]
    by_name = {path.stem: path for path in inputs}
    chosen: dict[str, list[tuple[Path, int | None]]] = {name: [] for name in by_name}
    surplus = []
    for ref in refs:
        name, level = _input_of(ref.stem, by_name)
        if name is None:
            surplus.append(ref.name)
        else:
            chosen[name].append((ref, level))
    missing = [by_name[name].name for name, found in chosen.items() if not found]
    if missing or surplus:
        parts = [
            f"{len(missing)} input(s) without a reference: {', '.join(first_few(missing, 10))}" if missing else "",
            f"{len(surplus)} reference(s) without an input: {', '.join(first_few(surplus, 10))}" if surplus else "",
        ]
        raise IntegrityError(
            f"{source}: " + "; ".join(filter(None, parts)), "a reference is called NAME, NAME_ref or NAME_1 to NAME_9"
        )
    return [
        Line(name, by_name[name], tuple(sorted(found, key=lambda item: item[1] or 0))) for name, found in chosen.items()
    ]


def _input_of(stem: str, inputs: dict[str, Path]) -> tuple[str | None, int | None]:
    """The input a reference's name belongs to, and its level; an input's exact name goes first."""
    if stem in inputs:
        return stem, None
    match = _REF_NAME.fullmatch(stem)
    if match is None or match["input"] not in inputs:
        return None, None
    return match["input"], int(match["level"]) if match["level"] else None


def _make_record(line: Line, stored: dict[Path, StoredImage], how: str) -> Record:
    hr = None if line.hr is None else stored[line.hr]
    if hr is not None and min(hr.height, hr.width) < MIN_SIDE:
        raise ImageError(
            f"{line.hr}: {hr.width}x{hr.height} px is too small for an input", f"at least {MIN_SIDE} px a side"
        )
    for ref, _ in line.refs:
        if hr is not None and stored[ref].sha256 == hr.sha256:
            raise IntegrityError(f"{ref} is the same file as its input {line.hr}: the answer would be in the reference")
    head = line.hr or line.lr
    assert head is not None
    size = f"{stored[head].width}x{stored[head].height} px"
    kernel = line.kernel or "unknown"
    return Record(
        name=line.name,
        hr=hr,
        lr=None if line.lr is None else StoredLowRes(**stored[line.lr].model_dump(), kernel=kernel),
        refs=tuple(StoredReference(**stored[ref].model_dump(), level=level) for ref, level in line.refs),
        group=line.group or "all",
        source=line.source or f"{head.parent.name}/{head.name}, as given",
        licence=line.licence or LICENCE,
        made=f"the unchanged file {head.name}, {size}, {how}" + ("" if line.hr else ", LR only"),
    )
