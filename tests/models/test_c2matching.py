from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from refsr_bench.errors import UsageError
from refsr_bench.models.base import SRModel
from refsr_bench.models.c2matching import CARD, build
from refsr_bench.models.c2matching.extractor import Extractor
from refsr_bench.models.c2matching.inference import C2Matching
from refsr_bench.models.c2matching.matching import expand_offsets, match_patches
from refsr_bench.models.c2matching.restoration import Restoration
from refsr_bench.models.tensors import select_device, to_image, to_tensor
from refsr_bench.models.vgg import VGG19


@pytest.fixture(scope="module")
def model() -> C2Matching:
    torch.manual_seed(0)
    return C2Matching(CARD, Extractor(), VGG19(), Restoration(), torch.device("cpu"))


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_is_a_model_of_the_published_size(model: C2Matching) -> None:
    assert isinstance(model, SRModel)
    assert sum(parameter.numel() for parameter in model.restoration.parameters()) == CARD.parameters


@pytest.mark.parametrize("size", [(28, 36), (27, 35), (12, 60), (48, 20), (50, 61), (1, 1)])
def test_any_size_of_reference_gives_four_times_the_lr(model: C2Matching, size: tuple[int, int]) -> None:
    sr = model.restore(picture(7, 9), [picture(*size, seed=1)])
    assert (sr.shape, sr.dtype) == ((28, 36, 3), np.float32)
    assert np.isfinite(sr).all()


def test_padding_inside_equals_padding_before(model: C2Matching) -> None:
    lr, ref = picture(7, 9), picture(20, 30, seed=1)
    padded = np.zeros((28, 36, 3), np.uint8)
    padded[:20, :30] = ref
    np.testing.assert_array_equal(model.restore(lr, [ref]), model.restore(lr, [padded]))


def test_restoring_twice_gives_the_same_bits_and_leaves_the_input_alone(model: C2Matching) -> None:
    lr, ref = picture(6, 6), picture(24, 24, seed=1)
    before = lr.copy(), ref.copy()
    np.testing.assert_array_equal(model.restore(lr, [ref]), model.restore(lr, [ref, picture(9, 9)]))
    np.testing.assert_array_equal(lr, before[0])
    np.testing.assert_array_equal(ref, before[1])


def test_too_small_or_missing_pictures_are_named(model: C2Matching) -> None:
    with pytest.raises(UsageError, match="9×2 px is too small"):
        model.restore(picture(2, 9), [picture(8, 36)])
    with pytest.raises(UsageError, match="needs a reference"):
        model.restore(picture(8, 8), [])
    with pytest.raises(UsageError, match="uint8 RGB"):
        to_tensor(picture(8, 8).astype(np.float32))


def test_unknown_variants_and_devices_are_usage_errors() -> None:
    with pytest.raises(UsageError, match="no variant"):
        build(variant="l1")  # type: ignore[arg-type]
    for name in ("tpu", "mps", "cuda:99", "cpu:x"):
        with pytest.raises(UsageError) as caught:
            select_device(name)
        assert caught.value.remedy


def test_listing_the_model_imports_no_torch() -> None:
    code = "import sys, refsr_bench.models.c2matching as c; assert c.CARD_GAN.parameters; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_pictures_survive_the_crossing() -> None:
    image = picture(5, 4)
    image.setflags(write=False)
    tensor = to_tensor(image)
    assert tensor.dtype == torch.float32
    assert torch.equal(tensor[0, 2, 1], torch.from_numpy(image[1, :, 2].astype(np.float32) / np.float32(255)))
    np.testing.assert_array_equal((to_image(tensor) * 255).round(), image)


def brute_force(feat_in: torch.Tensor, feat_ref: torch.Tensor) -> torch.Tensor:
    patches_in, patches_ref = (F.unfold(feat[None].double(), 3)[0].T for feat in (feat_in, feat_ref))
    return (patches_in @ F.normalize(patches_ref, dim=1).T).argmax(1)


@pytest.mark.parametrize("chunk_elements", [1, 500, 1 << 24])
def test_matching_maps_of_different_sizes(chunk_elements: int) -> None:
    generator = torch.Generator().manual_seed(3)
    feat_in, feat_ref = (torch.randn(5, *size, generator=generator) for size in ((7, 9), (10, 6)))
    index, _ = match_patches(feat_in, feat_ref, block_elements=chunk_elements)
    assert torch.equal(index.flatten(), brute_force(feat_in, feat_ref))


@pytest.mark.parametrize("chunk_elements", [1, 1 << 24])
def test_equal_matches_go_to_the_first(chunk_elements: int) -> None:
    index, score = match_patches(torch.ones(2, 6, 6), torch.ones(2, 8, 8), block_elements=chunk_elements)
    assert (index == 0).all()
    torch.testing.assert_close(score, torch.ones(4, 4))


def test_offsets_lead_to_a_crop_in_a_wider_reference() -> None:
    generator = torch.Generator().manual_seed(4)
    ref = torch.randn(8, 9, 14, generator=generator)
    index, _ = match_patches(ref[:, 2:8, 5:12], ref)
    offsets = expand_offsets(index[None], 12)
    centre = offsets["relu3_1"][0, 4]
    assert (centre[1:-1, 1:-1] == torch.tensor([5.0, 2.0])).all()
    assert (centre[0] == 0).all()
    assert (centre[:, -1] == 0).all()
    assert (offsets["relu1_1"][0, 4, 4:-4, 4:-4] == torch.tensor([20.0, 8.0])).all()
    assert offsets["relu2_1"].shape == (1, 9, 12, 14, 2)
