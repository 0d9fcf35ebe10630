"""SRCNN (Dong et al., TPAMI 2015), the RGB 9-1-5 form: three convolutions on the bicubically enlarged image."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from refsr_bench.models.blocks import conv
from refsr_bench.models.method import Method
from refsr_bench.models.released import released_keys


class SRCNN(nn.Module):
    """RGB ``(B, 3, h, w)`` in [0, 1] to ``(B, 3, 4h, 4w)``; the enlargement is inside."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 64, 9)
        self.conv2 = conv(64, 32, 1)
        self.conv3 = conv(32, 3, 5)

    def forward(self, lr: Tensor) -> Tensor:
        """Enlarge, then refine."""
        x = F.interpolate(lr, scale_factor=4, mode="bicubic", align_corners=False)
        refined: Tensor = self.conv3(F.relu(self.conv2(F.relu(self.conv1(x)))))
        return refined


METHODS = {"srcnn": Method(SRCNN, released_keys("generator."), "RGB in [0, 1], enlarged inside", tile_margin_px=4)}
