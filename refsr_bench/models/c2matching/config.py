"""What a training run is told: one frozen type a stage, its defaults the numbers of the paper and its release.

``PRESETS`` change defaults by name, ``--set field=value`` changes single fields, and the result is saved in the run
folder. This file imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from refsr_bench.errors import IntegrityError, UsageError, did_you_mean
from refsr_bench.schema import Frozen

Stage = Literal["teacher", "student", "restoration"]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
WeightsPath = Annotated[str, pydantic.AfterValidator(lambda text: str(Path(text).expanduser().resolve()))]
"""A file or folder, stored in full: a run goes on and is exported from wherever the next command is given."""


class RunConfig(Frozen):
    """Fields of every training run."""

    iterations: Count
    """Optimiser steps."""
    batch: Count
    """Pairs of one backward pass, over all processes together."""
    accumulate: Count = 1
    """Backward passes of one optimiser step."""
    learning_rate: Positive
    rise: Annotated[int, Field(ge=0)] = 0
    """Steps over which the learning rate rises from 0; 0: none, as released."""
    clip_norm: Annotated[float, Field(ge=0)] = 0.0
    """Largest gradient norm; 0: not limited, as released."""
    seed: int = 10
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay of the averaged copy of the network, which is what is validated and used; 0: none, as released."""
    size_px: Annotated[int, Field(ge=32, multiple_of=4)] = 160
    """Side of the HR and the reference picture."""
    fit: Literal["resize-as-released", "crop"] = "resize-as-released"
    """Bring a photograph to ``size_px`` by distorting it (CUFED's are that size), or crop it at random."""
    short_side_px: Annotated[int, Field(ge=0)] = 288
    """``crop`` first shrinks photographs to this short side, which sharpens them; 0: it does not."""
    workers: Annotated[int, Field(ge=0)] = 2
    checkpoint_every: Count = 1000
    """Optimiser steps."""
    keep: Count = 3
    """Checkpoints that are kept."""
    shard_mb: Annotated[float, Field(ge=0)] = 0.0
    """Largest weight file of a checkpoint, in MB; 0: no limit."""
    log_every: Count = 20
    """Optimiser steps between two lines of log.jsonl."""


class StageConfig(RunConfig):
    """Fields of every stage of C2-Matching."""

    network: Literal["paper", "light", "small"] = "paper"
    """The paper's sizes, those of its C2-Matching-light (whose extractor is the paper's), or those of `small`."""
    precision: Literal["float32", "bf16"] = "float32"
    weights: WeightsPath | None = None
    """Weights to start from: the folder of a run, or a weight file of this stage's network."""
    validate_every: Annotated[int, Field(ge=0)] = 0
    """Optimiser steps between two validations; 0: only at the end, if a data set for it is given."""


class ContrastiveConfig(StageConfig):
    """Fields of both contrastive stages."""

    batch: Count = 8
    learning_rate: Positive = 1e-3
    schedule: Literal["steps", "cosine", "cooldown"] = "steps"
    """``steps``: a tenth after each of ``decay_at``, as released; ``cooldown``: falls to 0 over the last fifth."""
    decay_at: tuple[Count, ...] = ()
    contrastive_loss: Literal["triplet", "dense"] = "triplet"
    """The paper's, which starts from ImageNet weights (``weights``), or cross-entropy over all cells: needs none."""
    margin: float = 1.0
    dense_temperature: Positive = 0.07
    sampler: Literal["as-released", "centred", "wide"] = "as-released"
    """Homographies: see `pairs.draw_homography`; ``wide``: similarity and perspective, see `training_data`."""
    angle_deg: Annotated[float, Field(ge=0, le=180)] = 40.0
    """Largest rotation of the ``wide`` sampler."""
    scale: Annotated[float, Field(ge=1)] = 1.5
    """Largest scale, and inverse of the smallest, of the ``wide`` sampler."""
    photometric: Share = 0.0
    """Share of references whose brightness, contrast and JPEG quality differ; the release changes none."""


class TeacherConfig(ContrastiveConfig):
    """Stage 1: both pictures at full resolution."""

    iterations: Count = 5_000


class StudentConfig(ContrastiveConfig):
    """Stage 2: the input is the enlarged LR picture; the teacher's correlations are distilled."""

    iterations: Count = 75_000
    decay_at: tuple[Count, ...] = (72_545,)
    distillation_weight: Annotated[float, Field(ge=0)] = 15.0
    distillation_temperature: Positive = 0.15
    teacher: WeightsPath | None = None
    """Run folder of the teacher; needed unless ``distillation_weight`` is 0, as it is in the preset ``small``."""


