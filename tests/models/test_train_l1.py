"""The L1 recipe: it trains, goes on, is evaluated under its own name; every model learns, with references too."""

from __future__ import annotations

import copy
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from refsr_bench.errors import ManualStepNeeded, UsageError
from refsr_bench.geometry import similarity_about_centre, translation
from refsr_bench.images import load_image, resize_bicubic
from refsr_bench.lookup import find
from refsr_bench.models import method, zoo
from refsr_bench.models.c2matching.checkpoints import State
from refsr_bench.models.c2matching.config import L1Config
from refsr_bench.models.c2matching.extractor import Extractor
from refsr_bench.models.c2matching.loop import Journal, Place
from refsr_bench.models.c2matching.training_data import Source, warp
from refsr_bench.models.train_l1 import NETWORK, build, train, train_network
from refsr_bench.models.vgg import VGG19, imagenet_state, load_vgg19
from refsr_bench.models.weights import load_checkpoint
from refsr_bench.testing import Scene, ablate_reference
from tests.models.test_refsr import TINY
from tests.test_cli import run, run_json

CPU = Place(torch.device("cpu"))
QUICK = {"size_px": 32, "batch": 2, "workers": 0, "iterations": 4, "checkpoint_every": 2, "log_every": 1}
SMALL_SISR = {
    "srcnn": {},
    "edsr-baseline": {"width": 16, "blocks": 2},
    "mdsr": {"width": 16, "blocks": 2},
    "rcan": {"width": 16, "groups": 1, "blocks": 2},
    "srgan": {"width": 16, "blocks": 2},
    "srgan-tensorlayer": {"width": 16, "blocks": 2},
    "srgan-mmediting": {"width": 16, "blocks": 2},
    "enet": {"width": 16, "blocks": 2},
    "esrgan": {"width": 16, "blocks": 1, "growth": 8},
    "ranksrgan": {"width": 16, "blocks": 2},
    "imdn": {"blocks": 1},
}


@pytest.fixture
def sources(photographs: Path) -> tuple[Source, ...]:
    return tuple(Source(photographs / name, None) for name in ("chelsea.png", "coffee.png", "astronaut.png"))


def test_a_reference_based_run_is_logged_and_written(sources: tuple[Source, ...], tmp_path: Path) -> None:
    config = L1Config(model="masa", sizes=TINY["masa"], **{**QUICK, "size_px": 64, "iterations": 2})
    weights = train(tmp_path / "run", config, sources, CPU)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text("utf-8").splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    assert {"l1", "gradient_norm", "learning_rate"} <= lines[0].keys()
    model = find("models", "masa")(weights=weights)
    assert model.card.name == "masa-l1"
    assert model.restore(np.zeros((5, 6, 3), np.uint8), [np.zeros((20, 24, 3), np.uint8)]).shape == (20, 24, 3)


def test_killed_and_resumed_is_bit_for_bit_the_same(sources: tuple[Source, ...], tmp_path: Path) -> None:
    config = L1Config(model="srcnn", generator_schedule="constant-as-released", **QUICK)
    whole = train(tmp_path / "whole", config, sources, CPU)

    def stop(step: int, total: int, values: object) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "parts", config, sources, CPU, stop)
    rest = train(tmp_path / "parts", config, sources, CPU)
    first, second = (load_checkpoint(folder / "network.safetensors") for folder in (whole, rest))
    assert all(torch.equal(value, second[key]) for key, value in first.items())


def test_what_was_trained_is_evaluated_under_its_own_name(
    photographs: Path, small_dataset: Path, tmp_path: Path
) -> None:
    settings = [argument for key, value in QUICK.items() for argument in ("--set", f"{key}={value}")]
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("chelsea.png", "coffee.png"):
        (folder / name).write_bytes((photographs / name).read_bytes())
    command = ["train", "edsr-baseline", "--photos", folder, "--size", "width=8", "--size", "blocks=1", *settings]
    trained = run_json(*command, "--threads", "1", "--out", tmp_path / "run")
    assert trained["steps"] == 4
    assert run_json(*command, "--out", tmp_path / "run", "--resume")["steps"] == 4
    other = run(*command, "--size", "width=16", "--out", tmp_path / "run", "--resume")
    assert "sizes cannot change when a run goes on" in other.err
    done = run("eval", "edsr-baseline", "--set", f"weights={trained['weights']}", "--dataset", small_dataset,
               "--out", tmp_path / "eval")  # fmt: skip
    assert done.code == 0, done.err
    assert "edsr-baseline-l1" in done.out
    card = json.loads((tmp_path / "eval" / "run.json").read_text("utf-8"))["model"]
    assert card["trained_on"] == "2 photographs, 4 steps of L1"
    assert card["parameters"] < 20_000
    with pytest.raises(UsageError, match="holds weights of edsr-baseline, not of rcan"):
        find("models", "rcan")(weights=trained["weights"])


