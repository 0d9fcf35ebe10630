"""Making and checking datasets: ``build``, ``verify``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from refsr_bench.cli.output import json_option, note, parse_settings, print_json, show_progress
from refsr_bench.errors import IntegrityError, UsageError

if TYPE_CHECKING:
    from refsr_bench.store import Dataset


@click.command()
@click.argument("name")
@click.argument("source", type=click.Path(path_type=Path, exists=True, file_okay=False), required=False)
@click.option("--of", metavar="NAME|DIR", help="transformed: the built dataset whose pictures are transformed.")
@click.option("--kind", metavar="KIND", help="transformed: rotation, scale or both  [default: both]")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="An option of the builder, e.g. seed=1.")
@click.option("--out", type=click.Path(path_type=Path), help="Dataset folder to make  [default: in the data folder]")
@click.option("--force", is_flag=True, help="Build again even if the dataset is there.")
@json_option
def build(
    name: str,
    source: Path | None,
    of: str | None,
    kind: str | None,
    settings: tuple[str, ...],
    out: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Build the dataset NAME; "custom" is made from the photographs in the folder SOURCE.

    SOURCE holds photographs of one scene (each one once as input, all others as its references), or the sub-folders
    input/ and ref/ with files matched by name (ref/NAME.*, ref/NAME_ref.* or ref/NAME_1.* to NAME_5.*).
    "transformed" makes references of a built dataset's own pictures, rotated or scaled by known amounts; "pairs" reads
    pictures with known homographies or disparity.

    \b
    Examples:
      refsr-bench build demo
      refsr-bench build transformed --of demo --kind rotation --set seed=1
      refsr-bench build custom ~/photos/cathedral --out ~/refsr/cathedral
    """
    from refsr_bench.lookup import find, list_entries
    from refsr_bench.store import INFO_NAME, data_dir, open_dataset, verify_dataset

    build_dataset = find("datasets", name)
    if name == "custom" and source is None:
        raise UsageError("custom needs a folder of photographs", "refsr-bench build custom DIR")
    given = [f"of={of}"] * (of is not None) + [f"kind={kind}"] * (kind is not None)
    options = dict(list_entries("datasets")[name].options)
    options |= parse_settings(name, build_dataset, (*given, *settings), fixed=options)
    default_name = getattr(sys.modules[build_dataset.__module__], "dataset_name", lambda options: name)(options)
    target = out or data_dir() / (source.resolve().name if source is not None else default_name)
    present = (target / INFO_NAME).is_file()
    if target.exists() and not present and any(target.iterdir()):
        raise UsageError(f"{target}: holds other files, no dataset is built over them", "choose another --out")
    if present and not force and _is_outdated(build_dataset, target):
        note(f"{target} was built by another version of the builder; building it again")
        force = True
    if present and not force:
        _require_same_options(build_dataset, options, target)
    if present and not force:
        dataset = open_dataset(target)
        if problems := verify_dataset(dataset):
            _fail_verification(dataset, problems)
        note(f"{target} is already built and verifies; --force builds it again")
    else:
        with show_progress(f"build {name}", 1) as advance:
            build_dataset(source, target, progress=lambda done, total: advance(done / total), note=note, **options)
        dataset = open_dataset(target)
    _print_dataset(dataset, as_json)


def _is_outdated(build_dataset: Any, target: Path) -> bool:
    from refsr_bench.store import read_info

    current = getattr(sys.modules[build_dataset.__module__], "BUILDER_VERSION", None)
    return current is not None and read_info(target).builder_version != current


def _require_same_options(build_dataset: Any, options: dict[str, str], target: Path) -> None:
    from refsr_bench.store import read_info

    record = getattr(sys.modules[build_dataset.__module__], "recorded_options", None)
    if record is None:
        return
    built, asked = read_info(target).options, record(options)
    different = [
        f"{key}={built.get(key)} instead of {value}" for key, value in asked.items() if built.get(key) != value
    ]
    if different:
        raise UsageError(
            f"{target}: was built with other options: {', '.join(different)}", "choose another --out, or add --force"
        )


def _print_dataset(dataset: Dataset, as_json: bool) -> None:
    if as_json:
        print_json({"folder": str(dataset.root), "id": dataset.info.id, **dataset.info.model_dump(mode="json")})
        return
    groups = ", ".join(f"{count} {group}" for group, count in dataset.info.groups.items())
    click.echo(f"{dataset.info.id}: {dataset.info.samples} samples ({groups}) in {dataset.root}")


@click.command()
@click.argument("dataset")
@json_option
def verify(dataset: str, as_json: bool) -> None:
    """Re-hash and decode every file of a built DATASET (name or folder); exit 4 names what is wrong.

    \b
    Examples:
      refsr-bench verify demo
      refsr-bench verify ~/refsr/cathedral --json
    """
    from refsr_bench.store import open_dataset, resolve_dataset, verify_dataset

    opened = open_dataset(resolve_dataset(dataset))
    problems = verify_dataset(opened)
    if as_json:
        print_json({"id": opened.info.id, "ok": not problems, "problems": [p._asdict() for p in problems]})
    if problems:
        _fail_verification(opened, problems)
    if not as_json:
        click.echo(f"{opened.info.id}: {opened.info.samples} samples verified in {opened.root}")


def _fail_verification(dataset: Dataset, problems: list[Any]) -> NoReturn:
    listing = "".join(f"\n  {problem.path}: {problem.problem}" for problem in problems[:20])
    raise IntegrityError(
        f"{dataset.root} does not verify, {len(problems)} problem(s):{listing}", "build it again with --force"
    )
