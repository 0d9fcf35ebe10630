"""The generators called SRGAN or SRResNet (Ledig et al., CVPR 2017): the paper's and two re-trained variants."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from refsr_bench.models.blocks import conv, residual_blocks
from refsr_bench.models.method import Method
from refsr_bench.models.released import released_keys
from refsr_bench.models.sisr import SIGNED, UNIT


class NormalisedBlock(nn.Module):
    """Convolution, BN, activation, convolution, BN, plus the input; the convolutions have no bias."""

    def __init__(self, width: int, act: Callable[[], nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.conv1 = conv(width, width, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.act = act()
        self.conv2 = conv(width, width, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """Refine features."""
        refined: Tensor = x + self.bn2(self.conv2(self.act(self.bn1(self.conv1(x)))))
        return refined


class SRResNet(nn.Module):
    """RGB ``(B, 3, h, w)`` in [-1, 1] to ``(B, 3, 4h, 4w)`` in [-1, 1], with batch normalisation.

    ``first`` and ``last`` are the sizes of the outer convolutions: 9 and 9 with PReLU in the paper, 3 and 1 with ReLU
    in TensorLayer's code. No state keys were ever published, so these are ours.
    """

    def __init__(
        self,
        width: int = 64,
        blocks: int = 16,
        first: int = 9,
        last: int = 9,
        act: Callable[[], nn.Module] = nn.PReLU,
    ) -> None:
        super().__init__()
        self.head = nn.Sequential(conv(3, width, first), act())
        self.body = nn.Sequential(*(NormalisedBlock(width, act) for _ in range(blocks)))
        self.merge = nn.Sequential(conv(width, width, bias=False), nn.BatchNorm2d(width))
        doublings = [part for _ in range(2) for part in (conv(width, 4 * width), nn.PixelShuffle(2), act())]
        self.tail = nn.Sequential(*doublings, conv(width, 3, last), nn.Tanh())

    def forward(self, lr: Tensor) -> Tensor:
        """Super-resolve."""
        restored: Tensor = self.tail(self.features(lr))
        return restored

    def features(self, lr: Tensor) -> Tensor:
        """Features at LR size, before the enlargement."""
        x = self.head(lr)
        found: Tensor = x + self.merge(self.body(x))
        return found


def leaky(x: Tensor) -> Tensor:
    """Leaky ReLU of slope 0.1."""
    return F.leaky_relu(x, 0.1)


class PlainSRResNet(nn.Module):
    """RGB ``(B, 3, h, w)`` in [0, 1] to ``(B, 3, 4h, 4w)``, no normalisation, on top of bilinear enlargement.

    MMEditing's network ("MSRResNet"), under its keys.
    """

    def __init__(self, width: int = 64, blocks: int = 16) -> None:
        super().__init__()
        self.conv_first = conv(3, width)
        self.trunk_net = residual_blocks(width, blocks)
        self.upsample1 = nn.ModuleDict({"upsample_conv": conv(width, 4 * width)})
        self.upsample2 = nn.ModuleDict({"upsample_conv": conv(width, 4 * width)})
        self.conv_hr = conv(width, width)
        self.conv_last = conv(width, 3)

    def forward(self, lr: Tensor) -> Tensor:
        """Super-resolve."""
        x = self.trunk_net(leaky(self.conv_first(lr)))
        for step in (self.upsample1, self.upsample2):
            x = leaky(F.pixel_shuffle(step["upsample_conv"](x), 2))
        base = F.interpolate(lr, scale_factor=4, mode="bilinear", align_corners=False)
        restored: Tensor = base + self.conv_last(leaky(self.conv_hr(x)))
        return restored


_PAPER = Method(SRResNet, released_keys(), SIGNED, signed=True)
# The checkpoints of the GAN hold generator and discriminator together.
_MMEDITING = Method(PlainSRResNet, released_keys("generator.", drop=("discriminator.",)), UNIT)
METHODS = {
    "srgan": _PAPER,
    "srresnet": _PAPER,
    "srgan-tensorlayer": Method(
        partial(SRResNet, first=3, last=1, act=nn.ReLU), released_keys(ordered=True), SIGNED, signed=True
    ),
    "srgan-mmediting": _MMEDITING,
    "srresnet-mmediting": _MMEDITING,
}
