"""Correspondences between two feature maps, and the offsets DynAgg reads them as (C2-Matching Eq. 8, section 3.3).

As released: 3×3 patches of descriptors are compared instead of single descriptors, and each of the nine kernel taps
follows the match of its own patch.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor
from torch.nn import functional as F

from refsr_bench.models.c2matching.exact import PATCH, Candidates, PatchPairs, first_equal_patch
from refsr_bench.models.c2matching.search import bound_features, scan, unbounded


def match_patches(
    feat_in: Tensor, feat_ref: Tensor, precision: str = "fp32", *, block_elements: int | None = None
) -> tuple[Tensor, Tensor]:
    """Find for every 3×3 patch of ``feat_in`` the most similar 3×3 patch of ``feat_ref``.

    Similarity is the correlation with the reference patch at unit norm; the returned score also divides by the norm
    of the input patch, which makes it about a cosine. Equal correlations, up to float64, go to the lowest index, and
    so does a patch of zeros. Memory grows with the maps, not with their product. On CUDA with Triton one fused kernel
    names candidates, in float32 or, with ``precision="bf16"``, in bfloat16; they are compared in float32.

    feat_in ``(C, h, w)``, feat_ref ``(C, h', w')``, float32. Returns index and score, ``(h - 2, w - 2)`` each; an
    index counts the reference patches row by row: ``(y', x') = divmod(index, w' - 2)``.

    >>> cells = torch.eye(16).view(16, 4, 4)
    >>> match_patches(cells, cells)[0]
    tensor([[0, 1],
            [2, 3]])
    """
    with torch.inference_mode():
        feat_in, feat_ref = feat_in.detach(), feat_ref.detach()
        pairs = PatchPairs(feat_in, feat_ref)
        first = first_equal_patch(feat_ref)
        distinct = first == torch.arange(first.numel(), device=first.device).view_as(first)
        if feat_in.is_cuda and find_spec("triton") is not None:
            from refsr_bench.models.c2matching.search_triton import find_candidates

            best: Candidates | None = pairs.best_of(find_candidates(pairs, distinct, precision))
        else:
            best = scan(pairs, bound_features(feat_in, feat_ref), distinct, block_elements)
            best = best or scan(pairs, unbounded(feat_in, feat_ref), distinct, block_elements)
        assert best is not None
        index = torch.zeros_like(pairs.norm_in, dtype=torch.long).flatten()
        score = torch.zeros_like(pairs.norm_in).flatten()
        index[best.index_in] = best.index_ref
        score[best.index_in] = best.score
        index, score = index.view_as(pairs.norm_in), score.view_as(pairs.norm_in) / pairs.norm_in
    return index.clone(), score.clone()  # outside inference mode: tensors that training may use


def find_matches(feat_in: Tensor, feat_ref: Tensor, precision: str = "fp32") -> Tensor:
    """Match two batches of feature maps ``(B, C, h, w)``, as `match_patches` does, after bringing cells to unit length.

    The maps may differ in size. Returns the indices ``(B, h - 2, w - 2)``.
    """
    unit_in, unit_ref = F.normalize(feat_in, dim=1), F.normalize(feat_ref, dim=1)
    return torch.stack([match_patches(a, b, precision)[0] for a, b in zip(unit_in, unit_ref, strict=True)])


def find_offsets(feat_in: Tensor, feat_ref: Tensor, precision: str = "fp32") -> dict[str, Tensor]:
    """Match two batches of feature maps ``(B, C, h, w)`` and return the pre-offsets of `expand_offsets`."""
    return expand_offsets(find_matches(feat_in, feat_ref, precision), feat_ref.shape[3] - PATCH + 1)


def expand_offsets(index: Tensor, ref_grid_width: int) -> dict[str, Tensor]:
    """Turn matches into pre-offsets for the nine taps of DynAgg at three scales, (x, y) in px of each scale.

    index : ``(B, h - 2, w - 2)`` from `match_patches`; ``ref_grid_width``: patches in a row of the *reference* (the
    release takes the input's, having made the two equal). Returns relu3_1 ``(B, 9, h, w, 2)``, relu2_1 (twice the
    size and values) and relu1_1 (four times), float32.
    """
    cells = expand_cells(index, ref_grid_width)
    return {layer: enlarge_offsets(cells, scale) for layer, scale in (("relu3_1", 1), ("relu2_1", 2), ("relu1_1", 4))}


def expand_cells(index: Tensor, ref_grid_width: int) -> Tensor:
    """The pre-offsets of `expand_offsets` at the scale of the cells, relu3_1: ``(B, 9, h, w, 2)``."""
    _, height, width = index.shape
    y = torch.arange(height, device=index.device)[:, None]
    x = torch.arange(width, device=index.device)
    flow = torch.stack((index % ref_grid_width - x, index // ref_grid_width - y), dim=-1).to(torch.float32)
    # A patch is indexed by its top-left cell, so the match of the patch whose cell (i, j) lies on a position is
    # found i up and j left of it; where no patch lies so, the offset is zero.
    spare = PATCH - 1
    taps = [F.pad(flow, (0, 0, j, spare - j, i, spare - i)) for i in range(PATCH) for j in range(PATCH)]
    return torch.stack(taps, dim=1)


def enlarge_offsets(cells: Tensor, scale: int) -> Tensor:
    """Pre-offsets ``(B, 9, h, w, 2)`` on a grid that is ``scale`` times as fine, in its px."""
    return cells.repeat_interleave(scale, dim=2).repeat_interleave(scale, dim=3) * scale
