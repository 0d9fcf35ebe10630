"""The embedded demo set: 21 samples from the photographs inside scikit-image's wheel; needs no network.

Three groups of seven: ``two-view`` (a stereo pair with ground-truth disparity), ``upper-bound`` (the reference is the
input's own photograph seen differently, so the answer is in it) and ``unrelated`` (another photograph).
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from refsr_bench.disk import sha256_bytes
from refsr_bench.errors import IntegrityError, UsageError
from refsr_bench.geometry import as_matrix3, similarity_about_centre, translation, warp_image
from refsr_bench.images import decode_image, encode_png
from refsr_bench.schema import DatasetCard, DatasetInfo, Image, Record, StoredReference
from refsr_bench.store import add_file, add_image, building, seal

EXPECTED_MANIFEST = "8688bdb70aafb99147d0ed4bb71c7936e10206d6e8cb025ef03a6f5cac098d54"
"""SHA-256 of the manifest that the tested versions of Pillow and NumPy give."""
TESTED_SKIMAGE = "0.26.0"
"""A scikit-image whose photographs are the ones below."""


CARD = DatasetCard(
    name="demo",
    version="1",
    title="Demo: 21 pairs from scikit-image's photographs",
    licence="public domain and CC0 photographs; the stereo pair is for research (Middlebury 2014)",
    citation=(
        "van der Walt et al., scikit-image: image processing in Python, PeerJ 2014; "
        "Scharstein et al., High-resolution stereo datasets with subpixel-accurate ground truth, GCPR 2014"
    ),
    builder_version="1",
    samples=21,
    references="one: the second view, the same photograph seen differently, or another photograph",
    description="""\
Made offline from the photographs inside scikit-image's wheel, in three groups of seven:

| group | HR | reference | what it can tell |
|---|---|---|---|
| `two-view` | crop of the left Middlebury motorcycle | window of the right view, disparity kept | true Ref-SR |
| `upper-bound` | crop of a photograph | the same photograph scaled and turned; matrix and mask kept | an upper bound |
| `unrelated` | crop of a photograph | another photograph | what a useless reference costs |

In `upper-bound` the answer is in the reference: it is never a realistic score.
Every manifest line says how its sample was made. Twenty-one small crops are for trying things out; no conclusion
about a method should rest on them.""",
)
CARDS = {CARD.name: CARD}


class Photograph(NamedTuple):
    """A file of scikit-image's data folder: its hash, where it is from, what allows its use."""

    sha256: str
    source: str
    licence: str


PHOTOGRAPHS = {
    "astronaut.png": Photograph(
        "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5", "NASA, Eileen Collins", "public domain"
    ),
    "chelsea.png": Photograph(
        "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb", "Stéfan van der Walt", "CC0"
    ),
    "coffee.png": Photograph(
        "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7", "Rachel Michetti, Pikolo", "CC0"
    ),
    "rocket.jpg": Photograph(
        "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c", "SpaceX", "public domain"
    ),
    "motorcycle_left.png": Photograph(
        "db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179", "Middlebury 2014 stereo", "research"
    ),
    "motorcycle_right.png": Photograph(
        "5fc913ae870e42a4b662314bc904d1786bcad8e2f0b9b67dba5a229406357797", "Middlebury 2014 stereo", "research"
    ),
    "motorcycle_disp.npz": Photograph(
        "2e49c8cebff3fa20359a0cc6880c82e1c03bbb106da81a177218281bc2f113d7", "Middlebury 2014 stereo", "research"
    ),
}


class Crop(NamedTuple):
    """A window of a photograph, px."""

    photo: str
    x: int
    y: int
    width: int
    height: int

    def cut(self, picture: NDArray[Any]) -> NDArray[Any]:
        """The window's part of a picture or of a map of its size."""
        return picture[self.y : self.y + self.height, self.x : self.x + self.width]

    def __str__(self) -> str:
        return f"{self.width}x{self.height} px at ({self.x}, {self.y}) of {self.photo}"


