"""The contrastive feature extractor of C2-Matching: what is compared to find correspondences."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from refsr_bench.models.vgg import IMAGENET_MEAN, IMAGENET_STD, channel_buffer, vgg_layers

STRIDE = 4
"""HR pixels per feature cell; cell (i, j) is centred on HR pixel (4i + 1.5, 4j + 1.5)."""


class Branch(nn.Module):
    """VGG up to conv3_1, without the ReLU after it: RGB ``(B, 3, H, W)`` in [0, 1] to ``(B, 256, H // 4, W // 4)``."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(OrderedDict(vgg_layers("conv3_1")))
        self.register_buffer("mean", channel_buffer(IMAGENET_MEAN))
        self.register_buffer("std", channel_buffer(IMAGENET_STD))

    def forward(self, image: Tensor) -> Tensor:
        """Compute dense features; they are not normalised."""
        features: Tensor = self.model((image - self.mean) / self.std)
        return features


class Extractor(nn.Module):
    """Two branches that share nothing but their shape (paper section 3.2): the inputs differ in resolution."""

    def __init__(self) -> None:
        super().__init__()
        self.feature_extraction_image1 = Branch()
        self.feature_extraction_image2 = Branch()

    def forward(self, lr_up: Tensor, ref: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the features of the LR image enlarged to HR size (first branch) and of the reference (second)."""
        return self.feature_extraction_image1(lr_up), self.feature_extraction_image2(ref)
