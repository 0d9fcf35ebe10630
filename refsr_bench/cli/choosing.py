"""The human half of WR-SR curation: ``curate review``, ``accept``, ``drop``, ``agreement``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from refsr_bench.cli.output import json_option, note, print_json, show_progress
from refsr_bench.errors import UsageError, first_few

if TYPE_CHECKING:
    from refsr_bench.collectors.curation.clean import Pool
    from refsr_bench.collectors.curation.rows import Decision, Query

work_argument = click.argument("work", type=click.Path(path_type=Path, file_okay=False))


@click.command()
@click.argument("work", type=click.Path(path_type=Path))
@click.option("--reviewer", help="Your name, written beside every decision.  [default: the page asks]")
@click.option("--blind", is_flag=True, help="For a second rating: no ranks, no scores, an order of the reviewer's own.")
@click.option("--tags-only", is_flag=True, help="Label the pictures of the built dataset WORK with categories instead.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8377, show_default=True, help="Port on 127.0.0.1; 0: any."
)
@click.option(
    "--static", "folder", type=click.Path(path_type=Path), help="Write the page into this folder, serve nothing."
)
@click.option(
    "--top", type=click.IntRange(1, 500), default=20, show_default=True, help="Candidates per query with --static."
)
def review(
    work: Path, reviewer: str | None, blind: bool, tags_only: bool, port: int, folder: Path | None, top: int
) -> None:
    """Choose references on a page in your browser: each query beside its ranked candidates, by keyboard.

    Digits choose, R rejects with a reason, Z zooms side by side, T sets the category, U undoes, N goes on. Every
    decision is saved at once and never rewritten; several people may review at the same time, each under a name. The
    page answers only this computer and only with the secret in its link. --static makes a folder for somebody without
    this program: decisions are saved to a file for curate accept --choices.

    \b
    Examples:
      refsr-bench curate review ~/wrsr --reviewer ann
      refsr-bench curate review ~/wrsr --blind --static for-bob/
    """
    from urllib.parse import urlencode

    from refsr_bench.collectors.curation.review import make_app, review_dataset, review_pools, write_static
    from refsr_bench.collectors.curation.rows import DECISIONS
    from refsr_bench.localweb import load_token, serve

    if tags_only:
        from refsr_bench.store import open_dataset, resolve_dataset

        shown = review_dataset(open_dataset(resolve_dataset(str(work))))
    else:
        shown = review_pools(work, _read_pools(work), work / DECISIONS, blind=blind)
    if folder is not None:
        with show_progress("pictures", 1) as advance:
            page = write_static(shown, folder, top, lambda done, total: advance(done / total))
        how = " --tags-only" if tags_only else ""
        click.echo(f"{page}: open it in a browser; then refsr-bench curate accept {work}{how} --choices FILE")
        return
    token = load_token(shown.thumbnails / ".review-token")
    note(f"decisions go to {shown.journal}; Ctrl-C stops the server, nothing is lost")
    query = urlencode({"reviewer": reviewer}) if reviewer else ""
    serve(make_app(shown, token), token, port=port, announce=click.echo, query=query)


@click.command()
@work_argument
@click.option(
    "--choices",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    multiple=True,
    help="Decisions made elsewhere: a CSV (query,reference,reviewer,reason,category) or the JSON of a static page.",
)
@click.option(
    "--tags-only", is_flag=True, help="Take over labels of the built dataset WORK, from a page's JSON, instead."
)
@click.option("--prefer", metavar="REVIEWER", help="Whose word holds where reviewers differ.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="File to write.  [default: WORK/selection.jsonl]"
)
@json_option
def accept(
    work: Path, choices: tuple[Path, ...], tags_only: bool, prefer: str | None, out: Path | None, as_json: bool
) -> None:
    """Freeze what was decided in WORK as selection.jsonl: queries, references, provenance, hashes, no pixels.

    Queries on which reviewers differ are left out and named, unless --prefer says whose word holds. With --tags-only
    nothing is frozen: the labels in --choices are added to those beside the dataset.

    \b
    Examples:
      refsr-bench curate accept ~/wrsr
      refsr-bench curate accept ~/wrsr --choices decisions-bob.json --prefer ann
    """
    from refsr_bench.collectors.curation.decisions import read_decisions
    from refsr_bench.collectors.curation.rows import DECISIONS, SELECTION, write_rows
    from refsr_bench.collectors.curation.selection import accept as freeze
    from refsr_bench.collectors.curation.selection import read_choices

    if tags_only:
        if prefer is not None or out is not None:
            raise UsageError("--tags-only takes neither --prefer nor --out", "the last label of a picture holds")
        _accept_labels(work, choices, as_json)
        return
    pools = _read_pools(work)
    _import(work / DECISIONS, [decision for path in choices for decision in read_choices(path, pools)])
    accepted = freeze(pools, read_decisions(work, note), prefer)
    target = out or work / SELECTION
    if not accepted.rows:
        raise UsageError(f"{work}: nothing is decided yet", f"refsr-bench curate review {work}")
    write_rows(target, list(accepted.rows))
    chosen = sum(row.reference is not None for row in accepted.rows)
    result = {
        "selection": str(target),
        "with_reference": chosen,
        "without_reference": len(accepted.rows) - chosen,
        "undecided": accepted.undecided,
        "disputed": accepted.disputed,
    }
    if as_json:
        print_json(result)
        return
    for word in ("undecided", "disputed"):
        if names := getattr(accepted, word):
            note(f"{len(names)} {word}, left out: {', '.join(first_few(names, 10))}")
    click.echo(f"{target}: {chosen} queries with a reference, {len(accepted.rows) - chosen} without")


def _import(journal: Path, decisions: list[Decision]) -> None:
    from refsr_bench.collectors.curation.decisions import record

    fresh = sum(record(journal, decision) for decision in decisions)
    if decisions:
        note(f"{fresh} of {len(decisions)} imported decisions are new")


def _accept_labels(dataset_name: Path, choices: tuple[Path, ...], as_json: bool) -> None:
    from refsr_bench.collectors.curation.decisions import labels_path, read_labels
    from refsr_bench.collectors.curation.selection import read_saved_labels
    from refsr_bench.store import open_dataset, resolve_dataset

    if not choices:
        raise UsageError("which labels are to be taken over?", "give the file that the page saved: --choices FILE")
    dataset = open_dataset(resolve_dataset(str(dataset_name)))
    samples = [record.name for record in dataset.records]
    path = labels_path(dataset.root)
    _import(path, [decision for file in choices for decision in read_saved_labels(file, samples)])
    labelled = len(read_labels(dataset.root).keys() & set(samples))
    if as_json:
        print_json({"labels": str(path), "labelled": labelled, "samples": len(samples)})
    else:
        click.echo(f"{path}: {labelled} of {len(samples)} samples are labelled")


@click.command()
@click.argument("target", metavar="URL")
@click.option(
    "--work", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Curation folder to take it out of."
)
@click.option(
    "--selection",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A selection.jsonl without its folder to take it out of.",
)
@click.option("--reason", default="takedown request", show_default=True, help="Why, for the record.")
def drop(target: str, work: Path | None, selection: Path | None, reason: str) -> None:
    """Honour a takedown: remove the picture at URL (its address, its page's address, or its SHA-256) for good.

    Its file is deleted, it is never fetched again, and no selection names it any more; the row stays, with the reason.

    \b
    Examples:
      refsr-bench curate drop https://example.org/photo.jpg --work ~/wrsr
      refsr-bench curate drop https://example.org/page --selection selection.jsonl --reason "asked by the author"
    """
    from refsr_bench.collectors.curation.rows import write_rows
    from refsr_bench.collectors.curation.selection import read_selection
    from refsr_bench.collectors.curation.takedowns import drop as take_down
    from refsr_bench.collectors.curation.takedowns import drop_from_selection

    if work is None and selection is None:
        raise UsageError("where is it to be taken out?", "give --work FOLDER or --selection FILE")
    lost: list[str] = []
    if work is not None:
        dropped = take_down(work, target, reason)
        lost += dropped.queries
        click.echo(f"{work}: {dropped.candidates} candidate(s) taken down, {dropped.files} file(s) deleted")
    if selection is not None:
        kept, gone = drop_from_selection(read_selection(selection), {target})
        write_rows(selection, kept)
        lost += gone
        click.echo(f"{selection}: {len(gone)} line(s) changed")
    if lost:
        note(f"without a reference now: {', '.join(lost)}; build the dataset again with --force")


@click.command()
@work_argument
@json_option
def agreement(work: Path, as_json: bool) -> None:
    """How far every two reviewers of WORK agree: same choices, and Cohen's kappa.

    \b
    Examples:
      refsr-bench curate agreement ~/wrsr
      refsr-bench curate agreement ~/wrsr --json
    """
    from refsr_bench.collectors.curation.decisions import agreement as measure
    from refsr_bench.collectors.curation.decisions import read_decisions

    sizes = {pool.query.name: sum(row.rank is not None for row in pool.rows) for pool in _read_pools(work)}
    found = measure(read_decisions(work, note), sizes)
    if as_json:
        print_json([pair._asdict() for pair in found])
        return
    if not found:
        raise UsageError(
            f"{work}: fewer than two people have decided anything", "refsr-bench curate review WORK --blind"
        )
    for pair in found:
        numbers = {
            "same outcome": pair.same_choice,
            "kappa usable": pair.usable_kappa,
            "kappa candidates": pair.candidate_kappa,
            "kappa category": pair.category_kappa,
        }
        shown = ", ".join(f"{name} {'n/a' if value is None else f'{value:.2f}'}" for name, value in numbers.items())
        click.echo(f"{' and '.join(pair.reviewers)}: {pair.queries} queries in common: {shown}")


def _read_pools(work: Path) -> list[Pool]:
    from refsr_bench.collectors.curation.clean import read_pool
    from refsr_bench.collectors.curation.takedowns import without_taken_down

    pools = [read_pool(work, query.name) for query in read_queries(work)]
    missing = sum(pool is None for pool in pools)
    if missing:
        raise UsageError(f"{work}: {missing} queries are not judged yet", f"refsr-bench curate clean {work}")
    return without_taken_down(work, [pool for pool in pools if pool is not None])


def read_queries(work: Path) -> list[Query]:
    """The queries of a curation folder; `UsageError` if there are none."""
    from refsr_bench.collectors.curation.rows import QUERIES, Query, read_rows

    queries = read_rows(work / QUERIES, Query, note)
    if not queries:
        raise UsageError(f"{work}: holds no queries", "start with: refsr-bench curate search WORK --queries FOLDER")
    return queries


COMMANDS = (review, accept, drop, agreement)
