"""Where candidates come from: one file a provider, one line in `refsr_bench.lookup`, or an entry point of your own.

A provider is a `Provider`: its ``search`` is given a `Question` and a function that asks a JSON API (politely, from a
cache where it was asked before), and yields what it finds, best first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from refsr_bench.collectors.curation.licences import Policy


class Question(NamedTuple):
    """What one query asks of one provider."""

    name: str
    """The query's name: folders, pages and lists may hold something of its own for each query."""
    text: str
    """Search words, for providers that need them."""
    top: int
    licences: Policy
    endpoint: str | None = None
    """Address that replaces the provider's public one (a mirror, or a test)."""
    source: Path | None = None
    """File or folder of providers that read from disk."""


class Found(NamedTuple):
    """One picture that a provider names: by ``url``, or by ``path`` where it lies on this disk."""

    url: str | None = None
    path: Path | None = None
    landing: str | None = None
    title: str = ""
    creator: str = ""
    licence: str = ""
    """As the provider writes it."""
    licence_url: str = ""


class Ask(Protocol):
    """Asks a JSON API: address, parameters, and secret parameters or headers that are written nowhere."""

    def __call__(
        self,
        url: str,
        params: Mapping[str, str],
        *,
        secrets: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """The parsed answer."""


class Provider(NamedTuple):
    """One source of candidates."""

    search: Callable[[Question, Ask], Iterator[Found]]
    needs: Literal["text", "source"]
    """``text``: search words; ``source``: a file or folder given with ``--source``."""


class ProviderFault(Exception):
    """A provider cannot answer; the words become a row and the next query goes on."""


def text_of(value: object, limit: int = 500) -> str:
    """A provider's text as one plain line: no markup, no control characters, not endless.

    >>> text_of("<a href='x'>Ann &amp; Bo</a>\\x1b[31m")
    'Ann & Bo [31m'
    """
    import warnings

    from bs4 import BeautifulSoup

    text = str(value or "")[: 20 * limit]
    if "<" in text or "&" in text:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a caption that looks like a file name or XML is still a caption
            text = BeautifulSoup(text, "html.parser").get_text(" ")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:limit]


def items_of(answer: Any, *path: str) -> list[dict[str, Any]]:
    """The list of objects at ``path`` in an answer; `ProviderFault` if the answer has another shape."""
    for key in path:
        answer = answer.get(key) if isinstance(answer, dict) else None
    if not isinstance(answer, list):
        raise ProviderFault(f"the answer has no list at {'.'.join(path)}")
    return [item for item in answer if isinstance(item, dict)]
