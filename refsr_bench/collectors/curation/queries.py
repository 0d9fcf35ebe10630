"""The query photographs of a curation: from a folder, or drawn from a provider as the paper drew from Flickr."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from refsr_bench.collectors.curation.answers import Fault, picture_suffix
from refsr_bench.collectors.curation.asking import Asker, describe, origin_of
from refsr_bench.collectors.curation.licences import Policy
from refsr_bench.collectors.curation.providers import Found, Provider, Question
from refsr_bench.collectors.curation.rows import (
    ATTEMPTS,
    QUERIES,
    Candidate,
    Origin,
    Query,
    append_row,
    now,
    open_journal,
    read_rows,
)
from refsr_bench.collectors.curation.web import Web
from refsr_bench.disk import atomic_write_bytes, sha256_bytes
from refsr_bench.errors import ImageError, UsageError, first_few
from refsr_bench.images import SUFFIXES, decode_image, read_bytes

MIN_SIDE_PX = 128
"""Shortest accepted side of a query: x4 must leave an LR picture with something in it."""

Note = Callable[[str], None]


def read_captions(path: Path) -> dict[str, str]:
    """Search words for queries: a CSV with the columns ``name`` and ``text`` (and ``tags``, which are added).

    ``name`` is a file name with or without its suffix. `UsageError` names what is missing.
    """
    rows = csv.DictReader(path.read_text("utf-8-sig").splitlines())
    if not {"name", "text"} <= set(rows.fieldnames or []):
        raise UsageError(f"{path}: the first line must name the columns name and text")
    return {
        Path(row["name"] or "").stem: " ".join(filter(None, [(row["text"] or "").strip(), row.get("tags") or ""]))
        for row in rows
    }


def words_of(file_name: str) -> str:
    """Search words in a file name; none in a number.

    >>> words_of("sacre_coeur-02928139.jpg"), words_of("100075.jpg")
    ('sacre coeur', '')
    """
    words = re.findall(r"[^\W\d_]{2,}", Path(file_name).stem)
    meaningless = {"img", "dsc", "dscn", "dscf", "pict", "image", "photo", "jpg", "pxl", "copy"}
    return " ".join(word for word in words if word.lower() not in meaningless)


def take_folder(work: Path, folder: Path, captions: Mapping[str, str], licence: str, note: Note) -> list[Query]:
    """Add every picture of a folder as a query; what is no picture or too small is passed over and named."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no such folder")
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file() and p.name[0] != ".")
    if not paths:
        raise UsageError(f"{folder}: holds no pictures", f"accepted suffixes: {' '.join(SUFFIXES)}")
    if strangers := sorted(captions.keys() - {path.stem for path in paths}):
        note(f"captions of no picture in {folder}: {', '.join(first_few(strangers, 10))}")
    known = {query.sha256 for query in read_rows(work / QUERIES, Query, note)}
    names = {query.name.casefold() for query in read_rows(work / QUERIES, Query)}
    with open_journal(work / QUERIES) as append:
        for path in paths:
            try:
                data = read_bytes(path)
                if sha256_bytes(data) in known:
                    continue
                text = captions.get(path.stem) or words_of(path.name)
                origin = describe("folder", Found(title=path.name), licence)
                query = _store(work, _free_name(path.stem, names), data, path.suffix.lower(), text, origin)
            except ImageError as error:
                note(f"passed over: {error.problem}")
                origin = describe("folder", Found(title=path.name), licence)
                append_row(work / ATTEMPTS, _attempt(origin, error=error.problem))
                continue
            append(query)
            known.add(query.sha256)
    return read_rows(work / QUERIES, Query)


def draw_queries(
    work: Path,
    provider_name: str,
    provider: Provider,
    asker: Asker,
    web: Web,
    *,
    texts: Iterable[str],
    count: int,
    licences: Policy,
    endpoint: str | None,
    note: Note,
) -> list[Query]:
    """Add up to ``count`` queries for each of ``texts`` from a provider, as the paper drew its second half."""
    rows = read_rows(work / QUERIES, Query, note)
    tried = {row.key for row in read_rows(work / ATTEMPTS, Candidate, note) if row.lasting}
    known, hashes = {row.origin.url for row in rows}, {row.sha256 for row in rows}
    names = {row.name.casefold() for row in rows}
    with open_journal(work / QUERIES) as append:
        for text in texts:
            taken = sum(row.text == text and row.origin.provider == provider_name for row in rows)
            for found in asker.find(provider_name, provider, Question("", text, 4 * count, licences, endpoint)):
                origin = origin_of(provider_name, found, licences)
                if taken >= count or origin is None or found.url is None or found.url in known | tried:
                    continue
                name = _free_name(words_of(found.title) or text, names)
                try:
                    answer = web.get_picture(found.url)
                    suffix = picture_suffix(answer.body, found.url)
                    if sha256_bytes(answer.body) in hashes:
                        raise Fault("the same picture is a query already")
                    query = _store(work, name, answer.body, suffix, text, origin)
                except (Fault, ImageError) as error:
                    note(f"not a query: {found.url}: {error}")
                    append_row(work / ATTEMPTS, _attempt(origin, error=error))
                    names.discard(name.casefold())
                    continue
                drawn = {"status": "ok", "robots": answer.robots, "http_status": answer.status, "sha256": query.sha256}
                append_row(work / ATTEMPTS, _attempt(origin).model_copy(update={**drawn, "bytes": query.bytes}))
                append(query)
                known.add(found.url)
                hashes.add(query.sha256)
                taken += 1
            if taken < count:
                note(f"{provider_name} gave {taken} of {count} queries for {text!r}")
    return read_rows(work / QUERIES, Query)


def _attempt(origin: Origin, error: Exception | str | None = None) -> Candidate:
    """The row of a picture that was looked at as a query."""
    fault = error if isinstance(error, Fault) else None
    return Candidate(
        query="query",
        place=1,
        origin=origin,
        status="refused" if fault is not None and fault.refused else "failed",
        lasting=fault is None or fault.lasting,
        robots=fault.robots if fault is not None else "not asked",
        http_status=fault.status if fault is not None else None,
        error=None if error is None else str(error)[:500],
        time=now(),
    )


def _free_name(wanted: str, names: set[str]) -> str:
    base = re.sub(r"[^\w.-]+", "-", wanted).strip("-.")[:60] or "query"
    name, number = base, 2
    while name.casefold() in names:
        name, number = f"{base}-{number}", number + 1
    names.add(name.casefold())
    return name


def _store(work: Path, name: str, data: bytes, suffix: str, text: str, origin: Origin) -> Query:
    height, width = decode_image(data, name + suffix).pixels.shape[:2]
    if min(height, width) < MIN_SIDE_PX:
        raise ImageError(f"{origin.title or origin.url}: {width}x{height} px, a query needs {MIN_SIDE_PX} px a side")
    file = f"queries/{name}{suffix}"
    atomic_write_bytes(work / file, data)
    return Query(
        name=name, file=file, sha256=sha256_bytes(data), bytes=len(data), height=height, width=width, text=text,
        origin=origin, time=now(),
    )  # fmt: skip
