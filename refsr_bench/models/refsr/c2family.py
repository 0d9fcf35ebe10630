"""What AMSA, DATSR and MRefSR share with C2-Matching: pictures to matches and VGG-19 features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from refsr_bench.images import pad_zero, resize_bicubic
from refsr_bench.models.blocks import conv, residual_blocks
from refsr_bench.models.c2matching.exact import PATCH
from refsr_bench.models.c2matching.matching import expand_offsets, match_patches
from refsr_bench.models.c2matching.restoration import BLOCKS, WIDTH, leaky
from refsr_bench.models.deform import DynAgg
from refsr_bench.models.method import SCALE, Parts
from refsr_bench.models.tensors import to_tensor
from refsr_bench.schema import Image

LEVELS = (("small", "relu3_1", 256, 1), ("medium", "relu2_1", 128, 2), ("large", "relu1_1", 64, 4))
"""Name, VGG-19 layer, its channels, and size relative to LR."""

GROUPS = 8
"""Groups of channels in DynAgg, each with offsets of its own."""


class Correspondence(NamedTuple):
    """One reference as the networks take it, at the three layers of VGG-19."""

    pre_offsets: dict[str, Tensor]
    """``(1, 9, h, w, 2)``, (x, y) px, as C2-Matching's DynAgg takes them."""
    flows: dict[str, Tensor]
    """``(1, h, w, 2)``: the match of the patch centred on each position, zero where there is none."""
    similarity: dict[str, Tensor]
    """``(1, 1, h, w)``: its cosine, zero where there is none."""
    features: dict[str, Tensor]


def correspond(
    parts: Parts, lr: Image, refs: Sequence[Image], features_of: Image | None = None
) -> list[Correspondence]:
    """Match an LR picture, enlarged, against references of exactly SR size.

    ``features_of`` lends its VGG-19 features to all of them in place of their own (AMSA's scaled references).
    """
    if parts.extractor is None or parts.vgg is None:
        raise ValueError("the contrastive extractor and VGG-19 are needed")
    lr_up = to_tensor(resize_bicubic(lr, SCALE * lr.shape[0], SCALE * lr.shape[1]), parts.device)
    feat_in = F.normalize(parts.extractor.feature_extraction_image1(lr_up)[0], dim=0)
    lent = parts.vgg(to_tensor(features_of, parts.device)) if features_of is not None else None
    found = []
    for ref in refs:
        image = to_tensor(ref, parts.device)
        feat_ref = F.normalize(parts.extractor.feature_extraction_image2(image)[0], dim=0)
        index, score = match_patches(feat_in, feat_ref)
        pre_offsets = expand_offsets(index[None], feat_ref.shape[2] - PATCH + 1)
        # Tap 4 follows the patch that is centred on the position.
        flows = {layer: offsets[:, PATCH * PATCH // 2] for layer, offsets in pre_offsets.items()}
        centred = F.pad(score[None, None], (1, 1, 1, 1))
        similarity = {
            layer: centred.repeat_interleave(scale, 2).repeat_interleave(scale, 3) for _, layer, _, scale in LEVELS
        }
        found.append(Correspondence(pre_offsets, flows, similarity, parts.vgg(image) if lent is None else lent))
    return found


def common_size(lr: Image, refs: Sequence[Image], multiple: int = 1) -> tuple[Image, list[Image]]:
    """Pad with zeros, at the bottom and right, until every reference is exactly 4 times the LR's size."""
    height, width = (
        -(-max(lr.shape[axis], *(-(-ref.shape[axis] // SCALE) for ref in refs)) // multiple) * multiple
        for axis in (0, 1)
    )
    return pad_zero(lr, height, width), [pad_zero(ref, SCALE * height, SCALE * width) for ref in refs]


def levels(width: int) -> list[tuple[str, str, int]]:
    """Name, VGG-19 layer, and how many of its channels a network of this width takes: all of them at 64."""
    return [(name, layer, channels * width // WIDTH) for name, layer, channels, _ in LEVELS]


def c2_parts(blocks: int = BLOCKS, width: int = WIDTH) -> tuple[nn.ModuleDict, nn.ModuleDict]:
    """C2-Matching's content extractor and restoration levels under the release's keys.

    Smaller than released with fewer residual blocks a body, or with a ``width`` below 64, which narrows the reference's
    features alike and leaves DynAgg's groups as many channels as they have.
    """
    groups = max(1, GROUPS * width // WIDTH)
    restore: dict[str, nn.Module] = {}
    for name, _, channels in levels(width):
        up = (conv(width, 4 * width), nn.PixelShuffle(2), nn.LeakyReLU(0.1))
        last = (conv(width, width // 2), nn.LeakyReLU(0.1), conv(width // 2, 3))
        restore |= {
            f"{name}_offset_conv1": conv(width + channels, channels),
            f"{name}_offset_conv2": conv(channels, channels),
            f"{name}_dyn_agg": DynAgg(channels, groups),
            f"head_{name}": nn.Sequential(conv(width + channels, width), nn.LeakyReLU(0.1)),
            f"body_{name}": residual_blocks(width, blocks),
            f"tail_{name}": nn.Sequential(*(last if name == "large" else up)),
        }
    content = nn.ModuleDict({"conv_first": conv(3, width), "body": residual_blocks(width, blocks)})
    return content, nn.ModuleDict(restore)


def content_features(parts: nn.ModuleDict, lr: Tensor) -> Tensor:
    """Features of the LR picture itself, ``(1, width, h, w)``."""
    features: Tensor = parts["body"](leaky(parts["conv_first"](lr)))
    return features
