"""Modulated deformable convolution (DCNv2, Zhu et al. 2019) in plain PyTorch, and C2-Matching's DynAgg on top of it."""

from __future__ import annotations

import math
from importlib.util import find_spec

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

TAPS = 9
"""Taps of the 3×3 kernel, row-major: tap 3i + j sits at (y, x) = (i - 1, j - 1)."""
STRIP_ELEMENTS = 1 << 21
"""Samples held at once without gradients (9 C a pixel): they stay in the cache."""
STRIP_ELEMENTS_CUDA = 1 << 27


def deform_conv(
    feature: Tensor,
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    origin: tuple[int, int] = (0, 0),
) -> Tensor:
    """Convolve 3×3 (stride 1, padding 1), each tap reading where its offset points, times its mask; offsets in px.

    Positions are sampled bilinearly; a neighbour outside the feature map counts as zero, so at or beyond one pixel
    outside the result is zero. Equal to ``torchvision.ops.deform_conv2d``, whose channel order is kept: group-major,
    then tap, then **(y, x)**, unlike every point elsewhere in this package. Group g reads channels
    ``g * C / G ... (g + 1) * C / G - 1``.

    feature ``(B, C, h, w)``; offset ``(B, G * 9 * 2, h, w)``; mask ``(B, G * 9, h, w)``; weight ``(C_out, C, 3, 3)``.
    Returns ``(B, C_out, h, w)``. Offset and mask may be a window of the whole, whose first pixel ``origin`` (y, x)
    tells; then so is the result. Differentiable in every argument; at whole-pixel positions the derivative is the one
    towards larger coordinates. Memory grows with C·h·w and not with nine times that: without gradients the output is
    made a few rows at a time, with gradients tap by tap, each tap being sampled again for its gradient. On CUDA
    torchvision's kernel is used where it is installed.
    """
    if feature.is_cuda and find_spec("torchvision") is not None and feature.shape[2:] == mask.shape[2:]:
        from torchvision.ops import deform_conv2d

        fused: Tensor = deform_conv2d(feature, offset, weight, bias, padding=1, mask=mask)
        return fused
    run = _tap_by_tap if torch.is_grad_enabled() else _all_taps_in_strips
    return run(feature, offset, mask, weight, bias, origin)


