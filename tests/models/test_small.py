"""The small network's parts: matches, what mends them, sampling along them, and the loss they are learned by."""

from __future__ import annotations

import pytest
import torch

from refsr_bench.models.c2matching import losses
from refsr_bench.models.c2matching.small import match_cells, replace_outliers, sample_at


def test_matches_to_fractions_of_a_cell() -> None:
    """Descriptors of a smooth field, moved by 2.5 cells: the match is between the two nearest."""
    y, x = torch.meshgrid(torch.arange(20.0), torch.arange(24.0), indexing="ij")

    def field(at_x: torch.Tensor, at_y: torch.Tensor) -> torch.Tensor:
        waves = torch.randn(24, 2, generator=torch.Generator().manual_seed(0)) * 0.9
        return torch.cos(waves[:, 0, None, None] * at_x + waves[:, 1, None, None] * at_y)[None]

    found = match_cells(field(x, y), field(x - 2.5, y + 1), temperature=0.02)
    inner = found.flow[0, 3:-3, 3:-3]
    assert inner[..., 0].mean().item() == pytest.approx(10, abs=0.7)
    assert inner[..., 1].mean().item() == pytest.approx(-4, abs=0.3)
    assert found.score.shape == (1, 1, 20, 24)


def test_a_match_that_stands_alone_takes_the_median_around_it() -> None:
    y, x = torch.meshgrid(torch.arange(20.0), torch.arange(30.0), indexing="ij")
    turned = torch.stack([3 * x - 2 * y, 2 * x + y])  # of a picture turned and scaled: linear
    step = torch.where(x < 15, 0.0, 40.0).expand(2, -1, -1)  # what stands in front of something else
    for flow in (turned, step):
        broken = flow.clone()
        broken[:, 10, 10] += 50
        mended = replace_outliers(broken)
        inner = (slice(None), slice(4, -4), slice(4, -4))
        torch.testing.assert_close(mended[inner], flow[inner])


def test_sampling_follows_the_flow() -> None:
    features = torch.rand(1, 3, 20, 30)
    flow = torch.zeros(1, 8, 8, 2)
    flow[..., 0], flow[..., 1] = 5, 2
    assert torch.allclose(sample_at(features, flow), features[:, :, 2:10, 5:13], atol=1e-5)


def test_an_unknown_flow_shows_in_what_is_sampled() -> None:
    flow = torch.zeros(1, 8, 8, 2)
    flow[0, 3, 3, 0] = torch.nan
    flow.requires_grad_()
    sampled = sample_at(torch.rand(1, 3, 20, 30), flow)
    assert sampled.isnan().all()  # before PyTorch, given NaN, ends the process in the backward pass
    sampled.sum().backward()


def test_dense_loss_prefers_the_truth() -> None:
    torch.manual_seed(0)
    features = torch.randn(1, 16, 10, 12)
    identity, phase = torch.eye(3, dtype=torch.float64)[None], torch.tensor([0])
    right = losses.dense_loss(features, features, identity, phase)
    moved = torch.tensor([[[1.0, 0, 8], [0, 1, 0], [0, 0, 1]]], dtype=torch.float64)
    wrong = losses.dense_loss(features, features, moved, phase)
    assert right is not None
    assert wrong is not None
    assert right.item() < 0.1 < 5 < wrong.item()
    shifted = losses.dense_loss(features, features.roll(2, dims=3), moved, phase)
    assert shifted is not None
    assert shifted.item() < 0.1
    outside = torch.tensor([[[1.0, 0, 999], [0, 1, 0], [0, 0, 1]]], dtype=torch.float64)
    assert losses.dense_loss(features, features, outside, phase) is None
