"""SRResNet, the generator of SRGAN (Ledig et al., CVPR 2017), with batch normalisation and a tanh at its end."""

from __future__ import annotations

from torch import Tensor, nn

from refsr_bench.models.blocks import conv
from refsr_bench.models.recipe import Recipe, image_weights


class NormalisedBlock(nn.Module):
    """Convolution, BN, PReLU, convolution, BN, plus the input; the convolutions have no bias."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = conv(width, width, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.prelu = nn.PReLU()
        self.conv2 = conv(width, width, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """Refine features."""
        refined: Tensor = x + self.bn2(self.conv2(self.prelu(self.bn1(self.conv1(x)))))
        return refined


class SRResNet(nn.Module):
    """RGB ``(B, 3, h, w)`` in [-1, 1] to ``(B, 3, 4h, 4w)`` in [-1, 1]."""

    def __init__(self, width: int = 64, blocks: int = 16) -> None:
        super().__init__()
        self.head = nn.Sequential(conv(3, width, 9), nn.PReLU())
        self.body = nn.Sequential(*(NormalisedBlock(width) for _ in range(blocks)))
        self.merge = nn.Sequential(conv(width, width, bias=False), nn.BatchNorm2d(width))
        step = (conv(width, 4 * width), nn.PixelShuffle(2), nn.PReLU())
        again = (conv(width, 4 * width), nn.PixelShuffle(2), nn.PReLU())
        self.tail = nn.Sequential(*step, *again, conv(width, 3, 9), nn.Tanh())

    def forward(self, lr: Tensor) -> Tensor:
        """Super-resolve."""
        x = self.head(lr)
        restored: Tensor = self.tail(x + self.merge(self.body(x)))
        return restored


_RECIPE = Recipe(SRResNet, image_weights(ordered=True), "RGB in [-1, 1], tanh at the end", signed=True)
RECIPES = {"srgan": _RECIPE, "srresnet": _RECIPE}
