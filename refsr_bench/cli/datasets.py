"""Making and checking datasets: ``build``, ``verify``."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from refsr_bench.cli.output import json_option, note, parse_settings, print_json, show_progress
from refsr_bench.errors import IntegrityError, ItemsFailed, UsageError

if TYPE_CHECKING:
    from refsr_bench.schema import DatasetCard
    from refsr_bench.store import Dataset
    from refsr_bench.verification import Problem

_PATH = click.Path(path_type=Path, exists=True)
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command()
@click.argument("name")
@click.argument("source", type=_PATH, required=False)
@click.option("--from", "given", type=_PATH, metavar="ARCHIVE|DIR", help="The same as SOURCE.")
@click.option("--of", metavar="NAME|DIR", help="transformed: the built dataset whose pictures are transformed.")
@click.option("--kind", metavar="KIND", help="transformed: rotation, scale or both  [default: both]")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="An option of the builder, e.g. seed=1.")
@click.option("--out", type=click.Path(path_type=Path), help="Dataset folder to make  [default: in the data folder]")
@click.option("--force", is_flag=True, help="Build again even if the dataset is there.")
@click.option("--dry-run", is_flag=True, help="Say what would be built from what, and stop.")
@click.option("--jobs", type=click.IntRange(1, 64), metavar="N", help="Pictures at a time  [default: one a processor]")
@click.option("--expect-sha256", metavar="[FILE=]HASH", help="Hash that the archive must have, over any known one.")
@click.option("--selection", type=_FILE, help="Build wr-sr from this selection.jsonl of curate accept.")
@click.option(
    "--allow-private", is_flag=True, default=None, help="With --selection: also ask addresses of this network."
)
@click.option("--export-lr", is_flag=True, help="Also write x4 bicubic LR pictures, into a folder beside the dataset.")
@json_option
def build(
    name: str,
    source: Path | None,
    given: Path | None,
    of: str | None,
    kind: str | None,
    settings: tuple[str, ...],
    out: Path | None,
    force: bool,
    dry_run: bool,
    jobs: int | None,
    expect_sha256: str | None,
    selection: Path | None,
    allow_private: bool | None,
    export_lr: bool,
    as_json: bool,
) -> None:
    """Build the dataset NAME from the archives that its authors published, or from SOURCE.

    SOURCE is an archive, a folder of archives, or a folder of pictures as published; without it, archives are
    downloaded. "custom" is made from your own photographs: SOURCE is a folder of one scene, a folder with input/ and
    ref/, or a CSV table ("refsr-bench info custom" tells more). "transformed" makes references of a built dataset's own
    pictures, rotated or scaled by known amounts; "pairs" reads pictures with known homographies or disparity.

    \b
    Examples:
      refsr-bench build demo
      refsr-bench build cufed5 --from ~/Downloads/CUFED5.zip
      refsr-bench build transformed --of demo --kind rotation --set seed=1
      refsr-bench build custom ~/photos/cathedral --out ~/refsr/cathedral
    """
    from refsr_bench.disk import naming_storage_faults, sha256_file
    from refsr_bench.lookup import find, find_card, list_entries
    from refsr_bench.store import INFO_NAME, data_dir, open_dataset, read_info
    from refsr_bench.verification import verify_dataset

    build_dataset, card = find("datasets", name), find_card("datasets", name)
    if source is not None and given is not None:
        raise UsageError("SOURCE and --from are the same: give one of them")
    source = source or given
    if name == "custom" and source is None:
        raise UsageError("custom needs a folder of photographs or a CSV table", "refsr-bench build custom DIR")
    extra = {"selection": selection, "allow_private": allow_private}
    options = _known_options(name, build_dataset, {**extra, "jobs": jobs, "expect_sha256": expect_sha256})
    options |= _builder_options(name, build_dataset, of, kind, settings)
    own = source.resolve() if name in {"custom", "pairs"} and source is not None else None
    usual = _own_name(name, options) if selection is None else f"{name}-curated"
    target = out or data_dir() / (usual if own is None else own.stem if own.is_file() else own.name)
    if own is not None and target.name in list_entries("datasets"):
        raise UsageError(f"{target.name} is the name of another dataset", "choose another --out")
    if dry_run:
        _print_plan(name, card, source, target, as_json)
        return
    with naming_storage_faults(target.parent):
        present = (target / INFO_NAME).is_file()
    if present and not force and card is not None and read_info(target).builder_version != card.builder_version:
        note(f"{target} was built by another version of the builder; building it again")
        force = True
    if present and selection is not None and read_info(target).options.get("selection") != sha256_file(selection):
        note(f"{target} was built from another selection; building it again")
        force = True
    if present and not force:
        _require_same_options(build_dataset, options, target)
        _require_same_source(build_dataset, own, target)
        dataset = open_dataset(target)
        if problems := verify_dataset(dataset):
            _fail_verification(dataset, problems)
        note(f"{target} is already built and verifies; --force builds it again")
    else:
        with show_progress(f"build {name}", 1) as advance:
            build_dataset(source, target, progress=lambda done, total: advance(done / total), note=note, **options)
        dataset = open_dataset(target)
    _print_dataset(dataset, as_json)
    if export_lr:
        _export(dataset, target)
    if (gone := dataset.info.options.get("gone", "0")) != "0":
        raise ItemsFailed(f"{target}: {gone} pair(s) of the selection are missing", "--force tries to get them again")


def _known_options(name: str, build_dataset: Any, options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given; `UsageError` for one that the builder does not know."""
    given = {key: value for key, value in options.items() if value is not None}
    known = inspect.signature(build_dataset).parameters
    for key in given:
        if key not in known:
            raise UsageError(f"--{key.replace('_', '-')} means nothing to the builder of {name}")
    return given


