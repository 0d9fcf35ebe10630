"""The search against its definition: same matches, whatever the bounds, blocks, threads, ties and sizes."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from smooth_features import assert_is_best, correlations, smooth_maps
from torch import Tensor
from torch.nn import functional as F

from refsr_bench.images import load_image, resize_bicubic
from refsr_bench.models.c2matching import search
from refsr_bench.models.c2matching.exact import Candidates, PatchPairs, first_equal_patch
from refsr_bench.models.c2matching.matching import match_patches
from refsr_bench.models.c2matching.plain import match_plainly
from refsr_bench.models.c2matching.search import bound_features
from refsr_bench.models.c2matching.search_triton import count_shares
from refsr_bench.models.tensors import to_tensor
from refsr_bench.models.vgg import VGG19


@pytest.mark.parametrize("block_elements", [1, 2000, None])
@pytest.mark.parametrize(("size_in", "size_ref"), [((12, 17), (9, 23)), ((3, 20), (11, 3)), ((3, 3), (3, 3))])
def test_bounded_search_equals_the_definition(
    size_in: tuple[int, int], size_ref: tuple[int, int], block_elements: int | None
) -> None:
    feat_in, feat_ref = smooth_maps(size_in, size_ref)
    assert bound_features(feat_in, feat_ref).feat_in.shape[0] < 64, "the bounds are to be tried here"
    index, score = match_patches(feat_in, feat_ref, block_elements=block_elements)
    assert_is_best(index, feat_in, feat_ref)
    plain_index, plain_score = match_plainly(feat_in, feat_ref)
    assert torch.equal(index, plain_index)
    torch.testing.assert_close(score, plain_score, rtol=0, atol=2e-6)


def test_a_bound_is_above_the_correlation_and_not_by_more_than_it_says() -> None:
    feat_in, feat_ref = smooth_maps((8, 9), (7, 10))
    bounds = bound_features(feat_in, feat_ref)
    exact = correlations(feat_in, feat_ref)
    patches = [F.unfold(feat[None].double(), 3)[0].T for feat in (bounds.feat_in, bounds.feat_ref)]
    upper = patches[0] @ patches[1].T / PatchPairs(feat_in, feat_ref).norm_ref.flatten()
    slack = bounds.slack_in.flatten()[:, None] * bounds.slack_ref.flatten()
    assert (upper - exact).min() > -1e-5
    assert (upper - exact - slack).max() < 1e-5
    assert (upper - exact).mean() > 1e-4, "a bound that is no bound tests nothing"


def test_features_of_many_dimensions_are_scanned_whole() -> None:
    generator = torch.Generator().manual_seed(1)
    feat_in, feat_ref = (torch.randn(32, 10, 9, generator=generator) for _ in range(2))
    bounds = bound_features(feat_in, feat_ref)
    assert bounds.feat_in is feat_in
    assert bounds.slack_in.abs().max() == bounds.slack_ref.abs().max() == 0
    assert_is_best(match_patches(feat_in, feat_ref)[0], feat_in, feat_ref)


def test_loose_bounds_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    feat_in, feat_ref = smooth_maps((12, 13), (11, 14))
    expected = match_patches(feat_in, feat_ref)
    monkeypatch.setattr(search, "LOOSE", 0)
    pairs, bounds = PatchPairs(feat_in, feat_ref), bound_features(feat_in, feat_ref)
    assert search.scan(pairs, bounds, torch.ones_like(pairs.norm_ref, dtype=torch.bool)) is None
    assert all(torch.equal(a, b) for a, b in zip(match_patches(feat_in, feat_ref), expected, strict=True))


def test_what_all_cells_share_costs_no_channels() -> None:
    """Untrained networks give features that hardly differ; their bounds must not drown in the common part."""
    feat_in, feat_ref = (F.normalize(30 + feat, dim=0) for feat in smooth_maps((12, 15), (13, 14)))
    bounds = bound_features(feat_in, feat_ref)
    assert bounds.feat_in.shape[0] < 64
    assert bounds.slack_in.max() * bounds.slack_ref.max() < 1e-3
    assert_is_best(match_patches(feat_in, feat_ref)[0], feat_in, feat_ref)


@pytest.mark.parametrize("threads", [1, 3])
def test_neither_threads_nor_early_settling_change_a_bit(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    feat_in, feat_ref = smooth_maps((14, 13), (13, 15), rank=3)
    expected = match_patches(feat_in, feat_ref)
    monkeypatch.setattr(search, "CANDIDATES_PER_PATCH", 0)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = match_patches(feat_in, feat_ref, block_elements=500)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_many_equal_and_zero_patches() -> None:
    feat_in, feat_ref = smooth_maps((9, 9), (9, 9))
    feat_ref[:, :, 5:] = 0
    feat_ref[:, 5:] = 0
    feat_in[:, 4:] = 0
    first = first_equal_patch(feat_ref)
    assert (first[5:] == first[5, 0]).all()
    index, score = match_patches(feat_in, feat_ref)
    assert (index[4:] == 0).all()
    assert (score[4:] == 0).all()
    assert_is_best(index, feat_in, feat_ref)


def test_ties_between_unequal_patches_go_to_the_lowest_index_in_float64() -> None:
    # Two patches of the reference hold the same numbers in other channels: float32 sums may differ in the last bit.
    generator = torch.Generator().manual_seed(5)
    feat_ref = torch.zeros(16, 3, 12)
    values = torch.rand(8, 3, 3, generator=generator)
    feat_ref[:8, :, 1:4], feat_ref[8:, :, 8:11] = values, values
    feat_in = torch.cat([values, values])
    assert match_patches(feat_in, feat_ref)[0].tolist() == [[1]]


def test_results_can_be_trained_through() -> None:
    feat_in, feat_ref = smooth_maps((5, 5), (5, 5))
    _, score = match_patches(feat_in.requires_grad_(), feat_ref)
    weight = torch.ones((), requires_grad=True)
    (weight * score).sum().backward()
    assert weight.grad is not None


def real_pairs(dev_data: Path) -> list[tuple[Path, Path]]:
    folders = dev_data / "refsr_pairs"
    cathedral, street = (sorted((folders / name).glob("*.jpg")) for name in ("sacre_coeur", "lund"))
    pairs = list(pairwise(cathedral)) + list(zip(street, street[2:], strict=False))[:11]
    assert len(pairs) == 20
    return pairs


@pytest.fixture(scope="module")
def vgg_features(dev_data: Path):  # type: ignore[no-untyped-def]
    """Unit conv3_1 features of real weights, what an extractor starts from."""
    from refsr_bench.models.vgg import load_vgg19
    from refsr_bench.models.weights import load_checkpoint

    path = dev_data / "weights/vgg19_conv1_1-conv3_1_float32_bgr_caffe.npz"
    net: VGG19 = load_vgg19(load_checkpoint(path), str(path))

    def features(image) -> Tensor:  # type: ignore[no-untyped-def]
        x = to_tensor(image).flip(1) * 255 - net.mean
        for layer in net.features[:-1]:
            x = layer(x)
        return F.normalize(x, dim=1)[0]

    return features


def real_features(hr_path: Path, ref_path: Path, side: int, features) -> tuple[Tensor, Tensor]:  # type: ignore[no-untyped-def]
    """Those of LR and reference, the longest side of the larger picture being ``side`` px."""
    hr, ref = (load_image(path) for path in (hr_path, ref_path))
    shrink = side / max(*hr.shape, *ref.shape)
    hr, ref = (resize_bicubic(image, *(4 * math.ceil(n * shrink / 4) for n in image.shape[:2])) for image in (hr, ref))
    lr_up = resize_bicubic(resize_bicubic(hr, hr.shape[0] // 4, hr.shape[1] // 4), *hr.shape[:2])
    return features(lr_up), features(ref)


@torch.inference_mode()
def test_twenty_real_pairs(dev_data: Path, vgg_features) -> None:  # type: ignore[no-untyped-def]
    for hr_path, ref_path in real_pairs(dev_data):
        feat_in, feat_ref = real_features(hr_path, ref_path, 160, vgg_features)
        assert bound_features(feat_in, feat_ref).feat_in.shape[0] < 128
        found, plain = match_patches(feat_in, feat_ref)[0], match_plainly(feat_in, feat_ref)[0]
        assert_is_best(found, feat_in, feat_ref, plain)


def candidates_in_bf16(pairs: PatchPairs) -> Candidates:
    """What the CUDA kernel names with ``precision="bf16"``: the best of each part of the reference."""
    rows = [
        F.unfold(cells.permute(2, 0, 1)[None].bfloat16().float(), 3)[0].T for cells in (pairs.cells_in, pairs.cells_ref)
    ]
    scores = rows[0] @ rows[1].T / pairs.norm_ref.flatten()
    shares = count_shares(pairs.norm_ref.shape[1])
    best = [scores[:, i::shares].argmax(1) * shares + i for i in range(shares)]
    index_ref = torch.cat(best)
    index_in = torch.arange(len(scores)).repeat(len(best))
    unknown = torch.full(index_ref.shape, torch.nan)
    return Candidates(index_in, index_ref, torch.full_like(unknown, torch.inf), unknown)


@pytest.mark.parametrize("side", [160, pytest.param(500, marks=pytest.mark.slow)])
@torch.inference_mode()
def test_candidates_in_bf16_compared_in_float32_give_the_same_matches(dev_data: Path, vgg_features, side: int) -> None:  # type: ignore[no-untyped-def]
    equal, total = 0, 0
    for hr_path, ref_path in real_pairs(dev_data)[:: 1 if side == 160 else 10]:
        feat_in, feat_ref = real_features(hr_path, ref_path, side, vgg_features)
        best = PatchPairs(feat_in, feat_ref)
        best = best.best_of(candidates_in_bf16(best))
        found = torch.empty_like(best.index_ref).scatter_(0, best.index_in, best.index_ref)
        equal += int((found == match_patches(feat_in, feat_ref)[0].flatten()).sum())
        total += len(found)
    print(f"{equal} of {total} matches are those of float32")
    assert equal >= 0.999 * total
