"""The search on CUDA as one fused kernel: correlations live and die on the chip, only the best of each are written.

Every program takes a block of input patches and walks over its share of the reference patches, keeping the running
best. The shares give each patch a handful of candidates, which are then correlated again in float32 (`exact.best_of`),
so that the precision of the kernel decides only which pairs are looked at. Its logic is tested under Triton's
interpreter; on a GPU it has not been run.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from refsr_bench.models.c2matching.exact import PATCH, Candidates, PatchPairs

if find_spec("triton") is not None:
    import triton
    import triton.language as tl

    _compiled: Any = triton.jit
else:  # the module can be read, not used

    def _compiled(function: Any) -> Any:
        return function


BLOCK_IN = 64
BLOCK_REF = 64
FEWEST_SHARES = 16


def count_shares(ref_grid_width: int) -> int:
    """Into how many parts the reference is divided, each of which names one candidate a patch.

    Patch i belongs to part i modulo this: rivals are mostly neighbours, and bfloat16 cannot tell which is better. So
    those beside, above and below a patch, diagonals included, must be in other parts than it.

    >>> count_shares(123), count_shares(38), count_shares(128)
    (16, 16, 17)
    """
    shares = FEWEST_SHARES
    while ref_grid_width % shares in {0, 1, shares - 1}:
        shares += 1
    return shares


def find_candidates(pairs: PatchPairs, distinct: Tensor, precision: str = "fp32") -> Candidates:
    """Name the best reference patch of each share for every input patch that is not all zero.

    precision : of the products, ``fp32`` (no TF32) or ``bf16``; sums are float32. Equal correlations go to the lowest
    index of a share. ``distinct`` as in `search.scan`.
    """
    _, width, channels = pairs.cells_in.shape
    ref_width = pairs.cells_ref.shape[1]
    count_in, count_ref = pairs.norm_in.numel(), pairs.norm_ref.numel()
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    block_channels = min(64, triton.next_power_of_2(channels))
    pad = -channels % block_channels
    cells_in, cells_ref = (F.pad(cells, (0, pad)).to(dtype) for cells in (pairs.cells_in, pairs.cells_ref))
    # A scale of zero marks patches that are not to be searched.
    scale = torch.where(distinct, 1 / pairs.norm_ref, 0.0).flatten().contiguous()
    shares = count_shares(ref_width - PATCH + 1)
    score = torch.full((shares, count_in), -torch.inf, device=cells_in.device)
    index = torch.zeros(shares, count_in, dtype=torch.int32, device=cells_in.device)
    share = triton.cdiv(triton.cdiv(count_ref, shares), BLOCK_REF) * BLOCK_REF
    _search[(triton.cdiv(count_in, BLOCK_IN), shares)](
        cells_in.contiguous(),
        cells_ref.contiguous(),
        scale,
        score,
        index,
        count_in,
        count_ref,
        width,
        ref_width,
        shares,
        SHARE=share,
        CHANNELS=channels + pad,
        BLOCK_IN=BLOCK_IN,
        BLOCK_REF=BLOCK_REF,
        BLOCK_CHANNELS=block_channels,
        TAPS=PATCH,
        WIDEN=not cells_in.is_cuda,
    )
    found = (score > -torch.inf) & (pairs.norm_in.flatten() > 1e-5)
    index_in = torch.arange(count_in, device=index.device).expand(shares, -1)[found]
    upper = torch.full(index_in.shape, torch.inf, device=index.device)
    return Candidates(index_in, index[found].long(), upper, torch.full_like(upper, torch.nan))


@_compiled  # type: ignore[untyped-decorator]
def _search(  # type: ignore[no-untyped-def]
    cells_in,
    cells_ref,
    scale,
    score,
    index,
    count_in,
    count_ref,
    width,
    ref_width,
    shares,
    SHARE: tl.constexpr,
    CHANNELS: tl.constexpr,
    BLOCK_IN: tl.constexpr,
    BLOCK_REF: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
    TAPS: tl.constexpr,
    WIDEN: tl.constexpr,
):
    patch = tl.program_id(0) * BLOCK_IN + tl.arange(0, BLOCK_IN)
    grid_width, ref_grid_width = width - TAPS + 1, ref_width - TAPS + 1
    corner = patch // grid_width * width + patch % grid_width
    channel = tl.arange(0, BLOCK_CHANNELS)
    best = tl.full((BLOCK_IN,), float("-inf"), tl.float32)
    where = tl.zeros((BLOCK_IN,), tl.int32)
    for step in range(0, SHARE, BLOCK_REF):
        ref = (step + tl.arange(0, BLOCK_REF)) * shares + tl.program_id(1)
        ref_corner = ref // ref_grid_width * ref_width + ref % ref_grid_width
        total = tl.zeros((BLOCK_IN, BLOCK_REF), tl.float32)
        for tap in range(TAPS * TAPS):
            cell = corner + tap // TAPS * width + tap % TAPS
            ref_cell = ref_corner + tap // TAPS * ref_width + tap % TAPS
            for c in range(0, CHANNELS, BLOCK_CHANNELS):
                some_in = tl.load(
                    cells_in + cell[:, None] * CHANNELS + (c + channel)[None, :],
                    mask=(patch < count_in)[:, None],
                    other=0.0,
                )
                some_ref = tl.load(
                    cells_ref + ref_cell[None, :] * CHANNELS + (c + channel)[:, None],
                    mask=(ref < count_ref)[None, :],
                    other=0.0,
                )
                if WIDEN:  # the interpreter multiplies with NumPy, which knows no bfloat16
                    some_in, some_ref = some_in.to(tl.float32), some_ref.to(tl.float32)
                total += tl.dot(some_in, some_ref, input_precision="ieee")
        factor = tl.load(scale + ref, mask=ref < count_ref, other=0.0)
        total = tl.where((factor > 0)[None, :], total * factor[None, :], float("-inf"))
        top = tl.max(total, axis=1)
        # The lowest index among equals: places that do not hold the maximum count as the largest there is.
        place = tl.min(tl.where(total == top[:, None], ref[None, :], 2147483647), axis=1)
        where = tl.where(top > best, place, where)
        best = tl.maximum(top, best)
    target = tl.program_id(1) * count_in + patch
    tl.store(score + target, best, mask=patch < count_in)
    tl.store(index + target, where, mask=patch < count_in)
