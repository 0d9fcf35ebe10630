"""Correspondences between two feature maps, and the offsets DynAgg reads them as (C2-Matching Eq. 8, section 3.3).

As released: 3×3 patches of descriptors are compared instead of single descriptors, and each of the nine kernel taps
follows the match of its own patch.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor
from torch.nn import functional as F

from refsr_bench.models.c2matching.search import PATCH, Matches, patch_norms, scan

CANDIDATE_PAIRS = 1 << 12
"""Pairs of patches compared at once when candidates are."""


def match_patches(
    feat_in: Tensor, feat_ref: Tensor, precision: str = "fp32", *, block_elements: int | None = None
) -> tuple[Tensor, Tensor]:
    """Find for every 3×3 patch of ``feat_in`` the most similar 3×3 patch of ``feat_ref``.

    Similarity is the correlation with the reference patch at unit norm; the returned score also divides by the norm
    of the input patch, which makes it about a cosine. Equal patches go to the lowest index. Memory grows with the
    maps, not with their product. On CUDA with Triton, candidates are found by one fused kernel, in three passes of
    TF32 or, with ``precision="bf16"``, in bfloat16, and compared again in float32.

    feat_in ``(C, h, w)``, feat_ref ``(C, h', w')``, float32. Returns index and score, ``(h - 2, w - 2)`` each; an
    index counts the reference patches row by row: ``(y', x') = divmod(index, w' - 2)``.

    >>> cells = torch.eye(16).view(16, 4, 4)
    >>> match_patches(cells, cells)[0]
    tensor([[0, 1],
            [2, 3]])
    """
    with torch.inference_mode():
        feat_in, feat_ref = feat_in.detach(), feat_ref.detach()
        if feat_in.device.type == "cuda" and find_spec("triton") is not None:
            from refsr_bench.models.c2matching.search_triton import find_candidates

            best = compare_candidates(feat_in, feat_ref, find_candidates(feat_in, feat_ref, precision))
        else:
            best = scan(feat_in, feat_ref, block_elements)
        index = first_equal_patch(feat_ref).flatten()[best.index]
        score = best.score / patch_norms(feat_in)
    return index.clone(), score.clone()  # outside inference mode: tensors that training may use


def compare_candidates(feat_in: Tensor, feat_ref: Tensor, candidates: Tensor) -> Matches:
    """Choose the best among ``candidates`` ``(K, h - 2, w - 2)``, indices of reference patches, in float32.

    Equal correlations go to the lowest index.
    """
    norm_ref = patch_norms(feat_ref)
    cells_in, cells_ref = (feat.permute(1, 2, 0).contiguous() for feat in (feat_in, feat_ref))
    patches = torch.arange(candidates[0].numel(), device=candidates.device)
    best = Matches(torch.zeros_like(patches), torch.full_like(patches, -torch.inf, dtype=torch.float32))
    for index in candidates.flatten(1):
        score = torch.cat(
            [
                _correlate_pairs(cells_in, cells_ref, some, index[some])
                for some in patches.split(CANDIDATE_PAIRS)
            ]
        )
        score /= norm_ref.flatten()[index]
        better = (score > best.score) | ((score == best.score) & (index < best.index))
        best = Matches(torch.where(better, index, best.index), torch.where(better, score, best.score))
    return Matches(*(part.view_as(candidates[0]) for part in best))


def _correlate_pairs(cells_in: Tensor, cells_ref: Tensor, index_in: Tensor, index_ref: Tensor) -> Tensor:
    """Correlations of input patches with as many reference patches, both given by their indices."""
    score = torch.zeros(len(index_in), device=index_in.device)
    (y, x), (ref_y, ref_x) = (
        (index // (cells.shape[1] - PATCH + 1), index % (cells.shape[1] - PATCH + 1))
        for index, cells in ((index_in, cells_in), (index_ref, cells_ref))
    )
    for i in range(PATCH):
        for j in range(PATCH):
            score += (cells_in[y + i, x + j] * cells_ref[ref_y + i, ref_x + j]).sum(1)
    return score


def first_equal_patch(feat: Tensor) -> Tensor:
    """Number every patch by the first patch that is equal to it bit for bit: ``(h - 2, w - 2)``, row by row.

    A matrix product may give equal patches correlations that differ in the last bit; this makes "the lowest index
    wins" true all the same. Patches are told apart by 64-bit hashes.
    """
    bits = (feat + 0.0).contiguous().view(torch.int32)  # + 0.0: minus zero is zero
    cells = torch.zeros(feat.shape[1:], dtype=torch.long, device=feat.device)
    for channel in bits:
        cells = _mix(cells + channel)
    height, width = (size - PATCH + 1 for size in cells.shape)
    patches = torch.zeros(height, width, dtype=torch.long, device=feat.device)
    for i in range(PATCH):
        for j in range(PATCH):
            patches = _mix(patches + cells[i : i + height, j : j + width])
    kinds, kind = patches.flatten().unique(return_inverse=True)
    number = torch.arange(len(kind), device=feat.device)
    first = torch.full_like(kinds, len(kind)).scatter_reduce_(0, kind, number, "amin")
    return first[kind].view_as(patches)


def _mix(value: Tensor) -> Tensor:
    """One step of a multiply-and-shift hash on 64-bit integers that wrap around."""
    value = value * -7046029254386353131
    return value ^ (value >> 29)


def find_matches(feat_in: Tensor, feat_ref: Tensor, precision: str = "fp32") -> Tensor:
    """Match two batches of feature maps ``(B, C, h, w)``, as `match_patches` does, after bringing cells to unit length.

    The maps may differ in size. Returns the indices ``(B, h - 2, w - 2)``.
    """
    unit_in, unit_ref = F.normalize(feat_in, dim=1), F.normalize(feat_ref, dim=1)
    return torch.stack([match_patches(a, b, precision)[0] for a, b in zip(unit_in, unit_ref, strict=True)])


def find_offsets(feat_in: Tensor, feat_ref: Tensor) -> dict[str, Tensor]:
    """Match two batches of feature maps ``(B, C, h, w)`` and return the pre-offsets of `expand_offsets`."""
    return expand_offsets(find_matches(feat_in, feat_ref), feat_ref.shape[3] - PATCH + 1)


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
