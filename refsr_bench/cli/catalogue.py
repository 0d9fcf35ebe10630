"""What there is: ``list``, ``info``, ``explain``."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from refsr_bench.cli.output import json_option, print_json
from refsr_bench.errors import IntegrityError, UsageError, did_you_mean

if TYPE_CHECKING:
    from refsr_bench.lookup import Kind
    from refsr_bench.schema import ModelCard

NAMED_BY_SOURCE = ("custom", "pairs", "transformed")
"""Builders without a dataset of their own name: theirs are called after what they are made of."""

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
            click.echo(f"  {entry['name']:<{width}}  {entry['summary']}{_state_of(entry)}")
        for entry in entries:
            if "problem" in entry:
                click.echo(f"warning: {entry['problem']}", err=True)


def _listing(kind: str) -> list[dict[str, Any]]:
    from refsr_bench.lookup import KINDS, list_entries

    if kind not in KINDS:  # protocols are not plug-ins: a preset is a published fact
        from refsr_bench.protocols.spec import PRESETS, protocol_summary

        return [{"name": name, "summary": protocol_summary(protocol)} for name, protocol in PRESETS.items()]
    entries = [{"name": name, "summary": entry.summary} for name, entry in list_entries(kind).items()]
    entries = [{**entry, **_problem(kind, entry["name"])} for entry in entries]
    if kind == "models":
        from refsr_bench.models.zoo import PUBLISHED_ONLY

        unavailable = [{"name": name, "summary": f"cannot run: {why}"} for name, why in PUBLISHED_ONLY.items()]
        return [{**entry, **_model_state(entry)} for entry in entries] + unavailable
    return _with_builds(entries) if kind == "datasets" else entries


def _problem(kind: Kind, name: str) -> dict[str, str]:
    """What is wrong with a plug-in of somebody else's, which is imported to find out; nothing for most."""
    from refsr_bench.lookup import BUILT_IN, find

    if name in BUILT_IN[kind]:
        return {}
    try:
        find(kind, name)
    except UsageError as error:
        return {"problem": " ".join(str(error).split())}
    return {}


def _model_state(entry: dict[str, Any]) -> dict[str, Any]:
    """What a model's card says of its age and size, and whether its weights are here."""
    from refsr_bench.lookup import find_card

    card = None if "problem" in entry else find_card("models", entry["name"])
    if card is None:
        return {}
    facts = {"kind": card.kind, "year": card.year, "parameters": card.parameters}
    return {**facts, "weights": _weights_state(card)} if card.checkpoint_source else facts


def _weights_state(card: ModelCard) -> str:
    from refsr_bench.models.zoo import weights_are_here

    if weights_are_here(card.name):
        return "imported"
    return "to be imported" if card.checkpoint else "to be trained, or imported from elsewhere"


def _with_builds(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The datasets that can be built, with what is built of them, and then those built under other names."""
    from refsr_bench.store import built_folders

    known = [{**entry, **_build_state(entry["name"])} for entry in entries]
    names = {entry["name"] for entry in entries} - {*NAMED_BY_SOURCE}
    others = [folder for folder in built_folders() if folder.name not in names]
    return known + [{"name": folder.name, **_state_of_folder(folder)} for folder in others]


def _build_state(name: str) -> dict[str, Any]:
    """Whether a dataset is built under its name: ``built`` is None or its identity, counts, size and folder."""
    from refsr_bench.store import INFO_NAME, data_dir

    folder = data_dir() / name
    if name in NAMED_BY_SOURCE or not (folder / INFO_NAME).is_file():
        return {"built": None}
    state = _state_of_folder(folder)
    del state["summary"]
    return state


def _state_of_folder(folder: Path) -> dict[str, Any]:
    """A built dataset's title and ``built``; a ``problem`` where its ``dataset.json`` cannot be read."""
    from refsr_bench.store import read_info

    try:
        found = read_info(folder)
    except IntegrityError as error:
        return {"summary": "", "built": None, "problem": " ".join(str(error).split())}
    kept = {"id": found.id, "version": found.version, "samples": found.samples, "bytes": found.bytes}
    return {"summary": found.title, "built": {**kept, "groups": found.groups, "folder": str(folder)}}


def _state_of(entry: dict[str, Any]) -> str:
    if "problem" in entry:
        return "  [cannot be loaded]"
    if "kind" in entry:
        facts = [entry["kind"], str(entry["year"] or "")]
        facts += [f"{entry['parameters']:,} parameters" if entry["parameters"] else ""]
        facts += [f"weights {entry['weights']}" if "weights" in entry else ""]
        return f"  [{'; '.join(fact for fact in facts if fact)}]"
    if "built" not in entry:
        return ""
    built = entry["built"]
    if built is None:
        return "  [not built]" if entry["name"] not in NAMED_BY_SOURCE else ""
    size = f", {built['bytes'] / 1e6:,.1f} MB" if built["bytes"] is not None else ""
    return f"  [built: {built['id']}, version {built['version']}, {built['samples']} samples{size}, {built['folder']}]"


@click.command()
@click.argument("name")
@json_option
def info(name: str, as_json: bool) -> None:
    """Show the card of a model or dataset, built or not, or of a dataset's folder.

    \b
    Examples:
      refsr-bench info c2matching
      refsr-bench info cufed5 --json
    """
    from refsr_bench.lookup import find_card, list_entries
    from refsr_bench.models.zoo import PUBLISHED_ONLY, how_to_get
    from refsr_bench.store import built_folders, open_dataset, resolve_dataset

    values: dict[str, Any]
    if name in PUBLISHED_ONLY:
        values = {"name": name, "runnable": False, "why": PUBLISHED_ONLY[name]}
    elif name in list_entries("models"):
        card = find_card("models", name)
        if card is None:
            raise UsageError(f"the model {name!r} has no card")
        values = {"name": name, "runnable": True, **card.model_dump(mode="json", exclude_defaults=True)}
        if card.checkpoint_source:
            values |= {"weights": _weights_state(card)}
        if card.checkpoint:
            values |= {"import_with": how_to_get(card)}
    elif name in list_entries("datasets"):
        card = find_card("datasets", name)
        about = {"name": name} if card is None else card.model_dump(mode="json", exclude_defaults=True)
        values = {**about, **_build_state(name)}
    elif Path(name).is_dir() or name in {folder.name for folder in built_folders()}:
        dataset = open_dataset(resolve_dataset(name))
        values = {"id": dataset.info.id, "folder": str(dataset.root), **dataset.info.model_dump(mode="json")}
    else:
        known = [*list_entries("models"), *list_entries("datasets"), *(folder.name for folder in built_folders())]
        raise UsageError(f"there is no model or dataset called {name!r}", did_you_mean(name, known))
    if as_json:
        print_json(values)
        return
    click.echo("\n".join(_in_lines(values)))


def _in_lines(values: dict[str, Any], indent: str = "") -> Iterator[str]:
    """A card for people: one line a value, what is longer on lines of its own, further in."""
    for key, value in values.items():
        label = f"{indent}{key.replace('_', ' ')}:"
        if isinstance(value, dict):
            yield label
            yield from _in_lines(value, indent + "  ")
        elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
            for each in value:
                yield label
                yield from _in_lines(each, indent + "  ")
        elif isinstance(value, list):
            yield f"{label} {', '.join(map(str, value))}"
        elif isinstance(value, str) and "\n" in value:
            yield f"{label}\n{textwrap.indent(value, indent + '  ')}"
        else:
            yield f"{label} {'no' if value is None else value}"


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
