"""Candidates for every query: ask the providers, fetch what they name, and write a row for each, whatever happens.

Rows are written as pictures come in, so a killed search costs no finished picture. The next run asks again only for
what failed for a passing reason. A picture that several queries name is fetched once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import filelock

from refsr_bench.collectors.curation.answers import Fault, picture_suffix
from refsr_bench.collectors.curation.asking import Asker, describe
from refsr_bench.collectors.curation.licences import Policy, is_allowed
from refsr_bench.collectors.curation.providers import Found, Provider, ProviderFault, Question
from refsr_bench.collectors.curation.rows import (
    CANDIDATES,
    SEARCHES,
    TAKEDOWNS,
    Candidate,
    Query,
    Search,
    Takedown,
    now,
    open_journal,
    read_rows,
)
from refsr_bench.collectors.curation.web import Web
from refsr_bench.disk import atomic_write_bytes, find_leftovers, sha256_bytes, sha256_file
from refsr_bench.errors import ImageError, UsageError
from refsr_bench.images import read_bytes

THREADS = 32
"""Most of them wait: for their host's turn, or for an answer."""

Progress = Callable[[int, int], None]


class Plan(NamedTuple):
    """What is asked of whom."""

    providers: Mapping[str, Provider]
    top: int = 50
    licences: Policy = "open"
    endpoints: Mapping[str, str] = {}
    source: Path | None = None
    source_licence: str = ""


class Counts(NamedTuple):
    """How many candidates there are now, and how many a later run will ask for again; what got no answer."""

    ok: int
    refused: int
    failed: int
    passing: int
    unanswered: int
    """Questions to which a provider gave no answer in this run."""


