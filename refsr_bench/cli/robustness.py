"""Rotation and scale: ``robustness``, ``plot robustness``, ``plot matches``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from refsr_bench.cli.figures import figure_options, save
from refsr_bench.cli.output import device_option, json_option, note, print_json
from refsr_bench.errors import RefsrError, UsageError, did_you_mean

if TYPE_CHECKING:
    from refsr_bench.protocols.evaluate import Task
    from refsr_bench.results.figures.matches import Drawn
    from refsr_bench.results.rows import Run

_RUN = click.Path(path_type=Path, exists=True, file_okay=False)
METRICS = ("aee", "pck@8", "psnr_y", "psnr_y_visible")
"""What the table of `robustness` shows, as far as a model or matcher has it."""


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="MODEL|MATCHER...")
@click.option("--dataset", required=True, metavar="NAME|DIR", help="A set made with build transformed.")
@click.option("--protocol", default="c2-2021", show_default=True, metavar="NAME", help="How pictures are scored.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N samples.")
@device_option
@click.option(
    "--set", "settings", multiple=True, metavar="[MODEL:]KEY=VALUE", help="An option of all models, or of one."
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder of the run folders  [default: runs/SET/robustness]"
)
@click.option("--overwrite", is_flag=True, help="Replace other runs that are in the run folders.")
@json_option
def robustness(
    models: tuple[str, ...],
    dataset: str,
    protocol: str,
    limit: int | None,
    device: str,
    settings: tuple[str, ...],
    out: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Evaluate models and matchers on a set of rotated and scaled references, and print group means side by side.

    Every one gets an ordinary run folder; an interrupted command goes on where it stopped. Models are scored on their
    pictures, also over the pixels that the reference shows, matchers on their matches, models that match on both.

    \b
    Examples:
      refsr-bench build transformed --of demo
      refsr-bench robustness oracle sift identity bicubic --dataset demo-both
      refsr-bench robustness c2matching vgg19 --dataset cufed5-rotation --set vgg19:weights=~/vgg
    """
    from refsr_bench.cli.reporting import raise_failures
    from refsr_bench.cli.runner import (
        evaluate,
        knows_transforms,
        load_plugin,
        open_tasks,
    )
    from refsr_bench.protocols.evaluate import Target
    from refsr_bench.protocols.spec import find_protocol
    from refsr_bench.results.robustness import robustness_series, to_markdown
    from refsr_bench.results.rows import Run

    # Missing weights or a wrong option are told before hours of work on other models, not after.
    plugins = [load_plugin(name, _settings_of(name, models, settings), {"device": device}) for name in models]
    (task,) = open_tasks(dataset, [find_protocol(protocol)], "first", limit)
    if not knows_transforms(task):
        raise UsageError(
            f"{task.dataset.info.id} is not a set of rotated or scaled references",
            f"make one with: refsr-bench build transformed --of {dataset}",
        )
    place = out or Path("runs") / task.dataset.info.name / "robustness"
    finished = []
    for plugin in plugins:
        finished += evaluate(plugin, [Target(task, place / plugin.card.name)], overwrite=overwrite)
        note(f"{plugin.card.name}: {finished[-1].target.run_dir}")
    series = robustness_series([Run(each.target.run_dir, tuple(each.rows)) for each in finished], METRICS)
    if as_json:
        runs = {each.info.model.name: str(each.target.run_dir) for each in finished}
        print_json({"series": [_plain(each._asdict()) for each in series], "run_dirs": runs})
    else:
        click.echo(to_markdown(series))
        click.echo(f"run folders below {place}; draw them with: refsr-bench plot robustness {place}")
    raise_failures(finished)


def _settings_of(name: str, models: tuple[str, ...], settings: tuple[str, ...]) -> list[str]:
    """The settings that are for one model: those without a model's name before them, and its own."""
    own = []
    for setting in settings:
        key = setting.partition("=")[0]
        target, separator, _ = key.partition(":")
        if separator and target not in models:
            raise UsageError(f"--set {setting!r}: {target!r} is none of the models", did_you_mean(target, models))
        if not separator or target == name:
            own.append(setting.removeprefix(f"{target}:") if separator else setting)
    return own


def _plain(value: Any) -> Any:
    """Tuples and tuple keys as JSON has them."""
    if isinstance(value, dict):
        return {"-".join(key) if isinstance(key, tuple) else key: _plain(each) for key, each in value.items()}
    if hasattr(value, "_asdict"):
        return _plain(value._asdict())
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value


