"""SRNTT (Zhang et al., CVPR 2019): VGG-19 textures of all references swapped in at three scales."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, cat, nn
from torch.nn import functional as F

from refsr_bench.images import resize_bicubic
from refsr_bench.models.blocks import conv
from refsr_bench.models.method import Method, Parts, first_guess
from refsr_bench.models.refsr import SIGNED
from refsr_bench.models.released import released_keys
from refsr_bench.models.sisr.srgan import NormalisedBlock, SRResNet
from refsr_bench.models.tensors import to_tensor
from refsr_bench.models.transfer import find_matches, transfer
from refsr_bench.schema import Image

LEVELS = (("small", "relu3_1", 256, 16), ("medium", "relu2_1", 128, 8), ("large", "relu1_1", 64, 4))
"""Name, VGG-19 layer, its channels, residual blocks; from LR size to SR size."""


class Level(nn.Module):
    """One scale of the texture transfer: swapped features are refined beside the content and added to it."""

    def __init__(self, width: int, channels: int, blocks: int, last: bool) -> None:
        super().__init__()
        self.head = conv(width + channels, width)
        self.body = nn.Sequential(*(NormalisedBlock(width) for _ in range(blocks)))
        self.merge = nn.Sequential(conv(width, width, bias=False), nn.BatchNorm2d(width))
        if last:
            self.tail = nn.Sequential(conv(width, width // 2), conv(width // 2, 3, 1), nn.Tanh())
        else:
            self.tail = nn.Sequential(conv(width, 4 * width), nn.PixelShuffle(2), nn.ReLU())

    def forward(self, x: Tensor, swapped: Tensor) -> Tensor:
        """Fuse features; returns those of the next scale, or the image."""
        first = F.relu(self.head(cat([x, swapped], 1)))
        fused: Tensor = self.tail(x + self.merge(self.body(first)))
        return fused


class SRNTT(nn.Module):
    """Content and texture networks; the two weight files fill the parts of these names.

    The content network's own SR image is not used, only its features.
    """

    def __init__(self, width: int = 64, blocks: int = 16) -> None:
        super().__init__()
        self.content = SRResNet(width, blocks, first=3, last=1, act=nn.ReLU)
        self.texture = nn.ModuleDict(
            {
                name: Level(width, channels, max(1, count * blocks // 16), name == "large")
                for name, _, channels, count in LEVELS
            }
        )

    def forward(self, lr: Tensor, swapped: dict[str, Tensor]) -> Tensor:
        """SR image in [-1, 1] from an LR image in [-1, 1] and the swapped VGG features by layer name."""
        x: Tensor = self.content.features(lr)
        for name, layer, *_ in LEVELS:
            x = self.texture[name](x, swapped[layer])
        return x


def run(parts: Parts, lr: Image, refs: Sequence[Image]) -> Tensor:
    """Match a first guess of SR against blurred references, and paste from the sharp ones; all share one pool."""
    if parts.vgg is None:
        raise ValueError("SRNTT needs VGG-19")
    vgg, device = parts.vgg, parts.device
    query = vgg(first_guess(parts, lr))["relu3_1"][0]
    blurred = [resize_bicubic(resize_bicubic(ref, *(n // 4 for n in ref.shape[:2])), *ref.shape[:2]) for ref in refs]
    matches = find_matches(query, [vgg(to_tensor(ref, device))["relu3_1"][0] for ref in blurred])
    sharp = [vgg(to_tensor(ref, device)) for ref in refs]
    swapped = {
        layer: transfer([features[layer][0] for features in sharp], matches, scale)[None]
        for layer, scale in (("relu3_1", 1), ("relu2_1", 2), ("relu1_1", 4))
    }
    sr: Tensor = parts.network(to_tensor(lr, device) * 2 - 1, swapped)
    return (sr + 1) / 2


METHODS = {
    "srntt": Method(
        SRNTT,
        released_keys(ordered=True),
        f"{SIGNED}, tanh at the end; VGG-19 as its own file says",
        run=run,
        minimum=3,
        roles=("content", "texture"),
        borrowed=("vgg19",),
        takes_guess=True,
    )
}
METHODS["srntt-rec"] = METHODS["srntt"]