@contextmanager
def searching(work: Path) -> Iterator[None]:
    """Hold the folder's lock, which dies with its owner; `UsageError` if another search holds it.

    What a killed search left half written is cleared.
    """
    work.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(work / ".search.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise UsageError(f"{work}: another search is running in this folder", "wait for it, or stop it") from None
    try:
        for folder in (work / "pictures").glob("*"):
            for leftover in find_leftovers(folder):  # nothing but a search writes there
                leftover.unlink()
        yield
    finally:
        lock.release()


def gather_candidates(
    work: Path,
    queries: Sequence[Query],
    plan: Plan,
    web: Web,
    *,
    progress: Progress,
    note: Callable[[str], None],
) -> Counts:
    """Search for every query and fetch what is found; goes on where an earlier call stopped.

    Belongs inside `searching`.
    """
    asker = Asker(work / "responses", web)
    latest = {(row.query, row.key): row for row in read_rows(work / CANDIDATES, Candidate, note)}
    taken_down = {row.target for row in read_rows(work / TAKEDOWNS, Takedown, note)}
    with open_journal(work / CANDIDATES) as append, open_journal(work / SEARCHES) as report:

        def write(row: Candidate) -> None:
            append(row)
            latest[row.query, row.key] = row

        wanted: list[Candidate] = []
        unanswered: list[str] = []
        for query in queries:
            for row, path in _named(query, plan, asker, report, note, unanswered):
                before = latest.get((row.query, row.key))
                if before is not None and (before.status == "ok" or before.lasting) and not _now_allowed(before, row):
                    continue
                if path is not None:
                    write(_take_local(work, row, path))
                elif row.origin.url in taken_down or row.origin.landing in taken_down:
                    write(_refuse(row, "taken down on request"))
                elif row.status == "refused":
                    write(row)
                else:
                    wanted.append(row)
        _fetch_all(work, wanted, latest, web, write, progress, note)
    rows = latest.values()
    return Counts(
        ok=sum(row.status == "ok" for row in rows),
        refused=sum(row.status == "refused" for row in rows),
        failed=sum(row.status == "failed" for row in rows),
        passing=sum(row.status != "ok" and not row.lasting for row in rows),
        unanswered=len(unanswered),
    )


def _now_allowed(before: Candidate, row: Candidate) -> bool:
    """Whether only the licence policy of an earlier run kept a candidate out, and this run's does not."""
    return before.status == "refused" and (before.error or "").startswith("licence") and row.status != "refused"


def _named(
    query: Query,
    plan: Plan,
    asker: Asker,
    report: Callable[[Search], None],
    note: Callable[[str], None],
    unanswered: list[str],
) -> Iterator[tuple[Candidate, Path | None]]:
    """What the providers name for a query, as rows to be; a provider that fails is a row of its own."""
    for name, provider in plan.providers.items():
        error: str | None = None
        found: list[Found] = []
        if provider.needs == "text" and not query.text:
            error = "no search words: give them with --captions, or in the file's name"
        else:
            question = Question(query.name, query.text, plan.top, plan.licences, plan.endpoints.get(name), plan.source)
            try:
                for item in asker.find(name, provider, question):
                    found.append(item)
            except (Fault, ProviderFault) as fault:
                error = str(fault)
            except (AttributeError, KeyError, TypeError, ValueError, IndexError) as fault:
                error = f"the answer has an unknown form ({type(fault).__name__}: {fault})"
            if error is not None:
                unanswered.append(name)
        report(Search(query=query.name, provider=name, text=query.text, found=len(found), time=now(), error=error))
        if error is not None:
            note(f"{query.name}: {name}: {error}")
        for place, item in enumerate(found[: plan.top], 1):
            yield _row(query, name, item, place, plan), item.path


def _row(query: Query, provider: str, found: Found, place: int, plan: Plan) -> Candidate:
    origin = describe(provider, found, plan.source_licence)
    digest = sha256_file(found.path) if found.path is not None and found.path.is_file() else None
    row = Candidate(
        query=query.name, place=place, origin=origin, status="failed", lasting=False, sha256=digest, time=now()
    )
    if not is_allowed(origin.licence, plan.licences):
        return _refuse(row, f"licence {origin.licence} is not one of the {plan.licences} ones")
    if origin.url is not None and origin.url == query.origin.url:
        return _refuse(row, "it is the query's own address")
    if origin.url is not None and urlsplit(origin.url).scheme not in {"http", "https"}:
        return _refuse(row, "only http and https addresses are asked")
    if found.path is None and not origin.url:
        return _refuse(row, "the provider gives no address")
    return row


def _refuse(row: Candidate, reason: str) -> Candidate:
    return row.model_copy(update={"status": "refused", "lasting": True, "error": reason})


def _take_local(work: Path, row: Candidate, path: Path) -> Candidate:
    if row.status == "refused":
        return row
    try:
        return _keep(work, row, read_bytes(path), path.name)
    except (ImageError, Fault) as error:
        return row.model_copy(update={"error": str(error), "lasting": True})


def _keep(work: Path, row: Candidate, body: bytes, name: str) -> Candidate:
    """Store a body under its hash, and complete the row."""
    suffix = picture_suffix(body, name)
    digest = sha256_bytes(body)
    file = f"pictures/{digest[:2]}/{digest}{suffix}"
    if not (work / file).is_file():
        atomic_write_bytes(work / file, body)
    changes = {"status": "ok", "lasting": True, "sha256": digest, "bytes": len(body), "file": file, "time": now()}
    return row.model_copy(update=changes)


def _fetch_all(
    work: Path,
    wanted: Sequence[Candidate],
    latest: Mapping[tuple[str, str], Candidate],
    web: Web,
    write: Callable[[Candidate], None],
    progress: Progress,
    note: Callable[[str], None],
) -> None:
    by_url: dict[str, list[Candidate]] = defaultdict(list)
    for row in wanted:
        by_url[row.key].append(row)
    there = {row.key: row for row in latest.values() if row.status == "ok"}
    done = 0
    for url in [url for url in by_url if url in there]:
        for row in by_url.pop(url):
            write(_like(there[url], row))
            done += 1
    with ThreadPoolExecutor(THREADS) as pool:
        running: dict[Future[Candidate], str] = {}
        waiting = _spread(by_url)
        try:
            for address in waiting:
                running[pool.submit(_fetch, work, by_url[address][0], web)] = address
                if len(running) >= 4 * THREADS:
                    done += _collect(running, by_url, write)
                    progress(done, len(wanted))
            while running:
                done += _collect(running, by_url, write)
                progress(done, len(wanted))
        except BaseException:
            web.stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _collect(
    running: dict[Future[Candidate], str], by_url: Mapping[str, list[Candidate]], write: Callable[[Candidate], None]
) -> int:
    """Write the rows of what has come in; how many."""
    written = 0
    for future in wait(running, return_when=FIRST_COMPLETED).done:
        fetched = future.result()
        for row in by_url[running.pop(future)]:
            write(_like(fetched, row))
            written += 1
    return written


def _like(fetched: Candidate, row: Candidate) -> Candidate:
    """The outcome of one fetch, for each query that named the same address."""
    return fetched.model_copy(update={"query": row.query, "place": row.place, "origin": row.origin})


def _spread(urls: Iterable[str]) -> Iterator[str]:
    """The addresses, taking hosts in turn, so that one slow host does not hold all threads."""
    by_host: dict[str, list[str]] = defaultdict(list)
    for url in urls:
        by_host[urlsplit(url).netloc].append(url)
    queues = [iter(group) for group in by_host.values()]
    while queues:
        for queue in list(queues):
            following = next(queue, None)
            if following is None:
                queues.remove(queue)
            else:
                yield following


def _fetch(work: Path, row: Candidate, web: Web) -> Candidate:
    """One picture: its row, completed or with the reason why not."""
    try:
        answer = web.get_picture(row.key)
        kept = _keep(work, row, answer.body, row.key)
        return kept.model_copy(update={"robots": answer.robots, "http_status": answer.status})
    except Fault as fault:
        return row.model_copy(
            update={
                "status": "refused" if fault.refused else "failed",
                "lasting": fault.lasting,
                "robots": fault.robots,
                "http_status": fault.status,
                "error": str(fault)[:500],
                "time": now(),
            }
        )
