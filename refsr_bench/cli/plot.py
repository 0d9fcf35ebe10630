"""Pictures of results: ``plot`` and its subcommands."""

from __future__ import annotations

import click


@click.group()
def plot() -> None:
    """Draw figures of finished runs."""
