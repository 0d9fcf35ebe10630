"""The trainer: configurations, a few steps of every stage, what happens when it is stopped, resumed or misled."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_weights import golden_state
from torch.nn import functional as F

from refsr_bench.errors import RefsrError, UsageError
from refsr_bench.images import encode_png
from refsr_bench.models.c2matching import train_restoration
from refsr_bench.models.c2matching.checkpoints import (
    State,
    load_tensors,
    save_checkpoint,
    save_tensors,
    start_average,
    using_results,
)
from refsr_bench.models.c2matching.config import PRESETS, STAGES, list_checkpoints, make_config, resume_values
from refsr_bench.models.c2matching.discriminator import Discriminator
from refsr_bench.models.c2matching.extractor import Extractor
from refsr_bench.models.c2matching.loop import Journal, Place, TrainingStopped, apply_gradients, rate_at
from refsr_bench.models.c2matching.restoration import Restoration
from refsr_bench.models.c2matching.small import SmallConfig, SmallRestoration
from refsr_bench.models.c2matching.small_model import load_small
from refsr_bench.models.c2matching.training import Listeners, build, export_weights, open_run, train
from refsr_bench.models.c2matching.training_data import Examples, find_photographs
from refsr_bench.models.vgg import VGG19
from tests.test_cli import run

CPU = Place(torch.device("cpu"))
TINY = ["size_px=64", "batch=2", "workers=0", "iterations=4", "log_every=1", "checkpoint_every=2", "short_side_px=96"]
STAGE_SETTINGS = {
    "teacher": [],
    "student": [],
    "restoration": ["uses_reference=true"],
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four photographs of scikit-image's, small."""
    import skimage
    from PIL import Image

    folder = tmp_path_factory.mktemp("photos")
    source = Path(skimage.__file__).parent / "data"
    for name in ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg"):
        with Image.open(source / name) as picture:
            small = picture.convert("RGB").resize((144, 112))
        (folder / name).with_suffix(".png").write_bytes(encode_png(np.asarray(small)))
    return folder


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    """A student after four steps."""
    run = tmp_path_factory.mktemp("runs") / "student"
    run_stage(run, "student", pictures, [])
    return run


def run_stage(
    run: Path,
    stage: str,
    pictures: Path,
    settings: list[str],
    *,
    resume: bool = False,
    listeners: Listeners | None = None,
) -> Path:
    """Train a tiny run of the small network in this process."""
    config = resume_values(run, stage, settings) if resume else make_config(stage, "small", [*TINY, *settings])
    sources = find_photographs([pictures])
    open_run(run, config, sources, ["photos", str(pictures)], CPU, resume)
    return train(run, config, build(config, sources, CPU), sources, CPU, listeners)


