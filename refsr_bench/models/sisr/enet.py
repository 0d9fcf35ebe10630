"""ENet, the generator of EnhanceNet-PAT (Sajjadi et al., ICCV 2017)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from refsr_bench.models.blocks import conv, residual_blocks
from refsr_bench.models.recipe import Recipe, image_weights
from refsr_bench.models.vgg import channel_buffer

MEAN = (0.47614917, 0.45001204, 0.40904046)


class ENet(nn.Module):
    """RGB ``(B, 3, h, w)`` in [0, 1] to ``(B, 3, 4h, 4w)``: a residue on top of bicubic enlargement."""

    mean: Tensor

    def __init__(self, width: int = 64, blocks: int = 10) -> None:
        super().__init__()
        self.register_buffer("mean", channel_buffer(MEAN), persistent=False)
        self.first = conv(3, width)
        self.body = residual_blocks(width, blocks)
        self.up1 = conv(width, width)
        self.up2 = conv(width, width)
        self.fuse = conv(width, width)
        self.last = conv(width, 3)

    def forward(self, lr: Tensor) -> Tensor:
        """Super-resolve."""
        x = self.body(F.relu(self.first(lr - self.mean)))
        for step in (self.up1, self.up2):
            x = F.relu(step(F.interpolate(x, scale_factor=2, mode="nearest")))
        base = F.interpolate(lr, scale_factor=4, mode="bicubic", align_corners=False)
        restored: Tensor = base + self.last(F.relu(self.fuse(x)))
        return restored


RECIPES = {"enet": Recipe(ENet, image_weights(ordered=True), "RGB in [0, 1], minus its own mean inside")}
