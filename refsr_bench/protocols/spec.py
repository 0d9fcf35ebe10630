"""Evaluation protocols: every choice that moves a score, as named fields with named values.

`PRESETS` holds the published protocols. `signature_of` writes a protocol's choices into a number's signature and
`explain_signature` says in plain words what a signature means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from pydantic import Field, ValidationError

from refsr_bench.errors import UsageError, did_you_mean
from refsr_bench.protocols.references import explain_rule
from refsr_bench.schema import Frozen
from refsr_bench.signature import Signature, make_signature


class EvalProtocol(Frozen):
    """How a sample becomes a model's input, and how the output becomes a score.

    The defaults are those of the released C2-Matching test code (CVPR 2021, section 5). Every value is explained by
    `explain_signature`, and with its measured effect in ``docs/protocols.md``.
    """

    name: str = "c2-2021"
    scale: Literal[4] = 4
    downsample: Literal[
        "pil.bicubic", "pil.lanczos", "cv2.bicubic", "matlab.bicubic", "matlab.mirror", "matlab.mirrorfloat"
    ] = "pil.bicubic"
    """Kernel that makes the LR image from the padded 8-bit HR image."""
    mod: Literal["crop4", "crop32", "replicate32", "replicate64"] = "crop4"
    """How sizes are made divisible: cropped at the bottom and right, or padded on all sides with edge pixels."""
    pad: Literal["zero2ref", "own", "like-hr", "replicate16"] = "zero2ref"
    """What happens to a reference whose size is not the input's."""
    quantise: Literal["round8"] = "round8"
    """The output is clamped to [0, 1], times 255, rounded once."""
    luma: Literal["y601studio", "y601full", "y601ttsr", "rgb"] = "y601studio"
    """The plane that luma metrics are taken on; "rgb": the protocol reports none of them, but RGB scores."""
    crop_px: int = Field(default=4, ge=0)
    """Border cut from all four sides before scoring, px."""


DEFAULT = EvalProtocol()

PROTOCOL_LR = "protocol"
"""Says that LR images are made as the protocol tells."""

PRESETS = {
    protocol.name: protocol
    for protocol in (
        DEFAULT,
        EvalProtocol(name="ttsr-2020", pad="own", luma="y601ttsr", crop_px=0),
        EvalProtocol(name="masa-2021", mod="replicate32", pad="replicate16", crop_px=0),
        EvalProtocol(name="amsa-2022", mod="crop32"),
        EvalProtocol(name="mmagic-rgb", pad="like-hr", luma="rgb"),
        EvalProtocol(name="matlab-sisr", downsample="matlab.bicubic", pad="own"),
    )
}

VARIANTS = ("c2-2021+ch=y601full", "c2-2021+crop=0", "c2-2021+lr=cv2.bicubic")
"""Frequent slips, each one choice away from the default; ``--protocol all`` scores them beside the presets."""

KEY_FIELDS = {
    "x": "scale",
    "lr": "downsample",
    "mod": "mod",
    "pad": "pad",
    "q": "quantise",
    "ch": "luma",
    "crop": "crop_px",
}
"""Key of a signature to the field of `EvalProtocol` that it shows."""

_DECIDES_PICTURES = ("scale", "downsample", "mod", "pad", "quantise")


def find_protocol(name: str) -> EvalProtocol:
    """The preset called ``name``, or one with changed choices, ``PRESET+key=value+...`` in the keys of a signature.

    `UsageError` with the nearest name if there is none.

    >>> find_protocol("ttsr-2020+crop=4").crop_px
    4
    """
    base, *changes = name.split("+")
    if base not in PRESETS:
        raise UsageError(f"there is no protocol called {base!r}", did_you_mean(base, PRESETS))
    values: dict[str, Any] = PRESETS[base].model_dump() | {"name": name}
    for change in changes:
        key, _, value = change.partition("=")
        if key not in KEY_FIELDS:
            raise UsageError(f"a protocol has no choice {key!r}", did_you_mean(key, KEY_FIELDS))
        values[KEY_FIELDS[key]] = int(value) if value.isdigit() else value
    try:
        return EvalProtocol.model_validate(values)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise UsageError(f"{name!r} is not a protocol: {problem['loc'][0]}: {problem['msg']}") from None


def find_protocols(text: str) -> tuple[EvalProtocol, ...]:
    """The protocols that ``text`` asks for: one name, several joined by commas, or ``all``; the first is the base."""
    names = [*PRESETS, *VARIANTS] if text == "all" else text.split(",")
    return tuple(find_protocol(name) for name in dict.fromkeys(names))


def choices(protocol: EvalProtocol) -> dict[str, str]:
    """A protocol's choices by the keys of a signature."""
    return {key: str(getattr(protocol, field)) for key, field in KEY_FIELDS.items()}


