"""The CUDA kernel's logic under Triton's interpreter, in a process of its own; on a GPU where there is one."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from smooth_features import smooth_maps

from refsr_bench.models.c2matching.matching import match_patches
from refsr_bench.models.c2matching.plain import match_plainly

SCRIPT = """
import torch
from smooth_features import assert_is_best, smooth_maps
from refsr_bench.models.c2matching.exact import PatchPairs, first_equal_patch
from refsr_bench.models.c2matching.matching import match_patches
from refsr_bench.models.c2matching.search_triton import count_shares, find_candidates

for precision, same in (("fp32", 1.0), ("bf16", 0.95)):
    feat_in, feat_ref = smooth_maps((9, 11), (12, 10), channels=40)
    feat_ref[:, 8:] = 0
    feat_in[:, :3, :3] = 0
    pairs = PatchPairs(feat_in, feat_ref)
    first = first_equal_patch(feat_ref)
    distinct = first == torch.arange(first.numel()).view_as(first)
    candidates = find_candidates(pairs, distinct, precision)
    assert candidates.index_in.bincount().max() <= count_shares(8)
    assert 0 not in candidates.index_in, "a patch of zeros has no candidates"
    best = pairs.best_of(candidates)
    expected = match_patches(feat_in, feat_ref)[0].flatten()
    found = torch.zeros_like(expected)
    found[best.index_in] = best.index_ref
    assert (found == expected).float().mean() >= same, (precision, (found == expected).float().mean())
    assert_is_best(found, feat_in, feat_ref) if precision == "fp32" else None
print("agrees")
"""


@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed: pip install --no-deps triton==3.6.0")
def test_kernel_under_the_interpreter() -> None:
    here = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT],
        capture_output=True,
        text=True,
        env=os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": here},
    )
    assert done.stdout == "agrees\n", done.stderr


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize(("precision", "same"), [("fp32", 1.0), ("bf16", 0.999)])
def test_matching_on_a_gpu(precision: str, same: float) -> None:
    feat_in, feat_ref = smooth_maps((83, 125), (90, 110), channels=256, rank=24)
    expected = match_plainly(feat_in, feat_ref)[0]
    found = match_patches(feat_in.cuda(), feat_ref.cuda(), precision)[0].cpu()
    assert (found == expected).float().mean() >= same
