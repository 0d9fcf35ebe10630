"""What a model costs: its multiply-adds, as torch counts them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from refsr_bench.models.base import SRModel

LR_PX = 40
"""Side of the LR picture that costs are counted for; the reference has four times that."""


def count_multiply_adds(model: SRModel) -> int | None:
    """Multiply-adds of one call on a 40x40 LR picture with a 160x160 reference (noise, the same every time).

    Convolutions, matrix products and attention that run as torch operators are counted; interpolation, sampling and
    whatever runs outside torch (a Triton kernel, NumPy) is not. None where nothing could be counted: the model does not
    use torch, or does not take pictures of this size.
    """
    if "torch" not in sys.modules:
        return None
    from torch.utils.flop_counter import FlopCounterMode

    rng = np.random.default_rng(0)
    lr = rng.integers(0, 256, (LR_PX, LR_PX, 3), np.uint8)
    ref = rng.integers(0, 256, (4 * LR_PX, 4 * LR_PX, 3), np.uint8)
    counter = FlopCounterMode(display=False)
    try:
        with counter:
            model.restore(lr, [ref] if model.card.uses_reference else [])
    except Exception:  # the model's own demands on sizes; its samples are tried all the same, and fail by name
        return None
    return counter.get_total_flops() // 2 or None
