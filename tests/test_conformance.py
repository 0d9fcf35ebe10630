"""The conformance kit: every built-in model passes it, and every kind of defect is found by the check meant for it."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from refsr_bench.cli.runner import load_plugin
from refsr_bench.conformance import CHECKS
from refsr_bench.errors import UsageError
from refsr_bench.images import load_image, resize_bicubic
from refsr_bench.lookup import BUILT_IN, find
from refsr_bench.models.c2matching import PRESETS
from refsr_bench.models.c2matching.extractor import Extractor
from refsr_bench.models.c2matching.restoration import Restoration
from refsr_bench.models.c2matching.roles import definition_of
from refsr_bench.models.memory import reused_memory
from refsr_bench.models.vgg import VGG19
from refsr_bench.models.weights import import_weights
from refsr_bench.schema import ModelCard
from refsr_bench.testing import Scene, ablate_reference, assert_conforms, check_model, load_scene
from tests.golden_weights import golden_state
from tests.models.test_refsr import tiny
from tests.models.test_zoo import NETWORKS, SAME_NETWORK

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "refsr-detail"


def enlarge(lr: np.ndarray, refs: Sequence[np.ndarray]) -> np.ndarray:
    return resize_bicubic(lr, 4 * lr.shape[0], 4 * lr.shape[1]).astype(np.float32) / 255


def with_detail(lr: np.ndarray, refs: Sequence[np.ndarray]) -> np.ndarray:
    sr = enlarge(lr, refs)
    return sr + (0.0 if not refs else np.float32(refs[0].mean() / 2550))


class Model:
    """A model from a function."""

    def __init__(self, restore: Callable[..., Any], *, uses_reference: bool = True, **attributes: Any) -> None:
        self.card = ModelCard(name="made", title="made", paper="none", uses_reference=uses_reference)
        self.restore = restore
        for name, value in attributes.items():
            setattr(self, name, value)


def statuses(model: Any) -> dict[str, str]:
    return {finding.check: finding.status for finding in check_model(model).findings}


def test_a_sound_model_passes_and_tells_what_its_reference_is_worth() -> None:
    report = check_model(Model(with_detail))
    assert not report.failed
    assert set(report.ablation) == {"true", "black", "noise", "shuffled", "unrelated"}
    assert report.reference_gain == report.ablation["true"] - report.ablation["unrelated"]
    assert_conforms(Model(enlarge, uses_reference=False, tile_margin_px=3))


def not_a_number(lr: np.ndarray, refs: Sequence[np.ndarray]) -> np.ndarray:
    return with_detail(lr, refs) * np.float32(np.nan)


def too_large(lr: np.ndarray, refs: Sequence[np.ndarray]) -> np.ndarray:
    return np.pad(enlarge(lr, refs), ((0, 1), (0, 0), (0, 0)))


def draws(lr: np.ndarray, refs: Sequence[np.ndarray]) -> np.ndarray:
    return with_detail(lr, refs) + np.float32(np.random.rand() * 1e-3)


def seeds(lr: np.ndarray, refs: Sequence[np.ndarray]) -> np.ndarray:
    np.random.seed(0)
    return with_detail(lr, refs)


def writes_into(lr: np.ndarray, refs: Sequence[np.ndarray]) -> np.ndarray:
    sr = with_detail(lr, refs)
    if lr.flags.writeable:
        lr[0, 0] = 0
    return sr


def wanders(lr: np.ndarray, refs: Sequence[np.ndarray]) -> np.ndarray:
    os.environ["REFSR_WANDERED"] = str(int(os.environ.get("REFSR_WANDERED", "0")) + 1)
    return with_detail(lr, refs)


def remembers() -> Callable[..., np.ndarray]:
    seen = [0.0]

    def restore(lr: np.ndarray, refs: Sequence[np.ndarray]) -> np.ndarray:
        seen.append(float(lr.mean()))
        return with_detail(lr, refs) + np.float32(1e-5 * seen[-2])

    return restore


def hoards() -> Callable[..., np.ndarray]:
    kept: list[np.ndarray] = []

    def restore(lr: np.ndarray, refs: Sequence[np.ndarray]) -> np.ndarray:
        kept.append(np.ones(12 << 20, np.uint8))
        return with_detail(lr, refs)

    return restore


def reads_the_disk(lr: np.ndarray, refs: Sequence[np.ndarray]) -> np.ndarray:
    near = Path("hr.png")
    hr = load_image(near) if near.is_file() else None
    fits = hr is not None and hr.shape[:2] == (4 * lr.shape[0], 4 * lr.shape[1])
    return hr.astype(np.float32) / 255 if hr is not None and fits else with_detail(lr, refs)


def looks_up_the_stack(lr: np.ndarray, refs: Sequence[np.ndarray]) -> np.ndarray:
    frame = inspect.currentframe()
    while frame is not None and "hr" not in frame.f_locals:
        frame = frame.f_back
    hr = frame.f_locals["hr"] if frame is not None else None
    fits = hr is not None and hr.shape[:2] == (4 * lr.shape[0], 4 * lr.shape[1])
    return hr.astype(np.float32) / 255 if fits else with_detail(lr, refs)


def only_this_picture(lr: np.ndarray, refs: Sequence[np.ndarray]) -> np.ndarray:
    return with_detail(lr, refs) + np.float32(lr.mean() * 1e-4)


@pytest.mark.parametrize(
    ("check", "model"),
    [
        ("sizes", Model(too_large)),
        ("sizes", Model(lambda lr, refs: with_detail(lr, refs).astype(np.float64))),
        ("sizes", Model(not_a_number)),
        ("reference sizes", Model(lambda lr, refs: with_detail(lr, refs) + refs[0] / np.float32(1e6))),
        ("range", Model(not_a_number)),
        ("range", Model(lambda lr, refs: with_detail(lr, refs) * 255)),
        ("range", Model(lambda lr, refs: with_detail(lr, refs) * 2 - 1)),
        ("colour order", Model(lambda lr, refs: with_detail(lr, refs)[..., ::-1])),
        ("determinism", Model(draws)),
        ("determinism", Model(remembers())),
        ("inputs untouched", Model(writes_into)),
        ("global state", Model(draws)),
        ("global state", Model(seeds)),
        ("global state", Model(wanders)),
        ("memory", Model(hoards())),
        ("tiles", Model(only_this_picture, uses_reference=False, tile_margin_px=2)),
        ("HR leak", Model(reads_the_disk)),
        ("HR leak", Model(looks_up_the_stack)),
        ("reference", Model(enlarge)),
    ],
)
def test_every_defect_is_found(check: str, model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFSR_WANDERED", "0")
    assert statuses(model)[check] == "fail"
    with pytest.raises(AssertionError, match=check):
        assert_conforms(model)


def test_a_result_that_is_no_numbers_is_accused_of_nothing_else() -> None:
    report = check_model(Model(not_a_number, tile_margin_px=2))
    assert [finding.check for finding in report.failed] == ["sizes", "range"]
    assert report.failed[1].detail == "100% of the samples are not finite numbers (NaN or infinite)"
    skipped = {finding.check for finding in report.findings if finding.status == "skip"}
    assert {"colour order", "tiles", "reference"} <= skipped
    assert report.reference_gain is None


def test_memory_kept_is_seen_where_much_is_free_for_reuse() -> None:
    with reused_memory():
        blocks = [np.ones(4 << 20, np.uint8) for _ in range(40)]
    del blocks[:-1]  # the last one keeps the rest from being given back
    assert CHECKS["memory"](Model(hoards()), load_scene())[0] == "fail"


def test_what_is_no_model_or_raises_is_a_finding() -> None:
    assert statuses(object()) == {"card": "fail"}

    def raises(lr: np.ndarray, refs: Sequence[np.ndarray]) -> np.ndarray:
        raise RuntimeError("no such layer")

    [finding, *_] = [f for f in check_model(Model(raises)).findings if f.check == "determinism"]
    assert finding == ("determinism", "fail", "raised RuntimeError: no such layer")


def test_a_small_picture_may_be_refused_with_a_reason() -> None:
    def refuses(lr: np.ndarray, refs: Sequence[np.ndarray]) -> np.ndarray:
        if min(lr.shape[:2]) < 3:
            raise UsageError("too small for one patch")
        return with_detail(lr, refs)

    assert statuses(Model(refuses))["sizes"] == "warn"


def test_the_scene_is_two_views_of_one_thing() -> None:
    scene = load_scene(64)
    assert scene.hr.shape == scene.ref.shape == scene.unrelated.shape == (64, 64, 3)
    assert scene.lr.shape == (16, 16, 3)
    shifts = [np.abs(scene.hr[:, :56].astype(int) - scene.ref[:, s : s + 56]).mean() for s in range(8)]
    assert min(shifts) < 25 < np.abs(scene.hr.astype(int) - scene.unrelated).mean()


def test_the_ablation_is_open_to_other_scenes() -> None:
    scene = load_scene(64)
    copy = Scene(scene.hr, scene.lr, scene.hr, scene.unrelated)
    ablation = ablate_reference(Model(lambda lr, refs: refs[0].astype(np.float32) / 255), copy)
    assert ablation["true"] > 100 > 20 > ablation["unrelated"]


@pytest.mark.parametrize("name", ["bicubic", "c2matching-small", "srcnn", "edsr-baseline", "imdn"])
def test_built_in_models_conform(name: str) -> None:
    factory = find("models", name)
    options = {"untrained": True} if "untrained" in inspect.signature(factory).parameters else {}
    assert_conforms(factory(**options))


def untrained(name: str) -> Any:
    model = tiny(name)
    model.card = model.card.model_copy(update={"name": f"{name}-untrained"})
    return model


@pytest.mark.parametrize("name", ["crossnet", "ssen", "masa"])
def test_reference_based_models_conform(name: str) -> None:
    assert_conforms(untrained(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_of_released_size_conforms(name: str) -> None:
    assert_conforms(find("models", name)(untrained=True))


@pytest.mark.slow
@pytest.mark.parametrize("variant", PRESETS)
def test_the_papers_own_networks_conform(variant: str, tmp_path: Path) -> None:
    preset = PRESETS[variant]
    networks: dict[str, torch.nn.Module] = {preset.matching: Extractor()}
    networks |= {"vgg19": VGG19(), preset.restoration: Restoration(definition_of(preset.restoration))}
    for role, network in networks.items():
        torch.save(golden_state(network, shared=True), tmp_path / f"{role}.pth")
    import_weights("c2matching", [f"{role}={tmp_path / role}.pth" for role in networks])
    model = find("models", preset.card.name)()
    assert model.card.name == preset.card.name
    assert_conforms(model)


def test_no_built_in_model_is_left_out() -> None:
    papers = {preset.card.name for preset in PRESETS.values()}
    assert set(BUILT_IN["models"]) == {*NETWORKS, *SAME_NETWORK, *papers, "bicubic", "c2matching-small"}


# --- installed plug-ins ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example plug-in, installed by pip from a copy, and one whose module raises."""
    folder = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", folder, EXAMPLE], check=True, capture_output=True, timeout=300)
    (folder / "refsr_broken.py").write_text("raise RuntimeError('made to fail')\n", "utf-8")
    described = folder / "refsr_broken-1.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: refsr-broken\nVersion: 1.0\n", "utf-8")
    (described / "entry_points.txt").write_text("[refsr_bench.models]\nbroken = refsr_broken:build\n", "utf-8")
    return folder


