"""Pieces that several networks of the zoo are built from."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

DIV2K_MEAN = (0.4488, 0.4371, 0.4040)
"""Mean colour of DIV2K, RGB in [0, 1], as EDSR and its descendants subtract it."""


def conv(channels_in: int, channels_out: int, size: int = 3, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    """A convolution that keeps the size of its input (or halves it, with ``stride=2``), by zero padding."""
    return nn.Conv2d(channels_in, channels_out, size, stride, size // 2, bias=bias)


class ResidualBlock(nn.Module):
    """Convolution, ReLU, convolution, plus the input; state keys ``conv1`` and ``conv2``."""

    def __init__(self, channels: int, bias: bool = True) -> None:
        super().__init__()
        self.conv1 = conv(channels, channels, bias=bias)
        self.conv2 = conv(channels, channels, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Refine features ``(B, C, h, w)``."""
        refined: Tensor = x + self.conv2(F.relu(self.conv1(x)))
        return refined


def residual_blocks(channels: int, count: int) -> nn.Sequential:
    """``count`` residual blocks one after the other."""
    return nn.Sequential(*(ResidualBlock(channels) for _ in range(count)))


class Body(nn.Module):
    """Layers under the key ``body``, plus the input; the form in which EDSR and RCAN are stored."""

    def __init__(self, layers: Iterable[nn.Module], scale: float = 1.0) -> None:
        super().__init__()
        self.body = nn.Sequential(*layers)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Refine features; the refinement is multiplied by ``scale``."""
        refined: Tensor = x + self.body(x) * self.scale
        return refined


class MeanShift(nn.Module):
    """Adds (or, with ``sign=-1``, subtracts) DIV2K's mean on 0-255 images.

    Stored as a fixed 1×1 convolution because the released checkpoints hold it as one.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, sign: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.eye(3).view(3, 3, 1, 1))
        self.register_buffer("bias", sign * 255 * torch.tensor(DIV2K_MEAN))

    def forward(self, x: Tensor) -> Tensor:
        """Shift RGB images ``(B, 3, h, w)``."""
        return F.conv2d(x, self.weight, self.bias)


def pixel_shuffle_tail(channels: int) -> nn.Sequential:
    """×4 as two steps of convolution and pixel shuffle; state keys ``0`` and ``2``."""
    return nn.Sequential(
        conv(channels, 4 * channels), nn.PixelShuffle(2), conv(channels, 4 * channels), nn.PixelShuffle(2)
    )


def sample_inside(features: Tensor, grid: Tensor) -> Tensor:
    """Sample ``(B, C, H', W')`` bilinearly at ``grid`` ``(B, H, W, 2)``, in [-1, 1], positions held inside the map.

    NaN positions, of a network that diverged, make all samples NaN: on a CPU PyTorch would read them as the corner, so
    that the loss looked sound, and end the process in the backward pass.
    """
    if not grid.is_cuda and grid.isnan().any():
        features, grid = features * torch.nan, grid.nan_to_num()
    return F.grid_sample(features, grid, padding_mode="border", align_corners=True)
