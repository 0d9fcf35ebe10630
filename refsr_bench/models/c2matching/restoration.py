"""The restoration network of C2-Matching (paper section 3.3 and Table 3), with the release's state keys."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, cat, nn
from torch.nn import functional as F

from refsr_bench.models.deform import DynAgg

WIDTH = 64
BLOCKS = 16
LEVELS = (("small", "relu3_1", 256), ("medium", "relu2_1", 128), ("large", "relu1_1", 64))
"""Name, VGG-19 layer and channels of the reference features, from LR size to SR size."""


def conv(channels_in: int, channels_out: int) -> nn.Conv2d:
    """3×3 convolution, padding 1, initialised as released: N(0, 0.02), no bias."""
    layer = nn.Conv2d(channels_in, channels_out, 3, padding=1)
    nn.init.normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


def leaky(x: Tensor) -> Tensor:
    """Leaky ReLU of slope 0.1, the one nonlinearity between the blocks."""
    return F.leaky_relu(x, 0.1)


class ResidualBlock(nn.Module):
    """Convolution, ReLU, convolution, plus the input."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(WIDTH, WIDTH)
        self.conv2 = conv(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Refine features ``(B, 64, h, w)``."""
        refined: Tensor = x + self.conv2(F.relu(self.conv1(x)))
        return refined


def residual_body() -> nn.Sequential:
    """Sixteen residual blocks."""
    return nn.Sequential(*(ResidualBlock() for _ in range(BLOCKS)))


class ContentExtractor(nn.Module):
    """Features ``(B, 64, h, w)`` of the LR image itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_first = conv(3, WIDTH)
        self.body = residual_body()

    def forward(self, lr: Tensor) -> Tensor:
        """Compute the features of RGB ``(B, 3, h, w)`` in [0, 1]."""
        features: Tensor = self.body(leaky(self.conv_first(lr)))
        return features


class Restoration(nn.Module):
    """LR image, reference features and matches in, SR image out: 8,865,547 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.content_extractor = ContentExtractor()
        self.dyn_agg_restore = nn.ModuleDict()
        for name, _, channels in LEVELS:
            last = name == "large"
            tail = (
                (conv(WIDTH, 32), nn.LeakyReLU(0.1), conv(32, 3))
                if last
                else (conv(WIDTH, 4 * WIDTH), nn.PixelShuffle(2), nn.LeakyReLU(0.1))
            )
            self.dyn_agg_restore.update(
                {
                    f"{name}_offset_conv1": conv(WIDTH + channels, channels),
                    f"{name}_offset_conv2": conv(channels, channels),
                    f"{name}_dyn_agg": DynAgg(channels),
                    f"head_{name}": nn.Sequential(conv(WIDTH + channels, WIDTH), nn.LeakyReLU(0.1)),
                    f"body_{name}": residual_body(),
                    f"tail_{name}": nn.Sequential(*tail),
                }
            )

    def forward(self, lr: Tensor, pre_offsets: Mapping[str, Tensor], ref_features: Mapping[str, Tensor]) -> Tensor:
        """Restore RGB ``(B, 3, 4h, 4w)``, nominally in [0, 1], not clamped.

        lr : ``(B, 3, h, w)`` in [0, 1]. ``pre_offsets`` (from `matching.find_offsets`) and ``ref_features`` (from
        VGG-19, not warped) by layer name: relu3_1 at LR size, relu2_1 at twice, relu1_1 at four times that.
        """
        x = self.content_extractor(lr)
        for name, layer, _ in LEVELS:
            x = self.restore_level(name, x, pre_offsets[layer], ref_features[layer])
        base = F.interpolate(lr, scale_factor=4, mode="bilinear", align_corners=False)
        restored: Tensor = base + x
        return restored

    def restore_level(self, name: str, x: Tensor, pre_offset: Tensor, ref_feature: Tensor) -> Tensor:
        """Fuse the reference features of one level into x ``(B, 64, h, w)``; returns the tail's output."""
        part = self.dyn_agg_restore
        offset_feature = leaky(part[f"{name}_offset_conv1"](cat([x, ref_feature], 1)))
        offset_feature = leaky(part[f"{name}_offset_conv2"](offset_feature))
        aggregated = leaky(part[f"{name}_dyn_agg"](ref_feature, offset_feature, pre_offset))
        fused = part[f"head_{name}"](cat([x, aggregated], 1))
        restored: Tensor = part[f"tail_{name}"](part[f"body_{name}"](fused) + x)
        return restored
