from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from refsr_bench.models.deform import DynAgg, deform_conv


def deform_conv_slowly(feature: Tensor, offset: Tensor, mask: Tensor, weight: Tensor) -> Tensor:
    """The definition, one multiplication at a time."""
    batch, channels, height, width = feature.shape
    groups = mask.shape[1] // 9
    out = torch.zeros(batch, weight.shape[0], height, width, dtype=feature.dtype)

    def value(b: int, c: int, row: int, column: int) -> float:
        return feature[b, c, row, column].item() if 0 <= row < height and 0 <= column < width else 0.0

    for b in range(batch):
        for p in range(height):
            for q in range(width):
                for c in range(channels):
                    g = c // (channels // groups)
                    for tap in range(9):
                        y = p + tap // 3 - 1 + offset[b, (g * 9 + tap) * 2, p, q].item()
                        x = q + tap % 3 - 1 + offset[b, (g * 9 + tap) * 2 + 1, p, q].item()
                        top, left = math.floor(y), math.floor(x)
                        sample = sum(
                            (1 - abs(y - row)) * (1 - abs(x - column)) * value(b, c, row, column)
                            for row in (top, top + 1)
                            for column in (left, left + 1)
                        )
                        sample *= mask[b, g * 9 + tap, p, q].item()
                        out[b, :, p, q] += weight[:, c, tap // 3, tap % 3] * sample
    return out


def random_arguments(groups: int, spread: float, size: tuple[int, int] = (4, 5)) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(groups)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    feature, weight = noise(2, 4, *size), noise(3, 4, 3, 3)
    return feature, noise(2, groups * 18, *size) * spread, noise(2, groups * 9, *size).sigmoid(), weight


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("spread", [0.5, 4.0])
def test_equals_the_definition(groups: int, spread: float) -> None:
    arguments = random_arguments(groups, spread)
    torch.testing.assert_close(deform_conv(*arguments), deform_conv_slowly(*arguments), rtol=0, atol=1e-12)


def test_equals_the_definition_at_whole_pixels_in_and_outside() -> None:
    feature, offset, mask, weight = random_arguments(2, 3.0)
    arguments = (feature, offset.round(), mask, weight)
    torch.testing.assert_close(deform_conv(*arguments), deform_conv_slowly(*arguments), rtol=0, atol=1e-12)


def test_without_offsets_is_a_convolution() -> None:
    feature, offset, mask, weight = random_arguments(2, 1.0, (6, 7))
    bias = torch.arange(3, dtype=torch.float64)
    plain = torch.nn.functional.conv2d(feature, weight, bias, padding=1)
    torch.testing.assert_close(deform_conv(feature, offset * 0, torch.ones_like(mask), weight, bias), plain)


def test_gradients_are_those_of_finite_differences() -> None:
    arguments = [a.requires_grad_() for a in random_arguments(2, 1.5, (2, 2))]
    bias = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(deform_conv, (*arguments, bias))


def test_derivative_at_whole_pixels_is_the_one_towards_larger_coordinates() -> None:
    # One channel, one non-zero tap in the middle: the output is the sample itself.
    feature = torch.tensor([[1.0, 10.0, 100.0], [0.0] * 3, [0.0] * 3]).view(1, 1, 3, 3)
    weight = torch.zeros(1, 1, 3, 3)
    weight[0, 0, 1, 1] = 1
    offset = torch.zeros(1, 18, 3, 3, requires_grad=True)
    deform_conv(feature, offset, torch.ones(1, 9, 3, 3), weight)[0, 0, 0].sum().backward()
    assert offset.grad is not None
    assert offset.grad[0, 9, 0].tolist() == [9.0, 90.0, -100.0]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30, -1e30])
def test_absurd_offsets_never_read_outside_the_map(value: float) -> None:
    feature, offset, mask, weight = random_arguments(2, 1.0)
    assert deform_conv(feature, torch.full_like(offset, value), mask, weight).shape == (2, 3, 4, 5)


def test_pre_offsets_are_points_x_y() -> None:
    layer = DynAgg(8)
    pre_offset = torch.zeros(1, 9, 4, 4, 2)
    pre_offset[0, 3, ..., 0] = 5  # x of tap 3
    pre_offset[0, 3, ..., 1] = 7  # y of tap 3
    offset, mask = layer.offsets_and_mask(torch.zeros(1, 8, 4, 4), pre_offset)
    by_group = offset.view(8, 9, 2, 4, 4)
    assert (by_group[:, 3, 0] == 7).all()
    assert (by_group[:, 3, 1] == 5).all()
    assert by_group.abs().sum() == 8 * 16 * (5 + 7)
    assert (mask == 0.5).all()


def test_backwards_too_it_keeps_less_than_nine_samples_of_every_channel() -> None:
    channels, size, kept = 64, 24, {}
    feature = torch.randn(1, channels, size, size, requires_grad=True)
    offset = torch.randn(1, 8 * 18, size, size, requires_grad=True)
    mask = torch.rand(1, 8 * 9, size, size, requires_grad=True)
    weight = torch.randn(channels, channels, 3, 3, requires_grad=True)

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = deform_conv(feature, offset, mask, weight)
    own = sum(a.untyped_storage().nbytes() for a in (feature, offset, mask, weight))
    assert sum(kept.values()) - own < 9 * feature.nbytes
    out.sum().backward()
    assert all(a.grad is not None for a in (feature, offset, mask, weight))


def test_a_window_of_the_output_is_that_part_of_it() -> None:
    feature, offset, mask, weight = random_arguments(2, 3.0, (6, 7))
    whole = deform_conv(feature, offset, mask, weight)
    rows, columns = slice(2, 5), slice(3, 7)
    part = deform_conv(feature, offset[:, :, rows, columns], mask[:, :, rows, columns], weight, origin=(2, 3))
    torch.testing.assert_close(part, whole[:, :, rows, columns])