def refsr(installed: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "refsr_bench", *(str(a) for a in arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(installed), "REFSR_NO_PROGRESS": "1"},
        timeout=120,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_an_installed_plug_in_is_listed_and_a_broken_one_is_a_warning(installed: Path) -> None:
    done = refsr(installed, "list", "models")
    assert done.returncode == 0
    assert "detail" in done.stdout
    assert "plug-in of refsr-detail" in done.stdout
    assert "broken" in done.stdout
    assert "[cannot be loaded]" in done.stdout
    assert "warning: the plug-in 'broken' (refsr_broken:build) cannot be loaded: RuntimeError" in done.stderr
    assert "bicubic" in done.stdout
    assert "reference" in refsr(installed, "info", "detail").stdout


def test_an_installed_plug_in_is_checked(installed: Path) -> None:
    done = refsr(installed, "check", "detail", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {finding["status"] for finding in report["findings"]} <= {"pass", "skip"}
    assert report["reference_gain_db"] > 0
    done = refsr(installed, "check", "refsr_detail:build", "--set", "tolerance=2")
    assert done.returncode == 0
    assert "reference gain +" in done.stdout
    done = refsr(installed, "check", "refsr_broken:build")
    assert done.returncode == 2
    assert "made to fail" in done.stderr


def test_an_installed_plug_in_is_evaluated(installed: Path, small_dataset: Path, tmp_path: Path) -> None:
    done = refsr(installed, "eval", "detail", "--dataset", small_dataset, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "| detail" in done.stdout
    assert len(list((tmp_path / "run" / "sr").glob("*.png"))) == 3
    broken = refsr(installed, "eval", "broken", "--dataset", small_dataset, "--out", tmp_path / "other")
    assert broken.returncode == 2
    assert "repair or uninstall it: it comes from refsr-broken" in broken.stderr


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("def build():\n    raise ValueError('no GPU here')\n", "mine:build cannot be made: ValueError: no GPU here"),
        ("build = 3\n", "mine:build is no function that makes a model but a int"),
        ("import no_such_package\n", "mine:build cannot be loaded: ModuleNotFoundError"),
    ],
)
def test_a_factory_that_makes_no_model_is_one_line(
    body: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from refsr_bench.cli.check import check

    (tmp_path / "mine.py").write_text(body, "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    with pytest.raises(UsageError, match=said):
        check.main(["mine:build"], standalone_mode=False)
    monkeypatch.delitem(sys.modules, "mine", raising=False)


def test_a_method_without_code_says_why_it_cannot_run() -> None:
    with pytest.raises(UsageError, match="CIMR cannot run: no public code or description could be found"):
        load_plugin("CIMR", (), {})


def test_check_ends_with_5_where_a_check_fails(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n"
        "from refsr_bench.schema import ModelCard\n"
        "class M:\n"
        "    card = ModelCard(name='m', title='m', paper='none', uses_reference=False)\n"
        "    def restore(self, lr, refs):\n"
        "        return np.repeat(np.repeat(lr, 4, 0), 4, 1)[..., ::-1].astype(np.float32)\n"
        "def build():\n"
        "    return M()\n",
        "utf-8",
    )
    done = refsr(tmp_path, "check", "mine:build")
    assert done.returncode == 5
    assert "fail  range" in done.stdout
    assert "fail  colour order" in done.stdout
    assert "2 of 12 checks failed" in done.stderr
