"""EDSR and MDSR (Lim et al., CVPRW 2017): residual blocks without batch normalisation, on 0-255 images."""

from __future__ import annotations

from torch import Tensor, nn

from refsr_bench.models.blocks import Body, MeanShift, conv, pixel_shuffle_tail
from refsr_bench.models.method import Method
from refsr_bench.models.released import released_keys

CONVENTION = "RGB 0-255, minus DIV2K's mean"


def block(channels: int, scale: float, size: int = 3) -> Body:
    """One residual block with the keys ``body.0`` and ``body.2``."""
    return Body((conv(channels, channels, size), nn.ReLU(), conv(channels, channels, size)), scale)


class EDSR(nn.Module):
    """RGB ``(B, 3, h, w)`` 0-255 to ``(B, 3, 4h, 4w)``; the defaults are the published baseline."""

    def __init__(self, width: int = 64, blocks: int = 16, residual_scale: float = 1.0) -> None:
        super().__init__()
        self.sub_mean = MeanShift(-1)
        self.add_mean = MeanShift(1)
        self.head = nn.Sequential(conv(3, width))
        self.body = nn.Sequential(*(block(width, residual_scale) for _ in range(blocks)), conv(width, width))
        self.tail = nn.Sequential(pixel_shuffle_tail(width), conv(width, 3))

    def forward(self, lr: Tensor) -> Tensor:
        """Super-resolve."""
        x = self.head(self.sub_mean(lr))
        restored: Tensor = self.add_mean(self.tail(x + self.body(x)))
        return restored


class MDSR(nn.Module):
    """The multi-scale sibling; only its ×4 branch is used, but the checkpoint holds those for ×2 and ×3 too."""

    def __init__(self, width: int = 64, blocks: int = 80) -> None:
        super().__init__()
        self.sub_mean = MeanShift(-1)
        self.add_mean = MeanShift(1)
        self.head = nn.Sequential(conv(3, width))
        self.pre_process = nn.ModuleList(nn.Sequential(block(width, 1, 5), block(width, 1, 5)) for _ in range(3))
        self.body = nn.Sequential(*(block(width, 1) for _ in range(blocks)), conv(width, width))
        self.upsample = nn.ModuleList(
            (
                nn.Sequential(conv(width, 4 * width), nn.PixelShuffle(2)),
                nn.Sequential(conv(width, 9 * width), nn.PixelShuffle(3)),
                pixel_shuffle_tail(width),
            )
        )
        self.tail = nn.Sequential(conv(width, 3))

    def forward(self, lr: Tensor) -> Tensor:
        """Super-resolve ×4."""
        x = self.pre_process[2](self.head(self.sub_mean(lr)))
        restored: Tensor = self.add_mean(self.tail(self.upsample[2](x + self.body(x))))
        return restored


METHODS = {
    "edsr-baseline": Method(EDSR, released_keys(), CONVENTION, input_scale=255, tile_margin_px=38),
    "edsr": Method(lambda: EDSR(256, 32, 0.1), released_keys(), CONVENTION, input_scale=255),
    "mdsr": Method(MDSR, released_keys(), CONVENTION, input_scale=255),
}
