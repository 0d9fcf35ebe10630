"""Transformation-controlled sets: references that are the HR picture itself, rotated or scaled by a known amount.

The paper's section 5.4 describes such a set and publishes neither pictures nor ranges; this one states everything. For
each sample of a built dataset and each group one reference is made: the HR picture turned or scaled about its centre on
a canvas of the same size, bicubic (with an antialiasing filter where it shrinks), black where nothing is shown, 8-bit
PNG, with its exact 3x3 matrix and the mask of what it shows. Three controls go with them: the HR picture itself, a
picture of something else, and black.

The answer is in the reference, so scores on such a set are upper bounds, never realistic.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from refsr_bench.errors import IntegrityError, UsageError, did_you_mean
from refsr_bench.geometry import as_matrix3, similarity_about_centre, warp_image
from refsr_bench.images import decode_image, encode_png
from refsr_bench.schema import DatasetCard, DatasetInfo, Image, Record, StoredImage, StoredReference, TransformGroup
from refsr_bench.store import (
    Dataset,
    add_file,
    add_image,
    building,
    name_after,
    open_dataset,
    read_stored,
    resolve_dataset,
    seal,
)

VERSION = "1"
BUILDER_VERSION = "1"
KINDS = ("rotation", "scale", "both")
LEVELS = ("small", "medium", "large")
CITATION = (
    "Transformed as in Jiang et al., Robust Reference-based Super-Resolution via C2-Matching, CVPR 2021, section 5.4"
)

DEFAULTS = {
    "seed": "0",
    "rotation": "0-10,10-25,25-45",
    "scale": "1.05-1.2,1.2-1.5,1.5-2",
    "angles": "0,5,10,15,20,30,45,60,90,180",
    "factors": "1/2,1/1.5,1/1.2,1/1.1,1,1.1,1.2,1.5,2",
    "limit": "all",
}
"""Options of `build` and what they are unless given: ranges of small, medium and large in degrees and in factors, the
points of the curves, and how many samples of the source set are taken."""


CARD = DatasetCard(
    name="transformed",
    version=VERSION,
    title="Rotated and scaled references of a built set",
    licence="that of the set it is made of",
    citation=CITATION,
    builder_version=BUILDER_VERSION,
    references="one: the HR picture itself, rotated or scaled by a known amount; or a control",
    description="""\
`refsr-bench build transformed --of NAME --kind rotation|scale|both`. For every sample of a built set and every group
below, one sample whose reference is the HR picture rotated or scaled about its centre, on a canvas of the same size:
bicubic, a Gaussian filter before it where the picture shrinks, black where nothing is shown, 8-bit PNG. Its exact 3x3
matrix and the mask of what it shows are in the manifest, so that matches are scored and PSNR can be restricted to
what the reference shows.

| group | rotation | scale |
|---|---|---|
| `rotation-small`, `scale-small` | (0, 10] degrees | 1.05 to 1.2 |
| `rotation-medium`, `scale-medium` | (10, 25] degrees | 1.2 to 1.5 |
| `rotation-large`, `scale-large` | (25, 45] degrees | 1.5 to 2.0 |
| `rotation-at-A` | exactly 0, 5, 10, 15, 20, 30, 45, 60, 90, 180 degrees | |
| `scale-at-S` | | exactly 1/2, 1/1.5, 1/1.2, 1/1.1, 1, 1.1, 1.2, 1.5, 2 |
| `control-identity` | the HR picture itself | |
| `control-unrelated` | another sample's picture | |
| `control-black` | black: a model that ignores its reference scores the same | |

The angle of a group is uniform with a random sign; the factor is log-uniform, and its inverse half of the time. Both
depend on the seed, the sample and the group alone. Ranges, points and the seed are options and are recorded in
`dataset.json`: `--set seed=1 --set rotation=0-5,5-15,15-45 --set angles=0,30 --set factors=none --set limit=10`.

