from __future__ import annotations

import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from refsr_bench.disk import sha256_file
from refsr_bench.errors import IntegrityError, ManualStepNeeded, UsageError
from refsr_bench.models.c2matching import build, build_gan
from refsr_bench.models.c2matching.extractor import Extractor
from refsr_bench.models.c2matching.restoration import Restoration
from refsr_bench.models.vgg import VGG19, check_vgg19, load_vgg19, vgg_layers
from refsr_bench.models.weights import (
    WeightFile,
    import_weights,
    list_weights,
    load_checkpoint,
    load_into,
    verify_weights,
)
from refsr_bench.store import model_dir

OFFICIAL = (
    "feature_extraction.pth",
    "c2_matching_restoration_mse.pth",
    "c2_matching_restoration.pth",
    "vgg19-dcbb9e9d.pth",
)


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published files by name and keys, with random numbers in them."""
    folder = tmp_path_factory.mktemp("official")
    torch.manual_seed(0)
    torch.save(Extractor().state_dict(), folder / OFFICIAL[0])
    torch.save(Restoration().state_dict(), folder / OFFICIAL[1])
    torch.save(Restoration().state_dict(), folder / OFFICIAL[2])
    torch.save(VGG19().state_dict() | {"classifier.0.weight": torch.zeros(2, 2)}, folder / OFFICIAL[3])
    return folder


def small_state() -> dict[str, Tensor]:
    return {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.ones(2)}


class Payload:
    """Unpickling this with the ordinary reader touches a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch '{self.marker}'",)


# --- reading -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"params": {}, "params_ema": state},
        lambda state: {f"module.{key}": value for key, value in state.items()},
        lambda state: nn.ParameterDict({}).state_dict() | {k: nn.Parameter(v) for k, v in state.items()},
    ],
    ids=["plain", "state_dict", "params_ema", "module", "parameters"],
)
def test_reads_what_training_code_writes(tmp_path: Path, wrap: object, zipped: bool) -> None:
    path = tmp_path / "net.pth"
    torch.save(wrap(small_state()), path, _use_new_zipfile_serialization=zipped)
    read = load_checkpoint(path)
    assert read.keys() == small_state().keys()
    assert all(torch.equal(read[key], value) for key, value in small_state().items())
    assert not any(value.requires_grad for value in read.values())


def test_reads_safetensors_and_npz_alike(tmp_path: Path) -> None:
    safetensors.torch.save_file(small_state(), tmp_path / "net.safetensors")
    np.savez(tmp_path / "net.npz", **{key: value.numpy() for key, value in small_state().items()})
    for name in ("net.safetensors", "net.npz"):
        read = load_checkpoint(tmp_path / name)
        assert all(torch.equal(read[key], value) for key, value in small_state().items())


@pytest.mark.parametrize("kind", ["zip", "legacy", "bare pickle", "npz"])
def test_code_in_a_checkpoint_is_reported_and_never_run(tmp_path: Path, kind: str) -> None:
    marker = tmp_path / "executed"
    content = small_state() | {"extra": Payload(marker)}
    path = tmp_path / ("bad.npz" if kind == "npz" else "bad.pth")
    if kind == "npz":
        np.savez(path, extra=np.array([Payload(marker)], dtype=object))
    elif kind == "bare pickle":
        path.write_bytes(pickle.dumps({"extra": Payload(marker)}))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(IntegrityError, match=path.name) as caught:
        load_checkpoint(path)
    assert caught.value.remedy
    assert not marker.exists()
    # The payload is a working one.
    if kind == "bare pickle":
        pickle.loads(path.read_bytes())
        assert marker.exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".npz"])
@pytest.mark.parametrize("kept", [0, 1, 40, 0.5, 0.98])
def test_truncated_files_are_refused_by_name(tmp_path: Path, suffix: str, kept: float) -> None:
    state = {"a": torch.randn(300)}
    buffer = io.BytesIO()
    if suffix == ".pth":
        torch.save(state, buffer)
    elif suffix == ".npz":
        np.savez(buffer, a=state["a"].numpy())
    else:
        buffer.write(safetensors.torch.save(state))
    whole = buffer.getvalue()
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(whole[: kept if isinstance(kept, int) else int(kept * len(whole))])
    with pytest.raises(IntegrityError, match="cut"):
        load_checkpoint(path)


def test_a_web_page_saved_under_a_checkpoint_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "feature_extraction.pth"
    path.write_text("<!DOCTYPE html><title>Google Drive - Quota exceeded</title>")
    with pytest.raises(IntegrityError, match=r"feature_extraction\.pth"):
        load_checkpoint(path)


@pytest.mark.parametrize("content", [[1, 2], {}, {"a": 1.5}, {"a": torch.ones(1), "b": "text"}, {3: torch.ones(1)}])
def test_anything_but_named_tensors_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(IntegrityError, match=r"odd\.pth"):
        load_checkpoint(tmp_path / "odd.pth")


