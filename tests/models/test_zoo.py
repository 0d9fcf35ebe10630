"""The zoo: parameter counts, official keys, importing, and IMDN's published numbers through it."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from refsr_bench.errors import IntegrityError, ManualStepNeeded, UsageError
from refsr_bench.lookup import find, list_entries
from refsr_bench.models import method, zoo
from refsr_bench.models.weights import import_weights
from refsr_bench.store import model_dir
from tests.models.official_keys import OFFICIAL
from tests.test_cli import run, run_json

COUNTS = {
    "srcnn": 20_099,
    "edsr-baseline": 1_517_571,
    "edsr": 43_089_923,
    "rcan": 15_592_355,
    "srgan": 1_547_350,
    "srgan-tensorlayer": 1_518_147,
    "srgan-mmediting": 1_517_571,
    "enet": 852_867,
    "esrgan": 16_697_987,
    "ranksrgan": 1_554_499,
}

SOME_OFFICIAL_KEYS = {  # where no complete list is known; those are in `official_keys`
    "mdsr": ("pre_process.2.1.body.2.weight", "body.79.body.0.bias", "upsample.2.2.weight", "tail.0.bias"),
    "srgan-mmediting": ("conv_first.weight", "trunk_net.15.conv2.bias", "upsample2.upsample_conv.bias", "conv_hr.bias"),
    "imdn": ("fea_conv.weight", "IMDB6.cca.conv_du.2.bias", "c.0.weight", "LR_conv.bias", "upsampler.0.weight"),
    "crossnet": (
        "FlowNet.conv6_1.0.weight",
        "FlowNet.flow_12.0.bias",
        "UNet_decoder_2.post_fusion2.0.weight",
    ),
    "ttsr": (
        "MainNet.SFE.conv_head.weight",
        "MainNet.ex123.conv31_2.bias",
        "MainNet.RB33.3.conv2.weight",
        "MainNet.merge_tail.conv_tail2.bias",
        "LTE.slice3.10.weight",
        "LTE.sub_mean.bias",
    ),
    "masa": ("enc.blk_L3.3.conv2.bias", "decoder.dram_x4.conv_up_b.weight", "decoder.pAda.conv_gamma.weight"),
    "amsa": (
        "content_extractor.body.15.conv2.bias",
        "dyn_agg_restore.small_deform_conv.conv_offset_mask.weight",
        "dyn_agg_restore.tail_large.2.weight",
    ),
    "datsr": (
        "dyn_agg_restore.down_body_large.layers.1.residual_group.blocks.3.attn.relative_position_bias_table",
        "dyn_agg_restore.up_small_dyn_agg.conv_offset_mask.weight",
        "dyn_agg_restore.up_tail_large.2.bias",
    ),
    "mrefsr": (
        "dyn_agg_restore.head_small.conv_emb1.1.weight",
        "dyn_agg_restore.head_large.spatial_attn_add2.bias",
    ),
}

SAME_NETWORK = {
    **{name: name.removesuffix("-rec") for name in zoo.CARDS if name.endswith("-rec")},
    "srresnet": "srgan",
    "srresnet-mmediting": "srgan-mmediting",
    "esrgan-psnr": "esrgan",
}
"""Models that are others' networks with weights trained otherwise."""

NETWORKS = [name for name in zoo.CARDS if name not in SAME_NETWORK]
"""Every network once."""

SMALL = ("srcnn", "edsr-baseline", "srgan", "srgan-mmediting", "enet", "ranksrgan", "imdn")


@functools.cache
def network_on_meta(name: str) -> torch.nn.Module:
    with torch.device("meta"):
        return method.find_method(name).network()


def roles_of(name: str) -> tuple[str, ...]:
    return method.find_method(name).roles


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def random_state(name: str) -> dict[str, torch.Tensor]:
    """Small numbers under the official keys and shapes, as they would lie in the published file."""
    torch.manual_seed(1)
    network = network_on_meta(name).state_dict()
    shapes = OFFICIAL.get(name) or {key: tuple(value.shape) for key, value in network.items()}
    return {
        key: torch.rand(shape) * 0.1 + (0.5 if "running_var" in key else -0.05)
        if network[key].is_floating_point()
        else torch.tensor(0)
        for key, shape in shapes.items()
    }


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_are_those_of_the_released_definitions(name: str) -> None:
    assert count(network_on_meta(name)) == COUNTS[name]


@pytest.mark.parametrize("name", zoo.CARDS)
def test_a_card_tells_the_counted_parameters(name: str) -> None:
    assert zoo.CARDS[name].parameters == count(network_on_meta(name))
    assert name in list_entries("models")


