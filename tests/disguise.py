"""Copies of a photograph in disguise: what the leak guard has to catch."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image as PilImage

from refsr_bench.schema import Image


def disguise(image: Image, rng: np.random.Generator) -> tuple[Image, str]:
    """A random combination of mirror, crop, resizing, gain and offset, and JPEG; at least one of them."""
    chosen = rng.random(5) < 0.5
    if not chosen.any():
        chosen[rng.integers(5)] = True
    done = []
    if chosen[0]:
        image, done = image[:, ::-1], [*done, "mirror"]
    if chosen[1]:
        height, width = image.shape[:2]
        h, w = (round(side * rng.uniform(0.7, 1.0)) for side in (height, width))
        y, x = rng.integers(height - h + 1), rng.integers(width - w + 1)
        image, done = image[y : y + h, x : x + w], [*done, f"crop {w}x{h}"]
    if chosen[2]:
        factor = float(np.exp(rng.uniform(np.log(0.5), np.log(2.0))))
        size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
        resampling = [PilImage.Resampling.BILINEAR, PilImage.Resampling.BICUBIC, PilImage.Resampling.LANCZOS]
        how = resampling[int(rng.integers(3))]
        image = np.asarray(PilImage.fromarray(np.ascontiguousarray(image)).resize(size, how))
        done = [*done, f"x{factor:.2f} {how.name}"]
    if chosen[3]:
        gain, offset = rng.uniform(0.9, 1.1), rng.uniform(-12, 12)
        image = np.clip(np.rint(image * gain + offset), 0, 255).astype(np.uint8)
        done = [*done, f"gain {gain:.2f} offset {offset:+.0f}"]
    if chosen[4]:
        image, done = _as_jpeg(image), [*done, "JPEG 40"]
    return np.ascontiguousarray(image), ", ".join(done)


REMADE = ("stretched", "turned", "tilted", "inverted", "halved")
"""What `remake` does, one at a time."""


def remake(image: Image, kind: str, rng: np.random.Generator) -> tuple[Image, str]:
    """A copy of a kind, stored as a JPEG file of quality 40; its name and numbers."""
    height, width = image.shape[:2]
    match kind:
        case "stretched":  # one side by up to 2 either way
            wide, factor = rng.random() < 0.5, float(np.exp(rng.uniform(np.log(0.5), np.log(2.0))))
            size = (round(width * factor), height) if wide else (width, round(height * factor))
            image, how = np.asarray(PilImage.fromarray(image).resize(size)), f"to {size[0]}x{size[1]}"
        case "turned":  # in one of the seven ways that are not the picture itself
            mirror, quarters = divmod(int(rng.integers(1, 8)), 4)
            image, how = np.rot90(image[:, ::-1] if mirror else image, quarters), f"{mirror} {quarters}"
        case "tilted":  # by up to 10 degrees, the corners black
            angle_deg = float(rng.uniform(-10, 10))
            turned = PilImage.fromarray(image).rotate(angle_deg, PilImage.Resampling.BICUBIC, expand=rng.random() < 0.5)
            image, how = np.asarray(turned), f"{angle_deg:.1f}"
        case "inverted":
            image, how = 255 - image, ""
        case "halved":  # a crop to half of each side
            y, x = rng.integers(height - height // 2 + 1), rng.integers(width - width // 2 + 1)
            image, how = image[y : y + height // 2, x : x + width // 2], f"at {x}, {y}"
        case _:
            raise ValueError(kind)
    return _as_jpeg(image), f"{kind} {how}"


def _as_jpeg(image: Image) -> Image:
    buffer = io.BytesIO()
    PilImage.fromarray(np.ascontiguousarray(image)).save(buffer, "JPEG", quality=40)
    return np.asarray(PilImage.open(buffer))
