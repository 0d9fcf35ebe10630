"""SSEN (Shim et al., CVPR 2020): reference features aligned by stacked deformable convolutions at LR size.

The authors published no code; the structure is that of an unofficial port (Slime0519/CVPR_2020_SSEN) in its "add" form,
where that differs from the paper or leaves it open. There are no official weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, cat, nn
from torch.nn import functional as F

from refsr_bench.images import pad_zero
from refsr_bench.models.blocks import ResidualBlock, conv
from refsr_bench.models.deform import TAPS, deform_conv
from refsr_bench.models.method import Method, Parts
from refsr_bench.models.refsr import UNIT
from refsr_bench.models.released import released_keys
from refsr_bench.models.tensors import to_tensor
from refsr_bench.schema import Image


class NonLocal(nn.Module):
    """Attention of every position to all positions (embedded Gaussian, half the channels), added to the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.theta = conv(width, width // 2, 1)
        self.phi = conv(width, width // 2, 1)
        self.g = conv(width, width // 2, 1)
        self.out = conv(width // 2, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, h, w)`` in and out; memory is bounded by attending in slices."""
        query, key, value = (f(x).flatten(2).transpose(1, 2)[:, None] for f in (self.theta, self.phi, self.g))
        # The embedded Gaussian does not divide by the root of the width.
        slices = [F.scaled_dot_product_attention(q, key, value, scale=1.0) for q in query.split(1024, 2)]
        mixed = cat(slices, 2)[:, 0].transpose(1, 2).reshape(x.shape[0], -1, *x.shape[2:])
        attended: Tensor = x + self.out(mixed)
        return attended


class OffsetEstimator(nn.Module):
    """Three halvings, attention at each level, three doublings; the skip is added."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.down = nn.ModuleList(conv(2 * width if i == 0 else width, width, 3, 2) for i in range(3))
        self.attend = nn.ModuleList(NonLocal(width) for _ in range(3))
        self.up = nn.ModuleList(nn.ConvTranspose2d(width, width, 4, 2, 1) for _ in range(3))
        self.last = conv(width, 2 * width)

    def forward(self, x: Tensor) -> Tensor:
        """Features ``(B, 2C, h, w)`` in and out; sides are multiples of 8."""
        made = []
        for step in self.down:
            x = F.leaky_relu(step(x), 0.1)
            made.append(x)
        for i in range(3):
            skip = made[2 - i]
            x = F.leaky_relu(self.up[i](self.attend[i](x) + skip), 0.1)
        estimated: Tensor = self.last(x)
        return estimated


class AlignBlock(nn.Module):
    """Offsets from LR and reference features together; a deformable convolution of the reference features."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.estimate = OffsetEstimator(width)
        self.to_offset = conv(2 * width, 2 * TAPS)
        self.weight = nn.Parameter(torch.empty(width, width, 3, 3))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def forward(self, lr: Tensor, ref: Tensor) -> Tensor:
        """Aligned reference features."""
        offset = self.to_offset(self.estimate(cat([lr, ref], 1)))
        return deform_conv(ref, offset, offset.new_ones(offset.shape[0], TAPS, *offset.shape[2:]), self.weight)


class SSEN(nn.Module):
    """RGB in [0, 1]; LR sides are multiples of 8 and the reference has exactly SR size."""

    def __init__(self, width: int = 64, blocks: int = 16, shared_blocks: int = 5) -> None:
        super().__init__()
        self.reduce = nn.Sequential(
            conv(3, width, 3, 2, bias=False), nn.LeakyReLU(0.1), conv(width, width, 3, 2, bias=False), nn.LeakyReLU(0.1)
        )
        self.lift = conv(3, width, 1, bias=False)
        self.shared = nn.Sequential(*(ResidualBlock(width, bias=False) for _ in range(shared_blocks)))
        self.align = nn.ModuleList(AlignBlock(width) for _ in range(3))
        self.join = conv(2 * width, width, 1, bias=False)
        self.body = nn.Sequential(*(ResidualBlock(width, bias=False) for _ in range(blocks)))
        shuffle = [part for _ in range(2) for part in (conv(width, 4 * width, bias=False), nn.PixelShuffle(2))]
        self.tail = nn.Sequential(*shuffle, conv(width, 3, bias=False))

    def forward(self, lr: Tensor, ref: Tensor) -> Tensor:
        """SR image."""
        own = self.shared(self.lift(lr))
        aligned = self.shared(self.reduce(ref))
        for block in self.align:
            aligned = block(own, aligned)
        sr: Tensor = self.tail(own + self.body(self.join(cat([own, aligned], 1))))
        return sr


def run(parts: Parts, lr: Image, refs: Sequence[Image]) -> Tensor:
    """Restore with the first reference, cut or filled with black to the SR size."""
    height, width = 4 * lr.shape[0], 4 * lr.shape[1]
    ref = to_tensor(pad_zero(refs[0][:height, :width], height, width), parts.device)
    sr: Tensor = parts.network(to_tensor(lr, parts.device), ref)
    return sr


METHODS = {"ssen": Method(SSEN, released_keys(), UNIT, run=run, multiple=8)}