class ReferenceConfig(RunConfig):
    """Fields of every run that learns to restore, with references."""

    generator_schedule: Literal["constant-as-released", "steps-as-configured", "cosine", "cooldown"] = (
        "constant-as-released"
    )
    """The release configures steps and never applies them; ``cooldown``: constant, the last fifth falling to 0."""
    decay_at: tuple[Count, ...] = (72_545, 211_040)
    """Steps of ``steps-as-configured``, and always those of a critic."""
    own_share: Share = 1.0
    """References: the data set's own;"""
    same_share: Share = 0.0
    """made from the same photograph (moved, turned, scaled, other light, other JPEG quality);"""
    other_share: Share = 0.0
    """another photograph;"""
    lr_share: Share = 0.0
    """the enlarged LR picture itself;"""
    black_share: Share = 0.0
    """black. The five add up to 1."""
    angle_deg: Annotated[float, Field(ge=0, le=180)] = 20.0
    """Largest rotation of ``same_share``."""
    scale: Annotated[float, Field(ge=1)] = 1.3
    """Largest scale of ``same_share``, and inverse of the smallest."""
    photometric: Share = 0.7
    """Share of ``same_share`` whose brightness, contrast and JPEG quality differ."""

    @pydantic.model_validator(mode="after")
    def _shares_add_up(self) -> ReferenceConfig:
        total = self.own_share + self.same_share + self.other_share + self.lr_share + self.black_share
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the five shares of references add up to {total:g}, not to 1")
        return self


class RestorationConfig(ReferenceConfig, StageConfig):
    """Stage 3: the restoration network."""

    iterations: Count = 255_000
    batch: Count = 9
    learning_rate: Positive = 1e-4
    loss: Literal["rec", "gan"] = "rec"
    uses_reference: bool = True
    """Off: the small network learns to restore without one, at a third of the cost, before the reference joins."""
    matcher: Literal["learned", "vgg19"] = "learned"
    """What is matched: the student's descriptors, or VGG-19's relu3_1, which the paper's ablation starts from."""
    dynagg: bool = True
    """Off: the network follows the matches as they are."""
    extractor: WeightsPath | None = None
    """Run folder of the student, or a file of extractor weights; needed by the learned matcher."""
    reference_encoder: Literal["vgg19", "learned"] = "vgg19"
    """Where the reference features of the paper's network come from; the small one always learns its own."""
    vgg19: WeightsPath | None = None
    """A file of VGG-19 weights, for whatever needs them; without it the imported ones are looked for."""
    warm_up: Annotated[int, Field(ge=0)] = 10_000
    """Steps of L1 alone before ``gan`` adds its two losses."""
    perceptual_weight: Annotated[float, Field(ge=0)] = 1e-4
    adversarial_weight: Annotated[float, Field(ge=0)] = 1e-6
    penalty_weight: Annotated[float, Field(ge=0)] = 10.0
    critic_learning_rate: Positive = 1e-4
    sync_batch: bool = False
    """Let ``gan``'s batch-wide terms (batch norm, perceptual norm) see the pairs of all processes."""

    @pydantic.model_validator(mode="after")
    def _gan_does_not_accumulate(self) -> RestorationConfig:
        if self.loss == "gan" and self.accumulate > 1:
            raise ValueError("the GAN's critic moves after every batch, so accumulate must be 1")
        return self


class L1Config(ReferenceConfig):
    """The one recipe for every other model of the zoo: L1 alone, Adam, references made from the photographs."""

    model: str = "edsr-baseline"
    """Name of a model as ``list models`` shows it."""
    sizes: dict[str, int | tuple[int, ...]] = Field(default_factory=dict)
    """Arguments that make its network smaller than released, e.g. ``{"width": 16}``."""
    fit: Literal["resize-as-released", "crop"] = "crop"
    iterations: Count = 20_000
    batch: Count = 8
    learning_rate: Positive = 2e-4
    clip_norm: Annotated[float, Field(ge=0)] = 1.0
    rise: Annotated[int, Field(ge=0)] = 100
    generator_schedule: Literal["constant-as-released", "steps-as-configured", "cosine", "cooldown"] = "cooldown"
    own_share: Share = 0.0
    same_share: Share = 0.6
    other_share: Share = 0.2
    lr_share: Share = 0.1
    black_share: Share = 0.1


AnyConfig = TeacherConfig | StudentConfig | RestorationConfig | L1Config
STAGES: dict[str, type[AnyConfig]] = {
    "teacher": TeacherConfig,
    "student": StudentConfig,
    "restoration": RestorationConfig,
    "l1": L1Config,
}

_SMALL_CONTRASTIVE = {
    "network": "small",
    "fit": "crop",
    "contrastive_loss": "dense",
    "sampler": "wide",
    "photometric": 0.8,
    "clip_norm": 1.0,
    "ema": 0.998,
    "rise": 100,
    "batch": 4,
    "checkpoint_every": 200,
    "workers": 1,
}

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "paper": {"teacher": {}, "student": {}, "restoration": {}, "l1": {}},
    "light": {"teacher": {}, "student": {}, "restoration": {"network": "light"}, "l1": {}},
    "small": {
        "l1": {},
        "teacher": {**_SMALL_CONTRASTIVE, "iterations": 3_000, "schedule": "cooldown"},
        "student": {**_SMALL_CONTRASTIVE, "iterations": 3_000, "schedule": "cooldown", "distillation_weight": 0.0},
        "restoration": {
            "network": "small",
            "fit": "crop",
            "iterations": 12_000,
            "batch": 4,
            "learning_rate": 5e-4,
            "clip_norm": 1.0,
            "ema": 0.998,
            "rise": 100,
            "generator_schedule": "cooldown",
            "reference_encoder": "learned",
            "own_share": 0.0,
            "same_share": 0.6,
            "other_share": 0.2,
            "lr_share": 0.1,
            "black_share": 0.1,
            "checkpoint_every": 200,
            "workers": 1,
        },
    },
}

