"""A search-result page that a person saved from the browser: links, pictures and the JSON inside it.

Nothing of the page is trusted: it is bounded in size, never run, and only absolute http(s) addresses are taken, so
neither ``<base>`` nor ``javascript:`` leads anywhere. A page says nothing of licences.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import warnings
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from refsr_bench.collectors.curation.providers import Ask, Found, Provider, ProviderFault, Question, text_of

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag

MAX_BYTES = 20_000_000
MAX_TAGS = 200_000
MAX_MEMORY = 1 << 30
WITHIN_S = 20.0
_PICTURE = re.compile(r"\.(?:jpe?g|png|webp|tiff?|bmp)(?:$|[?#])", re.IGNORECASE)
_IN_SCRIPT = re.compile(
    r"""https?://[^\s"'<>\\]{4,1900}?\.(?:jpe?g|png|webp)(?:\?[^\s"'<>\\]{0,500})?(?=["'\\\s])""", re.I
)
_PICTURE_KEYS = {"murl", "imgurl", "image", "contenturl", "ou", "original", "url"}
_PAGE_KEYS = {"purl", "imgrefurl", "ru", "landing", "hostpageurl"}


def search(question: Question, ask: Ask) -> Iterator[Found]:
    """Pictures of ``SOURCE/NAME.html`` if the source is a folder, else of the file itself, in the page's order."""
    source = question.source
    if source is None:
        raise ProviderFault("saved-page needs a file: --source")
    if source.is_dir():
        candidates = [source / f"{question.name}{suffix}" for suffix in (".html", ".htm")]
        source = next((path for path in candidates if path.is_file()), candidates[0])
    for place, found in enumerate(read_page(source)):
        if place == question.top:
            return
        yield found


def read_page(path: Path) -> Iterator[Found]:
    """Every picture that a saved page names, each address once.

    The page is parsed by a process of its own, with limits: Python's HTML parser needs quadratic time for some pages.
    """
    if not path.is_file():
        raise ProviderFault(f"{path}: there is no such file")
    if path.stat().st_size > MAX_BYTES:
        raise ProviderFault(f"{path}: {path.stat().st_size:,} bytes, the limit for a page is {MAX_BYTES:,}")
    command = [sys.executable, "-m", __name__, str(path.resolve())]
    try:
        done = subprocess.run(command, capture_output=True, timeout=WITHIN_S, check=True)
    except subprocess.TimeoutExpired:
        raise ProviderFault(f"{path}: not read within {WITHIN_S:.0f} s; it is no page of search results") from None
    except subprocess.CalledProcessError as error:
        last = error.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise ProviderFault(f"{path}: cannot be read ({text_of(last, 200)})") from None
    for line in done.stdout.splitlines():
        url, landing, title = json.loads(line)
        yield Found(url=url, landing=landing, title=title)


def parse_page(data: bytes) -> Iterator[Found]:
    """Every picture that a page's bytes name, each address once; what `read_page` does without its limits."""
    from bs4 import BeautifulSoup

    if data.count(b"<") > MAX_TAGS:
        raise ProviderFault(f"more than {MAX_TAGS:,} tags")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # XML, markup that looks like a file name, broken encodings: all are read
        page = BeautifulSoup(data, "html.parser")
    seen = set()
    for found in _pictures(page):
        if found.url is not None and _is_web(found.url) and found.url not in seen:
            seen.add(found.url)
            yield found


def _main() -> None:
    """Print what the page named on the command line holds, one JSON line a picture; in a gigabyte of memory."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    except (ImportError, ValueError, OSError):
        pass  # not every system has such limits; the time limit holds anyway
    for found in parse_page(Path(sys.argv[1]).read_bytes()):
        print(json.dumps([found.url, found.landing, found.title]))


def _is_web(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and len(url) <= 2000


def _pictures(page: BeautifulSoup) -> Iterator[Found]:
    for tag in page.find_all(True):
        if tag.name == "script":
            yield from _in_script(tag)
            continue
        yield from _in_attributes(tag)


def _in_attributes(tag: Tag) -> Iterator[Found]:
    attributes = {str(key).lower(): str(value) for key, value in tag.attrs.items()}
    title = text_of(attributes.get("alt") or attributes.get("title"))
    for value in attributes.values():
        if value.lstrip().startswith("{"):
            yield from _in_json(value)
    if tag.name == "a":
        href = attributes.get("href", "")
        if "imgurl=" in href:
            fields = parse_qs(href.partition("?")[2])
            yield Found(url=fields.get("imgurl", [""])[0], landing=fields.get("imgrefurl", [None])[0], title=title)
        elif _PICTURE.search(href):
            yield Found(url=href, title=title or text_of(tag.get_text(" ", strip=True)[:300]))
    elif tag.name in {"img", "source"}:
        for name in ("data-iurl", "data-src", "src"):
            if name in attributes:
                yield Found(url=attributes[name].strip(), title=title)
        widest = attributes.get("srcset", "").split(",")[-1].split()
        if widest:
            yield Found(url=widest[0], title=title)
    elif tag.name == "meta" and attributes.get("property") == "og:image":
        yield Found(url=attributes.get("content", ""))


def _in_script(tag: Tag) -> Iterator[Found]:
    text = tag.string or ""
    if "json" in str(tag.get("type", "")):
        yield from _in_json(text)
        return
    decoded = re.sub(r"\\u00([0-7][0-9a-fA-F])", lambda m: chr(int(m[1], 16)), text).replace("\\/", "/")
    yield from (Found(url=match[0]) for match in _IN_SCRIPT.finditer(decoded))


def _in_json(text: str) -> Iterator[Found]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return
    waiting: deque[Any] = deque([value])
    while waiting:
        item = waiting.popleft()
        if isinstance(item, list):
            waiting.extendleft(reversed(item))
        elif isinstance(item, dict):
            fields = {str(key).lower(): v for key, v in item.items() if isinstance(v, str)}
            url = next((v for key, v in fields.items() if key in _PICTURE_KEYS and _PICTURE.search(v)), None)
            if url is not None:
                landing = next((v for key, v in fields.items() if key in _PAGE_KEYS), None)
                yield Found(url=url, landing=landing, title=text_of(fields.get("t") or fields.get("title")))
            waiting.extendleft(v for v in reversed(item.values()) if isinstance(v, dict | list))


PROVIDER = Provider(search, needs="source")

if __name__ == "__main__":
    _main()
