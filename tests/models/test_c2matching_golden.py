"""Numeric parity with the released C2-Matching code, on synthetic weights; tolerances are those of the fixtures."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_weights import golden_array, golden_state
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from refsr_bench.images import crop_to_multiple, load_image, pad_zero, resize_bicubic
from refsr_bench.models.c2matching import build
from refsr_bench.models.c2matching.extractor import Extractor
from refsr_bench.models.c2matching.matching import expand_offsets, find_offsets, match_patches
from refsr_bench.models.c2matching.restoration import LEVELS, Restoration
from refsr_bench.models.deform import DynAgg
from refsr_bench.models.tensors import to_tensor
from refsr_bench.models.vgg import VGG19
from refsr_bench.models.winograd import use_winograd

E2E = ["equal", "unequal_mixed", "unequal_ref_smaller", "shared_unequal_mixed", "shared_unequal_ref_smaller"]


def load(golden: Path, name: str) -> dict[str, NDArray]:
    with np.load(golden / name) as arrays:
        return dict(arrays)


def assert_near(actual: Tensor, expected: NDArray, tolerance: float) -> None:
    error = np.abs(actual.detach().numpy() - expected).max()
    assert error <= tolerance, f"largest error {error:.2e}"


@pytest.fixture(scope="module", params=["direct", "winograd"])
def restoration(request: pytest.FixtureRequest) -> Restoration:
    net = Restoration().eval()
    net.load_state_dict(golden_state(net))
    if request.param == "winograd":
        for body in net.bodies():
            use_winograd(body)
    return net


@pytest.fixture(scope="module")
def vgg() -> VGG19:
    net = VGG19()
    net.load_state_dict(golden_state(net, "vgg19."))
    return net


def extractor(shared: bool) -> Extractor:
    net = Extractor()
    net.load_state_dict(golden_state(net, shared=shared))
    return net


# --- weights -----------------------------------------------------------------------------------------------------


def test_every_synthetic_weight_has_its_hash(golden: Path) -> None:
    checks = json.loads((golden / "weights_check.json").read_text())
    wrong = []
    for key, check in checks.items():
        array = golden_array(key, check["shape"])
        if hashlib.sha256(array.astype("<f4").tobytes()).hexdigest()[:16] != check["sha256_le_f32"]:
            wrong.append(key)
    assert not wrong
    assert len(checks) > 400


@pytest.mark.parametrize(("name", "net"), [("extractor", Extractor), ("restoration", Restoration)])
def test_state_keys_are_the_official_ones_in_order(golden: Path, name: str, net: type[torch.nn.Module]) -> None:
    expected = json.loads((golden / "state_keys.json").read_text())[name]
    with torch.device("meta"):
        module = net()
    parameters = dict(module.named_parameters())
    actual = [
        (key, list(value.shape), "parameter" if key in parameters else "buffer")
        for key, value in module.state_dict().items()
    ]
    assert actual == [(entry["key"], entry["shape"], entry["kind"]) for entry in expected]


# --- features ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "odd_"])
def test_extractor(golden: Path, prefix: str) -> None:
    data = load(golden, "extractor.npz")
    images = (to_tensor(data[f"{prefix}image{i}_u8"]) for i in (1, 2))
    for i, features in enumerate(extractor(shared=False)(*images), start=1):
        assert_near(features, data[f"{prefix}dense_features{i}"], 2e-5)


def test_vgg19_on_odd_sizes(golden: Path, vgg: VGG19) -> None:
    data = load(golden, "extractor.npz")
    features = vgg(to_tensor(data["odd_image1_u8"]))
    for layer, step in (("relu3_1", 1), ("relu2_1", 4), ("relu1_1", 16)):
        assert_near(features[layer][:, ::step], data[f"vgg19_odd_{layer}"], 2e-5)


# --- matching ----------------------------------------------------------------------------------------------------


def patch_vectors(feat: Tensor) -> Tensor:
    """All 3×3 patches as float64 rows."""
    return F.unfold(feat[None].double(), 3)[0].T


def assert_best(index: Tensor, feat_in: Tensor, feat_ref: Tensor, expected: NDArray) -> None:
    """Where an index differs from the release's, its float64 correlation must be within 1e-6 of the best."""
    differs = torch.from_numpy(index.numpy() != expected).flatten()
    if not differs.any():
        return
    rows, columns = patch_vectors(feat_in)[differs], patch_vectors(feat_ref)
    rows = rows / (rows.norm(dim=1, keepdim=True) + 1e-5)
    columns = columns / (columns.norm(dim=1, keepdim=True) + 1e-5)
    correlation = rows @ columns.T
    chosen = correlation.gather(1, index.flatten()[differs, None])[:, 0]
    assert (correlation.max(1).values - chosen).max() <= 1e-6


