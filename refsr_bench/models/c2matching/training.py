"""A training run as a whole: open or resume its folder, build what its stage needs, train, write weights for use."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

import refsr_bench
from refsr_bench.disk import atomic_write_json, publishing
from refsr_bench.errors import UsageError
from refsr_bench.models.c2matching import networks
from refsr_bench.models.c2matching.checkpoints import (
    State,
    load_checkpoint,
    load_tensors,
    save_tensors,
    start_average,
)
from refsr_bench.models.c2matching.config import (
    RESULTS,
    RUN_FILE,
    STAGES,
    RestorationConfig,
    RunConfig,
    StageConfig,
    StudentConfig,
    TeacherConfig,
    has_begun,
    list_checkpoints,
    stored_run,
    validate,
)
from refsr_bench.models.c2matching.loop import Journal, Place, wait_for_all
from refsr_bench.models.c2matching.small import SmallConfig
from refsr_bench.models.c2matching.train_restoration import frozen_networks, restoration_state, train_restoration
from refsr_bench.models.c2matching.train_student import student_state, train_student
from refsr_bench.models.c2matching.train_teacher import teacher_state, train_teacher
from refsr_bench.models.c2matching.trained import DESCRIPTION
from refsr_bench.models.c2matching.training_data import Examples, Source, check_sources, fingerprint
from refsr_bench.models.c2matching.validation import draw_pictures
from refsr_bench.models.memory import reused_memory
from refsr_bench.models.weights import load_checkpoint as read_weights
from refsr_bench.models.winograd import has_winograd, use_winograd


class Listeners(NamedTuple):
    """What the caller wants to hear of; every one may be absent."""

    progress: Callable[[int, int, Mapping[str, float]], None] | None = None
    """Step, all steps and losses, after every step."""
    validate: Callable[[StageConfig, State, Any], Mapping[str, float]] | None = None
    """Scores of the present networks, given the frozen ones too."""


def open_run(
    run_dir: Path,
    config: RunConfig,
    sources: Sequence[Source],
    folders: Sequence[str],
    place: Place,
    resume: bool,
) -> None:
    """Make the run folder, or check that the one there is this run; only the first process writes.

    UsageError: the folder holds a run and ``resume`` is off, or a run on other pictures.
    """
    found = fingerprint(sources)
    if (run_dir / RUN_FILE).is_file() and not resume:
        raise UsageError(f"{run_dir} holds a training run already", "go on with --resume, or choose another --out")
    now = {
        "command": sys.argv[1:],
        "step": _last_step(run_dir),
        "processes": place.world,
        "device": str(place.device),
        "config": config.model_dump(mode="json"),
        "versions": {
            "refsr-bench": refsr_bench.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        },
    }
    if has_begun(run_dir):
        stored = stored_run(run_dir)
        if stored["pictures_fingerprint"] != found:
            raise UsageError(f"{run_dir} was trained on other pictures than these", "give the same ones to go on")
        record = {**stored, "config": now["config"], "sessions": [*stored["sessions"], now]}
    else:
        record = {
            "stage": stage_of(config),
            "config": now["config"],
            "pictures": len(sources),
            "pictures_from": list(folders),
            "pictures_fingerprint": found,
            "sessions": [now],
        }
    wait_for_all(place)  # all have looked before one writes
    if place.rank == 0:
        run_dir.mkdir(parents=True, exist_ok=True)
        atomic_write_json(run_dir / RUN_FILE, record)
    wait_for_all(place)


def _last_step(run_dir: Path) -> int:
    checkpoints = list_checkpoints(run_dir)
    return int(checkpoints[-1].name.removeprefix("step-")) if checkpoints else 0


def train(
    run_dir: Path,
    config: StageConfig,
    built: tuple[State, Any],
    sources: Sequence[Source],
    place: Place,
    listeners: Listeners | None = None,
) -> Path:
    """Train the stage that ``config`` is of, from the last checkpoint if there is one; returns the weights' folder.

    ``built`` is what `build` made of the same configuration.
    """
    state, frozen = built
    listeners = listeners or Listeners()
    examples = Examples(config, sources)
    looked_at = [net for net in (frozen if isinstance(frozen, tuple) else (frozen,)) if net is not None]
    for net in looked_at:
        net.to(place.device)
    for net in state.nets.values():
        net.to(place.device).train()
    if place.device.type == "cpu" and config.network != "small" and has_winograd():
        # Not the critic: its penalty takes second derivatives.
        for net in (*looked_at, *(net for name, net in state.nets.items() if name != "critic")):
            use_winograd(net.to(memory_format=torch.contiguous_format))
    if config.ema:
        start_average(state, next(iter(state.nets)))
    checkpoints = list_checkpoints(run_dir)
    if checkpoints:
        load_checkpoint(checkpoints[-1], state)
    journal = Journal(run_dir, config, place, state, listeners.progress)
    if listeners.validate is not None:
        check = listeners.validate
        journal.validate = lambda state: check(config, state, frozen)
    journal.look_every = config.validate_every
    journal.draw = lambda writer, state: draw_pictures(writer, config, state, frozen, examples)
    with reused_memory() if place.device.type == "cpu" else contextlib.nullcontext():
        if isinstance(config, RestorationConfig):
            train_restoration(config, examples, state, journal, frozen)
        elif isinstance(config, StudentConfig):
            train_student(config, examples, state, journal, frozen)
        else:
            assert isinstance(config, TeacherConfig)
            train_teacher(config, examples, state, journal)
    if place.rank == 0:
        write_weights(run_dir, config, state)
    return run_dir / RESULTS


def build(config: StageConfig, sources: Sequence[Source], place: Place) -> tuple[State, Any]:
    """The stage's networks with their optimisers, and those it only looks at.

    Whatever is missing or does not fit is said here: UsageError, or what reading weights raises.
    """
    check_sources(config, sources)
    if config.batch % place.world:
        raise UsageError(f"a batch of {config.batch} cannot be shared by {place.world} processes")
    torch.manual_seed(config.seed)
    if isinstance(config, RestorationConfig):
        if config.matcher == "learned" and config.uses_reference and config.extractor is None:
            raise UsageError("the restoration stage needs the student's weights", "--set extractor=RUN_OF_THE_STUDENT")
        state = restoration_state(config, networks.build_restoration(config))
        extractor = networks.build_extractor(config, config.extractor) if config.extractor is not None else None
        return state, frozen_networks(config, extractor)
    net = networks.build_extractor(config, config.weights)
    if isinstance(config, TeacherConfig):
        return teacher_state(config, net), None
    assert isinstance(config, StudentConfig)
    if config.distillation_weight > 0 and config.teacher is None:
        raise UsageError("the student needs a teacher", "--set teacher=RUN, or --set distillation_weight=0")
    if config.distillation_weight == 0 and config.teacher is not None:  # 0 is the small preset's
        raise UsageError(
            f"the student would learn nothing from the teacher {config.teacher}: distillation_weight is 0",
            "--set distillation_weight=15 as in the paper, or leave out the teacher",
        )
    teacher = networks.build_extractor(config, config.teacher) if config.teacher is not None else None
    return student_state(config, net), teacher


def write_weights(run_dir: Path, config: StageConfig, state: State) -> None:
    """Write the networks' weights for use into the run's ``weights`` folder, with what they are."""
    results = {name: state.result(name) for name in state.nets}
    _write(run_dir / RESULTS, config, results, state.step)


def export_weights(run_dir: Path, folder: Path) -> int:
    """Write the weights of a run's last checkpoint for use into ``folder``; returns its step.

    UsageError: no run, or none with a checkpoint.
    """
    stored = stored_run(run_dir)
    config = validate(stored["stage"], stored["config"])
    if not isinstance(config, StageConfig):
        raise UsageError(f"{run_dir} is no run of C2-Matching", f"its weights will be in {run_dir / RESULTS}")
    checkpoints = list_checkpoints(run_dir)
    if not checkpoints:
        raise UsageError(f"{run_dir} has no checkpoint yet")
    described = json.loads((checkpoints[-1] / "state.json").read_text("utf-8"))
    names = ["restoration" if isinstance(config, RestorationConfig) else "extractor"]
    if isinstance(config, RestorationConfig) and config.network != "small" and config.reference_encoder == "learned":
        names.append("encoder")
    results = {
        name: load_tensors(checkpoints[-1], "average" if name == described["averaged"] else name) for name in names
    }
    _write(folder, config, results, described["step"])
    return int(described["step"])


def _write(folder: Path, config: StageConfig, results: Mapping[str, Mapping[str, Tensor]], step: int) -> None:
    """Results by network; a restoration's folder gets the extractor it was trained with, too: all a model needs.

    The folder is there whole or not at all; UsageError if there is one that holds anything else.
    """
    with publishing(folder, _holds_weights_alone, "set of weights") as work:
        for name, tensors in results.items():
            if name != "critic":
                save_tensors(work, name, tensors)
        described: dict[str, Any] = {"network": config.network, "stage": stage_of(config), "step": step}
        dynagg = config.dynagg if isinstance(config, RestorationConfig) else True
        if config.network == "small":
            described["sizes"] = SmallConfig(dynagg=dynagg).model_dump(mode="json")
        else:
            described["dynagg"] = dynagg
        if isinstance(config, RestorationConfig) and config.matcher == "learned" and config.extractor is not None:
            save_tensors(work, "extractor", read_weights(networks.find_weights(config.extractor, "extractor")))
        elif isinstance(config, RestorationConfig) and config.matcher == "vgg19":
            vgg = networks.load_vgg(config, ("relu3_1",))
            save_tensors(work, "extractor", vgg.state_dict())
            described["vgg19"] = vgg.convention
        atomic_write_json(work / DESCRIPTION, described)


def _holds_weights_alone(folder: Path) -> bool:
    return all(path.suffix == ".safetensors" or path.name == DESCRIPTION for path in folder.iterdir())


def stage_of(config: RunConfig) -> str:
    """Name of the stage that a configuration is of."""
    return next(name for name, kind in STAGES.items() if type(config) is kind)
