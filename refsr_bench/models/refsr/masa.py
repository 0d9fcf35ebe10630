"""MASA-SR (Lu et al., CVPR 2021): coarse block search, dense search in a window, and spatial adaptation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, cat, nn
from torch.nn import functional as F

from refsr_bench.images import resize_bicubic
from refsr_bench.models.blocks import conv, residual_blocks
from refsr_bench.models.c2matching.exact import PATCH
from refsr_bench.models.method import Method, Parts
from refsr_bench.models.released import released_keys
from refsr_bench.models.tensors import to_tensor
from refsr_bench.models.transfer import Matches, find_matches, transfer
from refsr_bench.schema import Image

BLOCK = 8
"""LR pixels on a side of the blocks that are searched as one."""
DILATIONS = (1, 2, 3)
WINDOW = 1.5
"""Side of the window that is searched densely, as a multiple of a block's share of the reference."""


class Encoder(nn.Module):
    """Features at full, half and quarter size; one encoder serves LR, reference and reduced reference."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        for level in (1, 2, 3):
            self.add_module(f"conv_L{level}", conv(3 if level == 1 else width, width, 3, 1 if level == 1 else 2))
            self.add_module(f"blk_L{level}", residual_blocks(width, blocks))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Three maps, the largest first."""
        x, found = image, []
        for level in (1, 2, 3):
            x = self.get_submodule(f"blk_L{level}")(F.relu(self.get_submodule(f"conv_L{level}")(x)))
            found.append(x)
        return found


class SpatialAdaptation(nn.Module):
    """Gives reference features the LR features' mean and deviation, corrected per position."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv_shared = nn.Sequential(conv(2 * width, width), nn.ReLU())
        self.conv_gamma = conv(width, width)
        self.conv_beta = conv(width, width)
        for layer in (self.conv_gamma, self.conv_beta):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, lr: Tensor, ref: Tensor) -> Tensor:
        """Adapted reference features, same size as both inputs."""
        style = self.conv_shared(cat([lr, ref], 1))
        gamma = self.conv_gamma(style) + lr.std((2, 3), keepdim=True)
        beta = self.conv_beta(style) + lr.mean((2, 3), keepdim=True)
        variance, mean = torch.var_mean(ref, (2, 3), correction=0, keepdim=True)
        adapted: Tensor = (ref - mean) / (variance + 1e-5).sqrt() * gamma + beta
        return adapted


class DualResidual(nn.Module):
    """Merges features of one scale with reference features of twice that, each corrected by the other."""

    def __init__(self, width: int) -> None:
        super().__init__()
        for side in ("a", "b"):
            self.add_module(f"conv_down_{side}", conv(width, width, 3, 2))
            self.add_module(f"conv_up_{side}", nn.ConvTranspose2d(width, width, 3, 2, 1, 1))
        self.conv_cat = conv(2 * width, width)

    def _step(self, name: str, x: Tensor) -> Tensor:
        return F.relu(self.get_submodule(name)(x))

    def forward(self, lr: Tensor, ref: Tensor) -> Tensor:
        """Features at the reference's size."""
        corrected_ref = self._step("conv_up_a", self._step("conv_down_a", ref) - lr) + ref
        corrected_lr = self._step("conv_up_b", 2 * lr - self._step("conv_down_b", ref))
        return F.relu(self.conv_cat(cat([corrected_ref, corrected_lr], 1)))


class Decoder(nn.Module):
    """A U-Net over the LR features, then fusion with the transferred features at 1, 2 and 4 times the LR size."""

    def __init__(self, width: int, blocks: tuple[int, ...]) -> None:
        super().__init__()
        for level, count in zip((3, 2, 1), blocks[:3], strict=True):
            self.add_module(f"conv_L{level}", conv(width if level == 3 else 2 * width, width))
            self.add_module(f"blk_L{level}", residual_blocks(width, count))
        self.merge_warp_x1 = conv(2 * width, width)
        self.dram_x2 = DualResidual(width)
        self.dram_x4 = DualResidual(width)
        for scale, count in zip((1, 2, 4), blocks[3:], strict=True):
            self.add_module(f"blk_x{scale}", residual_blocks(width, count))
        self.conv_out = conv(width, 3)
        self.pAda = SpatialAdaptation(width)

    def forward(self, lr: Sequence[Tensor], warped: Sequence[Tensor]) -> Tensor:
        """The residue on top of bicubic; ``lr`` largest first, ``warped`` at 1, 2 and 4 times the LR size."""
        x = lr[2]
        for level in (3, 2, 1):
            x = x if level == 3 else cat([_double(x), lr[level - 1]], 1)
            x = self.get_submodule(f"blk_L{level}")(F.relu(self.get_submodule(f"conv_L{level}")(x)))
        x = self.get_submodule("blk_x1")(F.relu(self.merge_warp_x1(cat([self.pAda(x, warped[0]), x], 1))))
        x = self.get_submodule("blk_x2")(self.dram_x2(x, self.pAda(_double(x), warped[1])))
        x = self.get_submodule("blk_x4")(self.dram_x4(x, self.pAda(_double(x), warped[2])))
        residue: Tensor = self.conv_out(x)
        return residue


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


