"""What the commands share: how they print, remark and show progress."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")


def print_json(value: object) -> None:
    """Print one readable JSON document on standard output."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def note(text: str) -> None:
    """Remark something on standard error."""
    click.echo(f"note: {text}", err=True)


@contextmanager
def show_progress(label: str, total: int) -> Iterator[Callable[[float], None]]:
    """A progress bar with ETA on standard error; gives a function that sets how much is done."""
    from tqdm import tqdm

    quiet = bool(os.environ.get("REFSR_NO_PROGRESS"))
    # In a log file, a line every half minute; nothing for work that is done by then.
    interval = 0.2 if sys.stderr.isatty() else 30.0
    with tqdm(
        total=total, desc=label, file=sys.stderr, mininterval=interval, delay=interval, disable=quiet, leave=False
    ) as bar:

        def advance(done: float) -> None:
            bar.update(done - bar.n)

        yield advance