def assert_matches(
    index: Tensor, score: Tensor, data: dict[str, NDArray], name: str, feat_in: Tensor, feat_ref: Tensor
) -> None:
    expected = data[f"{name}max_idx"]
    counts = data.get(f"{name}count", data.get(f"{name}tie_count", np.ones_like(expected)))
    clear = (data[f"{name}gap"] > 1e-5) & (counts == 1)
    assert clear.any()
    np.testing.assert_array_equal(index.numpy()[clear], expected[clear])
    assert_best(index, feat_in, feat_ref, expected)
    assert_near(score, data[f"{name}max_val"], 5e-6)


def test_matching_of_unnormalised_maps(golden: Path) -> None:
    data = load(golden, "matching.npz")
    feat_in, feat_ref = (torch.from_numpy(data[f"rand_{side}"]) for side in ("in", "ref"))
    assert_matches(*match_patches(feat_in, feat_ref), data, "rand_", feat_in, feat_ref)


@pytest.mark.parametrize("chunk_elements", [1, 30_000, 1 << 24])
def test_matching_of_real_features(golden: Path, chunk_elements: int) -> None:
    data = load(golden, "matching.npz")
    feat_in, feat_ref = (F.normalize(torch.from_numpy(data[f"real_{side}"]), dim=0) for side in ("in", "ref"))
    assert_matches(*match_patches(feat_in, feat_ref, block_elements=chunk_elements), data, "real_", feat_in, feat_ref)


@pytest.mark.parametrize("name", ["tie", "chunk"])
def test_matching_with_exact_duplicates(golden: Path, name: str) -> None:
    data = load(golden, "matching.npz")
    feat_in, feat_ref = (torch.from_numpy(data[f"{name}_{side}"]).float() for side in ("in", "ref"))
    index, score = match_patches(feat_in, feat_ref)
    assert_matches(index, score, data, f"{name}_", feat_in, feat_ref)


@pytest.mark.parametrize("name", ["real", "batch"])
def test_offsets_of_the_nine_taps_at_three_scales(golden: Path, name: str) -> None:
    data = load(golden, "matching.npz")
    batch = [torch.from_numpy(data[f"{name}_{side}"]) for side in ("in", "ref")]
    offsets = find_offsets(*(feat if feat.ndim == 4 else feat[None] for feat in batch))
    for layer in ("relu3_1", "relu2_1", "relu1_1"):
        np.testing.assert_array_equal(offsets[layer].numpy(), data[f"{name}_offset_{layer}"])


# --- aggregation and restoration ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "channels"), [(name, channels) for name, _, channels in LEVELS])
def test_dynamic_aggregation(golden: Path, name: str, channels: int) -> None:
    data = load(golden, "dynagg.npz")
    layer = DynAgg(channels)
    layer.load_state_dict(golden_state(layer, f"dyn_agg_restore.{name}_dyn_agg."))
    ref_feature, offset_feature, pre_offset = (
        torch.from_numpy(data[f"{name}_{part}"]).float() for part in ("ref_feat", "offset_feat", "pre_offset")
    )
    ref_feature.requires_grad_()
    offset_feature.requires_grad_()
    offset, mask = layer.offsets_and_mask(offset_feature, pre_offset)
    assert_near(offset[0], data[f"{name}_total_offset_b0"], 2e-5)
    assert_near(mask[0], data[f"{name}_mask_b0"], 5e-6)
    out = layer(ref_feature, offset_feature, pre_offset)
    assert_near(out, data[f"{name}_out"], 2e-5)
    if name != "large":
        return
    out.backward(torch.from_numpy(data["large_grad_out"]))
    gradients = {
        "ref_feat": ref_feature.grad,
        "offset_feat": offset_feature.grad,
        "conv_offset_mask_bias": layer.conv_offset_mask.bias.grad,
        "bias": layer.bias.grad,
        "weight_o0": layer.weight.grad[0],
    }
    for part, gradient in gradients.items():
        expected = data[f"large_grad_{part}"]
        assert_near(gradient, expected, 1e-4 * np.abs(expected).max())


