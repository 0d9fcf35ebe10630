"""A user study of restored pictures: ``study new``, ``serve`` and ``analyse``."""

from __future__ import annotations

from pathlib import Path

import click

from refsr_bench.cli.output import json_option, note, print_json
from refsr_bench.errors import UsageError

_FOLDER = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, exists=True, file_okay=False))
_RUN = click.Path(path_type=Path, exists=True, file_okay=False)


@click.group()
def study() -> None:
    """Ask people which restored pictures they prefer: blinded, balanced, without personal data."""


@study.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--target", required=True, metavar="RUN", type=_RUN, help="Run folder of the method that is tested.")
@click.option("--against", required=True, multiple=True, metavar="RUN", type=_RUN, help="A method to compare it with.")
@click.option("--all-pairs", is_flag=True, help="Compare every method with every other one, not only with the target.")
@click.option("--samples", default=30, show_default=True, type=click.IntRange(min=1), help="Images to draw.")
@click.option("--sheets", default=20, show_default=True, type=click.IntRange(1, 1000), help="Raters to plan for.")
@click.option("--per-rater", default=40, show_default=True, type=click.IntRange(1, 1000), help="Pairs each one sees.")
@click.option("--checks", default=3, show_default=True, type=click.IntRange(0, 20), help="Attention checks a rater.")
@click.option("--title", metavar="TEXT", help="Title of the page.")
@click.option("--question", metavar="TEXT", help="What raters are asked.")
@click.option("--consent", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="File of consent text.")
@click.option("--dataset", metavar="NAME|DIR", help="The runs' dataset, if not built under its own name.")
@click.option("--seed", default=0, show_default=True, help="Decides samples, order, sides and file names.")
@json_option
def new(
    folder: Path,
    target: Path,
    against: tuple[Path, ...],
    all_pairs: bool,
    samples: int,
    sheets: int,
    per_rater: int,
    checks: int,
    title: str | None,
    question: str | None,
    consent: Path | None,
    dataset: str | None,
    seed: int,
    as_json: bool,
) -> None:
    """Make a study in the folder DIR from finished runs.

    Raters choose between two pictures of one image. Which method made a picture is only in key.json; order and sides
    are random and balanced over methods and raters. DIR/public is a static page; study serve shows the same page here.

    \b
    Examples:
      refsr-bench study new preference --target runs/demo/mine --against runs/demo/bicubic
      refsr-bench study new preference --target A --against B --against C --per-rater 60 --consent consent.txt
    """
    from refsr_bench.results.rows import find_runs
    from refsr_bench.results.study.create import Options, create_study
    from refsr_bench.results.study.design import CONSENT, QUESTION, TITLE, sides_of
    from refsr_bench.store import open_dataset, resolve_dataset

    runs = [run for place in (target, *against) for run in find_runs([place])]
    if len(runs) != 1 + len(against):
        raise UsageError("each --target and --against must be the folder of one run")
    opened = open_dataset(resolve_dataset(dataset or runs[0].rows[0].dataset.partition("@")[0]))
    if opened.info.id != runs[0].rows[0].dataset:
        raise UsageError(
            f"the runs are of {runs[0].rows[0].dataset}, the dataset is {opened.info.id}", "name theirs with --dataset"
        )
    options = Options(
        title=title or TITLE,
        question=question or QUESTION,
        consent=consent.read_text("utf-8", errors="replace") if consent else CONSENT,
        samples=samples,
        sheets=sheets,
        per_sheet=per_rater,
        checks=checks,
        all_pairs=all_pairs,
        seed=seed,
    )
    made, key = create_study(folder, runs, opened, options)
    shown = [len(sheet) for sheet in made.sheets]
    summary = {
        "folder": str(folder),
        "methods": list(key.methods),
        "pairs": sum(not truth.check for truth in key.pairs.values()),
        "attention_checks": sum(truth.check for truth in key.pairs.values()),
        "sheets": len(made.sheets),
        "shown_per_rater": max(shown),
        "left": {
            duel: {"left": count, "right": sides_of(made, key)[duel, False]}
            for (duel, left), count in sorted(sides_of(made, key).items())
            if left
        },
    }
    if as_json:
        print_json(summary)
        return
    click.echo(
        f"{summary['pairs']} pairs of {len(key.methods)} methods, {summary['attention_checks']} attention checks; "
        f"{len(made.sheets)} sheets of {max(shown)} pairs"
    )
    click.echo(f"ask people here:     refsr-bench study serve {folder}")
    click.echo(f"ask people elsewhere: publish {folder / 'public'}, collect the files they save")
    click.echo(f"then:                refsr-bench study analyse {folder} [answers-*.json]")
    click.echo(f"keep to yourself:    {folder / 'key.json'}")


@study.command()
@_FOLDER
@click.option("--port", default=0, show_default="any free one", type=click.IntRange(0, 65535), help="Port to serve on.")
def serve(folder: Path, port: int) -> None:
    """Serve the study in DIR to raters at this computer, until Ctrl-C.

    Each rater gets the least used sheet; answers are appended to DIR/answers.jsonl as they are given, and a reloaded
    page goes on where it was. Only this computer can open the page, and only with the printed link.

    \b
    Examples:
      refsr-bench study serve preference
      refsr-bench study serve preference --port 8080
    """
    from refsr_bench import localweb
    from refsr_bench.results.study.server import make_app

    token = localweb.load_token(folder / ".token")
    localweb.serve(
        make_app(folder, token), token, port=port, announce=lambda link: click.echo(f"open {link} (Ctrl-C ends)")
    )


@study.command()
@_FOLDER
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--allowed-failures",
    default=0,
    show_default=True,
    type=click.IntRange(min=0),
    help="Attention checks a rater may fail and still count.",
)
@json_option
def analyse(folder: Path, files: tuple[Path, ...], allowed_failures: int, as_json: bool) -> None:
    """Analyse the answers to the study in DIR, served ones and FILES saved from its static page.

    Preference with Wilson intervals, Bradley-Terry strengths with a bootstrap over raters, agreement of raters, and
    whether sides mattered. Broken, foreign and repeated answers are left out and counted.

    \b
    Examples:
      refsr-bench study analyse preference
      refsr-bench study analyse preference answers-*.json --json
    """
    from refsr_bench.results.formats import printable
    from refsr_bench.results.study.analysis import analyse_study, as_dict, describe_analysis
    from refsr_bench.results.study.answers import read_answers
    from refsr_bench.results.study.design import open_study

    plan, key = open_study(folder)
    answers = read_answers(folder, plan, files)
    analysis = analyse_study(key, answers, allowed_failures=allowed_failures)
    if as_json:
        print_json(as_dict(analysis))
        return
    for sentence in describe_analysis(analysis):
        click.echo(printable(sentence))
    if not analysis.answers:
        note("nobody has answered yet")
