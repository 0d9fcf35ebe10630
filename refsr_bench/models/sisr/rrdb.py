"""RRDBNet, the generator of ESRGAN (Wang et al., ECCVW 2018): dense blocks in residual blocks."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, cat, nn
from torch.nn import functional as F

from refsr_bench.models.blocks import conv
from refsr_bench.models.method import Method
from refsr_bench.models.released import released_keys


def leaky(x: Tensor) -> Tensor:
    """Leaky ReLU of slope 0.2."""
    return F.leaky_relu(x, 0.2)


class DenseBlock(nn.Module):
    """Five convolutions, each of which sees what all before it made; a fifth of the result is added to the input."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        for i in range(1, 6):
            self.add_module(f"conv{i}", conv(width + (i - 1) * growth, growth if i < 5 else width))

    def forward(self, x: Tensor) -> Tensor:
        """Refine features."""
        made = [x]
        for i in range(1, 5):
            made.append(leaky(self.get_submodule(f"conv{i}")(cat(made, 1))))
        refined: Tensor = x + 0.2 * self.get_submodule("conv5")(cat(made, 1))
        return refined


class ResidualDenseBlocks(nn.Module):
    """Three dense blocks; a fifth of the result is added to the input."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.RDB1 = DenseBlock(width, growth)
        self.RDB2 = DenseBlock(width, growth)
        self.RDB3 = DenseBlock(width, growth)

    def forward(self, x: Tensor) -> Tensor:
        """Refine features."""
        refined: Tensor = x + 0.2 * self.RDB3(self.RDB2(self.RDB1(x)))
        return refined


class RRDBNet(nn.Module):
    """RGB ``(B, 3, h, w)`` in [0, 1] to ``(B, 3, 4h, 4w)``."""

    def __init__(self, width: int = 64, blocks: int = 23, growth: int = 32) -> None:
        super().__init__()
        self.conv_first = conv(3, width)
        self.RRDB_trunk = nn.Sequential(*(ResidualDenseBlocks(width, growth) for _ in range(blocks)))
        self.trunk_conv = conv(width, width)
        self.upconv1 = conv(width, width)
        self.upconv2 = conv(width, width)
        self.HRconv = conv(width, width)
        self.conv_last = conv(width, 3)

    def forward(self, lr: Tensor) -> Tensor:
        """Super-resolve."""
        x = self.conv_first(lr)
        x = x + self.trunk_conv(self.RRDB_trunk(x))
        for step in (self.upconv1, self.upconv2):
            x = leaky(step(F.interpolate(x, scale_factor=2, mode="nearest")))
        restored: Tensor = self.conv_last(leaky(self.HRconv(x)))
        return restored


def from_basicsr(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Accept BasicSR's later names (``body.N.rdb1``, ``conv_up1``, …) beside the release's."""
    renames = (
        ("body.", "RRDB_trunk."),
        (".rdb", ".RDB"),
        ("conv_body.", "trunk_conv."),
        ("conv_up", "upconv"),
        ("conv_hr.", "HRconv."),
    )
    if not any(key.startswith("conv_body.") for key in state):
        return dict(state)
    renamed = {}
    for key, value in state.items():
        new = key
        for old, ours in renames:
            new = ours + new[len(old) :] if new.startswith(old) else new.replace(old, ours) if old == ".rdb" else new
        renamed[new] = value
    return renamed


_METHOD = Method(RRDBNet, released_keys(rename=from_basicsr), "RGB in [0, 1]; trained on MATLAB's bicubic")
METHODS = {"esrgan": _METHOD, "esrgan-psnr": _METHOD}
