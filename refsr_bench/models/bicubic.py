"""Pillow's bicubic enlargement: the smallest plug-in there is, and the floor of every table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from refsr_bench.images import resize_bicubic
from refsr_bench.schema import ModelCard

CARD = ModelCard(
    name="bicubic",
    title="Bicubic interpolation (Pillow, a = -0.5)",
    paper="Keys, Cubic convolution interpolation for digital image processing, 1981",
    uses_reference=False,
)
CARDS = {CARD.name: CARD}


class Bicubic:
    """Enlarges ×4 on 8-bit samples and ignores the reference."""

    card = CARD

    def restore(self, lr: NDArray[np.uint8], refs: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Uint8 RGB ``(H, W, 3)`` → float32 RGB ``(4H, 4W, 3)`` in [0, 1]; ``refs`` is not looked at."""
        return resize_bicubic(lr, lr.shape[0] * 4, lr.shape[1] * 4).astype(np.float32) / np.float32(255)


def build() -> Bicubic:
    """Make the model; it has no options and no weights."""
    return Bicubic()
