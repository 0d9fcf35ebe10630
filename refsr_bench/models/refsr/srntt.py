"""SRNTT (Zhang et al., CVPR 2019): VGG-19 textures of all references swapped in at three scales."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, cat, nn
from torch.nn import functional as F

from refsr_bench.images import resize_bicubic
from refsr_bench.models.blocks import conv
from refsr_bench.models.recipe import Parts, Recipe, image_weights
from refsr_bench.models.tensors import to_tensor
from refsr_bench.models.transfer import find_matches, transfer
from refsr_bench.schema import Image

LEVELS = (("small", "relu3_1", 256, 16), ("medium", "relu2_1", 128, 8), ("large", "relu1_1", 64, 4))
"""Name, VGG-19 layer, its channels, residual blocks; from LR size to SR size."""


class NormalisedBlock(nn.Module):
    """Convolution, BN, ReLU, convolution, BN, plus the input; the convolutions have no bias."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = conv(width, width, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv(width, width, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """Refine features."""
        refined: Tensor = x + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return refined


class Trunk(nn.Module):
    """A convolution with ReLU, residual blocks, and a normalised convolution, added to what entered the blocks."""

    def __init__(self, channels_in: int, width: int, blocks: int) -> None:
        super().__init__()
        self.head = conv(channels_in, width)
        self.body = nn.Sequential(*(NormalisedBlock(width) for _ in range(blocks)))
        self.merge = nn.Sequential(conv(width, width, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """Refine; with a wider input than output the added part is the head's output."""
        first = F.relu(self.head(x))
        refined: Tensor = first + self.merge(self.body(first))
        return refined


class Content(nn.Module):
    """The content extractor and its own ×4 head, which gives SRNTT's first guess of the SR image."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.trunk = Trunk(3, width, blocks)
        self.up1 = conv(width, 4 * width)
        self.up2 = conv(width, 4 * width)
        self.last = conv(width, 3, 1)

    def forward(self, lr: Tensor) -> tuple[Tensor, Tensor]:
        """Content features at LR size, and an SR image; both from an LR image in [-1, 1]."""
        feature = self.trunk(lr)
        x = F.relu(F.pixel_shuffle(self.up1(feature), 2))
        x = F.relu(F.pixel_shuffle(self.up2(x), 2))
        return feature, self.last(x).tanh()


class Level(nn.Module):
    """One scale of the texture transfer: swapped features are refined beside the content and added to it."""

    def __init__(self, width: int, channels: int, blocks: int, last: bool) -> None:
        super().__init__()
        self.trunk = Trunk(width + channels, width, blocks)
        if last:
            self.tail: nn.Module = nn.Sequential(conv(width, width // 2), conv(width // 2, 3, 1), nn.Tanh())
        else:
            self.tail = nn.Sequential(conv(width, 4 * width), nn.PixelShuffle(2), nn.ReLU())

    def forward(self, x: Tensor, swapped: Tensor) -> Tensor:
        """Fuse features; returns those of the next scale, or the image."""
        first = F.relu(self.trunk.head(cat([x, swapped], 1)))
        fused: Tensor = self.tail(x + self.trunk.merge(self.trunk.body(first)))
        return fused


class SRNTT(nn.Module):
    """Content and texture networks; the two weight files fill the parts of these names."""

    def __init__(self, width: int = 64, blocks: int = 16) -> None:
        super().__init__()
        self.content = Content(width, blocks)
        self.texture = nn.ModuleDict(
            {
                name: Level(width, channels, max(1, count * blocks // 16), name == "large")
                for name, _, channels, count in LEVELS
            }
        )

    def forward(self, lr: Tensor, swapped: dict[str, Tensor]) -> Tensor:
        """SR image in [-1, 1] from an LR image in [-1, 1] and the swapped VGG features by layer name."""
        x: Tensor = self.content(lr)[0]
        for name, layer, *_ in LEVELS:
            x = self.texture[name](x, swapped[layer])
        return x


def run(parts: Parts, lr: Image, refs: Sequence[Image]) -> Tensor:
    """Match bicubically enlarged LR against blurred references, and paste from the sharp ones; all share one pool.

    The release matches an MDSR result of Sun80 and Urban100 instead of the bicubic one.
    """
    if parts.vgg is None:
        raise ValueError("SRNTT needs VGG-19")
    vgg, device = parts.vgg, parts.device
    query = vgg(to_tensor(_enlarge(lr), device))["relu3_1"][0]
    blurred = [_enlarge(resize_bicubic(ref, ref.shape[0] // 4, ref.shape[1] // 4)) for ref in refs]
    matches = find_matches(query, [vgg(to_tensor(ref, device))["relu3_1"][0] for ref in blurred])
    sharp = [vgg(to_tensor(ref, device)) for ref in refs]
    swapped = {
        layer: transfer([features[layer][0] for features in sharp], matches, scale)[None]
        for layer, scale in (("relu3_1", 1), ("relu2_1", 2), ("relu1_1", 4))
    }
    sr: Tensor = parts.network(to_tensor(lr, device) * 2 - 1, swapped)
    return (sr + 1) / 2


def _enlarge(image: Image) -> Image:
    return resize_bicubic(image, 4 * image.shape[0], 4 * image.shape[1])


RECIPES = {
    "srntt": Recipe(
        SRNTT,
        image_weights(ordered=True),
        "RGB in [-1, 1], tanh at the end; VGG-19 as its own file says",
        run=run,
        minimum=3,
        roles=("content", "texture"),
        borrowed=("vgg19",),
    )
}
RECIPES["srntt-rec"] = RECIPES["srntt"]
