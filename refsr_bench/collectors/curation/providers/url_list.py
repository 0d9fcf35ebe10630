"""Addresses from a file: one a line, or a CSV with the columns url, query, title, creator, licence, landing."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from refsr_bench.collectors.curation.providers import Ask, Found, Provider, ProviderFault, Question, text_of

MAX_BYTES = 20_000_000


def search(question: Question, ask: Ask) -> Iterator[Found]:
    """Addresses for a query: of ``SOURCE/NAME.txt`` or ``.csv`` if the source is a folder, else of the file itself.

    A CSV's row with a ``query`` belongs to that query only; one without belongs to all.
    """
    source = question.source
    if source is None:
        raise ProviderFault("url-list needs a file: --source")
    if source.is_dir():
        candidates = [source / f"{question.name}{suffix}" for suffix in (".csv", ".txt")]
        source = next((path for path in candidates if path.is_file()), candidates[-1])
    if not source.is_file():
        raise ProviderFault(f"{source}: there is no such file")
    if source.stat().st_size > MAX_BYTES:
        raise ProviderFault(f"{source}: more than {MAX_BYTES:,} bytes")
    lines = source.read_text("utf-8-sig", "replace").splitlines()
    if source.suffix.lower() == ".csv":
        rows = csv.DictReader(lines)
        if "url" not in (rows.fieldnames or []):
            raise ProviderFault(f"{source}: the first line names no column url")
        entries = (row for row in rows if (row.get("query") or question.name) == question.name)
        found_rows = (
            Found(
                url=text_of(row.get("url"), 2000),
                landing=text_of(row.get("landing"), 2000) or None,
                title=text_of(row.get("title")),
                creator=text_of(row.get("creator")),
                licence=text_of(row.get("licence") or row.get("license")),
            )
            for row in entries
        )
    else:
        found_rows = (Found(url=line.strip()) for line in lines if line.strip() and not line.startswith("#"))
    for place, found in enumerate(found_rows):
        if place == question.top:
            return
        yield found


PROVIDER = Provider(search, needs="source")