def same_pictures(a: EvalProtocol, b: EvalProtocol) -> bool:
    """Whether both protocols give a model the same input and write the same picture of its output."""
    return all(getattr(a, field) == getattr(b, field) for field in _DECIDES_PICTURES)


def protocol_summary(protocol: EvalProtocol) -> str:
    """One line that names a protocol's choices."""
    return ", ".join(f"{key} {value}" for key, value in choices(protocol).items() if key != "x")


class Metric(NamedTuple):
    """A score of one image: its name, its function, and what its signature has to say beyond the protocol."""

    name: str
    title: str
    unit: str
    compute: Callable[..., float]
    """What it takes is told by ``on``."""
    keys: dict[str, str]
    cap: float | None = None
    """Value that stands for infinity (identical pictures)."""
    on: Literal["pictures", "visible", "matches"] = "pictures"
    """``pictures``: (hr, sr, crop_px), uint8 RGB of equal size, and ``luma=`` if the key ``ch`` is "luma".
    ``visible``: (hr, sr, visible, crop_px, luma=), over the pixels that the reference shows too, ``(H, W)`` bool.
    ``matches``: a `refsr_bench.protocols.correspondence.MatchErrors`."""
    only_luma: str | None = None
    """The only ``EvalProtocol.luma`` under which it is reported; None: under all that have its channel."""


def applies(metric: Metric, protocol: EvalProtocol) -> bool:
    """Whether a protocol reports this metric: luma metrics have no place in one that scores RGB."""
    if metric.only_luma is not None:
        return protocol.luma == metric.only_luma
    return metric.keys.get("ch") != "luma" or protocol.luma != "rgb"


def signature_of(
    metric: Metric,
    protocol: EvalProtocol,
    *,
    dataset_id: str,
    samples: int,
    refs_rule: str,
    with_truth: int | None = None,
    lr: str = PROTOCOL_LR,
    subset: str | None = None,
    model_keys: Mapping[str, str] | None = None,
) -> Signature:
    """Signature of one metric's numbers under a protocol on ``samples`` samples of a dataset, or of its ``subset``.

    ``metric.keys`` names its channel (``ch``; "luma" stands for the protocol's plane), window, and definition version.
    ``with_truth``: how many of the samples have true correspondences, where only those are scored. ``lr``: where the LR
    images come from, if not from the protocol: "shipped.KERNEL". ``model_keys``: what the model itself has to add.
    """
    keys = {key: protocol.luma if value == "luma" else value for key, value in metric.keys.items()}
    if with_truth is not None:
        keys["gt"] = str(with_truth)
    if metric.cap is not None:
        keys["inf"] = f"cap{metric.cap:g}"
    return make_signature(
        metric.name,
        {
            "data": dataset_id,
            **({} if subset is None else {"sub": subset}),
            "n": str(samples),
            "ref": refs_rule,
            "x": str(protocol.scale),
            "lr": protocol.downsample if lr == PROTOCOL_LR else lr,
            "mod": protocol.mod,
            "pad": protocol.pad,
            "q": protocol.quantise,
            "crop": str(protocol.crop_px),
            "agg": "mean",
            **keys,
            **(model_keys or {}),
        },
    )


