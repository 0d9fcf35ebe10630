"""``train NAME``: one L1 recipe for every model of the zoo."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from refsr_bench.cli.output import device_option, json_option, note, print_json, show_progress
from refsr_bench.errors import UsageError, did_you_mean

ANY_MODEL = "NAME"


class TrainGroup(click.Group):
    """A group whose command ``NAME`` answers to the name of every model of the zoo."""

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """The command of this name; a model's name gives the one that trains any model."""
        found = super().get_command(context, name)
        if found is not None or name.startswith("-"):
            return found
        from refsr_bench.lookup import list_entries

        if name not in list_entries("models"):
            known = sorted({*self.commands, *list_entries("models")} - {ANY_MODEL})
            raise UsageError(f"there is nothing to train called {name!r}", did_you_mean(name, known))
        return super().get_command(context, ANY_MODEL)


@click.command(ANY_MODEL)
@click.option("--data", metavar="NAME|DIR", help="A built dataset: HR pictures and their references.")
@click.option(
    "--photos",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A folder of photographs; references are made from them. May be given several times.",
)
@click.option("--size", "sizes", multiple=True, metavar="ARGUMENT=N", help="Make the network smaller, e.g. width=32.")
@click.option("--set", "settings", multiple=True, metavar="FIELD=VALUE", help="Change one field; see --dry-run.")
@click.option("--out", type=click.Path(path_type=Path), help="Run folder  [default: runs/train/NAME]")
@click.option("--resume", is_flag=True, help="Go on from the run folder's last checkpoint; start if there is none.")
@device_option
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="CPU threads  [default: torch's]")
@click.option("--dry-run", is_flag=True, help="Print the resolved configuration as JSON and stop.")
@json_option
@click.pass_context
def any_model(
    context: click.Context,
    data: str | None,
    photos: tuple[Path, ...],
    sizes: tuple[str, ...],
    settings: tuple[str, ...],
    out: Path | None,
    resume: bool,
    device: str,
    threads: int | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Train the model NAME of the zoo with L1 alone, so that models can be compared under one recipe.

    NAME is any model with a network, e.g. edsr-baseline or ttsr. The result is evaluated with
    --set weights=RUN/weights and is called NAME-l1. Interrupted, the same command with --resume goes on.

    \b
    Examples:
      refsr-bench train NAME --photos ~/photos --out runs/mine
      refsr-bench train NAME --data cufed --size width=32 --set iterations=50000 --dry-run
    """
    from refsr_bench.cli.train import pictures_from
    from refsr_bench.models.c2matching.config import L1Config, has_begun, make_config, resume_values, validate
    from refsr_bench.models.zoo import CARDS

    name = str(context.info_name)
    if name not in CARDS:
        raise UsageError(f"{name!r} has no network to train here", did_you_mean(name, CARDS))
    if own := [setting for setting in settings if setting.startswith(("model=", "sizes="))]:
        raise UsageError(f"--set {own[0]!r} is said otherwise", "train NAME --size ARGUMENT=N")
    run_dir = out or Path("runs") / "train" / name
    if resume and has_begun(run_dir):
        given = {"model": name, **({"sizes": _parse_sizes(sizes)} if sizes else {})}
        config = resume_values(run_dir, "l1", settings, given)
    else:
        chosen = make_config("l1", settings=settings).model_dump()
        if data is not None and not any(setting.partition("=")[0].endswith("_share") for setting in settings):
            chosen |= {"own_share": 1.0, "same_share": 0.0, "other_share": 0.0, "lr_share": 0.0, "black_share": 0.0}
        config = validate("l1", {**chosen, "model": name, "sizes": _parse_sizes(sizes)})
    if dry_run:
        print_json(config.model_dump(mode="json"))
        return
    assert isinstance(config, L1Config)
    sources, places = pictures_from(data, photos, run_dir if resume else None)
    if threads is not None:
        from refsr_bench.models.tensors import use_threads

        use_threads(threads)
    from refsr_bench.models.c2matching.loop import joined
    from refsr_bench.models.c2matching.training import open_run
    from refsr_bench.models.tensors import select_device
    from refsr_bench.models.train_l1 import build, train

    with joined(select_device(device)) as place:
        build(config, place.device)  # whatever is missing is said before a run folder exists
        open_run(run_dir, config, sources, places, place, resume)
        note(f"{len(sources)} pictures; everything goes to {run_dir}")
        with show_progress(f"{name} on {place.device}", config.iterations) as advance:

            def on_step(step: int, total: int, values: Mapping[str, float]) -> None:
                advance(step)

            weights = train(run_dir, config, sources, place, on_step)
    if as_json:
        print_json({"run": str(run_dir), "weights": str(weights), "steps": config.iterations})
    else:
        click.echo(f"weights: {weights}")
        click.echo(f"evaluate: refsr-bench eval {name} --set weights={weights} --dataset NAME")


def _parse_sizes(texts: tuple[str, ...]) -> dict[str, int | tuple[int, ...]]:
    found: dict[str, int | tuple[int, ...]] = {}
    for text in texts:
        argument, _, value = text.partition("=")
        numbers = value.split(",")
        if not argument or not all(number.isdigit() for number in numbers):
            raise UsageError(f"--size {text!r} is not ARGUMENT=N or ARGUMENT=N,N,...")
        found[argument] = int(value) if len(numbers) == 1 else tuple(map(int, numbers))
    return found