def log_of(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def same_tensors(a: Path, b: Path) -> bool:
    names = sorted(path.name for path in a.glob("*.safetensors"))
    assert names == sorted(path.name for path in b.glob("*.safetensors"))
    return all((a / name).read_bytes() == (b / name).read_bytes() for name in names)


# --- configuration -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("stage", STAGES)
def test_every_preset_is_valid(preset: str, stage: str) -> None:
    assert make_config(stage, preset).iterations > 0


def test_the_defaults_are_the_papers() -> None:
    teacher, student, restoration = (make_config(stage) for stage in ("teacher", "student", "restoration"))
    assert (teacher.iterations, teacher.batch, teacher.learning_rate, teacher.margin) == (5_000, 8, 1e-3, 1.0)
    assert (student.iterations, student.decay_at, student.distillation_temperature) == (75_000, (72_545,), 0.15)
    assert (student.distillation_weight, student.sampler, student.seed) == (15.0, "as-released", 10)
    assert (restoration.iterations, restoration.batch, restoration.learning_rate) == (255_000, 9, 1e-4)
    assert (restoration.warm_up, restoration.perceptual_weight, restoration.adversarial_weight) == (10_000, 1e-4, 1e-6)
    assert restoration.generator_schedule == "constant-as-released"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("learning_rat=1", 'did you mean "learning_rate"'),
        ("batch=0", "batch"),
        ("same_share=0.5", "add up to"),
        ("batch", "FIELD=VALUE"),
    ],
)
def test_wrong_settings_are_named(setting: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_config("restoration", "small", [setting])


def test_learning_rates() -> None:
    config = make_config("student", settings=["iterations=100"])
    assert rate_at(0, config, "steps", (10, 20)) == pytest.approx(1e-3)
    assert rate_at(10, config, "steps", (10, 20)) == pytest.approx(1e-4)
    assert rate_at(20, config, "steps", (10, 20)) == pytest.approx(1e-5)
    assert rate_at(79, config, "cooldown") == pytest.approx(1e-3)
    assert rate_at(90, config, "cooldown") == pytest.approx(5e-4)
    assert rate_at(50, config, "cosine") == pytest.approx(5e-4)
    rising = make_config("student", settings=["iterations=100", "rise=10"])
    assert rate_at(0, rising, "steps") == pytest.approx(1e-4)


# --- a few steps of every stage -------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["teacher", "student", "restoration"])
def test_resuming_changes_nothing(stage: str, pictures: Path, student: Path, tmp_path: Path) -> None:
    settings = [f"extractor={student}"] if stage == "restoration" else []
    run_stage(tmp_path / "whole", stage, pictures, settings)
    with pytest.raises(KeyboardInterrupt):
        run_stage(tmp_path / "parts", stage, pictures, settings, listeners=Listeners(progress=interrupt_at(3)))
    assert [path.name for path in list_checkpoints(tmp_path / "parts")] == ["step-0000002", "step-0000003"]
    run_stage(tmp_path / "parts", stage, pictures, [], resume=True)
    last = "checkpoints/step-0000004"
    assert same_tensors(tmp_path / "whole" / last, tmp_path / "parts" / last)
    assert same_tensors(tmp_path / "whole" / "weights", tmp_path / "parts" / "weights")
    run = json.loads((tmp_path / "parts" / "run.json").read_text())
    assert [session["step"] for session in run["sessions"]] == [0, 3]
    assert {"loss", "l1"} & log_of(tmp_path / "parts")[-1].keys()
    whole, parts = (log_of(tmp_path / name)[-1] for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()


def interrupt_at(wanted: int):  # type: ignore[no-untyped-def]
    def progress(step: int, total: int, values: object) -> None:
        if step == wanted:
            signal.raise_signal(signal.SIGINT)

    return progress


def test_the_signal_takes_effect_after_its_step_is_saved(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_stage(tmp_path, "teacher", pictures, [], listeners=Listeners(progress=interrupt_at(1)))
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-0000001"]


def test_a_signal_that_comes_while_all_agree_stops_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config("teacher")
    journal = Journal(tmp_path, config, Place(torch.device("cpu"), 1, 2), State({}, {}))
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda flag, op: setattr(journal, "stop_signal", 15))
    assert not journal._agreed_stop()
    assert journal._agreed_stop()


def test_an_ignored_signal_stops_nothing(pictures: Path, tmp_path: Path) -> None:
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in a job that a shell runs in the background
    try:
        run_stage(tmp_path, "teacher", pictures, [], listeners=Listeners(progress=interrupt_at(1)))
    finally:
        signal.signal(signal.SIGINT, former)
    assert list_checkpoints(tmp_path)[-1].name != "step-0000001"


def test_a_distilled_student(pictures: Path, student: Path, tmp_path: Path) -> None:
    run_stage(tmp_path, "student", pictures, [f"teacher={student}", "distillation_weight=15", "size_px=128"])
    assert all(line["distillation"] > 0 for line in log_of(tmp_path))


def test_a_teacher_that_nothing_is_learned_from_is_refused(pictures: Path, student: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="distillation_weight is 0"):
        run_stage(tmp_path, "student", pictures, [f"teacher={student}"])


def test_the_papers_losses_train_its_extractor(pictures: Path, tmp_path: Path) -> None:
    config = make_config("teacher", settings=["iterations=2", "batch=1", "workers=0", "size_px=80", "log_every=1"])
    sources = find_photographs([pictures])
    open_run(tmp_path, config, sources, ["photos"], CPU, False)
    train(tmp_path, config, build(config, sources, CPU), sources, CPU)
    first, second = log_of(tmp_path)
    assert 0 < first["loss"] < 2
    assert second["gradient_norm"] > 0
    assert load_tensors(tmp_path / "weights", "extractor").keys() == Extractor().state_dict().keys()


def test_trained_weights_are_a_model(pictures: Path, student: Path, tmp_path: Path) -> None:
    from refsr_bench.models.c2matching import CARD_SMALL

    run_stage(tmp_path, "restoration", pictures, [f"extractor={student}"])
    model = load_small(CARD_SMALL, tmp_path, "cpu")
    lr = np.random.default_rng(0).integers(0, 255, (12, 15, 3), dtype=np.uint8)
    ref = np.random.default_rng(1).integers(0, 255, (41, 70, 3), dtype=np.uint8)
    assert model.restore(lr, [ref]).shape == (48, 60, 3)
    assert set(model.card.weights_sha256) == {"extractor", "restoration"}
    found = model.match(np.zeros((48, 60, 3), np.uint8), ref)
    assert found.nodes.shape == found.matches.shape == (10 * 13, 2)
    with pytest.raises(UsageError, match="no restoration"):
        load_small(CARD_SMALL, student, "cpu")


def test_without_reference_first_and_then_with_it(pictures: Path, student: Path, tmp_path: Path) -> None:
    run_stage(tmp_path / "alone", "restoration", pictures, ["uses_reference=false"])
    run_stage(tmp_path / "both", "restoration", pictures, [f"weights={tmp_path / 'alone'}", f"extractor={student}"])
    alone = load_tensors(tmp_path / "alone" / "weights", "restoration")
    fresh = SmallRestoration().state_dict().keys()
    assert alone.keys() == fresh


def test_the_ablations_switches(pictures: Path, student: Path, tmp_path: Path) -> None:
    vgg = tmp_path / "vgg.safetensors"
    save_tensors(tmp_path, "vgg", VGG19(("relu3_1",)).state_dict())
    run_stage(tmp_path / "baseline", "restoration", pictures, ["dynagg=false", "matcher=vgg19", f"vgg19={vgg}"])
    kept = load_tensors(tmp_path / "baseline" / "weights", "restoration")
    assert not any(key.startswith("offset_") for key in kept)


def test_pictures_and_validation(pictures: Path, student: Path, small_dataset: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from refsr_bench.cli.train import _validator

    listeners = Listeners(validate=_validator(str(small_dataset)))
    run_stage(tmp_path, "restoration", pictures, [f"extractor={student}", "validate_every=2"], listeners=listeners)
    validated = [line for line in log_of(tmp_path) if "validation_psnr_y" in line]
    assert [line["step"] for line in validated] == [2, 4]
    assert all(10 < line["validation_psnr_y"] < 50 for line in validated)
    assert all("validation_reference_gain" in line and 0 < line["validation_ssim_y"] < 1 for line in validated)
    events = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    assert {"l1", "validation_psnr_y", "share_match"} <= set(events.Tags()["scalars"])
    first = events.Images("example 0")[0]
    assert (first.width, first.height) == (5 * 64, 64)  # LR, reference, SR, HR, match error


def test_the_average_is_what_is_used(tmp_path: Path) -> None:
    net = torch.nn.Linear(2, 2)
    state = State({"net": net}, {"net": torch.optim.Adam(net.parameters())})
    start_average(state, "net")
    kept = net.weight.detach().clone()
    with torch.no_grad():
        net.weight += 1
    with using_results(state):
        assert torch.equal(net.weight, kept)
    assert torch.equal(net.weight, kept + 1)


def test_bfloat16(pictures: Path, student: Path, tmp_path: Path) -> None:
    run_stage(tmp_path, "restoration", pictures, [f"extractor={student}", "precision=bf16", "iterations=2"])
    assert all(np.isfinite(line["l1"]) for line in log_of(tmp_path))


def test_accumulated_passes_are_one_batch(pictures: Path, tmp_path: Path) -> None:
    """Two passes of two pairs are one pass of four: the same numbers of pictures, in the same order."""
    run_stage(tmp_path / "one", "teacher", pictures, ["batch=4", "iterations=1"])
    run_stage(tmp_path / "two", "teacher", pictures, ["batch=2", "accumulate=2", "iterations=1"])
    one, two = log_of(tmp_path / "one")[0], log_of(tmp_path / "two")[0]
    assert one["loss"] == pytest.approx(two["loss"], rel=1e-5)
    assert one["gradient_norm"] == pytest.approx(two["gradient_norm"], rel=1e-4)


# --- stopped, misled, out of luck -----------------------------------------------------------------------------------


def test_a_run_is_not_begun_twice(pictures: Path, student: Path) -> None:
    with pytest.raises(UsageError, match="--resume"):
        run_stage(student, "student", pictures, [])


def test_a_run_goes_on_with_its_own_pictures_only(pictures: Path, student: Path, tmp_path: Path) -> None:
    shutil.copytree(student, tmp_path / "run")
    shutil.copytree(pictures, tmp_path / "fewer")
    next((tmp_path / "fewer").iterdir()).unlink()
    with pytest.raises(UsageError, match="other pictures"):
        run_stage(tmp_path / "run", "student", tmp_path / "fewer", [], resume=True)


def test_what_decides_a_run_cannot_change(student: Path) -> None:
    with pytest.raises(UsageError, match="batch cannot change"):
        resume_values(student, "student", ["batch=3"])
    with pytest.raises(UsageError, match="student stage, not of the teacher"):
        resume_values(student, "teacher", [])
    assert resume_values(student, "student", ["iterations=9"]).iterations == 9


def test_the_command_that_began_a_run_goes_on_with_it(
    pictures: Path, student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(student.parent)
    settings = [*TINY, f"extractor={student.name}"]
    run_stage(tmp_path, "restoration", pictures, settings)
    assert resume_values(tmp_path, "restoration", settings) == make_config("restoration", "small", settings)
    monkeypatch.chdir(tmp_path)
    assert resume_values(tmp_path, "restoration", [f"extractor={student}"]).extractor == str(student)
    with pytest.raises(UsageError, match="extractor cannot change"):
        resume_values(tmp_path, "restoration", settings)


def test_a_loss_that_is_not_finite_stops_with_the_state_before_it(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from refsr_bench.models.c2matching import train_teacher

    true_loss, calls = train_teacher.pair_losses, iter(range(100))

    def spoilt(*args: object, **kwargs: object) -> object:
        found = true_loss(*args, **kwargs)  # type: ignore[arg-type]
        if next(calls) == 2:
            return found._replace(values={"loss": found.values["loss"] * torch.nan})
        return found

    monkeypatch.setattr(train_teacher, "pair_losses", spoilt)
    with pytest.raises(TrainingStopped, match="in step 3"):
        run_stage(tmp_path, "teacher", pictures, [])
    last = list_checkpoints(tmp_path)[-1]
    assert last.name == "step-0000002"
    assert all(value.isfinite().all() for value in load_tensors(last, "extractor").values())


def test_a_full_disk_leaves_earlier_checkpoints_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = SmallRestoration(SmallConfig(width=8, content_blocks=1, fusion_blocks=1))
    state = State({"restoration": net}, {"restoration": torch.optim.Adam(net.parameters())})
    config = make_config("restoration", "small")
    kept = save_checkpoint(tmp_path, state, config)

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("refsr_bench.models.c2matching.checkpoints.save_tensors", full)
    state.step = 1
    with pytest.raises(RefsrError, match="No space left"):
        save_checkpoint(tmp_path, state, config)
    assert list_checkpoints(tmp_path) == [kept]
    assert not list(tmp_path.rglob("*.partial"))


def test_only_the_newest_checkpoints_stay(tmp_path: Path) -> None:
    net = torch.nn.Linear(2, 2)
    state = State({"net": net}, {"net": torch.optim.Adam(net.parameters())})
    config = make_config("teacher", settings=["keep=2"])
    for step in range(4):
        state.step = step
        save_checkpoint(tmp_path, state, config)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-0000002", "step-0000003"]


def test_shards(tmp_path: Path) -> None:
    tensors = {f"w{i}": torch.full((1000,), float(i)) for i in range(10)}
    save_tensors(tmp_path, "net", tensors, shard_mb=0.01)
    paths = sorted(tmp_path.iterdir())
    assert len(paths) == 5
    assert all(path.stat().st_size < 10_500 for path in paths)
    loaded = load_tensors(tmp_path, "net")
    assert all(torch.equal(loaded[key], value) for key, value in tensors.items())
    paths[2].unlink()
    with pytest.raises(RefsrError, match="a part of it is missing"):
        load_tensors(tmp_path, "net")


def test_an_unreadable_photograph_is_named(pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(pictures, tmp_path / "photos")
    (tmp_path / "photos" / "broken.png").write_bytes(b"not a picture")
    with pytest.raises(RefsrError, match=r"broken\.png"):
        run_stage(tmp_path / "run", "teacher", tmp_path / "photos", ["iterations=6"])


def test_an_export_is_whole_or_not_there(
    pictures: Path, student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(student, tmp_path / "student")
    monkeypatch.chdir(tmp_path)
    run_stage(tmp_path / "run", "restoration", pictures, ["extractor=student"])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for _ in range(2):
        assert export_weights(tmp_path / "run", tmp_path / "export") == 4
        assert same_tensors(tmp_path / "export", tmp_path / "run" / "weights")
    (tmp_path / "export" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds other files"):
        export_weights(tmp_path / "run", tmp_path / "export")
    shutil.rmtree(tmp_path / "student")
    with pytest.raises(UsageError, match="no finished extractor weights"):
        export_weights(tmp_path / "run", tmp_path / "second")
    assert not (tmp_path / "second").exists()


def test_what_came_to_nothing_is_no_run_to_go_on_with(pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(pictures, tmp_path / "photos")
    (tmp_path / "photos" / "broken.png").write_bytes(b"not a picture")
    command = ["train", "c2matching", "--stage", "teacher", "--preset", "small", "--photos", tmp_path / "photos"]
    command += [argument for setting in TINY for argument in ("--set", setting)]
    command += ["--set", "checkpoint_every=9", "--out", tmp_path / "run"]
    mistaken = run(*command, "--set", "weights=nowhere")
    assert (mistaken.code, (tmp_path / "run").exists()) == (2, False)
    failed = run(*command, "--set", "iterations=6", "--set", "contrastive_loss=triplet")
    assert failed.code != 0
    assert "starts from random weights" in failed.err
    assert list_checkpoints(tmp_path / "run") == []
    (tmp_path / "photos" / "broken.png").unlink()
    assert "--resume" in run(*command, "--set", "seed=11").err
    done = run(*command, "--set", "seed=11", "--resume")
    assert done.code == 0, done.err


def test_the_ladder_names_a_dataset_that_is_missing_before_it_trains(pictures: Path, tmp_path: Path) -> None:
    refused = run("train", "ladder", "--photos", pictures, "--dataset", "nowhere", "--out", tmp_path / "ladder")
    assert (refused.code, "nowhere" in refused.err) == (2, True)
    assert not (tmp_path / "ladder").exists()


# --- data ----------------------------------------------------------------------------------------------------------


def test_an_item_depends_on_its_number_alone(pictures: Path) -> None:
    config = make_config("restoration", "small", [*TINY, "uses_reference=true"])
    first, second = (Examples(config, find_photographs([pictures])) for _ in range(2))
    second[0], second[3]
    for number in (5, 2, 7):
        a, b = first[number], second[number]
        assert isinstance(a, dict)
        assert isinstance(b, dict)
        assert all(np.array_equal(a[key], b[key]) for key in a)


def test_references_come_in_the_stated_proportions(pictures: Path) -> None:
    config = make_config("restoration", "small", [*TINY, "iterations=400"])
    examples = Examples(config, find_photographs([pictures]))
    items = [examples[i] for i in range(400)]
    black = sum(not item["ref"].any() for item in items)
    own = sum(np.array_equal(item["ref"], item["lr_up"]) for item in items)
    assert 20 <= black <= 62
    assert 20 <= own <= 62


def test_the_true_place_of_a_pair(pictures: Path) -> None:
    """Warped pictures show at H·p what the HR picture shows at p."""
    from refsr_bench.geometry import apply_homography

    config = make_config("student", "small", [*TINY, "photometric=0"])
    examples = Examples(config, find_photographs([pictures]))
    errors, shuffled = [], []
    for number in range(8):
        item = examples[number]
        assert isinstance(item, dict)
        y, x = np.mgrid[8:56:4, 8:56:4].reshape(2, -1)
        there = apply_homography(item["h_hr_to_ref"], np.stack([x, y], -1).astype(float)).round().astype(int)
        inside = ((there >= 0) & (there < 64)).all(1)
        seen = item["ref"][there[inside, 1], there[inside, 0]].astype(float)
        true = item["hr"][y[inside], x[inside]].astype(float)
        errors.append(np.abs(seen - true).mean())
        shuffled.append(np.abs(np.roll(seen, 7, axis=0) - true).mean())
    assert np.mean(errors) < 0.4 * np.mean(shuffled)


# --- the trainer's own GAN step against the released one --------------------------------------------------------------


def test_the_trainers_step_is_the_released_one(golden: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The functions the loop calls, in its order, at iteration 10,001 of the release."""
    data = np.load(golden / "train_step.npz")
    batch = {
        name: torch.from_numpy(np.ascontiguousarray(np.moveaxis(data[f"{key}_u8"], -1, 1))).float() / 255
        for name, key in (("hr", "gt"), ("ref", "ref"), ("lr", "lr"), ("lr_up", "lr_up"))
    }
    nets = {"restoration": Restoration(), "critic": Discriminator().train()}
    extractor, vgg, perceptual = Extractor(), VGG19(), VGG19(("relu5_1",))
    for net, prefix in (
        (nets["restoration"], ""),
        (nets["critic"], ""),
        (extractor, ""),
        (vgg, "vgg19."),
        (perceptual, "vgg19."),
    ):
        net.load_state_dict(golden_state(net, prefix))
    frozen = train_restoration.Frozen(extractor, vgg.requires_grad_(False), perceptual.requires_grad_(False))
    config = make_config("restoration", settings=["loss=gan", "batch=2"])
    state = train_restoration.restoration_state(config, nets["restoration"])
    state.nets["critic"].load_state_dict(nets["critic"].state_dict())
    state.step = 10_000
    journal = Journal(tmp_path, config, CPU, state)

    def released_alpha(*args: object) -> torch.Tensor:
        torch.manual_seed(int(data["seed"]))
        return torch.rand(2, 1, 1, 1)

    monkeypatch.setattr(train_restoration, "draw_alpha", released_alpha)
    with torch.no_grad():
        match = train_restoration.find_matches(config, frozen, batch)
    sr = train_restoration.restore_batch(config, state.nets, frozen, batch, match)
    assert np.abs(sr.detach().numpy() - data["output"]).max() <= 2e-6
    found = {"l1": F.l1_loss(sr, batch["hr"])}
    found |= train_restoration.move_critic(config, state, journal, sr.detach(), batch["hr"])
    found |= train_restoration.gan_losses(config, state, frozen, sr, batch["hr"], journal)
    expected = {"l1": "l_g_pix", "penalty": "l_grad_penalty", "perceptual": "l_g_percep", "adversarial": "l_g_gan"}
    for name, key in expected.items():
        tolerance = {"penalty": 2e-3, "adversarial": 3e-3}.get(name, 1e-4)
        assert found[name].item() == pytest.approx(float(data[f"log_{key}"]), rel=tolerance), name
    opinions = float(data["log_l_d_real"]) + float(data["log_l_d_fake"])
    assert found["critic"].item() == pytest.approx(opinions, abs=1e-5)
    sum(found[name] for name in train_restoration.GENERATOR_LOSSES).backward()  # type: ignore[union-attr]
    norms = {name: p.grad.norm().item() for name, p in nets["restoration"].named_parameters()}  # type: ignore[union-attr]
    assert norms.keys() == set(data["g_grad_names"].tolist())


# --- gradients of several processes -----------------------------------------------------------------------------------


def test_parts_of_unequal_weight_add_up() -> None:
    net = torch.nn.Linear(3, 1)
    state = State({"net": net}, {"net": torch.optim.Adam(net.parameters(), lr=0.1)})
    config = make_config("teacher")
    x = torch.randn(5, 3)
    (3 * net(x[:3]).mean()).backward()
    (2 * net(x[3:]).mean()).backward()
    norm = apply_gradients(state, "net", 5, config, CPU, learning_rate=config.learning_rate)
    assert norm == pytest.approx(torch.cat([x.mean(0), torch.ones(1)]).norm().item(), rel=1e-5)
    assert apply_gradients(state, "net", 0, config, CPU, learning_rate=1.0) == 0
