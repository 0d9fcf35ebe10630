"""The command line: parse, call one function, print.

Results go to standard output, progress and remarks to standard error. Every import that costs time stands inside the
command that needs it, so that ``--help`` and ``list`` answer at once.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click

from refsr_bench import __version__
from refsr_bench.cli import (
    board,
    catalogue,
    check,
    comparison,
    curate,
    datasets,
    evaluation,
    plot,
    restore,
    robustness,
    sharding,
    study,
    train,
    weights,
)
from refsr_bench.cli.output import harmless
from refsr_bench.errors import RefsrError

_EPILOG = (
    "Folders: REFSR_DATA_DIR (built datasets), REFSR_MODEL_DIR (imported weights) and REFSR_CACHE_DIR (archives) "
    "override the user's folders. REFSR_OFFLINE=1 forbids the network, REFSR_NO_PROGRESS=1 silences progress bars."
)


class Terminated(BaseException):
    """SIGTERM arrived; what is on disk is complete and the same command goes on from there."""


def main() -> NoReturn:
    """Entry point: run the command and end with the exit code that `refsr_bench.errors` lists."""
    signal.signal(signal.SIGTERM, _on_sigterm)
    try:
        cli.main(prog_name="refsr-bench", standalone_mode=False)
        sys.exit(0)
    except RefsrError as error:
        click.echo(f"refsr-bench: {harmless(str(error))}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("refsr-bench: interrupted; finished work is kept, the same command goes on from there", err=True)
        sys.exit(130)
    except Terminated:
        click.echo("refsr-bench: terminated; finished work is kept, the same command goes on from there", err=True)
        sys.exit(143)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        from refsr_bench.disk import as_storage_fault

        fault = as_storage_fault(error, Path(error.filename or ".").parent)
        text = str(fault or f"{error.filename or 'the file system'}: {error.strerror or error}")
        click.echo(f"refsr-bench: {harmless(text)}", err=True)
        sys.exit(fault.exit_code if fault else 1)


def _on_sigterm(signum: int, frame: FrameType | None) -> None:
    raise Terminated


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}, epilog=_EPILOG)
@click.version_option(__version__, prog_name="refsr-bench")
def cli() -> None:
    """Benchmark and dataset toolkit for reference-based super-resolution.

    \b
    Examples:
      refsr-bench build demo
      refsr-bench eval bicubic --dataset demo
    """


for command in (
    catalogue.list_command,
    catalogue.info,
    catalogue.explain,
    datasets.build,
    datasets.verify,
    evaluation.eval_command,
    evaluation.score,
    restore.restore,
    robustness.robustness,
    sharding.merge,
    board.leaderboard,
    comparison.compare,
    comparison.published,
    plot.plot,
    study.study,
    weights.weights,
    check.check,
    curate.curate,
    train.train,
):
    cli.add_command(command)
