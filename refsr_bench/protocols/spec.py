"""Evaluation protocols: every choice that moves a score, as named fields with named values.

`PRESETS` holds the published protocols. `signature_of` writes a protocol's choices into a number's signature and
`explain_signature` says in plain words what a signature means.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from refsr_bench.errors import UsageError, did_you_mean
from refsr_bench.protocols.references import explain_rule
from refsr_bench.schema import Frozen, Image
from refsr_bench.signature import Signature, make_signature


class EvalProtocol(Frozen):
    """How a sample becomes a model's input, and how the output becomes a score.

    The defaults are those of the released C2-Matching test code (CVPR 2021, section 5; fact by fact in
    ``docs/protocols.md``).
    """

    name: str = "c2-2021"
    scale: Literal[4] = 4
    downsample: Literal["pil.bicubic"] = "pil.bicubic"
    """Kernel that makes the LR image from the padded 8-bit HR image."""
    mod: Literal["crop4"] = "crop4"
    """Input and references are cropped at the bottom and right to multiples of this."""
    pad: Literal["zero2ref"] = "zero2ref"
    """Input and references are zero-padded at the bottom and right to their common largest size."""
    quantise: Literal["round8"] = "round8"
    """The output is clamped to [0, 1], times 255, rounded once."""
    luma: Literal["y601studio"] = "y601studio"
    crop_px: int = 4
    """Border cut from all four sides before scoring, px."""


PRESETS = {"c2-2021": EvalProtocol()}


def find_protocol(name: str) -> EvalProtocol:
    """The preset called ``name``; `UsageError` with the nearest name if there is none."""
    if name not in PRESETS:
        raise UsageError(f"there is no protocol called {name!r}", did_you_mean(name, PRESETS))
    return PRESETS[name]


def protocol_summary(protocol: EvalProtocol) -> str:
    """One line that names a protocol's choices."""
    choices = protocol.model_dump(exclude={"name", "scale"})
    return ", ".join(f"{key} {value}" for key, value in choices.items())


class Metric(NamedTuple):
    """A score of one image: its name, its function, and what its signature has to say beyond the protocol."""

    name: str
    title: str
    unit: str
    compute: Callable[[Image, Image, int], float]
    """(hr, sr, crop_px) → value; hr and sr uint8 RGB of equal size."""
    keys: dict[str, str]
    cap: float | None = None
    """Value that stands for infinity (identical pictures)."""


def signature_of(
    metric: Metric,
    protocol: EvalProtocol,
    *,
    dataset_id: str,
    samples: int,
    refs_rule: str,
    lr: str = "protocol",
    subset: str | None = None,
) -> Signature:
    """Signature of one metric's numbers under a protocol on ``samples`` samples of a dataset (or of its ``subset``).

    ``lr`` is "protocol", or "shipped.KERNEL" for LR pictures that the dataset ships.

    ``metric.keys`` names its channel (``ch``; "luma" stands for the protocol's plane), window, and definition version.
    """
    keys = {key: protocol.luma if value == "luma" else value for key, value in metric.keys.items()}
    if metric.cap is not None:
        keys["inf"] = f"cap{metric.cap:g}"
    return make_signature(
        metric.name,
        {
            "data": dataset_id,
            **({"sub": subset} if subset is not None else {}),
            "n": str(samples),
            "ref": refs_rule,
            "x": str(protocol.scale),
            "lr": protocol.downsample if lr == "protocol" else lr,
            "mod": protocol.mod,
            "pad": protocol.pad,
            "q": protocol.quantise,
            "crop": str(protocol.crop_px),
            "agg": "mean",
            **keys,
        },
    )


_EXACT_MEANINGS = {
    ("sub", "texture"): "only the quarter of the samples with the highest HR gradient energy",
    ("lr", "pil.bicubic"): "the LR image is Pillow's antialiased bicubic reduction of the padded 8-bit HR image",
    ("mod", "crop4"): "input and reference are cropped at the bottom and right to multiples of 4",
    ("pad", "zero2ref"): "input and reference are zero-padded at the bottom and right to their common largest size",
    ("q", "round8"): "the output is clamped to [0, 1], multiplied by 255 and rounded once",
    ("ch", "y601studio"): "measured on BT.601 luma with black at 16 and white at 235, not rounded",
    ("ch", "rgb"): "measured on the three channels together",
    ("win", "gauss11s1.5valid"): "11x11 Gaussian window of sigma 1.5, population moments, valid region only",
    ("agg", "mean"): "the mean over images of each image's value",
}


def _lr(value: str) -> str | None:
    kernel = value.removeprefix("shipped.")
    return f"the LR image is the one the dataset ships, made by {kernel}" if kernel != value and kernel else None


def _number(text: str) -> Callable[[str], str | None]:
    return lambda value: text.format(value) if value.isdigit() else None


def _data(value: str) -> str | None:
    name, _, digits = value.removesuffix("+modified").rpartition("@")
    changed = ", with files changed after it was built" if value.endswith("+modified") else ""
    return f"dataset {name}, whose manifest's SHA-256 begins {digits}{changed}" if name else None


_PATTERN_MEANINGS: dict[str, Callable[[str], str | None]] = {
    "data": _data,
    "n": _number("the first {} samples of the dataset"),
    "ref": explain_rule,
    "lr": _lr,
    "x": _number("magnification {}"),
    "crop": _number("{} px are cut from all four sides before scoring"),
    "inf": lambda value: (
        f"identical pictures (infinite PSNR) count as {value[3:]} dB, and are counted" if value[:3] == "cap" else None
    ),
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
