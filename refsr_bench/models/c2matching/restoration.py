"""The restoration network of C2-Matching (paper section 3.3 and Table 3), with the release's state keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from refsr_bench.models.c2matching.exact import PATCH
from refsr_bench.models.c2matching.tiling import DEFAULT_BUDGET, plan_tiles, run_in_tiles
from refsr_bench.models.deform import DynAgg
from refsr_bench.models.winograd import WinogradConv2d, join_channels, to_planes

WIDTH = 64
BLOCKS = 16
LEVELS = (("small", "relu3_1", 256), ("medium", "relu2_1", 128), ("large", "relu1_1", 64))
"""Name, VGG-19 layer and channels of the reference features, from LR size to SR size."""


class Definition(NamedTuple):
    """What the restoration networks of the paper differ in; the defaults are C2-Matching itself."""

    blocks: tuple[int, int, int, int] = (BLOCKS, BLOCKS, BLOCKS, BLOCKS)
    """Residual blocks of the content extractor and of the levels small, medium, large."""
    levels: tuple[str, ...] = ("small", "medium", "large")
    """The levels that use the reference."""
    dyn_agg: bool = True
    """Whether they aggregate dynamically; else they take the reference feature that the match points to."""


PAPER = Definition()
LIGHT = Definition(blocks=(BLOCKS, BLOCKS, 8, 4), levels=("medium", "large"))
"""C2-Matching-light: blocks of Table 3's layer 9 reduced to 8 and of layer 14 to 4, no reference at LR size."""
NO_DYN_AGG = Definition(dyn_agg=False)
"""The baseline of Fig. 5, whose matched features are copied and not aggregated."""


def conv(channels_in: int, channels_out: int) -> nn.Conv2d:
    """3×3 convolution, padding 1, initialised as released: N(0, 0.02), no bias."""
    layer = nn.Conv2d(channels_in, channels_out, 3, padding=1)
    nn.init.normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


def leaky(x: Tensor, *, inplace: bool = False) -> Tensor:
    """Leaky ReLU of slope 0.1, the one nonlinearity between the blocks.

    ``inplace``: for what nobody else holds. Fresh memory for a large map costs many times what the arithmetic does.
    """
    return F.leaky_relu(x, 0.1, inplace)


class ResidualBlock(nn.Module):
    """Convolution, ReLU, convolution, plus the input."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(WIDTH, WIDTH)
        self.conv2 = conv(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Refine features ``(B, 64, h, w)``."""
        if isinstance(self.conv1, WinogradConv2d):
            x = to_planes(x)
        # In place, as in `leaky`.
        refined: Tensor = self.conv2(F.relu_(self.conv1(x))).add_(x)
        return refined


def residual_body(blocks: int = BLOCKS) -> nn.Sequential:
    """So many residual blocks."""
    return nn.Sequential(*(ResidualBlock() for _ in range(blocks)))


class ContentExtractor(nn.Module):
    """Features ``(B, 64, h, w)`` of the LR image itself."""

    def __init__(self, blocks: int = BLOCKS) -> None:
        super().__init__()
        self.conv_first = conv(3, WIDTH)
        self.body = residual_body(blocks)

    def forward(self, lr: Tensor) -> Tensor:
        """Compute the features of RGB ``(B, 3, h, w)`` in [0, 1]."""
        features: Tensor = self.body(leaky(self.conv_first(lr), inplace=True))
        return features


