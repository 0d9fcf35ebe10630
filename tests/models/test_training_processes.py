"""Training as a user starts it: commands that are killed and resumed, and two processes that share a batch."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from refsr_bench.images import encode_png
from refsr_bench.models.c2matching.checkpoints import load_tensors, save_tensors
from refsr_bench.models.c2matching.config import list_checkpoints
from refsr_bench.models.vgg import VGG19

TINY = ["size_px=64", "batch=4", "workers=0", "log_every=1", "short_side_px=96"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory, photographs: Path) -> Path:
    """Four photographs of scikit-image's, small."""
    folder = tmp_path_factory.mktemp("photos")
    for name in ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg"):
        with Image.open(photographs / name) as picture:
            small = picture.convert("RGB").resize((288, 224))
        (folder / name).with_suffix(".png").write_bytes(encode_png(np.asarray(small)))
    return folder


def start(
    run: Path, stage: str, pictures: Path, settings: list[str], *more: str, processes: int = 1
) -> subprocess.Popen[str]:
    ranked = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
    command = [sys.executable, "-m", *(ranked if processes > 1 else []), "refsr_bench", "train", "c2matching"]
    command += ["--stage", stage, "--preset", "small", "--photos", str(pictures), "--out", str(run), "--threads", "1"]
    command += [*more, *(part for setting in settings for part in ("--set", setting))]
    environment = {**os.environ, "REFSR_NO_PROGRESS": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen[str]) -> None:
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output


def log_of(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def assert_close(a: Path, b: Path, name: str, tolerance: float) -> None:
    """Weights agree up to ``tolerance`` of the largest change that one Adam step can make."""
    first, second = (load_tensors(run / "weights", name) for run in (a, b))
    for key, value in first.items():
        assert (value - second[key]).abs().max().item() <= tolerance, key


@pytest.mark.parametrize(
    "stage",
    [pytest.param("teacher", marks=pytest.mark.slow), "student", pytest.param("restoration", marks=pytest.mark.slow)],
)
def test_two_processes_are_one_with_the_whole_batch(stage: str, pictures: Path, tmp_path: Path) -> None:
    settings = [*TINY, "iterations=3", "rise=0"]
    if stage == "restoration":
        finish(start(tmp_path / "student", "student", pictures, [*TINY, "iterations=1"]))
        settings += [f"extractor={tmp_path / 'student'}"]
    runs = [start(tmp_path / name, stage, pictures, settings, processes=n) for n, name in enumerate(("one", "two"), 1)]
    for process in runs:
        finish(process)
    name = "restoration" if stage == "restoration" else "extractor"
    one, two = log_of(tmp_path / "one"), log_of(tmp_path / "two")
    loss = "l1" if stage == "restoration" else "loss"
    assert [line[loss] for line in one] == pytest.approx([line[loss] for line in two], rel=1e-3)
    assert one[0]["gradient_norm"] == pytest.approx(two[0]["gradient_norm"], rel=1e-4)
    # Adam turns rounding of a gradient near zero into a whole step, so single weights may differ by some.
    assert_close(tmp_path / "one", tmp_path / "two", name, 3 * 1e-3)


@pytest.mark.slow
def test_the_gan_of_two_processes_with_synchronised_batches(pictures: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_tensors(tmp_path, "vgg", VGG19(("relu5_1",)).state_dict())
    settings = [
        *TINY,
        "iterations=2",
        "rise=0",
        "warm_up=0",
        "uses_reference=false",
        f"vgg19={tmp_path}/vgg.safetensors",
    ]
    settings += ["perceptual_weight=0.1", "adversarial_weight=0.1"]
    folders = {name: tmp_path / name for name in ("one", "synchronised", "apart")}
    gan = ("--loss", "gan")
    runs = [
        start(folders["one"], "restoration", pictures, settings, *gan),
        start(folders["synchronised"], "restoration", pictures, settings, *gan, "--sync-batch", processes=2),
        start(folders["apart"], "restoration", pictures, settings, *gan, processes=2),
    ]
    for process in runs:
        finish(process)
    one, synchronised, apart = (log_of(folder)[0] for folder in folders.values())
    for name in ("l1", "perceptual", "adversarial", "critic"):
        assert synchronised[name] == pytest.approx(one[name], rel=1e-3, abs=1e-6), name
    for name in ("gradient_norm", "critic_norm", "penalty"):
        assert synchronised[name] == pytest.approx(one[name], rel=2e-2), name
    assert abs(apart["perceptual"] / one["perceptual"] - 1) > 0.1  # one norm over half a batch is smaller


def test_sigterm_saves_and_resumes(pictures: Path, tmp_path: Path) -> None:
    settings = [*TINY, "iterations=100000"]
    process = start(tmp_path, "student", pictures, settings)
    wait_for_steps(tmp_path, 2, process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    steps = int(list_checkpoints(tmp_path)[-1].name.removeprefix("step-"))
    assert steps >= 2
    finish(start(tmp_path, "student", pictures, [f"iterations={steps + 1}"], "--resume"))
    assert len(json.loads((tmp_path / "run.json").read_text())["sessions"]) == 2


def wait_for_steps(run: Path, steps: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        if (run / "log.jsonl").is_file() and len(log_of_unfinished(run)) >= steps:
            return
        time.sleep(0.05)
    raise AssertionError(process.communicate()[0] if process.poll() is not None else "it took too long")


def log_of_unfinished(run: Path) -> list[str]:
    return (run / "log.jsonl").read_text().split("\n")[:-1]


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["teacher", "student", "restoration"])
def test_two_hundred_steps(stage: str, pictures: Path, tmp_path: Path) -> None:
    """Losses fall; a run that is killed at a random step and goes on ends bit for bit where the other did."""
    settings = [*TINY, "size_px=96", "batch=2", "iterations=200", "checkpoint_every=17"]
    if stage == "restoration":
        finish(start(tmp_path / "student", "student", pictures, [*TINY, "iterations=2"]))
        settings += [f"extractor={tmp_path / 'student'}"]
    finish(start(tmp_path / "whole", stage, pictures, settings))
    killed = start(tmp_path / "killed", stage, pictures, settings)
    wait_for_steps(tmp_path / "killed", random.Random(os.getpid()).randrange(20, 180), killed)
    killed.kill()
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    finish(start(tmp_path / "killed", stage, pictures, [], "--resume"))
    last = "checkpoints/step-0000200"
    for path in sorted((tmp_path / "whole" / last).glob("*.safetensors")):
        assert path.read_bytes() == (tmp_path / "killed" / last / path.name).read_bytes(), path.name
    name = "l1" if stage == "restoration" else "loss"
    losses = [line[name] for line in log_of(tmp_path / "whole") if name in line]
    assert np.mean(losses[-30:]) < 0.9 * np.mean(losses[:30])
