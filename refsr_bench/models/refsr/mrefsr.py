"""MRefSR (Zhang et al., 2023, with the LMR dataset): C2-Matching with attention over any number of references."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, cat, nn
from torch.nn import functional as F

from refsr_bench.models.blocks import conv
from refsr_bench.models.c2matching.restoration import BLOCKS, WIDTH, leaky
from refsr_bench.models.method import Method, Parts
from refsr_bench.models.refsr.c2family import (
    Correspondence,
    c2_parts,
    common_size,
    content_features,
    correspond,
    levels,
)
from refsr_bench.models.released import released_keys
from refsr_bench.models.tensors import to_tensor
from refsr_bench.schema import Image


class ReferenceFusion(nn.Module):
    """Attention over references at every position, then a learned scale and shift per position, then fusion.

    The release pads to a multiple of 4 by reflection for this part and cuts the padding off again; its convolutions
    see the reflected margin, so it is done here too.
    """

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.scale = channels**-0.5
        self.conv_emb1 = nn.Sequential(conv(width, channels, 1), nn.PReLU())
        self.conv_emb2 = nn.Sequential(conv(channels, channels), nn.PReLU())
        self.conv_ass = conv(channels, 2 * channels)
        self.feat_fusion = conv(width + 2 * channels, width, 1)
        self.spatial_attn = conv(width + 2 * channels, 2 * channels, 1)
        for name in ("mul1", "mul2", "add1", "add2"):
            self.add_module(f"spatial_attn_{name}", conv(2 * channels, 2 * channels))

    def forward(self, x: Tensor, references: Sequence[Tensor]) -> Tensor:
        """Fuse x ``(B, width, h, w)`` with aggregated references ``(B, C, h, w)`` each."""
        height, width = x.shape[2:]
        x, *references = (_pad(each) for each in (x, *references))
        query = self.conv_emb1(x) * self.scale
        scores = torch.stack([(query * self.conv_emb2(r)).sum(1, keepdim=True) for r in references])
        weights = scores.softmax(0)
        mixed = sum(weight * self.conv_ass(r) for weight, r in zip(weights, references, strict=True))
        attention = leaky(self.spatial_attn(cat([x, mixed], 1)))
        mixed = mixed * self._branch("mul", attention).sigmoid() * 2 + self._branch("add", attention)
        fused: Tensor = leaky(self.feat_fusion(cat([x, mixed], 1)))
        return fused[:, :, :height, :width]

    def _branch(self, name: str, x: Tensor) -> Tensor:
        first, second = (self.get_submodule(f"spatial_attn_{name}{i}") for i in (1, 2))
        result: Tensor = second(leaky(first(x)))
        return result


def _pad(x: Tensor) -> Tensor:
    down, right = -x.shape[2] % 4, -x.shape[3] % 4
    # Reflection needs more pixels than it adds.
    mode = "reflect" if down < x.shape[2] and right < x.shape[3] else "replicate"
    return F.pad(x, (0, right, 0, down), mode=mode)


class MRefSR(nn.Module):
    """C2-Matching's restoration network with other heads, under the release's names."""

    def __init__(self, blocks: int = BLOCKS, width: int = WIDTH) -> None:
        super().__init__()
        self.levels = levels(width)
        self.content_extractor, self.dyn_agg_restore = c2_parts(blocks, width)
        heads = {f"head_{name}": ReferenceFusion(width, channels) for name, _, channels in self.levels}
        self.dyn_agg_restore.update(heads)

    def forward(self, lr: Tensor, references: Sequence[Correspondence]) -> Tensor:
        """SR image from an LR image in [0, 1]."""
        x = content_features(self.content_extractor, lr)
        part = self.dyn_agg_restore
        for name, layer, channels in self.levels:
            aggregated = [
                self._aggregate(name, x, r.pre_offsets[layer], r.features[layer][:, :channels]) for r in references
            ]
            fused = part[f"head_{name}"](x, aggregated)
            x = part[f"tail_{name}"](part[f"body_{name}"](fused) + x)
        base = F.interpolate(lr, scale_factor=4, mode="bilinear", align_corners=False)
        sr: Tensor = base + x
        return sr

    def _aggregate(self, name: str, x: Tensor, pre_offset: Tensor, feature: Tensor) -> Tensor:
        part = self.dyn_agg_restore
        offset_feature = leaky(part[f"{name}_offset_conv1"](cat([x, feature], 1)))
        offset_feature = leaky(part[f"{name}_offset_conv2"](offset_feature))
        return leaky(part[f"{name}_dyn_agg"](feature, offset_feature, pre_offset))


def run(parts: Parts, lr: Image, refs: Sequence[Image]) -> Tensor:
    """Restore with all references that are given."""
    lr, fitted = common_size(lr, refs)
    sr: Tensor = parts.network(to_tensor(lr, parts.device), correspond(parts, lr, fitted))
    return sr


METHODS = {
    "mrefsr": Method(
        MRefSR, released_keys("net_g."), "RGB in [0, 1]", run=run, minimum=3, borrowed=("extractor", "vgg19")
    )
}
METHODS["mrefsr-rec"] = METHODS["mrefsr"]