TWO_VIEW = tuple(
    Crop("motorcycle_left.png", *window)
    for window in (
        (70, 60, 200, 160),
        (250, 40, 160, 160),
        (420, 30, 200, 160),
        (120, 230, 160, 200),
        (290, 210, 200, 160),
        (480, 220, 160, 160),
        (270, 330, 240, 160),
    )
)
UPPER_BOUND = (  # crop, angle in degrees, scale of the reference's content against the input's
    (Crop("astronaut.png", 160, 20, 160, 160), 5.0, 1.1),
    (Crop("astronaut.png", 20, 280, 200, 160), -10.0, 0.85),
    (Crop("chelsea.png", 120, 70, 200, 160), 15.0, 1.2),
    (Crop("coffee.png", 60, 90, 200, 160), -20.0, 1.0),
    (Crop("coffee.png", 330, 150, 160, 160), 8.0, 1.4),
    (Crop("rocket.jpg", 250, 160, 160, 200), -5.0, 0.7),
    (Crop("rocket.jpg", 60, 250, 202, 151), 25.0, 1.0),
)
UNRELATED = (  # input, reference
    (Crop("astronaut.png", 200, 250, 160, 160), Crop("coffee.png", 300, 20, 160, 160)),
    (Crop("chelsea.png", 40, 20, 200, 160), Crop("rocket.jpg", 300, 180, 200, 160)),
    (Crop("chelsea.png", 230, 120, 160, 160), Crop("astronaut.png", 40, 20, 160, 160)),
    (Crop("coffee.png", 180, 60, 160, 160), Crop("chelsea.png", 160, 60, 160, 160)),
    (Crop("rocket.jpg", 340, 200, 200, 160), Crop("motorcycle_left.png", 250, 230, 200, 160)),
    (Crop("motorcycle_left.png", 330, 60, 160, 160), Crop("chelsea.png", 100, 90, 160, 160)),
    (Crop("motorcycle_left.png", 150, 300, 200, 160), Crop("astronaut.png", 150, 0, 200, 160)),
)


class _Builder(NamedTuple):
    root: Path
    photos: dict[str, Image]
    disparity_left: NDArray[np.float32]


def build(
    source: Path | None, target: Path, *, progress: Callable[[int, int], None], note: Callable[[str], None]
) -> DatasetInfo:
    """Build the demo set at ``target``; it takes no ``source``.

    `IntegrityError` if scikit-image's files are not the known ones.
    """
    if source is not None:
        raise UsageError("the demo set is made from scikit-image's photographs and takes no folder")
    files = _read_photographs()
    photos = {name: decode_image(data, name).pixels for name, data in files.items() if not name.endswith(".npz")}
    with np.load(io.BytesIO(files["motorcycle_disp.npz"]), allow_pickle=False) as archive:
        disparity = archive["arr_0"].astype(np.float32)
    total = len(TWO_VIEW) + len(UPPER_BOUND) + len(UNRELATED)
    with building(target) as root:
        records = []
        for record in _make_records(_Builder(root, photos, disparity)):
            records.append(record)
            progress(len(records), total)
        info = seal(
            root,
            records,
            name=CARD.name,
            version=CARD.version,
            title=CARD.title,
            licence=CARD.licence,
            citation=CARD.citation,
            builder_version=CARD.builder_version,
        )
    if info.manifest_sha256 != EXPECTED_MANIFEST:
        note(
            f"this is {info.id}, not the published {CARD.name}@{EXPECTED_MANIFEST[:6]}: another version of Pillow or "
            "NumPy writes other bytes; compare numbers only under the same id"
        )
    return info


