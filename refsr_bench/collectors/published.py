"""The one way from a published dataset's files to the dataset: sort out, check, store, freeze.

Each dataset's own module holds its constants and how its files are laid out (`Layout`); nothing here knows any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from refsr_bench.collectors.layout import Found, Recognise, Role, Slot, require_all, sort_out
from refsr_bench.collectors.material import gather
from refsr_bench.collectors.pictures import store_pictures
from refsr_bench.collectors.trust import freeze_names, frozen_names, names_path, record_hashes
from refsr_bench.errors import IntegrityError
from refsr_bench.schema import DatasetCard, DatasetInfo, Record, StoredImage, StoredLowRes, StoredReference
from refsr_bench.store import building, seal

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
    """Samples in order from the slots that are there."""
    expected: Callable[[], Collection[Slot]] | None = None
    """Every slot, where all names are known; otherwise the first verified build freezes the list."""
    check: Callable[[Collection[Slot]], None] = lambda slots: None
    """Raises `IntegrityError` if the slots cannot be right, where not all names are known."""
    name_of: Callable[[Slot], str] = lambda slot: f"{slot.role} {slot.stem}"
    """How messages and frozen lists call a picture."""
    optional: frozenset[Role] = frozenset()
    """Roles of which all pictures may be missing together."""


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
) -> DatasetInfo:
    """Build a published dataset from its archives, an archive or folder the user has, or the network.

    Files are stored unchanged. The archives' hashes and any names not known beforehand are remembered once everything
    has verified. Errors as in `gather` and `sort_out`, and `ImageError` for a damaged picture.
    """
    material = gather(card, source, expect_sha256=expect_sha256, progress=progress, note=note)
    slots = sort_out(material.files, layout.recognise, where=material.where, note=note)
    _check_names(card, layout, slots, material.where)
    plan = layout.plan(slots)
    if card.samples is not None and len(plan) != card.samples:
        raise IntegrityError(f"{material.where}: {len(plan)} samples found, {card.samples} expected")
    files = {_file_of(slot, slots[slot]): slots[slot] for sample in plan for slot in _slots_of(sample)}
    with building(target, needed=sum(found.path.stat().st_size for found in files.values())) as root:
        stored = store_pictures(
            root,
            {file: found.path for file, found in files.items()},
            jobs=jobs,
            progress=progress,
            hashes={file: found.sha256 for file, found in files.items() if found.sha256 is not None},
        )
        pictures = {slot: stored[file] for slot, found in slots.items() if (file := _file_of(slot, found)) in stored}
        info = seal(
            root,
            [_make_record(card, sample, slots[sample.hr], pictures, note) for sample in plan],
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


def _check_names(card: DatasetCard, layout: Layout, slots: Collection[Slot], where: str) -> None:
    here = [layout.name_of(slot) for slot in slots]
    if layout.expected is not None:
        absent = layout.optional - {slot.role for slot in slots}
        require_all(here, (layout.name_of(slot) for slot in layout.expected() if slot.role not in absent), where=where)
        return
    layout.check(slots)
    if (frozen := frozen_names(card.name)) is not None:
        try:
            require_all(here, frozen, where=where)
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


def _file_of(slot: Slot, found: Found) -> str:
    return f"{slot.role}/{slot.stem}{found.name.suffix.lower()}"


def _make_record(
    card: DatasetCard, sample: Planned, found: Found, pictures: Mapping[Slot, StoredImage], note: Callable[[str], None]
) -> Record:
    hr = pictures[sample.hr]
    refs = [(pictures[slot], level) for slot, level in sample.refs]
    same = [ref.path for ref, _ in refs if ref.sha256 == hr.sha256]
    if same:
        note(f"{sample.name}: the reference {', '.join(same)} is the HR picture itself; tagged self-reference")
    return Record(
        name=sample.name,
        hr=hr,
        lr=None if sample.lr is None else StoredLowRes(**pictures[sample.lr].model_dump(), kernel=KERNEL),
        refs=tuple(StoredReference(**ref.model_dump(), level=level) for ref, level in refs),
        tags=("self-reference",) if same else (),
        source=f"{found.name.stem}{found.name.suffix.lower()} of {card.title}",
        licence=card.licence,
        made=f"the published file, unchanged, {hr.width}x{hr.height} px",
    )


# --- plans shared by several sets -----------------------------------------------------------------------------------


def plan_samples(slots: Collection[Slot], levels: Mapping[str, int] | None = None) -> list[Planned]:
    """One sample per HR picture, with its shipped LR if any and its references in the order of their names.

    ``levels`` gives similarity levels by `Slot.order`.
    """
    lows = {slot.sample: slot for slot in slots if slot.role == "lr"}
    refs: dict[str, list[Slot]] = {}
    for slot in sorted(slot for slot in slots if slot.role == "ref"):
        refs.setdefault(slot.sample, []).append(slot)
    return [
        Planned(
            slot.sample,
            slot,
            tuple((ref, (levels or {}).get(ref.order)) for ref in refs.get(slot.sample, ())),
            lows.get(slot.sample),
        )
        for slot in sorted(slot for slot in slots if slot.role == "hr")
    ]
