"""Tables of finished runs: ``leaderboard``."""

from __future__ import annotations

from pathlib import Path

import click

from refsr_bench.cli.output import json_option, print_json


@click.command()
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--one-table", is_flag=True, help="Insist on one ranking; exit 7 if the runs were measured differently.")
@json_option
def leaderboard(runs: tuple[Path, ...], one_table: bool, as_json: bool) -> None:
    """Print the means of all runs in or below the folders RUNS (default: runs) as Markdown tables.

    Numbers with different signatures are never in one column, and never ranked together.

    \b
    Examples:
      refsr-bench leaderboard
      refsr-bench leaderboard runs/demo other-machine/runs --json
    """
    from refsr_bench.cli.runner import lower_is_better
    from refsr_bench.results.leaderboard import make_tables, require_one_ranking, to_json, to_markdown
    from refsr_bench.results.rows import find_runs

    tables = make_tables(find_runs(runs or (Path("runs"),)), lower_is_better())
    if one_table:
        require_one_ranking(tables)
    if as_json:
        print_json(to_json(tables))
    else:
        click.echo(to_markdown(tables))
