"""Winograd's convolutions against direct ones, and memory that is used again."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from refsr_bench.models import winograd
from refsr_bench.models.c2matching import CARD
from refsr_bench.models.c2matching.extractor import Extractor
from refsr_bench.models.c2matching.inference import C2Matching, Settings
from refsr_bench.models.c2matching.restoration import Restoration
from refsr_bench.models.memory import reused_memory
from refsr_bench.models.vgg import VGG19
from refsr_bench.models.winograd import WinogradConv2d, has_winograd, use_winograd

needs_winograd = pytest.mark.skipif(not has_winograd(), reason="PyTorch has no NNPACK here, or needs none")


def layer(channels_in: int = 64, channels_out: int = 64, **options: int) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(channels_in, channels_out, 3, **{"padding": 1} | options)


@needs_winograd
@pytest.mark.parametrize("size", [(1, 1), (2, 7), (13, 6), (40, 41)])
@pytest.mark.parametrize("batch", [1, 3])
@torch.inference_mode()
def test_equals_the_direct_convolution_in_float64(size: tuple[int, int], batch: int) -> None:
    conv, x = layer(64, 96), torch.randn(batch, 64, *size).to(memory_format=torch.channels_last)
    expected = layer(64, 96).double()(x.double())
    use_winograd(conv.to(memory_format=torch.channels_last))
    assert type(conv) is WinogradConv2d
    assert (conv(x) - expected).abs().max() <= 2e-5 * expected.abs().max()


@torch.inference_mode()
def test_orders_in_memory_change_no_number() -> None:
    planes = torch.randn(2, 5, 7, 9)
    last = planes.to(memory_format=torch.channels_last)
    for x in (planes, last, last[:, :, 2:5], last[:, 1:]):
        assert torch.equal(winograd.to_planes(x), x)
        assert winograd.to_planes(x).is_contiguous()
    fast = layer()
    use_winograd(fast)
    for reader in (layer(), fast):
        joined = winograd.join_channels([planes, last], reader)
        assert torch.equal(joined, torch.cat([planes, planes], 1))
        assert joined.is_contiguous() == isinstance(reader, WinogradConv2d)


@needs_winograd
@pytest.mark.parametrize("rows", [6, 12, 30])
@torch.inference_mode()
def test_a_large_map_is_done_in_strips(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    conv, x = layer(), torch.randn(2, 64, 31, 9)
    use_winograd(conv)
    whole = conv(x)
    monkeypatch.setattr(winograd, "WORKSPACE_BYTES", rows * winograd.TRANSFORMED * 4 * 2 * 9 * 128)
    heights: list[int] = []
    convolve = winograd._convolve

    def record(x: Tensor, *parameters: Tensor) -> Tensor:
        heights.append(x.shape[2])
        return convolve(x, *parameters)

    monkeypatch.setattr(winograd, "_convolve", record)
    torch.testing.assert_close(conv(x), whole, rtol=0, atol=1e-4)
    assert len(heights) > 1
    assert max(heights) <= rows + 2


@needs_winograd
@pytest.mark.parametrize("size", [(2, 7), (33, 18)])
def test_its_gradients_are_those_of_the_direct_convolution_in_float64(size: tuple[int, int]) -> None:
    exact, fast = layer(64, 96).double(), layer(64, 96)
    use_winograd(fast)
    wide = torch.randn(2, 64, *size, dtype=torch.float64, requires_grad=True)
    x = wide.detach().float().requires_grad_()
    downstream = torch.randn(2, 96, *size, dtype=torch.float64)
    torch.autograd.backward(exact(wide), downstream)
    torch.autograd.backward(fast(x), downstream.float())
    for ours, expected in (
        (x.grad, wide.grad),
        *((a.grad, b.grad) for a, b in zip(fast.parameters(), exact.parameters(), strict=True)),
    ):
        assert ours is not None
        assert expected is not None
        assert (ours - expected).abs().max() <= 2e-5 * expected.abs().max()
    assert fast.state_dict().keys() == exact.state_dict().keys()


def test_other_convolutions_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    others = [layer(3), layer(64, 32), layer(stride=2), layer(padding=0), layer(dilation=2), layer(groups=64)]
    use_winograd(nn.ModuleList([*others, nn.Conv2d(64, 64, 1)]))
    assert all(type(module) is nn.Conv2d for module in others)
    monkeypatch.setattr(winograd, "has_winograd", lambda: False)
    conv = layer()
    use_winograd(conv)
    assert type(conv) is nn.Conv2d


@needs_winograd
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_which_layers_of_c2_matching_take_it(precision: str) -> None:
    nets = Extractor(), VGG19(), Restoration()
    C2Matching(CARD, *nets, torch.device("cpu"), Settings(precision))  # type: ignore[arg-type]
    fast = [{name for name, module in net.named_modules() if isinstance(module, WinogradConv2d)} for net in nets]
    assert not fast[0], "the extractor decides which match wins"
    assert bool(fast[1]) == (precision == "bf16")
    assert any("body_large" in name for name in fast[2])
    assert any("offset_conv" in name for name in fast[2]) == (precision == "bf16")


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_large_blocks_are_used_again_and_then_given_back() -> None:
    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(10):
            torch.ones(16 << 20)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    def resident_bytes() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    usual, before = faults(), resident_bytes()
    with reused_memory():
        faults()
        assert faults() < usual / 4
    assert resident_bytes() < before + (32 << 20)
