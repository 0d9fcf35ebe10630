"""``check``: the conformance kit for built-in models, plug-ins and functions that are not plugged in yet."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import click

from refsr_bench.cli.output import device_option, json_option, note, print_json
from refsr_bench.errors import ItemsFailed, UsageError


@click.command()
@click.argument("name", metavar="NAME|PKG.MOD:FUNCTION")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="An option of the model, e.g. weights=DIR.")
@device_option
@json_option
def check(name: str, settings: tuple[str, ...], device: str, as_json: bool) -> None:
    """Check that a model does what the package expects of every model, and what its reference is worth.

    Output sizes, value range and colour order, determinism, no changes of global state or random numbers, memory
    returned, tiles where claimed, no look at the HR picture; then the reference is replaced by black, noise, its own
    shuffled blocks and an unrelated photograph. Exit code 5 if a check fails; warnings are to be looked at.

    \b
    Examples:
      refsr-bench check c2matching-small
      refsr-bench check my_package.my_module:build --set weights=mine.pth --json
    """
    from refsr_bench.cli.runner import load_plugin
    from refsr_bench.testing import check_model, to_lines

    if ":" in name:
        model = _make(name, settings, device)
    else:
        plugin = load_plugin(name, settings, {"device": device})
        if not plugin.restores:
            raise UsageError(f"{name} restores no pictures; only models are checked")
        model = plugin.made
    report = check_model(model, progress=lambda check_name: note(f"checking {check_name}"))
    if as_json:
        values = {"model": report.findings[0].detail, "findings": [finding._asdict() for finding in report.findings]}
        print_json({**values, "ablation_psnr_db": report.ablation, "reference_gain_db": report.reference_gain})
    else:
        click.echo("\n".join(to_lines(report.findings)))
    if report.failed:
        raise ItemsFailed(f"{len(report.failed)} of {len(report.findings)} checks failed")


def _make(target: str, settings: tuple[str, ...], device: str) -> Any:
    """Import ``package.module:function``, from the working directory too, and call it."""
    import inspect

    from refsr_bench.cli.runner import call_factory, settings_of

    module, _, attribute = target.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        factory = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # a stranger's module may raise anything
        raise UsageError(f"{target} cannot be loaded: {type(error).__name__}: {error}") from error
    finally:
        sys.path.pop(0)
    options = settings_of(target, factory, settings)
    if "device" in inspect.signature(factory).parameters:
        options.setdefault("device", device)
    elif device != "cpu":
        raise UsageError(f"{target} knows no other device than cpu")
    return call_factory(target, factory, options)