def test_what_cannot_be_trained_is_said_first(tmp_path: Path, photographs: Path) -> None:
    assert "did you mean" in run("train", "edsr-baselin", "--photos", photographs).err
    assert "has no network to train here" in run("train", "bicubic", "--photos", photographs).err
    for setting in ("loss=gan", "network=small", "precision=bf16", "model=rcan"):
        refused = run("train", "srcnn", "--photos", photographs, "--set", setting, "--dry-run")
        assert (refused.code, setting.partition("=")[0] in refused.err) == (2, True)
    config = run_json("train", "ttsr", "--data", "cufed", "--size", "blocks=1,1,1,1", "--dry-run")
    assert (config["own_share"], config["sizes"], config["model"]) == (1.0, {"blocks": [1, 1, 1, 1]}, "ttsr")
    with pytest.raises(ManualStepNeeded, match="begins with VGG-19 inside"):
        build(L1Config(model="ttsr"), CPU.device)
    with pytest.raises(UsageError, match="cannot be made with sizes"):
        build(L1Config(model="rcan", sizes={"depth": 3}), CPU.device)


def fixed_pairs() -> list[Scene]:
    """Eight 64x64 crops, each with a moved and turned view of itself; "unrelated" is the next one's reference."""
    folder = Path(str(__import__("importlib.resources").resources.files("skimage"))) / "data"
    views = []
    for name in ("chelsea.png", "coffee.png", "astronaut.png", "rocket.jpg"):
        picture = load_image(folder / name)
        for x, y in ((120, 60), (200, 120)):
            hr = np.ascontiguousarray(picture[y : y + 64, x : x + 64])
            turn = similarity_about_centre(64, 64, angle_deg=4, scale=1.05)
            ref = warp(picture, translation(3, -2) @ turn @ translation(-x, -y), 64)
            views.append((hr, resize_bicubic(hr, 16, 16), np.ascontiguousarray(ref)))
    return [Scene(hr, lr, ref, views[(i + 2) % 8][2]) for i, (hr, lr, ref) in enumerate(views)]


def batches(scenes: list[Scene], size: int) -> Iterator[dict[str, torch.Tensor]]:
    for start in itertools.count(0, size):
        chosen = [scenes[(start + i) % len(scenes)] for i in range(size)]
        yield {
            key: torch.from_numpy(np.stack([getattr(scene, key) for scene in chosen])) for key in ("hr", "lr", "ref")
        }


def learn(
    name: str,
    sizes: dict[str, Any],
    scenes: list[Scene],
    steps: int,
    run_dir: Path,
    parts: method.Parts,
    batch: int = 4,
) -> list[float]:
    """Train on the same pairs for some steps; the loss of every step."""
    config = L1Config(model=name, sizes=sizes, iterations=steps, batch=batch, learning_rate=2e-3, rise=5, log_every=1)
    of = method.find_method(name)
    state = State({NETWORK: parts.network}, {NETWORK: torch.optim.Adam(parts.network.parameters(), lr=2e-3)})
    run_dir.mkdir()
    train_network(config, batches(scenes, batch), Journal(run_dir, config, CPU, state), of, parts)
    return [json.loads(line)["l1"] for line in (run_dir / "log.jsonl").read_text("utf-8").splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL_SISR)
def test_a_single_image_models_loss_falls(name: str, tmp_path: Path) -> None:
    parts = method.random_parts(method.find_method(name), CPU.device, SMALL_SISR[name])
    losses = learn(name, SMALL_SISR[name], fixed_pairs(), 60, tmp_path / "run", parts)
    print(f"{name}: L1 {np.mean(losses[:4]):.4f} to {np.mean(losses[-4:]):.4f}")
    assert np.mean(losses[-4:]) < 0.7 * np.mean(losses[:4])


