"""The machine's half of WR-SR curation: ``curate search`` and ``clean``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from refsr_bench.cli import choosing
from refsr_bench.cli.choosing import read_queries, work_argument
from refsr_bench.cli.output import json_option, note, print_json, show_progress
from refsr_bench.errors import NetworkError, UsageError

if TYPE_CHECKING:
    from refsr_bench.collectors.curation.clean import Matcher
    from refsr_bench.collectors.curation.providers import Provider
    from refsr_bench.schema import Image

_MATCHED_PX = 320
"""Longer side of the pictures that a matcher of the zoo compares, px: dense search grows with its fourth power."""


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
    from refsr_bench.collectors.curation.answers import Manners
    from refsr_bench.collectors.curation.asking import Asker
    from refsr_bench.collectors.curation.queries import draw_queries, read_captions, take_folder
    from refsr_bench.collectors.curation.rows import CANDIDATES, QUERIES, SEARCHES, Candidate, Query, read_rows
    from refsr_bench.collectors.curation.search import Plan, gather_candidates, searching
    from refsr_bench.collectors.curation.web import Web

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
    with searching(work):
        if options["queries"]:
            take_folder(work, options["queries"], captions, options["queries_licence"], note)
        elif captions:
            note("--captions is not used: it is for the pictures of --queries")
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
    if counts.unanswered and not counts.passing:
        raise NetworkError(
            f"{counts.unanswered} search(es) got no answer, see {work / SEARCHES}", "run the same command again"
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

    A copy of the query (re-encoded, resized, stretched, cropped, mirrored, turned, re-toned, inverted) would put the
    answer into the reference: it is refused with the evidence. The others are ranked by verified matches. Contact
    sheets go to WORK/sheets.

    \b
    Examples:
      refsr-bench curate clean ~/wrsr
      refsr-bench curate clean ~/wrsr --min-side 480 --json
    """
    from refsr_bench.collectors.curation.clean import Rules, clean_pools

    queries = read_queries(work)
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


for command in choosing.COMMANDS:
    curate.add_command(command)
