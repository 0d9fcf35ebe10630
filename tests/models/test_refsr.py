"""The reference-based methods: counts, official keys, agreement with slow and obvious versions, bounded memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from refsr_bench.errors import UsageError
from refsr_bench.lookup import find
from refsr_bench.models import method, zoo
from refsr_bench.models.deform import deform_conv
from refsr_bench.models.refsr.amsa import DynWarp, smaller_references
from refsr_bench.models.refsr.masa import BLOCK, _window, transfer_blocks
from refsr_bench.models.transfer import find_matches, transfer
from refsr_bench.models.weights import import_weights
from tests.models.test_zoo import network_on_meta, tensorflow_list

PARTS = {
    "crossnet": {"": 35_183_841, "FlowNet": 33_830_110, "Encoder": 414_720, "UNet_decoder_2": 939_011},
    "srntt": {"": 4_383_494, "content": 1_518_147, "texture": 2_865_347},
    "ttsr": {"": 6_729_603, "MainNet": 6_174_275, "LTE": 555_328},
    "masa": {"": 4_028_291},
    "amsa": {"": 9_676_454},
    "datsr": {"": 18_026_971, "content_extractor": 2_364_928},
    "mrefsr": {"": 23_711_633},
}

TINY = {
    "crossnet": {"width": 4},
    "srntt": {"width": 8, "blocks": 4},
    "ttsr": {"width": 32, "blocks": (1, 1, 1, 1)},
    "ssen": {"width": 8, "blocks": 1, "shared_blocks": 1},
    "masa": {"width": 8, "encoder_blocks": 1, "decoder_blocks": (1,) * 6},
    "amsa": {"blocks": 1, "width": 16, "sizes": 2},
    "datsr": {"width": 32, "depths": (2,)},
    "mrefsr": {"blocks": 1, "width": 16},
}
"""Configurations that a test can afford."""


def tiny(name: str) -> method.ZooModel:
    of = method.find_method(name)
    return method.ZooModel(zoo.CARDS[name], of, method.random_parts(of, torch.device("cpu"), TINY[name]))


def pictures(height: int, width: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    lr = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return lr, rng.integers(0, 256, (4 * height, 4 * width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("name", "part"), [("crossnet", "FlowNet"), ("masa", "")])
def test_what_diverged_shows_in_the_output(name: str, part: str) -> None:
    """Training then stops itself, where an output that looks sound, or a search that fails, would end otherwise."""
    of = method.find_method(name)
    parts = method.random_parts(of, torch.device("cpu"), TINY[name])
    for parameter in parts.network.get_submodule(part).parameters():
        torch.nn.init.constant_(parameter, torch.nan)
    lr, ref = pictures(16, 16)
    assert method.restore_tensor(of, parts, lr, [ref]).isnan().all()


@pytest.mark.parametrize("name", PARTS)
def test_parameters_are_those_of_the_released_definitions(name: str) -> None:
    network = network_on_meta(name)
    for part, expected in PARTS[name].items():
        assert sum(p.numel() for p in network.get_submodule(part).parameters()) == expected


def test_what_a_release_stores_beside_the_weights_is_left_out() -> None:
    official = network_on_meta("ttsr").state_dict()
    copies = {key.replace("LTE.", "LTE_copy."): value for key, value in official.items() if key.startswith("LTE.")}
    assert method.identify("ttsr", official | copies, Path("TTSR.pt")).state.keys() == official.keys()
    official = network_on_meta("datsr").state_dict()
    block = "dyn_agg_restore.up_body_small.layers.0.residual_group.blocks.1"
    computed = {
        f"{block}.attn_mask": torch.zeros(25, 64, 64),
        f"{block}.attn.relative_position_index": torch.zeros(64, 64),
    }
    assert method.identify("datsr", official | computed, Path("restoration_mse.pth")).state.keys() == official.keys()


def test_srntts_two_lists_are_told_apart_and_run(tmp_path: Path) -> None:
    network = method.find_method("srntt").network()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    for file, part in (("upscale.npz", network.content), ("srntt.npz", network.texture)):
        arrays = tensorflow_list(part)
        params = np.empty(len(arrays), dtype=object)
        params[:] = arrays
        np.savez(tmp_path / file, params=params)
    stored = import_weights("srntt", [tmp_path / "srntt.npz", tmp_path / "upscale.npz"])
    assert {weight.role: weight.source_file for weight in stored} == {"texture": "srntt.npz", "content": "upscale.npz"}
    vgg = method.random_parts(method.find_method("srntt"), torch.device("cpu")).vgg
    assert vgg is not None
    torch.save(vgg.state_dict(), tmp_path / "vgg19-dcbb9e9d.pth")
    import_weights("c2matching", [tmp_path / "vgg19-dcbb9e9d.pth"])
    model = find("models", "srntt")()
    loaded = model.parts.network.state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in network.state_dict().items())
    assert set(model.card.weights_sha256) == {"content", "texture", "vgg19"}
    lr, ref = pictures(6, 5)
    assert model.restore(lr, [ref, ref[:12]]).shape == (24, 20, 3)


# --- agreement with slow, obvious versions ---------------------------------------------------------------------------


def unfolded(feature: torch.Tensor, size: int, stride: int, padding: int) -> torch.Tensor:
    return F.unfold(feature[None], size, padding=padding, stride=stride)[0]


def test_ttsrs_matching_and_transfer_agree_with_the_full_matrix() -> None:
    torch.manual_seed(0)
    query, key = torch.rand(5, 6, 7, dtype=torch.float64), torch.rand(5, 8, 5, dtype=torch.float64)
    values = [torch.rand(c, 8 * s, 5 * s, dtype=torch.float64) for c, s in ((5, 1), (3, 2), (2, 4))]
    matrix = F.normalize(unfolded(key, 3, 1, 1), dim=0).T @ F.normalize(unfolded(query, 3, 1, 1), dim=0)
    score, index = matrix.max(0)
    matches = find_matches(query, [key], padding=1)
    assert torch.equal((matches.y * 5 + matches.x).flatten(), index)
    assert torch.allclose(matches.score.flatten(), score, atol=1e-9)
    for value, s in zip(values, (1, 2, 4), strict=True):
        patches = unfolded(value, 3 * s, s, s)[:, index]
        expected = F.fold(patches[None], (6 * s, 7 * s), 3 * s, padding=s, stride=s)[0] / 9
        assert torch.allclose(transfer([value], matches, s, padding=1, count_overlaps=False), expected, atol=1e-12)


def test_srntts_pool_agrees_with_loops_over_patches() -> None:
    torch.manual_seed(1)
    query = torch.rand(4, 5, 6, dtype=torch.float64)
    blurred = [torch.rand(4, 6, 4, dtype=torch.float64), torch.rand(4, 3, 7, dtype=torch.float64)]
    sharp = [torch.rand(2, 2 * r.shape[1], 2 * r.shape[2], dtype=torch.float64) for r in blurred]
    expected, covered = torch.zeros(2, 10, 12, dtype=torch.float64), torch.zeros(10, 12, dtype=torch.float64)
    matches = find_matches(query, blurred)
    for y in range(3):
        for x in range(4):
            own = query[:, y : y + 3, x : x + 3]
            best: tuple[float, int, int, int] = (-1.0, 0, 0, 0)
            for which, ref in enumerate(blurred):
                for v in range(ref.shape[1] - 2):
                    for u in range(ref.shape[2] - 2):
                        other = ref[:, v : v + 3, u : u + 3]
                        cosine = float((own * other).sum() / other.norm() / own.norm())
                        if cosine > best[0]:
                            best = (cosine, which, v, u)
            cosine, which, v, u = best
            assert (matches.which[y, x], matches.y[y, x], matches.x[y, x]) == (which, v, u)
            assert float(matches.score[y, x]) == pytest.approx(cosine, abs=1e-9)
            expected[:, 2 * y : 2 * y + 6, 2 * x : 2 * x + 6] += sharp[which][:, 2 * v : 2 * v + 6, 2 * u : 2 * u + 6]
            covered[2 * y : 2 * y + 6, 2 * x : 2 * x + 6] += 1
    assert torch.allclose(transfer(sharp, matches, 2), expected / covered, atol=1e-12)


def test_masas_two_searches_agree_with_loops_over_blocks() -> None:
    torch.manual_seed(2)
    lr, down = torch.rand(3, 8, 16, dtype=torch.float64), torch.rand(3, 12, 20, dtype=torch.float64)
    refs = [torch.rand(3, 12 * s, 20 * s, dtype=torch.float64) for s in (1, 2, 4)]
    padded = F.pad(lr[None], (1, 1, 1, 1), mode="replicate")[0]
    high, wide = _window(12, 1), _window(20, 2)
    warped = transfer_blocks(lr, down, refs)
    for block in range(2):
        patch = padded[:, :, block * BLOCK : block * BLOCK + 10]
        total = torch.zeros(12, 20, dtype=torch.float64)
        for d in (1, 2, 3):
            around = F.pad(down, (d, d, d, d))
            kernel = patch[:, 5 - d : 6 + d : d, 5 - d : 6 + d : d]
            for y in range(12):
                for x in range(20):
                    other = around[:, y : y + 2 * d + 1 : d, x : x + 2 * d + 1 : d]
                    total[y, x] += (kernel * other).sum() / kernel.norm() / other.norm()
        y, x = divmod(int(total.argmax()), 20)
        top, left = min(max(y - high // 2, 0), 12 - high), min(max(x - wide // 2, 0), 20 - wide)
        window = down[:, top : top + high, left : left + wide]
        matrix = F.normalize(unfolded(patch, 3, 1, 0), dim=0).T @ F.normalize(unfolded(window, 3, 1, 0), dim=0)
        score, index = matrix.max(1)
        for ref, made, s in zip(refs, warped, (1, 2, 4), strict=True):
            area = ref[:, top * s : (top + high) * s, left * s : (left + wide) * s]
            patches = unfolded(area, 3 * s, s, 0)[:, index]
            size = {"output_size": (8 * s, 8 * s), "kernel_size": 3 * s, "padding": s, "stride": s}
            pasted = F.fold(patches[None], **size) / F.fold(torch.ones_like(patches)[None], **size)
            weight = F.interpolate(score.view(1, 1, 8, 8), size=(8 * s, 8 * s), mode="bilinear", align_corners=False)
            expected = (pasted * weight)[0]
            assert torch.allclose(made[:, :, block * 8 * s : (block + 1) * 8 * s], expected, atol=1e-9)


def test_amsas_smaller_references_lie_on_a_canvas_of_the_same_size() -> None:
    ref = np.random.default_rng(0).integers(1, 256, (64, 80, 3), dtype=np.uint8)
    made = smaller_references(ref)
    assert [image.shape for image in made] == [ref.shape] * 5
    filled = [tuple(int(np.count_nonzero(image.any(2).any(axis))) for axis in (1, 0)) for image in made]
    assert filled == [(64, 80), (48, 64), (40, 48), (32, 40), (24, 32)]
    assert len(smaller_references(ref[:16, :16])) == 2
    assert len(smaller_references(ref, 3)) == 3


def test_amsas_warp_is_the_deformable_convolution_at_whole_pixels() -> None:
    torch.manual_seed(3)
    layer = DynWarp(6).double()
    feature = torch.rand(1, 6, 7, 8, dtype=torch.float64, requires_grad=True)
    pre_offset = torch.randint(-9, 10, (1, 9, 7, 8, 2)).double()
    mask = layer.conv_offset_mask(feature).sigmoid()
    offset = pre_offset.flip(-1).permute(0, 1, 4, 2, 3).flatten(1, 2)
    expected = deform_conv(feature, offset, mask, layer.weight, layer.bias)
    made = layer(feature, pre_offset)
    assert torch.allclose(made, expected, atol=1e-12)
    with torch.no_grad():
        assert torch.equal(layer(feature, pre_offset), made)
    weights = torch.rand_like(expected)
    wanted = (feature, *layer.parameters())
    gradients = (torch.autograd.grad((sr * weights).sum(), wanted) for sr in (expected, made))
    for theirs, ours in zip(*gradients, strict=True):
        assert torch.allclose(theirs, ours, atol=1e-12)


# --- every network runs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TINY)
def test_sizes_that_no_network_likes(name: str) -> None:
    model = tiny(name)
    for height, width in ((5, 7), (1, 1), (9, 16)):
        lr, ref = pictures(height, width)
        sr = model.restore(lr, [ref, ref[: max(1, height)]])
        assert sr.shape == (4 * height, 4 * width, 3)
        assert np.isfinite(sr).all()
    with pytest.raises(UsageError, match="needs a reference"):
        model.restore(lr, [])


@pytest.mark.parametrize("name", TINY)
def test_a_released_network_can_be_made_without_weights(name: str) -> None:
    factory = find("models", name)
    assert factory.__doc__
    assert zoo.CARDS[name].uses_reference
    assert zoo.CARDS[name].parameters == sum(p.numel() for p in network_on_meta(name).parameters())


def test_what_stands_in_for_mdsr_is_said_until_mdsr_is_there(tmp_path: Path) -> None:
    model = find("models", "crossnet")(untrained=True)
    assert model.card.signature_keys == {"guess": "bicubic"}
    assert find("models", "ttsr")(untrained=True).card.signature_keys == {}
    lr, _ = pictures(4, 4)
    parts = method.random_parts(method.find_method("crossnet"), torch.device("cpu"), TINY["crossnet"])
    with torch.device("meta"):
        assert method.find_method("mdsr").network() is not None
    constant = torch.nn.Module()
    constant.forward = lambda image: torch.full((1, 3, 16, 16), 300.0)  # type: ignore[method-assign]
    assert torch.equal(method.first_guess(parts._replace(guess=constant), lr), torch.ones(1, 3, 16, 16))


@pytest.mark.slow
def test_memory_stays_bounded_at_the_size_of_cufed5() -> None:
    # TTSR's matrix of all similarities would take 125 * 83 * 125 * 83 * 4 bytes = 431 MB, MASA's and SRNTT's as much.
    for name, limit in (("ttsr", 2.5e9), ("srntt", 2.5e9), ("masa", 2.0e9)):
        code = (
            "import numpy as np, resource\n"
            "from refsr_bench.lookup import find\n"
            f"model = find('models', {name!r})(untrained=True)\n"
            "rng = np.random.default_rng(0)\n"
            "ref = rng.integers(0, 256, (500, 332, 3), dtype=np.uint8)\n"
            "model.restore(ref[::4, ::4].copy(), [ref])\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        print(name, f"{int(done.stdout) / 1e9:.2f} GB")
        assert int(done.stdout) < limit, name


def test_the_stand_in_is_in_the_signature(small_dataset: Path, tmp_path: Path) -> None:
    from tests.test_cli import run

    arguments = [
        "--dataset",
        str(small_dataset),
        "--limit",
        "1",
        "--set",
        "untrained=yes",
        "--out",
        str(tmp_path / "run"),
    ]
    done = run("eval", "srntt", *arguments)
    assert done.code == 0, done.err
    assert "guess:bicubic" in done.out
    told = run("explain", next(word for word in done.out.split("`") if word.startswith("psnr_y|")))
    assert "where its release starts from MDSR's picture" in told.out