def _print_plan(name: str, card: DatasetCard | None, source: Path | None, target: Path, as_json: bool) -> None:
    from refsr_bench.collectors.material import describe_sources
    from refsr_bench.store import INFO_NAME

    if card is not None and card.sources:
        sources = describe_sources(card, source)
    else:
        sources = [{"file": "folder", "state": f"here: {source}"}] if source is not None else []
    plan = {"dataset": name, "folder": str(target), "built": (target / INFO_NAME).is_file(), "sources": sources}
    if as_json:
        print_json(plan)
        return
    click.echo(f"{name} would be built in {target}{' (is built already)' if plan['built'] else ''}")
    for each in sources:
        click.echo(f"  {each['file']}: {each['state']}")
        for key in ("sha256", "urls", "found_at"):
            if each.get(key):
                value = each[key]
                click.echo(f"    {key.replace('_', ' ')}: {', '.join(value) if isinstance(value, list) else value}")


def _export(dataset: Dataset, target: Path) -> None:
    from refsr_bench.collectors.export import export_lr

    folder = target.with_name(f"{target.name}-lr-x4")
    with show_progress("export LR", 1) as advance:
        count = export_lr(dataset, folder, progress=lambda done, total: advance(done / total))
    note(f"{count} LR pictures in {folder}")


def _builder_options(
    name: str, build_dataset: Any, of: str | None, kind: str | None, settings: tuple[str, ...]
) -> dict[str, str]:
    """What the builder is told: the options that ``name`` stands for, ``--of`` and ``--kind``, and those of --set."""
    from refsr_bench.lookup import list_entries

    given = [f"of={of}"] * (of is not None) + [f"kind={kind}"] * (kind is not None)
    fixed = dict(list_entries("datasets")[name].options)
    return fixed | parse_settings(name, build_dataset, (*given, *settings), fixed=fixed)


def _own_name(name: str, options: dict[str, Any]) -> str:
    """Name of the dataset that is built: a transformed set has that of its source and kind."""
    if "of" not in options:
        return name
    from refsr_bench.collectors.transformed import dataset_name

    return dataset_name(options)


def _require_same_options(build_dataset: Any, options: dict[str, Any], target: Path) -> None:
    """`UsageError` if the dataset at ``target`` was built with other options than these."""
    from refsr_bench.store import read_info

    record = getattr(sys.modules[build_dataset.__module__], "recorded_options", None)
    if record is None:
        return
    built, asked = read_info(target).options, record(options)
    other = [f"{key}={built.get(key)} instead of {value}" for key, value in asked.items() if built.get(key) != value]
    if other:
        raise UsageError(
            f"{target}: was built with other options: {', '.join(other)}", "choose another --out, or add --force"
        )


def _require_same_source(build_dataset: Any, source: Path | None, target: Path) -> None:
    """`UsageError` if the dataset at ``target`` was built from other files than ``source`` holds."""
    from refsr_bench.store import read_info

    describe = getattr(sys.modules[build_dataset.__module__], "sources_of", None)
    if describe is not None and source is not None and read_info(target).sources != describe(source):
        raise UsageError(
            f"{target}: was built from other files than {source} holds now", "choose another --out, or add --force"
        )


def _print_dataset(dataset: Dataset, as_json: bool) -> None:
    if as_json:
        print_json({"folder": str(dataset.root), "id": dataset.info.id, **dataset.info.model_dump(mode="json")})
        return
    groups = ", ".join(f"{count} {group}" for group, count in dataset.info.groups.items())
    click.echo(f"{dataset.info.id}: {dataset.info.samples} samples ({groups}) in {dataset.root}")


@click.command()
@click.argument("dataset")
@click.option("--deep", is_flag=True, help="Decode every picture too.")
@json_option
def verify(dataset: str, deep: bool, as_json: bool) -> None:
    """Re-hash every file of a built DATASET (name or folder); exit 4 names what is wrong.

    \b
    Examples:
      refsr-bench verify demo
      refsr-bench verify ~/refsr/cathedral --deep --json
    """
    from refsr_bench.store import open_dataset, resolve_dataset
    from refsr_bench.verification import verify_dataset

    opened = open_dataset(resolve_dataset(dataset))
    with show_progress("verify", 1) as advance:
        problems = verify_dataset(opened, deep=deep, progress=lambda done, total: advance(done / total))
    if as_json:
        print_json({"id": opened.info.id, "ok": not problems, "problems": [p._asdict() for p in problems]})
    if problems:
        _fail_verification(opened, problems)
    if not as_json:
        click.echo(f"{opened.info.id}: {opened.info.samples} samples verified in {opened.root}")


def _fail_verification(dataset: Dataset, problems: list[Problem]) -> NoReturn:
    from refsr_bench.verification import list_problems

    raise IntegrityError(
        f"{dataset.root} does not verify, {len(problems)} problem(s):{list_problems(problems)}",
        "build it again with --force",
    )