@pytest.mark.parametrize("name", OFFICIAL)
def test_keys_and_shapes_are_those_of_the_published_file(name: str) -> None:
    assert {key: tuple(value.shape) for key, value in network_on_meta(name).state_dict().items()} == OFFICIAL[name]


@pytest.mark.parametrize("name", SOME_OFFICIAL_KEYS)
def test_keys_are_the_official_ones(name: str) -> None:
    assert set(SOME_OFFICIAL_KEYS[name]) <= network_on_meta(name).state_dict().keys()


@pytest.mark.parametrize("name", SAME_NETWORK)
def test_weights_trained_otherwise_are_no_other_network(name: str) -> None:
    assert method.find_method(name) is method.find_method(SAME_NETWORK[name])


def import_and_run(name: str, tmp_path: Path, prefix: str = "") -> None:
    state = random_state(name)
    torch.save({f"{prefix}{key}": value for key, value in state.items()}, tmp_path / "official.pth")
    (stored,) = import_weights(name, [tmp_path / "official.pth"])
    assert stored.role == "network"
    model = find("models", name)()
    assert model.card.weights_sha256 == {"network": stored.source_sha256}
    lr = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    sr = model.restore(lr, [])
    assert sr.shape == (36, 28, 3)
    assert sr.dtype == np.float32
    certificate = json.loads((model_dir() / name / "network.certificate.json").read_text("utf-8"))
    assert certificate["source_sha256"] == stored.source_sha256
    assert certificate["parameters"] == sum(value.numel() for value in state.values())
    assert certificate["renamed"] == {}
    assert certificate["left_out"] == []
    assert certificate["forward"] == pytest.approx(method.forward_checksum(name, state), rel=1e-4)


@pytest.mark.parametrize("name", SMALL)
def test_official_state_dicts_import_and_run(name: str, tmp_path: Path) -> None:
    import_and_run(name, tmp_path, prefix="module." if name == "imdn" else "")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["edsr", "mdsr", "rcan", "esrgan"])
def test_large_official_state_dicts_import_and_run(name: str, tmp_path: Path) -> None:
    import_and_run(name, tmp_path)


@pytest.mark.parametrize(("name", "role"), [(name, role) for name in NETWORKS for role in roles_of(name)])
def test_one_wrong_key_is_named(name: str, role: str) -> None:
    of = method.find_method(name)
    official = method.part_of(network_on_meta(name), of, role).state_dict()
    assert method.identify(name, official, Path("official.pth")).role == role
    keys = [key for key in official if not key.endswith("num_batches_tracked")]  # of which files may hold none
    key = keys[len(keys) // 2]
    wrong = (
        ("1 missing", key, {k: v for k, v in official.items() if k != key}),
        ("1 not expected", "surprise.weight 2×2", official | {"surprise.weight": torch.zeros(2, 2)}),
        ("1 of another shape", f"{key} 7 instead of ", official | {key: torch.zeros(7)}),
    )
    for wording, named, state in wrong:
        with pytest.raises(IntegrityError) as caught:
            method.identify(name, state, Path("damaged.pth"))
        first, *lines = str(caught.value).splitlines()
        assert first == "damaged.pth does not fit the network"
        assert len(lines) == 1
        assert wording in lines[0]
        assert named in lines[0]


@pytest.mark.parametrize("name", ["srgan-tensorlayer", "enet", "srntt"])
def test_one_wrong_array_of_a_list_is_named(name: str) -> None:
    of = method.find_method(name)
    part = method.part_of(of.network(), of, of.roles[-1])
    arrays = [torch.from_numpy(array) for array in tensorflow_list(part)]
    whole = {f"{i:04}": array for i, array in enumerate(arrays)}
    assert method.identify(name, whole, Path("official.npz")).role == of.roles[-1]
    last = f"{len(arrays) - 1:04}"
    wrong = (
        ("1 missing", {key: value for key, value in whole.items() if key != last}),
        (f"1 not expected: array {len(arrays)} 5", {**whole, f"{len(arrays):04}": torch.zeros(5)}),
        ("1 of another shape", {**whole, last: torch.zeros(7)}),
    )
    for wording, state in wrong:
        with pytest.raises(IntegrityError, match=wording):
            method.identify(name, state, Path("damaged.npz"))


def test_a_damaged_file_leaves_nothing_behind(tmp_path: Path) -> None:
    torch.save(random_state("srcnn") | {"surprise": torch.zeros(2)}, tmp_path / "damaged.pth")
    with pytest.raises(IntegrityError, match="surprise"):
        import_weights("srcnn", [tmp_path / "damaged.pth"])
    assert not (model_dir() / "srcnn").exists()


def test_mmediting_wraps_srcnn_in_generator(tmp_path: Path) -> None:
    state = random_state("srcnn")
    torch.save({"state_dict": {f"generator.{key}": value for key, value in state.items()}}, tmp_path / "srcnn.pth")
    assert import_weights("srcnn", [tmp_path / "srcnn.pth"])[0].role == "network"
    certificate = json.loads((model_dir() / "srcnn" / "network.certificate.json").read_text("utf-8"))
    assert certificate["renamed"]["conv1.weight"] == "generator.conv1.weight"


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


def tensorflow_list(network: torch.nn.Module) -> list[np.ndarray]:
    """The arrays of a network as TensorLayer would list them; the way back is written by hand, not shared."""
    arrays, modules = [], [m for m in network.modules() if not list(m.children())]
    for module, following in zip(modules, [*modules[1:], None], strict=True):
        if isinstance(module, torch.nn.Conv2d):
            both = [module.weight.detach().permute(2, 3, 1, 0).numpy()]
            both += [module.bias.detach().numpy()] if module.bias is not None else []
            if isinstance(following, torch.nn.PixelShuffle):
                # depth_to_space: channel (dy * 2 + dx) * C + c goes to row dy, column dx of channel c.
                groups = module.out_channels // 4
                order = [c * 4 + dy * 2 + dx for dy in range(2) for dx in range(2) for c in range(groups)]
                both = [array[..., order] for array in both]
            arrays += both
        elif isinstance(module, torch.nn.BatchNorm2d):
            values = (module.bias, module.weight, module.running_mean, module.running_var)
            arrays += [value.detach().numpy() for value in values]  # type: ignore[union-attr]
    return arrays


def test_a_tensorlayer_list_is_read_by_position(tmp_path: Path) -> None:
    network = method.find_method("srgan-tensorlayer").network()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    arrays = tensorflow_list(network)
    params = np.empty(len(arrays), dtype=object)
    params[:] = arrays
    np.savez(tmp_path / "g_srgan.npz", params=params)
    import_weights("srgan-tensorlayer", [tmp_path / "g_srgan.npz"])
    model = find("models", "srgan-tensorlayer")()
    loaded = model.parts.network.state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in network.state_dict().items())


