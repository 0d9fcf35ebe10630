"""Wikimedia Commons: its search, with licence and author of every file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from refsr_bench.collectors.curation.providers import Ask, Found, Provider, ProviderFault, Question, text_of

ENDPOINT = "https://commons.wikimedia.org/w/api.php"
PAGE_SIZE = 50
LONGEST_SIDE_PX = 2048
"""Larger originals are asked for at this width: Commons serves scaled copies, and originals may have 100 MB."""


def search(question: Question, ask: Ask) -> Iterator[Found]:
    """Photographs for the question's words, in the order of the search."""
    params = {
        "action": "query",
        "generator": "search",
        "gsrsearch": f"{question.text} filetype:bitmap",
        "gsrnamespace": "6",
        "gsrlimit": str(min(PAGE_SIZE, question.top)),
        "prop": "imageinfo",
        "iiprop": "url|size|mime|sha1|extmetadata",
        "iiurlwidth": str(LONGEST_SIDE_PX),
        "format": "json",
        "formatversion": "2",
        "maxlag": "5",
    }
    more: dict[str, str] = {}
    left = question.top
    while left > 0:
        answer = ask(question.endpoint or ENDPOINT, {**params, **more})
        if isinstance(answer, dict) and "error" in answer:
            raise ProviderFault(f"Commons answers: {text_of(answer['error'].get('info', answer['error']))}")
        pages = answer.get("query", {}).get("pages", []) if isinstance(answer, dict) else []
        pages = [page for page in pages if isinstance(page, dict)]
        for page in sorted(pages, key=lambda page: int(page.get("index", 0)))[:left]:
            if (found := _read(page)) is not None:
                yield found
        left -= len(pages)
        more = {key: str(value) for key, value in (answer.get("continue") or {}).items()}
        if not pages or not more:
            return


def _read(page: dict[str, Any]) -> Found | None:
    infos = page.get("imageinfo") or [{}]
    info = infos[0]
    meta = info.get("extmetadata") or {}

    def value(key: str) -> str:
        entry = meta.get(key)
        return text_of(entry.get("value") if isinstance(entry, dict) else entry)

    large = max(int(info.get("width") or 0), int(info.get("height") or 0)) > LONGEST_SIDE_PX
    plain = info.get("mime") in {"image/jpeg", "image/png"}
    url = info.get("thumburl") if (large or not plain) and info.get("thumburl") else info.get("url")
    if not url:
        return None
    return Found(
        url=text_of(url, 2000),
        landing=text_of(info.get("descriptionurl"), 2000) or None,
        title=text_of(str(page.get("title", "")).removeprefix("File:")),
        creator=value("Artist"),
        licence=value("LicenseShortName") or value("UsageTerms"),
        licence_url=value("LicenseUrl"),
    )


PROVIDER = Provider(search, needs="text")
