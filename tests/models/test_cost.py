"""Multiply-adds: right for a convolution that can be counted by hand, honest where nothing can be counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from refsr_bench.models.bicubic import build
from refsr_bench.models.cost import count_multiply_adds
from refsr_bench.schema import ModelCard


class OneConvolution:
    card = ModelCard(name="one", title="", paper="", uses_reference=True)

    def __init__(self) -> None:
        self.layer = torch.nn.Conv2d(3, 48, 3, padding=1)
        self.seen: list[Any] = []

    def restore(self, lr: Any, refs: Any) -> Any:
        self.seen.append((lr.shape, [ref.shape for ref in refs]))
        with torch.no_grad():
            features = self.layer(torch.from_numpy(lr / np.float32(255)).permute(2, 0, 1)[None])
        return torch.nn.functional.pixel_shuffle(features, 4)[0].permute(1, 2, 0).numpy()


def test_a_convolution_is_counted() -> None:
    model = OneConvolution()
    assert count_multiply_adds(model) == 40 * 40 * 3 * 48 * 9
    assert model.seen == [((40, 40, 3), [(160, 160, 3)])]


def test_what_cannot_be_counted_is_not_a_number() -> None:
    assert count_multiply_adds(build()) is None

    class Fussy(OneConvolution):
        def restore(self, lr: Any, refs: Any) -> Any:
            raise ValueError("48 px or nothing")

    assert count_multiply_adds(Fussy()) is None
