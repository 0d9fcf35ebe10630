"""What there is: ``list``, ``info``, ``explain``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from refsr_bench.cli.output import json_option, print_json
from refsr_bench.errors import UsageError, did_you_mean

LIST_KINDS = ("datasets", "models", "protocols", "metrics", "matchers", "providers")


@click.command("list")
@click.argument("kind", type=click.Choice(LIST_KINDS), required=False)
@json_option
def list_command(kind: str | None, as_json: bool) -> None:
    """List the known datasets, models, protocols, metrics and plug-ins, of one KIND or all.

    \b
    Examples:
      refsr-bench list
      refsr-bench list models --json
    """
    kinds = [kind] if kind else list(LIST_KINDS)
    tables = {each: _listing(each) for each in kinds}
    if as_json:
        print_json(tables)
        return
    for each, entries in tables.items():
        if not entries and not kind:
            continue
        click.echo(f"{each}:")
        width = max((len(entry["name"]) for entry in entries), default=0)
        for entry in entries:
            click.echo(f"  {entry['name']:<{width}}  {entry['summary']}{entry.get('state', '')}")


def _listing(kind: str) -> list[dict[str, str]]:
    from refsr_bench.lookup import KINDS, list_entries

    if kind not in KINDS:  # protocols are not plug-ins: a preset is a published fact
        from refsr_bench.protocols.spec import PRESETS, protocol_summary

        return [{"name": name, "summary": protocol_summary(protocol)} for name, protocol in PRESETS.items()]
    entries = [{"name": name, "summary": entry.summary} for name, entry in list_entries(kind).items()]
    return [_with_build_state(entry) for entry in entries] if kind == "datasets" else entries


def _with_build_state(entry: dict[str, str]) -> dict[str, str]:
    from refsr_bench.store import INFO_NAME, data_dir, read_info

    folder = data_dir() / entry["name"]
    if entry["name"] == "custom" or not (folder / INFO_NAME).is_file():
        return entry
    return {**entry, "state": f"  [built: {read_info(folder).id}, {folder}]"}


@click.command()
@click.argument("name")
@json_option
def info(name: str, as_json: bool) -> None:
    """Show the card of a model, or of a built dataset given by NAME or folder.

    \b
    Examples:
      refsr-bench info c2matching
      refsr-bench info demo --json
    """
    from refsr_bench.lookup import BUILT_IN, find, list_entries
    from refsr_bench.store import open_dataset, resolve_dataset

    if name in list_entries("models"):
        factory = find("models", name)
        card = getattr(sys.modules[factory.__module__], "CARDS", {}).get(name)
        if card is None:
            raise UsageError(f"the model {name!r} has no card")
        values = card.model_dump(mode="json", exclude_defaults=True)
    elif name in BUILT_IN["datasets"] or Path(name).is_dir():
        dataset = open_dataset(resolve_dataset(name))
        values = {"id": dataset.info.id, "folder": str(dataset.root), **dataset.info.model_dump(mode="json")}
    else:
        known = [*list_entries("models"), *list_entries("datasets")]
        raise UsageError(f"there is no model or dataset called {name!r}", did_you_mean(name, known))
    if as_json:
        print_json(values)
        return
    for key, value in values.items():
        click.echo(f"{key.replace('_', ' ')}: {value}")


@click.command()
@click.argument("signature")
@json_option
def explain(signature: str, as_json: bool) -> None:
    """Say in plain words what a number's SIGNATURE means.

    \b
    Examples:
      refsr-bench explain "psnr_y|crop:4|ch:y601studio"
      refsr-bench explain "ssim_y|data:demo@1f3c9a|n:21|ref:first" --json
    """
    from refsr_bench.lookup import list_entries
    from refsr_bench.protocols.spec import explain_signature
    from refsr_bench.signature import parse_signature

    titles = {name: entry.summary for name, entry in list_entries("metrics").items()}
    parts = explain_signature(parse_signature(signature), titles)
    if as_json:
        print_json([{"part": part, "meaning": meaning} for part, meaning in parts])
        return
    width = max(len(part) for part, _ in parts)
    for part, meaning in parts:
        click.echo(f"{part:<{width}}  {meaning}")
