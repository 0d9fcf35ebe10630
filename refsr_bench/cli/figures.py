"""The paper's tables and figures: ``plot table1|table4|ablation|crops|categories|study``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from refsr_bench.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from refsr_bench.results.figures.crops import Box, Strip
    from refsr_bench.results.leaderboard import Table
    from refsr_bench.results.rows import Run
    from refsr_bench.store import Dataset

_Command = TypeVar("_Command", bound=Callable[..., Any])
_RUN = click.Path(path_type=Path, exists=True, file_okay=False)


def figure_options(default_name: str, default_width: str) -> Callable[[_Command], _Command]:
    """The options of every figure: where it is written, and how wide it is."""

    def add(command: _Command) -> _Command:
        out = click.option(
            "--out",
            type=click.Path(path_type=Path),
            default=Path(default_name),
            show_default=True,
            help="File to write: .pdf, .svg or .png.",
        )
        width = click.option(
            "--width",
            type=click.Choice(("column", "page")),
            default=default_width,
            show_default=True,
            help="3.25 or 6.875 inches.",
        )
        return out(width(command))

    return add


def _say(text: str) -> None:
    """Print text that may hold names from anywhere."""
    from refsr_bench.results.formats import printable

    click.echo(printable(text))


def save(figure: Any, out: Path) -> None:
    """Write a figure and say where."""
    from refsr_bench.results.figures.style import save_figure

    save_figure(figure, out)
    _say(f"written: {out}")


def _tables(runs: tuple[Path, ...]) -> list[Table]:
    from refsr_bench.results.leaderboard import make_tables
    from refsr_bench.results.rows import find_runs

    return make_tables(find_runs(runs)) if runs else []


def _one_run(folder: Path) -> Run:
    from refsr_bench.results.rows import find_runs

    found = find_runs([folder])
    if len(found) != 1:
        raise UsageError(f"{folder}: holds {len(found)} runs", "name the folder of one run")
    return found[0]


@click.command()
@click.argument("runs", nargs=-1, type=_RUN)
@click.option("--protocol", default="c2-2021", show_default=True, metavar="NAME", help="Measured runs to take.")
@figure_options("table1.pdf", "page")
def table1(runs: tuple[Path, ...], protocol: str, out: Path, width: str) -> None:
    """Draw the paper's Table 1 as printed and, under a rule, the RUNS measured on its datasets.

    \b
    Examples:
      refsr-bench plot table1
      refsr-bench plot table1 runs --out table1.svg --width column
    """
    from refsr_bench.results.figures.papertables import DATASETS, draw_table1, measured_lines

    tables = [table for table in _tables(runs) if _protocol(table) == protocol]
    measured = measured_lines(tables, list(DATASETS))
    if runs and not measured:
        raise UsageError(f"none of the runs is of {', '.join(DATASETS)} under {protocol}")
    for signature in dict.fromkeys(c for t in tables if t.dataset.partition("@")[0] in DATASETS for c in t.columns[:2]):
        _say(f"measured: {signature}")
    save(draw_table1(measured, width=width), out)


def _protocol(table: Table) -> str:
    info = next((line.info for line in table.lines if line.info), None)
    return str(info.protocol.get("name", "")) if info else ""


@click.command()
@click.argument("runs", nargs=-1, type=_RUN)
@click.option("--dataset", default="cufed5", show_default=True, metavar="NAME", help="Dataset of the measured runs.")
@figure_options("table4.pdf", "page")
def table4(runs: tuple[Path, ...], dataset: str, out: Path, width: str) -> None:
    """Draw the paper's Table 4, scores over parameters, as printed and with the RUNS that know their parameters.

    \b
    Examples:
      refsr-bench plot table4
      refsr-bench plot table4 runs/cufed5 --out table4.png
    """
    from refsr_bench.results.figures.papertables import draw_table4, measured_sizes

    measured = measured_sizes(_tables(runs), dataset)
    if runs and not measured:
        raise UsageError(f"none of the runs is of {dataset} and of a model that says how many parameters it has")
    save(draw_table4(measured, width=width), out)


@click.command()
@click.argument("runs", nargs=-1, required=True, type=_RUN)
@click.option("--label", "labels", multiple=True, metavar="TEXT", help="A run's name, in their order; repeatable.")
@click.option("--metric", default="psnr_y", show_default=True, metavar="NAME", help="What is drawn.")
@click.option(
    "--subset", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Sample names, one a line."
)
@click.option("--paper", is_flag=True, help="With four runs: mark the increments that the paper states.")
@figure_options("ablation.pdf", "column")
def ablation(
    runs: tuple[Path, ...],
    labels: tuple[str, ...],
    metric: str,
    subset: Path | None,
    paper: bool,
    out: Path,
    width: str,
) -> None:
    """Draw what each of the RUNS adds to the one before it, with paired 95 % intervals (Fig. 5).

    \b
    Examples:
      refsr-bench plot ablation runs/base runs/dynagg runs/contras runs/full --paper
      refsr-bench plot ablation runs/a runs/b --label baseline --label ours --subset textures.txt
    """
    from refsr_bench.results.figures.ablation import ablation_steps, draw_ablation

    found = [_one_run(folder) for folder in runs]
    if len(found) < 2 or (labels and len(labels) != len(found)):
        raise UsageError("an ablation needs two runs or more, and as many labels as runs")
    names = labels or tuple(run.rows[0].model for run in found)
    series = [("all images", ablation_steps(found, names, metric, None))]
    if subset:
        only = frozenset(subset.read_text("utf-8").split())
        series.append(("subset", ablation_steps(found, names, metric, only)))
    for title, steps in series:
        for step in steps[1:]:
            assert step.added is not None
            mean, low, high = (f"{value:+.4f}" for value in step.added)
            _say(f"{title}: {step.label} adds {mean} {metric} on {step.images} images ({low} to {high})")
    save(draw_ablation(series, metric=metric, paper=paper, width=width), out)


@click.command()
@click.argument("runs", nargs=-1, required=True, type=_RUN)
@click.option("--sample", "samples", multiple=True, required=True, metavar="NAME", help="A sample; repeatable.")
@click.option("--box", "boxes", multiple=True, metavar="X,Y,W,H", help="Its box, HR px  [default: where runs differ].")
@click.option("--dataset", metavar="NAME|DIR", help="The runs' dataset, if not built under its own name.")
@click.option("--metric", default="psnr_y", show_default=True, metavar="NAME", help="Score under each crop.")
@figure_options("crops.pdf", "page")
def crops(
    runs: tuple[Path, ...],
    samples: tuple[str, ...],
    boxes: tuple[str, ...],
    dataset: str | None,
    metric: str,
    out: Path,
    width: str,
) -> None:
    """Draw strips of restored crops of the RUNS beside LR, reference and HR (Fig. 4, 7 to 9).

    \b
    Examples:
      refsr-bench plot crops runs/demo/bicubic runs/demo/mine --sample two-view-1
      refsr-bench plot crops runs/a runs/b --sample 003 --box 120,40,96,72 --out crops.png
    """
    from refsr_bench.cli.board import dataset_finder
    from refsr_bench.results.figures.crops import draw_crops

    found = [_one_run(folder) for folder in runs]
    if boxes and len(boxes) != len(samples):
        raise UsageError("give one --box a --sample, in the same order, or none")
    opened = dataset_finder((dataset,) if dataset else ())(found[0].rows[0].dataset)
    if opened is None:
        raise UsageError(f"the dataset {found[0].rows[0].dataset} is not built here", "name it with --dataset")
    known = [record.name for record in opened.records]
    strips = []
    for i, sample in enumerate(samples):
        if sample not in known:
            raise UsageError(f"there is no sample {sample!r}", did_you_mean(sample, known))
        strip = _strip(found, opened, sample, metric, _box(boxes[i]) if boxes else None)
        _say(f"{sample}: box {','.join(map(str, strip.box))}")
        strips.append(strip)
    save(draw_crops(strips, width=width), out)


def _box(text: str) -> Box:
    from refsr_bench.results.figures.crops import Box

    try:
        x, y, width, height = (int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--box {text!r} is not X,Y,W,H in whole pixels") from None
    return Box(x, y, width, height)


def _strip(runs: list[Run], dataset: Any, sample: str, metric: str, box: Box | None) -> Strip:
    from refsr_bench.cli.board import prepare
    from refsr_bench.images import load_image
    from refsr_bench.results.figures.crops import Strip, Tile, check_box, choose_box
    from refsr_bench.results.leaderboard import format_value
    from refsr_bench.results.report.images import sr_path
    from refsr_bench.store import load_sample

    record = next(record for record in dataset.records if record.name == sample)
    used = next((row.refs for row in runs[0].rows if row.sample == sample), ())
    loaded = load_sample(dataset, record, [i for i, ref in enumerate(record.refs) if ref.path in used])
    if loaded.hr is None or runs[0].info is None:
        raise UsageError(f"{sample}: there is no HR picture, or the run has no run.json")
    made = prepare(runs[0].info, loaded)
    tiles = []
    for run in runs:
        if run.info is None or run.rows[0].dataset != dataset.info.id:
            raise UsageError(f"{run.folder}: is not a sealed run of {dataset.info.id}")
        image = load_image(sr_path(run.folder, run.info, sample))
        if image.shape != made.hr.shape:
            raise UsageError(f"{run.folder}: its picture of {sample} is not of the HR picture's size")
        value = next((r.value for r in run.rows if r.sample == sample and r.metric == metric), None)
        unit = " dB" if metric.startswith("psnr") else ""
        tiles.append(Tile(run.rows[0].model, "" if value is None else format_value(metric, value) + unit, image))
    chosen = box or choose_box(made.hr, [tile.image for tile in tiles])
    check_box(chosen, made.hr)
    return Strip(sample, made.hr, made.lr, loaded.refs[0] if loaded.refs else None, tuple(tiles), chosen)


@click.command()
@click.argument("datasets", nargs=-1, required=True, metavar="DATASET...")
@click.option("--sheet", type=click.Path(path_type=Path), help="Also draw pairs of every category here (Fig. 3a).")
@figure_options("categories.pdf", "column")
def categories(datasets: tuple[str, ...], sheet: Path | None, out: Path, width: str) -> None:
    """Draw how the images of DATASETs (names or folders) divide into categories (Fig. 3b, c).

    Categories are those given with curate review --tags-only, else those chosen in curation, else the groups.

    \b
    Examples:
      refsr-bench plot categories demo
      refsr-bench plot categories wr-sr-curated cufed5 --out categories.svg --sheet pairs.png
    """
    from refsr_bench.results.figures.shares import draw_categories
    from refsr_bench.store import open_dataset, resolve_dataset

    opened = [open_dataset(resolve_dataset(name)) for name in datasets]
    found = [_categories_of(dataset) for dataset in opened]
    sets = {dataset.info.name: dict(Counter(own)) for dataset, own in zip(opened, found, strict=True)}
    for name, counts in sets.items():
        _say(f"{name}: " + ", ".join(f"{group} {count}" for group, count in counts.items()))
    save(draw_categories(sets, width=width), out)
    if sheet is not None:
        save(_draw_sheet(opened[0], found[0]), sheet)


def _categories_of(dataset: Dataset) -> list[str]:
    """The category of every sample: a person's label, else a tag of the curation, else its group."""
    from refsr_bench.collectors.curation.decisions import read_labels
    from refsr_bench.collectors.curation.rows import CATEGORIES

    labels = read_labels(dataset.root)
    found = [labels.get(r.name) or next((t for t in r.tags if t in CATEGORIES), None) for r in dataset.records]
    if not any(found):
        return [record.group for record in dataset.records]
    return [category or "not labelled" for category in found]