def _tap_by_tap(
    feature: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor | None, origin: tuple[int, int]
) -> Tensor:
    batch, channels, *size = feature.shape
    height, width = mask.shape[2:]
    groups = mask.shape[1] // TAPS
    # Channels last: one row of the table is what one group holds at one pixel.
    table = feature.permute(0, 2, 3, 1).reshape(batch * size[0] * size[1] * groups, channels // groups).to(offset.dtype)
    tap_offsets = offset.reshape(batch, groups, TAPS, 2, height, width).permute(2, 3, 0, 4, 5, 1)
    tap_masks = mask.reshape(batch, groups, TAPS, height, width).permute(2, 0, 3, 4, 1)
    tap_weights = weight.reshape(weight.shape[0], channels, TAPS).permute(2, 1, 0)
    y, x = (
        torch.arange(first, first + count, device=offset.device, dtype=offset.dtype).view(shape)
        for first, count, shape in ((origin[0], height, (1, -1, 1, 1)), (origin[1], width, (1, 1, -1, 1)))
    )
    result = offset.new_zeros(batch * height * width, weight.shape[0])
    for tap in range(TAPS):
        arguments = (
            table,
            y + (tap // 3 - 1) + tap_offsets[tap, 0],
            x + (tap % 3 - 1) + tap_offsets[tap, 1],
            tap_masks[tap],
            (size[0], size[1]),
            tap_weights[tap],
        )
        result = result + checkpoint(_apply_tap, *arguments, use_reentrant=False, preserve_rng_state=False)
    if bias is not None:
        result = result + bias
    return result.view(batch, height, width, -1).permute(0, 3, 1, 2).contiguous()


def _apply_tap(table: Tensor, y: Tensor, x: Tensor, mask: Tensor, size: tuple[int, int], weight: Tensor) -> Tensor:
    return _sample(table, y, x, mask, size).view(-1, len(weight)) @ weight


def _sample(table: Tensor, y: Tensor, x: Tensor, mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear samples times mask at ``(B, h, w, G)`` positions: ``(B * h * w * G, C / G)``."""
    height, width = size
    batch, _, _, groups = y.shape
    image = torch.arange(batch, device=table.device).view(-1, 1, 1, 1)
    group = torch.arange(groups, device=table.device)
    top, left = y.detach().floor(), x.detach().floor()
    down, right = y - top, x - left
    # The value is zero at -1 by itself; this makes the derivative zero there too, as in DCNv2.
    mask = mask * ((y > -1) & (x > -1))
    rows, weights = [], []
    for row, weight_y in ((top, 1 - down), (top + 1, down)):
        for column, weight_x in ((left, 1 - right), (left + 1, right)):
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            # Chosen as floats: an absurd offset, or NaN, must not become an index.
            pixel = torch.where(inside, row, 0).long() * width + torch.where(inside, column, 0).long()
            rows.append((image * height * width + pixel) * groups + group)
            weights.append(weight_y * weight_x * mask * inside)
    # A weighted sum of four rows is what embedding_bag computes without storing the four.
    return F.embedding_bag(
        torch.stack(rows, -1).view(-1, 4), table, mode="sum", per_sample_weights=torch.stack(weights, -1).view(-1, 4)
    )


def _all_taps_in_strips(
    feature: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor | None, origin: tuple[int, int]
) -> Tensor:
    height, width = mask.shape[2:]
    groups = mask.shape[1] // TAPS
    dtype, per_group = offset.dtype, feature.shape[1] // groups
    kernel = weight.to(dtype).view(-1, groups, per_group, TAPS).permute(1, 3, 2, 0).reshape(-1, len(weight))
    bias = offset.new_zeros(len(weight)) if bias is None else bias.to(dtype)
    tap = torch.arange(TAPS, device=offset.device)
    y = torch.arange(height, device=offset.device).view(-1, 1, 1, 1) + origin[0] + tap // 3 - 1
    x = torch.arange(width, device=offset.device).view(-1, 1, 1) + origin[1] + tap % 3 - 1
    rows = max(1, (STRIP_ELEMENTS_CUDA if offset.is_cuda else STRIP_ELEMENTS) // (width * len(kernel)))
    result = offset.new_empty(len(feature), height, width, len(weight))
    for image, whole in enumerate(feature):
        # A border of zeros, and positions held inside it, in place of asking which neighbours exist.
        padded = F.pad(whole.permute(1, 2, 0).to(dtype), (0, 0, 1, 2, 1, 2))
        for first in range(0, height, rows):
            part = slice(first, min(height, first + rows))
            # (rows, width, groups, taps), like the channels that the product below sums over.
            points = offset[image, :, part].view(groups, TAPS, 2, -1, width).permute(2, 3, 4, 0, 1).contiguous()
            share = mask[image, :, part].view(groups, TAPS, -1, width).permute(2, 3, 0, 1).to(dtype).contiguous()
            samples = _sample_padded(padded, points[0].add_(y[part]), points[1].add_(x), share)
            torch.addmm(bias, samples, kernel, out=result[image, part].view(len(samples), -1))
    return result.permute(0, 3, 1, 2)


def _sample_padded(padded: Tensor, y: Tensor, x: Tensor, mask: Tensor) -> Tensor:
    """Bilinear samples times mask at ``(rows, width, G, 9)`` positions: ``(rows * width, G * 9 * C / G)``.

    ``padded``: ``(h + 3, w + 3, C)``, with zeros before the first and after the last row and column. y, x are scratch.
    """
    height, width, groups = padded.shape[0] - 3, padded.shape[1] - 3, mask.shape[2]
    y, x = y.clamp_(-1, height), x.clamp_(-1, width)
    top, left = y.floor().nan_to_num_(-1), x.floor().nan_to_num_(-1)  # NaN must not become an index
    down, right = y.sub_(top), x.sub_(left)
    step = (width + 3) * groups
    corner = top.int().add_(1).mul_(step).add_(left.int().add_(1).mul_(groups))
    corner += torch.arange(groups, dtype=torch.int32, device=mask.device)[:, None]
    places = corner[..., None] + torch.tensor([0, groups, step, step + groups], dtype=torch.int32, device=mask.device)
    shares = mask.new_empty(places.shape)
    lower = down.mul_(mask)
    upper = mask - lower
    for row, both in ((0, upper), (2, lower)):
        second = torch.mul(both, right, out=shares[..., row + 1])
        torch.sub(both, second, out=shares[..., row])
    # A weighted sum of four rows is what embedding_bag computes without storing the four.
    table = padded.view(-1, padded.shape[2] // groups)
    bags = F.embedding_bag(places.view(-1, 4), table, mode="sum", per_sample_weights=shares.view(-1, 4))
    return bags.view(mask.shape[0] * mask.shape[1], -1)


class DynAgg(nn.Module):
    """Dynamic aggregation (C2-Matching Eq. 9): reference features from where the matches, slightly corrected, point.

    State keys are the release's: ``weight``, ``bias``, ``conv_offset_mask.weight``, ``conv_offset_mask.bias``.
    """

    def __init__(self, channels: int, groups: int = 8) -> None:
        super().__init__()
        self.groups = groups
        limit = 1 / math.sqrt(TAPS * channels)
        self.weight = nn.Parameter(torch.empty(channels, channels, 3, 3).uniform_(-limit, limit))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.conv_offset_mask = nn.Conv2d(channels, groups * TAPS * 3, 3, padding=1)
        nn.init.zeros_(self.conv_offset_mask.weight)
        nn.init.zeros_(self.conv_offset_mask.bias)  # type: ignore[arg-type]

    def forward(
        self, reference: Tensor, offset_feature: Tensor, pre_offset: Tensor, origin: tuple[int, int] = (0, 0)
    ) -> Tensor:
        """Aggregate reference features ``(B, C, h, w)``.

        See `offsets_and_mask` for the next two, which may be a window of the whole that begins at ``origin`` (y, x).
        """
        offset, mask = self.offsets_and_mask(offset_feature, pre_offset)
        return deform_conv(reference, offset, mask, self.weight, self.bias, origin)

    def offsets_and_mask(self, offset_feature: Tensor, pre_offset: Tensor) -> tuple[Tensor, Tensor]:
        """Turn learned features and matches into the offsets (px) and masks that `deform_conv` takes.

        ``offset_feature`` ``(B, C, h, w)``; ``pre_offset`` ``(B, 9, h, w, 2)``, (x, y) px. The pre-offsets are
        shared by all groups; they are swapped here from (x, y) to the convolution's (y, x).
        """
        learned, mask_logits = self.conv_offset_mask(offset_feature).split(
            [self.groups * TAPS * 2, self.groups * TAPS], dim=1
        )
        batch, _, height, width = learned.shape
        matched = pre_offset.flip(-1).permute(0, 1, 4, 2, 3).reshape(batch, 1, TAPS * 2, height, width)
        offset = learned.view(batch, self.groups, TAPS * 2, height, width) + matched
        return offset.view(batch, -1, height, width), mask_logits.sigmoid()
