"""``train``: models learned from photographs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from refsr_bench.cli.output import device_option, json_option, note, print_json, show_progress
from refsr_bench.cli.train_zoo import TrainGroup, any_model
from refsr_bench.errors import UsageError

if TYPE_CHECKING:
    from refsr_bench.models.c2matching.config import StageConfig
    from refsr_bench.models.c2matching.loop import Place
    from refsr_bench.models.c2matching.training_data import Source


_PHOTOS = click.option(
    "--photos",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A folder of photographs; references are made from them. May be given several times.",
)
_COUNT = click.IntRange(min=1)
_THREADS = click.option(
    "--threads", type=click.IntRange(min=1), metavar="N", help="CPU threads of a process  [default: torch's]"
)


@click.group(cls=TrainGroup)
def train() -> None:
    """Train a model from photographs or from a built dataset.

    \b
    Examples:
      refsr-bench train c2matching --stage student --preset small --photos ~/photos
      refsr-bench train c2matching --stage restoration --data cufed --set extractor=runs/student
    """


train.add_command(any_model)


@train.command()
@click.option("--stage", required=True, metavar="NAME", help="teacher, student or restoration, in this order.")
@click.option("--loss", type=click.Choice(["rec", "gan"]), help="Loss of the restoration stage  [default: rec]")
@click.option("--data", metavar="NAME|DIR", help="A built dataset, e.g. cufed: HR pictures and their references.")
@_PHOTOS
@click.option("--preset", default="paper", show_default=True, metavar="NAME", help="paper, light or small.")
@click.option("--set", "settings", multiple=True, metavar="FIELD=VALUE", help="Change one field; see --dry-run.")
@click.option("--out", type=click.Path(path_type=Path), help="Run folder  [default: runs/train/c2matching-STAGE]")
@click.option("--resume", is_flag=True, help="Go on from the run folder's last checkpoint; start if there is none.")
@click.option("--validate", "validation", metavar="NAME|DIR", help="A built dataset to validate on.")
@click.option("--sync-batch", is_flag=True, help="Batch norm and perceptual loss see the pairs of all processes.")
@device_option
@_THREADS
@click.option("--dry-run", is_flag=True, help="Print the resolved configuration as JSON and stop.")
@json_option
def c2matching(
    stage: str,
    loss: str | None,
    data: str | None,
    photos: tuple[Path, ...],
    preset: str,
    settings: tuple[str, ...],
    out: Path | None,
    resume: bool,
    validation: str | None,
    sync_batch: bool,
    device: str,
    threads: int | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Train one stage of C2-Matching, as released unless fields say otherwise.

    Several processes: torchrun --nproc-per-node N -m refsr_bench train c2matching ... ; the batch is shared among
    them. Ctrl-C and SIGTERM save the state; the same command with --resume goes on from there.

    \b
    Examples:
      refsr-bench train c2matching --stage student --preset small --photos ~/photos --out runs/student
      refsr-bench train c2matching --stage restoration --loss gan --data cufed --set extractor=runs/student --dry-run
    """
    from refsr_bench.models.c2matching.config import StageConfig, has_begun, make_config, resume_values

    run_dir = out or Path("runs") / "train" / f"c2matching-{stage}"
    asked = [*settings, *([f"loss={loss}"] if loss else []), *(["sync_batch=true"] if sync_batch else [])]
    if resume and has_begun(run_dir):
        config = resume_values(run_dir, stage, asked)
    else:
        config = make_config(stage, preset, asked)
    if not isinstance(config, StageConfig):
        raise UsageError("l1 is no stage of C2-Matching", "it trains the other models: refsr-bench train NAME")
    if dry_run:
        print_json(config.model_dump(mode="json"))
        return
    _use(threads)
    _run(run_dir, config, pictures_from(data, photos, run_dir if resume else None), resume, validation, device, as_json)


def _use(threads: int | None) -> None:
    if threads is not None:
        from refsr_bench.models.tensors import use_threads

        use_threads(threads)


def pictures_from(
    data: str | None, photos: tuple[Path, ...], resumed: Path | None
) -> tuple[tuple[Source, ...], list[str]]:
    """The pictures to learn from and where they lie; a run that goes on remembers."""
    from refsr_bench.models.c2matching.config import has_begun, stored_run
    from refsr_bench.models.c2matching.training_data import find_photographs, sources_of
    from refsr_bench.store import open_dataset, resolve_dataset

    if data is None and not photos and resumed is not None and has_begun(resumed):
        kind, *places = stored_run(resumed)["pictures_from"]
        data, photos = (places[0], ()) if kind == "data" else (None, tuple(Path(place) for place in places))
    if (data is None) == (not photos):
        raise UsageError("give either --data or --photos")
    if data is not None:
        root = resolve_dataset(data)
        return sources_of(open_dataset(root)), ["data", str(root)]
    return find_photographs(photos), ["photos", *(str(folder.resolve()) for folder in photos)]


