"""TTSR (Yang et al., CVPR 2020): learned textures, hard and soft attention, and integration across scales."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, cat, nn
from torch.nn import functional as F

from refsr_bench.images import resize_bicubic
from refsr_bench.models.blocks import ResidualBlock, conv
from refsr_bench.models.method import Method, Parts
from refsr_bench.models.refsr import SIGNED
from refsr_bench.models.released import released_keys
from refsr_bench.models.tensors import to_tensor
from refsr_bench.models.transfer import find_matches, transfer
from refsr_bench.models.vgg import IMAGENET_MEAN, IMAGENET_STD, VGG19, imagenet_state, vgg_layers
from refsr_bench.schema import Image

TEXTURE_CHANNELS = (256, 128, 64)
"""Of relu3_1, relu2_1 and relu1_1, from LR size to SR size."""


def enlarge(x: Tensor, factor: int) -> Tensor:
    """Bicubic enlargement of features, without antialiasing, as torch does it."""
    return F.interpolate(x, scale_factor=factor, mode="bicubic", align_corners=False)


class Normalise(nn.Module):
    """ImageNet normalisation of RGB in [0, 1], stored as a 1×1 convolution in the released checkpoints."""

    weight: Tensor
    bias: Tensor

    def __init__(self) -> None:
        super().__init__()
        mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
        self.register_buffer("weight", torch.diag(1 / std).view(3, 3, 1, 1))
        self.register_buffer("bias", -mean / std)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``(B, 3, H, W)``."""
        return F.conv2d(x, self.weight, self.bias)


class TextureExtractor(nn.Module):
    """VGG-19 up to relu3_1 in three slices; the layers keep VGG's numbers as keys."""

    def __init__(self) -> None:
        super().__init__()
        layers = list(vgg_layers("relu3_1").values())
        for number, (start, stop) in enumerate(((0, 2), (2, 7), (7, 12)), start=1):
            part = nn.Sequential()
            for i in range(start, stop):
                part.add_module(str(i), layers[i])
            self.add_module(f"slice{number}", part)
        self.sub_mean = Normalise()

    def forward(self, image: Tensor) -> list[Tensor]:
        """Features of an image in [0, 1] after relu3_1, relu2_1 and relu1_1: quarter, half and full size."""
        x = self.sub_mean(image)
        found = []
        for number in (1, 2, 3):
            x = self.get_submodule(f"slice{number}")(x)
            found.append(x)
        return found[::-1]


