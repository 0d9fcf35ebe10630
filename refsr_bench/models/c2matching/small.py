"""C2-Matching small: the paper's plan at a size that a CPU trains in an hour or two and runs in about a second.

What differs from the paper's networks: extractors that work on the half and quarter grids only; a learned encoder in
place of VGG-19; matches refined to fractions of a cell; nearly all restoration on the LR grid; one dynamic
aggregation of full-resolution features, one tap a group, in place of three of nine taps; matches that stand alone
among others take the median of those around them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from refsr_bench.models.blocks import sample_inside
from refsr_bench.models.c2matching.exact import PATCH
from refsr_bench.models.c2matching.extractor import STRIDE
from refsr_bench.models.c2matching.matching import match_patches
from refsr_bench.models.vgg import VGG19
from refsr_bench.schema import Frozen

NEIGHBOURHOOD = 9
"""Matches a side among which one should not stand alone,"""
OUTLIER_PX = 8
"""and how far from their median it may point."""


class SmallConfig(Frozen):
    """Sizes of the small networks, stored beside their weights."""

    extractor_half: int = 32
    """Channels of the extractor on the half grid, then"""
    extractor_width: int = 64
    """on the LR grid,"""
    extractor_blocks: int = 3
    """its residual blocks there,"""
    descriptor: int = 64
    """and the channels that are matched."""
    width: int = 48
    """Channels of the restoration network,"""
    content_blocks: int = 4
    """its residual blocks before"""
    fusion_blocks: int = 6
    """and after the reference joins."""
    reference_channels: int = 16
    """Full-resolution features of the reference, the first three of them its colours, in"""
    groups: int = 4
    """groups that are displaced and weighted apart."""
    detail_channels: int = 8
    """Full-resolution features that the LR grid contributes to the last two convolutions."""
    dynagg: bool = True
    """Correct the matches by learned offsets and weights; else they are followed as they are."""


class Block(nn.Module):
    """Convolution, ReLU, convolution (zero at first), plus the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Refine features ``(B, C, h, w)``."""
        refined: Tensor = x + self.conv2(F.relu(self.conv1(x)))
        return refined


class SmallBranch(nn.Module):
    """RGB ``(B, 3, H, W)`` in [0, 1] to descriptors ``(B, C, H // 4, W // 4)``; sees about 60 px."""

    def __init__(self, config: SmallConfig) -> None:
        super().__init__()
        half, width = config.extractor_half, config.extractor_width
        self.model = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(12, half, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(half, half, 3, padding=1),
            nn.ReLU(),
            nn.PixelUnshuffle(2),
            nn.Conv2d(4 * half, width, 3, padding=1),
            *(Block(width) for _ in range(config.extractor_blocks)),
            nn.ReLU(),
            nn.Conv2d(width, config.descriptor, 1),
        )
        _initialise(self)

    def forward(self, image: Tensor) -> Tensor:
        """Compute dense features; they are not normalised."""
        height, width = (side // STRIDE * STRIDE for side in image.shape[-2:])
        features: Tensor = self.model((image[..., :height, :width] - 0.45) * 4)
        return features


class SmallExtractor(nn.Module):
    """Two branches that share nothing but their shape, as in `extractor.Extractor`."""

    def __init__(self, config: SmallConfig | None = None) -> None:
        super().__init__()
        self.feature_extraction_image1 = SmallBranch(config or SmallConfig())
        self.feature_extraction_image2 = SmallBranch(config or SmallConfig())

    def forward(self, lr_up: Tensor, ref: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the features of the LR image enlarged to HR size (first branch) and of the reference (second)."""
        return self.feature_extraction_image1(lr_up), self.feature_extraction_image2(ref)


class VggExtractor(nn.Module):
    """Fixed descriptors, VGG-19's relu3_1 of both pictures: where the paper's ablation starts."""

    def __init__(self, vgg: VGG19) -> None:
        super().__init__()
        self.vgg = vgg

    def forward(self, lr_up: Tensor, ref: Tensor) -> tuple[Tensor, Tensor]:
        """Compute features ``(B, 256, H // 4, W // 4)`` of both pictures."""
        return self.vgg(lr_up)["relu3_1"], self.vgg(ref)["relu3_1"]


@torch.no_grad()
def _initialise(net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                module.bias.zero_()
    for module in net.modules():
        if isinstance(module, Block):
            module.conv2.weight.mul_(0.1)


# --- matching ------------------------------------------------------------------------------------------------------


class CellMatch(NamedTuple):
    """Where each LR cell's content lies in the reference."""

    flow: Tensor
    """``(B, h, w, 2)``, (x, y) HR px, to be added to an HR position of the cell."""
    score: Tensor
    """``(B, 1, h, w)``, about a cosine."""


@torch.no_grad()
def match_cells(feat_in: Tensor, feat_ref: Tensor, temperature: float = 0.07) -> CellMatch:
    """Match two batches of descriptor maps ``(B, C, h, w)``, of sizes that may differ, to fractions of a cell.

    The 3x3-patch search of the paper first; then the mean of the nine places around its result, weighted by a softmax
    of their patch similarities, which is what the training target (a bilinear mixture of four cells) makes of them.
    The outermost ring of cells, on which no patch is centred, takes its neighbours' matches, and matches that stand
    alone are replaced (`replace_outliers`).
    """
    matches = [_match_pair(a, b, temperature) for a, b in zip(feat_in, feat_ref, strict=True)]
    flow = torch.stack([flow for flow, _ in matches])
    score = torch.stack([score for _, score in matches])
    return CellMatch(flow.permute(0, 2, 3, 1).contiguous(), score)


def _match_pair(feat_in: Tensor, feat_ref: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    unit_in, unit_ref = F.normalize(feat_in, dim=0), F.normalize(feat_ref, dim=0)
    index, score = match_patches(unit_in, unit_ref)
    height, width = index.shape
    # Centres of the matched patches, and of the patches they belong to, in cells.
    ref_y = index // (unit_ref.shape[2] - PATCH + 1) + 1
    ref_x = index % (unit_ref.shape[2] - PATCH + 1) + 1
    y = torch.arange(1, height + 1, device=index.device)[:, None]
    x = torch.arange(1, width + 1, device=index.device)
    near = _similarities_around(unit_in, unit_ref, ref_y, ref_x)
    weight = (near / temperature).softmax(0)
    step = torch.arange(-1, 2, device=index.device, dtype=weight.dtype)
    fine_y = (weight * step.repeat_interleave(PATCH)[:, None, None]).sum(0)
    fine_x = (weight * step.repeat(PATCH)[:, None, None]).sum(0)
    flow = STRIDE * torch.stack([ref_x - x + fine_x, ref_y - y + fine_y])
    padded = F.pad(torch.cat([flow, score[None]])[None], (1, 1, 1, 1), mode="replicate")[0]
    return replace_outliers(padded[:2]), padded[2:]


def replace_outliers(flow: Tensor) -> Tensor:
    """Where a match is far from the median of those around it, take that median; ``(2, h, w)``, px.

    The errors of a good matcher are few and gross, in places without texture. The median moves little at the edges of
    what stands in front of something else, and under rotation and scale, whose flow is linear, not at all; except near
    the map's border, where less lies on one side. What it is worth: ``docs/training.md``.
    """
    reach = NEIGHBOURHOOD // 2
    padded = F.pad(flow[None], (reach, reach, reach, reach), mode="replicate")[0]
    median = padded.unfold(1, NEIGHBOURHOOD, 1).unfold(2, NEIGHBOURHOOD, 1).flatten(3).median(-1).values
    is_far = (flow - median).norm(dim=0) > OUTLIER_PX
    return torch.where(is_far, median, flow)


def _similarities_around(unit_in: Tensor, unit_ref: Tensor, ref_y: Tensor, ref_x: Tensor) -> Tensor:
    """Mean cosine of each 3x3 patch with the nine patches around its match: ``(9, h - 2, w - 2)``.

    Cells outside the reference count as never similar.
    """
    height, width = ref_y.shape
    outside = F.pad(unit_ref, (1, 1, 1, 1)).permute(1, 2, 0)  # zeros: a cosine of 0
    taps = [(i, j) for i in range(-1, 2) for j in range(-1, 2)]
    cells_in = {(i, j): unit_in[:, 1 + i : 1 + i + height, 1 + j : 1 + j + width].permute(1, 2, 0) for i, j in taps}
    near = unit_in.new_zeros(len(taps), height, width)
    for shift_y in range(-2, 3):
        for shift_x in range(-2, 3):
            rows = (ref_y + shift_y + 1).clamp(0, outside.shape[0] - 1)
            columns = (ref_x + shift_x + 1).clamp(0, outside.shape[1] - 1)
            cell = outside[rows, columns]
            for number, (i, j) in enumerate(taps):
                tap = (shift_y - i, shift_x - j)
                if tap in cells_in:
                    near[number] += (cells_in[tap] * cell).sum(-1)
    return near / len(taps)


# --- restoration ---------------------------------------------------------------------------------------------------


class SmallRestoration(nn.Module):
    """LR picture, reference and matches in, SR picture out."""

    def __init__(self, config: SmallConfig | None = None) -> None:
        super().__init__()
        config = config or SmallConfig()
        width, channels = config.width, config.reference_channels
        self.groups, self.detail, self.dynagg = config.groups, config.detail_channels, config.dynagg
        cell = STRIDE**2
        self.content_first = nn.Conv2d(3, width, 3, padding=1)
        self.content = nn.Sequential(*(Block(width) for _ in range(config.content_blocks)))
        # The reference's own colours are its first three features.
        self.encoder = nn.Sequential(
            nn.Conv2d(3, channels, 3, padding=1), nn.LeakyReLU(0.1), nn.Conv2d(channels, channels - 3, 3, padding=1)
        )
        if self.dynagg:
            self.offset_reduce = nn.Conv2d(channels * cell, 32, 1)
            self.offset_hidden = nn.Conv2d(width + 32 + 1, width, 3, padding=1)
            self.offset_mask = nn.Conv2d(width, 4 * 3 * self.groups, 3, padding=1)
        self.reduce = nn.Conv2d(channels * cell, 64, 1)
        self.fuse = nn.Conv2d(width + 64 + 1, width, 3, padding=1)
        self.fusion = nn.Sequential(*(Block(width) for _ in range(config.fusion_blocks)))
        self.enlarge = nn.Conv2d(width, (self.detail + self.groups) * cell, 3, padding=1)
        self.head = nn.Conv2d(self.detail + channels, 16, 3, padding=1)
        self.last = nn.Conv2d(16, 3, 3, padding=1)
        _initialise(self)
        with torch.no_grad():
            self.last.weight.mul_(0.1)
            if self.dynagg:
                self.offset_mask.weight.zero_()

    def forward(self, lr: Tensor, lr_up: Tensor, ref: Tensor | None = None, match: CellMatch | None = None) -> Tensor:
        """Restore RGB ``(B, 3, 4h, 4w)``, nominally in [0, 1], not clamped.

        lr ``(B, 3, h, w)``, lr_up ``(B, 3, 4h, 4w)`` and ref ``(B, 3, H', W')`` in [0, 1]. Without a reference the
        network is a single-image one, trained as such for a while.
        """
        x = self.content(F.leaky_relu(self.content_first(lr - 0.45), 0.1))
        if ref is None or match is None:
            joined = x
        else:
            aligned = self.aggregate(x, ref, match)
            reduced = F.leaky_relu(self.reduce(F.pixel_unshuffle(aligned, STRIDE)), 0.1)
            joined = x + self.fuse(torch.cat([x, reduced, match.score], 1))
        enlarged = F.pixel_shuffle(self.enlarge(self.fusion(joined) + x), STRIDE)
        detail, gate = torch.split(enlarged, [self.detail, self.groups], 1)
        detail = F.leaky_relu(detail, 0.1)
        if ref is None or match is None:
            weight = self.head.weight[:, : self.detail]
            detail = F.conv2d(detail, weight, self.head.bias, padding=1)
        else:
            gated = in_groups(aligned, self.groups) * gate.sigmoid()[:, :, None]
            detail = self.head(torch.cat([detail, gated.flatten(1, 2)], 1))
        restored: Tensor = lr_up + self.last(F.leaky_relu(detail, 0.1))
        return restored

    def aggregate(self, x: Tensor, ref: Tensor, match: CellMatch) -> Tensor:
        """Reference features ``(B, C, 4h, 4w)`` from where the matches, slightly corrected, point."""
        centred = ref - 0.45
        features = torch.cat([centred, self.encoder(centred)], 1)
        flow = match.flow.repeat_interleave(STRIDE, 1).repeat_interleave(STRIDE, 2)
        aligned = sample_at(features, flow)
        if not self.dynagg:
            return aligned
        reduced = F.leaky_relu(self.offset_reduce(F.pixel_unshuffle(aligned, STRIDE)), 0.1)
        hidden = F.leaky_relu(self.offset_hidden(torch.cat([x, reduced, match.score], 1)), 0.1)
        learned = F.pixel_shuffle(self.offset_mask(hidden), 2)
        learned = F.interpolate(learned, scale_factor=2, mode="bilinear", align_corners=False)
        learned = in_groups(learned, self.groups)
        offset = learned[:, :, :2].permute(0, 1, 3, 4, 2)
        sampled = sample_at(in_groups(features, self.groups).flatten(0, 1), (flow[:, None] + offset).flatten(0, 1))
        mask = 2 * learned[:, :, 2:].sigmoid()
        return (sampled.view(-1, self.groups, *sampled.shape[1:]) * mask).flatten(1, 2)


def in_groups(features: Tensor, groups: int) -> Tensor:
    """``(B, C, H, W)`` as ``(B, groups, C / groups, H, W)``."""
    batch, channels, height, width = features.shape
    return features.reshape(batch, groups, channels // groups, height, width)


def sample_at(features: Tensor, flow: Tensor) -> Tensor:
    """Sample ``(B, C, H', W')`` bilinearly at each pixel of ``flow`` ``(B, H, W, 2)``, (x, y) px, plus its flow."""
    height, width = flow.shape[1:3]
    y = torch.arange(height, device=flow.device, dtype=flow.dtype)[:, None]
    x = torch.arange(width, device=flow.device, dtype=flow.dtype)
    at_x = (flow[..., 0] + x) * (2 / max(1, features.shape[3] - 1)) - 1
    at_y = (flow[..., 1] + y) * (2 / max(1, features.shape[2] - 1)) - 1
    return sample_inside(features, torch.stack([at_x, at_y], -1))
