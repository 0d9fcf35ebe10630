"""Numbers beside numbers: ``compare`` two runs, or look up what was ``published``."""

from __future__ import annotations

import math
from pathlib import Path

import click

from refsr_bench.cli.output import json_option, print_json
from refsr_bench.errors import RegressionFound, UsageError, did_you_mean


@click.command()
@click.argument("run_a", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("run_b", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--metric", default="psnr_y", show_default=True, metavar="NAME", help="Metric of the image list and limit."
)
@click.option(
    "--fail-below",
    type=float,
    metavar="GAIN",
    help="Exit 8 if the metric's mean gain is below this; a gain is positive where B is better.",
)
@click.option("--show", default=5, show_default=True, type=click.IntRange(min=0), help="Worst and best images to list.")
@json_option
def compare(run_a: Path, run_b: Path, metric: str, fail_below: float | None, show: int, as_json: bool) -> None:
    """Compare RUN_B with RUN_A image by image; exit 7 if they were not measured alike.

    Differences are B - A, so an error that grew is +. "better", "worst" and --fail-below heed the metric's direction:
    with aee, --fail-below -0.05 fails if the error grew by more than 0.05 px. The interval is a paired bootstrap over
    images, p an approximate randomisation test, Holm-corrected over metrics.

    \b
    Examples:
      refsr-bench compare runs/demo/bicubic runs/demo/mine
      refsr-bench compare runs/old runs/new --fail-below -0.05 --json
    """
    from refsr_bench.results.compare import compare_runs, describe_change
    from refsr_bench.results.formats import printable
    from refsr_bench.results.noise import read_protocol_noise
    from refsr_bench.results.rows import find_runs

    found = [find_runs([folder]) for folder in (run_a, run_b)]
    for folder, runs in zip((run_a, run_b), found, strict=True):
        if len(runs) != 1:
            raise UsageError(f"{folder}: holds {len(runs)} runs", "name the folder of one run")
    if fail_below is not None and not math.isfinite(fail_below):
        raise UsageError(f"--fail-below {fail_below} is no limit", "give a finite number, e.g. -0.05")
    (a,), (b,) = found
    names = [printable(runs[0].rows[0].model) for runs in found]
    if names[0] == names[1]:
        names = [str(run_a), str(run_b)]
    changes = {change.metric: change for change in compare_runs(a, b)}
    if metric not in changes:
        raise UsageError(f"the two runs have no common metric {metric!r}", did_you_mean(metric, changes))
    if as_json:
        print_json([{**c._asdict(), "difference": c.difference._asdict()} for c in changes.values()])
    else:
        noise = read_protocol_noise()
        click.echo("\n".join(describe_change(change, names[0], names[1], noise) for change in changes.values()))
        listed = changes[metric].samples
        for title, samples in (("worst", listed[:show]), ("best", listed[::-1][:show])):
            click.echo(f"{title}: " + ", ".join(f"{printable(sample)} {value:+.2f}" for sample, value in samples))
        if changes[metric].left_out:
            click.echo(f"left out, failed in one of the runs: {printable(', '.join(changes[metric].left_out))}")
    change = changes[metric]
    if fail_below is not None and change.gain < fail_below:
        raise RegressionFound(
            f"the mean change of {metric} is {change.difference.mean:+.4f}, a gain of {change.gain:+.4f}: "
            f"below the limit of {fail_below:+.4f}"
        )


@click.command()
@click.option("--dataset", metavar="NAME", help="Only numbers on this dataset, e.g. cufed5.")
@click.option("--method", metavar="NAME", help="Only numbers of this method, e.g. TTSR-rec.")
@click.option("--table", metavar="N", help="Only this table of the C2-Matching paper: 1 or 4.")
@json_option
def published(dataset: str | None, method: str | None, table: str | None, as_json: bool) -> None:
    """Print results that papers, READMEs and users published, and under what protocol as far as known.

    They carry no signature of this package, so they never stand in one column with measured numbers.

    \b
    Examples:
      refsr-bench published --table 1
      refsr-bench published --dataset cufed5 --json
    """
    from refsr_bench.results.published import grid_to_markdown, read_published, select_published, to_grid

    found = select_published(dataset=dataset, method=method, table=f"Table {table}" if table else None)
    if not found:
        everything = read_published()
        for name, value, known in (
            ("dataset", dataset, {p.dataset for p in everything}),
            ("method", method, {p.method for p in everything}),
            ("table", table, {p.table.removeprefix("Table ") for p in everything if p.table}),
        ):
            if value is not None and value not in known:
                raise UsageError(f"nothing published is known for the {name} {value!r}", did_you_mean(value, known))
        raise UsageError("nothing published is known under all of these conditions together")
    if as_json:
        print_json([number._asdict() for number in found])
        return
    for source in dict.fromkeys((p.source, p.table) for p in found):
        numbers = [p for p in found if (p.source, p.table) == source]
        click.echo(f"{' '.join(filter(None, source))}\n\n{grid_to_markdown(to_grid(numbers))}\n")
        for remark in dict.fromkeys(f"{p.protocol}; {p.certainty}" for p in numbers):
            click.echo(f"protocol: {remark}")
        click.echo()
