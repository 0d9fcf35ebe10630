"""The critic of C2-Matching's GAN training: a strided VGG-style network with a Sigmoid at its end, as released."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def _block(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1),
        nn.BatchNorm2d(channels_out),
        nn.LeakyReLU(0.2),
        nn.Conv2d(channels_out, channels_out, 3, stride=2, padding=1),
        nn.BatchNorm2d(channels_out),
        nn.LeakyReLU(0.2),
    )


class Discriminator(nn.Module):
    """RGB ``(B, 3, H, W)`` in [0, 1] to an opinion in (0, 1), ``(B, 1, 1, 1)``: 5,242,529 parameters.

    A Wasserstein critic should not end in a Sigmoid; the released one does.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        widths = [3, *(width * 2**i for i in range(5))]
        for i in range(5):
            self.add_module(f"conv_block{i + 1}", _block(widths[i], widths[i + 1]))
        self.out_block = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(widths[5], 1024, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(1024, 1, 1),
            nn.Sigmoid(),
        )
        self.apply(_initialise)

    def forward(self, image: Tensor) -> Tensor:
        """Judge pictures; batch statistics couple the samples of a batch while training."""
        for i in range(5):
            image = self.get_submodule(f"conv_block{i + 1}")(image)
        opinion: Tensor = self.out_block(image)
        return opinion


@torch.no_grad()
def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        module.weight.normal_(0, 0.02)
        if module.bias is not None:
            module.bias.zero_()
    elif isinstance(module, nn.BatchNorm2d):
        module.weight.normal_(1, 0.02)
        module.bias.zero_()
