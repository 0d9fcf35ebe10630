"""3×3 convolutions by Winograd's algorithm on CPUs: fewer multiplications for slightly more rounding.

NNPACK, which PyTorch carries but does not choose by itself, computes 6×6 outputs from 8×8 inputs with 64 instead of 324
products a channel (F(6×6, 3×3), Lavin & Gray 2016). Its float32 results differ from the exact ones by about five times
what those of a direct convolution do, far less than bfloat16's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

FEWEST_CHANNELS = 64
"""With fewer the transforms cost more than they save."""
TILE, TRANSFORMED = 6, 2
"""Rows of outputs made at once, and numbers of a transformed map for each of its own: 64 / 36, rounded up."""
WORKSPACE_BYTES = 200 << 20


class WinogradConv2d(nn.Conv2d):
    """A 3×3 convolution, stride 1, padding 1, that takes the fast way on a CPU, forwards and for its input's gradient.

    It has no second derivative.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``(B, C, h, w)``."""
        if x.device.type != "cpu" or x.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
            return super().forward(x)
        if torch.is_grad_enabled():
            trained: Tensor = _Convolve.apply(x, self.weight, self.bias)  # type: ignore[no-untyped-call]
            return trained
        # The transforms of a whole large map would take many times its memory.
        channels = self.in_channels + self.out_channels
        rows = max(TILE, WORKSPACE_BYTES // (TRANSFORMED * 4 * len(x) * x.shape[3] * channels) // TILE * TILE)
        if rows >= x.shape[2]:
            return _convolve(x, self.weight, self.bias)
        result = x.new_empty(len(x), self.out_channels, *x.shape[2:])
        for first in range(0, x.shape[2], rows):
            strip = slice(max(0, first - 1), first + rows + 1)
            done = _convolve(x[:, :, strip], self.weight, self.bias)
            result[:, :, first : first + rows] = done[:, :, first - strip.start :][:, :, :rows]
        return result


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    fast: Tensor = torch._nnpack_spatial_convolution(to_planes(x), weight, bias, padding=1, stride=1)
    return fast


def to_planes(x: Tensor) -> Tensor:
    """``(B, C, h, w)`` with channels before pixels in memory, copied only if it is not so.

    PyTorch's own copy of a channels-last map takes seven times as long as this one; so do sums of maps in two orders.
    """
    if torch.is_grad_enabled() or not x.is_contiguous(memory_format=torch.channels_last):
        return x.contiguous()
    result = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    for image, planes in zip(x, result, strict=True):
        planes.view(len(planes), -1).copy_(image.permute(1, 2, 0).reshape(-1, len(planes)).T)
    return result


def join_channels(parts: Sequence[Tensor], layer: nn.Module) -> Tensor:
    """Concatenate maps in the memory order that the convolution which is to read them wants."""
    if not torch.is_grad_enabled() and len({part.is_contiguous() for part in parts}) > 1:
        if isinstance(layer, WinogradConv2d):
            parts = [to_planes(part) for part in parts]
        else:
            parts = [part.contiguous(memory_format=torch.channels_last) for part in parts]
    return torch.cat(list(parts), 1)


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _convolve(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        grad = grad.contiguous()
        grad_x = _convolve(grad, weight.flip(2, 3).transpose(0, 1).contiguous()) if of_x else None
        grad_weight = None
        if of_weight:
            # In this layout, not channels-last, where it takes two to three times as long.
            fixed = (None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [False, True, False])
            grad_weight = torch.ops.aten.convolution_backward(grad, x.contiguous(), weight, *fixed)[1]
        return grad_x, grad_weight, grad.sum((0, 2, 3)) if of_bias else None


def has_winograd() -> bool:
    """Whether this processor's direct convolutions are slower: measured for AVX2, others keep what PyTorch chooses."""
    # Asking is needed: it is what initialises NNPACK.
    found = bool(torch._nnpack_available()) and hasattr(torch, "_nnpack_spatial_convolution")
    return found and torch.backends.cpu.get_cpu_capability() == "AVX2"


def use_winograd(net: nn.Module) -> None:
    """Let a network's wide 3×3 convolutions take the fast way where there is one.

    Parameters and state keys stay what they are, apart from their order in memory: not channels-last.
    """
    for module in net.modules():
        if has_winograd() and type(module) is nn.Conv2d and _is_suitable(module):
            module.__class__ = WinogradConv2d
            module.weight.data = module.weight.data.contiguous()


def _is_suitable(layer: nn.Conv2d) -> bool:
    shape = (layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.groups)
    plain = ((3, 3), (1, 1), (1, 1), (1, 1), 1)
    return shape == plain and min(layer.in_channels, layer.out_channels) >= FEWEST_CHANNELS