The paper describes such a set (section 5.4, Fig. 6) without ranges and without publishing it: these ranges are this
package's. The answer is in the reference, so every score on it is an upper bound, never a realistic one.""",
)


def _alias(kind: str) -> DatasetCard:
    return CARD.model_copy(
        update={
            "name": f"cufed5-{kind}",
            "title": f"CUFED5 with {'rotated' if kind == 'rotation' else 'scaled'} references",
            "description": f"Short for `build transformed --of cufed5 --kind {kind}`; build `cufed5` first.",
        }
    )


CARDS = {card.name: card for card in (CARD, _alias("rotation"), _alias("scale"))}


class Transform(NamedTuple):
    """One similarity about the picture's centre."""

    group: TransformGroup
    angle_deg: float
    scale: float

    def __str__(self) -> str:
        turned = f"turned by {self.angle_deg:g} degrees" if self.group.kind == "rotation" else ""
        return turned or f"scaled by {self.scale:g}"


class Plan(NamedTuple):
    """What is made for every sample."""

    seed: int
    ranges: dict[str, tuple[tuple[float, float], ...]]
    """Kind to the ranges of `LEVELS`."""
    points: tuple[Transform, ...]
    """Points of the curves."""

    def transforms(self, sample: str) -> Iterator[Transform]:
        """The transforms of one sample: one drawn from each range, then the points of the curves."""
        for kind, ranges in self.ranges.items():
            for level, limits in zip(LEVELS, ranges, strict=True):
                yield draw(TransformGroup(kind, level), limits, self.seed, sample)
        yield from self.points


def dataset_name(options: Mapping[str, str]) -> str:
    """Name of the set that options describe: ``cufed5-rotation``."""
    source, kind = _source_and_kind(options)
    return f"{PurePosixPath(source).name}-{kind}"


def recorded_options(options: Mapping[str, str]) -> dict[str, str]:
    """All options of a build with their defaults, the source set by its id, as ``dataset.json`` records them."""
    source, kind = _source_and_kind(options)
    _make_plan(options)
    return {"of": open_dataset(resolve_dataset(source)).info.id, "kind": kind, **DEFAULTS, **_tuning(options)}


def build(
    source: Path | None,
    target: Path,
    *,
    progress: Callable[[int, int], None],
    note: Callable[[str], None],
    of: str | None = None,
    kind: str = "both",
    seed: str = DEFAULTS["seed"],
    rotation: str = DEFAULTS["rotation"],
    scale: str = DEFAULTS["scale"],
    angles: str = DEFAULTS["angles"],
    factors: str = DEFAULTS["factors"],
    limit: str = DEFAULTS["limit"],
) -> DatasetInfo:
    """Build the set of the built dataset ``of`` at ``target``; every option is explained at `DEFAULTS`.

    ``both`` is the two kinds side by side: no reference is rotated and scaled at once. ``angles`` or ``factors`` may be
    ``none``. Samples without an HR picture are passed over and named.
    """
    if source is not None:
        raise UsageError("a transformed set is made of a built dataset and takes no folder", "--of NAME")
    options = {"of": of or "", "kind": kind, "seed": seed, "rotation": rotation, "scale": scale}
    options |= {"angles": angles, "factors": factors, "limit": limit}
    recorded = recorded_options(options)
    plan = _make_plan(options)
    name = name_after(target)
    dataset = open_dataset(resolve_dataset(of or ""))
    chosen = dataset.records if limit == "all" else dataset.records[: _whole_number("limit", limit)]
    usable = [record for record in chosen if record.hr is not None]
    if len(usable) < len(chosen):
        missing = ", ".join(record.name for record in chosen if record.hr is None)
        note(f"passed over, no HR picture: {missing}")
    with building(target) as root:
        builder = _Builder(root, dataset, usable, note)
        records: list[Record] = []
        for done, record in enumerate(usable, 1):
            records += builder.records(record, plan)
            progress(done, len(usable))
        return seal(
            root,
            records,
            name=name,
            version=VERSION,
            title=f"{dataset.info.title}; rotated or scaled references (upper bound: made from the HR picture)",
            licence=dataset.info.licence,
            citation=f"{dataset.info.citation}; {CITATION}",
            builder_version=BUILDER_VERSION,
            options=recorded,
        )