def _draw_sheet(dataset: Dataset, categories: list[str]) -> Any:
    from refsr_bench.results.figures.illustration import Pair, choose_examples, draw_pairs
    from refsr_bench.store import load_sample

    pairs = []
    for i in choose_examples(categories):
        sample = load_sample(dataset, dataset.records[i], refs=[0] if dataset.records[i].refs else [])
        if sample.hr is not None:
            pairs.append(Pair(categories[i], sample.hr, sample.refs[0] if sample.refs else None))
    return draw_pairs(pairs)


@click.command("study")
@click.argument("folder", metavar="DIR", type=_RUN)
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@figure_options("study.pdf", "column")
def plot_study(folder: Path, files: tuple[Path, ...], out: Path, width: str) -> None:
    """Draw how often raters preferred the target of the study in DIR to each other method (Fig. 6c).

    \b
    Examples:
      refsr-bench plot study preference
      refsr-bench plot study preference answers-*.json --out study.svg
    """
    from refsr_bench.results.figures.shares import draw_preferences
    from refsr_bench.results.study.analysis import analyse_study
    from refsr_bench.results.study.answers import read_answers
    from refsr_bench.results.study.design import open_study

    plan, key = open_study(folder)
    analysis = analyse_study(key, read_answers(folder, plan, files), draws=1)
    if not analysis.preferences:
        raise UsageError(f"{folder}: nobody has answered yet", f"ask with: refsr-bench study serve {folder}")
    save(draw_preferences(analysis.preferences, width=width), out)


COMMANDS = (table1, table4, ablation, crops, categories, plot_study)
