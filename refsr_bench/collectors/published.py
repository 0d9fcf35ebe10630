"""The one way from a published dataset's files to the dataset: sort out, check, store, freeze.

Each dataset's own module holds its constants and how its files are laid out (`Layout`); nothing here knows any of them.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from refsr_bench.collectors.layout import Found, Recognise, Role, Slot, require_none, require_slots, sort_out
from refsr_bench.collectors.material import Material, gather
from refsr_bench.collectors.trust import freeze_names, frozen_names, names_path, record_hashes
from refsr_bench.errors import ImageError, IntegrityError
from refsr_bench.images import decode_image, gradient_energy, read_bytes
from refsr_bench.schema import DatasetCard, DatasetInfo, Record, StoredImage, StoredLowRes, StoredReference
from refsr_bench.store import add_decoded, building, require_space, seal
from refsr_bench.subsets import tag_texture

KERNEL = "matlab.bicubic"
"""What made the LR pictures of the SelfExSR archives (MATLAB's imresize; proved in ``docs/protocols.md``)."""


class Planned(NamedTuple):
    """One sample: the slots of its pictures, references in order with their similarity levels."""

    name: str
    hr: Slot
    refs: tuple[tuple[Slot, int | None], ...] = ()
    lr: Slot | None = None


class Layout(NamedTuple):
    """How a dataset is laid out as published."""

    recognise: Recognise
    plan: Callable[[Collection[Slot]], list[Planned]]
    """Samples in order from the slots that are there; raises `IntegrityError` if they cannot be right."""
    expected: frozenset[Slot] | None = None
    """Every slot, where all names are known; otherwise the first verified build freezes the list."""
    name_of: Callable[[Slot], str] = lambda slot: f"{slot.role} {slot.stem}"
    optional: frozenset[Role] = frozenset()
    """Roles of which all expected pictures may be missing together."""


class Pictures(NamedTuple):
    """Stored pictures by slot, and the gradient energy of the HR ones."""

    stored: dict[Slot, StoredImage]
    energies: dict[Slot, int]


def make_builder(card: DatasetCard, layout: Layout) -> Callable[..., DatasetInfo]:
    """The ``build`` of a dataset's module: `build_published` with its card and layout."""

    def build(source: Path | None, target: Path, **options: Any) -> DatasetInfo:
        return build_published(card, layout, source, target, **options)

    return build


def build_published(
    card: DatasetCard,
    layout: Layout,
    source: Path | None,
    target: Path,
    *,
    progress: Callable[[int, int], None],
    note: Callable[[str], None],
    jobs: int | None = None,
    expect_sha256: str | None = None,
    allow_private: bool = False,
) -> DatasetInfo:
    """Build a published dataset from its archives, an archive or folder the user has, or the network.

    Files are stored unchanged. The archives' hashes and any names not known beforehand are remembered once everything
    has verified. Errors as in `gather` and `sort_out`, and `ImageError` for a damaged picture.
    """
    material = gather(
        card, source, expect_sha256=expect_sha256, progress=progress, note=note, allow_private=allow_private
    )
    slots = sort_out(material.files, layout.recognise, where=material.where, note=note)
    _check_names(card, layout, slots, material)
    plan = layout.plan(slots)
    if card.samples is not None and len(plan) != card.samples:
        raise IntegrityError(f"{material.where}: {len(plan)} of {card.samples} samples found")
    used = list(dict.fromkeys(slot for sample in plan for slot in _slots_of(sample)))
    require_space(target, sum(slots[slot].path.stat().st_size for slot in used))
    with building(target) as root:
        pictures = store_pictures(root, {slot: slots[slot] for slot in used}, jobs=jobs, progress=progress)
        records = [_make_record(card, sample, slots, pictures, note) for sample in plan]
        info = seal(
            root,
            tag_texture(records, {sample.name: pictures.energies[sample.hr] for sample in plan}),
            name=card.name,
            version=card.version,
            title=card.title,
            licence=card.licence,
            citation=card.citation,
            builder_version=card.builder_version,
            sources=material.sources,
        )
    record_hashes(card.name, material.hashes)
    if layout.expected is None:
        freeze_names(card.name, (layout.name_of(slot) for slot in slots))
    return info


def _check_names(card: DatasetCard, layout: Layout, slots: Mapping[Slot, Found], material: Material) -> None:
    if layout.expected is not None:
        absent = layout.optional - {slot.role for slot in slots}
        expected = [slot for slot in layout.expected if slot.role not in absent]
        require_slots(slots, expected, where=material.where, name_of=layout.name_of)
    elif (frozen := frozen_names(card.name)) is not None:
        here = {layout.name_of(slot) for slot in slots}
        try:
            require_none(sorted(frozen - here), sorted(here - frozen), where=material.where, of=len(frozen))
        except IntegrityError as error:
            raise IntegrityError(
                error.problem,
                f"the names were frozen by the first build; delete {names_path(card.name)} to forget them",
            ) from None


def _slots_of(sample: Planned) -> Iterator[Slot]:
    yield sample.hr
    if sample.lr is not None:
        yield sample.lr
    yield from (slot for slot, _ in sample.refs)


def _make_record(
    card: DatasetCard, sample: Planned, slots: Mapping[Slot, Found], pictures: Pictures, note: Callable[[str], None]
) -> Record:
    hr = pictures.stored[sample.hr]
    refs = [(pictures.stored[slot], level) for slot, level in sample.refs]
    same = [ref.path for ref, _ in refs if ref.sha256 == hr.sha256]
    if same:
        note(f"{sample.name}: the reference {', '.join(same)} is the HR picture itself; tagged self-reference")
    file = slots[sample.hr].name
    return Record(
        name=sample.name,
        hr=hr,
        lr=None if sample.lr is None else StoredLowRes(**pictures.stored[sample.lr].model_dump(), kernel=KERNEL),
        refs=tuple(StoredReference(**ref.model_dump(), level=level) for ref, level in refs),
        tags=("self-reference",) if same else (),
        source=f"{file.stem}{file.suffix.lower()} of {card.title}",
        licence=card.licence,
        made=f"the published file, unchanged, {hr.width}x{hr.height} px",
    )


# --- pictures, in parallel ------------------------------------------------------------------------------------------


def store_pictures(
    root: Path, slots: Mapping[Slot, Found], *, jobs: int | None, progress: Callable[[int, int], None]
) -> Pictures:
    """Check and copy pictures into a dataset under construction, ``jobs`` at a time (all processors if None).

    Memory grows with ``jobs``, not with the number of pictures; the result does not depend on it.
    """
    workers = jobs or min(os.cpu_count() or 1, 16)
    stored: dict[Slot, StoredImage] = {}
    energies: dict[Slot, int] = {}
    with _pool(workers) as pool:
        done = pool.map(lambda item: _store_one(root, *item), slots.items())
        for slot, (image, energy) in zip(slots, done, strict=True):
            stored[slot] = image
            if energy is not None:
                energies[slot] = energy
            progress(len(stored), len(slots))
    return Pictures(stored, energies)


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


def _store_one(root: Path, slot: Slot, found: Found) -> tuple[StoredImage, int | None]:
    data = read_bytes(found.path)
    name = f"{slot.role}/{slot.stem}{found.name.suffix.lower()}"
    try:
        decoded = decode_image(data, name)
    except ImageError as error:
        raise ImageError(error.problem.replace(name, str(found.path)), error.remedy) from None
    stored = add_decoded(root, name, data, decoded)
    if found.sha256 not in (None, stored.sha256):
        raise IntegrityError(f"{found.path}: it was changed after it was unpacked", "delete that folder, build again")
    return stored, gradient_energy(decoded.pixels) if slot.role == "hr" else None


# --- plans shared by several sets -----------------------------------------------------------------------------------


def plan_single(slots: Collection[Slot]) -> list[Planned]:
    """One sample per HR picture, with the LR picture that is shipped for it, if any."""
    lows = {slot.sample: slot for slot in slots if slot.role == "lr"}
    return [Planned(slot.sample, slot, lr=lows.get(slot.sample)) for slot in _heads(slots)]


def plan_pairs(slots: Collection[Slot], levels: Mapping[str, int] | None = None) -> list[Planned]:
    """One sample per HR picture with its references in the order of their names; ``levels`` by `Slot.order`."""
    refs: dict[str, list[Slot]] = {}
    for slot in sorted(slot for slot in slots if slot.role == "ref"):
        refs.setdefault(slot.sample, []).append(slot)
    return [
        Planned(slot.sample, slot, tuple((ref, (levels or {}).get(ref.order)) for ref in refs.get(slot.sample, ())))
        for slot in _heads(slots)
    ]


def _heads(slots: Collection[Slot]) -> Sequence[Slot]:
    return sorted(slot for slot in slots if slot.role == "hr")