class _Builder:
    """Writes the files of one set and makes its records."""

    def __init__(self, root: Path, dataset: Dataset, chosen: Sequence[Record], note: Callable[[str], None]) -> None:
        self.root, self.dataset, self.note = root, dataset, note
        self.chosen = chosen
        self.stored: dict[str, StoredImage] = {}

    def records(self, record: Record, plan: Plan) -> Iterator[Record]:
        """All samples made from one of the source set's."""
        hr = self._store_hr(record)
        data = read_stored(self.dataset.root, hr_of(record))
        picture = decode_image(data, hr_of(record).path).pixels
        for transform in plan.transforms(record.name):
            ref = self._transformed(record.name, picture, transform)
            yield _sample(record, hr, transform.group.name, ref, f"the HR picture {transform} about its centre")
        same = StoredReference(**hr.model_dump(), h_hr_to_ref=as_matrix3(np.eye(3)))
        yield _sample(record, hr, "control-identity", same, "the HR picture itself")
        other = self._unrelated_to(record)
        if other is None:
            self.note(f"{record.name}: no control-unrelated, every other picture is of the same scene")
        else:
            ref = StoredReference(**self._store_hr(other).model_dump())
            yield _sample(record, hr, "control-unrelated", ref, f"the HR picture of {other.name}")
        black = add_image(self.root, f"ref/{record.name}.black.png", encode_png(np.zeros_like(picture)))
        yield _sample(record, hr, "control-black", StoredReference(**black.model_dump()), "black")

    def _store_hr(self, record: Record) -> StoredImage:
        if record.name not in self.stored:
            hr = hr_of(record)
            data = read_stored(self.dataset.root, hr)
            path = f"hr/{record.name}{PurePosixPath(hr.path).suffix}"
            self.stored[record.name] = add_image(self.root, path, data)
        return self.stored[record.name]

    def _transformed(self, name: str, picture: Image, transform: Transform) -> StoredReference:
        height, width = picture.shape[:2]
        h = similarity_about_centre(height, width, angle_deg=transform.angle_deg, scale=transform.scale)
        warped, valid = warp_image(picture, h, height, width)
        stem = f"{name}.{transform.group.name}"
        ref = add_image(self.root, f"ref/{stem}.png", encode_png(warped))
        mask = add_file(self.root, f"valid/{stem}.png", encode_png(valid.astype(np.uint8) * np.uint8(255)))
        return StoredReference(**ref.model_dump(), h_hr_to_ref=as_matrix3(h), valid_mask=mask)

    def _unrelated_to(self, record: Record) -> Record | None:
        """The next sample, around the end, with another source whose picture is none of this one's references."""
        start = [r.name for r in self.chosen].index(record.name)
        related = {ref.sha256 for ref in record.refs} | {hr_of(record).sha256}
        for other in (*self.chosen[start + 1 :], *self.chosen[:start]):
            mutual = hr_of(record).sha256 in {ref.sha256 for ref in other.refs}
            if other.source != record.source and hr_of(other).sha256 not in related and not mutual:
                return other
        return None


def hr_of(record: Record) -> StoredImage:
    """The HR picture of a record that has one."""
    if record.hr is None:
        raise IntegrityError(f"{record.name} has no HR picture")
    return record.hr


def _sample(record: Record, hr: StoredImage, group: str, ref: StoredReference, how: str) -> Record:
    return Record(
        name=f"{record.name}.{group}",
        hr=hr,
        refs=(ref,),
        group=group,
        tags=("upper-bound", record.name, record.group) if ref.h_hr_to_ref else (record.name, record.group),
        source=record.source,
        licence=record.licence,
        made=f"HR: that of {record.name}; reference: {how}",
    )