def test_a_list_of_the_wrong_length_is_explained(tmp_path: Path) -> None:
    arrays = tensorflow_list(method.find_method("enet").network())
    np.savez(tmp_path / "enhancenet.npz", *arrays, np.zeros(3))
    with pytest.raises(IntegrityError, match=r"1 not expected: array 50 3"):
        import_weights("enet", [tmp_path / "enhancenet.npz"])
    np.savez(tmp_path / "enhancenet.npz", *arrays)
    assert import_weights("enet", [tmp_path / "enhancenet.npz"])[0].role == "network"


def test_enet_enlarges_as_tensorflow_1_did() -> None:
    from refsr_bench.models.sisr.enet import enlarge_as_tensorflow_1

    def cubic(t: float) -> float:
        t, a = abs(t), -0.75
        if t <= 1:
            return (a + 2) * t**3 - (a + 3) * t**2 + 1
        return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0

    image = np.random.default_rng(0).random((5, 6))

    def matrix(n: int) -> np.ndarray:
        rows = np.zeros((4 * n, n))
        for i in range(4 * n):
            for tap in range(-3, n + 3):
                rows[i, min(max(tap, 0), n - 1)] += cubic(i / 4 - tap)
        return rows

    expected = matrix(5) @ image @ matrix(6).T
    ours = enlarge_as_tensorflow_1(torch.from_numpy(image)[None, None])[0, 0].numpy()
    assert np.allclose(ours, expected, atol=1e-9)
    assert np.allclose(ours[::4, ::4], image)


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
def test_imdn_scores_what_its_paper_prints(dev_data: Path, tmp_path: Path, name: str, expected: float) -> None:
    assert run("weights", "import", "imdn", dev_data / "weights" / "IMDN_x4.pth").code == 0
    built = run("build", name.lower(), "--from", dev_data / "sisr" / f"{name}_x4", "--out", tmp_path / name)
    assert built.code == 0, built.err
    result = run_json("eval", "imdn", "--dataset", tmp_path / name, "--lr", "shipped", "--out", tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "rows.jsonl").read_text("utf-8").splitlines()]
    scores = [row["value"] for row in rows if row["metric"] == "psnr_y"]
    assert np.mean(scores) == pytest.approx(expected, abs=0.01)
    assert "lr:shipped.matlab.bicubic" in rows[0]["signature"]
    assert not result["failed"]
