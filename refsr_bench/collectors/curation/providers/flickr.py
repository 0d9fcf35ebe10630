"""Flickr's photo search; needs an API key in FLICKR_API_KEY, which is written nowhere."""

from __future__ import annotations

import os
from collections.abc import Iterator

from refsr_bench.collectors.curation.providers import Ask, Found, Provider, ProviderFault, Question, items_of, text_of
from refsr_bench.errors import ManualStepNeeded

ENDPOINT = "https://www.flickr.com/services/rest/"
PAGE_SIZE = 100
_BY_NUMBER = {
    "0": "all rights reserved",
    "1": "by-nc-sa 2.0",
    "2": "by-nc 2.0",
    "3": "by-nc-nd 2.0",
    "4": "by 2.0",
    "5": "by-sa 2.0",
    "6": "by-nd 2.0",
    "9": "cc0",
    "10": "pdm",
}
_NUMBERS = {"open": "4,5,9,10", "noncommercial": "1,2,4,5,9,10"}
_SIZES = ("url_l", "url_o", "url_c", "url_z")
"""1024 px first: originals may be turned, and are larger than any reference needs."""


def search(question: Question, ask: Ask) -> Iterator[Found]:
    """Photographs for the question's words, the most relevant first."""
    key = os.environ.get("FLICKR_API_KEY")
    if not key:
        raise ManualStepNeeded(
            "the provider flickr needs an API key", "get one at flickr.com/services/api and set FLICKR_API_KEY"
        )
    params = {
        "method": "flickr.photos.search",
        "text": question.text,
        "sort": "relevance",
        "content_type": "1",
        "media": "photos",
        "extras": f"license,owner_name,o_dims,{','.join(_SIZES)}",
        "per_page": str(min(PAGE_SIZE, question.top)),
        "format": "json",
        "nojsoncallback": "1",
    }
    if question.licences in _NUMBERS:
        params["license"] = _NUMBERS[question.licences]
    left, page = question.top, 1
    while left > 0:
        answer = ask(question.endpoint or ENDPOINT, {**params, "page": str(page)}, secrets={"api_key": key})
        if not isinstance(answer, dict) or answer.get("stat") != "ok":
            raise ProviderFault(f"Flickr answers: {text_of(answer.get('message') if isinstance(answer, dict) else '')}")
        photos = items_of(answer, "photos", "photo")
        for photo in photos[:left]:
            url = next((photo[size] for size in _SIZES if photo.get(size)), None)
            number = str(photo.get("license", ""))
            if url is not None:
                yield Found(
                    url=text_of(url, 2000),
                    landing=f"https://www.flickr.com/photos/{text_of(photo.get('owner'))}/{text_of(photo.get('id'))}",
                    title=text_of(photo.get("title")),
                    creator=text_of(photo.get("ownername")),
                    licence=_BY_NUMBER.get(number, f"Flickr licence {number}"),
                )
        left -= len(photos)
        if not photos or page >= int(answer["photos"].get("pages", 0)):
            return
        page += 1


PROVIDER = Provider(search, needs="text")