def test_missing_files_and_unknown_formats_are_usage_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no weight file"):
        load_checkpoint(tmp_path / "absent.pth")
    with pytest.raises(UsageError, match="by its name"):
        load_checkpoint(tmp_path / "weights.zip")


# --- checking ----------------------------------------------------------------------------------------------------


def test_one_error_names_missing_extra_and_misshapen_keys() -> None:
    net = nn.Sequential(*(nn.Linear(2, 2) for _ in range(6)))
    state = net.state_dict()
    for i in range(5):
        del state[f"{i}.weight"], state[f"{i}.bias"]
    state |= {"head.weight": torch.ones(4), "5.weight": torch.ones(3, 2)}
    with pytest.raises(IntegrityError) as caught:
        load_into(net, state, "some.pth")
    message = str(caught.value)
    assert message.startswith("some.pth does not fit the network")
    assert "10 missing: 0.weight 2×2; " in message
    assert "… and 2 more" in message
    assert "1 not expected: head.weight 4" in message
    assert "1 of another shape: 5.weight 3×2 instead of 2×2" in message


def test_key_map_renames_and_drops() -> None:
    net = nn.Linear(3, 2)
    state = small_state() | {"optimiser": torch.zeros(1)}
    load_into(net, state, "x", lambda key: key.removeprefix("a.") if key.startswith("a.") else None)
    assert torch.equal(net.weight, small_state()["a.weight"])


# --- VGG-19 ------------------------------------------------------------------------------------------------------


def caffe_state(last: str = "conv3_1") -> dict[str, Tensor]:
    return {
        f"{name}.{leaf}": tensor
        for name, layer in vgg_layers(last).items()
        for leaf, tensor in layer.state_dict().items()
    }


def test_caffe_weights_see_bgr_minus_the_mean() -> None:
    state = caffe_state()
    net = load_vgg19(state, "x.npz")
    assert net.convention == "caffe-bgr"
    image = torch.rand(1, 3, 9, 10)
    bgr = torch.stack([image[0, 2] * 255 - 103.939, image[0, 1] * 255 - 116.779, image[0, 0] * 255 - 123.68])
    expected = torch.relu(nn.functional.conv2d(bgr[None], state["conv1_1.weight"], state["conv1_1.bias"], padding=1))
    torch.testing.assert_close(net(image)["relu1_1"], expected)


