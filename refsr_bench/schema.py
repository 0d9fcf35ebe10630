"""The frozen types that cross a layer or reach the disk.

Everything here is JSON on disk. An unknown field is an error: a file written by a newer version is refused by name
instead of being half understood.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1

Image = NDArray[np.uint8]
"""uint8 RGB ``(H, W, 3)``, grey levels 0-255."""

Matrix3 = tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]


class Frozen(BaseModel):
    """Base of every type here: immutable, and strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _inside(path: str) -> str:
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts or "\\" in path or "\0" in path or not parts.parts:
        raise ValueError(f"{path!r} is not a relative path inside the dataset")
    return path


def _file_stem(name: str) -> str:
    if not name or name in {".", ".."} or any(c in name for c in '/\\:*?"<>|\0') or any(ord(c) < 32 for c in name):
        raise ValueError(f"{name!r} cannot be a sample name: it names files")
    return name


RelativePath = Annotated[str, AfterValidator(_inside)]
SampleName = Annotated[str, AfterValidator(_file_stem)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class StoredFile(Frozen):
    """One file of a dataset: where it lies, how long it is, and its hash."""

    path: RelativePath
    sha256: Sha256
    bytes: int


class StoredImage(StoredFile):
    """One picture of a dataset; height and width are those after decoding (EXIF orientation applied)."""

    height: int
    width: int
    conversions: tuple[str, ...] = ()
    """What `images.decode_image` had to do to make it 8-bit RGB, e.g. "16-bit reduced to 8"."""


class StoredLowRes(StoredImage):
    """A low-resolution picture that a dataset ships, with the kernel that made it."""

    kernel: str


class StoredReference(StoredImage):
    """One reference picture, and what is known of how it relates to the HR picture.

    ``h_hr_to_ref`` maps HR pixel coordinates (x, y), pixel centres on integers, to reference coordinates.
    ``disparity`` is an .npz whose ``disparity`` array (H, W), float32 px, NaN where unknown, says that HR pixel
    (x, y) shows the same point as reference pixel (x + disparity, y). ``valid_mask`` is a grey PNG of the reference's
    size, 255 where the reference shows a photograph and 0 where it is filled with black.
    """

    level: int | None = None
    """Similarity level as the dataset defines it; 1 is the most similar."""
    h_hr_to_ref: Matrix3 | None = None
    disparity: StoredFile | None = None
    valid_mask: StoredFile | None = None


class TransformGroup(NamedTuple):
    """A group of the transformation-controlled sets, and the name it has in manifests and rows.

    ``level`` is ``small``, ``medium`` or ``large``; or None, and ``value`` is the exact angle in degrees or factor of a
    point of the curve.

    >>> TransformGroup("scale", value=1 / 1.5).name
    'scale-at-0.667'
    >>> TransformGroup.parse("rotation-at-30").value
    30.0
    """

    kind: str
    level: str | None = None
    value: float | None = None

    @property
    def name(self) -> str:
        """The group as one word; values keep three decimals."""
        return f"{self.kind}-{self.level}" if self.value is None else f"{self.kind}-at-{round(self.value, 3):g}"

    @classmethod
    def parse(cls, name: str) -> TransformGroup | None:
        """The group that a name stands for, None if it is of another kind of set."""
        found = re.fullmatch(r"(rotation|scale)-(?:(small|medium|large)|at-(\d+(?:\.\d+)?))", name)
        return found and cls(found[1], found[2], None if found[3] is None else float(found[3]))


class Record(Frozen):
    """One manifest line: a sample without its pixels."""

    name: SampleName
    hr: StoredImage | None = None
    lr: StoredLowRes | None = None
    refs: tuple[StoredReference, ...] = ()
    group: str = "all"
    tags: tuple[str, ...] = ()
    source: str
    licence: str
    made: str
    """How this sample came to be, in one sentence with its numbers."""


class Sample(NamedTuple):
    """A record with its pixels."""

    record: Record
    hr: Image | None
    lr: Image | None
    refs: tuple[Image, ...]


class Matches(NamedTuple):
    """What a matcher found: for each node of the input the point of the reference that shows the same.

    ``nodes`` and ``matches`` are ``(N, 2)``, (x, y) HR px, ``score`` is ``(N,)``, higher is better. The nodes are
    `refsr_bench.geometry.patch_centres` of the input picture.
    """

    nodes: NDArray[np.float64]
    matches: NDArray[np.float64]
    score: NDArray[np.float64]


class SourceFile(Frozen):
    """One published file that a dataset is built from, and where people get it."""

    file: str
    """Its name as published; a file of this name is looked for in folders too."""
    holds: str
    """What is in it, for people."""
    urls: tuple[str, ...] = ()
    """Mirrors in order; ``gdrive:ID`` is a file on Google Drive. Empty where it cannot be fetched by a program."""
    found_at: str
    """Where a person gets it, in words."""
    sha256: Sha256 | None = None
    """None where nobody recorded it: then the first file is trusted and its hash enforced from there on."""


class DatasetCard(Frozen):
    """What a dataset is, whether or not it is built: printed by ``info`` and in ``docs/datasets.md``."""

    name: SampleName
    version: str
    title: str
    licence: str
    citation: str
    builder_version: str
    samples: int | None = None
    """How many there are; None where the user decides."""
    references: str
    """Which references a sample has, in words."""
    sources: tuple[SourceFile, ...] = ()
    description: str
    """Markdown: what it is for, its layout as published, what is special about it."""


class DatasetInfo(Frozen):
    """``dataset.json``, the file that makes a folder a dataset; written last."""

    schema_version: int = SCHEMA_VERSION
    name: SampleName
    version: str
    title: str
    licence: str
    citation: str
    builder_version: str
    """Changes when the same sources would give other files."""
    samples: int
    groups: dict[str, int]
    manifest_sha256: Sha256
    bytes: int | None = None
    """Size of all files together."""
    sources: dict[str, str] = Field(default_factory=dict)
    """What it was built from: file or folder name to hash and address."""
    modified: bool = Field(default=False, exclude=True)
    """Whether files were changed after the build and the user said to go on; never on disk."""
    options: dict[str, str] = Field(default_factory=dict)
    """What the builder was told or decided, as far as it can differ from build to build: seed, ranges, source set."""
    documents: tuple[StoredFile, ...] = ()
    """Files for people that belong to the dataset: pair lists, licences, datasheets."""

    @property
    def id(self) -> str:
        """Name and the first six digits of the manifest's hash, as a signature shows them: ``demo@1f3c9a``."""
        return f"{self.name}@{self.manifest_sha256[:6]}" + ("+modified" if self.modified else "")


class ModelCard(Frozen):
    """What a model is: printed by ``list models`` and ``info``, and stored beside every result."""

    name: str
    title: str
    paper: str
    uses_reference: bool
    max_references: int | None = 1
    """How many references it looks at, None for any number; more are refused, never silently dropped."""
    sees: Literal["lr", "hr", "truth"] = "lr"
    """What a matcher is shown beside the reference: the enlarged LR picture; the HR picture, as the teacher network is
    made to see; or, a floor and not a method, the true correspondences."""
    parameters: int | None = None
    """Learned parameters of the restoration network, as the papers count them; None where there are none."""
    weights_sha256: dict[str, Sha256] = Field(default_factory=dict)
    """File role to hash, for every weight file this object was made from."""
    weights_licence: str = "none"
    trained_on: str = "nothing"
    adversarial: bool = False
    """Whether a GAN loss took part in training: such rows trade fidelity for looks and are set in grey."""
    year: int | None = None
    input_convention: str = "uint8 RGB"
    """How the network itself is fed; the model converts."""
    checkpoint: tuple[str, ...] = ()
    """Names of the published weight files."""
    checkpoint_source: str = ""
    """Where a person gets them, in words."""
    signature_keys: dict[str, str] = Field(default_factory=dict)
    """What this object adds to the signature of its numbers, e.g. that something stood in for a released part."""

    @property
    def kind(self) -> str:
        """What tables call it: "gan", "reference" or "single-image"."""
        return "gan" if self.adversarial else "reference" if self.uses_reference else "single-image"


class Row(Frozen):
    """One number, never without its ruler; a failure is a row too."""

    model: str
    dataset: str
    sample: SampleName
    group: str
    refs: tuple[str, ...]
    """Paths of the references used, inside the dataset."""
    metric: str
    value: float | None
    signature: str
    status: Literal["ok", "capped", "failed"]
    """"capped": the metric was infinite and was set to the cap its signature names."""
    reason: str | None = None


class RunInfo(Frozen):
    """``run.json``: what was run, on what, with what, and how it went; rows lie beside it in ``rows.jsonl``."""

    schema_version: int = SCHEMA_VERSION
    status: Literal["running", "finished"]
    model: ModelCard
    options: dict[str, str] = Field(default_factory=dict)
    """Model options as given, e.g. the device."""
    dataset: str
    """`DatasetInfo.id`."""
    manifest_sha256: Sha256
    protocol: dict[str, str | int]
    refs_rule: str
    lr: str = "protocol"
    """Where LR pictures come from: "protocol", or "shipped.KERNEL" for the ones that the dataset ships."""
    subset: str | None = None
    """What a signature calls the subset of the dataset, if not all of it."""
    samples: int
    images: str
    """Folder of the SR pictures, relative to the run folder, or absolute where they were made elsewhere."""
    file_pattern: str = "{name}.png"
    scored: tuple[Literal["pictures", "visible", "matches"], ...] = ("pictures",)
    """What there is to score: SR pictures, their pixels that the reference shows, correspondences."""
    signatures: dict[str, str] = Field(default_factory=dict)
    failed: int = 0
    capped: int = 0
    device: str | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    rows_sha256: Sha256 | None = None
    row_digests: str | None = None
    """First eight digits of each row line's SHA-256, in order, joined by spaces: they tell which line was changed."""
    restore_seconds_total: float | None = None
    restore_seconds_median: float | None = None
    multiply_adds: int | None = None
    """Multiply-adds for one 40x40 LR picture and a 160x160 reference, as torch counts them; None where it cannot."""
    peak_memory_bytes: int | None = None
    """Largest resident set of the process that restored, interpreter and libraries included."""
