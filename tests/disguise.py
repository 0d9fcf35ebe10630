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
        buffer = io.BytesIO()
        PilImage.fromarray(np.ascontiguousarray(image)).save(buffer, "JPEG", quality=40)
        image, done = np.asarray(PilImage.open(buffer)), [*done, "JPEG 40"]
    return np.ascontiguousarray(image), ", ".join(done)
