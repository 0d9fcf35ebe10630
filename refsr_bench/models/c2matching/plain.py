"""C2-Matching written as the released code writes it: the yardstick of every fast path, in tests and in benchmarks.

Nothing here is tuned. The networks are the same modules; what differs is the search (reference patches as kernels of a
convolution), the sampling (four gathers a tap) and that every map exists at full size at once.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from refsr_bench.models.c2matching.exact import PATCH, patch_norms
from refsr_bench.models.c2matching.extractor import Extractor
from refsr_bench.models.c2matching.matching import expand_offsets
from refsr_bench.models.c2matching.restoration import LEVELS, ResidualBlock, Restoration, leaky
from refsr_bench.models.deform import TAPS, DynAgg
from refsr_bench.models.vgg import VGG19

CHUNK_ELEMENTS = 1 << 29
"""Correlations held at once, as released: 2 GiB of float32, whatever the size of the pictures."""


def match_plainly(feat_in: Tensor, feat_ref: Tensor, chunk_elements: int = CHUNK_ELEMENTS) -> tuple[Tensor, Tensor]:
    """The search of `matching.match_patches`, same arguments and results, as one convolution a chunk of kernels."""
    channels, height, width = feat_in.shape
    kernels = F.unfold(feat_ref[None], PATCH)[0].T
    kernels = (kernels / (kernels.norm(dim=1, keepdim=True) + 1e-5)).view(-1, channels, PATCH, PATCH)
    best = feat_in.new_full((height - PATCH + 1, width - PATCH + 1), -torch.inf)
    index = torch.zeros_like(best, dtype=torch.long)
    step = max(1, chunk_elements // (height * width))
    for start in range(0, len(kernels), step):
        value, where = F.conv2d(feat_in[None], kernels[start : start + step])[0].max(dim=0)
        better = value > best
        best = torch.where(better, value, best)
        index = torch.where(better, where + start, index)
    return index, best / patch_norms(feat_in)


def deform_conv_plainly(feature: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`deform.deform_conv` as most ports write it: nine sampled copies of the whole map, then one product."""
    batch, channels, height, width = feature.shape
    groups = mask.shape[1] // TAPS
    per_group = feature.reshape(batch * groups, channels // groups, height * width)
    points = offset.reshape(batch * groups, TAPS, 2, height, width)
    tap = torch.arange(TAPS, device=feature.device).view(-1, 1, 1)
    y = torch.arange(height, device=feature.device).view(-1, 1) + tap // 3 - 1 + points[:, :, 0]
    x = torch.arange(width, device=feature.device) + tap % 3 - 1 + points[:, :, 1]
    columns = feature.new_zeros(batch * groups, channels // groups, TAPS, height, width)
    for row, weight_y in ((y.floor(), 1 - (y - y.floor())), (y.floor() + 1, y - y.floor())):
        for column, weight_x in ((x.floor(), 1 - (x - x.floor())), (x.floor() + 1, x - x.floor())):
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            pixel = (row.clamp(0, height - 1) * width + column.clamp(0, width - 1)).long().flatten(1)
            values = per_group.gather(2, pixel[:, None].expand(-1, channels // groups, -1)).view_as(columns)
            columns += values * (weight_y * weight_x * inside)[:, None]
    columns = columns * mask.reshape(batch * groups, 1, TAPS, height, width)
    product = weight.reshape(weight.shape[0], -1) @ columns.reshape(batch, channels * TAPS, height * width)
    result = product.view(batch, -1, height, width)
    return result if bias is None else result + bias.view(1, -1, 1, 1)


def restore_plainly(
    net: Restoration, lr: Tensor, pre_offsets: Mapping[str, Tensor], ref_features: Mapping[str, Tensor]
) -> Tensor:
    """The forward pass of the restoration network with `deform_conv_plainly` in place of the sampling."""
    part = net.dyn_agg_restore
    x = _refine(net.content_extractor.body, leaky(net.content_extractor.conv_first(lr)))
    for name, layer, _ in LEVELS:
        feature = ref_features[layer]
        offset_feature = leaky(part[f"{name}_offset_conv1"](torch.cat([x, feature], 1)))
        offset_feature = leaky(part[f"{name}_offset_conv2"](offset_feature))
        agg = part[f"{name}_dyn_agg"]
        assert isinstance(agg, DynAgg)
        offset, mask = agg.offsets_and_mask(offset_feature, pre_offsets[layer])
        aggregated = leaky(deform_conv_plainly(feature, offset, mask, agg.weight, agg.bias))
        head = part[f"head_{name}"](torch.cat([x, aggregated], 1))
        x = part[f"tail_{name}"](_refine(part[f"body_{name}"], head) + x)
    base = F.interpolate(lr, scale_factor=4, mode="bilinear", align_corners=False)
    restored: Tensor = base + x
    return restored


def _refine(body: nn.Module, x: Tensor) -> Tensor:
    for block in body.children():
        assert isinstance(block, ResidualBlock)
        x = x + block.conv2(F.relu(block.conv1(x), inplace=True))
    return x


def run_plainly(extractor: Extractor, vgg: VGG19, net: Restoration, lr: Tensor, lr_up: Tensor, ref: Tensor) -> Tensor:
    """From network inputs to the restored picture ``(1, 3, 4h, 4w)``, every step as above."""
    feat_in, feat_ref = (F.normalize(feat, dim=1)[0] for feat in extractor(lr_up, ref))
    index, _ = match_plainly(feat_in, feat_ref)
    pre_offsets = expand_offsets(index[None], feat_ref.shape[2] - PATCH + 1)
    return restore_plainly(net, lr, pre_offsets, vgg(ref))
