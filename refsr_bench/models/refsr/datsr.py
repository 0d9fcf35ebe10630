"""DATSR (Cao et al., ECCV 2022): a U-Net of deformable attention and Swin blocks at full resolution."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, cat, nn
from torch.nn import functional as F

from refsr_bench.models.blocks import conv, residual_blocks
from refsr_bench.models.c2matching.restoration import leaky
from refsr_bench.models.deform import TAPS, DynAgg, deform_conv
from refsr_bench.models.method import Method, Parts
from refsr_bench.models.refsr.c2family import GROUPS, Correspondence, common_size, correspond
from refsr_bench.models.released import released_keys
from refsr_bench.models.tensors import to_tensor
from refsr_bench.schema import Image

STEPS = (
    ("down", "large", "relu1_1", 64),
    ("down", "medium", "relu2_1", 128),
    ("up", "small", "relu3_1", 256),
    ("up", "medium", "relu2_1", 128),
    ("up", "large", "relu1_1", 64),
)
"""Way, name, VGG-19 layer and its channels, in the order in which they are applied."""

WIDTH = 128
WINDOW = 8
HEADS = 4


class WindowAttention(nn.Module):
    """Self-attention inside windows of 8 × 8 positions, with a learned bias for each relative position."""

    relative_position_index: Tensor

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        span = 2 * WINDOW - 1
        self.relative_position_bias_table = nn.Parameter(torch.zeros(span * span, heads))
        y, x = torch.meshgrid(torch.arange(WINDOW), torch.arange(WINDOW), indexing="ij")
        y, x = y.flatten(), x.flatten()
        index = (y[:, None] - y + WINDOW - 1) * span + x[:, None] - x + WINDOW - 1
        self.register_buffer("relative_position_index", index, persistent=False)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """``(windows, 64, C)`` in and out; mask ``(windows, 64, 64)`` is True where two positions may not meet."""
        count, cells, width = x.shape
        query, key, value = self.qkv(x).view(count, cells, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)[None]
        if mask is not None:
            bias = bias - 100.0 * mask[:, None].to(x.dtype)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias.expand(count, -1, -1, -1))
        projected: Tensor = self.proj(mixed.transpose(1, 2).reshape(count, cells, width))
        return projected


class Mlp(nn.Module):
    """Two linear layers with a GELU between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 2 * width)
        self.fc2 = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., C)`` in and out."""
        mixed: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return mixed


class SwinLayer(nn.Module):
    """Attention and MLP, each after a normalisation and added to its input; every other layer shifts its windows."""

    def __init__(self, width: int, heads: int, shift: int) -> None:
        super().__init__()
        self.shift = shift
        self.norm1 = nn.LayerNorm(width)
        self.attn = WindowAttention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width)

    def forward(self, x: Tensor) -> Tensor:
        """``(1, h, w, C)`` in and out; both sides are multiples of 8."""
        _, height, width, channels = x.shape
        moved = self.norm1(x).roll((-self.shift, -self.shift), (1, 2))
        attended = self.attn(_to_windows(moved), self._mask(height, width, x.device) if self.shift else None)
        grid = attended.view(height // WINDOW, width // WINDOW, WINDOW, WINDOW, channels)
        x = x + grid.transpose(1, 2).reshape(1, height, width, channels).roll((self.shift, self.shift), (1, 2))
        refined: Tensor = x + self.mlp(self.norm2(x))
        return refined

    def _mask(self, height: int, width: int, device: torch.device) -> Tensor:
        # Positions that the cyclic shift made neighbours, across the picture's border, may not meet.
        def zones(n: int) -> Tensor:
            i = torch.arange(n, device=device)
            return (i >= n - WINDOW).long() + (i >= n - self.shift).long()

        labels = _to_windows((zones(height)[:, None] * 3 + zones(width))[None, :, :, None])[..., 0]
        return labels[:, :, None] != labels[:, None]


def _to_windows(x: Tensor) -> Tensor:
    _, height, width, channels = x.shape
    grid = x.view(height // WINDOW, WINDOW, width // WINDOW, WINDOW, channels).transpose(1, 2)
    return grid.reshape(-1, WINDOW * WINDOW, channels)


class SwinGroup(nn.Module):
    """Swin layers and a convolution, added to the input; the key ``residual_group.blocks`` is the release's."""

    def __init__(self, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.residual_group = nn.ModuleDict(
            {"blocks": nn.Sequential(*(SwinLayer(width, heads, WINDOW // 2 * (i % 2)) for i in range(depth)))}
        )
        self.conv = conv(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """``(1, h, w, C)`` in and out."""
        mixed = self.residual_group["blocks"](x).permute(0, 3, 1, 2)
        refined: Tensor = x + self.conv(mixed).permute(0, 2, 3, 1)
        return refined


class SwinBlock(nn.Module):
    """Normalised features through the groups, and normalised again."""

    def __init__(self, width: int, depths: Sequence[int], heads: int) -> None:
        super().__init__()
        self.patch_embed = nn.ModuleDict({"norm": nn.LayerNorm(width)})
        self.layers = nn.Sequential(*(SwinGroup(width, depth, heads) for depth in depths))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """``(1, C, h, w)`` in and out; sides are padded to windows by reflection and cut again."""
        height, width = x.shape[2:]
        x = F.pad(x, (0, -width % WINDOW, 0, -height % WINDOW), mode="replicate")
        refined: Tensor = self.norm(self.layers(self.patch_embed["norm"](x.permute(0, 2, 3, 1)))).permute(0, 3, 1, 2)
        return refined[:, :, :height, :width]


class DATSR(nn.Module):
    """The restoration network under the release's names."""

    def __init__(self, width: int = WIDTH, depths: Sequence[int] = (4, 4), heads: int = HEADS) -> None:
        super().__init__()
        self.steps = [(way, name, layer, channels * width // WIDTH) for way, name, layer, channels in STEPS]
        """A narrower network takes fewer channels of the reference's features too."""
        self.content_extractor = nn.ModuleDict({"conv_first": conv(3, width), "body": residual_blocks(width, 8)})
        """In the checkpoints, but the release does not use its result; neither does `forward`."""
        parts: dict[str, nn.Module] = {"unet_head": conv(3, width)}
        groups = max(1, GROUPS * width // WIDTH)
        for way, name, _, channels in self.steps:
            parts |= {
                f"{way}_{name}_offset_conv1": conv(width + 2 * channels, channels),
                f"{way}_{name}_offset_conv2": conv(channels, channels),
                f"{way}_{name}_dyn_agg": DynAgg(channels, groups),
                f"{way}_head_{name}": nn.Sequential(conv(width + channels, width), nn.LeakyReLU(0.1)),
                f"{way}_body_{name}": SwinBlock(width, depths, heads),
                f"{way}_tail_{name}": _tail(way, name, width),
            }
        self.dyn_agg_restore = nn.ModuleDict(parts)

    def forward(self, lr: Tensor, reference: Correspondence) -> Tensor:
        """SR image from an LR image in [0, 1]; LR sides are multiples of 8."""
        base = F.interpolate(lr, scale_factor=4, mode="bilinear", align_corners=False)
        x = self.dyn_agg_restore["unet_head"](base)
        skips: dict[str, Tensor] = {}
        for way, name, layer, channels in self.steps:
            aggregated = self._aggregate(f"{way}_{name}", layer, channels, x, reference)
            if way == "down":
                skips[name] = x
            entering = x + skips[name] if way == "up" and name in skips else x
            fused = self.dyn_agg_restore[f"{way}_head_{name}"](cat([entering, aggregated], 1))
            x = self.dyn_agg_restore[f"{way}_tail_{name}"](self.dyn_agg_restore[f"{way}_body_{name}"](fused) + x)
        sr: Tensor = base + x
        return sr

    def _aggregate(self, step: str, layer: str, channels: int, x: Tensor, reference: Correspondence) -> Tensor:
        part, feature = self.dyn_agg_restore, reference.features[layer][:, :channels]
        seen = cat([x, warp(feature, reference.flows[layer]), feature], 1)
        offset_feature = leaky(part[f"{step}_offset_conv2"](leaky(part[f"{step}_offset_conv1"](seen))))
        agg = part[f"{step}_dyn_agg"]
        assert isinstance(agg, DynAgg)
        learned = agg.conv_offset_mask(offset_feature)
        split = agg.groups * TAPS * 2
        batch, _, height, width = learned.shape
        matched = reference.pre_offsets[layer].flip(-1).permute(0, 1, 4, 2, 3).reshape(batch, TAPS * 2, height, width)
        offset = 10 * learned[:, :split].tanh() + matched.repeat(1, agg.groups, 1, 1)
        mask = (learned[:, split:] * reference.similarity[layer]).sigmoid()
        return leaky(deform_conv(feature, offset, mask, agg.weight, agg.bias))


def _tail(way: str, name: str, width: int) -> nn.Module:
    if way == "down":
        return conv(width, width, 3, 2)
    if name == "large":
        return nn.Sequential(conv(width, width // 2), nn.LeakyReLU(0.1), conv(width // 2, 3))
    return nn.Sequential(conv(width, 4 * width), nn.PixelShuffle(2), nn.LeakyReLU(0.1))


def warp(feature: Tensor, flow: Tensor) -> Tensor:
    """Read ``feature`` bilinearly at every position plus ``flow`` ``(B, h, w, 2)``, (x, y) px; zero outside."""
    height, width = feature.shape[2:]
    y = torch.arange(height, device=flow.device).view(1, -1, 1) + flow[..., 1]
    x = torch.arange(width, device=flow.device).view(1, 1, -1) + flow[..., 0]
    grid = torch.stack([2 * x / max(width - 1, 1) - 1, 2 * y / max(height - 1, 1) - 1], -1)
    return F.grid_sample(feature, grid, mode="bilinear", padding_mode="zeros", align_corners=True)


def without_constants(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Drop what the release stores but computes: attention masks for its training size, and position indices."""
    return {key: value for key, value in state.items() if not key.endswith(("attn_mask", "relative_position_index"))}


def run(parts: Parts, lr: Image, refs: Sequence[Image]) -> Tensor:
    """Restore with the first reference."""
    lr, (ref,) = common_size(lr, refs[:1], multiple=WINDOW)
    (reference,) = correspond(parts, lr, [ref])
    sr: Tensor = parts.network(to_tensor(lr, parts.device), reference)
    return sr


METHODS = {
    "datsr": Method(
        DATSR,
        released_keys(rename=lambda state: without_constants(dict(state))),
        "RGB in [0, 1]",
        run=run,
        minimum=3,
        borrowed=("extractor", "vgg19"),
    )
}
METHODS["datsr-rec"] = METHODS["datsr"]
