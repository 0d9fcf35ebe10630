"""RCAN (Zhang et al., ECCV 2018): ten groups of twenty residual blocks with channel attention."""

from __future__ import annotations

from torch import Tensor, nn

from refsr_bench.models.blocks import Body, MeanShift, conv, pixel_shuffle_tail
from refsr_bench.models.method import Method
from refsr_bench.models.released import released_keys


class ChannelAttention(nn.Module):
    """Scales each channel by a number in (0, 1) that depends on the channels' means."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        inner = channels // reduction
        self.conv_du = nn.Sequential(conv(channels, inner, 1), nn.ReLU(), conv(inner, channels, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """Rescale ``(B, C, h, w)``."""
        rescaled: Tensor = x * self.conv_du(x.mean((2, 3), keepdim=True))
        return rescaled


def attention_block(width: int) -> Body:
    """Two convolutions and channel attention, plus the input."""
    return Body((conv(width, width), nn.ReLU(), conv(width, width), ChannelAttention(width)))


class RCAN(nn.Module):
    """RGB ``(B, 3, h, w)`` 0-255 to ``(B, 3, 4h, 4w)``."""

    def __init__(self, width: int = 64, groups: int = 10, blocks: int = 20) -> None:
        super().__init__()
        self.sub_mean = MeanShift(-1)
        self.add_mean = MeanShift(1)
        self.head = nn.Sequential(conv(3, width))
        group = (Body((*(attention_block(width) for _ in range(blocks)), conv(width, width))) for _ in range(groups))
        self.body = nn.Sequential(*group, conv(width, width))
        self.tail = nn.Sequential(pixel_shuffle_tail(width), conv(width, 3))

    def forward(self, lr: Tensor) -> Tensor:
        """Super-resolve."""
        x = self.head(self.sub_mean(lr))
        restored: Tensor = self.add_mean(self.tail(x + self.body(x)))
        return restored


METHODS = {"rcan": Method(RCAN, released_keys(), "RGB 0-255, minus DIV2K's mean", input_scale=255)}