def test_torchvision_weights_see_normalised_rgb() -> None:
    state = VGG19().state_dict()
    net = load_vgg19(state, "x.pth")
    assert net.convention == "torchvision"
    image = torch.rand(1, 3, 8, 8)
    rgb = (image - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(
        3, 1, 1
    )
    expected = torch.relu(nn.functional.conv2d(rgb, state["features.0.weight"], state["features.0.bias"], padding=1))
    torch.testing.assert_close(net(image)["relu1_1"], expected)


def test_layers_above_the_last_needed_one_are_left_out() -> None:
    state = caffe_state("conv3_4") | {"classifier.6.bias": torch.zeros(3)}
    net = load_vgg19(state, "x.npz", ("relu2_1",))
    assert len(net.features) == 7
    assert not any(parameter.requires_grad for parameter in net.parameters())


def test_a_vgg16_file_is_not_taken_for_vgg19() -> None:
    with torch.device("meta"):
        state = VGG19(("relu4_1",)).state_dict()
        state["features.17.weight"] = state.pop("features.19.weight")
    with pytest.raises(IntegrityError, match=r"1 not expected: features\.17\.weight"):
        check_vgg19(state, "vgg16.pth")


def test_relu5_1_is_within_reach() -> None:
    with torch.device("meta"):
        net = VGG19(("relu5_1",))
        assert net(torch.empty(1, 3, 32, 48))["relu5_1"].shape == (1, 512, 2, 3)
    assert list(net.state_dict())[-1] == "features.28.bias"


def test_real_caffe_weights_load(dev_data: Path) -> None:
    path = dev_data / "weights" / "vgg19_conv1_1-conv3_1_float32_bgr_caffe.npz"
    features = load_vgg19(load_checkpoint(path), str(path))(torch.rand(1, 3, 16, 16))
    assert features["relu3_1"].shape == (1, 256, 4, 4)


# --- importing ---------------------------------------------------------------------------------------------------


def test_import_list_verify_and_build(official: Path) -> None:
    imported = import_weights("c2matching", [official / name for name in OFFICIAL])
    assert [file.role for file in imported] == ["extractor", "restoration-mse", "restoration-gan", "vgg19"]
    for file, name in zip(imported, OFFICIAL, strict=True):
        assert file.source_sha256 == sha256_file(official / name)
    folder = model_dir() / "c2matching"
    assert {path.name for path in folder.iterdir()} == {
        f"{file.role}.{suffix}" for file in imported for suffix in ("json", "safetensors", "certificate.json")
    }
    assert {file.role for _, file in list_weights()} == {file.role for file in imported}
    assert [problem for _, problem in verify_weights()] == [None] * 4

    lr, ref = (np.random.default_rng(1).integers(0, 256, (n, n, 3), dtype=np.uint8) for n in (6, 24))
    by_import, by_folder = build(), build(weights=official)
    assert by_import.card == by_folder.card
    assert by_import.card.weights_sha256["restoration-mse"] == sha256_file(official / OFFICIAL[1])
    np.testing.assert_array_equal(by_import.restore(lr, [ref]), by_folder.restore(lr, [ref]))
    gan = build_gan()
    assert gan.card.name == "c2matching-gan"
    assert not np.array_equal(gan.restore(lr, [ref]), by_import.restore(lr, [ref]))


def test_one_flipped_byte_is_found(official: Path) -> None:
    import_weights("c2matching", [official / name for name in OFFICIAL])
    path = model_dir() / "c2matching" / "restoration-mse.safetensors"
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    problems = {checked.name: problem for checked, problem in verify_weights()}
    assert [name for name, problem in problems.items() if problem] == [path.name]
    assert "changed since it was imported" in str(problems[path.name])
    with pytest.raises(IntegrityError, match="changed since"):
        build()
    build_gan()


def test_an_interrupted_import_is_not_listed_and_found_by_verify(official: Path) -> None:
    import_weights("c2matching", [official / OFFICIAL[0]])
    (model_dir() / "c2matching" / "extractor.json").unlink()
    assert list_weights() == []
    assert "interrupted" in str(verify_weights()[0][1])


def test_a_deleted_file_is_not_listed_and_found_by_verify(official: Path) -> None:
    import_weights("c2matching", [official / name for name in OFFICIAL])
    path = model_dir() / "c2matching" / "extractor.safetensors"
    path.unlink()
    assert path not in [listed for listed, _ in list_weights()]
    problems = {checked: problem for checked, problem in verify_weights() if problem}
    assert problems == {path: f"{path} was imported, but is gone"}


def test_nothing_is_stored_when_one_file_is_bad(official: Path, tmp_path: Path) -> None:
    state = torch.load(official / OFFICIAL[1], weights_only=True)  # noqa: TID251
    del state["content_extractor.conv_first.bias"]
    bad = tmp_path / "restoration_mse.pth"
    torch.save(state, bad)
    with pytest.raises(IntegrityError, match=r"1 missing: content_extractor\.conv_first\.bias 64"):
        import_weights("c2matching", [official / OFFICIAL[0], bad])
    assert list_weights() == []


def test_a_restoration_file_without_a_telling_name_needs_its_role(official: Path, tmp_path: Path) -> None:
    path = tmp_path / "net_g_255000.pth"
    path.write_bytes((official / OFFICIAL[1]).read_bytes())
    with pytest.raises(UsageError, match="does not say") as caught:
        import_weights("c2matching", [path])
    assert f"restoration-gan={path}" in str(caught.value)
    (file,) = import_weights("c2matching", [f"restoration-gan={path}"], tmp_path / "out")
    assert (file.role, file.source_file) == ("restoration-gan", path.name)
    assert (tmp_path / "out" / "c2matching" / "restoration-gan.safetensors").is_file()


def test_caffe_convention_survives_the_import(tmp_path: Path) -> None:
    path = tmp_path / "vgg.npz"
    np.savez(path, **{key: value.numpy() for key, value in caffe_state().items()})
    (file,) = import_weights("c2matching", [path])
    assert (file.role, file.convention) == ("vgg19", "caffe-bgr")
    stored = model_dir() / "c2matching" / "vgg19.safetensors"
    assert load_vgg19(load_checkpoint(stored), str(stored)).convention == "caffe-bgr"


def test_unknown_models_roles_and_doubles_are_usage_errors(official: Path) -> None:
    with pytest.raises(UsageError, match="no weights can be imported"):
        import_weights("c2match", [])
    with pytest.raises(UsageError, match="unknown role"):
        import_weights("c2matching", [f"extracter={official / OFFICIAL[0]}"])
    with pytest.raises(UsageError, match="both extractor"):
        import_weights("c2matching", [official / OFFICIAL[0], official / OFFICIAL[0]])


def test_the_sidecar_refuses_unknown_fields() -> None:
    with pytest.raises(ValueError, match="surplus"):
        WeightFile.model_validate({"surplus": 1})


def test_missing_weights_name_roles_places_and_the_command(official: Path, tmp_path: Path) -> None:
    with pytest.raises(ManualStepNeeded) as caught:
        build(weights=tmp_path)  # without a folder the small network would come instead
    message = str(caught.value)
    for part in (
        "extractor, restoration-mse, vgg19",
        str(tmp_path),
        f"refsr-bench weights import c2matching {OFFICIAL[0]} {OFFICIAL[1]} {OFFICIAL[3]}",
        "1dTkXMzeBrHelVQUEx5zib5MdmvqDaSd9",
    ):
        assert part in message
    (tmp_path / OFFICIAL[0]).write_bytes((official / OFFICIAL[0]).read_bytes())
    with pytest.raises(ManualStepNeeded, match="restoration-gan, vgg19"):
        build_gan(weights=tmp_path)
