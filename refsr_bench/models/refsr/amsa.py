"""AMSA (Xia et al., AAAI 2022): C2-Matching over five sizes of the reference, with warped features for the offsets.

Matches come from the exhaustive search that the whole package shares, in place of the release's randomised
PatchMatch: it finds the best match, which PatchMatch approximates.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, cat, nn
from torch.nn import functional as F

from refsr_bench.images import resize_bicubic
from refsr_bench.models.c2matching.restoration import Restoration, leaky
from refsr_bench.models.deform import TAPS, deform_conv
from refsr_bench.models.recipe import Parts, Recipe, image_weights
from refsr_bench.models.refsr.c2family import LEVELS, Correspondence, common_size, correspond
from refsr_bench.models.tensors import to_tensor
from refsr_bench.schema import Image

SCALES = tuple(0.8**i for i in range(5))
SMALLEST = 12
"""Sides of a scaled reference, px: one patch of features."""


class DynWarp(nn.Module):
    """A deformable convolution that follows the matches as they are and learns only its mask."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, channels, 3, 3))
        nn.init.normal_(self.weight, std=0.02)
        self.bias = nn.Parameter(torch.zeros(channels))
        self.conv_offset_mask = nn.Conv2d(channels, TAPS, 3, padding=1)

    def forward(self, reference: Tensor, pre_offset: Tensor) -> Tensor:
        """Warp reference features ``(B, C, h, w)``."""
        offset = pre_offset.flip(-1).permute(0, 1, 4, 2, 3).flatten(1, 2)
        mask = self.conv_offset_mask(reference).sigmoid()
        return deform_conv(reference, offset, mask, self.weight, self.bias)


class AMSA(nn.Module):
    """C2-Matching's restoration network plus one DynWarp a level, under the release's names."""

    def __init__(self) -> None:
        super().__init__()
        c2 = Restoration()
        self.content_extractor = c2.content_extractor
        self.dyn_agg_restore = c2.dyn_agg_restore
        self.dyn_agg_restore.update({f"{name}_deform_conv": DynWarp(channels) for name, _, channels, _ in LEVELS})

    def forward(self, lr: Tensor, references: Sequence[Correspondence]) -> Tensor:
        """SR image; the references' results are mixed by their softmaxed similarity before the last convolutions."""
        content = self.content_extractor(lr)
        weights = torch.softmax(10 * cat([r.similarity["relu1_1"] for r in references], 1), 1)
        mixed: Tensor | float = 0.0
        for number, reference in enumerate(references):
            x = content
            for name, layer, *_ in LEVELS:
                x = self._level(name, x, reference.pre_offsets[layer], reference.features[layer])
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


def run(parts: Parts, lr: Image, refs: Sequence[Image]) -> Tensor:
    """Restore with the first reference at five sizes; features are the unscaled reference's, as released."""
    lr, (ref,) = common_size(lr, refs[:1])
    references = []
    for scale in SCALES:
        size = [max(SMALLEST, round(n * scale)) for n in ref.shape[:2]]
        searched = ref if scale == 1 else resize_bicubic(ref, *size)
        references.append(correspond(parts, lr, ref, searched))
    sr: Tensor = parts.network(to_tensor(lr, parts.device), references)
    return sr


RECIPES = {
    "amsa": Recipe(AMSA, image_weights(), "RGB in [0, 1]", run=run, minimum=3, borrowed=("extractor", "vgg19"))
}
RECIPES["amsa-rec"] = RECIPES["amsa"]
