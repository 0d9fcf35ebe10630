"""How an evaluation's result is printed: tables of runs, or what the choice of references or protocols does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from refsr_bench.cli.output import print_json
from refsr_bench.errors import ItemsFailed, first_few

if TYPE_CHECKING:
    from refsr_bench.cli.runner import Finished
    from refsr_bench.schema import Row


def report(runs: Sequence[Finished], as_json: bool) -> None:
    """Print one run's table; of one model on one dataset, how references or protocols move the scores; else tables.

    `ItemsFailed` if samples failed.
    """
    subjects = {(run.info.model.name, run.info.dataset) for run in runs}
    rules = {run.target.task.refs_rule for run in runs}
    protocols = {run.target.task.protocol.name for run in runs}
    if len(runs) == 1:
        _report_one(runs[0], as_json)
    elif (len(subjects), len(rules), len(protocols)) == (1, len(runs), 1):
        _report_sensitivity(runs, as_json)
    elif (len(subjects), len(rules), len(protocols)) == (1, 1, len(runs)):
        _report_effects(runs, as_json)
    elif runs:
        _report_tables(runs, as_json)
    raise_failures(runs)


def _report_one(finished: Finished, as_json: bool) -> None:
    from refsr_bench.results.formats import to_json, to_markdown
    from refsr_bench.results.leaderboard import make_tables
    from refsr_bench.results.rows import Run

    run_dir, info = finished.target.run_dir, finished.info
    tables = make_tables([Run(run_dir, tuple(finished.rows))])
    images = run_dir / info.images
    if as_json:
        print_json(
            {
                "run_dir": str(run_dir),
                "images": str(images),
                "run": info.model_dump(mode="json"),
                "tables": to_json(tables),
                "failed": _failures(finished.rows),
            }
        )
    else:
        what = "matches" if info.file_pattern.endswith(".npz") else "restored images"
        click.echo(to_markdown(tables))
        click.echo(f"run folder: {run_dir}\n{what}: {images}")


def _report_tables(runs: Sequence[Finished], as_json: bool) -> None:
    """The leaderboard of runs that differ in more than one thing, or in their models or datasets."""
    from refsr_bench.results.formats import to_json, to_markdown
    from refsr_bench.results.leaderboard import make_tables
    from refsr_bench.results.rows import Run

    tables = make_tables([Run(run.target.run_dir, tuple(run.rows), run.info) for run in runs])
    folders = [str(run.target.run_dir) for run in runs]
    if as_json:
        print_json({"tables": to_json(tables), "run_dirs": folders})
    else:
        click.echo(to_markdown(tables))
        click.echo("run folders:\n" + "\n".join(f"  {folder}" for folder in folders))


def _report_effects(runs: Sequence[Finished], as_json: bool) -> None:
    """Every protocol's scores and their differences to the first one's."""
    from refsr_bench.protocols.spec import choices
    from refsr_bench.results.effects import Measured, protocol_effects, to_markdown

    base = choices(runs[0].target.task.protocol)
    measured = []
    for run in runs:
        protocol = run.target.task.protocol
        changed = ", ".join(f"{key}:{value}" for key, value in choices(protocol).items() if value != base[key])
        measured.append(Measured(protocol.name, changed, tuple(run.rows)))
    effects = protocol_effects(measured)
    folders = {run.target.task.protocol.name: str(run.target.run_dir) for run in runs}
    if as_json:
        print_json({"effects": [effect._asdict() for effect in effects], "run_dirs": folders})
    else:
        click.echo(to_markdown(runs[0].info.dataset, runs[0].info.model.name, effects))
        click.echo("run folders:\n" + "\n".join(f"  {folder}" for folder in folders.values()))


def _report_sensitivity(runs: Sequence[Finished], as_json: bool) -> None:
    """The scores with every reference, and how much the choice moves them."""
    from refsr_bench.results.sensitivity import reference_sensitivity, to_markdown

    tables = reference_sensitivity({run.target.task.refs_rule: run.rows for run in runs})
    folders = {run.target.task.refs_rule: str(run.target.run_dir) for run in runs}
    if as_json:
        print_json({"sensitivity": [table._asdict() for table in tables], "run_dirs": folders})
    else:
        click.echo(to_markdown(runs[0].info.dataset, runs[0].info.model.name, tables))
        click.echo("run folders:\n" + "\n".join(f"  {folder}" for folder in folders.values()))


def _failures(rows: Sequence[Row]) -> dict[str, str | None]:
    """Sample to the reason of its first failed row."""
    return {row.sample: row.reason for row in reversed(rows) if row.status == "failed"}


def raise_failures(runs: Sequence[Finished]) -> None:
    """`ItemsFailed` that names the failed samples, if there are any."""
    from refsr_bench.results.formats import printable

    failed = {sample: reason for run in reversed(runs) for sample, reason in _failures(run.rows).items()}
    if failed:
        lines = [printable(f"{sample}: {reason}") for sample, reason in sorted(failed.items())]
        listing = "".join(f"\n  {line}" for line in first_few(lines, 20))
        raise ItemsFailed(f"{len(failed)} of {runs[0].info.samples} samples failed:{listing}")
