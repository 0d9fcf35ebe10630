"""IMDN (Hui et al., ACM MM 2019): information multi-distillation; the calibration of the single-image path."""

from __future__ import annotations

from torch import Tensor, cat, nn
from torch.nn import functional as F

from refsr_bench.models.blocks import conv
from refsr_bench.models.method import Method
from refsr_bench.models.released import released_keys

WIDTH = 64
KEPT = 16


def leaky(x: Tensor) -> Tensor:
    """Leaky ReLU of slope 0.05."""
    return F.leaky_relu(x, 0.05)


class ContrastAttention(nn.Module):
    """Scales each channel by a number that depends on the channels' mean plus standard deviation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_du = nn.Sequential(conv(WIDTH, 4, 1), nn.ReLU(), conv(4, WIDTH, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """Rescale ``(B, 64, h, w)``."""
        mean = x.mean((2, 3), keepdim=True)
        contrast = (x - mean).square().mean((2, 3), keepdim=True).sqrt()
        rescaled: Tensor = x * self.conv_du(mean + contrast)
        return rescaled


class DistillationBlock(nn.Module):
    """Three convolutions keep 16 channels each and pass 48 on; the four parts are weighted and merged."""

    def __init__(self) -> None:
        super().__init__()
        self.c1 = conv(WIDTH, WIDTH)
        self.c2 = conv(WIDTH - KEPT, WIDTH)
        self.c3 = conv(WIDTH - KEPT, WIDTH)
        self.c4 = conv(WIDTH - KEPT, KEPT)
        self.c5 = conv(WIDTH, WIDTH, 1)
        self.cca = ContrastAttention()

    def forward(self, x: Tensor) -> Tensor:
        """Refine features."""
        kept, rest = [], x
        for step in (self.c1, self.c2, self.c3):
            made = leaky(step(rest))
            kept.append(made[:, :KEPT])
            rest = made[:, KEPT:]
        refined: Tensor = x + self.c5(self.cca(cat([*kept, self.c4(rest)], 1)))
        return refined


class IMDN(nn.Module):
    """RGB ``(B, 3, h, w)`` in [0, 1] to ``(B, 3, 4h, 4w)``."""

    def __init__(self, blocks: int = 6) -> None:
        super().__init__()
        self.blocks = blocks
        self.fea_conv = conv(3, WIDTH)
        for i in range(1, blocks + 1):
            self.add_module(f"IMDB{i}", DistillationBlock())
        self.c = nn.Sequential(conv(blocks * WIDTH, WIDTH, 1), nn.LeakyReLU(0.05))
        self.LR_conv = conv(WIDTH, WIDTH)
        self.upsampler = nn.Sequential(conv(WIDTH, 48), nn.PixelShuffle(4))

    def forward(self, lr: Tensor) -> Tensor:
        """Super-resolve."""
        first = x = self.fea_conv(lr)
        made = []
        for i in range(1, self.blocks + 1):
            x = self.get_submodule(f"IMDB{i}")(x)
            made.append(x)
        restored: Tensor = self.upsampler(first + self.LR_conv(self.c(cat(made, 1))))
        return restored


METHODS = {"imdn": Method(IMDN, released_keys(), "RGB in [0, 1]")}
