"""The zoo: parameter counts, official keys, importing, and IMDN's published numbers through it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from refsr_bench.errors import IntegrityError, ManualStepNeeded, UsageError
from refsr_bench.images import load_image
from refsr_bench.lookup import find, list_entries
from refsr_bench.models import recipe, zoo
from refsr_bench.models.weights import import_weights, load_checkpoint
from refsr_bench.protocols.fidelity import psnr_y
from refsr_bench.store import model_dir

COUNTS = {
    "srcnn": 20_099,
    "edsr-baseline": 1_517_571,
    "edsr": 43_089_923,
    "rcan": 15_592_355,
    "srgan": 1_547_350,
    "enet": 852_867,
    "esrgan": 16_697_987,
    "ranksrgan": 1_554_499,
}

OFFICIAL_KEYS = {  # as the fact sheet lists them; the count is that of the whole state dict
    "srcnn": ("conv1.weight", "conv3.bias"),
    "edsr-baseline": ("sub_mean.weight", "head.0.weight", "body.15.body.2.bias", "body.16.weight", "tail.0.2.weight"),
    "edsr": ("add_mean.bias", "body.31.body.0.weight", "body.32.bias", "tail.0.0.weight", "tail.1.bias"),
    "rcan": ("body.9.body.19.body.3.conv_du.2.weight", "body.0.body.20.weight", "body.10.weight", "tail.1.weight"),
    "esrgan": ("RRDB_trunk.22.RDB3.conv5.weight", "trunk_conv.bias", "upconv2.weight", "HRconv.weight", "conv_last.bias"),
    "ranksrgan": ("recon_trunk.15.conv2.weight", "LRconv.weight", "upconv1.weight", "HRconv.bias", "conv_last.weight"),
    "imdn": ("fea_conv.weight", "IMDB6.cca.conv_du.2.bias", "c.0.weight", "LR_conv.bias", "upsampler.0.weight"),
}

SMALL = ("srcnn", "edsr-baseline", "srgan", "enet", "ranksrgan", "imdn")


def network_on_meta(name: str) -> torch.nn.Module:
    with torch.device("meta"):
        return recipe.find_recipe(name).network()


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def random_state(name: str) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {k: torch.rand(v.shape) * 0.02 if v.is_floating_point() else torch.tensor(0)
            for k, v in network_on_meta(name).state_dict().items()}  # fmt: skip


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_are_those_of_the_released_definitions(name: str) -> None:
    assert count(network_on_meta(name)) == COUNTS[name]


@pytest.mark.parametrize("name", zoo.CARDS)
def test_a_card_tells_the_counted_parameters(name: str) -> None:
    assert zoo.CARDS[name].parameters == count(network_on_meta(name))
    assert name in list_entries("models")


@pytest.mark.parametrize("name", OFFICIAL_KEYS)
def test_keys_are_the_official_ones(name: str) -> None:
    assert set(OFFICIAL_KEYS[name]) <= network_on_meta(name).state_dict().keys()


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("name", SMALL)
def test_official_state_dicts_import_and_run(name: str, prefix: str, tmp_path: Path) -> None:
    path = tmp_path / "official.pth"
    torch.save({f"{prefix}{key}": value for key, value in random_state(name).items()}, path)
    (stored,) = import_weights(name, [path])
    assert stored.role == "network"
    model = find("models", name)()
    assert model.card.weights_sha256 == {"network": stored.source_sha256}
    lr = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    sr = model.restore(lr, [])
    assert sr.shape == (36, 28, 3)
    assert sr.dtype == np.float32
    certificate = json.loads((model_dir() / name / "network.certificate.json").read_text("utf-8"))
    assert certificate["source_sha256"] == stored.source_sha256
    assert certificate["renamed"] == 0
    assert certificate["forward"] == pytest.approx(recipe.forward_checksum(name, random_state(name)), rel=1e-4)


@pytest.mark.parametrize("damage", ["missing", "extra", "mis-shaped"])
@pytest.mark.parametrize("name", ["edsr-baseline", "rcan", "esrgan", "imdn"])
def test_one_wrong_key_is_named(name: str, damage: str, tmp_path: Path) -> None:
    state = random_state(name)
    key = OFFICIAL_KEYS[name][1]
    if damage == "missing":
        del state[key]
    elif damage == "extra":
        state["surprise.weight"] = torch.zeros(2, 2)
        key = "surprise.weight"
    else:
        state[key] = torch.zeros(5)
    torch.save(state, tmp_path / "damaged.pth")
    with pytest.raises(IntegrityError) as caught:
        import_weights(name, [tmp_path / "damaged.pth"])
    wording = {"missing": "1 missing", "extra": "1 not expected", "mis-shaped": "1 of another shape"}[damage]
    assert wording in str(caught.value)
    assert key in str(caught.value)
    assert not (model_dir() / name).exists()


def test_mmediting_wraps_srcnn_in_generator(tmp_path: Path) -> None:
    state = random_state("srcnn")
    torch.save({"state_dict": {f"generator.{key}": value for key, value in state.items()}}, tmp_path / "srcnn.pth")
    assert import_weights("srcnn", [tmp_path / "srcnn.pth"])[0].role == "network"


def test_basicsrs_names_for_rrdbnet_are_known() -> None:
    from refsr_bench.models.sisr.rrdb import from_basicsr

    keys = network_on_meta("esrgan").state_dict()
    renames = {"RRDB_trunk.": "body.", ".RDB": ".rdb", "trunk_conv.": "conv_body.", "upconv": "conv_up",
               "HRconv.": "conv_hr."}  # fmt: skip

    def later(key: str) -> str:
        for old, new in renames.items():
            key = key.replace(old, new)
        return key

    assert from_basicsr({later(key): value for key, value in keys.items()}).keys() == keys.keys()


def test_a_tensorlayer_list_is_read_by_position(tmp_path: Path) -> None:
    network = recipe.find_recipe("srgan").network()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    arrays = []
    for _, module in network.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            arrays.append(module.weight.detach().permute(2, 3, 1, 0).numpy())
            arrays += [module.bias.detach().numpy()] if module.bias is not None else []
        elif isinstance(module, torch.nn.BatchNorm2d):
            values = (module.bias, module.weight, module.running_mean, module.running_var)
            arrays += [value.detach().numpy() for value in values]  # type: ignore[union-attr]
    params = np.empty(len(arrays), dtype=object)
    params[:] = arrays
    np.savez(tmp_path / "g_srgan.npz", params=params)
    import_weights("srgan", [tmp_path / "g_srgan.npz"])
    model = find("models", "srgan")()
    expected = network.state_dict() | {
        f"{name}.weight": torch.zeros(1) for name, m in network.named_modules() if isinstance(m, torch.nn.PReLU)
    }
    assert all(torch.equal(value, expected[key]) for key, value in model.parts.network.state_dict().items())


def test_without_weights_the_exact_command_is_printed() -> None:
    with pytest.raises(ManualStepNeeded, match="needs weights") as caught:
        find("models", "rcan")()
    assert "refsr-bench weights import rcan RCAN_BIX4.pt" in str(caught.value)


def test_an_untrained_model_says_so_and_is_the_same_every_time() -> None:
    lr = np.arange(5 * 6 * 3, dtype=np.uint8).reshape(5, 6, 3)
    state = torch.random.get_rng_state()
    first, second = (find("models", "imdn")(untrained="yes") for _ in range(2))
    assert torch.equal(state, torch.random.get_rng_state())
    assert first.card.name == "imdn-untrained"
    assert np.array_equal(first.restore(lr, []), second.restore(lr, []))
    with pytest.raises(UsageError, match="neither yes nor no"):
        find("models", "imdn")(untrained="maybe")


def test_edsr_adds_the_mean_it_subtracts() -> None:
    model = find("models", "edsr-baseline")(untrained=True)
    with torch.no_grad():
        for parameter in model.parts.network.parameters():
            parameter.zero_()
    sr = model.restore(np.full((4, 4, 3), 9, np.uint8), [])
    assert np.allclose(sr, np.array((0.4488, 0.4371, 0.4040), np.float32), atol=1e-5)


@pytest.mark.parametrize(("name", "expected"), [("Set5", 32.21), ("Set14", 28.59)])
def test_imdn_scores_what_its_paper_prints(dev_data: Path, name: str, expected: float) -> None:
    model = find("models", "imdn")(weights=dev_data / "weights" / "IMDN_x4.pth")
    assert load_checkpoint(dev_data / "weights" / "IMDN_x4.pth").keys() == model.parts.network.state_dict().keys()
    scores = []
    for path in sorted((dev_data / "sisr" / f"{name}_x4").glob("*_LR.png")):
        sr = model.restore(load_image(path), [])
        hr = load_image(path.with_name(path.name.replace("_LR", "_HR")))
        scores.append(psnr_y(hr, np.rint(sr.clip(0, 1) * 255).astype(np.uint8)))
    assert np.mean(scores) == pytest.approx(expected, abs=0.01)