LADDER: dict[str, dict[str, Any]] = {
    "baseline": {"matcher": "vgg19", "dynagg": False},
    "dynagg": {"matcher": "vgg19", "dynagg": True},
    "contrastive": {"matcher": "learned", "dynagg": True},
    "distillation": {"matcher": "learned", "dynagg": True},
}
"""The rungs of the paper's ablation (Fig. 5) for the small network's restoration stage; the last two differ in their
student, which learned without and with a teacher."""

RUN_FILE = "run.json"
CHECKPOINTS = "checkpoints"
RESULTS = "weights"
"""Folder of a run with the weights for use."""

CHANGEABLE = frozenset(
    {"iterations", "workers", "checkpoint_every", "keep", "shard_mb", "log_every", "validate_every"}
    | {"generator_schedule", "schedule", "decay_at", "learning_rate", "ema"}
)
"""Fields that may change when a run goes on; every change is noted in ``run.json``."""


def make_config(stage: str, preset: str = "paper", settings: Iterable[str] = ()) -> AnyConfig:
    """Resolve a stage's configuration from a preset and ``field=value`` texts.

    UsageError: an unknown stage, preset or field (with the nearest known one), or a value that is out of range.

    >>> make_config("teacher").iterations
    5000
    >>> make_config("student", settings=["marign=2"])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    refsr_bench.errors.UsageError: the student stage has no field 'marign'
      did you mean "margin"? ...
    """
    if stage not in STAGES:
        raise UsageError(f"there is no stage called {stage!r}", did_you_mean(stage, STAGES))
    if preset not in PRESETS:
        raise UsageError(f"there is no preset called {preset!r}", did_you_mean(preset, PRESETS))
    values = {**PRESETS[preset][stage], **parse_settings(stage, settings)}
    return validate(stage, values)


def parse_settings(stage: str, settings: Iterable[str]) -> dict[str, Any]:
    """Split ``field=value`` texts; "none" is None, and a tuple is written with commas."""
    fields = STAGES[stage].model_fields
    values: dict[str, Any] = {}
    for setting in settings:
        name, separator, text = setting.partition("=")
        if not separator:
            raise UsageError(f"--set {setting!r} is not FIELD=VALUE")
        if name not in fields:
            raise UsageError(f"the {stage} stage has no field {name!r}", did_you_mean(name, fields))
        if isinstance(fields[name].default, tuple):
            values[name] = [part for part in text.split(",") if part]
        else:
            values[name] = None if text.lower() == "none" and fields[name].default is None else text
    return values


def validate(stage: str, values: dict[str, Any]) -> AnyConfig:
    """Make a stage's configuration from field values; UsageError names the first field that is wrong."""
    try:
        return STAGES[stage].model_validate(values)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{stage} stage: {where + ': ' if where else ''}{first['msg']}") from None


def stored_run(run_dir: Path) -> dict[str, Any]:
    """What ``run.json`` says; IntegrityError if it is damaged, UsageError if there is none."""
    try:
        content: dict[str, Any] = json.loads((run_dir / RUN_FILE).read_text("utf-8"))
        return content
    except FileNotFoundError:
        raise UsageError(f"{run_dir} holds no training run to go on with", "leave out --resume to start one") from None
    except ValueError as error:
        raise IntegrityError(f"{run_dir / RUN_FILE} is damaged: {error}") from error


def list_checkpoints(run_dir: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    return sorted(path for path in (run_dir / CHECKPOINTS).glob("step-*") if path.suffix != ".partial")


def has_begun(run_dir: Path) -> bool:
    """Whether a folder holds a run to go on with; one that ended before its first checkpoint may begin otherwise."""
    return (run_dir / RUN_FILE).is_file() and ((run_dir / RESULTS).is_dir() or bool(list_checkpoints(run_dir)))


def resume_values(
    run_dir: Path, stage: str, settings: Sequence[str], given: Mapping[str, object] | None = None
) -> AnyConfig:
    """The configuration of a run that goes on: its own, with changes to fields that may change; else UsageError.

    Fields that are ``given``, or set to what they are, are no change: the command that began the run goes on with it.
    """
    stored = stored_run(run_dir)
    if stored["stage"] != stage:
        raise UsageError(f"{run_dir} is a run of the {stored['stage']} stage, not of the {stage} stage")
    own = validate(stage, stored["config"])
    asked = validate(stage, {**stored["config"], **parse_settings(stage, settings), **(given or {})})
    changeable = CHANGEABLE & STAGES[stage].model_fields.keys()
    for name in STAGES[stage].model_fields:
        if getattr(asked, name) != getattr(own, name) and name not in changeable:
            raise UsageError(
                f"{run_dir}: {name} cannot change when a run goes on; it is {getattr(own, name)}",
                f"these can: {', '.join(sorted(changeable))}",
            )
    return asked
