"""A reference-based model in thirty lines: bicubic enlargement, plus the reference's fine detail where both agree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from refsr_bench.images import pad_zero, resize_bicubic
from refsr_bench.schema import ModelCard

CARD = ModelCard(
    name="detail",
    title="Bicubic, plus the reference's detail where reference and picture agree",
    paper="none: an example",
    uses_reference=True,
)
CARDS = {CARD.name: CARD}
"""Where ``refsr-bench info`` looks for the card without making the model."""


class Detail:
    """Adds what the reference loses by being reduced and enlarged, weighted by how similar it looks in place."""

    card = CARD

    def __init__(self, tolerance: float) -> None:
        self.tolerance = tolerance

    def restore(self, lr: NDArray[np.uint8], refs: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """uint8 RGB ``(H, W, 3)`` → float32 RGB ``(4H, 4W, 3)`` in [0, 1]; the protocol clamps and rounds."""
        height, width = 4 * lr.shape[0], 4 * lr.shape[1]
        enlarged = resize_bicubic(lr, height, width).astype(np.float32)
        ref = pad_zero(refs[0][:height, :width], height, width)
        blurred = resize_bicubic(resize_bicubic(ref, *lr.shape[:2]), height, width).astype(np.float32)
        difference = np.abs(enlarged - blurred).mean(axis=2, keepdims=True)
        weight = np.exp(-difference / self.tolerance)
        return (enlarged + weight * (ref - blurred)) / np.float32(255)


def build(tolerance: float | str = 4.0) -> Detail:
    """Make the model. Every parameter is an option: ``--set tolerance=8`` (options arrive as text)."""
    return Detail(float(tolerance))