@click.command("robustness")
@click.argument("runs", nargs=-1, required=True, type=_RUN)
@click.option(
    "--metrics", default="aee,psnr_y", show_default=True, metavar="NAMES", help="One column of panels each; commas."
)
@click.option(
    "--show", type=click.Choice(("bars", "curves", "both")), default="both", show_default=True, help="What to draw."
)
@figure_options("robustness.pdf", "column")
def plot_robustness(runs: tuple[Path, ...], metrics: str, show: str, out: Path, width: str) -> None:
    """Draw what rotated and scaled references do to the RUNS: bars of groups and curves of exact values (Fig. 6a, b).

    \b
    Examples:
      refsr-bench plot robustness runs/demo-both/robustness
      refsr-bench plot robustness runs/a runs/b --metrics pck@8,psnr_y_visible --show curves --out curves.svg
    """
    from refsr_bench.lookup import list_entries
    from refsr_bench.results.figures.robustness import draw_robustness
    from refsr_bench.results.leaderboard import UPPER_BOUND
    from refsr_bench.results.robustness import robustness_series
    from refsr_bench.results.rows import find_runs

    names = metrics.split(",")
    for name in names:
        if name not in list_entries("metrics"):
            raise UsageError(f"there is no metric called {name!r}", did_you_mean(name, list_entries("metrics")))
    series = robustness_series(find_runs(runs), names)
    for signature in dict.fromkeys(each.signature for each in series):
        click.echo(f"measured: {signature}")
    click.echo(UPPER_BOUND)
    save(draw_robustness(series, show=show, width=width), out)


@click.command("matches")
@click.argument("runs", nargs=-1, required=True, type=_RUN)
@click.option("--sample", required=True, metavar="NAME", help="The sample to draw.")
@click.option("--lines", default=60, show_default=True, type=click.IntRange(1, 2000), metavar="N", help="How many.")
@click.option("--dataset", metavar="NAME|DIR", help="The runs' dataset, if not built under its own name.")
@figure_options("matches.pdf", "page")
def plot_matches(runs: tuple[Path, ...], sample: str, lines: int, dataset: str | None, out: Path, width: str) -> None:
    """Draw an input, its reference and the matches of one run, coloured by error, or of two, one colour each (Fig. 1).

    \b
    Examples:
      refsr-bench plot matches runs/demo-both/robustness/sift --sample upper-bound-1.rotation-large
      refsr-bench plot matches runs/a runs/b --sample upper-bound-1.rotation-large --lines 24 --out fig1.png
    """
    from refsr_bench.cli.board import dataset_finder
    from refsr_bench.results.figures.matches import draw_matches
    from refsr_bench.results.rows import find_runs

    if len(runs) > 2:
        raise UsageError("one or two runs can be drawn", "two colours are what a reader can follow")
    found = [run for folder in runs for run in find_runs([folder])]
    if len(found) != len(runs):
        raise UsageError("every folder must hold one run", "name the folder of one run")
    opened = dataset_finder((dataset,) if dataset else ())(found[0].rows[0].dataset)
    if opened is None:
        raise UsageError(f"the dataset {found[0].rows[0].dataset} is not built here", "name it with --dataset")
    picture, ref, nodes, drawn = _load_matches(found, opened, sample, lines)
    save(draw_matches(picture, ref, nodes, drawn, width=width), out)


def _load_matches(runs: list[Run], dataset: Any, sample: str, lines: int) -> tuple[Any, Any, Any, list[Drawn]]:
    """The input as a matcher sees it, the reference, the nodes that are drawn, and every run's matches of them."""
    from refsr_bench.images import resize_bicubic
    from refsr_bench.protocols.matching import FLOW_FOLDER, errors_of, read_matches
    from refsr_bench.results.figures.matches import Drawn, choose_nodes

    known = {record.name: record for record in dataset.records}
    if sample not in known:
        raise UsageError(f"there is no sample {sample!r}", did_you_mean(sample, known))
    tasks = [_task_of(run, dataset) for run in runs]
    inputs = tasks[0].load_inputs(known[sample])
    chosen, drawn = None, []
    for run, task in zip(runs, tasks, strict=True):
        try:
            matches = read_matches(run.folder / FLOW_FOLDER / f"{sample}.npz")
            errors = errors_of(task, known[sample], matches)
        except RefsrError as error:
            raise UsageError(f"{run.folder}: {error}", "only samples with true correspondences are matched") from None
        if chosen is None:
            if not errors.counted.any():
                raise UsageError(f"no node of {sample} has a true point inside the reference")
            chosen = choose_nodes(matches.nodes[errors.counted], lines)
            nodes = matches.nodes[errors.counted][chosen]
        found = matches.matches[errors.counted][chosen]
        drawn.append(Drawn(run.rows[0].model, found, errors.distances_px[chosen]))
    seen = resize_bicubic(inputs.lr, *inputs.hr_canvas.shape[:2])
    return seen, inputs.refs[0], nodes, drawn


def _task_of(run: Run, dataset: Any) -> Task:
    from refsr_bench.protocols.evaluate import Task
    from refsr_bench.protocols.spec import EvalProtocol

    if run.info is None or run.rows[0].dataset != dataset.info.id:
        raise UsageError(f"{run.folder}: is not a sealed run of {dataset.info.id}")
    protocol = EvalProtocol.model_validate(run.info.protocol)
    return Task(dataset, dataset.records, protocol, run.info.refs_rule, run.info.lr, run.info.subset)


PLOTS = (plot_robustness, plot_matches)
