"""RankSRGAN (Zhang et al., ICCV 2019): SRResNet without batch normalisation, trained to please a ranker."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from refsr_bench.models.blocks import conv, residual_blocks
from refsr_bench.models.method import Method
from refsr_bench.models.released import released_keys


class RankSRGAN(nn.Module):
    """RGB ``(B, 3, h, w)`` in [0, 1] to ``(B, 3, 4h, 4w)``."""

    def __init__(self, width: int = 64, blocks: int = 16) -> None:
        super().__init__()
        self.conv_first = conv(3, width)
        self.recon_trunk = residual_blocks(width, blocks)
        self.LRconv = conv(width, width)
        self.upconv1 = conv(width, 4 * width)
        self.upconv2 = conv(width, 4 * width)
        self.HRconv = conv(width, width)
        self.conv_last = conv(width, 3)

    def forward(self, lr: Tensor) -> Tensor:
        """Super-resolve."""
        x = self.conv_first(lr)
        x = x + self.LRconv(self.recon_trunk(x))
        for step in (self.upconv1, self.upconv2):
            x = F.relu(F.pixel_shuffle(step(x), 2))
        restored: Tensor = self.conv_last(F.relu(self.HRconv(x)))
        return restored


METHODS = {"ranksrgan": Method(RankSRGAN, released_keys(), "RGB in [0, 1]")}
