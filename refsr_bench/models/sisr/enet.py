"""ENet, the generator of EnhanceNet-PAT (Sajjadi et al., ICCV 2017)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from refsr_bench.models.blocks import conv, residual_blocks
from refsr_bench.models.method import Method
from refsr_bench.models.released import released_keys
from refsr_bench.models.vgg import channel_buffer

MEAN = (0.47614917, 0.45001204, 0.40904046)


def enlarge_as_tensorflow_1(image: Tensor) -> Tensor:
    """Bicubic ×4 as ``tf.image.resize_images`` did it in TensorFlow 1: pixel x of the result lies at x / 4.

    There is no half-pixel shift, so the picture moves by 1.5 px up and to the left against any other enlargement; the
    network was trained on this and makes up for it. Cubic with a = -0.75, repeated border.
    """
    height, width = image.shape[2:]
    y, x = (
        torch.arange(4 * n, device=image.device, dtype=image.dtype) / (2 * max(n - 1, 1)) - 1 for n in (height, width)
    )
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)[None].expand(image.shape[0], -1, -1, -1)
    return F.grid_sample(image, grid, mode="bicubic", padding_mode="border", align_corners=True)


class ENet(nn.Module):
    """RGB ``(B, 3, h, w)`` in [0, 1] to ``(B, 3, 4h, 4w)``: a residue on top of TensorFlow 1's bicubic enlargement."""

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
        restored: Tensor = enlarge_as_tensorflow_1(lr) + self.last(F.relu(self.fuse(x)))
        return restored


METHODS = {"enet": Method(ENet, released_keys(ordered=True), "RGB in [0, 1], minus its own mean inside")}
