"""WR-SR curation: ``curate search``, ``clean``, ``review``, ``accept``, ``drop``, ``agreement``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from refsr_bench.cli.output import json_option, note, print_json, show_progress
from refsr_bench.errors import NetworkError, UsageError

if TYPE_CHECKING:
    from refsr_bench.collectors.curation.clean import Matcher, Pool
    from refsr_bench.collectors.curation.providers import Provider
    from refsr_bench.collectors.curation.rows import Query
    from refsr_bench.schema import Image

_MATCHED_PX = 320
"""Longer side of the pictures that a matcher of the zoo compares, px: dense search grows with its fourth power."""

work_argument = click.argument("work", type=click.Path(path_type=Path, file_okay=False))


@click.group()
def curate() -> None:
    """Make a WR-SR dataset of your own: from query photographs to a frozen selection.

    The steps, each resumable, all in one folder WORK: search (pictures for every query), clean (refuse copies of the
    query, rank the rest), review (a person chooses), accept (freeze selection.jsonl). Then build wr-sr --selection.

    \b
    Examples:
      refsr-bench curate search ~/wrsr --queries ~/BSDS500/images --captions captions.csv --provider openverse
      refsr-bench curate clean ~/wrsr && refsr-bench curate review ~/wrsr --reviewer ann
    """


@curate.command()
@work_argument
@click.option(
    "--queries",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of query photographs to add to WORK.",
)
@click.option(
    "--captions",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="CSV with the columns name and text: what to search for, for each query.  [default: words in the file names]",
)
@click.option("--queries-licence", default="unknown", show_default=True, help="Licence of the query photographs.")
@click.option("--draw", metavar="PROVIDER", help="Draw queries from this provider too, as the paper did from Flickr.")
@click.option("--draw-text", metavar="WORDS", multiple=True, help="What to draw queries for; may be repeated.")
@click.option(
    "--draw-count", type=click.IntRange(1, 1000), default=10, show_default=True, help="Queries for each text."
)
@click.option("--provider", "providers", multiple=True, metavar="NAME", help="Where to search; may be repeated.")
@click.option(
    "--top", type=click.IntRange(1, 500), default=50, show_default=True, help="Candidates per query and provider."
)
@click.option(
    "--source",
    type=click.Path(path_type=Path, exists=True),
    help="File or folder that saved-page, url-list and local-folder read.",
)
@click.option("--source-licence", default="", help="Licence of what --source holds, where it does not say.")
@click.option(
    "--license",
    "licences",
    type=click.Choice(["open", "noncommercial", "any"]),
    default="open",
    show_default=True,
    help="Licences to fetch; with any, pictures that may not be handed on are marked do-not-redistribute.",
)
@click.option("--contact", help="Your e-mail address or page, sent with every request.  [default: REFSR_CONTACT]")
@click.option(
    "--host-limit",
    type=click.FloatRange(0.01, 1000),
    default=2.0,
    show_default=True,
    help="Requests a second per host.",
)
@click.option("--allow-private", is_flag=True, help="Also ask addresses of this computer and the local network.")
@click.option(
    "--endpoint", "endpoints", multiple=True, metavar="PROVIDER=URL", help="Ask another address than the usual."
)
@json_option
def search(work: Path, providers: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Collect queries and candidate pictures in WORK; a row is written for everything that was asked.

    Openly licensed pictures only, unless --license says otherwise. robots.txt and opt-outs are honoured. The same
    command goes on where it was stopped; nothing is fetched twice.

    \b
    Examples:
      refsr-bench curate search ~/wrsr --queries photos/ --provider openverse --provider wikimedia-commons --top 50
      refsr-bench curate search ~/wrsr --provider saved-page --source pages/ --license any
    """
    from refsr_bench.collectors.curation.asking import Asker
    from refsr_bench.collectors.curation.queries import draw_queries, read_captions, take_folder
    from refsr_bench.collectors.curation.rows import CANDIDATES, QUERIES, Candidate, Query, read_rows
    from refsr_bench.collectors.curation.search import Plan, gather_candidates
    from refsr_bench.collectors.curation.web import Manners, Web

    found = _find_providers(providers, options["source"])
    endpoints = dict(_split_endpoint(value) for value in options["endpoints"])
    contact = options["contact"] or os.environ.get("REFSR_CONTACT", "")
    drawn = options["draw"]
    if not contact and (drawn or any(p.needs == "text" or name != "local-folder" for name, p in found.items())):
        raise UsageError(
            "site owners must be able to reach who asks them", "give --contact you@example.org or set REFSR_CONTACT"
        )
    manners = Manners(contact, per_second=options["host_limit"], allow_private=options["allow_private"])
    web = Web(manners, note)
    captions = read_captions(options["captions"]) if options["captions"] else {}
    if options["queries"]:
        take_folder(work, options["queries"], captions, options["queries_licence"], note)
    if drawn:
        if not options["draw_text"]:
            raise UsageError("--draw needs to know what to search for", "add --draw-text WORDS")
        draw_queries(
            work,
            drawn,
            _find_providers((drawn,), None)[drawn],
            Asker(work / "responses", web),
            web,
            texts=options["draw_text"],
            count=options["draw_count"],
            licences=options["licences"],
            endpoint=endpoints.get(drawn),
            note=note,
        )
    queries = read_rows(work / QUERIES, Query, note)
    if not queries:
        raise UsageError(f"{work}: holds no queries yet", "add some with --queries FOLDER or --draw PROVIDER")
    plan = Plan(found, options["top"], options["licences"], endpoints, options["source"], options["source_licence"])
    with show_progress("fetch", 1) as advance:
        counts = gather_candidates(
            work, queries, plan, web, progress=lambda done, total: advance(done / max(total, 1)), note=note
        )
    if as_json:
        print_json({"work": str(work), "queries": len(queries), **counts._asdict()})
    else:
        click.echo(
            f"{len(queries)} queries; {counts.ok} candidates fetched, {counts.refused} refused, {counts.failed} failed"
            f"; each is a row of {work / CANDIDATES}"
        )
    if counts.passing:
        rows = [row for row in read_rows(work / CANDIDATES, Candidate) if not row.lasting and row.error]
        example = f", e.g. {rows[-1].error}" if rows else ""
        raise NetworkError(
            f"{counts.passing} candidate(s) failed for a passing reason{example}", "run the same command again"
        )