class Restoration(nn.Module):
    """LR image, reference features and matches in, SR image out: 8,865,547 parameters as the paper defines it."""

    def __init__(self, definition: Definition = PAPER) -> None:
        super().__init__()
        self.definition = definition
        self.memory_budget = DEFAULT_BUDGET
        self.allow_inexact_tiles = False
        self.content_extractor = ContentExtractor(definition.blocks[0])
        self.dyn_agg_restore = nn.ModuleDict()
        for (name, _, channels), blocks in zip(LEVELS, definition.blocks[1:], strict=True):
            last = name == "large"
            tail = (
                (conv(WIDTH, 32), nn.LeakyReLU(0.1, inplace=True), conv(32, 3))
                if last
                else (conv(WIDTH, 4 * WIDTH), nn.PixelShuffle(2), nn.LeakyReLU(0.1, inplace=True))
            )
            uses_reference = name in definition.levels
            if uses_reference and definition.dyn_agg:
                self.dyn_agg_restore.update(
                    {
                        f"{name}_offset_conv1": conv(WIDTH + channels, channels),
                        f"{name}_offset_conv2": conv(channels, channels),
                        f"{name}_dyn_agg": DynAgg(channels),
                    }
                )
            fused = WIDTH + channels * uses_reference
            self.dyn_agg_restore.update(
                {
                    f"head_{name}": nn.Sequential(conv(fused, WIDTH), nn.LeakyReLU(0.1, inplace=True)),
                    f"body_{name}": residual_body(blocks),
                    f"tail_{name}": nn.Sequential(*tail),
                }
            )

    @property
    def halo(self) -> int:
        """How far a pixel of the output sees in the features of the largest level, px."""
        # The tail, the body, the head, two convolutions for the offsets and one in DynAgg.
        return 2 + 2 * self.definition.blocks[3] + 1 + 3

    def bodies(self) -> list[nn.Module]:
        """The residual blocks of the content extractor and of the three levels."""
        return [self.content_extractor.body, *(self.dyn_agg_restore[f"body_{name}"] for name, _, _ in LEVELS)]

    def forward(self, lr: Tensor, pre_offsets: Mapping[str, Tensor], ref_features: Mapping[str, Tensor]) -> Tensor:
        """Restore RGB ``(B, 3, 4h, 4w)``, nominally in [0, 1], not clamped.

        lr : ``(B, 3, h, w)`` in [0, 1]. ``pre_offsets`` (from `matching.find_offsets`) and ``ref_features`` (from
        VGG-19, not warped) by layer name: relu3_1 at LR size, relu2_1 at twice, relu1_1 at four times that. Without
        gradients, what ``memory_budget`` does not allow at once is done in tiles.
        """
        x = self.content_extractor(lr)
        for name, layer, _ in LEVELS[:-1]:
            x = self.restore_level(name, x, pre_offsets[layer], ref_features[layer])
        name, layer, _ = LEVELS[-1]
        height, width = x.shape[2:]
        plan = None
        if not torch.is_grad_enabled():
            budget = self.memory_budget // len(lr)
            plan = plan_tiles(height, width, self.halo, budget, allow_inexact=self.allow_inexact_tiles)

        def compute(rows: slice, columns: slice) -> Tensor:
            window = pre_offsets[layer][:, :, rows, columns]
            return self.restore_level(name, x[:, :, rows, columns], window, ref_features[layer], (rows, columns))

        base = F.interpolate(lr, scale_factor=4, mode="bilinear", align_corners=False)
        restored: Tensor = base + run_in_tiles(compute, height, width, plan, self.halo)
        return restored

    def restore_level(
        self,
        name: str,
        x: Tensor,
        pre_offset: Tensor,
        ref_feature: Tensor,
        window: tuple[slice, slice] = (slice(None), slice(None)),
    ) -> Tensor:
        """Fuse the reference features of one level into x ``(B, 64, h, w)``; returns the tail's output.

        ``window``: the rows and columns of the level that x and ``pre_offset`` are; ``ref_feature`` is always whole.
        """
        part = self.dyn_agg_restore
        fused = [x]
        if name in self.definition.levels:
            origin = (window[0].start or 0, window[1].start or 0)
            if self.definition.dyn_agg:
                first = part[f"{name}_offset_conv1"]
                offset_feature = first(join_channels([x, ref_feature[:, :, *window]], first))
                offset_feature = part[f"{name}_offset_conv2"](leaky(offset_feature, inplace=True))
                offset_feature = leaky(offset_feature, inplace=True)
                fused.append(leaky(part[f"{name}_dyn_agg"](ref_feature, offset_feature, pre_offset, origin)))
            else:
                fused.append(copy_matched(ref_feature, pre_offset, origin))
        head = part[f"head_{name}"]
        refined = part[f"body_{name}"](head(join_channels(fused, head.get_submodule("0"))))
        restored: Tensor = part[f"tail_{name}"](refined + (to_planes(x) if refined.is_contiguous() else x))
        return restored


def copy_matched(ref_feature: Tensor, pre_offset: Tensor, origin: tuple[int, int] = (0, 0)) -> Tensor:
    """Features ``(B, C, h, w)`` from where the match of the patch centred on each position points, as they are there.

    pre_offset ``(B, 9, h, w, 2)``, (x, y) px, of which the centre tap is taken; ``origin`` as in `deform_conv`.
    """
    batch, channels, ref_height, ref_width = ref_feature.shape
    height, width = pre_offset.shape[2:4]
    x, y = pre_offset[:, PATCH * PATCH // 2].long().unbind(-1)
    y = (y + torch.arange(origin[0], origin[0] + height, device=y.device)[:, None]).clamp(0, ref_height - 1)
    x = (x + torch.arange(origin[1], origin[1] + width, device=x.device)).clamp(0, ref_width - 1)
    place = (y * ref_width + x).view(batch, 1, -1).expand(-1, channels, -1)
    return ref_feature.flatten(2).gather(2, place).view(batch, channels, height, width)
