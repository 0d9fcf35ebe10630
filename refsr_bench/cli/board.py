"""The tables of all runs: ``leaderboard``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from refsr_bench.cli.output import json_option, note, print_json, show_progress
from refsr_bench.errors import IntegrityError, RefsrError, UsageError

if TYPE_CHECKING:
    from refsr_bench.results.report.images import Prepared
    from refsr_bench.results.rows import Run
    from refsr_bench.schema import RunInfo, Sample
    from refsr_bench.store import Dataset

FORMATS = ("md", "csv", "json", "latex", "html")

_PICTURES = "html: images with pictures per table, those on which the runs differ most; 0 for none."
_DATASETS = "html: a dataset that was not built under its own name; repeatable."


@click.command()
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--format", "style", type=click.Choice(FORMATS), default="md", show_default=True, help="What to write.")
@click.option("--out", type=click.Path(path_type=Path), help="File to write; a folder for html  [default: ./report]")
@click.option("--baseline", metavar="MODEL", help="html: the model that images are compared with  [default: bicubic]")
@click.option("--pictures", default=24, show_default=True, metavar="N", type=click.IntRange(min=0), help=_PICTURES)
@click.option("--pictures-of", multiple=True, metavar="MODEL", help="html: only this model's pictures; repeatable.")
@click.option("--dataset", "datasets", multiple=True, metavar="DIR", help=_DATASETS)
@click.option("--check", is_flag=True, help="Only check the runs against their seals; exit 4 if anything is wrong.")
@click.option("--one-table", is_flag=True, help="Insist on one ranking; exit 7 if the runs were measured differently.")
@json_option
def leaderboard(
    runs: tuple[Path, ...],
    style: str,
    out: Path | None,
    baseline: str | None,
    pictures: int,
    pictures_of: tuple[str, ...],
    datasets: tuple[str, ...],
    check: bool,
    one_table: bool,
    as_json: bool,
) -> None:
    """Print the means of all runs in or below the folders RUNS (default: runs) as tables.

    Numbers with different signatures are never in one column, and never ranked together. --format html writes a
    folder of pages with every image's scores and pictures; it opens from disk; --json then prints what was written.
    --check finds edited, removed, added, repeated and foreign rows, files cut short, and metric definitions that are
    outdated.

    \b
    Examples:
      refsr-bench leaderboard runs/demo other-machine/runs --json
      refsr-bench leaderboard --format latex --out table.tex
      refsr-bench leaderboard --format html --out report
      refsr-bench leaderboard --check
    """
    places = runs or (Path("runs"),)
    if check:
        _check(places, as_json)
        return
    from refsr_bench.disk import atomic_write_bytes
    from refsr_bench.results import formats
    from refsr_bench.results.leaderboard import make_tables, require_one_ranking
    from refsr_bench.results.rows import find_runs

    found = find_runs(places)
    tables = make_tables(found)
    if one_table:
        require_one_ranking(tables)
    if style == "html":
        _write_report(found, out or Path("report"), baseline, pictures, pictures_of, datasets, as_json)
        return
    if as_json or style == "json":
        text = json.dumps(formats.to_json(tables), indent=2, ensure_ascii=False)
    else:
        text = {"md": formats.to_markdown, "csv": formats.to_csv, "latex": formats.to_latex}[style](tables)
    if out is None:
        click.echo(text, nl=not text.endswith("\n") or style == "md")
        return
    atomic_write_bytes(out, (text.rstrip("\n") + "\n").encode())
    click.echo(f"written: {out}")


def _write_report(
    runs: list[Run],
    out: Path,
    baseline: str | None,
    pictures: int,
    pictures_of: tuple[str, ...],
    datasets: tuple[str, ...],
    as_json: bool,
) -> None:
    from refsr_bench.results.formats import printable
    from refsr_bench.results.noise import read_protocol_noise
    from refsr_bench.results.report.build import PictureSource, build_report

    with show_progress("pictures", 1) as advance:
        written = build_report(
            runs,
            out,
            explain=_explain,
            definitions=_definitions(),
            noise=read_protocol_noise(),
            baseline=baseline,
            pictures=PictureSource(dataset_finder(datasets), prepare, pictures, pictures_of),
            advance=lambda done, total: advance(done / total if total else 1),
        )
    if as_json:
        print_json(written._asdict() | {"page": str(written.page)})
        return
    for remark in written.remarks:
        note(printable(remark))
    click.echo(f"{written.runs} run{'s' if written.runs != 1 else ''}, {written.pictures} images with pictures")
    click.echo(f"report: {written.page}")


def _explain(signature: str) -> list[tuple[str, str]]:
    """A signature in plain words; what a plug-in added stands as it is."""
    from refsr_bench.lookup import list_entries
    from refsr_bench.protocols.spec import explain_signature
    from refsr_bench.signature import parse_signature

    titles = {name: entry.summary for name, entry in list_entries("metrics").items()}
    parsed = parse_signature(signature)
    try:
        return explain_signature(parsed, titles)
    except UsageError:
        return [(parsed.metric, titles.get(parsed.metric, "a metric this installation does not know"))] + [
            (f"{key}:{value}", "") for key, value in parsed.fields
        ]


def _definitions() -> dict[str, str]:
    """Every metric's present definition version."""
    from refsr_bench.lookup import find, list_entries

    metrics = [find("metrics", name) for name in list_entries("metrics")]
    return {metric.name: metric.keys.get("def", "1") for metric in metrics}


def dataset_finder(folders: tuple[str, ...]) -> Callable[[str], Dataset | None]:
    """A function from a dataset's id to the dataset: one of the given ones, or the one built under its name."""
    from refsr_bench.store import open_dataset, resolve_dataset

    given = [open_dataset(resolve_dataset(folder)) for folder in folders]

    def find_dataset(dataset_id: str) -> Dataset | None:
        for dataset in given:
            if dataset.info.id == dataset_id:
                return dataset
        try:
            built = open_dataset(resolve_dataset(dataset_id.partition("@")[0]))
        except RefsrError:
            return None
        return built if built.info.id == dataset_id else None

    return find_dataset


def prepare(info: RunInfo, sample: Sample) -> Prepared:
    """What a run's protocol makes of a sample that has an HR picture."""
    from refsr_bench.protocols.inputs import prepare_inputs
    from refsr_bench.protocols.spec import EvalProtocol
    from refsr_bench.results.report.images import Prepared

    protocol = EvalProtocol.model_validate(info.protocol)
    assert sample.hr is not None
    shipped = None if info.lr == "protocol" else sample.lr
    inputs = prepare_inputs(sample.hr, sample.refs, protocol, shipped_lr=shipped)
    frame, scale = inputs.hr_frame, protocol.scale
    rows = slice(frame.y // scale, -(-(frame.y + frame.height) // scale))
    columns = slice(frame.x // scale, -(-(frame.x + frame.width) // scale))
    origins = tuple((each.x, each.y) for each in inputs.ref_frames)
    return Prepared(inputs.hr, inputs.lr[rows, columns], (frame.x, frame.y), origins)


def _check(places: tuple[Path, ...], as_json: bool) -> None:
    from refsr_bench.results.formats import printable
    from refsr_bench.results.integrity import check_runs

    findings = check_runs(places, _definitions())
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        for finding in findings:
            click.echo(f"{finding.kind}: {printable(finding.text)}")
    if findings:
        raise IntegrityError(
            f"{len(findings)} findings: these numbers are not what their runs were sealed with, or mixed"
        )
    if not as_json:
        click.echo("all rows are those their runs were sealed with")