_EXACT_MEANINGS = {
    ("lr", "pil.bicubic"): "the LR image is Pillow's antialiased bicubic reduction of the padded 8-bit HR image",
    ("lr", "pil.lanczos"): "the LR image is Pillow's antialiased Lanczos reduction of the padded 8-bit HR image",
    ("lr", "cv2.bicubic"): "the LR image is OpenCV's bicubic reduction, which is not antialiased",
    ("lr", "matlab.bicubic"): "the LR image is MATLAB's imresize as in Set5 and Set14: edge clamped, 8 bits in between",
    ("lr", "matlab.mirror"): "as matlab.bicubic, but with a mirrored border",
    ("lr", "matlab.mirrorfloat"): "as matlab.bicubic, but with a mirrored border and nothing rounded in between",
    ("mod", "crop4"): "input and reference are cropped at the bottom and right to multiples of 4",
    ("mod", "crop32"): "input and reference are cropped at the bottom and right to multiples of 32",
    ("mod", "replicate32"): "the input is padded on all sides to multiples of 32 with its edge pixels, not cropped",
    ("mod", "replicate64"): "the input is padded on all sides to multiples of 64 with its edge pixels, not cropped",
    ("pad", "own"): "every reference keeps its own size",
    ("pad", "like-hr"): "every reference is cropped and zero-padded at the bottom and right to the input's size",
    ("pad", "replicate16"): "every reference is padded at the bottom and right to multiples of 16 with its edge pixels",
    ("pad", "zero2ref"): "input and reference are zero-padded at the bottom and right to their common largest size",
    ("q", "round8"): "the output is clamped to [0, 1], multiplied by 255 and rounded once",
    ("ch", "y601studio"): "measured on BT.601 luma with black at 16 and white at 235, not rounded",
    ("ch", "y601full"): "measured on BT.601 luma with black at 0 and white at 255, not rounded",
    ("ch", "y601ttsr"): "measured on luma with TTSR's rounded weights, black at 16 and white at 235",
    ("ch", "rgb"): "measured on the three channels together",
    ("win", "gauss11s1.5valid"): "11x11 Gaussian window of sigma 1.5, population moments, valid region only",
    ("agg", "mean"): "the mean over images of each image's value",
    ("px", "hr"): "distances are in pixels of the HR picture",
    ("stride", "4"): "one match every 4 px, for each 3x3-cell patch of the feature map",
    ("centre", "half"): "a feature cell (i, j) stands for HR pixel (4i + 1.5, 4j + 1.5), its centre",
    ("centre", "4i"): "a feature cell (i, j) stands for HR pixel (4i, 4j), as in the released training code",
    ("mask", "inframe10"): "only matches whose true point lies at least 10 px inside the reference's picture",
    ("mask", "visible"): "only pixels whose true point lies on the reference's picture",
    ("prec", "bf16"): "the model's convolutions multiply numbers rounded to bfloat16; its matches are those of float32",
    ("tiles", "inexact8"): "where memory demanded it, pictures were restored in tiles that see only 8 px around them",
    ("guess", "bicubic"): "the model starts from a bicubic enlargement where its release starts from MDSR's picture",
    ("guess", "mdsr"): "the model starts from MDSR's picture, as its release does",
    ("in", "lrup"): "the matcher sees the LR image, enlarged by 4 with Pillow's bicubic, and the reference",
    ("in", "hr"): "the matcher sees the HR image itself, as the teacher network does, and the reference",
}


def _lr(value: str) -> str | None:
    kernel = value.removeprefix("shipped.")
    return f"the LR image is the one that the dataset ships, made by {kernel}" if kernel not in ("", value) else None


def _number(text: str) -> Callable[[str], str | None]:
    return lambda value: text.format(value) if value.isdigit() else None


def _data(value: str) -> str | None:
    name, _, digits = value.removesuffix("+modified").rpartition("@")
    changed = ", with files that were changed after it was built" if value.endswith("+modified") else ""
    return f"dataset {name}, whose manifest's SHA-256 begins {digits}{changed}" if name else None


def _subset(value: str) -> str | None:
    name, _, digits = value.rpartition("@")
    what = {"texture": "the quarter of the samples with the highest HR gradient energy"}.get(name)
    return what and f"only {what}; the SHA-256 of their names begins {digits}"


_PATTERN_MEANINGS: dict[str, Callable[[str], str | None]] = {
    "data": _data,
    "sub": _subset,
    "n": _number("{} samples, the first ones of the dataset or subset"),
    "ref": explain_rule,
    "lr": _lr,
    "x": _number("magnification {}"),
    "crop": _number("{} px are cut from all four sides before scoring"),
    "inf": lambda value: (
        f"identical pictures (infinite PSNR) count as {value[3:]} dB, and are counted" if value[:3] == "cap" else None
    ),
    "gt": _number("{} of the samples have true correspondences; only those count"),
    "def": _number("version {} of this metric's definition"),
}

SIGNATURE_KEYS = frozenset({key for key, _ in _EXACT_MEANINGS} | set(_PATTERN_MEANINGS))


def explain_signature(signature: Signature, metric_titles: dict[str, str]) -> list[tuple[str, str]]:
    """Plain words for every part of a signature, in its order; `UsageError` for an unknown metric, key or value."""
    if signature.metric not in metric_titles:
        raise UsageError(
            f"there is no metric called {signature.metric!r}", did_you_mean(signature.metric, metric_titles)
        )
    parts = [(signature.metric, metric_titles[signature.metric])]
    for key, value in signature.fields:
        if key not in SIGNATURE_KEYS:
            raise UsageError(f"a signature has no key {key!r}", did_you_mean(key, SIGNATURE_KEYS))
        meaning = _EXACT_MEANINGS.get((key, value))
        if meaning is None and key in _PATTERN_MEANINGS:
            meaning = _PATTERN_MEANINGS[key](value)
        if meaning is None:
            known = [v for k, v in _EXACT_MEANINGS if k == key]
            raise UsageError(f"{value!r} is not a value of the signature key {key!r}", did_you_mean(value, known))
        parts.append((f"{key}:{value}", meaning))
    return parts
