"""What the commands share: how they read options, print, remark and show progress."""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from refsr_bench.errors import UsageError, did_you_mean

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
device_option = click.option(
    "--device", default="cpu", show_default=True, metavar="DEVICE", help="cpu, cuda or cuda:N."
)
precision_option = click.option(
    "--precision", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True, help="Of the convolutions."
)


def print_json(value: object) -> None:
    """Print one readable JSON document on standard output."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def note(text: str) -> None:
    """Remark something on standard error."""
    click.echo(f"note: {harmless(text)}", err=True)


def harmless(text: str) -> str:
    """Lines for the terminal without the control characters that a file name or a web page may carry."""
    from refsr_bench.results.formats import printable

    return "\n".join(printable(line) for line in text.split("\n"))


def parse_settings(
    name: str, factory: Any, settings: Iterable[str], fixed: Mapping[str, str] | None = None
) -> dict[str, str]:
    """``--set KEY=VALUE`` pairs as keyword arguments of a factory or builder; an unknown key is an error.

    fixed : options that ``name`` stands for, which may not be given otherwise.
    """
    passed_by_us = {"source", "target", "progress", "note", "jobs", "expect_sha256", "selection", "allow_private"}
    known = set(inspect.signature(factory).parameters) - passed_by_us
    options = {}
    for setting in settings:
        key, separator, value = setting.partition("=")
        if not separator:
            raise UsageError(f"--set {setting!r} is not KEY=VALUE")
        if key not in known:
            raise UsageError(f"{name} has no option {key!r}", did_you_mean(key, known))
        if fixed and fixed.get(key, value) != value:
            raise UsageError(f"{name} stands for {key}={fixed[key]}, not {key}={value}")
        options[key] = value
    return options


@contextmanager
def show_progress(label: str, total: int) -> Iterator[Callable[[float], None]]:
    """A progress bar with ETA on standard error; gives a function that sets how much is done.

    ``total`` 1 is for work that is told in fractions.
    """
    from tqdm import tqdm

    quiet = bool(os.environ.get("REFSR_NO_PROGRESS"))
    # In a log file, a line every half minute; nothing for work that is done by then.
    interval = 0.2 if sys.stderr.isatty() else 30.0
    with tqdm(
        total=total,
        desc=label,
        file=sys.stderr,
        mininterval=interval,
        delay=interval,
        disable=quiet,
        leave=False,
        bar_format="{desc}: {percentage:3.0f}%|{bar}| [{elapsed}<{remaining}]" if total == 1 else None,
    ) as bar:

        def advance(done: float) -> None:
            if bar.n == 0 and done > 1:  # work that goes on: what was there says nothing about the speed
                bar.n = bar.initial = bar.last_print_n = done - 1
            bar.update(done - bar.n)

        yield advance
