"""Datasets from a user's own photographs: one scene, or input/ and ref/ folders matched by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import TypeAdapter

from refsr_bench.errors import ImageError, IntegrityError, UsageError
from refsr_bench.images import SUFFIXES, read_bytes
from refsr_bench.schema import DatasetInfo, Record, SampleName, StoredImage, StoredReference
from refsr_bench.store import add_image, building, seal

VERSION = "1"
BUILDER_VERSION = "1"
LICENCE = "as given by the owner of the photographs"
MIN_SIDE = 32
"""Shortest accepted side of an input, px: what remains after a 4-px border must hold SSIM's 11-px window."""

_REF_NAME = re.compile(r"(?P<input>.+?)(?:_ref|_(?P<level>[1-9]))?")


def build(
    source: Path | None, target: Path, *, progress: Callable[[int, int], None], note: Callable[[str], None]
) -> DatasetInfo:
    """Build a dataset named after ``target`` from the photographs in ``source``; files are stored unchanged.

    ``source`` holds photographs of one scene (every one once as input, all others as its references, in the order of
    their names) or the folders ``input`` and ``ref`` (``ref/NAME.*``, ``ref/NAME_ref.*`` or ``ref/NAME_1.*`` to
    ``NAME_9.*``, 1 the most similar). `UsageError` for a folder that is neither, `ImageError` for a bad picture.
    """
    if source is None:
        raise UsageError("custom needs a folder of photographs", "refsr-bench build custom DIR")
    if not source.is_dir():
        raise UsageError(f"{source}: there is no such folder")
    if source.resolve().is_relative_to(target.resolve()):
        raise UsageError(f"{target}: holds the photographs themselves and would be replaced", "choose another folder")
    _check_name(target, target.name)
    paired = (source / "input").is_dir()
    folders = {"input": source / "input", "ref": source / "ref"} if paired else {"images": source}
    if paired:
        _report_skipped(source, [path for path in _list_entries(source) if path not in folders.values()], note)
    found = {kind: _list_pictures(folder, note) for kind, folder in folders.items()}
    plan = _plan_pairs(found["input"], found["ref"], source, note) if paired else _plan_scene(found["images"], source)
    files = [(kind, path) for kind, paths in found.items() for path in paths]
    with building(target) as root:
        stored = {}
        for done, (kind, path) in enumerate(files, 1):
            stored[path] = _store(root, kind, path)
            progress(done, len(files))
        records = [_make_record(path, refs, stored, paired) for path, refs in plan]
        return seal(
            root,
            records,
            name=target.name,
            version=VERSION,
            title=f"{len(files)} photographs from {source.resolve().name}",
            licence=LICENCE,
            citation="none",
            builder_version=BUILDER_VERSION,
        )


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


def _plan_scene(pictures: Sequence[Path], source: Path) -> list[tuple[Path, list[tuple[Path, int | None]]]]:
    if len(pictures) < 2:
        raise UsageError(
            f"{source}: {len(pictures)} picture(s) found; a scene needs at least two, or the folders input/ and ref/",
            f"accepted suffixes: {' '.join(SUFFIXES)}",
        )
    return [(path, [(other, None) for other in pictures if other is not path]) for path in pictures]


def _plan_pairs(
    inputs: Sequence[Path], refs: Sequence[Path], source: Path, note: Callable[[str], None]
) -> list[tuple[Path, list[tuple[Path, int | None]]]]:
    if not inputs:
        raise UsageError(f"{source / 'input'}: no pictures found", f"accepted suffixes: {' '.join(SUFFIXES)}")
    if not (source / "ref").is_dir():
        note(f"{source} has no folder ref: the samples have no reference")
        return [(path, []) for path in inputs]
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
            f"{len(missing)} input(s) without a reference: {', '.join(missing[:10])}" if missing else "",
            f"{len(surplus)} reference(s) without an input: {', '.join(surplus[:10])}" if surplus else "",
        ]
        raise IntegrityError(
            f"{source}: " + "; ".join(filter(None, parts)), "a reference is called NAME, NAME_ref or NAME_1 to NAME_9"
        )
    return [(by_name[name], sorted(found, key=lambda item: item[1] or 0)) for name, found in chosen.items()]


def _input_of(stem: str, inputs: dict[str, Path]) -> tuple[str | None, int | None]:
    """The input a reference's name belongs to, and its level; an input's exact name goes first."""
    if stem in inputs:
        return stem, None
    match = _REF_NAME.fullmatch(stem)
    if match is None or match["input"] not in inputs:
        return None, None
    return match["input"], int(match["level"]) if match["level"] else None


def _store(root: Path, kind: str, path: Path) -> StoredImage:
    try:
        stored = add_image(root, f"{kind}/{path.name}", read_bytes(path))
    except ImageError as error:
        raise ImageError(error.problem.replace(f"{kind}/{path.name}", str(path)), error.remedy) from None
    if kind != "ref" and min(stored.height, stored.width) < MIN_SIDE:
        raise ImageError(
            f"{path}: {stored.width}x{stored.height} px is too small for an input", f"at least {MIN_SIDE} px a side"
        )
    return stored


def _make_record(
    path: Path, refs: Sequence[tuple[Path, int | None]], stored: dict[Path, StoredImage], paired: bool
) -> Record:
    hr = stored[path]
    for ref, _ in refs:
        if stored[ref].sha256 == hr.sha256:
            raise IntegrityError(f"{ref} is the same file as its input {path}: the answer would be in the reference")
    how = "paired with its references by name" if paired else "one photograph of the scene, the others its references"
    return Record(
        name=path.stem,
        hr=hr,
        refs=tuple(StoredReference(**stored[ref].model_dump(), level=level) for ref, level in refs),
        source=f"{path.parent.name}/{path.name}, as given",
        licence=LICENCE,
        made=f"the unchanged file {path.name}, {hr.width}x{hr.height} px, {how}",
    )