def draw(group: TransformGroup, limits: tuple[float, float], seed: int, sample: str) -> Transform:
    """Draw a transform: the same for the same (seed, sample, group), whatever else is built.

    Rotation: uniform in the absolute angle, above the lower and up to the upper limit, random sign. Scale: log-uniform,
    and its inverse half of the time. Angles are rounded to 1e-4 degrees, factors to 1e-6.
    """
    digest = hashlib.sha256(f"{seed}|{sample}|{group.name}".encode()).digest()
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(digest[:8], "little")))
    share, reverse = 1 - generator.random(), generator.random() < 0.5
    low, high = limits
    if group.kind == "rotation":
        angle = round(low + (high - low) * share, 4)
        return Transform(group, -angle if reverse else angle, 1.0)
    factor = math.exp(math.log(low) + (math.log(high) - math.log(low)) * share)
    return Transform(group, 0.0, round(1 / factor if reverse else factor, 6))


# --- options -----------------------------------------------------------------------------------------------------


def _source_and_kind(options: Mapping[str, str]) -> tuple[str, str]:
    if not options.get("of"):
        raise UsageError("a transformed set needs a built dataset to be made of", "add --of NAME")
    kind = options.get("kind", "both")
    if kind not in KINDS:
        raise UsageError(f"there is no kind of transform called {kind!r}", did_you_mean(kind, KINDS))
    return options["of"], kind


def _tuning(options: Mapping[str, str]) -> dict[str, str]:
    return {key: str(value) for key, value in options.items() if key in DEFAULTS}


def _make_plan(options: Mapping[str, str]) -> Plan:
    values = DEFAULTS | _tuning(options)
    kinds = [kind for kind in ("rotation", "scale") if _source_and_kind(options)[1] in (kind, "both")]
    ranges = {kind: _ranges(kind, values[kind]) for kind in kinds}
    points: list[Transform] = []
    if "rotation" in kinds:
        points += [Transform(TransformGroup("rotation", value=a), a, 1.0) for a in _numbers("angles", values["angles"])]
    if "scale" in kinds:
        points += [Transform(TransformGroup("scale", value=f), 0.0, f) for f in _numbers("factors", values["factors"])]
    names = [point.group.name for point in points]
    if len(set(names)) < len(names):
        raise UsageError("a point of a curve is given twice, or two differ by less than 0.001")
    return Plan(_whole_number("seed", values["seed"]), ranges, tuple(points))


def _ranges(kind: str, text: str) -> tuple[tuple[float, float], ...]:
    lowest, highest = (0.0, 180.0) if kind == "rotation" else (1.0, 8.0)
    try:
        ranges = tuple((float(low), float(high)) for low, high in (part.split("-") for part in text.split(",")))
    except ValueError:
        ranges = ()
    if len(ranges) != len(LEVELS) or any(not lowest <= low < high <= highest for low, high in ranges):
        raise UsageError(
            f"{kind}={text!r} is not three ranges between {lowest:g} and {highest:g}", f"such as {DEFAULTS[kind]}"
        )
    return ranges


def _numbers(key: str, text: str) -> tuple[float, ...]:
    if text == "none":
        return ()
    lowest, highest = (0.0, 180.0) if key == "angles" else (0.125, 8.0)
    try:
        numbers = tuple(_fraction(part) for part in text.split(","))
    except (ValueError, ZeroDivisionError):
        numbers = (math.nan,)
    if any(not lowest <= number <= highest for number in numbers):
        raise UsageError(
            f"{key}={text!r} is not a list of numbers between {lowest:g} and {highest:g}", f"such as {DEFAULTS[key]}"
        )
    return numbers


def _fraction(text: str) -> float:
    above, _, below = text.partition("/")
    return float(above) / float(below or 1)


def _whole_number(key: str, text: str) -> int:
    if not text.isdigit() or (key == "limit" and int(text) == 0):
        raise UsageError(f"{key}={text!r} is not a whole number")
    return int(text)
