"""From whatever lies in a folder or archive to the pictures a dataset needs, without guessing.

Every picture has a `Slot`, the place it takes in the dataset. Nested folders, files that are no pictures and suffixes
in capitals are put up with and reported; a picture without a slot, two for one slot, and a slot without a picture are
named and refused.
"""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Final, Literal, NamedTuple

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


OTHER: Final = Slot("hr", "")
"""What a layout answers for a picture that is published with the dataset but is no part of it."""

Recognise = Callable[[PurePosixPath], Slot | None]
"""The slot of a picture by its path (suffix in small letters), `OTHER`, or None if it does not belong here."""


def list_files(root: Path) -> list[Found]:
    """All files below a folder, sorted by path."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return [Found(PurePosixPath(path.relative_to(root).as_posix()), path) for path in files]


def sort_out(
    files: Sequence[Found], recognise: Recognise, *, where: str, note: Callable[[str], None]
) -> dict[Slot, Found]:
    """The picture of every slot; `IntegrityError` names pictures that belong nowhere or stand for one slot twice."""
    slots: dict[Slot, Found] = {}
    surplus, twice, others, passed_over, capitals = [], [], 0, [], []
    for found in files:
        if not _is_picture(found.name):
            passed_over.append(str(found.name))
            continue
        slot = recognise(found.name.with_suffix(found.name.suffix.lower()))
        if slot is None:
            surplus.append(str(found.name))
        elif slot == OTHER:
            others += 1
        elif slot in slots:
            twice.append(f"{found.name} and {slots[slot].name}")
        else:
            slots[slot] = found
            if found.name.suffix != found.name.suffix.lower():
                capitals.append(str(found.name))
    if surplus or twice:
        raise IntegrityError(
            f"{where}: "
            + "; ".join(
                text
                for text, names in (
                    (f"{len(surplus)} picture(s) that are no part of the set: {_some(surplus)}", surplus),
                    (f"{len(twice)} picture(s) twice: {_some(twice)}", twice),
                )
                if names
            ),
            "give a folder or archive that holds this set alone",
        )
    _report(where, slots, others, passed_over, capitals, note)
    return slots


def _report(
    where: str,
    slots: dict[Slot, Found],
    others: int,
    passed_over: Sequence[str],
    capitals: Sequence[str],
    note: Callable[[str], None],
) -> None:
    depth = max((len(found.name.parts) for found in slots.values()), default=1)
    if depth > 2:
        deepest = next(found.name.parent for found in slots.values() if len(found.name.parts) == depth)
        note(f"{where}: pictures found in nested folders, as deep as {deepest}")
    if passed_over:
        note(f"{where}: passed over, not a picture by name: {_some(passed_over)}")
    if others:
        note(f"{where}: passed over {others} pictures that are published with the set but no part of it")
    if capitals:
        note(f"{where}: {len(capitals)} suffix(es) in capitals: {_some(capitals)}")


def _is_picture(name: PurePosixPath) -> bool:
    hidden = name.name.startswith(".") or "__MACOSX" in name.parts
    return not hidden and name.suffix.lower() in SUFFIXES


def require_slots(
    slots: Iterable[Slot], expected: Iterable[Slot], *, where: str, name_of: Callable[[Slot], str]
) -> None:
    """`IntegrityError` that names every picture that is missing or too many."""
    missing = sorted(name_of(slot) for slot in set(expected) - set(slots))
    surplus = sorted(name_of(slot) for slot in set(slots) - set(expected))
    require_none(missing, surplus, where=where, of=len(set(expected)))


def require_none(missing: Sequence[str], surplus: Sequence[str], *, where: str, of: int) -> None:
    """`IntegrityError` unless nothing is missing and nothing too many; ``of`` pictures were expected."""
    if missing or surplus:
        parts = [
            f"{of - len(missing)} of {of} pictures found, missing: {_some(missing)}" if missing else "",
            f"{len(surplus)} too many: {_some(surplus)}" if surplus else "",
        ]
        raise IntegrityError(
            f"{where}: " + "; ".join(filter(None, parts)), "complete the folder or get the archive again"
        )


def _some(names: Sequence[str], limit: int = 20) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


# --- names ---------------------------------------------------------------------------------------------------------


def read_names(name: str) -> tuple[str, ...]:
    """Lines of a list that ships with this package."""
    return tuple((importlib.resources.files("refsr_bench.collectors") / "names" / name).read_text("utf-8").splitlines())


_SELF_EX_SR = re.compile(r"(?P<sample>img_\d{3})_SRF_(?P<factor>\d)_(?P<what>.+)")


def recognise_self_ex_sr(name: PurePosixPath) -> Slot | None:
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
    role: Role | None = {"HR": "hr", "LR": "lr"}.get(match["what"])  # type: ignore[assignment]
    return Slot(role, match["sample"]) if role is not None and match["factor"] == "4" else OTHER


def self_ex_sr_slots(count: int) -> frozenset[Slot]:
    """HR and LR slots of a SelfExSR archive of ``count`` pictures."""
    roles: tuple[Role, ...] = ("hr", "lr")
    return frozenset(Slot(role, f"img_{i:03d}") for i in range(1, count + 1) for role in roles)
