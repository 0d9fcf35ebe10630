"""Pictures of results: ``plot`` and its subcommands."""

from __future__ import annotations

import click

from refsr_bench.cli import figures, robustness


@click.group()
def plot() -> None:
    """Draw figures of finished runs."""


for command in (*figures.COMMANDS, *robustness.PLOTS):
    plot.add_command(command)
