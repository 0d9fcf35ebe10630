"""Openverse: openly licensed pictures of many collections; anonymous, or with a token in OPENVERSE_TOKEN."""

from __future__ import annotations

import os
from collections.abc import Iterator

from refsr_bench.collectors.curation.providers import Ask, Found, Provider, Question, items_of, text_of

ENDPOINT = "https://api.openverse.org/v1/images/"
PAGE_SIZE = 20
"""Most that anonymous callers may ask for at once."""
MAX_DEPTH = 240
_LICENCES = {"open": "cc0,pdm,by,by-sa", "noncommercial": "cc0,pdm,by,by-sa,by-nc,by-nc-sa"}


def search(question: Question, ask: Ask) -> Iterator[Found]:
    """Pictures for the question's words, in Openverse's order."""
    token = os.environ.get("OPENVERSE_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else None
    params = {"q": question.text, "page_size": str(PAGE_SIZE), "mature": "false"}
    if question.licences in _LICENCES:
        params["license"] = _LICENCES[question.licences]
    left = min(question.top, MAX_DEPTH)
    page = 1
    while left > 0:
        answer = ask(question.endpoint or ENDPOINT, {**params, "page": str(page)}, headers=headers)
        results = items_of(answer, "results")
        for item in results[:left]:
            yield Found(
                url=text_of(item.get("url"), 2000),
                landing=text_of(item.get("foreign_landing_url"), 2000) or None,
                title=text_of(item.get("title")),
                creator=text_of(item.get("creator")),
                licence=f"{text_of(item.get('license'))} {text_of(item.get('license_version'))}".strip(),
                licence_url=text_of(item.get("license_url"), 2000),
            )
        left -= len(results)
        pages = answer.get("page_count", 0)
        if not results or not isinstance(pages, int) or page >= pages:
            return
        page += 1


PROVIDER = Provider(search, needs="text")