def torchvisions_scale(vgg: VGG19) -> VGG19:
    """The same network with features of about 1: all methods but SRNTT were made for torchvision's, not Oxford's.

    Scaling the first weights and all biases scales every feature.
    """
    scaled = copy.deepcopy(vgg)
    first = True
    for layer in scaled.features:
        if isinstance(layer, torch.nn.Conv2d):
            layer.weight.data *= 1 / 58 if first else 1  # pixels of +-128 against +-2.2
            layer.bias.data *= 1 / 58  # type: ignore[union-attr]
            first = False
    return scaled


def with_real_features(name: str, dev_data: Path) -> method.Parts:
    """The method's parts, tiny, its borrowed networks filled with VGG-19's real weights."""
    of = method.find_method(name)
    parts = method.random_parts(of, CPU.device, TINY[name])
    file = dev_data / "weights" / "vgg19_conv1_1-conv3_1_float32_bgr_caffe.npz"
    vgg = load_vgg19(load_checkpoint(file), str(file))
    if parts.vgg is not None:
        parts = parts._replace(vgg=vgg if name == "srntt" else torchvisions_scale(vgg))
    if of.start is not None:
        of.start(parts.network, torchvisions_scale(vgg))
    if parts.extractor is not None:
        names = list(VGG19().names)
        state = imagenet_state(vgg)
        own = {
            f"feature_extraction_image{branch}.model.{layer}.{leaf}": state[f"features.{names.index(layer)}.{leaf}"]
            for branch in (1, 2)
            for layer in ("conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1")
            for leaf in ("weight", "bias")
        }
        extractor = Extractor()
        extractor.load_state_dict(extractor.state_dict() | own)
        parts = parts._replace(extractor=extractor.eval().requires_grad_(False))
    return parts


STEPS = {
    "crossnet": (400, 4),
    "srntt": (600, 1),
    "ttsr": (120, 2),
    "ssen": (200, 4),
    "masa": (150, 4),
    "amsa": (70, 2),
    "datsr": (90, 2),
    "mrefsr": (150, 2),
}
"""Steps and pairs a step: what the model learns from within three minutes of one core, the ablation included."""


@pytest.mark.slow
@pytest.mark.parametrize("name", STEPS)
def test_a_reference_model_overfits_eight_pairs_and_uses_its_reference(
    name: str, dev_data: Path, tmp_path: Path
) -> None:
    started = time.process_time()  # of all threads: what else the machine does does not count
    scenes, parts = fixed_pairs(), with_real_features(name, dev_data)
    steps, batch = STEPS[name]
    losses = learn(name, TINY[name], scenes, steps, tmp_path / "run", parts, batch)
    model = method.ZooModel(zoo.CARDS[name], method.find_method(name), parts)
    tables = [ablate_reference(model, scene) for scene in scenes]
    means = {key: float(np.mean([table[key] for table in tables])) for key in tables[0]}
    gain, seconds = means["true"] - means["unrelated"], time.process_time() - started
    bicubic = np.mean([np.abs(resize_bicubic(s.lr, 64, 64) - s.hr.astype(float)).mean() for s in scenes]) / 255
    once = len(scenes) // batch
    first, last = float(np.mean(losses[:once])), float(np.mean(losses[-once:]))
    print(f"{name}: L1 {first:.4f} to {last:.4f} (bicubic {bicubic:.4f}) in {steps} steps of {batch} pairs; "
          f"{seconds:.0f} s of processor time; reference gain {gain:+.2f} dB; "
          + ", ".join(f"{k} {v:.2f}" for k, v in means.items()))  # fmt: skip
    assert last < 0.7 * first
    assert gain > 0
    assert seconds < 180


def test_vgg_in_imagenets_convention_gives_the_same_features() -> None:
    caffe = VGG19(("relu2_1",), "caffe-bgr")
    twin = VGG19(("relu2_1",))
    twin.load_state_dict(imagenet_state(caffe))
    image = torch.rand(1, 3, 24, 24)
    expected, made = (net(image)["relu2_1"][..., 3:-3, 3:-3].detach() for net in (caffe, twin))
    assert torch.allclose(made, expected, atol=1e-3 * float(expected.abs().max()))
