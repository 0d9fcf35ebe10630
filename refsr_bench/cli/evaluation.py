"""Numbers: ``eval`` and ``score``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from refsr_bench.cli.output import device_option, json_option, precision_option
from refsr_bench.cli.sharding import parse_shard
from refsr_bench.errors import UsageError

if TYPE_CHECKING:
    from refsr_bench.protocols.evaluate import Shard

_DATASET = click.option("--dataset", required=True, metavar="NAME|DIR", help="A built dataset.")
_PROTOCOL = click.option(
    "--protocol",
    default="c2-2021",
    show_default=True,
    metavar="NAME",
    help="How to score: a preset, PRESET+key=value, or, in eval, several with commas, or all.",
)
_REFS = click.option(
    "--refs",
    "refs_rule",
    metavar="RULE",
    help="first, none, levelK, refK, randomK, all, stitched-ttsr, stitched-masa, lr-native or lr-up; in eval also "
    "several with commas, or each  [default: first, if any]",
)
_LR = click.option(
    "--lr",
    type=click.Choice(["protocol", "shipped"]),
    default="protocol",
    show_default=True,
    help="LR pictures as the protocol makes them, or as the dataset ships them.",
)
_SUBSET = click.option("--subset", type=click.Choice(["texture"]), help="Only the quarter with the most texture.")
_MODIFIED = click.option("--allow-modified", is_flag=True, help="Take a dataset that no longer verifies, and say so.")
_LIMIT = click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N samples.")
_OUT = click.option("--out", type=click.Path(path_type=Path), help="Run folder  [default: runs/DATASET/MODEL/...]")
_OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace another run that is in the run folder.")


@click.command("eval")
@click.argument("model_name", metavar="MODEL|MATCHER")
@_DATASET
@_PROTOCOL
@_REFS
@_LR
@_SUBSET
@_LIMIT
@_MODIFIED
@device_option
@precision_option
@click.option(
    "--memory-budget",
    default="auto",
    show_default=True,
    metavar="SIZE",
    help="What restoring one picture may take, e.g. 2GB; larger ones are cut into tiles that change nothing.",
)
@click.option(
    "--allow-inexact-tiles", is_flag=True, help="Allow tiles that do change the result, where no others fit; signed."
)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="An option of the model, e.g. weights=DIR.")
@click.option(
    "--shard", metavar="I/N", callback=parse_shard, help="Only every N-th sample from the I-th; then: merge RUN_DIR."
)
@_OUT
@_OVERWRITE
@json_option
def eval_command(
    model_name: str,
    dataset: str,
    protocol: str,
    refs_rule: str | None,
    lr: str,
    subset: str | None,
    limit: int | None,
    allow_modified: bool,
    device: str,
    precision: str,
    memory_budget: str,
    allow_inexact_tiles: bool,
    settings: tuple[str, ...],
    shard: Shard | None,
    out: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Evaluate MODEL on a dataset: restore every sample to a PNG, then score what is on disk.

    A matcher is evaluated on the samples whose true correspondences are known; a model that matches is scored on both.
    Several protocols, joined by commas, or all: the model runs once for each distinct input, and each protocol's
    difference to the first is printed. Several reference rules, or each: the scores with every reference, and how much
    the choice moves them. Run the same command again after an interruption: finished pictures are kept.
    Failed samples become rows with a reason, and the exit code is 5.

    Several processes can share the work: torchrun --nproc-per-node N -m refsr_bench eval ..., or, in a job array,
    --shard I/N in each job and then refsr-bench merge. The rows are the same bytes as from one process.

    \b
    Examples:
      refsr-bench eval bicubic --dataset demo --protocol all
      refsr-bench eval c2matching --dataset demo --set weights=~/c2-weights --limit 3
    """
    from refsr_bench.cli.reporting import report
    from refsr_bench.cli.runner import default_folder, evaluate, load_plugin, open_tasks
    from refsr_bench.cli.sharding import current_rank, evaluate_ranked, evaluate_shard
    from refsr_bench.protocols.evaluate import Target
    from refsr_bench.protocols.spec import find_protocols

    rank = current_rank()
    if overwrite and shard:
        raise UsageError("--overwrite would remove what other shards made", "remove the run folder before the first")
    protocols = find_protocols(protocol)
    tasks = open_tasks(dataset, protocols, refs_rule, limit, lr=lr, subset=subset, allow_modified=allow_modified)
    several_rules = len({task.refs_rule for task in tasks}) > 1
    if several_rules and len(protocols) > 1:
        raise UsageError("several reference rules and several protocols: one of the two must be one")
    asked = {
        "device": rank.own_device(device) if rank else device,
        "precision": precision,
        "memory_budget": memory_budget,
        "allow_inexact_tiles": "yes" if allow_inexact_tiles else "no",
    }
    plugin = load_plugin(model_name, settings, asked)
    if rank and "device" in plugin.options:
        plugin.options["device"] = device
    targets = []
    for task in tasks:
        own = [task.refs_rule if several_rules else task.protocol.name] if len(tasks) > 1 else []
        targets.append(Target(task, out.joinpath(*own) if out else default_folder(task, plugin.card.name)))
    if shard:
        evaluate_shard(plugin, targets, shard, as_json)
        return
    if rank:
        finished = evaluate_ranked(plugin, targets, rank, overwrite=overwrite)
    else:
        finished = evaluate(plugin, targets, overwrite=overwrite)
    report(finished, as_json)