class MASA(nn.Module):
    """BGR images in [0, 1]; LR sides are multiples of 8, reference sides of 16."""

    def __init__(
        self, width: int = 64, encoder_blocks: int = 4, decoder_blocks: tuple[int, ...] = (2, 2, 2, 12, 8, 4)
    ) -> None:
        super().__init__()
        self.enc = Encoder(width, encoder_blocks)
        self.decoder = Decoder(width, decoder_blocks)

    def forward(self, lr: Tensor, ref: Tensor, ref_down: Tensor) -> Tensor:
        """SR image ``(1, 3, 4h, 4w)``; ``ref_down`` is the reference at a quarter of its size."""
        lr_features = self.enc(lr)
        warped = transfer_blocks(lr_features[0][0], self.enc(ref_down)[0][0], [f[0] for f in self.enc(ref)[::-1]])
        base = F.interpolate(lr, scale_factor=4, mode="bicubic", align_corners=False)
        sr: Tensor = base + self.decoder(lr_features, [w[None] for w in warped])
        return sr


def transfer_blocks(feat_lr: Tensor, feat_down: Tensor, feats_ref: Sequence[Tensor]) -> list[Tensor]:
    """Search each LR block in the reduced reference, then each of its patches in a window around; paste at 3 scales.

    feat_lr ``(C, h, w)``, sides multiples of 8; feat_down ``(C, h', w')``; feats_ref at 1, 2, 4 times its size. The
    pasted features are multiplied by their similarity (soft attention). Ties go to the lowest index.
    """
    _, height, width = feat_lr.shape
    size = [_window(n, count) for n, count in zip(feat_down.shape[1:], (height // BLOCK, width // BLOCK), strict=True)]
    padded = F.pad(feat_lr[None], (1, 1, 1, 1), mode="replicate")[0]
    corners = _search_blocks(padded, feat_down, size)
    warped = [feat_lr.new_zeros(f.shape[0], height * s, width * s) for f, s in zip(feats_ref, (1, 2, 4), strict=True)]
    for (y, x), (ref_y, ref_x) in corners.items():
        block = padded[:, y : y + BLOCK + 2, x : x + BLOCK + 2]
        matches = find_matches(block, [feat_down[:, ref_y : ref_y + size[0], ref_x : ref_x + size[1]]])
        for feature, target, scale in zip(feats_ref, warped, (1, 2, 4), strict=True):
            rows, columns = (slice(n * scale, (n + s) * scale) for n, s in zip((ref_y, ref_x), size, strict=True))
            target[:, y * scale : (y + BLOCK) * scale, x * scale : (x + BLOCK) * scale] = _paste(
                feature[:, rows, columns], matches, scale
            )
    return warped


def _window(length: int, blocks: int) -> int:
    return min(2 * int(length // (2 * blocks) * WINDOW) + 3, length)


@torch.no_grad()
def _search_blocks(padded: Tensor, feat_down: Tensor, size: Sequence[int]) -> dict[tuple[int, int], tuple[int, int]]:
    """Top-left corner of every LR block, and of the window in the reduced reference where it is most similar."""
    channels, height, width = padded.shape
    corners = [(y, x) for y in range(0, height - 2, BLOCK) for x in range(0, width - 2, BLOCK)]
    blocks = torch.stack([padded[:, y : y + BLOCK + 2, x : x + BLOCK + 2] for y, x in corners])
    squares = feat_down.square().sum(0)[None, None]
    ones = squares.new_ones(1, 1, PATCH, PATCH)
    total = padded.new_zeros(len(corners), *feat_down.shape[1:])
    for dilation in DILATIONS:
        # The release takes the middle of a 10 × 10 block to be its cell (5, 5).
        taps = [BLOCK // 2 + 1 + offset * dilation for offset in (-1, 0, 1)]
        patches = blocks[:, :, taps][..., taps].reshape(len(corners), -1)
        kernels = F.normalize(patches, dim=1).view(-1, channels, PATCH, PATCH)
        norms = F.conv2d(squares, ones, padding=dilation, dilation=dilation)[0].sqrt()
        total += F.conv2d(feat_down[None], kernels, padding=dilation, dilation=dilation)[0] / norms.clamp_min(1e-12)
    found = total.flatten(1).argmax(1)
    ref_height, ref_width = feat_down.shape[1:]
    where: dict[tuple[int, int], tuple[int, int]] = {}
    for corner, index in zip(corners, found.tolist(), strict=True):
        y, x = divmod(index, ref_width)
        top, left = y - size[0] // 2, x - size[1] // 2
        where[corner] = (min(max(top, 0), ref_height - size[0]), min(max(left, 0), ref_width - size[1]))
    return where


def _paste(feature: Tensor, matches: Matches, scale: int) -> Tensor:
    pasted = transfer([feature], matches, scale)[:, scale:-scale, scale:-scale]
    attention = F.interpolate(matches.score[None, None], size=pasted.shape[1:], mode="bilinear", align_corners=False)
    return pasted * attention[0]


def run(parts: Parts, lr: Image, refs: Sequence[Image]) -> Tensor:
    """Restore with the first reference; several can be stacked into one picture."""
    ref_down = resize_bicubic(refs[0], refs[0].shape[0] // 4, refs[0].shape[1] // 4)
    sr: Tensor = parts.network(*(to_tensor(image, parts.device).flip(1) for image in (lr, refs[0], ref_down)))
    return sr.flip(1)


METHODS = {"masa": Method(MASA, released_keys(), "BGR in [0, 1]", run=run, multiple=8, minimum=16)}
METHODS["masa-rec"] = METHODS["masa"]
