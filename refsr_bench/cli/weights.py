"""Weight files: ``weights import``, ``weights list``, ``weights verify``."""

from __future__ import annotations

import click

from refsr_bench.cli.output import json_option, print_json
from refsr_bench.errors import IntegrityError


@click.group()
def weights() -> None:
    """Import published weight files, list them, check them."""


@weights.command("import")
@click.argument("model")
@click.argument("files", nargs=-1, required=True, metavar="[ROLE=]FILE...")
@json_option
def import_command(model: str, files: tuple[str, ...], as_json: bool) -> None:
    """Check weight FILES of MODEL key by key and store them, as tensors only, in the model folder.

    \b
    Examples:
      refsr-bench weights import c2matching feature_extraction.pth vgg19-dcbb9e9d.pth
      refsr-bench weights import c2matching restoration-gan=my_network.pth
    """
    from refsr_bench.models.weights import import_weights
    from refsr_bench.store import model_dir

    imported = import_weights(model, files)
    if as_json:
        print_json([weight.model_dump(mode="json") for weight in imported])
        return
    for weight in imported:
        click.echo(f"{weight.role}: {weight.architecture} from {weight.source_file} ({weight.source_sha256[:12]})")
    click.echo(f"stored in {model_dir() / model}")


@weights.command("list")
@json_option
def list_weights_command(as_json: bool) -> None:
    """List the imported weight files.

    \b
    Examples:
      refsr-bench weights list
      refsr-bench weights list --json
    """
    from refsr_bench.models.weights import list_weights

    found = list_weights()
    if as_json:
        print_json([{"path": str(path), **weight.model_dump(mode="json")} for path, weight in found])
        return
    for path, weight in found:
        click.echo(f"{path}: {weight.architecture}, {weight.convention}, from {weight.source_file}; {weight.licence}")
    if not found:
        click.echo("no weights are imported")


@weights.command("verify")
@json_option
def verify_weights_command(as_json: bool) -> None:
    """Re-hash every imported weight file; exit 4 names what has changed or is gone.

    \b
    Examples:
      refsr-bench weights verify
      refsr-bench weights verify --json
    """
    from refsr_bench.models.weights import verify_weights

    checked = verify_weights()
    if as_json:
        print_json([{"path": str(path), "problem": problem} for path, problem in checked])
    problems = [problem for _, problem in checked if problem is not None]
    if problems:
        raise IntegrityError("\n  ".join([f"{len(problems)} imported weight file(s) do not verify:", *problems]))
    if not as_json:
        click.echo(f"{len(checked)} weight files verified")