def _find_providers(names: tuple[str, ...], source: Path | None) -> dict[str, Provider]:
    from refsr_bench.lookup import find

    found = {name: find("providers", name) for name in names}
    for name, provider in found.items():
        if provider.needs == "source" and source is None:
            raise UsageError(f"{name} needs to know what to read", "add --source FILE or --source FOLDER")
    return found


def _split_endpoint(value: str) -> tuple[str, str]:
    name, equals, url = value.partition("=")
    if not equals:
        raise UsageError(f"--endpoint {value}: not of the form PROVIDER=URL")
    return name, url


@curate.command()
@work_argument
@click.option(
    "--min-side", type=click.IntRange(16, 10_000), default=256, show_default=True, help="Shortest accepted side, px."
)
@click.option("--matcher", metavar="NAME", help="Rank by this matcher's verified matches, not key points' (slow).")
@click.option("--jobs", type=click.IntRange(1, 256), help="Pools judged side by side.  [default: processors]")
@json_option
def clean(work: Path, min_side: int, matcher: str | None, jobs: int | None, as_json: bool) -> None:
    """Judge and rank the candidates in WORK: refuse what is unreadable, too small, doubled, or the query itself.

    A copy of the query (re-encoded, resized, cropped, mirrored, re-toned) would put the answer into the reference: it
    is refused with the evidence. The others are ranked by verified matches. Contact sheets go to WORK/sheets.

    \b
    Examples:
      refsr-bench curate clean ~/wrsr
      refsr-bench curate clean ~/wrsr --min-side 480 --json
    """
    from refsr_bench.collectors.curation.clean import Rules, clean_pools

    queries = _read_queries(work)
    with show_progress("clean", len(queries)) as advance:
        counts = clean_pools(
            work,
            queries,
            Rules(min_side, matcher or "sift"),
            jobs=jobs or (1 if matcher else os.cpu_count() or 1),
            progress=lambda done, total: advance(done),
            matcher=None if matcher is None else _verified_matches(matcher),
        )
    if as_json:
        print_json({"work": str(work), "queries": len(queries), "verdicts": dict(counts)})
        return
    click.echo(
        f"{len(queries)} queries: " + (", ".join(f"{n} {verdict}" for verdict, n in counts.items()) or "no candidates")
    )
    click.echo(f"contact sheets: {work / 'sheets'}")


