"""AMSA (Xia et al., AAAI 2022): C2-Matching over five sizes of the reference, with warped features for the offsets.

Matches come from the exhaustive search that the whole package shares, in place of the release's randomised
PatchMatch: it finds the best match, which PatchMatch approximates.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, cat, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from refsr_bench.images import pad_zero, resize_bicubic
from refsr_bench.models.c2matching.restoration import BLOCKS, WIDTH, leaky
from refsr_bench.models.deform import TAPS
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

SHRINK = 0.8
SIZES = 5
"""The reference is matched at its own size and at four smaller ones, each 0.8 times the one before."""


class DynWarp(nn.Module):
    """A deformable convolution that follows the matches as they are and learns only its mask."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, channels, 3, 3))
        nn.init.normal_(self.weight, std=0.02)
        self.bias = nn.Parameter(torch.zeros(channels))
        self.conv_offset_mask = nn.Conv2d(channels, TAPS, 3, padding=1)

    def forward(self, reference: Tensor, pre_offset: Tensor) -> Tensor:
        """Warp reference features ``(1, C, h, w)``."""
        mask = self.conv_offset_mask(reference).sigmoid()
        arguments = reference, pre_offset, mask, self.weight
        if torch.is_grad_enabled():  # read again for the gradient: nine maps would have to be kept
            warped = checkpoint(follow_matches, *arguments, use_reentrant=False, preserve_rng_state=False)
        else:
            warped = follow_matches(*arguments)
        result: Tensor = warped + self.bias[:, None, None]
        return result


def follow_matches(feature: Tensor, pre_offset: Tensor, mask: Tensor, weight: Tensor) -> Tensor:
    """What `deform_conv` computes where every offset is a whole pixel: one pixel is read then, not a mixture of four.

    feature ``(1, C, h, w)``; pre_offset ``(1, 9, h, w, 2)``, (x, y) px; mask ``(1, 9, h, w)``; weight ``(O, C, 3, 3)``.
    """
    height, width = feature.shape[2:]
    table = feature[0].flatten(1).T.contiguous()
    y = torch.arange(height, device=feature.device)[:, None]
    x = torch.arange(width, device=feature.device)
    result = feature.new_zeros(height * width, len(weight))
    for tap, moved in enumerate(pre_offset[0].long()):
        row, column = y + (tap // 3 - 1) + moved[..., 1], x + (tap % 3 - 1) + moved[..., 0]
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        place = torch.where(inside, row * width + column, 0).flatten()
        seen = table[place] * (mask[0, tap] * inside).view(-1, 1)
        result = result + seen @ weight[:, :, tap // 3, tap % 3].T
    return result.T.reshape(1, -1, height, width)


class AMSA(nn.Module):
    """C2-Matching's restoration network plus one DynWarp a level, under the release's names."""

    def __init__(self, blocks: int = BLOCKS, width: int = WIDTH, sizes: int = SIZES) -> None:
        super().__init__()
        self.levels = levels(width)
        self.sizes = sizes
        """Of the reference, at most."""
        self.content_extractor, self.dyn_agg_restore = c2_parts(blocks, width)
        self.dyn_agg_restore.update({f"{name}_deform_conv": DynWarp(channels) for name, _, channels in self.levels})

    def forward(self, lr: Tensor, references: Sequence[Correspondence]) -> Tensor:
        """SR image; the references' results are mixed by their softmaxed similarity before the last convolutions."""
        content = content_features(self.content_extractor, lr)
        weights = torch.softmax(10 * cat([r.similarity["relu1_1"] for r in references], 1), 1)
        mixed: Tensor | float = 0.0
        for number, reference in enumerate(references):
            x = content
            for name, layer, channels in self.levels:
                feature = reference.features[layer][:, :channels]
                x = self._level(name, x, reference.pre_offsets[layer], feature)
            mixed = mixed + x * weights[:, number : number + 1]
        base = F.interpolate(lr, scale_factor=4, mode="bilinear", align_corners=False)
        sr: Tensor = base + self.dyn_agg_restore["tail_large"](mixed)
        return sr

    def _level(self, name: str, x: Tensor, pre_offset: Tensor, feature: Tensor) -> Tensor:
        part = self.dyn_agg_restore
        warped = part[f"{name}_deform_conv"](feature, pre_offset)
        offset_feature = leaky(part[f"{name}_offset_conv1"](cat([x, warped], 1)))
        offset_feature = leaky(part[f"{name}_offset_conv2"](offset_feature))
        aggregated = leaky(part[f"{name}_dyn_agg"](feature, offset_feature, pre_offset))
        restored: Tensor = part[f"body_{name}"](part[f"head_{name}"](cat([x, aggregated], 1))) + x
        return restored if name == "large" else part[f"tail_{name}"](restored)


def smaller_references(ref: Image, sizes: int = SIZES) -> list[Image]:
    """The reference and its reductions, each from the one before, all on a black canvas of the first one's size.

    Reductions are cut to multiples of 4 px. A reference that would become smaller than 12 px, the size of one patch of
    features, is not reduced any further.
    """
    height, width = ref.shape[:2]
    made, current = [ref], ref
    exact = [float(height), float(width)]
    while len(made) < sizes:
        exact = [side * SHRINK for side in exact]
        size = [int(side) // 4 * 4 for side in exact]
        if min(size) < 12:
            break
        current = resize_bicubic(current, int(exact[0]), int(exact[1]))
        made.append(pad_zero(current[: size[0], : size[1]], height, width))
    return made


def run(parts: Parts, lr: Image, refs: Sequence[Image]) -> Tensor:
    """Restore with the first reference at all its sizes; features are the unreduced reference's, as released."""
    lr, (ref,) = common_size(lr, refs[:1])
    assert isinstance(parts.network, AMSA)
    references = correspond(parts, lr, smaller_references(ref, parts.network.sizes), features_of=ref)
    sr: Tensor = parts.network(to_tensor(lr, parts.device), references)
    return sr


METHODS = {"amsa": Method(AMSA, released_keys(), "RGB in [0, 1]", run=run, minimum=3, borrowed=("extractor", "vgg19"))}
METHODS["amsa-rec"] = METHODS["amsa"]
