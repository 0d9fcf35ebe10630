"""Manners on the network: who we are, what a site allows, how fast, how much.

* An honest User-Agent with a contact; robots.txt of every host a picture comes from (also after a redirect); the
  opt-outs of ``X-Robots-Tag``. A robots.txt that answers 5xx or nothing forbids, one that is missing allows (RFC 9309).
  Documented APIs are made for programs: they are asked under their own limits, without robots.txt.
* One limit per host that holds over all threads; ``Retry-After`` stops the whole host.
* Size, time and type limits. Addresses are judged by `refsr_bench.collectors.http`.
* A key goes into the request and nowhere else: messages, rows and cached answers hold ``***`` in its place.
"""

from __future__ import annotations

import email.utils
import json
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlencode, urlsplit

from refsr_bench import __version__
from refsr_bench.collectors.http import ConnectionFailed, Offline, Refused, Timeouts, http_get, read_body

if TYPE_CHECKING:
    from protego import Protego
    from requests import Response

AGENT = "refsr-bench"
OPT_OUTS = frozenset({"noai", "noimageai", "noindex", "noimageindex", "none"})
MAX_ROBOTS_BYTES = 512_000
MAX_ANSWER_BYTES = 20_000_000
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})

_MAGIC = {
    ".jpg": (b"\xff\xd8\xff",),
    ".png": (b"\x89PNG\r\n\x1a\n",),
    ".tif": (b"II*\0", b"MM\0*"),
    ".bmp": (b"BM",),
}
_OTHER = {
    b"GIF8": "a GIF",
    b"%!PS": "PostScript",
    b"%PDF": "a PDF",
    b"<svg": "an SVG drawing",
    b"<?xml": "XML or an SVG drawing",
    b"<!DOCTYPE": "a web page",
    b"<!doctype": "a web page",
    b"<html": "a web page",
    b"SIMPLE  =": "FITS",
    b"\0\0\0\x0cjP": "JPEG 2000",
}
_SAME_SUFFIX = {".jpeg": ".jpg", ".tiff": ".tif"}


class Manners(NamedTuple):
    """Limits of one run."""

    contact: str
    """An e-mail address or page where site owners reach the person who runs this."""
    per_second: float = 2.0
    """Requests a second to one host."""
    max_bytes: int = 50_000_000
    within_s: float = 120.0
    attempts: int = 4
    max_wait_s: float = 300.0
    """Longest wait a server may ask for before the picture is left for a later run."""
    backoff_s: float = 1.0
    timeouts: Timeouts = Timeouts(15.0, 30.0)
    allow_private: bool = False


class Answer(NamedTuple):
    """A body that was taken, and how."""

    body: bytes
    status: int
    robots: str


class Fault(Exception):
    """Why there is no body, in words for the row; ``refused``: our choice; ``lasting``: asking again is vain."""

    def __init__(self, reason: str, *, refused: bool = False, lasting: bool = True, status: int | None = None) -> None:
        super().__init__(reason)
        self.refused = refused
        self.lasting = lasting
        self.status = status
        self.robots = "not asked"


class _Asked(Exception):
    """The server asks to wait."""

    def __init__(self, reason: str, status: int | None, wait_s: float | None) -> None:
        super().__init__(reason)
        self.status = status
        self.wait_s = wait_s