def _verified_matches(name: str) -> Matcher:
    """A matcher of the zoo as the ranker wants it: number of its matches that fit one view geometry."""
    from refsr_bench.collectors.curation.pictures import shrink
    from refsr_bench.collectors.curation.ranking import count_consistent
    from refsr_bench.images import crop_to_multiple
    from refsr_bench.lookup import find

    built = find("matchers", name)()

    def count(query: Image, candidate: Image) -> int:
        first, second = (crop_to_multiple(shrink(image, _MATCHED_PX), 4) for image in (query, candidate))
        there, back = built.match(first, second), built.match(second, first)
        return count_consistent(there.nodes, there.matches, back.nodes, back.matches)

    return count


def _read_queries(work: Path) -> list[Query]:
    from refsr_bench.collectors.curation.rows import QUERIES, Query, read_rows

    queries = read_rows(work / QUERIES, Query, note)
    if not queries:
        raise UsageError(f"{work}: holds no queries", "start with: refsr-bench curate search WORK --queries FOLDER")
    return queries


@curate.command()
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
        click.echo(f"{page}: open it in a browser; then refsr-bench curate accept {work} --choices FILE")
        return
    token = load_token(shown.thumbnails / ".review-token")
    note(f"decisions go to {shown.journal}; Ctrl-C stops the server, nothing is lost")
    query = urlencode({"reviewer": reviewer}) if reviewer else ""
    serve(make_app(shown, token), token, port=port, announce=click.echo, query=query)


@curate.command()
@work_argument
@click.option(
    "--choices",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    multiple=True,
    help="Decisions made elsewhere: a CSV (query,reference,reviewer,reason,category) or the JSON of a static page.",
)
@click.option("--prefer", metavar="REVIEWER", help="Whose word holds where reviewers differ.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="File to write.  [default: WORK/selection.jsonl]"
)
@json_option
def accept(work: Path, choices: tuple[Path, ...], prefer: str | None, out: Path | None, as_json: bool) -> None:
    """Freeze what was decided in WORK as selection.jsonl: queries, references, provenance, hashes, no pixels.

    Queries on which reviewers differ are left out and named, unless --prefer says whose word holds.

    \b
    Examples:
      refsr-bench curate accept ~/wrsr
      refsr-bench curate accept ~/wrsr --choices decisions-bob.json --prefer ann
    """
    from refsr_bench.collectors.curation.decisions import read_decisions, record
    from refsr_bench.collectors.curation.rows import DECISIONS, SELECTION, write_rows
    from refsr_bench.collectors.curation.selection import accept as freeze
    from refsr_bench.collectors.curation.selection import read_choices

    pools = _read_pools(work)
    imported = [decision for path in choices for decision in read_choices(path, pools)]
    fresh = sum(record(work / DECISIONS, decision) for decision in imported)
    if imported:
        note(f"{fresh} of {len(imported)} imported decisions are new")
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
            note(f"{len(names)} {word}, left out: {', '.join(names[:10])}{' ...' if len(names) > 10 else ''}")
    click.echo(f"{target}: {chosen} queries with a reference, {len(accepted.rows) - chosen} without")


@curate.command()
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
    from refsr_bench.collectors.curation.selection import drop as take_down
    from refsr_bench.collectors.curation.selection import drop_from_selection, read_selection

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


@curate.command()
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

    pools = [read_pool(work, query.name) for query in _read_queries(work)]
    missing = sum(pool is None for pool in pools)
    if missing:
        raise UsageError(f"{work}: {missing} queries are not judged yet", f"refsr-bench curate clean {work}")
    return [pool for pool in pools if pool is not None]