class Shallow(nn.Module):
    """Convolution with ReLU, residual blocks, convolution, plus what entered the blocks."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.conv_head = conv(3, width)
        self.RBs = nn.ModuleList(ResidualBlock(width) for _ in range(blocks))
        self.conv_tail = conv(width, width)

    def forward(self, lr: Tensor) -> Tensor:
        """Features of an LR image."""
        first = x = F.relu(self.conv_head(lr))
        for block in self.RBs:
            x = block(x)
        found: Tensor = first + self.conv_tail(x)
        return found


class Integration(nn.Module):
    """Every scale receives the others, resized: up by bicubic and 1×1, down by strided convolutions.

    Keys: ``convAB`` brings scale A to scale B (two steps: ``convAB_1``, ``convAB_2``), ``conv_mergeB`` joins.
    """

    def __init__(self, width: int, scales: int) -> None:
        super().__init__()
        self.scales = scales
        for a in range(1, scales + 1):
            for b in range(1, scales + 1):
                for name in self._names(a, b):
                    self.add_module(name, conv(width, width, 1) if b > a else conv(width, width, 3, 2))
            self.add_module(f"conv_merge{a}", conv(scales * width, width))

    @staticmethod
    def _names(a: int, b: int) -> tuple[str, ...]:
        if a == b:
            return ()
        steps = a - b
        return (f"conv{a}{b}",) if steps <= 1 else tuple(f"conv{a}{b}_{i}" for i in range(1, steps + 1))

    def _bring(self, x: Tensor, a: int, b: int) -> Tensor:
        if b > a:
            x = enlarge(x, 2 ** (b - a))
        for name in self._names(a, b):
            x = F.relu(self.get_submodule(name)(x))
        return x

    def forward(self, *maps: Tensor) -> list[Tensor]:
        """Exchange features between maps of 1, 2 (and 4) times the LR size."""
        merged = []
        for b in range(1, self.scales + 1):
            others = [self._bring(maps[a - 1], a, b) for a in range(1, self.scales + 1) if a != b]
            merged.append(F.relu(self.get_submodule(f"conv_merge{b}")(cat([maps[b - 1], *others], 1))))
        return merged


class MergeTail(nn.Module):
    """All three scales at SR size, merged into an image."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv13 = conv(width, width, 1)
        self.conv23 = conv(width, width, 1)
        self.conv_merge = conv(3 * width, width)
        self.conv_tail1 = conv(width, width // 2)
        self.conv_tail2 = conv(width // 2, 3, 1)

    def forward(self, small: Tensor, medium: Tensor, large: Tensor) -> Tensor:
        """An image in [-1, 1]."""
        brought = (F.relu(self.conv13(enlarge(small, 4))), F.relu(self.conv23(enlarge(medium, 2))))
        x = F.relu(self.conv_merge(cat([large, *brought], 1)))
        image: Tensor = self.conv_tail2(self.conv_tail1(x)).clamp(-1, 1)
        return image


class MainNet(nn.Module):
    """The restoration network; stage s works on s scales at once, scale t in it has the keys ``RBst``."""

    def __init__(self, width: int = 64, blocks: tuple[int, int, int, int] = (16, 16, 8, 4)) -> None:
        super().__init__()
        self.SFE = Shallow(width, blocks[0])
        for stage in (1, 2, 3):
            self.add_module(f"conv{stage}{stage}_head", conv(TEXTURE_CHANNELS[stage - 1] + width, width))
            for scale in range(1, stage + 1):
                self.add_module(f"RB{stage}{scale}", nn.ModuleList(ResidualBlock(width) for _ in range(blocks[stage])))
                self.add_module(f"conv{stage}{scale}_tail", conv(width, width))
        self.conv12 = conv(width, 4 * width)
        self.conv23 = conv(width, 4 * width)
        self.ex12 = Integration(width, 2)
        self.ex123 = Integration(width, 3)
        self.merge_tail = MergeTail(width)

    def forward(self, lr: Tensor, attention: Tensor, textures: Sequence[Tensor]) -> Tensor:
        """SR image in [-1, 1] from an LR image in [-1, 1].

        attention ``(B, 1, h, w)``; textures: transferred features at LR size (256 channels), twice (128), four times.
        """
        maps = [self.SFE(lr)]
        for stage in (1, 2, 3):
            if stage > 1:
                up = self.get_submodule(f"conv{stage - 1}{stage}")(maps[-1])
                maps.append(F.relu(F.pixel_shuffle(up, 2)))
            weight = attention if stage == 1 else enlarge(attention, 2 ** (stage - 1))
            head = self.get_submodule(f"conv{stage}{stage}_head")
            maps[-1] = maps[-1] + head(cat([maps[-1], textures[stage - 1]], 1)) * weight
            refined = maps if stage == 1 else (self.ex12, self.ex123)[stage - 2](*maps)
            maps = [x + self._refine(stage, t, r) for t, (x, r) in enumerate(zip(maps, refined, strict=True), 1)]
        sr: Tensor = self.merge_tail(*maps)
        return sr

    def _refine(self, stage: int, scale: int, x: Tensor) -> Tensor:
        blocks = self.get_submodule(f"RB{stage}{scale}")
        for block in blocks.children():
            x = block(x)
        refined: Tensor = self.get_submodule(f"conv{stage}{scale}_tail")(x)
        return refined


class TTSR(nn.Module):
    """The texture extractor and the restoration network, under the release's names."""

    def __init__(self, width: int = 64, blocks: tuple[int, int, int, int] = (16, 16, 8, 4)) -> None:
        super().__init__()
        self.MainNet = MainNet(width, blocks)
        self.LTE = TextureExtractor()

    def forward(self, lr: Tensor, lr_up: Tensor, ref: Tensor, ref_blurred: Tensor) -> Tensor:
        """SR image in [0, 1] ``(1, 3, 4h, 4w)`` from images in [0, 1]; ref sizes are multiples of 4."""
        query, key = self.LTE(lr_up)[0][0], self.LTE(ref_blurred)[0][0]
        matches = find_matches(query, [key], padding=1)
        textures = [
            transfer([feature[0]], matches, scale, padding=1, count_overlaps=False)[None]
            for feature, scale in zip(self.LTE(ref), (1, 2, 4), strict=True)
        ]
        sr: Tensor = self.MainNet(lr * 2 - 1, matches.score[None, None], textures)
        return (sr + 1) / 2


def run(parts: Parts, lr: Image, refs: Sequence[Image]) -> Tensor:
    """Restore with the first reference, as the released code does; several can be stacked into one picture."""
    ref = refs[0]
    blurred = resize_bicubic(resize_bicubic(ref, ref.shape[0] // 4, ref.shape[1] // 4), *ref.shape[:2])
    lr_up = resize_bicubic(lr, 4 * lr.shape[0], 4 * lr.shape[1])
    sr: Tensor = parts.network(*(to_tensor(image, parts.device) for image in (lr, lr_up, ref, blurred)))
    return sr


def start_from_vgg(network: nn.Module, vgg: VGG19) -> None:
    """Give the texture extractor VGG-19's weights, where its training begins."""
    assert isinstance(network, TTSR)
    state = imagenet_state(vgg)
    slices = {key.partition(".")[2]: value for key, value in state.items()}  # "features.5.weight" to "5.weight"
    own = network.LTE.state_dict()
    network.LTE.load_state_dict(
        {key: own[key] if key.startswith("sub_mean") else slices[key.partition(".")[2]] for key in own}
    )


METHODS = {
    "ttsr": Method(
        TTSR,
        released_keys(drop=("LTE_copy.",)),
        f"{SIGNED}, clamped at the end",
        run=run,
        start=start_from_vgg,
    )
}
METHODS["ttsr-rec"] = METHODS["ttsr"]