def _read_photographs() -> dict[str, bytes]:
    # Located without importing scikit-image, which would cost a second and is not needed.
    spec = importlib.util.find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise IntegrityError("scikit-image is not installed", f"pip install scikit-image=={TESTED_SKIMAGE}")
    folder = Path(spec.submodule_search_locations[0]) / "data"
    files = {}
    for name, photograph in PHOTOGRAPHS.items():
        path = folder / name
        data = path.read_bytes() if path.is_file() else b""
        if sha256_bytes(data) != photograph.sha256:
            state = "differs from" if data else "is missing in"
            raise IntegrityError(
                f"{path}: this photograph {state} the known scikit-image",
                f"pip install --force-reinstall scikit-image=={TESTED_SKIMAGE}",
            )
        files[name] = data
    return files


def _make_records(builder: _Builder) -> Iterator[Record]:
    for i, crop in enumerate(TWO_VIEW, 1):
        yield _two_view(builder, f"two-view-{i}", crop)
    for i, (crop, angle_deg, scale) in enumerate(UPPER_BOUND, 1):
        yield _upper_bound(builder, f"upper-bound-{i}", crop, angle_deg, scale)
    for i, (crop, ref) in enumerate(UNRELATED, 1):
        yield _unrelated(builder, f"unrelated-{i}", crop, ref)


def _two_view(builder: _Builder, name: str, crop: Crop) -> Record:
    """The reference is the right view's window of the same size, moved by the crop's median disparity.

    The published disparity d says that left pixel x shows what right pixel x - d shows.
    """
    disparity = crop.cut(builder.disparity_left)
    shift = round(float(np.median(disparity[np.isfinite(disparity)])))
    window = crop._replace(photo="motorcycle_right.png", x=crop.x - shift)
    to_ref = np.where(np.isfinite(disparity), shift - disparity, np.nan).astype(np.float32)
    buffer = io.BytesIO()
    np.savez(buffer, disparity=to_ref)
    ref = add_image(builder.root, f"ref/{name}.png", encode_png(window.cut(builder.photos[window.photo])))
    stored = add_file(builder.root, f"disparity/{name}.npz", buffer.getvalue())
    made = f"HR: {crop}; reference: {window}, moved by the median disparity of {shift} px"
    return _record(builder, name, "two-view", crop, StoredReference(**ref.model_dump(), disparity=stored), made)


def _upper_bound(builder: _Builder, name: str, crop: Crop, angle_deg: float, scale: float) -> Record:
    """The reference is the whole photograph turned and scaled about the crop's centre, seen through its window."""
    photo = builder.photos[crop.photo]
    about_centre = similarity_about_centre(crop.height, crop.width, angle_deg=angle_deg, scale=scale)
    picture, valid = warp_image(photo, about_centre @ translation(-crop.x, -crop.y), crop.height, crop.width)
    ref = add_image(builder.root, f"ref/{name}.png", encode_png(picture))
    mask = add_file(builder.root, f"valid/{name}.png", encode_png(valid.astype(np.uint8) * np.uint8(255)))
    reference = StoredReference(**ref.model_dump(), h_hr_to_ref=as_matrix3(about_centre), valid_mask=mask)
    made = f"HR: {crop}; reference: the same photograph, content x{scale} and turned by {angle_deg} degrees"
    return _record(builder, name, "upper-bound", crop, reference, made)


def _unrelated(builder: _Builder, name: str, crop: Crop, ref_crop: Crop) -> Record:
    ref = add_image(builder.root, f"ref/{name}.png", encode_png(ref_crop.cut(builder.photos[ref_crop.photo])))
    made = f"HR: {crop}; reference: {ref_crop}, which shows something else"
    return _record(builder, name, "unrelated", crop, StoredReference(**ref.model_dump()), made)


def _record(builder: _Builder, name: str, group: str, crop: Crop, ref: StoredReference, made: str) -> Record:
    hr = add_image(builder.root, f"hr/{name}.png", encode_png(crop.cut(builder.photos[crop.photo])))
    photograph = PHOTOGRAPHS[crop.photo]
    return Record(
        name=name,
        hr=hr,
        refs=(ref,),
        group=group,
        tags=(group,),
        source=f"{crop.photo} of scikit-image ({photograph.source})",
        licence=photograph.licence,
        made=made,
    )
