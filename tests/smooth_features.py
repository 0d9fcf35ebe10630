"""Feature maps as photographs give them, and what the best match in them is by definition."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from refsr_bench.models.c2matching.exact import PatchPairs


def smooth_maps(*sizes: tuple[int, int], rank: int = 6, channels: int = 64, seed: int = 0) -> list[Tensor]:
    """Unit features of few dimensions and a little noise, as those of photographs are."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(channels, rank, generator=generator)
    maps = []
    for height, width in sizes:
        coarse = torch.randn(1, rank, height // 3 + 2, width // 3 + 2, generator=generator)
        fine = F.interpolate(coarse, (height, width), mode="bicubic")[0]
        noise = 0.05 * torch.randn(channels, height, width, generator=generator)
        maps.append(F.normalize(torch.einsum("cr,rhw->chw", mix, fine) + noise, dim=0))
    return maps


def correlations(feat_in: Tensor, feat_ref: Tensor) -> Tensor:
    """All of them in float64, ``(N_in, N_ref)``."""
    patches_in, patches_ref = (F.unfold(feat[None].double(), 3)[0].T for feat in (feat_in, feat_ref))
    return patches_in @ (patches_ref / (patches_ref.norm(dim=1, keepdim=True) + 1e-5)).T


def assert_is_best(index: Tensor, feat_in: Tensor, feat_ref: Tensor, plain: Tensor | None = None) -> None:
    """Note T of the fixtures: equal where the gap is above 1e-5, elsewhere within 1e-6 of the best."""
    everything = correlations(feat_in, feat_ref) / PatchPairs(feat_in, feat_ref).norm_in.flatten()[:, None]
    top = everything.topk(min(2, everything.shape[1]), dim=1)
    clear = top.values[:, 0] - top.values[:, -1] > 1e-5
    index = index.flatten()
    assert plain is None or torch.equal(index[clear], plain.flatten()[clear])
    assert torch.equal(index[clear], top.indices[clear, 0])
    assert (top.values[:, 0] - everything.gather(1, index[:, None])[:, 0]).max() <= 1e-6