def test_restoration_with_its_intermediate_activations(golden: Path, restoration: Restoration) -> None:
    data = load(golden, "restoration.npz")
    seen: dict[str, Tensor] = {}
    watched = {
        "content": ("content_extractor", 1, 5e-5),
        "small_dyn_agg": ("dyn_agg_restore.small_dyn_agg", 4, 5e-5),
        "body_small": ("dyn_agg_restore.body_small", 1, 5e-5),
        "medium_dyn_agg": ("dyn_agg_restore.medium_dyn_agg", 16, 5e-5),
        "body_medium": ("dyn_agg_restore.body_medium", 8, 1e-4),
        "body_large": ("dyn_agg_restore.body_large", 32, 1e-4),
    }
    hooks = [
        restoration.get_submodule(path).register_forward_hook(
            lambda _module, _inputs, output, name=name: seen.__setitem__(name, output)
        )
        for name, (path, _, _) in watched.items()
    ]
    layers = [layer for _, layer, _ in LEVELS]
    with torch.inference_mode():
        out = restoration(
            to_tensor(data["lr_u8"][0]),
            {layer: torch.from_numpy(data[f"pre_offset_{layer}"]).float() for layer in layers},
            {layer: torch.from_numpy(data[f"ref_{layer}"]) for layer in layers},
        )
    for hook in hooks:
        hook.remove()
    for name, (_, step, tolerance) in watched.items():
        assert_near(seen[name][:, ::step], data[f"mid_{name}"], tolerance)
    assert_near(out, data["out"], 2e-6)


# --- from files to pixels ----------------------------------------------------------------------------------------


def released_canvas(data: dict[str, NDArray]) -> tuple[NDArray, NDArray, NDArray]:
    """LR, enlarged LR and reference as the release prepares them: mod 4, zero-padded to one size, Pillow bicubic."""
    hr, ref = crop_to_multiple(data["input_u8"], 4), crop_to_multiple(data["reference_u8"], 4)
    height, width = (max(a, b) for a, b in zip(hr.shape[:2], ref.shape[:2], strict=True))
    hr, ref = pad_zero(hr, height, width), pad_zero(ref, height, width)
    lr = resize_bicubic(hr, height // 4, width // 4)
    return lr, resize_bicubic(lr, height, width), ref


@pytest.fixture(scope="module")
def official_files(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """Two folders of checkpoints named as published; key: are the extractor's branches alike."""
    folders = {}
    for shared in (False, True):
        folder = folders[shared] = tmp_path_factory.mktemp("weights")
        states = {
            "feature_extraction.pth": golden_state(Extractor(), shared=shared),
            "c2_matching_restoration_mse.pth": golden_state(Restoration()),
            "vgg19-dcbb9e9d.pth": golden_state(VGG19(), "vgg19."),
        }
        for name, state in states.items():
            torch.save(state, folder / name)
    return folders


@pytest.mark.parametrize("name", E2E)
def test_from_checkpoint_files_to_restored_picture(
    golden: Path, official_files: dict[bool, Path], restoration: Restoration, vgg: VGG19, name: str
) -> None:
    data = load(golden, f"e2e_{name}.npz")
    np.testing.assert_array_equal(load_image(golden / f"e2e_{name}_input.png"), data["input_u8"])
    shared = name.startswith("shared")
    lr, lr_up, ref = released_canvas(data)

    with torch.inference_mode():
        features = extractor(shared)(to_tensor(lr_up), to_tensor(ref))
        feat_in, feat_ref = (F.normalize(feature, dim=1)[0] for feature in features)
        index, score = match_patches(feat_in, feat_ref)
        assert_matches(index, score, data, "", feat_in, feat_ref)
        # The rest strictly: with the release's own matches.
        matches = torch.from_numpy(data["max_idx"]).long()
        out = restoration(to_tensor(lr), expand_offsets(matches[None], matches.shape[1]), vgg(to_tensor(ref)))
    assert_near(out[0], data["net_out"], 2e-6)

    sr = build(weights=official_files[shared]).restore(lr, [ref])
    height, width = data["sr_u8"].shape[:2]
    restored = (sr[:height, :width].clip(0, 1) * 255).round().astype(int)
    off_by = np.abs(restored - data["sr_u8"].astype(int))
    flips = int((index.numpy() != data["max_idx"]).sum())
    assert flips <= 3
    assert off_by.max() <= (2 if flips else 1)
    assert (off_by > 0).mean() <= (0.02 if flips else 0.001)
