"""The tables of all runs: ``leaderboard``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from refsr_bench.cli.output import json_option, print_json
from refsr_bench.errors import IntegrityError

FORMATS = ("md", "csv", "json", "latex")


@click.command()
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--format", "style", type=click.Choice(FORMATS), default="md", show_default=True, help="What to write.")
@click.option("--out", type=click.Path(path_type=Path), help="File to write  [default: standard output]")
@click.option("--check", is_flag=True, help="Only check the runs against their seals; exit 4 if anything is wrong.")
@click.option("--one-table", is_flag=True, help="Insist on one ranking; exit 7 if the runs were measured differently.")
@json_option
def leaderboard(
    runs: tuple[Path, ...], style: str, out: Path | None, check: bool, one_table: bool, as_json: bool
) -> None:
    """Print the means of all runs in or below the folders RUNS (default: runs) as tables.

    Numbers with different signatures are never in one column, and never ranked together. --check finds edited,
    removed, added, repeated and foreign rows, files cut short, and metric definitions that are outdated.

    \b
    Examples:
      refsr-bench leaderboard runs/demo other-machine/runs --json
      refsr-bench leaderboard --format latex --out table.tex
      refsr-bench leaderboard --check
    """
    places = runs or (Path("runs"),)
    if check:
        _check(places, as_json)
        return
    from refsr_bench.results import formats
    from refsr_bench.results.leaderboard import make_tables, require_one_ranking
    from refsr_bench.results.rows import find_runs
    from refsr_bench.store import atomic_write_bytes

    tables = make_tables(find_runs(places))
    if one_table:
        require_one_ranking(tables)
    if as_json or style == "json":
        text = json.dumps(formats.to_json(tables), indent=2, ensure_ascii=False)
    else:
        text = {"md": formats.to_markdown, "csv": formats.to_csv, "latex": formats.to_latex}[style](tables)
    if out is None:
        click.echo(text, nl=not text.endswith("\n") or style == "md")
        return
    atomic_write_bytes(out, (text.rstrip("\n") + "\n").encode())
    click.echo(f"written: {out}")


def _check(places: tuple[Path, ...], as_json: bool) -> None:
    from refsr_bench.lookup import find, list_entries
    from refsr_bench.results.formats import printable
    from refsr_bench.results.integrity import check_runs

    metrics = [find("metrics", name) for name in list_entries("metrics")]
    findings = check_runs(places, {metric.name: metric.keys.get("def", "1") for metric in metrics})
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        for finding in findings:
            click.echo(f"{finding.kind}: {printable(finding.text)}")
    if findings:
        raise IntegrityError(
            f"{len(findings)} findings: these numbers are not what their runs were sealed with, or mixed"
        )
    if not as_json:
        click.echo("all rows are those their runs were sealed with")