def _run(
    run_dir: Path,
    config: StageConfig,
    found: tuple[tuple[Source, ...], list[str]],
    resume: bool,
    validation: str | None,
    device: str,
    as_json: bool,
) -> None:
    from refsr_bench.models.c2matching.loop import joined
    from refsr_bench.models.tensors import select_device

    with joined(select_device(device)) as place:
        weights = _train_here(run_dir, config, found, place, resume, validation)
        if place.rank == 0 and as_json:
            print_json({"run": str(run_dir), "weights": str(weights), "steps": config.iterations})
        elif place.rank == 0:
            click.echo(f"weights: {weights}")


def _train_here(
    run_dir: Path,
    config: StageConfig,
    found: tuple[tuple[Source, ...], list[str]],
    place: Place,
    resume: bool,
    validation: str | None = None,
) -> Path:
    """Open the run folder and train; the first process shows the progress."""
    from refsr_bench.models.c2matching.config import ContrastiveConfig, has_begun
    from refsr_bench.models.c2matching.training import Listeners, build, open_run, stage_of, train

    sources, places = found
    listeners = Listeners(validate=_validator(validation) if validation is not None else None)
    built = build(config, sources, place)  # whatever is missing is said before a run folder exists
    open_run(run_dir, config, sources, places, place, resume)
    if place.rank != 0:
        return train(run_dir, config, built, sources, place, listeners)
    note(f"{len(sources)} pictures; everything goes to {run_dir}")
    is_triplet = isinstance(config, ContrastiveConfig) and config.contrastive_loss == "triplet"
    if is_triplet and config.weights is None and not has_begun(run_dir):
        note("the triplet loss starts from random weights here, in the paper from ImageNet's: --set weights=FILE")
    with show_progress(f"{stage_of(config)} on {place.device}", config.iterations) as advance:

        def on_step(step: int, total: int, values: Mapping[str, float]) -> None:
            advance(step)

        return train(run_dir, config, built, sources, place, listeners._replace(progress=on_step))


def _validator(dataset: str) -> Any:
    """Scores of the present networks on a built dataset: a function of the configuration, state and frozen networks."""
    from refsr_bench.cli.runner import open_tasks
    from refsr_bench.protocols.spec import DEFAULT

    [task] = open_tasks(dataset, [DEFAULT], None, None)

    def validate(config: Any, state: Any, frozen: Any) -> Mapping[str, float]:
        from refsr_bench.models.c2matching.checkpoints import using_results
        from refsr_bench.models.c2matching.validation import Present
        from refsr_bench.protocols.probing import probe

        with using_results(state):
            present = Present(config, state, frozen)
            return probe(present, task, restores=present.restores, matches=present.extractor is not None)

    return validate


@train.command()
@_PHOTOS
@click.option("--dataset", required=True, metavar="NAME|DIR", help="A built dataset to evaluate the four networks on.")
@click.option("--steps", default=2000, show_default=True, type=click.IntRange(min=1), help="Of each restoration stage.")
@click.option(
    "--contrastive-steps",
    default=2000,
    show_default=True,
    type=click.IntRange(min=1),
    help="Of each contrastive stage.",
)
@click.option("--set", "settings", multiple=True, metavar="FIELD=VALUE", help="A field of all restoration stages.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/ladder"), show_default=True, help="Folder.")
@device_option
@_THREADS
def ladder(
    photos: tuple[Path, ...],
    dataset: str,
    steps: int,
    contrastive_steps: int,
    settings: tuple[str, ...],
    out: Path,
    device: str,
    threads: int | None,
) -> None:
    """Train and evaluate the paper's ablation (Fig. 5) with the small network, and draw its figure and strips.

    Four networks of equal budget: matches of VGG-19 followed as they are; + dynamic aggregation; + contrastive
    matching; + distillation. The same command goes on after an interruption. VGG-19: imported weights, or
    --set vgg19=FILE.

    \b
    Examples:
      refsr-bench train ladder --photos ~/photos --dataset demo
      refsr-bench train ladder --photos ~/photos --dataset demo --steps 500 --set vgg19=vgg19.pth --out runs/quick
    """
    from refsr_bench.cli.ladder import climb

    _use(threads)
    climb(pictures_from(None, photos, None), dataset, (steps, contrastive_steps), settings, out, device, _train_here)


@train.command()
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write, for --set weights=.")
def export(run: Path, out: Path) -> None:
    """Write the weights of the last checkpoint of the training run RUN for use, while it goes on or after.

    \b
    Examples:
      refsr-bench train export runs/restoration --out my-weights
      refsr-bench train export runs/student --out matcher
    """
    from refsr_bench.models.c2matching.training import export_weights

    step = export_weights(run, out)
    click.echo(f"weights after step {step}: {out}")