class Web:
    """What one run knows of the hosts it asks: their robots.txt and when each may be asked again."""

    def __init__(self, manners: Manners, note: Callable[[str], None] = lambda text: None) -> None:
        self.manners = manners
        self.agent = f"{AGENT}/{__version__} (research dataset builder; contact: {manners.contact})"
        self._note = note
        self._lock = threading.Lock()
        self._free_at: dict[str, float] = defaultdict(float)
        self._stopped_until: dict[str, float] = defaultdict(float)
        self._interval: dict[str, float] = {}
        self._robots: dict[str, Protego | str | None] = {}
        self._robots_locks: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End every wait of every thread with a `Fault`: the run was interrupted."""
        self._stopped.set()

    def _sleep(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            raise Fault("the run was interrupted", lasting=False)

    # --- asking ----------------------------------------------------------------------------------------------------

    def get_picture(self, url: str) -> Answer:
        """A picture's bytes, if its host and its headers allow it; `Fault` says why not."""
        verdict = ["not asked"]

        def before(step: str) -> None:
            verdict[0] = self._ask_robots(step)
            if verdict[0] != "allowed":
                lasting = verdict[0] == "disallowed"
                raise Fault(f"robots.txt of {_host(step)}: {verdict[0]}", refused=True, lasting=lasting)

        try:
            body, status = self._get(
                url, {"Accept": "image/jpeg, image/png, image/tiff, image/bmp"}, before, _take_picture
            )
        except Fault as fault:
            fault.robots = verdict[0]
            raise
        return Answer(body, status, verdict[0])

    def get_json(
        self, url: str, params: Mapping[str, str], secrets: Mapping[str, str], headers: Mapping[str, str]
    ) -> Any:
        """What a documented API answers; ``secrets`` are more parameters, which appear in no message."""
        if secrets or headers:
            logging.getLogger("urllib3").setLevel(logging.INFO)  # its debug lines would show the address with the key
        address = f"{url}?{urlencode({**params, **secrets})}"
        hidden = [*secrets.values(), *headers.values()]
        try:
            body, _ = self._get(address, {"Accept": "application/json", **headers}, lambda step: None, _take_answer)
            return json.loads(redact(body.decode("utf-8", "replace"), hidden))
        except Fault as fault:
            raise Fault(redact(str(fault), hidden), lasting=fault.lasting, status=fault.status) from None
        except ValueError:
            raise Fault(f"{url}: the answer is not JSON", lasting=False) from None

    def _get(
        self,
        url: str,
        headers: Mapping[str, str],
        before: Callable[[str], None],
        take: Callable[[Response, Manners], bytes],
    ) -> tuple[bytes, int]:
        """One body, trying again after passing faults; every request waits for its host's turn."""

        def step(address: str) -> None:
            before(address)
            self._wait_for_turn(_host(address))

        for attempt in range(1, self.manners.attempts + 1):
            try:
                with http_get(
                    url,
                    {"User-Agent": self.agent, **headers},
                    timeouts=self.manners.timeouts,
                    allow_private=self.manners.allow_private,
                    before=step,
                ) as response:
                    if response.status_code in _TRANSIENT:
                        wait_s = retry_after_s(response.headers.get("Retry-After"))
                        raise _Asked(f"the server answers {response.status_code}", response.status_code, wait_s)
                    if response.status_code != 200:
                        raise Fault(f"the server answers {response.status_code}", status=response.status_code)
                    return take(response, self.manners), 200
            except Offline as error:
                raise Fault(error.problem, lasting=False, refused=True) from None
            except Refused as error:
                raise Fault(error.problem, refused=True) from None
            except (ConnectionFailed, _Asked) as error:
                self._hold(url, error, attempt)
        raise AssertionError("unreachable")

    def _hold(self, url: str, error: ConnectionFailed | _Asked, attempt: int) -> None:
        """Wait before the next try, the whole host if its server asked for it; `Fault` if there is none."""
        status = error.status if isinstance(error, _Asked) else None
        asked_s = error.wait_s if isinstance(error, _Asked) else None
        reason = error.problem if isinstance(error, ConnectionFailed) else str(error)
        if attempt == self.manners.attempts:
            raise Fault(reason, lasting=False, status=status) from None
        if asked_s is not None and asked_s > self.manners.max_wait_s:
            raise Fault(f"{reason} and asks to wait {asked_s:,.0f} s", lasting=False, status=status) from None
        wait_s = self.manners.backoff_s * 2 ** (attempt - 1) if asked_s is None else asked_s
        if status in (429, 503) and asked_s is not None:
            self._stop_host(_host(url), wait_s)
        else:
            self._sleep(wait_s)

    # --- pace ------------------------------------------------------------------------------------------------------

    def _wait_for_turn(self, host: str) -> None:
        """Return when ``host`` may be asked; turns are given out in order, over all threads."""
        with self._lock:
            interval = self._interval.get(host, 1.0 / self.manners.per_second)
            turn = max(time.monotonic(), self._free_at[host], self._stopped_until[host])
            self._free_at[host] = turn + interval
        while (left := max(turn, self._stopped_until[host]) - time.monotonic()) > 0:
            self._sleep(left)
            if self._stopped_until[host] > turn:  # the host was stopped meanwhile: queue again behind the stop
                self._wait_for_turn(host)
                return

    def _stop_host(self, host: str, wait_s: float) -> None:
        until = time.monotonic() + wait_s
        with self._lock:
            if until > self._stopped_until[host] + 0.5:
                self._note(f"{host} asks to wait {wait_s:,.0f} s")
            self._stopped_until[host] = max(self._stopped_until[host], until)

    # --- robots.txt ------------------------------------------------------------------------------------------------

    def _ask_robots(self, url: str) -> str:
        """ "allowed", "disallowed", or why robots.txt could not be read; each host is asked once a run."""
        parts = urlsplit(url)
        place = f"{parts.scheme}://{parts.netloc}"
        with self._robots_locks[place]:
            if place not in self._robots:
                self._robots[place] = self._fetch_robots(place)
                self._heed_crawl_delay(place)
        rules = self._robots[place]
        if rules is None:
            return "allowed"
        if isinstance(rules, str):
            return rules
        return "allowed" if rules.can_fetch(url, AGENT) else "disallowed"

    def _fetch_robots(self, place: str) -> Protego | str | None:
        from protego import Protego

        try:
            with http_get(
                f"{place}/robots.txt",
                {"User-Agent": self.agent},
                timeouts=self.manners.timeouts,
                allow_private=self.manners.allow_private,
                before=lambda step: self._wait_for_turn(_host(step)),
            ) as response:
                if response.status_code == 429 or response.status_code >= 500:
                    return f"cannot be read (the server answers {response.status_code})"
                if response.status_code != 200:
                    return None
                return Protego.parse(read_body(response, MAX_ROBOTS_BYTES, 30.0).decode("utf-8", "replace"))
        except ConnectionFailed as error:
            return f"cannot be read ({error.problem})"
        except Refused as error:
            raise Fault(error.problem, refused=True) from None

    def _heed_crawl_delay(self, place: str) -> None:
        rules = self._robots[place]
        if rules is not None and not isinstance(rules, str) and (delay := rules.crawl_delay(AGENT)):
            self._interval[_host(place)] = max(min(float(delay), 60.0), 1.0 / self.manners.per_second)


