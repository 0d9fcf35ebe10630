"""From whatever lies in a folder or archive to the pictures a dataset needs, without guessing.

Every picture has a `Slot`, the place it takes in the dataset. Nested folders, files that are no pictures and suffixes
in capitals are put up with and reported; a picture without a slot, two for one slot, and a slot without a picture are
named and refused.
"""

from __future__ import annotations

import functools
import importlib.resources
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from refsr_bench.errors import IntegrityError
from refsr_bench.images import SUFFIXES

Role = Literal["hr", "lr", "ref"]


class Slot(NamedTuple):
    """The place of one picture: its role, its sample and, among the sample's references, its order."""

    role: Role
    sample: str
    order: str = ""

    @property
    def stem(self) -> str:
        """File name without suffix that the picture has in the dataset's folder of its role."""
        return f"{self.sample}_{self.order}" if self.order else self.sample


class Found(NamedTuple):
    """A file that might be part of a dataset: its path as published, where it lies, its hash if that is known."""

    name: PurePosixPath
    path: Path
    sha256: str | None = None


Recognise = Callable[[PurePosixPath], Slot | Literal["other"] | None]
"""The slot of a picture by its path (suffix in small letters); "other" if it is published with the set but no part of
it; None if it does not belong here."""


def list_files(root: Path) -> list[Found]:
    """All files below a folder, sorted by path."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return [Found(PurePosixPath(path.relative_to(root).as_posix()), path) for path in files]


def is_picture(name: PurePosixPath) -> bool:
    """Whether a file counts as a picture by its name; what macOS leaves beside every file does not."""
    hidden = name.name.startswith(".") or "__MACOSX" in name.parts
    return not hidden and name.suffix.lower() in SUFFIXES


def sort_out(
    files: Sequence[Found], recognise: Recognise, *, where: str, note: Callable[[str], None]
) -> dict[Slot, Found]:
    """The picture of every slot; `IntegrityError` names pictures that belong nowhere or stand for one slot twice."""
    slots: dict[Slot, Found] = {}
    surplus, twice, others = [], [], []
    for found in files:
        if not is_picture(found.name):
            continue
        slot = recognise(found.name.with_suffix(found.name.suffix.lower()))
        if slot is None:
            surplus.append(str(found.name))
        elif slot == "other":
            others.append(str(found.name))
        elif (first := slots.setdefault(slot, found)) is not found:
            twice.append(f"{first.name} and {found.name}")
    if surplus or twice:
        faults = [
            f"{len(surplus)} picture(s) that are no part of the set: {_some(surplus)}" if surplus else "",
            f"{len(twice)} picture(s) twice: {_some(twice)}" if twice else "",
        ]
        raise IntegrityError(
            f"{where}: {'; '.join(filter(None, faults))}", "give a folder or archive that holds this set alone"
        )
    if others:
        note(f"{where}: passed over {len(others)} pictures that are published with the set but no part of it")
    _report_tolerated(where, files, slots, note)
    return slots


def _report_tolerated(
    where: str, files: Sequence[Found], slots: dict[Slot, Found], note: Callable[[str], None]
) -> None:
    folders = sorted({str(found.name.parent) for found in slots.values()} - {"."})
    if folders:
        note(f"{where}: pictures taken from {_some(folders, 3)}")
    if passed_over := [str(found.name) for found in files if not is_picture(found.name)]:
        note(f"{where}: passed over, not a picture by name: {_some(passed_over)}")
    capitals = [str(found.name) for found in slots.values() if found.name.suffix != found.name.suffix.lower()]
    if capitals:
        note(f"{where}: {len(capitals)} suffix(es) in capitals: {_some(capitals)}")


def require_all(present: Iterable[str], expected: Iterable[str], *, where: str) -> None:
    """`IntegrityError` that names every picture that is missing or too many."""
    present, expected = set(present), set(expected)
    missing, surplus = sorted(expected - present), sorted(present - expected)
    if missing or surplus:
        parts = [
            f"{len(expected) - len(missing)} of {len(expected)} pictures found, missing: {_some(missing)}"
            if missing
            else "",
            f"{len(surplus)} too many: {_some(surplus)}" if surplus else "",
        ]
        raise IntegrityError(
            f"{where}: {'; '.join(filter(None, parts))}", "complete the folder or get the archive again"
        )


def _some(names: Sequence[str], limit: int = 20) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


# --- names ---------------------------------------------------------------------------------------------------------


@functools.cache
def read_names(name: str) -> tuple[str, ...]:
    """Lines of a list that ships with this package."""
    return tuple((importlib.resources.files("refsr_bench.collectors") / "names" / name).read_text("utf-8").splitlines())


_SELF_EX_SR = re.compile(r"(?P<sample>img_\d{3})_SRF_(?P<factor>\d)_(?P<what>.+)")


def recognise_self_ex_sr(name: PurePosixPath) -> Slot | Literal["other"] | None:
    """Layout of the SelfExSR archives: ``image_SRF_4/img_001_SRF_4_HR.png`` and ``..._LR.png``.

    Other factors and other methods' results stand beside them; a lone ``img_001.png`` is an HR picture.

    >>> recognise_self_ex_sr(PurePosixPath("Set5/image_SRF_4/img_001_SRF_4_LR.png"))
    Slot(role='lr', sample='img_001', order='')
    """
    if re.fullmatch(r"img_\d{3}", name.stem):
        return Slot("hr", name.stem)
    match = _SELF_EX_SR.fullmatch(name.stem)
    if match is None:
        return None
    if match["factor"] != "4" or match["what"] not in ("HR", "LR"):
        return "other"
    return Slot("hr" if match["what"] == "HR" else "lr", match["sample"])


def self_ex_sr_slots(count: int) -> frozenset[Slot]:
    """HR and LR slots of a SelfExSR archive of ``count`` pictures."""
    roles: tuple[Role, ...] = ("hr", "lr")
    return frozenset(Slot(role, f"img_{i:03d}") for i in range(1, count + 1) for role in roles)