@click.command()
@click.argument("images", metavar="DIR", type=click.Path(path_type=Path, exists=True, file_okay=False))
@_DATASET
@_PROTOCOL
@_REFS
@_LR
@_SUBSET
@_LIMIT
@_MODIFIED
@click.option("--name", metavar="NAME", help="Name of the method in rows and tables  [default: the folder's name]")
@click.option(
    "--pattern", default="{name}.png", show_default=True, metavar="TEXT", help="File name; {name} is the sample's."
)
@_OUT
@_OVERWRITE
@json_option
def score(
    images: Path,
    dataset: str,
    protocol: str,
    refs_rule: str | None,
    lr: str,
    subset: str | None,
    limit: int | None,
    allow_modified: bool,
    name: str | None,
    pattern: str,
    out: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Score the pictures in DIR, made by any program, one per sample.

    \b
    Examples:
      refsr-bench score runs/demo/bicubic/c2-2021/first/sr --dataset demo --name mine
      refsr-bench score results/ --dataset cathedral --pattern "{name}_C2_matching_mse.png"
    """
    from refsr_bench.cli.reporting import report
    from refsr_bench.cli.runner import (
        Finished,
        default_folder,
        describe_run,
        knows_transforms,
        open_tasks,
        score_pictures,
    )
    from refsr_bench.protocols.evaluate import Target
    from refsr_bench.protocols.run import finish_run, open_run
    from refsr_bench.protocols.spec import find_protocol
    from refsr_bench.schema import ModelCard

    if "{name}" not in pattern or "/" in pattern or "\\" in pattern:
        raise UsageError(f"--pattern {pattern!r} must be a file name that contains {{name}}")
    only = [find_protocol(protocol)]
    tasks = open_tasks(dataset, only, refs_rule, limit, lr=lr, subset=subset, allow_modified=allow_modified)
    if len(tasks) > 1:
        raise UsageError("pictures are scored under the one reference rule that they were made with")
    [task] = tasks
    label = name or images.resolve().name
    card = ModelCard(name=label, title=f"pictures in {images}", paper="made elsewhere", uses_reference=True)
    target = Target(task, out or default_folder(task, f"scored-{label}"))
    if target.run_dir.resolve() in images.resolve().parents:
        raise UsageError(f"{target.run_dir}: holds the pictures themselves", "choose another --out")
    info = describe_run(task, card, {}, images=str(images.resolve()), device=None, file_pattern=pattern)
    with open_run(target.run_dir, info, overwrite=overwrite):
        path = lambda sample: images / pattern.replace("{name}", sample)  # noqa: E731
        rows = score_pictures(task, label, path, {}, visible=knows_transforms(task))
        finished = finish_run(target.run_dir, info, rows, [])
    report([Finished(target, finished, rows)], as_json)
