"""CrossNet (Zheng et al., ECCV 2018): a flow network warps the reference's features at four scales."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, cat, nn

from refsr_bench.images import pad_zero, resize_bicubic
from refsr_bench.models.blocks import sample_inside
from refsr_bench.models.method import Method, Parts, first_guess
from refsr_bench.models.refsr import UNIT
from refsr_bench.models.released import released_keys
from refsr_bench.models.tensors import to_tensor
from refsr_bench.schema import Image

CONTRACTING = (
    ("conv1", 64, 7, 2),
    ("conv2", 128, 5, 2),
    ("conv3", 256, 5, 2),
    ("conv3_1", 256, 3, 1),
    ("conv4", 512, 3, 2),
    ("conv4_1", 512, 3, 1),
    ("conv5", 512, 3, 2),
    ("conv5_1", 512, 3, 1),
    ("conv6", 1024, 3, 2),
    ("conv6_1", 1024, 3, 1),
)
"""Name, channels, kernel and stride; at a width other than 64 the channels shrink in proportion."""


def block(channels_in: int, channels: int, size: int, stride: int, act: type[nn.Module] | None) -> nn.Sequential:
    """A convolution and its activation, stored with the key ``0``."""
    layers: list[nn.Module] = [nn.Conv2d(channels_in, channels, size, stride, size // 2)]
    if act is not None:
        layers.append(nn.LeakyReLU(0.1) if act is nn.LeakyReLU else act())
    return nn.Sequential(*layers)


def up(channels_in: int, channels: int, act: type[nn.Module]) -> nn.Sequential:
    """A transposed convolution that doubles the size, and its activation."""
    deconv = nn.ConvTranspose2d(channels_in, channels, 4, 2, 1)
    return nn.Sequential(deconv, nn.LeakyReLU(0.1) if act is nn.LeakyReLU else act())


class FlowNet(nn.Module):
    """Flow from the enlarged LR image to the reference, (x, y) px of each scale, at full, 1/2, 1/4 and 1/8 size."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        sizes, channels = {}, 6
        for name, full, size, stride in CONTRACTING:
            wide = full * width // 64
            self.add_module(name, block(channels, wide, size, stride, nn.LeakyReLU))
            sizes[name] = channels = wide
        for level in range(6, 0, -1):
            self.add_module(f"flow{level}", block(channels, 2, 3, 1, None))
            self.add_module(f"flow{level}_up", nn.ConvTranspose2d(2, 2, 4, 2, 1))
            wide = {5: 256, 4: 256, 3: 128}.get(level - 1, 64) * width // 64
            self.add_module(f"deconv{level - 1}", up(channels, wide, nn.LeakyReLU))
            channels = wide + 2 + (sizes[self._skip(level - 1)] if level > 1 else 3)
        self.concat0_conv1 = block(channels, 16, 7, 1, nn.SELU)
        self.concat0_conv2 = block(16, 16, 7, 1, nn.SELU)
        self.flow_12 = block(16, 2, 3, 1, None)

    @staticmethod
    def _skip(level: int) -> str:
        return f"conv{level}_1" if level >= 3 else f"conv{level}"

    def forward(self, lr_up: Tensor, ref: Tensor) -> list[Tensor]:
        """Four flows, the largest first; image sides are multiples of 64."""
        made = {}
        x = cat([lr_up, ref], 1)
        for name, *_ in CONTRACTING:
            made[name] = x = self.get_submodule(name)(x)
        flows = []
        for level in range(6, 0, -1):
            flow = self.get_submodule(f"flow{level}")(x)
            flows.append(flow)
            skip = made[self._skip(level - 1)] if level > 1 else ref
            x = cat([skip, self.get_submodule(f"deconv{level - 1}")(x), self.get_submodule(f"flow{level}_up")(flow)], 1)
        flows.append(self.flow_12(self.concat0_conv2(self.concat0_conv1(x))))
        return flows[:-5:-1]


class Encoder(nn.Module):
    """Features at full, 1/2, 1/4 and 1/8 size, for the SR guess and the reference alike."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer_f = block(3, width, 5, 1, nn.SELU)
        for level in (1, 2, 3, 4):
            self.add_module(f"conv{level}", block(width, width, 5, 1 if level == 1 else 2, nn.SELU))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Four maps, the largest first."""
        x, found = self.layer_f(image), []
        for level in (1, 2, 3, 4):
            x = self.get_submodule(f"conv{level}")(x)
            found.append(x)
        return found


class Decoder(nn.Module):
    """From 1/8 size up, each scale joined by both sets of features."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.warp_deconv4 = up(2 * width, width, nn.SELU)
        self.warp_deconv3 = up(3 * width, width, nn.SELU)
        self.warp_deconv2 = up(3 * width, width, nn.SELU)
        self.post_fusion1 = block(3 * width, width, 5, 1, nn.SELU)
        self.post_fusion2 = block(width, width, 5, 1, nn.SELU)
        """In the checkpoints, but the release does not use its result; neither does `forward`."""
        self.final = block(width, 3, 5, 1, None)

    def forward(self, own: Sequence[Tensor], warped: Sequence[Tensor]) -> Tensor:
        """The SR image."""
        x = self.warp_deconv4(cat([own[3], warped[3]], 1))
        x = self.warp_deconv3(cat([x, own[2], warped[2]], 1))
        x = self.warp_deconv2(cat([x, own[1], warped[1]], 1))
        sr: Tensor = self.final(self.post_fusion1(cat([x, own[0], warped[0]], 1)))
        return sr


def warp(feature: Tensor, flow: Tensor) -> Tensor:
    """Read ``feature`` bilinearly at every position plus ``flow`` ``(B, 2, h, w)``, (x, y) px, held inside the map."""
    height, width = feature.shape[2:]
    y = torch.arange(height, device=flow.device).view(1, -1, 1) + flow[:, 1]
    x = torch.arange(width, device=flow.device).view(1, 1, -1) + flow[:, 0]
    grid = torch.stack([2 * x / max(width - 1, 1) - 1, 2 * y / max(height - 1, 1) - 1], -1)
    return sample_inside(feature, grid)


class CrossNet(nn.Module):
    """Flow network, encoder and decoder, under the release's names; images in [0, 1], sides multiples of 64."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.FlowNet = FlowNet(width)
        self.Encoder = Encoder(width)
        self.UNet_decoder_2 = Decoder(width)

    def forward(self, lr_up: Tensor, guess: Tensor, ref: Tensor) -> Tensor:
        """SR image from the enlarged LR (for the flow), a first guess of SR (for the content) and the reference."""
        flows = self.FlowNet(lr_up, ref)
        warped = [warp(feature, flow) for feature, flow in zip(self.Encoder(ref), flows, strict=True)]
        sr: Tensor = self.UNet_decoder_2(self.Encoder(guess), warped)
        return sr


def run(parts: Parts, lr: Image, refs: Sequence[Image]) -> Tensor:
    """Restore with the first reference, cut or filled with black to the SR size."""
    height, width = 4 * lr.shape[0], 4 * lr.shape[1]
    lr_up = to_tensor(resize_bicubic(lr, height, width), parts.device)
    ref = to_tensor(pad_zero(refs[0][:height, :width], height, width), parts.device)
    sr: Tensor = parts.network(lr_up, first_guess(parts, lr), ref)
    return sr


METHODS = {"crossnet": Method(CrossNet, released_keys(), UNIT, run=run, multiple=16, takes_guess=True)}
