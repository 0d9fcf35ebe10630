"""C2-Matching small: the paper's plan at a size that a CPU trains in an hour and runs in a second.

What differs from the paper's networks: narrower extractors; a learned encoder in place of VGG-19; almost all work on
the LR grid; one aggregation at full resolution, where the match's displacement is refined to fractions of a cell, in
place of three deformable ones.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from refsr_bench.models.c2matching.extractor import STRIDE
from refsr_bench.models.c2matching.matching import PATCH, match_patches
from refsr_bench.schema import Frozen


class SmallConfig(Frozen):
    """Sizes of the small network, stored beside its weights."""

    extractor_widths: tuple[int, int, int] = (32, 64, 128)
    encoder_width: int = 16
    """Channels of the reference features at full resolution; 16 times as many on the LR grid."""
    width: int = 64
    content_blocks: int = 6
    fusion_blocks: int = 8


class SmallBranch(nn.Module):
    """3x3 convolutions up to stride 4: RGB ``(B, 3, H, W)`` in [0, 1] to ``(B, C, H // 4, W // 4)``, no ReLU last."""

    def __init__(self, widths: tuple[int, int, int]) -> None:
        super().__init__()
        first, second, third = widths
        self.model = nn.Sequential(
            nn.Conv2d(3, first, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(first, first, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(first, second, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(second, second, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(second, third, 3, padding=1),
        )
        self.apply(_initialise)

    def forward(self, image: Tensor) -> Tensor:
        """Compute dense features; they are not normalised."""
        features: Tensor = self.model((image - 0.45) * 4)
        return features


class SmallExtractor(nn.Module):
    """Two branches that share nothing but their shape, as in `extractor.Extractor`."""

    def __init__(self, config: SmallConfig | None = None) -> None:
        super().__init__()
        widths = (config or SmallConfig()).extractor_widths
        self.feature_extraction_image1 = SmallBranch(widths)
        self.feature_extraction_image2 = SmallBranch(widths)

    def forward(self, lr_up: Tensor, ref: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the features of the LR image enlarged to HR size (first branch) and of the reference (second)."""
        return self.feature_extraction_image1(lr_up), self.feature_extraction_image2(ref)


@torch.no_grad()
def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            module.bias.zero_()