def _host(url: str) -> str:
    return urlsplit(url).netloc.lower()


def redact(text: str, secrets: list[str]) -> str:
    """``text`` with every secret, also as it stands in an address, replaced by ``***``."""
    for secret in secrets:
        for form in (secret, urlencode({"": secret})[1:]):
            text = text.replace(form, "***") if form else text
    return text


def retry_after_s(value: str | None) -> float | None:
    """Seconds that a ``Retry-After`` header asks to wait, given as seconds or as a date; None if it says nothing.

    >>> retry_after_s("7"), retry_after_s("soon"), retry_after_s("Mon, 01 Jan 2001 00:00:00 GMT")
    (7.0, None, 0.0)
    """
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def opts_out(header: str | None) -> str | None:
    """The directive of an ``X-Robots-Tag`` header that keeps us from using a picture, None if none does.

    >>> opts_out("noarchive, noai"), opts_out("otherbot: noindex"), opts_out("refsr-bench: noindex")
    ('noai', None, 'noindex')
    """
    meant = True
    for part in (header or "").lower().split(","):
        agent, colon, directive = part.partition(":")
        if colon and agent.strip() not in {"unavailable_after", "max-image-preview", "max-snippet"}:
            meant = agent.strip() in {AGENT, "*"}
        else:
            directive = part
        if meant and directive.strip() in OPT_OUTS:
            return directive.strip()
    return None


def _take_answer(response: Response, manners: Manners) -> bytes:
    return read_body(response, MAX_ANSWER_BYTES, manners.within_s)


def _take_picture(response: Response, manners: Manners) -> bytes:
    if (directive := opts_out(response.headers.get("X-Robots-Tag"))) is not None:
        raise Fault(f"the server opts out: X-Robots-Tag {directive}", refused=True, status=200)
    declared = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if declared and not declared.startswith("image/") and declared != "application/octet-stream":
        raise Fault(f"the server sends {declared[:60]}, not a picture", status=200)
    length = response.headers.get("Content-Length", "")
    if length.isdigit() and int(length) > manners.max_bytes:
        raise Fault(f"announces {int(length):,} bytes, the limit is {manners.max_bytes:,}", refused=True, status=200)
    body = read_body(response, manners.max_bytes, manners.within_s)
    if length.isdigit() and "Content-Encoding" not in response.headers and len(body) != int(length):
        raise _Asked(f"the body ends after {len(body):,} of {int(length):,} bytes", 200, None)
    return body


def picture_suffix(body: bytes, url: str = "") -> str:
    """The suffix that a picture's content asks for; `Fault` for anything else, or if the address names another kind.

    >>> picture_suffix(b"\\xff\\xd8\\xff\\xe0", "https://a.example/x.jpeg?size=l")
    '.jpg'
    """
    if not body:
        raise Fault("the body is empty")
    suffix = next((known for known, magics in _MAGIC.items() if body.startswith(magics)), None)
    if suffix is None and body[:4] == b"RIFF" and body[8:12] == b"WEBP":
        suffix = ".webp"
    if suffix is None:
        kind = next((what for magic, what in _OTHER.items() if body.lstrip()[:16].startswith(magic)), None)
        if body[4:8] == b"ftyp":
            kind = "AVIF or HEIC"
        raise Fault(f"not a picture of an accepted format{f' but {kind}' if kind else ''}")
    named = PurePosixPath(unquote(urlsplit(url).path)).suffix.lower()
    named = _SAME_SUFFIX.get(named, named)
    if named in {*_MAGIC, ".webp"} and named != suffix:
        raise Fault(f"its content is {suffix[1:].upper()} but its address ends in {named}")
    return suffix
